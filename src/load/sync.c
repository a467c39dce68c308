/*
 * Bringing a file to the disk without being at the disk's mercy.
 *
 * fsync(2) takes as long as the disk does, which for many gigabytes is minutes, and cannot be interrupted. So a
 * thread of its own is in it while the caller ticks. One whose caller has gone ends by itself: it has a descriptor
 * of its own, and whoever of the two is the last frees what they share.
 */
#include "src/load/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/memory.h"

enum { TICK_MS = 50 };

typedef struct syncing {
    pthread_mutex_t lock; /* of the rest */
    pthread_cond_t ended;
    int fd;
    int why; /* it failed, or 0 */
    bool is_done, is_left;
} syncing;

static void syncing_free(syncing *s)
{
    if (s->fd >= 0)
        close(s->fd);
    pthread_cond_destroy(&s->ended);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void *sync_main(void *arg)
{
    syncing *s = arg;
    int why = fsync(s->fd) ? errno : 0;
    pthread_mutex_lock(&s->lock);
    s->why = why;
    s->is_done = true;
    bool is_left = s->is_left;
    pthread_cond_signal(&s->ended);
    pthread_mutex_unlock(&s->lock);
    if (is_left)
        syncing_free(s);
    return NULL;
}

/* With no signals, which are the program's. NULL if the system gives no thread, descriptor or memory. */
static syncing *start(pthread_t *thread, int fd)
{
    syncing *s;
    sigset_t all, before;
    if (lds_calloc(&s, 1, sizeof *s, NULL))
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    lds_cond_init(&s->ended);
    s->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = s->fd >= 0 && !pthread_create(thread, NULL, sync_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok)
        return s;
    syncing_free(s);
    return NULL;
}

/* True if it was cancelled. Called and left with the lock. */
static bool wait_ticking(syncing *s, int (*tick)(void *ctx), void *tick_ctx)
{
    int stops = 0;
    struct timespec until = lds_after_ms(TICK_MS);
    while (!s->is_done && !stops) {
        if (pthread_cond_timedwait(&s->ended, &s->lock, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&s->lock);
        stops = tick(tick_ctx);
        until = lds_after_ms(TICK_MS);
        pthread_mutex_lock(&s->lock);
    }
    return stops;
}

static lds_status result_of(int why, lds_error *err)
{
    return why ? lds_fail_errno(err, LDS_ERR_IO, why, "cannot be written to") : LDS_OK;
}

lds_status lds_sync(int fd, int (*tick)(void *ctx), void *tick_ctx, lds_error *err)
{
    pthread_t thread;
    syncing *s = tick ? start(&thread, fd) : NULL;
    if (!s)
        return result_of(fsync(fd) ? errno : 0, err);
    pthread_mutex_lock(&s->lock);
    bool is_cancelled = wait_ticking(s, tick, tick_ctx);
    bool is_left = s->is_left = !s->is_done;
    int why = s->why;
    pthread_mutex_unlock(&s->lock);
    if (is_left) {
        pthread_detach(thread);
    } else {
        pthread_join(thread, NULL);
        syncing_free(s);
    }
    if (is_cancelled)
        return lds_fail_cancelled(err);
    return result_of(why, err);
}
