/*
 * Workers that read and convert.
 *
 * Blocks are claimed a few at a time, in file order, so that the disk sees one stream and two workers seldom
 * meet in one huge page of fresh memory, where one would wait while the other's page is zeroed. A block that is
 * one piece and needs no conversion is read straight into its parameter; any other goes through a buffer that
 * stays in cache.
 */
#include "src/load/transfer.h"

#include <time.h>

#include "src/base/threads.h"
#include "src/dtype/stream.h"
#include "src/io/source.h"

enum { CLAIM_BLOCKS = 8, MAX_DEPTH = 64, POPULATE_NBYTES = 16 << 20 };

uint64_t lds_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint8_t *lds_target_data(const lds_transfers *transfers, const lds_target *target)
{
    switch ((lds_place)target->place) {
    case LDS_PLACE_MAPPED:
        return (uint8_t *)transfers->mappings[target->file]->data +
               (target->offset - transfers->map_offsets[target->file]);
    case LDS_PLACE_CALLERS: return target->param->data;
    default: return (uint8_t *)transfers->arena->data + target->offset;
    }
}

/* Blocks for a team to share out. */
typedef struct queue {
    lds_transfers *transfers;
    lds_blocks blocks;
    atomic_size_t next;
} queue;

/* A worker's share of the queue: the blocks that it has claimed and not yet begun. */
typedef struct claim {
    size_t at, end;
} claim;

static const lds_block *take(queue *q, claim *c)
{
    if (c->at == c->end) {
        c->at = atomic_fetch_add_explicit(&q->next, CLAIM_BLOCKS, memory_order_relaxed);
        c->end = c->at + CLAIM_BLOCKS;
    }
    return c->at < q->blocks.n ? &q->blocks.data[c->at++] : NULL;
}

static const lds_file *file_of(const queue *q, const lds_block *block)
{
    return &q->transfers->plan->checkpoint->files[block->file];
}

/* The name of the tensor at a block's beginning, for messages. */
static lds_status fail_in_block(const queue *q, const lds_block *block, lds_status status, lds_error *err)
{
    const lds_plan *plan = q->transfers->plan;
    const lds_tensor *tensor = &plan->checkpoint->tensors[plan->runs[block->first_run].tensor];
    return lds_error_context(err, status, file_of(q, block)->path, tensor->name.text);
}

static lds_status run_team(queue *q, lds_status (*work)(void *, uint32_t, const atomic_bool *, lds_error *),
                           uint32_t n_threads, lds_error *err)
{
    lds_team team = {work, q, q->transfers->tick, q->transfers->tick_ctx};
    size_t n_claims = (q->blocks.n + CLAIM_BLOCKS - 1) / CLAIM_BLOCKS;
    return q->blocks.n ? lds_team_run(&team, n_claims < n_threads ? (uint32_t)n_claims : n_threads, err)
                       : LDS_OK;
}

/* ------------------------------------------------------------------------------------------------------- */

static lds_status populate_worker(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker;
    queue *q = ctx;
    lds_transfers *t = q->transfers;
    claim c = {0};
    for (const lds_block *b; !atomic_load_explicit(stop, memory_order_relaxed) && (b = take(q, &c));) {
        uint8_t *data = (uint8_t *)t->mappings[b->file]->data + (b->offset - t->map_offsets[b->file]);
        lds_status status = lds_map_populate(data, (size_t)b->nbytes, file_of(q, b)->fd, b->offset, err);
        if (status)
            return fail_in_block(q, b, status, err);
        atomic_fetch_add_explicit(t->done_nbytes, b->nbytes, memory_order_relaxed);
    }
    return LDS_OK;
}

lds_status lds_transfers_populate(lds_transfers *transfers, lds_error *err)
{
    queue q = {.transfers = transfers};
    lds_status status = lds_blocks_cut(&q.blocks, transfers->plan, true, POPULATE_NBYTES, err);
    if (!status)
        status = run_team(&q, populate_worker, transfers->plan->max_threads, err);
    free(q.blocks.data);
    return status;
}

/* ------------------------------------------------------------------------------------------------------- */

/* One read of a worker, and where its bytes go until they are converted. */
typedef struct slot {
    lds_read read;
    const lds_block *block;
    lds_storage *buffer; /* made when first needed */
} slot;

typedef struct reading {
    queue *q;
    const lds_source *source;
    lds_reader *reader;
    claim claim;
    uint32_t n_in_flight;
    uint32_t n_free;
    slot slots[MAX_DEPTH];
    slot *free_slots[MAX_DEPTH];
    uint64_t read_ns, convert_ns;
} reading;

static const lds_target *target_of(const lds_plan *plan, const lds_run *run)
{
    return &plan->targets[run->target];
}

/* Where a piece's first element goes. */
static uint8_t *piece_data(const lds_transfers *t, const lds_piece *piece)
{
    const lds_target *target = target_of(t->plan, piece->run);
    const lds_tensor *tensor = &t->plan->checkpoint->tensors[piece->run->tensor];
    uint64_t into_run = piece->run_nbytes_before;
    if (tensor->dtype != target->dtype)
        into_run = into_run / (lds_dtype_bits((lds_dtype)tensor->dtype) / 8) *
                   (lds_dtype_bits((lds_dtype)target->dtype) / 8);
    return lds_target_data(t, target) + piece->run->param_offset + into_run;
}

