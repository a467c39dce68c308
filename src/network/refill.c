/*
 * Changing the dtype of parameters and initialising them are the same work: take one arena for all new values,
 * let every processor write blocks of them, and only when all is there put the parameters into it, which cannot
 * fail. So all of it happens or none; the price is that old and new values exist at the same time.
 *
 * The blocks of all parameters are numbered through, and a worker takes the next number: large and small
 * parameters then keep all workers busy to the end.
 */
#include "src/network/refill.h"

#include "src/base/threads.h"
#include "src/dtype/convert.h"
#include "src/dtype/dtype.h"

enum {
    BLOCK_ELEMENTS = 1 << 17, /* a multiple of 8, so that blocks of F4 and F6 begin with a byte */
    ALIGNMENT = 64
};

/* One parameter that changes. */
typedef struct piece {
    lds_param *param;
    uint64_t offset; /* of its new values in the arena */
    uint64_t first_block;
} piece;

typedef struct refill {
    piece *pieces;
    size_t n_pieces;
    lds_dtype dtype; /* to convert to; LDS_DTYPE_NONE to initialise */
    uint64_t seed;   /* to initialise with */
    uint64_t nbytes; /* of the arena */
    uint64_t n_blocks;
    lds_storage *arena;
    atomic_uint_fast64_t next_block;
} refill;

static lds_dtype new_dtype(const refill *r, const lds_param *param)
{
    return r->dtype ? r->dtype : (lds_dtype)param->dtype;
}

/* Give the parameter its place in the arena, or none if it has no values to keep. */
static lds_status add_piece(refill *r, lds_param *param, lds_error *err)
{
    uint64_t nbytes, end;
    lds_status status = lds_dtype_nbytes(&nbytes, new_dtype(r, param), param->numel, err);
    if (status)
        return lds_error_context(err, status, NULL, param->name.text);
    r->pieces[r->n_pieces++] = (piece){param, r->nbytes, r->n_blocks};
    if (r->dtype && !param->storage)
        return LDS_OK;
    if (!lds_add(r->nbytes, nbytes, &end) || end > UINT64_MAX - ALIGNMENT)
        return lds_fail_memory(err, UINT64_MAX);
    r->nbytes = lds_align_up(end, ALIGNMENT);
    r->n_blocks += param->numel / BLOCK_ELEMENTS + (param->numel % BLOCK_ELEMENTS != 0);
    return LDS_OK;
}

/* The last piece that begins at this block or before it: the ones without blocks come earlier. */
static const piece *piece_of(const refill *r, uint64_t block)
{
    size_t low = 0, high = r->n_pieces;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (r->pieces[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return &r->pieces[low];
}

static void write_block(const refill *r, uint64_t block)
{
    const piece *p = piece_of(r, block);
    const lds_param *param = p->param;
    lds_dtype dtype = new_dtype(r, param);
    uint64_t first = (block - p->first_block) * BLOCK_ELEMENTS, n = param->numel - first;
    if (n > BLOCK_ELEMENTS)
        n = BLOCK_ELEMENTS;
    uint8_t *dst = (uint8_t *)r->arena->data + p->offset + first / 8 * lds_dtype_bits(dtype);
    if (r->dtype)
        lds_convert_kernel(dtype, param->dtype)(dst, param->data + first / 8 * lds_dtype_bits(param->dtype),
                                                (size_t)n);
    else
        lds_init_fill(param, dtype, dst, r->seed, first, n);
}

static lds_status work(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker, (void)err;
    refill *r = ctx;
    while (!atomic_load_explicit(stop, memory_order_relaxed)) {
        uint64_t block = atomic_fetch_add_explicit(&r->next_block, 1, memory_order_relaxed);
        if (block >= r->n_blocks)
            break;
        write_block(r, block);
    }
    return LDS_OK;
}

static void place_pieces(refill *r)
{
    for (size_t i = 0; i < r->n_pieces; i++) {
        lds_param *param = r->pieces[i].param;
        if (r->dtype && !param->storage)
            param->dtype = (uint8_t)r->dtype;
        else
            lds_param_place(param, lds_storage_retain(r->arena),
                            (uint8_t *)r->arena->data + r->pieces[i].offset, new_dtype(r, param));
    }
}

static lds_status run(refill *r, lds_error *err)
{
    LDS_TRY(lds_storage_new(&r->arena, r->nbytes, NULL, err));
    atomic_init(&r->next_block, 0);
    uint64_t n_threads = lds_threads_available();
    lds_team team = {.work = work, .ctx = r};
    lds_status status =
        lds_team_run(&team, (uint32_t)(n_threads < r->n_blocks ? n_threads : r->n_blocks), err);
    if (!status)
        place_pieces(r);
    lds_storage_release(r->arena);
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

static lds_status refill_params(refill *r, lds_param *params, size_t n_params, lds_error *err)
{
    LDS_TRY(lds_calloc(&r->pieces, n_params, sizeof *r->pieces, err));
    lds_status status = LDS_OK;
    for (size_t i = 0; i < n_params && !status; i++)
        if (changes(r, &params[i]))
            status = add_piece(r, &params[i], err);
    if (!status && r->n_pieces)
        status = run(r, err);
    free(r->pieces);
    return status;
}

lds_status lds_refill_convert(lds_param *params, size_t n_params, lds_dtype dtype, lds_error *err)
{
    refill r = {.dtype = dtype};
    return refill_params(&r, params, n_params, err);
}

lds_status lds_refill_init(lds_param *params, size_t n_params, uint64_t seed, lds_error *err)
{
    refill r = {.seed = seed};
    return refill_params(&r, params, n_params, err);
}
