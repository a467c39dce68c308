/* Looking at a mapping whose pages may go away: what a plain access would report as a SIGBUS, the guard notes. */
#ifndef LDS_IO_GUARD_H
#define LDS_IO_GUARD_H

#include <stdatomic.h>
#include <stddef.h>

/*
 * The signal is handled from the first open to the last close of the process; what has nothing to do with a guard goes
 * to whoever handled it before. Who begins to handle it in between has to pass on what is not theirs.
 */
void lds_guard_open(void);
void lds_guard_close(void);

/*
 * Between these two, the thread may read nbytes at data. Should one of their pages be gone, *is_lost becomes true, and
 * all of the pages that they lie on are zeros from then on, for other threads as well. A thread has one guard at a time.
 */
void lds_guard_begin(const void *data, size_t nbytes, atomic_bool *is_lost);
void lds_guard_end(void);

#endif
