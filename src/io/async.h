/* Reads that the kernel does while the thread that asks for them goes on. */
#ifndef LDS_IO_ASYNC_H
#define LDS_IO_ASYNC_H

#include "src/io/source.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif

/* The next system call for a read. Direct ones cover whole units, so they begin before at and end after it. */
typedef struct lds_range {
    int fd;
    uint8_t *data;
    size_t nbytes;
    uint64_t offset;
} lds_range;

/* A way to have them done. One thread at a time uses one. */
typedef struct lds_async lds_async;

typedef struct lds_async_kind {
    void (*close)(lds_async *async);
    bool (*send)(lds_async *async, lds_read *read, const lds_range *range);
    void (*cancel)(lds_async *async, lds_read *read); /* or NULL */
    lds_read *(*receive)(lds_async *async, int wait_ms, long *result);
    void (*hold)(lds_async *async, const lds_storage *buffers); /* or NULL */
} lds_async_kind;

struct lds_async {
    const lds_async_kind *kind;
    const char *lost; /* why it takes no more reads, or NULL; those that it has it still gives back */
};

/*
 * io_uring, for all reads, depth at a time. If the system has none, the reason is returned, a string constant, and
 * otherwise NULL.
 */
const char *lds_uring_open(lds_async **async, uint32_t depth, bool is_remote);

/* io_submit(2), which is older and permitted where io_uring is not, for direct reads only. False if there is none. */
bool lds_aio_open(lds_async **async);

/* NULL does nothing. */
void lds_async_close(lds_async *async);

/* Send a read on its way. False if it is to be done otherwise. */
bool lds_async_send(lds_async *async, lds_read *read, const lds_range *range);

/* Ask for an end of a read: some file systems can, and what has not begun always can. */
void lds_async_cancel(lds_async *async, lds_read *read);

/*
 * A read that has come back, with bytes, or an errno as a negative number; NULL if there is none within wait_ms, or
 * somewhat earlier. -1 is for ever.
 */
lds_read *lds_async_receive(lds_async *async, int wait_ms, long *result);

/*
 * Have the kernel hold the pages of a reader's buffers for all reads that go there. They count as locked memory, of
 * which a process may not have much: the reads go there all the same. Once at most.
 */
void lds_async_hold(lds_async *async, const lds_storage *buffers);

#endif
