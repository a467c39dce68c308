/* Running threads, no more of them than the process should have. */
#ifndef LDS_BASE_THREADS_H
#define LDS_BASE_THREADS_H

#include <stdatomic.h>

#include "src/base/error.h"

typedef struct lds_team {
    /* One worker's work; worker tells it from those beside it. Should return soon after *stop has become true. */
    lds_status (*work)(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err);
    void *ctx;
    /*
     * Called about every 50 ms from the thread that runs the team, and once at the end; non-zero stops it. Not
     * called again once the team is stopped, by a tick or a failure.
     */
    int (*tick)(void *tick_ctx);
    void *tick_ctx;
    /*
     * Becomes true when another team needs a processor that this one has: a worker that finds it by
     * lds_team_gives_way() returns as if there were nothing left to do. NULL if it never does.
     */
    atomic_bool *give_way;
} lds_team;

/* True for one worker if one should return. Ask where that leaves nothing half-done. */
static inline bool lds_team_gives_way(atomic_bool *give_way)
{
    return atomic_load_explicit(give_way, memory_order_relaxed) && atomic_exchange(give_way, false);
}

/*
 * Run work on up to n_threads threads, n_tasks if that is less, and wait for all of them. The first failure sets
 * *stop for the others, and is the result. With a tick, the calling thread only ticks; without, it is a worker
 * itself. A tick that stopped the team makes the result LDS_ERR_CANCELLED.
 *
 * The teams of all threads of a process share its processors: together they have no more workers than the
 * largest of them asks for or lds_threads_available() says, whichever is more; one that finds none free waits for
 * others to give way, which they do so that each makes progress. So there may be fewer workers than asked for,
 * more later, and one may be called again: work must share itself out as it goes. A child that was forked
 * meanwhile begins with all of them.
 */
lds_status lds_team_run(const lds_team *team, uint64_t n_tasks, uint32_t n_threads, lds_error *err);

/*
 * The calling worker's thread cannot end soon, since the kernel first ends what it asked for: its team is not to wait
 * for that, but only for its work. In a thread that called lds_team_run() this does nothing.
 */
void lds_team_leave_behind(void);

#endif
