/*
 * How many threads, and a team of them.
 *
 * The count comes from what the process may really use: a container with half a core of quota on a 128-core
 * host gets one thread, and eight ranks on that host get sixteen each. A team is made for one piece of work and
 * joined at its end; starting a thread costs some 20 us, which no load notices.
 */
#include "src/base/threads.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "src/base/memory.h"

enum { MAX_THREADS = 1024, TICK_MS = 50 };

/* Processors in the affinity mask, 0 if the kernel does not say. */
static uint32_t affinity_count(void)
{
    for (size_t n = 1024; n <= 1024 * 1024; n *= 4) {
        cpu_set_t *set = CPU_ALLOC(n);
        if (!set)
            return 0;
        size_t nbytes = CPU_ALLOC_SIZE(n);
        int failed = sched_getaffinity(0, nbytes, set), why = errno;
        int count = failed ? 0 : CPU_COUNT_S(nbytes, set);
        CPU_FREE(set);
        if (!failed)
            return (uint32_t)count;
        if (why != EINVAL) /* EINVAL: the kernel's mask is longer than ours */
            return 0;
    }
    return 0;
}

/* One or two numbers from the beginning of a file; "max" and what is no number count as -1. */
static bool read_numbers(const char *path, long long *first, long long *second)
{
    char text[64] = {0};
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(text, sizeof text, f);
    fclose(f);
    *first = *second = -1;
    if (ok && sscanf(text, "%lld %lld", first, second) < 1)
        *first = -1;
    return ok;
}

/* The quota of one cgroup folder in thousandths of a processor, or UINT64_MAX for none. */
static uint64_t folder_quota(const char *folder, bool is_v2)
{
    char path[4096 + 32];
    long long quota = -1, period = -1, unused;
    if (is_v2) {
        snprintf(path, sizeof path, "%s/cpu.max", folder);
        read_numbers(path, &quota, &period);
    } else {
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
        if (!read_numbers(path, &quota, &unused))
            return UINT64_MAX;
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        read_numbers(path, &period, &unused);
    }
    if (quota <= 0 || period <= 0)
        return UINT64_MAX;
    return (uint64_t)quota * 1000 / (uint64_t)period;
}

/* The least quota from a cgroup's folder up to the root of its hierarchy: each of them limits. */
static uint64_t hierarchy_quota(const char *mount, const char *group, bool is_v2)
{
    char folder[4096];
    size_t root = strlen(mount);
    if (snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder)
        return UINT64_MAX;
    uint64_t least = UINT64_MAX;
    for (;;) {
        uint64_t quota = folder_quota(folder, is_v2);
        least = quota < least ? quota : least;
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < root)
            return least;
        *slash = 0;
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ',') && (at[n] == 0 || at[n] == ','))
            return true;
    return false;
}

/* The process's CPU quota in thousandths of a processor, of both cgroup versions; UINT64_MAX for none. */
static uint64_t cgroup_quota(void)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f)
        return UINT64_MAX;
    char line[4096];
    uint64_t least = UINT64_MAX;
    while (fgets(line, sizeof line, f)) { /* "<id>:<controllers>:<path>" */
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        controllers++;
        if (!strcmp(group, "/"))
            *group = 0;
        uint64_t quota = UINT64_MAX;
        if (!*controllers)
            quota = hierarchy_quota("/sys/fs/cgroup", group, true);
        else if (has_word(controllers, "cpu"))
            quota = hierarchy_quota("/sys/fs/cgroup/cpu", group, false);
        least = quota < least ? quota : least;
    }
    fclose(f);
    return least;
}

/* The ranks on this host, from what launchers put into the environment; 1 if they say nothing. */
static uint32_t local_ranks(void)
{
    static const char *const names[] = {
        "LOCAL_WORLD_SIZE",           /* torchrun, and what accelerate and DeepSpeed set */
        "OMPI_COMM_WORLD_LOCAL_SIZE", /* Open MPI */
        "MPI_LOCALNRANKS",            /* MPICH, Intel MPI */
        "MV2_COMM_WORLD_LOCAL_SIZE",  /* MVAPICH */
        "SLURM_NTASKS_PER_NODE",      /* srun, where it was asked for */
        "MS_WORKER_NUM",              /* MindSpore's msrun: of all hosts, it tells no more */
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        unsigned long n = value && isdigit((unsigned char)*value) ? strtoul(value, NULL, 10) : 0;
        if (n > 0 && n <= 65536)
            return (uint32_t)n;
    }
    return 1;
}

