/* What this process may use of the machine. */
#ifndef LDS_BASE_MACHINE_H
#define LDS_BASE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* Threads that a call may be told to use. */
enum { LDS_MAX_THREADS = 1024 };

/*
 * The processors that this process may use: its affinity mask, no more of it than an even share for each of the ranks
 * on this host that MPI, torchrun, Slurm or MindSpore announce in the environment, and no more than its share of the
 * control groups' CPU quota. 1 to LDS_MAX_THREADS.
 */
uint32_t lds_threads_available(void);

/* These take the folder that /proc and /sys are in; "" for the system's own. */
uint32_t lds_threads_available_in(const char *root);

/*
 * Bytes of memory that this process may still take: what the system has free, swap and what it could drop of files
 * included, or what the control groups leave, if that is less. *by_cgroup says which. UINT64_MAX if nothing says.
 */
uint64_t lds_memory_available_in(const char *root, bool *by_cgroup);

#endif
