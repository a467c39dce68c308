/*
 * Direct reads by io_submit(2): the system calls themselves, which glibc has no functions for. Of what is not direct
 * they would wait for in the call.
 *
 * RWF_NOWAIT keeps them from waiting there also for room in the disk's queue, or for where the file's blocks are. What
 * would have to wait comes back with EAGAIN, and is read by a thread then.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "src/io/async.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif

typedef struct context {
    lds_async async; /* the first */
    aio_context_t id;
} context;

static void aio_close(lds_async *async)
{
    context *c = (context *)async;
    syscall(__NR_io_destroy, c->id);
    free(c);
}

static bool aio_send(lds_async *async, lds_read *read, const lds_range *range)
{
    context *c = (context *)async;
    struct iocb request =
                    {
                        .aio_data = (uintptr_t)read,
                        .aio_lio_opcode = IOCB_CMD_PREAD,
                        .aio_rw_flags = RWF_NOWAIT,
                        .aio_fildes = (uint32_t)range->fd,
                        .aio_buf = (uintptr_t)range->data,
                        .aio_nbytes = range->nbytes,
                        .aio_offset = (int64_t)range->offset,
                    },
                *requests[] = {&request};
    return read->is_direct && !read->n_refusals && syscall(__NR_io_submit, c->id, 1L, requests) == 1;
}

static lds_read *aio_receive(lds_async *async, int wait_ms, long *result)
{
    context *c = (context *)async;
    struct io_event event;
    struct timespec limit = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000L};
    if (syscall(__NR_io_getevents, c->id, 1L, 1L, &event, wait_ms < 0 ? NULL : &limit) != 1)
        return NULL;
    *result = (long)event.res;
    return (lds_read *)(uintptr_t)event.data;
}

static const lds_async_kind kind = {.close = aio_close, .send = aio_send, .receive = aio_receive};

const char *lds_aio_open(lds_async **async, uint32_t depth)
{
    context *c;
    if (lds_calloc(&c, 1, sizeof *c, NULL))
        return "io_submit may not have the memory that it needs";
    if (syscall(__NR_io_setup, depth, &c->id)) {
        free(c);
        return "io_submit does not work here";
    }
    c->async.kind = &kind;
    *async = &c->async;
    return NULL;
}
