/* The clock that never goes back, and waiting by it. */
#ifndef LDS_BASE_CLOCK_H
#define LDS_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

uint64_t lds_now_ns(void);

/* A condition whose waits end by this clock, and the time until which to wait. */
void lds_cond_init(pthread_cond_t *cond);
struct timespec lds_after_ms(uint64_t ms);

#endif
