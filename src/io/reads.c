/*
 * One read, step by step: which system call comes next, and what its result means. Short reads, signals and file
 * systems that refuse direct reads after all are dealt with here, for every source alike.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "src/io/input.h"

/* How often in a row a read may be told to try again: some are for want of memory, for ever would be a hang. */
enum { MAX_REFUSALS = 1000 };

static const uint64_t unit_mask = ~(uint64_t)(LDS_DIRECT_NBYTES - 1);

void lds_read_queue_put(lds_read_queue *queue, lds_read *read)
{
    read->next = NULL;
    *(queue->first ? &queue->last->next : &queue->first) = read;
    queue->last = read;
}

lds_read *lds_read_queue_take(lds_read_queue *queue)
{
    lds_read *read = queue->first;
    if (read)
        queue->first = read->next;
    return read;
}

lds_range lds_read_range(const lds_input *input, const lds_read *read)
{
    uint64_t end = read->offset + read->nbytes, begin = read->at;
    if (read->is_direct) {
        begin &= unit_mask;
        end = lds_align_up(end, LDS_DIRECT_NBYTES);
    }
    return (lds_range){
        .fd = read->is_direct ? input->files[read->file].direct_fd : input->files[read->file].fd,
        .data = read->data + (int64_t)(begin - read->offset), /* may be in the margin before it */
        .nbytes = (size_t)(end - begin),
        .offset = begin,
    };
}

/* What a direct read gets that asks for what the file system does not do. */
static bool refuses_direct(int os_errno)
{
    return os_errno == EINVAL || os_errno == EOPNOTSUPP;
}

static bool go_on_buffered(lds_read *read)
{
    read->is_direct = false;
    return false;
}

bool lds_read_advance(lds_input *input, lds_read *read, const lds_range *range, long result)
{
    if (atomic_load(&input->is_orphaned))
        return true; /* nobody wants it any more */
    bool is_refusal = result == -EAGAIN || result == -ENOMEM;
    if (result == -EINTR || (is_refusal && read->n_refusals++ < MAX_REFUSALS))
        return false;
    if (result < 0 && read->is_direct && refuses_direct((int)-result)) {
        atomic_store(&input->refuses_direct, true);
        /* Whoever reads, this is what matters most. */
        atomic_store(&input->fallback, "direct reads are refused here");
        return go_on_buffered(read);
    }
    if (result <= 0) {
        read->os_errno = (int)-result;
        return true;
    }
    uint64_t end = read->offset + read->nbytes, got = range->offset + (uint64_t)result;
    if (got >= end) {
        read->at = end;
        return true;
    }
    read->n_refusals = 0;
    bool is_stuck = got <= read->at; /* a direct read that ends in its own first unit */
    read->at = is_stuck ? read->at : got;
    return read->is_direct && (is_stuck || got & ~unit_mask) ? go_on_buffered(read) : false;
}

/* The kernel is told of all first, and so brings it in as fast as the disk can, unless a page brings in many. */
static void populate(const lds_input *input, lds_read *read)
{
    lds_error err = LDS_ERROR_INIT;
    int fd = input->files[read->file].fd;
    if (!input->options.is_resident && !input->options.has_huge_faults)
        posix_fadvise(fd, (off_t)read->offset, (off_t)read->nbytes, POSIX_FADV_WILLNEED);
    lds_status status = lds_map_populate(read->data, read->nbytes, fd, read->offset, &err);
    read->at = status ? err.offset : read->offset + read->nbytes;
    read->os_errno = err.os_errno;
}

void lds_read_blocking(lds_input *input, lds_read *read)
{
    if (read->is_populate) {
        populate(input, read);
        return;
    }
    lds_range range;
    long n;
    do {
        range = lds_read_range(input, read);
        n = pread(range.fd, range.data, range.nbytes, (off_t)range.offset);
    } while (!lds_read_advance(input, read, &range, n < 0 ? -errno : n));
}
