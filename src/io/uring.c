/*
 * Reads by io_uring: each reader has a ring of its own.
 *
 * A thread that ends waits for what threads of the kernel's do for it first, as for a network file system. So a worker
 * that must not wait any more is left behind by its team.
 *
 * To send a read off may take as long as a disk's queue is full. A network file system might wait for its server there
 * (before Linux 6.5, to learn whether the file has changed), so its reads go to threads of the kernel's at once.
 *
 * Buffers that direct reads go to again and again are registered: the kernel then looks up and holds their pages
 * once, and not for each read. The arena is not, since each of its pages is read into once. Nor are files: what that
 * saves cannot be measured, and they stay open until the kernel has taken the ring down, which it does some time
 * after it was closed. A file system could not be unmounted right after a load.
 */
#include "src/io/async.h"

#ifdef LDS_HAVE_URING

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <unistd.h>

#include "src/base/memory.h"

#ifndef IORING_SETUP_COOP_TASKRUN
#define IORING_SETUP_COOP_TASKRUN (1U << 8) /* liburing before 2.2 has no name for it */
#endif

/* How often in a row the kernel may say that it takes no read now, and what is waited before it is asked again. */
enum { MAX_REFUSALS = 20, REFUSED_US = 1000 };

typedef struct ring {
    lds_async async; /* the first */
    struct io_uring uring;
    bool is_remote;
    bool holds_buffers;
} ring;

static const char *why_not(int os_errno)
{
    switch (os_errno) {
    case ENOSYS: return "this kernel has no io_uring";
    case EPERM:
    case EACCES: return "io_uring is not permitted here";
    case ENOMEM: return "io_uring may not have the memory that it needs";
    case EMFILE: return "too few descriptors for io_uring";
    default: return "io_uring does not work here";
    }
}

/*
 * What a file system cannot do by itself, as FUSE and most of those of networks, a thread of the kernel's waits for,
 * of which there are four a processor by default: few, for round trips. Kernels before 5.15 leave it at that.
 */
static void allow_workers(struct io_uring *uring, uint32_t depth)
{
    unsigned of_files_and_others[] = {depth, 0}; /* 0 changes nothing */
    (void)!io_uring_register_iowq_max_workers(uring, of_files_and_others);
}

/*
 * A request is sent as soon as it is made; what comes back is a read, or word of one that was to be given up. A worker
 * that converts need not be interrupted for it: it calls the kernel once a block. Kernels before 5.19 always do.
 */
static int ring_init(ring *r, uint32_t depth)
{
    const struct io_uring_params plain = {.flags = IORING_SETUP_CQSIZE, .cq_entries = 2 * depth};
    struct io_uring_params params = plain;
    params.flags |= IORING_SETUP_COOP_TASKRUN;
    int failed = io_uring_queue_init_params(1, &r->uring, &params);
    if (failed == -EINVAL) {
        params = plain;
        failed = io_uring_queue_init_params(1, &r->uring, &params);
    }
    if (!failed && !(params.features & IORING_FEAT_RW_CUR_POS)) { /* plain reads came with it, in 5.6 */
        io_uring_queue_exit(&r->uring);
        failed = -ENOSYS;
    }
    if (!failed)
        allow_workers(&r->uring, depth);
    return failed;
}

static void uring_close(lds_async *async)
{
    ring *r = (ring *)async;
    io_uring_queue_exit(&r->uring);
    free(r);
}

static void uring_hold(lds_async *async, const lds_storage *buffers)
{
    ring *r = (ring *)async;
    struct iovec all = {buffers->data, (size_t)buffers->nbytes};
    r->holds_buffers = !io_uring_register_buffers(&r->uring, &all, 1);
}

/* What was prepared. False if the kernel takes no more: from then on it is never asked again. */
static bool submit(ring *r)
{
    for (int i = 0; i < MAX_REFUSALS; i++) {
        int n = io_uring_submit(&r->uring);
        if (n > 0)
            return true;
        if (n != -EAGAIN && n != -EBUSY && n != -ENOMEM && n != -EINTR)
            break;
        usleep(REFUSED_US);
    }
    r->async.lost = "io_uring stopped working";
    return false;
}

static bool uring_send(lds_async *async, lds_read *read, const lds_range *range)
{
    ring *r = (ring *)async;
    if (async->lost)
        return false;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);
    if (r->holds_buffers && read->storage == read->buffers)
        io_uring_prep_read_fixed(sqe, range->fd, range->data, (unsigned)range->nbytes, range->offset, 0);
    else
        io_uring_prep_read(sqe, range->fd, range->data, (unsigned)range->nbytes, range->offset);
    io_uring_sqe_set_data(sqe, read);
    if (r->is_remote && !read->is_direct)
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
    return submit(r);
}

static void uring_cancel(lds_async *async, lds_read *read)
{
    ring *r = (ring *)async;
    if (async->lost)
        return;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);
    io_uring_prep_cancel(sqe, read, 0);
    io_uring_sqe_set_data(sqe, NULL);
    submit(r);
}

/* The next read that has come back, if there is one now. */
static lds_read *next_read(ring *r, long *result)
{
    struct io_uring_cqe *cqe;
    lds_read *read = NULL;
    while (!read && !io_uring_peek_cqe(&r->uring, &cqe) && cqe) {
        read = io_uring_cqe_get_data(cqe); /* NULL for a request to give one up */
        *result = cqe->res;
        io_uring_cqe_seen(&r->uring, cqe);
    }
    return read;
}

/* By poll(2): before Linux 5.11 the ring itself can wait for so long only by sending a request. */
static lds_read *uring_receive(lds_async *async, int wait_ms, long *result)
{
    ring *r = (ring *)async;
    lds_read *read = next_read(r, result);
    if (read || !wait_ms)
        return read;
    struct pollfd ready = {.fd = r->uring.ring_fd, .events = POLLIN};
    return poll(&ready, 1, wait_ms) > 0 ? next_read(r, result) : NULL;
}

static const lds_async_kind kind = {uring_close, uring_send, uring_cancel, uring_receive, uring_hold};

const char *lds_uring_open(lds_async **async, uint32_t depth, bool is_remote)
{
    ring *r;
    if (lds_calloc(&r, 1, sizeof *r, NULL))
        return why_not(ENOMEM);
    int failed = ring_init(r, depth);
    if (failed) {
        free(r);
        return why_not(-failed);
    }
    r->is_remote = is_remote;
    r->async.kind = &kind;
    *async = &r->async;
    return NULL;
}

#else

const char *lds_uring_open(lds_async **async, uint32_t depth, bool is_remote)
{
    (void)async, (void)depth, (void)is_remote;
    return "built without io_uring";
}

#endif
