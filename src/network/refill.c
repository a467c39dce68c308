/*
 * Changing the dtype of parameters and initialising them are the same work: take one arena for all new values,
 * let every processor write blocks of them, and only when all is there put the parameters into it, which cannot
 * fail. So all of it happens or none; the price is that old and new values exist at the same time.
 *
 * The blocks of all parameters are numbered through, and a worker takes the next number: large and small
 * parameters then keep all workers busy to the end. What would be no more than one block is not worth a team: the
 * calling thread has written it before another had begun, or a tick was due.
 */
#include "src/network/refill.h"

#include "src/base/clock.h"
#include "src/base/machine.h"
#include "src/base/options.h"
#include "src/base/threads.h"
#include "src/dtype/convert.h"
#include "src/dtype/dtype.h"
#include "src/network/init_values.h"

enum {
    BLOCK_ELEMENTS = 1 << 17, /* a multiple of 8, so that blocks of F4 and F6 begin with a byte */
    ALIGNMENT = 64
};

typedef struct refill {
    lds_fill *fills;
    size_t n_fills;
    lds_dtype dtype; /* to convert to; LDS_DTYPE_NONE to initialise */
    lds_fill_how how;
    lds_change_options options;
    uint64_t started_ns;
    uint64_t nbytes;            /* of the arena */
    uint8_t *memory;            /* its bytes */
    const lds_storage *limited; /* the arena, if its pages have to be asked for, or NULL */
    uint64_t values_nbytes;     /* of the arena's, without the gaps */
    _Atomic uint64_t done_nbytes;
    uint64_t n_blocks;
    uint64_t numel; /* of all blocks */
    atomic_uint_fast64_t next_block;
    atomic_bool give_way;
} refill;

static void number_blocks(refill *r, lds_fill *fill)
{
    fill->first_block = r->n_blocks;
    r->numel += fill->param->numel;
    r->n_blocks += fill->param->numel / BLOCK_ELEMENTS + (fill->param->numel % BLOCK_ELEMENTS != 0);
}

