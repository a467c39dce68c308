/* The clock that never goes back: see clock.h. */
#include "src/base/clock.h"

static const uint64_t second_ns = 1000000000u, ms_ns = 1000000u;

uint64_t lds_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * second_ns + (uint64_t)t.tv_nsec;
}

void lds_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

struct timespec lds_after_ms(uint64_t ms)
{
    uint64_t at = lds_now_ns() + ms * ms_ns;
    return (struct timespec){(time_t)(at / second_ns), (long)(at % second_ns)};
}
