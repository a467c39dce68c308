/*
 * Workers that read and convert.
 *
 * Blocks are claimed a few at a time, in file order, so that the disk sees one stream and two workers seldom meet
 * in one huge page of fresh memory. A block that is one piece and needs no conversion is read straight into its
 * parameter; any other is converted from where the page cache has it, or goes through a buffer that stays in cache.
 */
#include "src/load/transfer.h"

#include <errno.h>
#include <fcntl.h>

#include "src/base/clock.h"
#include "src/base/threads.h"
#include "src/dtype/stream.h"
#include "src/io/source.h"

enum { CLAIM_NBYTES = 16 << 20 };

/* Of mapped pages: what is made present at once, and what threads wait for, so many each. */
enum { POPULATE_NBYTES = 16 << 20, AWAIT_NBYTES = 4 << 20, AWAIT_DEPTH = 8 };

/*
 * Where threads have to wait for reads. A few of some MiB keep a disk busy, and threads that it answers at the same
 * time run at the same time, whatever the quota, to copy what has come in.
 */
enum { LOCAL_IO_THREADS = 8 };

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
    bool is_mapped; /* their pages are made present; else they are read */
    lds_blocks blocks;
    size_t claim_blocks; /* that a worker takes at a time */
    lds_input *input;
    atomic_size_t next;
    atomic_bool give_way;
    atomic_uint n_working, most_working; /* workers, now and at any time */
} queue;

/* A worker's share of the queue: the blocks that it has claimed and not yet begun. */
typedef struct claim {
    size_t at, end;
} claim;

static const lds_block *take(queue *q, claim *c)
{
    if (c->at == c->end) {
        if (lds_team_gives_way(&q->give_way))
            return NULL;
        c->at = atomic_fetch_add_explicit(&q->next, q->claim_blocks, memory_order_relaxed);
        c->end = c->at + q->claim_blocks;
    }
    return c->at < q->blocks.n ? &q->blocks.data[c->at++] : NULL;
}

static const lds_file *file_of(const queue *q, const lds_block *block)
{
    return &q->transfers->plan->checkpoint->files[block->file];
}

/* The file, and the tensor at the block's beginning, are put before the message. */
static lds_status fail_in_block(const queue *q, const lds_block *block, lds_status status, lds_error *err)
{
    const lds_plan *plan = q->transfers->plan;
    const lds_tensor *tensor = &plan->checkpoint->tensors[plan->runs[block->first_run].tensor];
    return lds_error_context(err, status, file_of(q, block)->path, tensor->name.text);
}

static lds_status run_team(queue *q, lds_status (*work)(void *, uint32_t, const atomic_bool *, lds_error *),
                           uint32_t n_threads, lds_error *err)
{
    lds_team team = {work, q, q->transfers->tick, q->transfers->tick_ctx, &q->give_way};
    /* Fewer at a time where there are few: all workers are to have some, and to end together. */
    size_t share = q->blocks.n / n_threads / 4, most = CLAIM_NBYTES / q->blocks.most_nbytes;
    q->claim_blocks = share < most ? share : most;
    q->claim_blocks += !q->claim_blocks;
    return q->blocks.n ? lds_team_run(&team, q->blocks.n, n_threads, err) : LDS_OK;
}

/* ------------------------------------------------------------------------------------------------------- */

static lds_lane lane_of(const lds_transfers *t, uint32_t worker)
{
    return (lds_lane){.trace = t->trace, .load = t->trace_load, .number = worker + 1};
}

/* It is a wish: a file system that does not know it reads when it is read from. */
static lds_status prefetch_worker(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker, (void)err;
    queue *q = ctx;
    claim c = {0};
    for (const lds_block *b; !atomic_load_explicit(stop, memory_order_relaxed) && (b = take(q, &c));)
        posix_fadvise(file_of(q, b)->fd, (off_t)b->offset, (off_t)b->nbytes, POSIX_FADV_WILLNEED);
    return LDS_OK;
}

lds_status lds_transfers_prefetch(lds_transfers *transfers, lds_error *err)
{
    lds_status status = LDS_OK;
    for (int mapped = 0; mapped < 2 && !status; mapped++) {
        queue q = {.transfers = transfers};
        const lds_cut cut = {.block_nbytes = POPULATE_NBYTES, .mapped = mapped};
        status = lds_blocks_cut(&q.blocks, transfers->plan, &cut, err);
        if (!status)
            status = run_team(&q, prefetch_worker, transfers->plan->max_threads, err);
        free(q.blocks.data);
    }
    return status;
}

