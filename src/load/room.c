/*
 * Memory that is promised and not yet taken. Pages count for the system when they are first touched, so two loads
 * that begin together would both see the same memory as free.
 */
#include "src/load/room.h"

#include <pthread.h>
#include <stdio.h>

#include "src/base/machine.h"

static struct {
    pthread_mutex_t lock;
    lds_room *first;
} rooms = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void before_fork(void)
{
    pthread_mutex_lock(&rooms.lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&rooms.lock);
}

/* The parent's loads do not go on here. */
static void begin_child(void)
{
    rooms.first = NULL;
    pthread_mutex_unlock(&rooms.lock);
}

static void guard_forks(void)
{
    pthread_atfork(before_fork, after_fork, begin_child);
}

static uint64_t still_to_take(const lds_room *room)
{
    uint64_t done = atomic_load_explicit(room->done, memory_order_relaxed);
    if (done <= room->begin_done)
        return room->nbytes;
    if (done >= room->end_done)
        return 0;
    double left = (double)(room->end_done - done) / (double)(room->end_done - room->begin_done);
    return (uint64_t)((double)room->nbytes * left);
}

/*
 * The largest window that there would be room for, in MiB, or 0. It is a little less, since what is left is another
 * figure the next time.
 */
static uint64_t window_for(const lds_room *room, uint64_t left)
{
    uint64_t network = room->nbytes - room->window_nbytes, window = left > network ? left - network : 0;
    window = (window - window / 8) >> 20;
    return window << 20 < room->least_window_nbytes ? 0 : window;
}

/* With the lock. */
static lds_status check(const lds_room *room, lds_error *err)
{
    uint64_t promised = 0;
    for (const lds_room *r = rooms.first; r; r = r->next)
        promised += still_to_take(r);
    bool by_cgroup;
    uint64_t available = lds_memory_available_in("", &by_cgroup);
    uint64_t left = available > promised ? available - promised : 0;
    if (room->nbytes <= left)
        return LDS_OK;
    char advice[64] = "";
    uint64_t window = window_for(room, left);
    if (window)
        snprintf(advice, sizeof advice, ", enough with a window of %llu MiB", (unsigned long long)window);
    return lds_fail(err, LDS_ERR_MEMORY, "out of memory: needs %.2f GB, %s %.2f GB%s%s",
                    (double)room->nbytes / 1e9, by_cgroup ? "the control group allows" : "the system has",
                    (double)left / 1e9, promised ? " beside other loads" : "", advice);
}

lds_status lds_room_take(lds_room *room, lds_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, guard_forks);
    pthread_mutex_lock(&rooms.lock);
    lds_status status = check(room, err);
    if (!status) {
        room->next = rooms.first;
        rooms.first = room;
    }
    pthread_mutex_unlock(&rooms.lock);
    if (status)
        room->nbytes = 0;
    return status;
}

void lds_room_give(lds_room *room)
{
    if (!room->nbytes)
        return;
    pthread_mutex_lock(&rooms.lock);
    lds_room **at = &rooms.first;
    while (*at != room)
        at = &(*at)->next;
    *at = room->next;
    pthread_mutex_unlock(&rooms.lock);
    room->nbytes = 0;
}
