/*
 * Writing an entry of the cache while what it has is being loaded.
 *
 * All that an entry is but the digest of its samples is known before the first byte is: the header, and so
 * each parameter's place. So whoever has converted a block writes it while it is in its cache, in whatever
 * order they come. The header, without which the file is nothing, is written last. A write that fails ends
 * the entry, and not the load: the first error is kept for the end.
 */
#include "src/load/cache_write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <unistd.h>

#include "src/load/sync.h"

struct lds_cache_write {
    const lds_cache_dir *dir;
    const char *key;
    lds_cache_audience audience;
    uint64_t max_nbytes; /* that the folder's entries may have together */
    lds_cache_header header;
    int fd;
    bool is_done;   /* it has its name, or nothing is left of it */
    atomic_int why; /* the first write that failed did, or 0 */
};

/* 0, or why not. */
static int write_all(int fd, const void *data, size_t nbytes, uint64_t offset)
{
    for (const uint8_t *at = data; nbytes;) {
        ssize_t n = pwrite(fd, at, nbytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? errno : EIO;
        at += n;
        offset += (uint64_t)n;
        nbytes -= (size_t)n;
    }
    return 0;
}

static lds_status fail_write(int why, lds_error *err)
{
    return lds_fail_errno(err, LDS_ERR_IO, why, "cannot be written to");
}

/* ------------------------------------------------------------------------------------------------------- */

/*
 * 0, or why not. A file system that cannot set room aside can say how much it has. So can one that a signal has
 * interrupted: it may have given back what it had by then, and a timer's next signal may come as early.
 */
static int set_aside(const lds_cache_write *w)
{
    if (!fallocate(w->fd, 0, 0, (off_t)w->header.end))
        return 0;
    int why = errno;
    if (why == EOPNOTSUPP || why == ENOSYS || why == EINTR)
        return lds_cache_free_nbytes(w->dir) < w->header.end ? ENOSPC : 0;
    /* What was set aside before there was no more; others go on counting the whole. */
    (void)!(ftruncate(w->fd, 0) || ftruncate(w->fd, (off_t)w->header.end));
    return why;
}

/*
 * Entries go for it only if the cap would have them go anyway, and if that is enough: else the write would
 * fail, and they would be missed.
 */
static lds_status reserve(const lds_cache_write *w, lds_error *err)
{
    uint64_t whole = w->header.end;
    int why = set_aside(w);
    if (why == ENOSPC && lds_cache_make_room(w->dir, w->max_nbytes - whole, whole))
        why = set_aside(w);
    if (why)
        return lds_fail_errno(err, LDS_ERR_IO, why, "has no room for %.2f GB", (double)whole / 1e9);
    return LDS_OK;
}

static lds_status create(lds_cache_write *w, lds_error *err)
{
    w->fd = lds_cache_create(w->dir, w->key, w->audience);
    if (w->fd < 0 && errno == EWOULDBLOCK)
        return lds_fail(err, LDS_ERR_IO, "another load is writing the same");
    return w->fd < 0 ? fail_write(errno, err) : LDS_OK;
}

/*
 * Have what is written at a time keep to the cap, too. The file gets its size at once, since that is what others
 * count: to set room aside may take longer than they should wait.
 */
static lds_status take_place(lds_cache_write *w, lds_error *err)
{
    uint64_t whole = w->header.end, others;
    LDS_TRY(create(w, err));
    LDS_TRY(lds_cache_count_unfinished(&others, w->dir, err));
    if (others > w->max_nbytes - whole)
        return lds_fail(err, LDS_ERR_MEMORY,
                        "may have %" PRIu64 " bytes; others are writing %" PRIu64 ", and this needs %" PRIu64,
                        w->max_nbytes, others, whole);
    return ftruncate(w->fd, (off_t)whole) ? fail_write(errno, err) : LDS_OK;
}

static lds_status begin(lds_cache_write *w, const lds_plan *plan, lds_error *err)
{
    LDS_TRY(lds_cache_header_compose(&w->header, plan, w->key, err));
    if (w->header.end > w->max_nbytes)
        return lds_fail(err, LDS_ERR_MEMORY, "may have %" PRIu64 " bytes, and this needs %" PRIu64,
                        w->max_nbytes, w->header.end);
    lds_cache_dir_lock(w->dir);
    lds_status status = take_place(w, err);
    lds_cache_dir_unlock(w->dir);
    return status ? status : reserve(w, err);
}

lds_status lds_cache_write_begin(lds_cache_write **write, const lds_cache_dir *dir, const char *key,
                                 lds_cache_audience audience, const lds_plan *plan, uint64_t max_nbytes,
                                 lds_error *err)
{
    LDS_TRY(lds_calloc(write, 1, sizeof **write, err));
    lds_cache_write *w = *write;
    w->dir = dir;
    w->key = key;
    w->audience = audience;
    w->max_nbytes = max_nbytes;
    w->fd = -1;
    lds_status status = begin(w, plan, err);
    if (!status)
        return LDS_OK;
    lds_cache_write_end(w);
    *write = NULL;
    return lds_error_context(err, status, dir->path, NULL);
}

void lds_cache_write_part(lds_cache_write *w, size_t target, uint64_t begin, const void *data, size_t nbytes)
{
    int none = 0;
    if (atomic_load_explicit(&w->why, memory_order_relaxed))
        return;
    int why = write_all(w->fd, data, nbytes, w->header.offsets[target] + begin);
    if (why)
        atomic_compare_exchange_strong(&w->why, &none, why);
}

/* ------------------------------------------------------------------------------------------------------- */

static lds_status write_header(lds_cache_write *w, lds_error *err)
{
    lds_cache_header *h = &w->header;
    char digest[LDS_CACHE_DIGEST_SIZE];
    LDS_TRY(lds_cache_sample(digest, w->fd, h->nbytes, h->end - h->nbytes, err));
    memcpy(h->text + h->sample_at, digest, LDS_CACHE_DIGEST_SIZE - 1);
    const struct timespec times[] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = h->written}};
    int why = write_all(w->fd, h->text, h->nbytes, 0);
    if (!why && futimens(w->fd, times))
        why = errno;
    return why ? fail_write(why, err) : LDS_OK;
}

/*
 * That the name is on the disk is waited for, too, but if it is not, the next load that looks for it writes
 * it anew.
 */
static lds_status finish(lds_cache_write *w, int (*tick)(void *ctx), void *tick_ctx, lds_error *err)
{
    LDS_TRY(write_header(w, err));
    LDS_TRY(lds_sync(w->fd, tick, tick_ctx, err));
    w->is_done = true;
    LDS_TRY(lds_cache_publish(w->dir, w->key, w->max_nbytes, err));
    lds_status status = lds_sync(w->dir->fd, tick, tick_ctx, err);
    return status == LDS_ERR_CANCELLED ? status : LDS_OK;
}

lds_status lds_cache_write_finish(lds_cache_write *w, int (*tick)(void *ctx), void *tick_ctx, lds_error *err)
{
    int why = atomic_load(&w->why);
    lds_status status = why ? fail_write(why, err) : finish(w, tick, tick_ctx, err);
    if (!status || status == LDS_ERR_CANCELLED)
        return status;
    return lds_error_context(err, status, w->dir->path, NULL);
}

void lds_cache_write_end(lds_cache_write *w)
{
    if (!w)
        return;
    if (w->fd >= 0) {
        if (!w->is_done)
            lds_cache_remove(w->dir, w->key);
        close(w->fd);
    }
    free(w->header.text);
    free(w->header.offsets);
    free(w);
}
