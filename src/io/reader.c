/*
 * Readers: what each worker has under way, how it is sent off, and what is waited for.
 */
#include <errno.h>
#include <sys/uio.h>

#include "src/base/clock.h"
#include "src/base/threads.h"
#include "src/io/input.h"

static lds_status reader_new(lds_reader **reader, lds_input *input, lds_error *err)
{
    lds_reader *r;
    LDS_TRY(lds_calloc(&r, 1, sizeof *r, err));
    r->input = input;
    lds_cond_init(&r->done_cond);
    for (uint32_t i = input->options.depth; i-- > 0;) {
        r->reads[i].reader = r;
        r->idle[r->n_idle++] = &r->reads[i];
    }
    r->next = input->readers;
    input->readers = r;
    *reader = r;
    return LDS_OK;
}

/* What the system has best for it, as far as the others have found out. */
static void open_async(lds_reader *reader)
{
    lds_input *input = reader->input;
    const lds_input_options *o = &input->options;
    if (!reader->async && atomic_load(&input->wants_uring)) {
        const char *why = lds_uring_open(&reader->async, o->depth, o->is_remote);
        if (why) {
            atomic_store(&input->wants_uring, false);
            lds_input_fall_back(input, why);
        } else {
            atomic_store(&input->has_uring, true);
        }
    }
    if (!reader->async && atomic_load(&input->wants_aio))
        atomic_store(&input->wants_aio, lds_aio_open(&reader->async));
}

lds_status lds_reader_open(lds_reader **reader, lds_input *input, lds_error *err)
{
    pthread_mutex_lock(&input->lock);
    lds_reader *r = input->readers;
    while (r && r->is_open)
        r = r->next;
    lds_status status = r ? LDS_OK : reader_new(&r, input, err);
    if (!status)
        r->is_open = true;
    pthread_mutex_unlock(&input->lock);
    if (status)
        return status;
    open_async(r);
    *reader = r;
    return LDS_OK;
}

static void take_back(lds_reader *reader, lds_read *read)
{
    read->is_async = false;
    reader->n_async--;
}

/* Does one of the reads that the kernel has go into memory that is not the library's? */
static bool has_foreign(const lds_reader *reader)
{
    for (uint32_t i = 0; i < reader->input->options.depth; i++)
        if (reader->reads[i].is_async && !reader->reads[i].storage)
            return true;
    return false;
}

/* The load has failed, or was cancelled: nobody asks for these reads any more. */
static void drain(lds_reader *reader)
{
    uint64_t until = lds_now_ns() + LDS_END_MS * UINT64_C(1000000);
    long result;
    for (uint32_t i = 0; i < reader->input->options.depth; i++)
        if (reader->reads[i].is_async)
            lds_async_cancel(reader->async, &reader->reads[i]);
    while (reader->n_async && (lds_now_ns() < until || has_foreign(reader))) {
        lds_read *read = lds_async_receive(reader->async, LDS_LOOK_MS, &result);
        if (read)
            take_back(reader, read);
    }
}

void lds_reader_close(lds_reader *reader)
{
    lds_input *input = reader->input;
    drain(reader);
    if (reader->n_async)
        lds_team_leave_behind();
    pthread_mutex_lock(&input->lock);
    reader->is_open = reader->n_under_way > 0; /* after a failure: nobody is to get those reads */
    pthread_mutex_unlock(&input->lock);
}

lds_read *lds_reader_idle(lds_reader *reader)
{
    return reader->n_idle ? reader->idle[reader->n_idle - 1] : NULL;
}

/* One piece of memory for all of them: in huge pages, of which a disk is told in fewer parts, and held at once. */
lds_status lds_reader_make_buffers(lds_reader *reader, size_t nbytes, lds_error *err)
{
    uint32_t depth = reader->input->options.depth;
    LDS_TRY(lds_storage_new(&reader->buffers, (uint64_t)depth * nbytes, NULL, err));
    for (uint32_t i = 0; i < depth; i++) {
        reader->reads[i].buffers = reader->buffers;
        reader->reads[i].buffer = (uint8_t *)reader->buffers->data + i * nbytes;
    }
    if (reader->async && reader->input->has_direct)
        lds_async_hold(reader->async, reader->buffers);
    return LDS_OK;
}

uint32_t lds_reader_n_under_way(const lds_reader *reader)
{
    return reader->n_under_way;
}

/* What a call gets that the kernel, the file system or a filter of system calls does not have. */
static bool lacks_call(int os_errno)
{
    return os_errno == EOPNOTSUPP || os_errno == ENOSYS || os_errno == EINVAL || os_errno == EPERM;
}

uint64_t lds_input_resident(const lds_input *input, uint32_t file, uint64_t offset, uint64_t nbytes)
{
    const lds_input_file *f = &input->files[file];
    const lds_file seen = {.fd = f->fd, .hides_cache = f->hides_cache, .is_overlay = f->is_overlay};
    return lds_file_resident(&seen, offset, nbytes);
}

/*
 * Whether a blocking call would not block, where the kernel can be asked for that only beforehand. One that has to wait
 * is not for a worker, whose load could not be cancelled then.
 */
static bool is_at_hand(const lds_input *input, const lds_read *read)
{
    uint64_t left = read->offset + read->nbytes - read->at;
    return input->options.is_resident && lds_input_resident(input, read->file, read->at, left) == left;
}