/* Where a block can be read to without a buffer, or NULL. */
static uint8_t *direct_data(const lds_transfers *t, const lds_block *block)
{
    lds_piece piece = {0};
    if (!lds_block_next(block, t->plan, &piece) || piece.nbytes != block->nbytes)
        return NULL;
    const lds_tensor *tensor = &t->plan->checkpoint->tensors[piece.run->tensor];
    return tensor->dtype == target_of(t->plan, piece.run)->dtype ? piece_data(t, &piece) : NULL;
}

static void convert_block(const lds_transfers *t, const lds_block *block, const uint8_t *bytes)
{
    for (lds_piece piece = {0}; lds_block_next(block, t->plan, &piece);) {
        const lds_target *target = target_of(t->plan, piece.run);
        lds_dtype src = (lds_dtype)t->plan->checkpoint->tensors[piece.run->tensor].dtype;
        lds_dtype dst = (lds_dtype)target->dtype;
        const uint8_t *from = bytes + (piece.offset - block->offset);
        uint8_t *to = piece_data(t, &piece);
        if (src == dst)
            memcpy(to, from, (size_t)piece.nbytes);
        else if (target->place == LDS_PLACE_CALLERS || t->has_callers_arena)
            lds_convert_stream(to, dst, from, src, (size_t)piece.nbytes / (lds_dtype_bits(src) / 8));
        else
            lds_convert_kernel(dst, src)(to, from, (size_t)piece.nbytes / (lds_dtype_bits(src) / 8));
    }
}

static lds_status begin_block(reading *r, const lds_block *block, lds_error *err)
{
    slot *s = r->free_slots[--r->n_free];
    s->block = block;
    void *data = direct_data(r->q->transfers, block);
    if (!data && !s->buffer)
        LDS_TRY(lds_storage_new(&s->buffer, r->q->transfers->plan->block_nbytes, NULL, err));
    s->read = (lds_read){file_of(r->q, block)->fd, block->offset, (size_t)block->nbytes,
                         data ? data : s->buffer->data};
    LDS_TRY(r->source->submit(r->reader, &s->read, err));
    r->n_in_flight++;
    return LDS_OK;
}

static lds_status finish_block(reading *r, lds_error *err)
{
    lds_transfers *t = r->q->transfers;
    lds_read *read;
    uint64_t t0 = lds_now_ns();
    lds_status status = r->source->wait(r->reader, &read, err);
    uint64_t t1 = lds_now_ns();
    slot *s = (slot *)read; /* its first member */
    r->n_in_flight--;
    r->free_slots[r->n_free++] = s;
    if (status)
        return fail_in_block(r->q, s->block, status, err);
    if (s->buffer && read->data == s->buffer->data)
        convert_block(t, s->block, read->data);
    r->read_ns += t1 - t0;
    r->convert_ns += lds_now_ns() - t1;
    atomic_fetch_add_explicit(t->done_nbytes, s->block->nbytes, memory_order_relaxed);
    return LDS_OK;
}

static lds_status read_blocks(reading *r, const atomic_bool *stop, lds_error *err)
{
    bool more = true;
    while (more || r->n_in_flight) {
        while (more && r->n_free) {
            const lds_block *block =
                atomic_load_explicit(stop, memory_order_relaxed) ? NULL : take(r->q, &r->claim);
            more = block;
            if (block)
                LDS_TRY(begin_block(r, block, err));
        }
        if (r->n_in_flight)
            LDS_TRY(finish_block(r, err));
    }
    return LDS_OK;
}

static lds_status read_worker(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker;
    queue *q = ctx;
    reading r = {.q = q, .source = &lds_source_pread};
    LDS_TRY(r.source->open(&r.reader, err));
    for (uint32_t i = 0; i < r.source->depth && i < MAX_DEPTH; i++)
        r.free_slots[r.n_free++] = &r.slots[i];
    lds_status status = read_blocks(&r, stop, err);
    while (r.n_in_flight) /* the memory that they read into must not go before they are done */
        (void)!finish_block(&r, NULL);
    r.source->close(r.reader);
    for (uint32_t i = 0; i < MAX_DEPTH; i++)
        lds_storage_release(r.slots[i].buffer);
    atomic_fetch_add(&q->transfers->read_ns, r.read_ns);
    atomic_fetch_add(&q->transfers->convert_ns, r.convert_ns);
    return status;
}

lds_status lds_transfers_read(lds_transfers *transfers, lds_error *err)
{
    queue q = {.transfers = transfers};
    lds_status status = lds_blocks_cut(&q.blocks, transfers->plan, false, transfers->plan->block_nbytes, err);
    if (!status)
        status = run_team(&q, read_worker, transfers->plan->n_threads, err);
    free(q.blocks.data);
    return status;
}
