/*
 * Direct reads by io_submit(2): the system calls themselves, which glibc has no functions for. Reads that are not
 * direct it would wait for in the call.
 *
 * RWF_NOWAIT keeps it from waiting for where the file's blocks are; what would have to comes back with EAGAIN, and is
 * read by a thread then. For room in the disk's queue it may wait all the same.
 *
 * Contexts are kept for the loads to come, since the kernel takes some 30 ms to end one. They are the process's: a
 * child that was forked has none.
 */
#include <linux/aio_abi.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "src/io/async.h"

typedef struct context {
    lds_async async; /* the first */
    aio_context_t id;
    pid_t process;
    struct context *next;
} context;

static _Atomic(context *) kept;

static void keep(context *c)
{
    c->next = atomic_load(&kept);
    while (!atomic_compare_exchange_weak(&kept, &c->next, c))
        continue;
}

/* One of this process's, or NULL. While one is taken, others find none, and make their own. */
static context *take_kept(void)
{
    context *list = atomic_exchange(&kept, NULL), *found = NULL;
    for (context *c = list, *next; c; c = next) {
        next = c->next;
        if (c->process != getpid())
            free(c);
        else if (found)
            keep(c);
        else
            found = c;
    }
    return found;
}

static void aio_close(lds_async *async)
{
    keep((context *)async);
}

static bool aio_send(lds_async *async, lds_read *read, const lds_range *range)
{
    context *c = (context *)async;
    if (!read->is_direct || read->n_refusals)
        return false;
    struct iocb request = {
        .aio_data = (uintptr_t)read,
        .aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_rw_flags = RWF_NOWAIT,
        .aio_fildes = (uint32_t)range->fd,
        .aio_buf = (uintptr_t)range->data,
        .aio_nbytes = range->nbytes,
        .aio_offset = (int64_t)range->offset,
    };
    struct iocb *requests[] = {&request};
    return syscall(__NR_io_submit, c->id, 1L, requests) == 1;
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

static context *make_context(void)
{
    context *c;
    if (lds_calloc(&c, 1, sizeof *c, NULL))
        return NULL;
    c->async.kind = &kind;
    c->process = getpid();
    if (!syscall(__NR_io_setup, LDS_MAX_DEPTH, &c->id))
        return c;
    free(c);
    return NULL;
}

bool lds_aio_open(lds_async **async)
{
    context *c = take_kept();
    c = c ? c : make_context();
    *async = c ? &c->async : NULL;
    return c;
}