/* Copy what the page cache has. True if that was all, or the read has failed. */
static bool read_cached(lds_input *input, lds_read *read)
{
    while (!read->is_populate && !atomic_load_explicit(&input->lacks_nowait, memory_order_relaxed)) {
        lds_range range = lds_read_range(input, read);
        struct iovec piece = {range.data, range.nbytes};
        ssize_t n = preadv2(range.fd, &piece, 1, (off_t)range.offset, RWF_NOWAIT);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0 && lacks_call(errno))
            atomic_store(&input->lacks_nowait, true);
        else if (lds_read_advance(input, read, &range, n < 0 ? -errno : n))
            return true;
        else if (n > 0 && input->files[read->file].hides_cache)
            return false; /* what a second call finds may be there because of the first */
    }
    if (!is_at_hand(input, read))
        return false;
    lds_read_blocking(input, read);
    return true;
}

/*
 * Whether a read may go past the page cache, and had better. To ask for what is at hand (RWF_NOWAIT) is no way to
 * look: the kernel would begin to read ahead what a direct read is then to bring in.
 */
static bool goes_past_cache(const lds_input *input, const lds_read *read)
{
    if (!read->has_margins || read->is_populate || !lds_input_is_direct(input, read->file))
        return false;
    return !input->options.looks_first || input->files[read->file].hides_cache ||
           lds_input_resident(input, read->file, read->offset, read->nbytes) < read->nbytes;
}

static bool send_async(lds_reader *reader, lds_read *read)
{
    lds_input *input = reader->input;
    lds_range range = lds_read_range(input, read);
    if (!reader->async)
        return false;
    if (!lds_async_send(reader->async, read, &range)) {
        if (reader->async->lost) {
            lds_input_fall_back(input, reader->async->lost);
            atomic_store(&input->has_lost_uring, true);
        }
        return false;
    }
    read->is_async = true;
    reader->n_async++;
    return true;
}

/* Have somebody else do a read, or what is left of it; if nobody does, it is done here. */
static void send_off(lds_reader *reader, lds_read *read)
{
    lds_input *input = reader->input;
    if (read->storage && !read->is_kept)
        lds_storage_retain(read->storage);
    read->is_kept = read->storage;
    if (send_async(reader, read) || lds_input_hand_over(input, read))
        return;
    lds_read_blocking(input, read);
    lds_read_queue_put(&reader->done_here, read);
}

/* Deal with what has come back, once there is something or the time is over; but not for ever, if it comes at once. */
static void collect(lds_reader *reader, int wait_ms)
{
    lds_input *input = reader->input;
    lds_read *read;
    long result;
    for (uint32_t i = 0; i < input->options.depth; i++, wait_ms = 0) {
        if (!(read = lds_async_receive(reader->async, wait_ms, &result)))
            break;
        lds_range range = lds_read_range(input, read); /* as it was when it was sent */
        take_back(reader, read);
        if (lds_read_advance(input, read, &range, result))
            lds_read_queue_put(&reader->done_here, read);
        else
            send_off(reader, read);
    }
}

bool lds_reader_submit(lds_reader *reader, lds_read *read)
{
    lds_input *input = reader->input;
    read->at = read->offset;
    read->os_errno = 0;
    read->n_refusals = 0;
    read->is_direct = goes_past_cache(input, read);
    reader->n_idle--;
    reader->n_under_way++;
    read->has_note = false;
    bool notes = !read->is_direct && !input->options.keep_cache;
    /* What is probably there all is not worth the call; a page that is not is then seen to be missing, or not. */
    if (notes && !input->options.is_resident && !input->files[read->file].hides_cache)
        lds_page_cache_note(input, read);
    bool is_done = !read->is_direct && read_cached(input, read);
    if (notes && !is_done && !read->has_note)
        lds_page_cache_note(input, read);
    if (is_done)
        lds_read_queue_put(&reader->done_here, read);
    else
        send_off(reader, read);
    return is_done;
}

/* What has become of a read, in words. */
static lds_status verdict(const lds_read *read, lds_error *err)
{
    size_t left = (size_t)(read->offset + read->nbytes - read->at);
    return left ? lds_file_fail_read(left, read->at, read->os_errno, err) : LDS_OK;
}

/* What a thread has done, if it has within wait_ms. */
static lds_read *take_from_threads(lds_reader *reader, uint64_t wait_ms)
{
    lds_input *input = reader->input;
    struct timespec until = lds_after_ms(wait_ms);
    pthread_mutex_lock(&input->lock);
    if (!reader->done.first && wait_ms)
        pthread_cond_timedwait(&reader->done_cond, &input->lock, &until);
    lds_read *read = lds_read_queue_take(&reader->done);
    pthread_mutex_unlock(&input->lock);
    return read;
}

/* NULL if it is to stop. Where some reads are in threads, these are looked at again soon. */
static lds_read *take_done(lds_reader *reader, const atomic_bool *stop)
{
    lds_read *read = lds_read_queue_take(&reader->done_here);
    while (!read && !atomic_load_explicit(stop, memory_order_relaxed)) {
        bool has_both = reader->n_async && reader->n_under_way > reader->n_async;
        if (reader->n_async)
            collect(reader, has_both ? 1 : LDS_LOOK_MS);
        read = lds_read_queue_take(&reader->done_here);
        if (!read && reader->n_under_way > reader->n_async)
            read = take_from_threads(reader, has_both ? 0 : LDS_LOOK_MS);
    }
    return read;
}

lds_status lds_reader_wait(lds_reader *reader, lds_read **read, const atomic_bool *stop, lds_error *err)
{
    lds_read *r = take_done(reader, stop);
    *read = r;
    if (!r)
        return lds_fail(err, LDS_ERR_CANCELLED, "cancelled");
    if (r->is_kept)
        lds_storage_release(r->storage);
    r->is_kept = false;
    lds_page_cache_let_go(reader->input, r);
    reader->n_under_way--;
    reader->idle[reader->n_idle++] = r;
    return verdict(r, err);
}
