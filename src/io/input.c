/*
 * Inputs and their readers: who has which read, and who waits for whom.
 *
 * What is hard is the end. A load that was cancelled, or has failed, returns soon, whatever its disk does; but a
 * read that is under way writes into memory when it likes. So reads, buffers and the input itself stay until the
 * last read is over: the thread that waits for it then frees them. Threads are joined if nothing was stuck, so
 * that after most loads nothing is left behind.
 */
#include "src/io/input.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/memory.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif

/* How long a worker waits before it looks whether it should stop, and an end waits for what is under way. */
enum { LOOK_MS = 10, END_MS = 30, STACK_NBYTES = 256 << 10 };

struct lds_reader {
    lds_input *input;
    lds_reader *next;
    pthread_cond_t done_cond;
    lds_read *done;      /* over, not yet waited for; guarded by the input's lock */
    lds_read *done_here; /* done by the worker itself */
    uint32_t n_under_way;
    bool is_open;
    uint32_t n_idle;
    lds_read *idle[LDS_MAX_DEPTH];
    lds_read reads[LDS_MAX_DEPTH];
};

/* ------------------------------------------------------------------------------------------------------- */

void lds_input_fall_back(lds_input *input, const char *why)
{
    const char *none = NULL;
    atomic_compare_exchange_strong(&input->fallback, &none, why);
}

/*
 * A description of the load's own, since reading ahead is switched on and off with it: a copy of the checkpoint's
 * descriptor would share that with other loads. It does where the file may not be opened any more.
 */
static lds_status open_buffered(lds_input_file *opened, const lds_file *file, lds_error *err)
{
    opened->fd = lds_file_open_again(file, 0);
    opened->is_shared = opened->fd < 0;
    if (opened->is_shared)
        opened->fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    if (opened->fd >= 0)
        return LDS_OK;
    lds_status status =
        lds_fail_errno(err, LDS_ERR_IO, errno,
                       "cannot be opened once more: the files that a load reads are open twice, "
                       "which this process's limit (ulimit -n) has to allow");
    return lds_error_context(err, status, file->path, NULL);
}

static int open_direct(lds_input *input, const lds_file *file)
{
    int fd = lds_file_open_again(file, O_DIRECT);
    if (fd < 0)
        lds_input_fall_back(input, errno == EMFILE ? "too few descriptors for direct reads"
                                                   : "no direct reads on this file system");
    return fd;
}

static lds_status open_files(lds_input *input, lds_error *err)
{
    const lds_input_options *o = &input->options;
    LDS_TRY(lds_calloc(&input->files, o->n_files, sizeof *input->files, err));
    for (size_t i = 0; i < o->n_files; i++) {
        lds_input_file *file = &input->files[input->n_files++];
        file->fd = file->direct_fd = -1;
        file->hides_cache = o->files[i].hides_cache;
        file->is_overlay = o->files[i].is_overlay;
        if (o->is_needed[i])
            LDS_TRY(open_buffered(file, &o->files[i], err));
    }
    /* After all of the others, which there must be. */
    for (size_t i = 0; i < o->n_files && o->kind == LDS_SOURCE_DIRECT; i++) {
        if (o->is_needed[i])
            input->files[i].direct_fd = open_direct(input, &o->files[i]);
        input->has_direct |= input->files[i].direct_fd >= 0;
    }
    return o->kind == LDS_SOURCE_VIEW ? lds_views_open(input, err) : LDS_OK;
}

static void choose_source(lds_input *input)
{
    lds_source_kind kind = input->options.kind;
    const char *why = kind == LDS_SOURCE_READ || kind == LDS_SOURCE_VIEW ? "" : lds_ring_open(input);
    input->source = why ? &lds_source_pread : &lds_source_uring;
    if (why && *why)
        lds_input_fall_back(input, why);
}

static void input_free(lds_input *input)
{
    for (lds_reader *r = input->readers, *next; r; r = next) {
        next = r->next;
        for (uint32_t i = 0; i < input->options.depth; i++) {
            if (r->reads[i].is_kept)
                lds_storage_release(r->reads[i].storage);
            lds_storage_release(r->reads[i].buffer);
        }
        pthread_cond_destroy(&r->done_cond);
        free(r);
    }
    lds_ring_close(input->ring);
    lds_views_close(input);
    for (size_t i = 0; i < input->n_files; i++) {
        if (input->files[i].fd >= 0)
            close(input->files[i].fd);
        if (input->files[i].direct_fd >= 0)
            close(input->files[i].direct_fd);
    }
    free(input->files);
    pthread_cond_destroy(&input->work);
    pthread_cond_destroy(&input->quiet);
    pthread_mutex_destroy(&input->lock);
    free(input);
}

