/* A load from the page cache or not, and what has come of it. */
#ifndef TEST_LOADS_H
#define TEST_LOADS_H

#include <fcntl.h>

#include "loadstone.h"
#include "tests/unit/support.h"

/* Out of the page cache with it. */
static inline void evict(const char *path)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    fdatasync(fd);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
}

/* Bring the first n pages of a file in, and no others. */
static inline void bring_in(const char *path, size_t n)
{
    char page[4096];
    int fd = open(path, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(pread(fd, page, sizeof page, (off_t)(i * sizeof page)), sizeof page);
    close(fd);
}

typedef struct how {
    lds_io io;
    lds_dtype dtype;
    uint32_t n_threads;
    uint64_t window_nbytes;
    size_t n_brought; /* pages into the page cache, first */
    bool is_cold, is_bound, keep_cache, prefetch;
    const char *names;                                        /* or NULL */
    int (*progress)(void *ctx, const lds_progress *progress); /* or NULL */
    void *progress_ctx;
} how;

typedef struct outcome {
    lds_network *network;
    lds_report_stats stats;
    char *text;
    uint8_t *bound;
} outcome;

static inline lds_status load(outcome *o, const char *path, const how *h, lds_error *err)
{
    lds_checkpoint *checkpoint;
    lds_load_options options;
    lds_report *report = NULL;
    *o = (outcome){.stats.struct_size = sizeof o->stats};
    assert_int_equal(lds_checkpoint_open(&checkpoint, path, NULL, NULL), LDS_OK);
    if (h->is_cold) /* what was read ahead behind the header, too */
        evict(path);
    if (h->n_brought)
        bring_in(path, h->n_brought);
    assert_int_equal(lds_network_from_checkpoint(&o->network, checkpoint, h->dtype, NULL), LDS_OK);
    if (h->is_bound) { /* 64 bytes from where a direct read could go */
        lds_param *d = lds_network_find(o->network, "d");
        o->bound = aligned_alloc(4096, lds_param_nbytes(d) / 4096 * 4096 + 8192);
        assert_int_equal(lds_param_bind(d, o->bound + 64, lds_param_nbytes(d), NULL, NULL, NULL), LDS_OK);
    }
    lds_load_options_init(&options, sizeof options);
    options.io = h->io;
    options.n_threads = h->n_threads;
    options.window_nbytes = h->window_nbytes;
    options.keep_cache = h->keep_cache;
    options.prefetch = h->prefetch;
    options.progress = h->progress;
    options.progress_ctx = h->progress_ctx;
    options.names = &h->names;
    options.n_names = h->names ? 1 : 0;
    lds_status status = lds_load(o->network, checkpoint, &options, &report, err);
    if (!status) {
        lds_report_get_stats(report, &o->stats);
        o->text = strdup(lds_report_text(report));
    }
    lds_report_free(report);
    lds_checkpoint_close(checkpoint);
    return status;
}

static inline void forget(outcome *o)
{
    lds_network_free(o->network);
    free(o->text);
    free(o->bound);
}

#endif
