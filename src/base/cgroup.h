/* What the control groups of this process allow. */
#ifndef LDS_BASE_CGROUP_H
#define LDS_BASE_CGROUP_H

#include <stdint.h>

/*
 * All take the folder that /proc and /sys are in, "" for the system's own, and ask of both versions of control
 * groups. Each folder from the process's own up to the root of its hierarchy limits; what is returned is the
 * least. What cannot be read is no limit.
 */

/* The CPU quota in thousandths of a processor; UINT64_MAX for none. */
uint64_t lds_cgroup_quota(const char *root);

/* The processors that the cpuset lists; 0 if there is no list. */
uint32_t lds_cgroup_processors(const char *root);

/*
 * Bytes that may still be taken, UINT64_MAX for no limit: the limit less what is in use and could not be dropped
 * at once, as the pages of files can. swap_nbytes is what the system has free of swap.
 */
uint64_t lds_cgroup_memory(const char *root, uint64_t swap_nbytes);

/* Bytes of reserved huge pages of 2 MiB that may still be taken; UINT64_MAX for no limit. */
uint64_t lds_cgroup_hugetlb(const char *root);

#endif