lds_status lds_input_new(lds_input **input, const lds_input_options *options, lds_error *err)
{
    lds_input *in;
    LDS_TRY(lds_calloc(&in, 1, sizeof *in, err));
    in->options = *options;
    in->last = &in->first;
    pthread_mutex_init(&in->lock, NULL);
    lds_cond_init(&in->work);
    lds_cond_init(&in->quiet);
    lds_status status = open_files(in, err);
    in->options.files = NULL; /* they may be closed before this ends */
    in->options.is_needed = NULL;
    if (status) {
        input_free(in);
        return status;
    }
    choose_source(in);
    if (!options->keep_cache)
        lds_input_read_ahead(in, false);
    *input = in;
    return LDS_OK;
}

lds_source_kind lds_input_kind(const lds_input *input)
{
    if (input->has_direct && !atomic_load(&input->refuses_direct))
        return LDS_SOURCE_DIRECT;
    if (atomic_load(&input->n_viewed) && !lds_input_fallback(input))
        return LDS_SOURCE_VIEW;
    return input->ring && !atomic_load(&input->is_ring_lost) ? LDS_SOURCE_URING : LDS_SOURCE_READ;
}

const char *lds_input_fallback(const lds_input *input)
{
    const char *why = atomic_load(&input->fallback);
    bool is_single = atomic_load(&input->n_single) > atomic_load(&input->n_viewed);
    return why || !is_single ? why : "no large pages seen in the page cache: copied from there";
}

bool lds_input_is_direct(const lds_input *input, uint32_t file)
{
    return input->files[file].direct_fd >= 0 && !atomic_load(&input->refuses_direct);
}

/* ------------------------------------------------------------------------------------------------------- */

static void *thread_main(void *arg)
{
    lds_input *input = arg;
    pthread_mutex_lock(&input->lock);
    const lds_source *source = input->source;
    pthread_mutex_unlock(&input->lock);
    source->run(input);
    pthread_mutex_lock(&input->lock);
    bool is_last = !--input->n_running && atomic_load(&input->is_orphaned);
    pthread_cond_broadcast(&input->quiet);
    pthread_mutex_unlock(&input->lock);
    if (is_last)
        input_free(input);
    return NULL;
}

/* One more thread, with no signals, which are the program's. False if the system gives none. */
static bool start_thread(lds_input *input)
{
    sigset_t all, before;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_NBYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = !pthread_create(&input->threads[input->n_started], &attr, thread_main, input);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    input->n_started += ok;
    input->n_running += ok;
    return ok;
}

lds_read *lds_input_take(lds_input *input)
{
    lds_read *read = input->is_ending ? NULL : input->first;
    if (!read)
        return NULL;
    input->first = read->next;
    if (!input->first)
        input->last = &input->first;
    input->n_waiting--;
    input->n_taken++;
    input->n_taken_foreign += !read->storage;
    return read;
}

void lds_input_finish(lds_input *input, lds_read *read)
{
    lds_reader *reader = read->reader;
    read->next = reader->done;
    reader->done = read;
    input->n_taken_foreign -= !read->storage;
    input->n_taken--;
    if (input->is_ending)
        pthread_cond_signal(&input->quiet);
    pthread_cond_signal(&reader->done_cond);
}

void lds_input_put_back(lds_input *input, lds_read *read)
{
    read->next = input->first;
    if (!input->first)
        input->last = &read->next;
    input->first = read;
    input->n_waiting++;
    input->n_taken--;
    input->n_taken_foreign -= !read->storage;
}

void lds_input_lose_ring(lds_input *input, const char *why)
{
    lds_input_fall_back(input, why);
    atomic_store(&input->is_ring_lost, true);
    input->source = &lds_source_pread;
    if (input->n_waiting)
        start_thread(input); /* whether it can or not, the ring's own will read, too */
}

