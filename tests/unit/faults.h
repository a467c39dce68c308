/* Calls that fail on demand. A test that uses it is linked with the wrappers: see meson.build. */
#ifndef TEST_FAULTS_H
#define TEST_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum fault {
    FAULT_NONE,
    FAULT_MEMORY,  /* an allocation gives NULL */
    FAULT_MAP,     /* mmap() says ENOMEM */
    FAULT_OPEN,    /* open() says EMFILE */
    FAULT_STAT,    /* fstat() says EIO */
    FAULT_READ,    /* pread() or preadv2() says EIO */
    FAULT_END,     /* it finds the end of the file */
    FAULT_PIECES,  /* it is interrupted every other time, and else gives n bytes at most */
    FAULT_ADVICE,  /* madvise() says EINVAL, as kernels before 5.14 do */
    FAULT_LOSS,    /* of mapped pages that were made present the second half is gone at once */
    FAULT_STALL,   /* a read, or a request for mapped pages, does not return before faults_disarm() */
    FAULT_SUBMIT,  /* io_uring takes nothing, for want of memory */
    FAULT_BUFFERS, /* it registers no buffers, for want of memory that may be locked */
    FAULT_RESULT,  /* a read that the kernel does by itself ends with EIO */
    FAULT_REFUSED, /* any direct read ends with EINVAL, as where the file system does not do them */
    /* Those that follow hold for every call. */
    FAULT_SUBMITS,
    FAULT_SILENCE, /* no read that the kernel does by itself comes back before faults_disarm() */
    FAULT_RESULTS, /* every other read that the kernel does by itself ends with errno n, or is cut short if n is 0 */
    FAULT_RING,      /* there is no io_uring: its set-up says that n is why */
    FAULT_OLD_RING,  /* it is one of Linux 5.4, which does not know plain reads */
    FAULT_RING_FLAG, /* its set-up says EINVAL to a flag that is newer than Linux 5.18 */
    FAULT_DIRECT,    /* no file can be opened for direct reads: open() says EINVAL */
    FAULT_LEASE,     /* no lease on a file is given, and errno n is why */
    FAULT_COUNT      /* there is no cachestat(2), as before Linux 6.5: it says ENOSYS */
} fault;

/*
 * Let call n of a kind fail from here on, counted from 1; those after it succeed. PIECES, ADVICE and the last ones
 * hold for every call. Any thread may call.
 */
void faults_inject(fault kind, uint64_t n);

/* The same for allocation n. */
static inline void faults_arm(uint64_t n)
{
    faults_inject(FAULT_MEMORY, n);
}

/* Every read of what is in the page cache alone gives os_errno, until the next call; 0 for what it would. */
void faults_nowait(int os_errno);

/* What the kernel has for doing reads by itself, until the next call. */
void faults_leave(bool uring, bool aio);

/* No more failures. True if there was one since faults_inject(). */
bool faults_disarm(void);

#endif