uint32_t lds_threads_available(void)
{
    uint32_t allowed = affinity_count(), ranks = local_ranks();
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (!allowed)
        allowed = online > 0 ? (uint32_t)online : 1;
    /* A launcher that pinned its ranks has divided the processors already. */
    uint64_t n = online > 0 && allowed < (uint64_t)online ? allowed : allowed / ranks;
    uint64_t quota = cgroup_quota();
    if (quota != UINT64_MAX && quota / 1000 / ranks < n)
        n = quota / 1000 / ranks;
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (uint32_t)n;
}

/* ------------------------------------------------------------------------------------------------------- */

typedef struct run {
    const lds_team *team;
    atomic_bool stop;
    pthread_mutex_t lock; /* of the rest */
    pthread_cond_t idle;
    uint32_t n_running;
    lds_status status; /* of the first failure */
    lds_error error;
} run;

typedef struct member {
    run *run;
    pthread_t thread;
    uint32_t number;
} member;

static void work_once(run *r, uint32_t number)
{
    lds_error error = LDS_ERROR_INIT;
    lds_status status = r->team->work(r->team->ctx, number, &r->stop, &error);
    pthread_mutex_lock(&r->lock);
    if (status && !r->status) {
        r->status = status;
        r->error = error;
        atomic_store(&r->stop, true);
    }
    pthread_mutex_unlock(&r->lock);
}

static void *member_main(void *arg)
{
    member *m = arg;
    work_once(m->run, m->number);
    pthread_mutex_lock(&m->run->lock);
    if (--m->run->n_running == 0)
        pthread_cond_signal(&m->run->idle);
    pthread_mutex_unlock(&m->run->lock);
    return NULL;
}

/* Start up to n members, numbered from first; returns how many there are. */
static uint32_t start(run *r, member *members, uint32_t n, uint32_t first)
{
    uint32_t started = 0;
    for (; started < n; started++) {
        member *m = &members[started];
        m->run = r;
        m->number = first + started;
        pthread_mutex_lock(&r->lock);
        r->n_running++;
        pthread_mutex_unlock(&r->lock);
        if (pthread_create(&m->thread, NULL, member_main, m)) {
            pthread_mutex_lock(&r->lock);
            r->n_running--;
            pthread_mutex_unlock(&r->lock);
            break;
        }
    }
    return started;
}

static struct timespec after_ms(long ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += ms * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000L;
    t.tv_nsec %= 1000000000L;
    return t;
}

static void tick_once(run *r)
{
    if (!r->team->tick(r->team->tick_ctx))
        return;
    pthread_mutex_lock(&r->lock);
    if (!r->status) {
        r->status = LDS_ERR_CANCELLED;
        lds_fail(&r->error, LDS_ERR_CANCELLED, "cancelled by the progress callback");
    }
    atomic_store(&r->stop, true);
    pthread_mutex_unlock(&r->lock);
}

/* Tick until all members have finished. */
static void tick_along(run *r)
{
    bool running = true;
    while (running) {
        struct timespec until = after_ms(TICK_MS);
        pthread_mutex_lock(&r->lock);
        int timed_out = 0;
        while (r->n_running && !timed_out)
            timed_out = pthread_cond_timedwait(&r->idle, &r->lock, &until);
        running = r->n_running;
        pthread_mutex_unlock(&r->lock);
        tick_once(r);
    }
}

static void run_init(run *r, const lds_team *team)
{
    *r = (run){.team = team, .error = LDS_ERROR_INIT};
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->idle, &attr);
    pthread_condattr_destroy(&attr);
}

lds_status lds_team_run(const lds_team *team, uint32_t n_threads, lds_error *err)
{
    uint32_t own = team->tick ? 0 : 1, n = n_threads > own ? n_threads - own : 0;
    member *members;
    LDS_TRY(lds_calloc(&members, n, sizeof *members, err));
    run r;
    run_init(&r, team);
    uint32_t started = start(&r, members, n, own);
    if (!team->tick || !started)
        work_once(&r, 0);
    if (team->tick)
        tick_along(&r);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(members[i].thread, NULL);
    pthread_cond_destroy(&r.idle);
    pthread_mutex_destroy(&r.lock);
    free(members);
    if (r.status && err) {
        size_t size = err->struct_size;
        *err = r.error;
        err->struct_size = size;
    }
    return r.status;
}