/* ------------------------------------------------------------------------------------------------------- */

typedef struct reading {
    queue *q;
    lds_reader *reader;
    claim claim;
    uint64_t read_ns, convert_ns;
    lds_lane lane;
} reading;

static const lds_target *target_of(const lds_plan *plan, const lds_run *run)
{
    return &plan->targets[run->target];
}

/* The byte of its parameter that a piece begins at, */
static uint64_t piece_begin(const lds_transfers *t, const lds_piece *piece)
{
    return piece->run->param_offset + lds_run_param_nbytes(piece->run, t->plan, piece->run_nbytes_before);
}

/* and where that is. */
static uint8_t *piece_data(const lds_transfers *t, const lds_piece *piece)
{
    return lds_target_data(t, target_of(t->plan, piece->run)) + piece_begin(t, piece);
}

/* Whether a target's memory was probably used before, or is as if it had been. */
static bool was_used(const lds_transfers *t, const lds_target *target)
{
    return target->place == LDS_PLACE_CALLERS || target->offset < t->used_nbytes;
}

/* Whether the arena's pages have to be asked for. */
static bool is_limited(const lds_transfers *t)
{
    return t->arena && t->arena->is_limited;
}

/*
 * For a trace, which is to tell page faults from conversion, and where they may be refused, fresh pages are asked for
 * before the block is read. Otherwise they come in one by one as they are written to, which takes some percent less
 * time: a page that was just cleared is still in cache then. Parameters lie in the arena in the order of the file, so
 * that what lies between a block's is little. What a direct read takes in beside its block is in the same pages.
 */
static lds_status populate_block(reading *r, const lds_block *block, lds_error *err)
{
    const lds_transfers *t = r->q->transfers;
    uint64_t began = lds_now_ns();
    uint8_t *begin = NULL, *end = NULL;
    for (lds_piece piece = {0}; lds_block_next(block, t->plan, &piece);) {
        const lds_target *target = target_of(t->plan, piece.run);
        if (is_limited(t) ? target->place == LDS_PLACE_CALLERS : was_used(t, target))
            continue;
        uint8_t *first = piece_data(t, &piece);
        uint8_t *last = first + lds_run_param_nbytes(piece.run, t->plan, piece.nbytes);
        begin = begin && begin < first ? begin : first;
        end = end > last ? end : last;
    }
    if (begin < end)
        LDS_TRY(lds_storage_populate(t->arena, begin, (size_t)(end - begin), err));
    lds_lane_add(&r->lane, "page faults", began, lds_now_ns(), 0);
    return LDS_OK;
}

/* What a block is read to without a buffer. */
typedef struct destination {
    uint8_t *data; /* NULL if it needs one */
    bool is_arenas;
    bool is_in_stretch; /* all of it */
    bool is_used;       /* all of it is memory that was used before */
} destination;

static destination destination_of(const lds_transfers *t, const lds_block *block)
{
    destination d = {.is_arenas = true, .is_in_stretch = true, .is_used = true};
    uint64_t end = block->offset;
    for (lds_piece piece = {0}; lds_block_next(block, t->plan, &piece); end = piece.offset + piece.nbytes) {
        const lds_tensor *tensor = &t->plan->checkpoint->tensors[piece.run->tensor];
        uint8_t *at = piece_data(t, &piece);
        const lds_target *target = target_of(t->plan, piece.run);
        d.data = d.data ? d.data : at;
        d.is_arenas &= target->place == LDS_PLACE_ARENA;
        d.is_in_stretch &= target->is_in_stretch;
        d.is_used &= was_used(t, target);
        if (tensor->dtype != target->dtype || piece.offset != end ||
            at != d.data + (size_t)(end - block->offset))
            return (destination){0};
    }
    return d;
}

static void convert_piece(const lds_transfers *t, const lds_piece *piece, const uint8_t *from)
{
    const lds_target *target = target_of(t->plan, piece->run);
    lds_dtype src = (lds_dtype)t->plan->checkpoint->tensors[piece->run->tensor].dtype;
    lds_dtype dst = (lds_dtype)target->dtype;
    uint8_t *to = piece_data(t, piece);
    if (src == dst) {
        if (was_used(t, target))
            lds_copy_stream(to, from, (size_t)piece->nbytes);
        else
            memcpy(to, from, (size_t)piece->nbytes);
        return;
    }
    size_t n = (size_t)piece->nbytes / (lds_dtype_bits(src) / 8);
    if (was_used(t, target))
        lds_convert_stream(to, dst, from, src, n);
    else
        lds_convert_elements(to, dst, from, src, n);
}

