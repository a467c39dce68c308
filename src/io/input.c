/*
 * Inputs: what a load reads from, from its beginning to its end.
 *
 * What is hard is the end. A load that was cancelled, or has failed, returns soon, whatever its disk does; but a
 * read that is under way writes into memory when it likes. So reads, buffers and the input itself stay until the
 * last read is over: the thread that waits for it then frees them. Threads are joined if nothing was stuck, so
 * that after most loads nothing is left behind.
 */
#include "src/io/input.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "src/base/clock.h"

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

void lds_input_free(lds_input *input)
{
    for (lds_reader *r = input->readers, *next; r; r = next) {
        next = r->next;
        for (uint32_t i = 0; i < input->options.depth; i++)
            if (r->reads[i].is_kept)
                lds_storage_release(r->reads[i].storage);
        lds_storage_release(r->buffers);
        lds_async_close(r->async);
        pthread_cond_destroy(&r->done_cond);
        free(r);
    }
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
    pthread_mutex_init(&in->lock, NULL);
    lds_cond_init(&in->work);
    lds_cond_init(&in->quiet);
    lds_status status = open_files(in, err);
    in->options.files = NULL; /* they may be closed before this ends */
    in->options.is_needed = NULL;
    if (status) {
        lds_input_free(in);
        return status;
    }
    atomic_store(&in->wants_uring, options->kind == LDS_SOURCE_URING || options->kind == LDS_SOURCE_DIRECT);
    atomic_store(&in->wants_aio, in->has_direct);
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
    bool is_by_uring = atomic_load(&input->has_uring) && !atomic_load(&input->has_lost_uring);
    return is_by_uring ? LDS_SOURCE_URING : LDS_SOURCE_READ;
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

/* Does the kernel have reads still? */
static bool has_async(const lds_input *input)
{
    for (const lds_reader *r = input->readers; r; r = r->next)
        if (r->n_async)
            return true;
    return false;
}

static void *await_async(void *arg)
{
    lds_input *input = arg;
    long result;
    for (lds_reader *r = input->readers; r; r = r->next)
        while (r->n_async)
            r->n_async -= lds_async_receive(r->async, -1, &result) != NULL;
    lds_input_leave(input);
    return NULL;
}

/* Leave what is under way to end by itself. If nobody can wait for it, what it goes into is never freed. */
static void orphan(lds_input *input)
{
    pthread_t waiting;
    atomic_store(&input->is_orphaned, true);
    if (!has_async(input))
        return;
    if (lds_input_start_thread(input, &waiting, await_async))
        pthread_detach(waiting);
    else
        input->n_running++;
}

void lds_input_close(lds_input *input)
{
    if (!input)
        return;
    if (!input->options.keep_cache)
        lds_input_read_ahead(input, true);
    pthread_mutex_lock(&input->lock);
    lds_input_end_threads(input);
    bool is_quiet = !input->n_taken && !has_async(input);
    uint32_t n_threads = input->n_started;
    pthread_t threads[LDS_MAX_IO_THREADS];
    memcpy(threads, input->threads, sizeof threads);
    if (!is_quiet)
        orphan(input);
    pthread_mutex_unlock(&input->lock);
    for (uint32_t i = 0; i < n_threads; i++)
        if (is_quiet)
            pthread_join(threads[i], NULL);
        else
            pthread_detach(threads[i]);
    if (is_quiet)
        lds_input_free(input);
}