/* Hand a read to the input's threads. False if there are none. */
static bool hand_over(lds_input *input, lds_read *read)
{
    pthread_mutex_lock(&input->lock);
    uint32_t max_threads = input->source->has_one_thread ? 1 : input->options.max_threads;
    bool wants_more = input->n_waiting >= input->n_idle && input->n_started < max_threads;
    bool ok = (wants_more && start_thread(input)) || input->n_started;
    if (ok) {
        read->next = NULL;
        *input->last = read;
        input->last = &read->next;
        input->n_waiting++;
        if (read->storage)
            lds_storage_retain(read->storage);
        read->is_kept = read->storage;
        input->source->wake(input);
    }
    pthread_mutex_unlock(&input->lock);
    return ok;
}

/* Wait for what is under way: shortly, unless it goes into memory that the load does not own. */
static void drain(lds_input *input)
{
    struct timespec until = lds_after_ms(END_MS);
    bool is_late = false;
    while (input->n_taken && !(is_late && !input->n_taken_foreign)) {
        if (is_late)
            pthread_cond_wait(&input->quiet, &input->lock);
        else
            is_late = pthread_cond_timedwait(&input->quiet, &input->lock, &until) == ETIMEDOUT;
    }
}

void lds_input_close(lds_input *input)
{
    if (!input)
        return;
    if (!input->options.keep_cache)
        lds_input_read_ahead(input, true);
    pthread_mutex_lock(&input->lock);
    input->is_ending = true;
    pthread_cond_broadcast(&input->work);
    if (input->n_started)
        input->source->wake(input);
    drain(input);
    bool is_quiet = !input->n_taken;
    uint32_t n_threads = input->n_started;
    pthread_t threads[LDS_MAX_IO_THREADS];
    memcpy(threads, input->threads, sizeof threads);
    atomic_store(&input->is_orphaned, !is_quiet);
    pthread_mutex_unlock(&input->lock);
    for (uint32_t i = 0; i < n_threads; i++)
        if (is_quiet)
            pthread_join(threads[i], NULL);
        else
            pthread_detach(threads[i]);
    if (is_quiet)
        input_free(input);
}

/* ------------------------------------------------------------------------------------------------------- */

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

lds_status lds_reader_open(lds_reader **reader, lds_input *input, lds_error *err)
{
    pthread_mutex_lock(&input->lock);
    lds_reader *r = input->readers;
    while (r && r->is_open)
        r = r->next;
    lds_status status = r ? LDS_OK : reader_new(&r, input, err);
    if (!status) {
        r->is_open = true;
        *reader = r;
    }
    pthread_mutex_unlock(&input->lock);
    return status;
}

void lds_reader_close(lds_reader *reader)
{
    lds_input *input = reader->input;
    pthread_mutex_lock(&input->lock);
    reader->is_open = reader->n_under_way; /* after a failure: nobody is to get those reads */
    pthread_mutex_unlock(&input->lock);
}

lds_read *lds_reader_idle(lds_reader *reader)
{
    return reader->n_idle ? reader->idle[reader->n_idle - 1] : NULL;
}

lds_status lds_read_make_buffer(lds_read *read, size_t nbytes, lds_error *err)
{
    LDS_TRY(lds_storage_new(&read->buffer, nbytes, NULL, err));
    read->place = lds_ring_register(read->reader->input->ring, read->buffer->data, nbytes);
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
    if (!is_done && hand_over(input, read))
        return false;
    if (!is_done)
        lds_read_blocking(input, read);
    read->next = reader->done_here;
    reader->done_here = read;
    return true;
}

/* What has become of a read, in words. */
static lds_status verdict(const lds_read *read, lds_error *err)
{
    size_t left = (size_t)(read->offset + read->nbytes - read->at);
    return left ? lds_file_fail_read(left, read->at, read->os_errno, err) : LDS_OK;
}

static lds_read *take_done(lds_reader *reader, const atomic_bool *stop)
{
    lds_input *input = reader->input;
    lds_read *read;
    pthread_mutex_lock(&input->lock);
    while (!(read = reader->done) && !atomic_load_explicit(stop, memory_order_relaxed)) {
        struct timespec until = lds_after_ms(LOOK_MS);
        pthread_cond_timedwait(&reader->done_cond, &input->lock, &until);
    }
    if (read)
        reader->done = read->next;
    pthread_mutex_unlock(&input->lock);
    return read;
}

lds_status lds_reader_wait(lds_reader *reader, lds_read **read, const atomic_bool *stop, lds_error *err)
{
    lds_read *r = reader->done_here;
    if (r)
        reader->done_here = r->next;
    else
        r = take_done(reader, stop);
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