static void convert_block(const lds_transfers *t, const lds_block *block, const uint8_t *bytes)
{
    for (lds_piece piece = {0}; lds_block_next(block, t->plan, &piece);)
        convert_piece(t, &piece, bytes + (piece.offset - block->offset));
}

/* Give the cache's entry its part while it is in this core's cache. */
static void keep_block(const lds_transfers *t, const lds_block *block)
{
    for (lds_piece piece = {0}; lds_block_next(block, t->plan, &piece);)
        if (lds_cache_keeps(target_of(t->plan, piece.run)))
            lds_cache_write_part(t->cache_write, piece.run->target, piece_begin(t, &piece),
                                 piece_data(t, &piece),
                                 lds_run_param_nbytes(piece.run, t->plan, piece.nbytes));
}

static void aim_at_mapping(const lds_transfers *t, lds_read *read, const lds_block *block)
{
    read->is_populate = true;
    read->storage = t->mappings[block->file];
    read->data = (uint8_t *)read->storage->data + (block->offset - t->map_offsets[block->file]);
}

/* To hold their pages for the reads to come, the kernel has them all present: that takes as long as page faults. */
static lds_status make_buffers(reading *r, lds_error *err)
{
    uint64_t began = lds_now_ns();
    size_t nbytes = (size_t)r->q->transfers->plan->block_nbytes + 2 * LDS_DIRECT_NBYTES;
    LDS_TRY(lds_reader_make_buffers(r->reader, nbytes, err));
    lds_lane_add(&r->lane, "page faults", began, lds_now_ns(), 0);
    return LDS_OK;
}

/* Say where the bytes of a block go: to where they stay, or to a buffer of the read's own. */
static lds_status aim(reading *r, lds_read *read, const lds_block *block, destination d, lds_error *err)
{
    const lds_transfers *t = r->q->transfers;
    size_t into_unit = block->offset % LDS_DIRECT_NBYTES;
    bool is_direct = lds_input_is_direct(r->q->input, block->file);
    read->has_margins = d.is_in_stretch && (uintptr_t)d.data % LDS_DIRECT_NBYTES == into_unit;
    read->storage = d.is_arenas && !t->is_callers_arena ? t->arena : NULL;
    read->data = d.data;
    if (d.data && (read->has_margins || !is_direct))
        return LDS_OK;
    if (!read->buffer)
        LDS_TRY(make_buffers(r, err));
    read->storage = read->buffers;
    read->has_margins = is_direct;
    read->data = read->buffer + (is_direct ? into_unit : 0);
    return LDS_OK;
}

/* What there is to do with a block once its bytes are where they belong. */
static void settle_block(reading *r, const lds_block *block, uint64_t converted_ns)
{
    lds_transfers *t = r->q->transfers;
    if (t->cache_write) {
        keep_block(t, block);
        lds_lane_add(&r->lane, "cache", converted_ns, lds_now_ns(), block->nbytes);
    }
    atomic_fetch_add_explicit(t->done_nbytes, block->run_nbytes, memory_order_relaxed);
}

/* Convert a block from where the page cache has it. False if it is to be read, for whatever reason. */
static bool convert_view(reading *r, const lds_block *block)
{
    const lds_transfers *t = r->q->transfers;
    uint64_t t0 = lds_now_ns();
    const uint8_t *bytes = lds_input_view(r->q->input, block->file, block->offset, (size_t)block->nbytes);
    if (!bytes)
        return false;
    uint64_t t1 = lds_now_ns();
    convert_block(t, block, bytes);
    uint64_t t2 = lds_now_ns();
    if (!lds_input_end_view(r->q->input, block->file, block->offset, (size_t)block->nbytes))
        return false;
    r->read_ns += t1 - t0;
    r->convert_ns += t2 - t1;
    lds_lane_add(&r->lane, "read", t0, t1, block->nbytes);
    lds_lane_add(&r->lane, "convert", t1, t2, block->nbytes);
    settle_block(r, block, t2);
    return true;
}

