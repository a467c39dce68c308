/*
 * Teams of threads, and the pool of processors that they share.
 *
 * What is pooled are seats, the right to run, and not threads: a thread is started when there is a seat for it,
 * which takes some 20 us, and joined at the latest at the end of its team. So nothing is left behind when no load
 * runs, and a library can be unloaded, or a process forked, at any such time; but for a thread whose reads have not
 * come back when its load was over (lds_team_leave_behind()).
 *
 * A seat that becomes free goes to the team with the fewest. A team without any asks the one that has the most
 * for one, or, if all have but one, the one that has had its for some time: with more teams than processors they
 * take turns. A team may sit on its seats and wait for a disk that does not answer. Seats are for what runs, so
 * one whose holders use no processor time for a second does not keep others from starting.
 *
 * All here, the fields of every run included, is guarded by one lock: what it guards changes only when a worker
 * begins or ends.
 */
#include "src/base/threads.h"

#include "src/base/clock.h"
#include "src/base/machine.h"
#include "src/base/memory.h"

enum { TICK_MS = 50 };

static const uint64_t slice_ns = 100 * 1000000u, stall_ns = 1000 * 1000000u;

typedef struct run run;

typedef struct member {
    run *run;
    pthread_t thread;
    uint32_t number;
    enum { UNUSED, WORKING, ENDED } state;
    bool is_left_behind;
} member;

struct run {
    const lds_team *team;
    run *next; /* the one that came later */
    atomic_bool stop;
    pthread_cond_t changed; /* what the calling thread waits for */
    pthread_t caller;
    member *members; /* one more than it wanted at first: one that has ended still has its place */
    uint32_t n_members;
    uint32_t n_wanted;
    uint32_t limit;   /* to the seats of all teams, when this one takes another */
    uint32_t n_seats; /* workers at work, or about to be */
    bool caller_is_seated;
    bool is_done;                 /* a worker found nothing left to do: the others finish what they have */
    bool is_asked;                /* to give way */
    uint64_t seated_ns;           /* since when it has had a seat */
    uint64_t looked_ns;           /* while it waits: when it last looked at the others */
    uint64_t checked_ns, used_ns; /* when it summed up the processor time that they had used, and the sum */
    uint64_t n_changes;           /* of the pool, at that time */
    lds_status status;            /* of the first failure */
    lds_error error;
};

