/* How many threads to use, and running them. */
#ifndef LDS_BASE_THREADS_H
#define LDS_BASE_THREADS_H

#include <stdatomic.h>

#include "src/base/error.h"

/*
 * The processors that this process may use: its affinity mask, cut by the cgroup's CPU quota and divided among
 * the ranks on this host that MPI, torchrun, Slurm or MindSpore announce in the environment. At least 1.
 */
uint32_t lds_threads_available(void);

typedef struct lds_team {
    /* One worker's work; worker is 0 to n - 1. Should return soon after *stop has become true. */
    lds_status (*work)(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err);
    void *ctx;
    /* Called about every 50 ms from the thread that runs the team, and once at the end; non-zero stops it. */
    int (*tick)(void *tick_ctx);
    void *tick_ctx;
} lds_team;

/*
 * Run work on n_threads threads and wait for all of them. The first failure sets *stop for the others, and is
 * the result. With a tick, the calling thread only ticks; without, it is worker 0 itself. If the system gives
 * fewer threads, those that there are do the work: so work must share it out as it goes. A tick that stopped
 * the team makes the result LDS_ERR_CANCELLED.
 */
lds_status lds_team_run(const lds_team *team, uint32_t n_threads, lds_error *err);

#endif
