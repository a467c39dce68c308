/*
 * A file system with one file in it, of another process, that takes its time over each read as one behind a network
 * does, and counts. It is FUSE's protocol on /dev/fuse itself, so that no library is needed to test this one.
 */
#ifndef TEST_SLOW_FS_H
#define TEST_SLOW_FS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Shared with the process that serves. */
typedef struct slow_fs {
    atomic_uint delay_ms; /* of each read */
    /*
     * With hold not 0 no read is answered before so many are waiting: how many there are at once does then not
     * depend on the machine's speed. It becomes 0 when they are, or when ten seconds bring no more.
     */
    atomic_uint hold;
    atomic_uint n_most;  /* reads that were waiting at once */
    atomic_uint n_reads; /* in all */
    char folder[64];     /* that it is mounted at: begins in a namespace of this process's own */
    char path[96];       /* of its file */
    const uint8_t *data;
    uint64_t nbytes;
    pid_t server;
} slow_fs;

/*
 * Mount one whose file has those bytes, before any other thread has begun. NULL, and *why_not, if this process may
 * not.
 */
slow_fs *slow_fs_mount(const void *data, uint64_t nbytes, const char **why_not);

/* Count anew, with an empty page cache. */
void slow_fs_begin(slow_fs *fs, unsigned delay_ms, unsigned hold);

/* Take it away, and free it. */
void slow_fs_unmount(slow_fs *fs);

#endif