/* The last fill that begins at this block or before it: the ones without blocks come earlier. */
static const lds_fill *fill_of(const refill *r, uint64_t block)
{
    size_t low = 0, high = r->n_fills;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (r->fills[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return &r->fills[low];
}

static lds_status write_block(refill *r, uint64_t block, lds_error *err)
{
    const lds_fill *f = fill_of(r, block);
    const lds_param *param = f->param;
    uint64_t first = (block - f->first_block) * BLOCK_ELEMENTS, n = param->numel - first;
    if (n > BLOCK_ELEMENTS)
        n = BLOCK_ELEMENTS;
    uint8_t *dst = r->memory + f->offset + first / 8 * lds_dtype_bits(f->dtype);
    uint64_t nbytes = n * lds_dtype_bits(f->dtype) / 8;
    if (r->limited)
        LDS_TRY(lds_storage_populate(r->limited, dst, (size_t)nbytes, err));
    if (r->dtype)
        lds_convert_kernel(f->dtype, param->dtype)(
            dst, param->data + first / 8 * lds_dtype_bits(param->dtype), (size_t)n);
    else
        lds_init_fill(param, f->dtype, dst, r->how.seed, first, n);
    atomic_fetch_add_explicit(&r->done_nbytes, nbytes, memory_order_relaxed);
    return LDS_OK;
}

static lds_status work(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker;
    refill *r = ctx;
    while (!atomic_load_explicit(stop, memory_order_relaxed) && !lds_team_gives_way(&r->give_way)) {
        uint64_t block = atomic_fetch_add_explicit(&r->next_block, 1, memory_order_relaxed);
        if (block >= r->n_blocks)
            break;
        LDS_TRY(write_block(r, block, err));
    }
    return LDS_OK;
}

/* As a team does it, the tick at the end included. */
static lds_status write_few(refill *r, lds_error *err)
{
    for (uint64_t block = 0; block < r->n_blocks; block++)
        LDS_TRY(write_block(r, block, err));
    return r->how.tick && r->how.tick(r->how.tick_ctx) ? lds_fail_cancelled(err) : LDS_OK;
}

static lds_status write_blocks(refill *r, lds_error *err)
{
    if (!r->n_blocks)
        return LDS_OK;
    if (r->numel <= BLOCK_ELEMENTS)
        return write_few(r, err);
    if (!r->how.n_threads)
        r->how.n_threads = lds_threads_available();
    lds_team team = {work, r, r->how.tick, r->how.tick_ctx, &r->give_way};
    atomic_init(&r->next_block, 0);
    atomic_init(&r->give_way, false);
    return lds_team_run(&team, r->n_blocks, r->how.n_threads, err);
}

lds_status lds_fill_initial(lds_fill *fills, size_t n_fills, const lds_storage *memory,
                            const lds_fill_how *how, lds_error *err)
{
    refill r = {
        .fills = fills,
        .n_fills = n_fills,
        .how = *how,
        .memory = memory->data,
        .limited = memory->is_limited ? memory : NULL,
    };
    for (size_t i = 0; i < n_fills; i++)
        number_blocks(&r, &fills[i]);
    return write_blocks(&r, err);
}

/* ------------------------------------------------------------------------------------------------------- */

/* Give the parameter its place in the arena, or none if it has no values to keep. */
static lds_status add_fill(refill *r, lds_param *param, lds_error *err)
{
    uint64_t nbytes, end;
    lds_fill *fill = &r->fills[r->n_fills++];
    *fill = (lds_fill){param, r->dtype ? r->dtype : (lds_dtype)param->dtype, r->nbytes, r->n_blocks};
    lds_status status = lds_dtype_nbytes(&nbytes, fill->dtype, param->numel, err);
    if (status)
        return lds_error_context(err, status, NULL, param->name.text);
    if (r->dtype && !param->storage)
        return LDS_OK;
    if (!lds_add(r->nbytes, nbytes, &end) || end > SIZE_MAX - ALIGNMENT)
        return lds_fail_memory(err, UINT64_MAX);
    r->nbytes = lds_align_up(end, ALIGNMENT);
    r->values_nbytes += nbytes;
    number_blocks(r, fill);
    return LDS_OK;
}

static int tick(void *ctx)
{
    refill *r = ctx;
    const lds_progress progress = {
        .struct_size = sizeof progress,
        .done_nbytes = atomic_load_explicit(&r->done_nbytes, memory_order_relaxed),
        .total_nbytes = r->values_nbytes,
        .seconds = (double)(lds_now_ns() - r->started_ns) / 1e9,
    };
    return r->options.progress(r->options.progress_ctx, &progress);
}

static void place_params(const refill *r, lds_storage *arena)
{
    for (size_t i = 0; i < r->n_fills; i++) {
        const lds_fill *f = &r->fills[i];
        if (r->dtype && !f->param->storage)
            f->param->dtype = (uint8_t)r->dtype;
        else
            lds_param_place(f->param, lds_storage_retain(arena), r->memory + f->offset, f->dtype);
    }
}

static lds_status run(refill *r, lds_error *err)
{
    lds_storage *arena;
    LDS_TRY(lds_storage_new(&arena, r->nbytes, NULL, err));
    r->memory = arena->data;
    lds_status status = write_blocks(r, err);
    if (!status)
        place_params(r, arena);
    lds_storage_release(arena);
    return status;
}

static bool changes(const refill *r, const lds_param *param)
{
    if (param->tied_to)
        return false;
    if (r->dtype)
        return lds_dtype_is_float(param->dtype) && param->dtype != r->dtype;
    return !param->storage && param->init;
}

static lds_status refill_params(refill *r, lds_param *params, size_t n_params,
                                const lds_change_options *options, lds_error *err)
{
    r->started_ns = lds_now_ns();
    LDS_TRY(lds_options_import(&r->options, sizeof r->options, "options", options, err));
    r->how.tick = r->options.progress ? tick : NULL;
    r->how.tick_ctx = r;
    LDS_TRY(lds_calloc(&r->fills, n_params, sizeof *r->fills, err));
    lds_status status = LDS_OK;
    for (size_t i = 0; i < n_params && !status; i++)
        if (changes(r, &params[i]))
            status = add_fill(r, &params[i], err);
    if (!status && r->n_fills)
        status = run(r, err);
    free(r->fills);
    return status;
}

static const lds_change_options defaults = {.struct_size = sizeof(lds_change_options)};

void lds_change_options_init(lds_change_options *options, size_t size)
{
    lds_options_export(options, size, &defaults, sizeof defaults);
}

lds_status lds_refill_convert(lds_param *params, size_t n_params, lds_dtype dtype,
                              const lds_change_options *options, lds_error *err)
{
    refill r = {.dtype = dtype};
    return refill_params(&r, params, n_params, options, err);
}

lds_status lds_refill_init(lds_param *params, size_t n_params, uint64_t seed,
                           const lds_change_options *options, lds_error *err)
{
    refill r = {.how.seed = seed};
    return refill_params(&r, params, n_params, options, err);
}