static struct {
    pthread_mutex_t lock;
    run *runs; /* the first that came first */
    uint32_t n_seats;
    uint64_t n_changes; /* how often a seat has been given or taken */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void before_fork(void)
{
    pthread_mutex_lock(&pool.lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&pool.lock);
}

/* The threads of the parent's teams do not exist here. */
static void begin_child(void)
{
    pool.runs = NULL;
    pool.n_seats = 0;
    pthread_mutex_unlock(&pool.lock);
}

static void guard_forks(void)
{
    pthread_atfork(before_fork, after_fork, begin_child);
}

/* ------------------------------------------------------------------------------------------------------- */

/* The team that is to have a seat that is free, or NULL. */
static run *neediest(void)
{
    run *least = NULL;
    for (run *r = pool.runs; r; r = r->next)
        if (!r->is_done && r->n_seats < r->n_wanted && pool.n_seats < r->limit &&
            (!least || r->n_seats < least->n_seats))
            least = r;
    return least;
}

static void *member_main(void *arg);

/* Its work is done, its thread not yet gone. */
static void part_from(const member *m)
{
    if (m->is_left_behind)
        pthread_detach(m->thread);
    else
        pthread_join(m->thread, NULL);
}

static bool start_member(run *r)
{
    member *m = r->members;
    while (m->state == WORKING)
        m++;
    if (m->state == ENDED)
        part_from(m);
    *m = (member){.run = r, .number = (uint32_t)(m - r->members)};
    if (pthread_create(&m->thread, NULL, member_main, m))
        return false;
    m->state = WORKING;
    return true;
}

static void seat(run *r)
{
    bool needs_caller = !r->team->tick && !r->caller_is_seated;
    if (!needs_caller && !start_member(r)) {
        r->n_wanted = r->n_seats; /* the system gives no more */
        if (r->n_seats)
            return;
        r->n_wanted = 1;
        needs_caller = true;
    }
    if (needs_caller) {
        r->caller_is_seated = true;
        pthread_cond_signal(&r->changed);
    }
    if (!r->n_seats++)
        r->seated_ns = lds_now_ns();
    pool.n_seats++;
    pool.n_changes++;
}

static void seat_all(void)
{
    for (run *r; (r = neediest());)
        seat(r);
}

static void leave_queue(run *r)
{
    run **at = &pool.runs;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
}

static void join_queue(run *r)
{
    run **end = &pool.runs;
    while (*end)
        end = &(*end)->next;
    r->next = NULL;
    *end = r;
}

/* A worker has come back. True if it keeps its seat: it gave way, but nobody needs it more. */
static bool keeps_seat(run *r)
{
    bool gave_way = r->is_asked && !atomic_load(r->team->give_way);
    r->n_seats--;
    pool.n_seats--;
    pool.n_changes++;
    if (gave_way) {
        r->is_asked = false;
        leave_queue(r);
        join_queue(r);
        if (neediest() == r) {
            r->n_seats++;
            pool.n_seats++;
            r->seated_ns = lds_now_ns();
            return true;
        }
    } else {
        r->is_done = true;
    }
    return false;
}

static void give_seat_back(run *r)
{
    seat_all();
    pthread_cond_signal(&r->changed);
}

/* Work until there is no more to do, or somebody else should. Called and left with the lock. */
static void work(run *r, uint32_t number)
{
    do {
        pthread_mutex_unlock(&pool.lock);
        lds_error error = LDS_ERROR_INIT;
        lds_status status = r->team->work(r->team->ctx, number, &r->stop, &error);
        pthread_mutex_lock(&pool.lock);
        if (status && !r->status) {
            r->status = status;
            r->error = error;
            atomic_store(&r->stop, true);
        }
        r->is_done |= atomic_load(&r->stop);
    } while (keeps_seat(r));
}

static _Thread_local member *current; /* that this thread is, or NULL */

void lds_team_leave_behind(void)
{
    if (current)
        current->is_left_behind = true;
}

static void *member_main(void *arg)
{
    member *m = current = arg;
    pthread_mutex_lock(&pool.lock);
    work(m->run, m->number);
    give_seat_back(m->run); /* not to a thread in this one's place, which would have to wait for it to end */
    m->state = ENDED;
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------- */

/* Ask another team for a seat, unless as many have been asked as are waiting. */
static void ask_for_seat(void)
{
    uint64_t now = lds_now_ns();
    uint32_t n_waiting = 0, n_asked = 0;
    run *most = NULL;
    for (run *r = pool.runs; r; r = r->next) {
        n_waiting += !r->n_seats && !r->is_done;
        n_asked += r->is_asked && !r->is_done;
        bool can = r->team->give_way && !r->is_asked && !r->is_done &&
                   (r->n_seats > 1 || (r->n_seats && now - r->seated_ns > slice_ns));
        if (can && (!most || r->n_seats > most->n_seats ||
                    (r->n_seats == most->n_seats && r->seated_ns < most->seated_ns)))
            most = r;
    }
    if (!most || n_asked >= n_waiting)
        return;
    most->is_asked = true;
    atomic_store(most->team->give_way, true);
}

static uint64_t thread_ns(pthread_t thread)
{
    clockid_t clock;
    struct timespec t;
    if (pthread_getcpuclockid(thread, &clock) || clock_gettime(clock, &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The processor time that those who have seats have used. */
static uint64_t used_ns(void)
{
    uint64_t sum = 0;
    for (run *r = pool.runs; r; r = r->next) {
        if (r->caller_is_seated)
            sum += thread_ns(r->caller);
        for (uint32_t i = 0; i < r->n_members; i++)
            if (r->members[i].state == WORKING)
                sum += thread_ns(r->members[i].thread);
    }
    return sum;
}

/*
 * Let a team start beside those that have the seats and do not run. If this thread was not woken in time either,
 * all have been stopped, or the machine is busy: that says nothing.
 */
static void overtake_stalled(run *r)
{
    uint64_t now = lds_now_ns(), since = now - r->looked_ns;
    r->looked_ns = now;
    if (since > 3 * TICK_MS * UINT64_C(1000000))
        r->checked_ns = r->used_ns = 0;
    if (now - r->checked_ns < stall_ns)
        return;
    uint64_t used = used_ns(), before = r->used_ns;
    bool is_same = before && r->n_changes == pool.n_changes;
    bool is_stalled = is_same && used - before < (now - r->checked_ns) / 50;
    r->checked_ns = now;
    r->used_ns = used;
    r->n_changes = pool.n_changes;
    if (!is_stalled)
        return;
    uint32_t limit = r->limit;
    r->limit = pool.n_seats + 1;
    seat_all();
    r->limit = limit;
}

/*
 * Called and left with the lock, which it gives up meanwhile: the callback may load something itself. It has no say
 * any more once the team is stopped.
 */
static void tick_once(run *r)
{
    if (!r->team->tick || atomic_load(&r->stop))
        return;
    pthread_mutex_unlock(&pool.lock);
    int stops = r->team->tick(r->team->tick_ctx);
    pthread_mutex_lock(&pool.lock);
    if (!stops)
        return;
    if (!r->status)
        r->status = lds_fail_cancelled(&r->error);
    atomic_store(&r->stop, true);
    r->is_done = true;
}

/* Until the calling thread gets a seat, all is done, or the next tick is due. */
static void wait_a_tick(run *r)
{
    struct timespec until = lds_after_ms(TICK_MS);
    int timed_out = 0;
    while (!timed_out && !r->caller_is_seated && !(r->is_done && !r->n_seats)) {
        if (r->team->tick || !r->n_seats)
            timed_out = pthread_cond_timedwait(&r->changed, &pool.lock, &until);
        else
            pthread_cond_wait(&r->changed, &pool.lock);
    }
    if (timed_out && !r->n_seats && !r->is_done) {
        ask_for_seat();
        overtake_stalled(r);
    }
}

static void run_all(run *r)
{
    pthread_mutex_lock(&pool.lock);
    join_queue(r);
    seat_all();
    if (!r->n_seats)
        ask_for_seat();
    bool is_over;
    do {
        if (r->caller_is_seated) {
            work(r, r->n_members);
            r->caller_is_seated = false;
            give_seat_back(r);
        } else {
            wait_a_tick(r);
        }
        is_over = r->is_done && !r->n_seats; /* what ends during a tick is told by another */
        tick_once(r);
    } while (!is_over);
    leave_queue(r);
    pthread_mutex_unlock(&pool.lock);
}

/* Other teams need not be asked how many there may be where there are none. */
static uint32_t limit_of(uint32_t n_threads)
{
    pthread_mutex_lock(&pool.lock);
    bool is_alone = !pool.runs;
    pthread_mutex_unlock(&pool.lock);
    uint32_t available = is_alone ? 0 : lds_threads_available();
    return available > n_threads ? available : n_threads;
}

static void run_init(run *r, const lds_team *team)
{
    *r = (run){.team = team, .caller = pthread_self(), .error = LDS_ERROR_INIT};
    lds_cond_init(&r->changed);
}

lds_status lds_team_run(const lds_team *team, uint64_t n_tasks, uint32_t n_threads, lds_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, guard_forks);
    run r;
    run_init(&r, team);
    r.n_wanted = n_tasks < n_threads ? (uint32_t)n_tasks : n_threads;
    r.n_wanted += !r.n_wanted;
    r.n_members = r.n_wanted + 1;
    lds_status status = lds_calloc(&r.members, r.n_members, sizeof *r.members, err);
    if (!status) {
        r.limit = limit_of(n_threads ? n_threads : 1);
        run_all(&r);
        for (uint32_t i = 0; i < r.n_members; i++)
            if (r.members[i].state == ENDED)
                part_from(&r.members[i]);
    }
    free(r.members);
    pthread_cond_destroy(&r.changed);
    return r.status ? lds_error_take(err, r.status, &r.error) : status;
}
