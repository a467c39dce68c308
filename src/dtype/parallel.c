/*
 * Converting arrays that are larger than a cache: blocks of them on all threads, and past the cache where that
 * saves reading what is about to be overwritten. Below some megabytes starting a thread costs more than it
 * brings, and the result is better left in cache for whoever comes next.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/machine.h"
#include "src/base/threads.h"
#include "src/dtype/stream.h"

enum {
    BLOCK_ELEMENTS = 1 << 17,
    THREAD_NBYTES = 8 << 20, /* read and written, that are worth another thread */
    CACHE_NBYTES = 32 << 20, /* read and written, of which little is still in cache at the end */
};

typedef struct conversion {
    uint8_t *dst;
    const uint8_t *src;
    lds_dtype dst_dtype, src_dtype;
    size_t dst_size, src_size; /* of an element */
    size_t n, n_blocks;
    bool streams;
    atomic_size_t next_block;
    atomic_bool give_way;
} conversion;

/*
 * Memory that is still to be had from the kernel comes zeroed in cache, which plain stores make use of. That is
 * asked before the first store, since one store may bring two megabytes.
 */
static bool is_present(const uint8_t *data, uint64_t nbytes)
{
    enum { N_SAMPLES = 16 };
    uintptr_t page_nbytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    int n_present = 0;
    for (uint64_t i = 0; i < N_SAMPLES; i++) {
        unsigned char state;
        uintptr_t at = (uintptr_t)data + nbytes / N_SAMPLES * i;
        n_present += !mincore((void *)(at & -page_nbytes), 1, &state) && state & 1;
    }
    return n_present > N_SAMPLES / 2;
}

static void convert_block(const conversion *c, size_t block)
{
    size_t first = block * BLOCK_ELEMENTS, n = c->n - first;
    if (n > BLOCK_ELEMENTS)
        n = BLOCK_ELEMENTS;
    uint8_t *dst = c->dst + first * c->dst_size;
    const uint8_t *src = c->src + first * c->src_size;
    if (c->streams)
        lds_convert_stream(dst, c->dst_dtype, src, c->src_dtype, n);
    else
        lds_convert_elements(dst, c->dst_dtype, src, c->src_dtype, n);
}

static lds_status work(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker, (void)stop, (void)err;
    conversion *c = ctx;
    while (!lds_team_gives_way(&c->give_way)) {
        size_t block = atomic_fetch_add_explicit(&c->next_block, 1, memory_order_relaxed);
        if (block >= c->n_blocks)
            break;
        convert_block(c, block);
    }
    return LDS_OK;
}

/*
 * How many threads there may be, as of this second: asking reads a dozen files, and takes as long as converting ten
 * megabytes.
 */
static uint32_t threads_available(void)
{
    enum { COUNT_BITS = 16 };
    static atomic_uint_fast64_t remembered; /* the count, and above it the second */
    uint64_t second = lds_now_ns() / 1000000000 + 1, known = atomic_load(&remembered);
    if (known >> COUNT_BITS != second) {
        known = second << COUNT_BITS | lds_threads_available();
        atomic_store(&remembered, known);
    }
    return (uint32_t)known & ((1u << COUNT_BITS) - 1);
}

static uint32_t threads_for(uint64_t nbytes, uint32_t n_threads)
{
    uint64_t worth = nbytes / THREAD_NBYTES;
    if (worth > 1 && !n_threads)
        n_threads = threads_available();
    return worth < n_threads ? (uint32_t)worth : n_threads;
}

lds_status lds_convert_parallel(void *dst, lds_dtype dst_dtype, const void *src, lds_dtype src_dtype,
                                size_t n, uint32_t n_threads, lds_error *err)
{
    conversion c = {
        .dst = dst,
        .src = src,
        .dst_dtype = dst_dtype,
        .src_dtype = src_dtype,
        .dst_size = lds_dtype_bits(dst_dtype) / 8,
        .src_size = lds_dtype_bits(src_dtype) / 8,
        .n = n,
        .n_blocks = n / BLOCK_ELEMENTS + (n % BLOCK_ELEMENTS != 0),
    };
    if (n_threads > LDS_MAX_THREADS)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected at most %d threads, found %u", LDS_MAX_THREADS,
                        n_threads);
    uint64_t nbytes = (uint64_t)n * (c.dst_size + c.src_size); /* memory holds it: no overflow */
    c.streams = nbytes > CACHE_NBYTES && dst != src && is_present(dst, (uint64_t)n * c.dst_size);
    n_threads = threads_for(nbytes, n_threads);
    if (!dst || !src || !lds_convert_kernel(dst_dtype, src_dtype) || (n_threads < 2 && !c.streams))
        return lds_convert(dst, dst_dtype, src, src_dtype, n, err);
    const lds_team team = {.work = work, .ctx = &c, .give_way = &c.give_way};
    return lds_team_run(&team, c.n_blocks, n_threads ? n_threads : 1, err);
}