static lds_status finish_block(reading *r, const atomic_bool *stop, lds_error *err)
{
    lds_transfers *t = r->q->transfers;
    lds_read *read;
    uint64_t t0 = lds_now_ns();
    lds_status status = lds_reader_wait(r->reader, &read, stop, err);
    uint64_t t1 = lds_now_ns();
    r->read_ns += t1 - t0;
    lds_lane_add(&r->lane, "wait", t0, t1, 0);
    if (!read)
        return status;
    const lds_block *block = read->tag;
    if (status)
        return fail_in_block(r->q, block, status, err);
    if (read->buffer && read->storage == read->buffers)
        convert_block(t, block, read->data);
    uint64_t t2 = lds_now_ns();
    r->convert_ns += t2 - t1;
    lds_lane_add(&r->lane, "convert", t1, t2, block->nbytes);
    settle_block(r, block, t2);
    return LDS_OK;
}

static lds_status begin_read(reading *r, lds_read *read, const lds_block *block, const atomic_bool *stop,
                             lds_error *err)
{
    read->file = block->file;
    read->offset = block->offset;
    read->nbytes = (size_t)block->nbytes;
    read->tag = block;
    uint64_t t0 = lds_now_ns();
    bool is_done = lds_reader_submit(r->reader, read);
    uint64_t t1 = lds_now_ns();
    r->read_ns += t1 - t0;
    lds_lane_add(&r->lane, r->q->is_mapped ? "page faults" : "read", t0, t1, block->nbytes);
    /* What is there already is converted while it is in this core's cache. */
    return is_done ? finish_block(r, stop, err) : LDS_OK;
}

static lds_status begin_block(reading *r, const lds_block *block, const atomic_bool *stop, lds_error *err)
{
    const lds_transfers *t = r->q->transfers;
    lds_read *read = lds_reader_idle(r->reader);
    if (r->q->is_mapped) {
        aim_at_mapping(t, read, block);
        return begin_read(r, read, block, stop, err);
    }
    if (r->lane.trace || is_limited(t))
        LDS_TRY(populate_block(r, block, err));
    const destination d = destination_of(t, block);
    /* What is copied as it is the kernel copies as well, but into memory that was used before our stores are better. */
    bool is_better_viewed = t->plan->choice.kind == LDS_SOURCE_VIEW && (!d.data || d.is_used);
    if (is_better_viewed && convert_view(r, block))
        return LDS_OK;
    LDS_TRY(aim(r, read, block, d, err));
    return begin_read(r, read, block, stop, err);
}

static lds_status read_blocks(reading *r, const atomic_bool *stop, lds_error *err)
{
    bool more = true;
    while (more || lds_reader_n_under_way(r->reader)) {
        while (more && lds_reader_idle(r->reader)) {
            const lds_block *block =
                atomic_load_explicit(stop, memory_order_relaxed) ? NULL : take(r->q, &r->claim);
            more = block;
            if (block)
                LDS_TRY(begin_block(r, block, stop, err));
        }
        if (lds_reader_n_under_way(r->reader))
            LDS_TRY(finish_block(r, stop, err));
    }
    return LDS_OK;
}

static void count_in(queue *q)
{
    unsigned n = atomic_fetch_add(&q->n_working, 1) + 1, most = atomic_load(&q->most_working);
    while (n > most && !atomic_compare_exchange_weak(&q->most_working, &most, n))
        continue;
}

static lds_status read_worker(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    queue *q = ctx;
    reading r = {.q = q, .lane = lane_of(q->transfers, worker)};
    LDS_TRY(lds_reader_open(&r.reader, q->input, err));
    count_in(q);
    lds_status status = read_blocks(&r, stop, err);
    atomic_fetch_sub(&q->n_working, 1);
    lds_reader_close(r.reader);
    lds_lane_end(&r.lane);
    if (!q->is_mapped) {
        atomic_fetch_add(&q->transfers->read_ns, r.read_ns);
        atomic_fetch_add(&q->transfers->convert_ns, r.convert_ns);
    }
    return status;
}

/* An input for the files that the blocks are in. */
static lds_status open_input(queue *q, lds_input_options *options, lds_error *err)
{
    const lds_checkpoint *checkpoint = q->transfers->plan->checkpoint;
    bool *is_needed;
    LDS_TRY(lds_calloc(&is_needed, checkpoint->n_files, sizeof *is_needed, err));
    for (size_t i = 0; i < q->blocks.n; i++)
        is_needed[q->blocks.data[i].file] = true;
    options->files = checkpoint->files;
    options->n_files = checkpoint->n_files;
    options->is_needed = is_needed;
    lds_status status = lds_input_new(&q->input, options, err);
    free(is_needed);
    return status;
}

