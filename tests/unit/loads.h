/* A load from the page cache or not, what it loads, and what has come of it. */
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

/* n values of BF16, none of them infinite or NaN, to be freed. */
static inline uint16_t *make_values(size_t n)
{
    uint16_t *values = malloc(n * sizeof *values);
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        values[i] = (x >> 16) & 0x3FFF;
    }
    return values;
}

/* A file of them, the tensor "d". */
static inline void write_values(const char *path, const uint16_t *values, size_t n)
{
    char header[128];
    int end = snprintf(header, sizeof header,
                       "{\"d\":{\"dtype\":\"BF16\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", n,
                       n * sizeof *values);
    snprintf(header + end, sizeof header - (size_t)end, "%*s", 8 - end % 8, "");
    write_safetensors(path, header, values, n * sizeof *values);
}

/* That "d" has them as they are in the file, or as F32, whose upper halves they are. */
static inline void check_values(const outcome *o, const uint16_t *values, size_t n)
{
    const lds_param *d = lds_network_find(o->network, "d");
    if (lds_param_dtype(d) == LDS_BF16) {
        assert_memory_equal(lds_param_data(d), values, n * sizeof *values);
        return;
    }
    const uint32_t *found = lds_param_data(d);
    size_t n_wrong = 0;
    for (size_t i = 0; i < n; i++)
        n_wrong += found[i] != (uint32_t)values[i] << 16;
    assert_int_equal(n_wrong, 0);
}

#endif
