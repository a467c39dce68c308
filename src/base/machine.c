/*
 * What the process may really use, which is seldom what the machine has: a container with half a core of quota on
 * a 128-core host gets one thread, and eight ranks on that host get sixteen each.
 */
#include "src/base/machine.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/base/cgroup.h"
#include "src/base/system_file.h"

enum { MAX_RANKS = 65536 };

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

typedef struct launched {
    uint32_t n_ranks;     /* on this host */
    bool is_of_all_hosts; /* or on all of them, where nothing else is told */
} launched;

/* What launchers put into the environment; one rank if they say nothing. */
static launched find_launch(void)
{
    static const char *const names[] = {
        "LOCAL_WORLD_SIZE",           /* torchrun, and what accelerate and DeepSpeed set */
        "OMPI_COMM_WORLD_LOCAL_SIZE", /* Open MPI */
        "MPI_LOCALNRANKS",            /* MPICH, Intel MPI */
        "MV2_COMM_WORLD_LOCAL_SIZE",  /* MVAPICH */
        "SLURM_NTASKS_PER_NODE",      /* Slurm, where it was asked for */
        "SLURM_STEP_TASKS_PER_NODE",  /* srun: "8", or "8(x2),4", of which the first is taken */
        "MS_WORKER_NUM",              /* MindSpore's msrun: of all hosts, it tells no more */
    };
    enum { N_NAMES = sizeof names / sizeof *names };
    for (size_t i = 0; i < N_NAMES; i++) {
        const char *value = getenv(names[i]);
        unsigned long n = value && *value >= '0' && *value <= '9' ? strtoul(value, NULL, 10) : 0;
        if (n > 0 && n <= MAX_RANKS)
            return (launched){(uint32_t)n, i == N_NAMES - 1};
    }
    return (launched){1, false};
}

/*
 * What one rank has of all processors. A mask that is narrower may be its own already, which must not be divided once
 * more, or have been made for several: for a NUMA node's ranks, or for the launcher. What one rank is pinned to is
 * hardly more than an even share, so that both are right if it gets no more than that.
 */
static uint32_t share_of(const launched *launch, uint32_t all, uint32_t allowed)
{
    uint32_t n = launch->n_ranks, even = all / n + (all % n != 0);
    if (allowed == all)
        return all / n;
    return launch->is_of_all_hosts || allowed < even ? allowed : even;
}

uint32_t lds_threads_available_in(const char *root)
{
    const launched launch = find_launch();
    uint32_t allowed = affinity_count(), all = lds_cgroup_processors(root);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (!all)
        all = online > 0 ? (uint32_t)online : 1;
    if (!allowed || allowed > all)
        allowed = all;
    uint64_t n = share_of(&launch, all, allowed), quota = lds_cgroup_quota(root);
    if (quota != UINT64_MAX && quota / 1000 / launch.n_ranks < n)
        n = quota / 1000 / launch.n_ranks;
    return n < 1 ? 1 : n > LDS_MAX_THREADS ? LDS_MAX_THREADS : (uint32_t)n;
}

uint32_t lds_threads_available(void)
{
    return lds_threads_available_in("");
}

uint64_t lds_memory_available_in(const char *root, bool *by_cgroup)
{
    char line[256];
    unsigned long long kib, available = 0, swap = 0;
    bool is_known = false;
    FILE *f = lds_system_file_open(root, "proc/meminfo");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) {
            available = kib;
            is_known = true;
        } else if (sscanf(line, "SwapFree: %llu kB", &kib) == 1) {
            swap = kib;
        }
    }
    if (f)
        fclose(f);
    uint64_t system = is_known ? (available + swap) * 1024 : UINT64_MAX;
    uint64_t cgroup = lds_cgroup_memory(root, swap * 1024);
    *by_cgroup = cgroup < system;
    return *by_cgroup ? cgroup : system;
}