static lds_status read_all(queue *q, lds_error *err)
{
    lds_plan *plan = q->transfers->plan;
    lds_input_options options = {
        .kind = plan->choice.kind,
        .depth = plan->depth,
        .max_threads = plan->choice.is_remote ? LDS_MAX_IO_THREADS : LOCAL_IO_THREADS,
        .is_resident = plan->choice.is_resident,
        .is_remote = plan->choice.is_remote,
        .looks_first = plan->choice.looks_first,
        .keep_cache = plan->keep_cache,
    };
    const lds_cut cut = {
        .block_nbytes = plan->block_nbytes,
        .unit_nbytes = plan->choice.is_resident ? 0 : LDS_DIRECT_NBYTES,
    };
    LDS_TRY(lds_blocks_cut(&q->blocks, plan, &cut, err));
    LDS_TRY(open_input(q, &options, err));
    lds_status status = run_team(q, read_worker, plan->n_threads, err);
    plan->report->stats.n_threads = atomic_load(&q->most_working);
    const char *fallback = lds_input_fallback(q->input);
    if (fallback)
        plan->report->stats.fallback = fallback;
    lds_plan_name_source(plan, lds_input_kind(q->input));
    lds_input_close(q->input);
    return status;
}

/*
 * Not over a network, where many small requests do better; nor for a few tensors among others, since a first use that
 * brings in 4 MiB would bring in those, too.
 */
static bool fault_by_huge_pages(const lds_transfers *t)
{
    const lds_checkpoint *checkpoint = t->plan->checkpoint;
    uint64_t span_nbytes = 0;
    for (size_t f = 0; f < checkpoint->n_files; f++) {
        if (t->mappings[f] && checkpoint->files[f].fs != LDS_FS_LOCAL)
            return false;
        span_nbytes += t->mappings[f] ? t->mappings[f]->nbytes : 0;
    }
    if (t->plan->stats.mapped_nbytes < span_nbytes / 8 * 7)
        return false;
    for (size_t f = 0; f < checkpoint->n_files; f++)
        if (t->mappings[f] && !lds_map_fault_by_huge_pages(t->mappings[f]->data, t->mappings[f]->nbytes))
            return false;
    return true;
}

static lds_status populate_all(queue *q, lds_error *err)
{
    const lds_plan *plan = q->transfers->plan;
    bool has_huge_faults = plan->awaits_mapped && fault_by_huge_pages(q->transfers);
    lds_input_options options = {
        .kind = LDS_SOURCE_READ,
        .depth = AWAIT_DEPTH,
        .max_threads = LDS_MAX_IO_THREADS,
        .is_resident = !plan->awaits_mapped,
        .has_huge_faults = has_huge_faults,
        .keep_cache = true,
    };
    const lds_cut cut = {
        .block_nbytes = plan->awaits_mapped ? AWAIT_NBYTES : POPULATE_NBYTES,
        .unit_nbytes = has_huge_faults ? LDS_HUGE_PAGE_NBYTES : lds_page_nbytes(),
        .mapped = true,
    };
    LDS_TRY(lds_blocks_cut(&q->blocks, plan, &cut, err));
    if (!q->blocks.n)
        return LDS_OK;
    lds_error why = LDS_ERROR_INIT;
    lds_status status = open_input(q, &options, &why);
    if (status && why.os_errno == EMFILE) { /* a set of many files: what is mapped already can do without */
        plan->report->stats.fallback = "too few descriptors: pages are read on first use";
        atomic_fetch_add(q->transfers->done_nbytes, plan->stats.mapped_nbytes); /* no more is to come */
        return LDS_OK;
    }
    if (status)
        return lds_error_take(err, status, &why);
    status = run_team(q, read_worker, plan->max_threads, err);
    lds_input_close(q->input);
    return status;
}

lds_status lds_transfers_populate(lds_transfers *transfers, lds_error *err)
{
    queue q = {.transfers = transfers, .is_mapped = true};
    lds_status status = populate_all(&q, err);
    free(q.blocks.data);
    return status;
}

lds_status lds_transfers_read(lds_transfers *transfers, lds_error *err)
{
    queue q = {.transfers = transfers};
    if (!transfers->plan->stats.read_nbytes)
        return LDS_OK;
    lds_status status = read_all(&q, err);
    free(q.blocks.data);
    return status;
}
