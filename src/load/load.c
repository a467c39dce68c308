/*
 * Loading: plan, memory, transfers, and only then the parameters.
 *
 * All that can fail comes before the first parameter is touched: memory is taken, files are mapped, bytes are
 * read and converted into memory that no parameter knows of yet. What remains is to put each parameter into its
 * place, which cannot fail. Parameters in the caller's memory are the exception, since they are where they are:
 * when a load fails after it began to write, they lose their storage.
 */
#include "src/base/clock.h"
#include "src/dtype/dtype.h"
#include "src/load/cache.h"
#include "src/load/room.h"
#include "src/load/transfer.h"
#include "src/network/pool.h"
#include "src/network/refill.h"

enum { CHECKED_NBYTES = 16 << 20 };

typedef struct load {
    lds_plan *plan;
    const lds_load_options *options;
    lds_transfers transfers;
    lds_cache cache;
    lds_transfers cached; /* from the cache's entry, if there is one */
    uint64_t started_ns;
    uint64_t lap_ns; /* when the last phase ended */
    lds_lane lane;   /* of the calling thread */
    uint64_t total_nbytes;
    _Atomic uint64_t done_nbytes;
    lds_room room;
    bool touched_callers; /* bytes may have been written into the caller's memory */
} load;

static double seconds_since(uint64_t start_ns)
{
    return (double)(lds_now_ns() - start_ns) / 1e9;
}

/*
 * End a phase, which has come to status: what has passed since the last one ended is its time, so that all add up to
 * the whole. One that failed is in a trace, too.
 */
static lds_status end_phase(load *l, const char *name, double *seconds, lds_status status)
{
    uint64_t now = lds_now_ns();
    lds_lane_add(&l->lane, name, l->lap_ns, now, 0);
    *seconds += (double)(now - l->lap_ns) / 1e9;
    l->lap_ns = now;
    return status;
}

static int tick(void *ctx)
{
    load *l = ctx;
    const lds_progress progress = {
        .struct_size = sizeof progress,
        .done_nbytes = atomic_load_explicit(&l->done_nbytes, memory_order_relaxed),
        .total_nbytes = l->total_nbytes,
        .seconds = seconds_since(l->started_ns),
    };
    return l->options->progress(l->options->progress_ctx, &progress);
}

/* Map each file that has mapped targets, from the first byte of the first one to the last of the last. */
static lds_status map_files(lds_transfers *transfers, lds_error *err)
{
    const lds_plan *plan = transfers->plan;
    size_t n_files = plan->checkpoint->n_files;
    uint64_t page_nbytes = lds_page_nbytes(), *ends;
    LDS_TRY(lds_calloc(&transfers->mappings, n_files, sizeof *transfers->mappings, err));
    LDS_TRY(lds_calloc(&transfers->map_offsets, n_files, sizeof *transfers->map_offsets, err));
    LDS_TRY(lds_calloc(&ends, n_files, sizeof *ends, err));
    for (size_t i = 0; i < plan->n_targets; i++) {
        const lds_target *t = &plan->targets[i];
        if (t->place != LDS_PLACE_MAPPED)
            continue;
        if (!ends[t->file]) /* targets are in file order */
            transfers->map_offsets[t->file] = t->offset & ~(page_nbytes - 1);
        ends[t->file] = t->offset + t->nbytes;
    }
    lds_status status = LDS_OK;
    for (size_t f = 0; f < n_files && !status; f++) {
        const lds_file *file = &plan->checkpoint->files[f];
        uint64_t offset = transfers->map_offsets[f];
        if (!ends[f])
            continue;
        status = lds_storage_map(&transfers->mappings[f], file->fd, offset, ends[f] - offset, err);
        if (status)
            lds_error_context(err, status, file->path, NULL);
    }
    free(ends);
    return status;
}

/*
 * Refuse what there is no room for, while the error can still be told. What is too small to matter is not looked at,
 * which would take longer than the load.
 */
static lds_status check_room(load *l, lds_error *err)
{
    const lds_load_options *o = l->options;
    uint64_t needed = l->plan->arena_nbytes, idle = o->pool ? lds_pool_idle_nbytes(o->pool) : 0;
    needed = l->plan->stats.peak_nbytes - (idle < needed ? idle : needed);
    if (o->overcommit || o->allocator || o->hugetlb || needed < CHECKED_NBYTES)
        return LDS_OK;
    uint64_t read_nbytes = l->plan->stats.read_nbytes;
    l->room = (lds_room){
        .nbytes = needed,
        .window_nbytes = l->plan->stats.peak_nbytes - l->plan->arena_nbytes,
        .least_window_nbytes = (uint64_t)o->n_threads * LDS_MIN_WINDOW_NBYTES,
        .done = &l->done_nbytes,
        .begin_done = l->total_nbytes > read_nbytes ? l->total_nbytes - read_nbytes : 0, /* mapped before */
        .end_done = l->total_nbytes,
    };
    return lds_room_take(&l->room, err);
}

static lds_status take_huge_pages(load *l, uint64_t nbytes, lds_error *err)
{
    LDS_TRY(lds_storage_new_hugetlb(&l->transfers.arena, nbytes, err));
    /* A block's pages that are asked for together are out of cache when they are filled. */
    l->transfers.used_nbytes = l->transfers.arena->is_limited ? nbytes : 0;
    return LDS_OK;
}

static lds_status take_arena(load *l, lds_error *err)
{
    uint64_t nbytes = l->plan->arena_nbytes;
    LDS_TRY(check_room(l, err));
    if (l->options->pool)
        return lds_pool_take(&l->transfers.arena, &l->transfers.used_nbytes, l->options->pool, nbytes, err);
    if (l->options->hugetlb)
        return take_huge_pages(l, nbytes, err);
    l->transfers.is_callers_arena = l->options->allocator;
    l->transfers.used_nbytes = l->options->allocator ? UINT64_MAX : 0;
    return lds_storage_new(&l->transfers.arena, nbytes, l->options->allocator, err);
}

/* An entry's parameters without elements cannot be mapped, but have an address. */
static lds_status map_cached(load *l, lds_error *err)
{
    LDS_TRY(map_files(&l->cached, err));
    uint64_t nbytes = l->cache.plan->arena_nbytes;
    return nbytes ? lds_storage_new(&l->cached.arena, nbytes, NULL, err) : LDS_OK;
}

/* Pages of files, as far as the plan would have them present. */
static lds_status bring_in(lds_transfers *transfers, lds_error *err)
{
    if (transfers->plan->is_prefetched)
        LDS_TRY(lds_transfers_prefetch(transfers, err));
    return transfers->plan->is_lazy ? LDS_OK : lds_transfers_populate(transfers, err);
}

/* What its plan says of the system, too, is for the load's report. */
static lds_status bring_in_cached(load *l, lds_error *err)
{
    LDS_TRY(bring_in(&l->cached, err));
    const char *fallback = l->cache.plan->report->stats.fallback;
    if (fallback)
        l->plan->report->stats.fallback = fallback;
    return LDS_OK;
}

static lds_status take_memory(load *l, lds_error *err)
{
    if (l->plan->stats.mapped_nbytes)
        LDS_TRY(map_files(&l->transfers, err));
    if (l->cache.plan)
        LDS_TRY(map_cached(l, err));
    if (l->plan->arena_nbytes)
        LDS_TRY(take_arena(l, err));
    LDS_TRY(bring_in(&l->transfers, err));
    return l->cache.plan ? bring_in_cached(l, err) : LDS_OK;
}

static lds_status initialise(load *l, lds_error *err)
{
    const lds_plan *plan = l->plan;
    lds_fill *fills;
    size_t n = 0;
    LDS_TRY(lds_calloc(&fills, plan->n_targets, sizeof *fills, err));
    for (size_t i = 0; i < plan->n_targets; i++) {
        const lds_target *t = &plan->targets[i];
        if (t->place == LDS_PLACE_INIT)
            fills[n++] = (lds_fill){t->param, (lds_dtype)t->dtype, t->offset, 0};
    }
    const lds_fill_how how = {l->options->seed, l->options->n_threads, l->transfers.tick,
                              l->transfers.tick_ctx};
    lds_status status = n ? lds_fill_initial(fills, n, l->transfers.arena, &how, err) : LDS_OK;
    free(fills);
    return status;
}

static lds_status check_files(const lds_plan *plan, lds_error *err)
{
    for (size_t r = 0, checked = 0; r < plan->n_runs; r++) {
        uint32_t file = plan->checkpoint->tensors[plan->runs[r].tensor].file;
        if (file < checked)
            continue;
        LDS_TRY(lds_file_check_unchanged(&plan->checkpoint->files[file], err));
        checked = (size_t)file + 1;
    }
    return LDS_OK;
}

static lds_status check_all_files(const load *l, lds_error *err)
{
    LDS_TRY(check_files(l->plan, err));
    return l->cache.plan ? check_files(l->cache.plan, err) : LDS_OK;
}

static void place_params(const lds_transfers *transfers)
{
    for (size_t i = 0; i < transfers->plan->n_targets; i++) {
        const lds_target *t = &transfers->plan->targets[i];
        lds_storage *storage = t->place == LDS_PLACE_MAPPED ? transfers->mappings[t->file] : transfers->arena;
        if (t->place != LDS_PLACE_CALLERS)
            lds_param_place(t->param, lds_storage_retain(storage), lds_target_data(transfers, t),
                            (lds_dtype)t->dtype);
    }
}

static void release_memory(lds_transfers *transfers)
{
    if (transfers->mappings)
        for (size_t f = 0; f < transfers->plan->checkpoint->n_files; f++)
            lds_storage_release(transfers->mappings[f]);
    free(transfers->mappings);
    free(transfers->map_offsets);
    lds_storage_release(transfers->arena);
}

static void drop_callers(load *l)
{
    for (size_t i = 0; i < l->plan->n_targets; i++)
        if (l->plan->targets[i].place == LDS_PLACE_CALLERS)
            lds_param_place(l->plan->targets[i].param, NULL, NULL, (lds_dtype)l->plan->targets[i].dtype);
}

/* That it cannot be kept is no failure of the load. */
static lds_status note_not_stored(load *l, const lds_error *problem, lds_error *err)
{
    return lds_report_note_cache(l->plan->report, err, "not stored: %s", problem->message);
}

/* What the cache has need not be read. */
static lds_status look_into_cache(load *l, lds_error *err)
{
    lds_report *report = l->plan->report;
    if (!l->options->cache)
        return LDS_OK;
    lds_error problem = LDS_ERROR_INIT;
    LDS_TRY(lds_cache_find(&l->cache, l->plan, l->options, &problem, err));
    l->cached.plan = l->cache.plan;
    if (problem.code)
        return note_not_stored(l, &problem, err);
    return lds_report_note_cache(report, err, "%s", l->cache.plan ? "hit" : "nothing to store");
}

/* From here on workers write what they convert to the cache, too. */
static lds_status begin_cache_entry(load *l, lds_error *err)
{
    lds_error problem = LDS_ERROR_INIT;
    if (!l->cache.is_wanted)
        return LDS_OK;
    if (lds_cache_begin_entry(&l->cache, l->plan, l->options, &problem))
        return note_not_stored(l, &problem, err);
    l->transfers.cache_write = l->cache.write;
    return LDS_OK;
}

static lds_status finish_cache_entry(load *l, lds_error *err)
{
    lds_error problem = LDS_ERROR_INIT;
    if (!l->cache.write)
        return LDS_OK;
    lds_status status =
        lds_cache_write_finish(l->cache.write, l->transfers.tick, l->transfers.tick_ctx, &problem);
    if (status == LDS_ERR_CANCELLED)
        return lds_error_take(err, status, &problem);
    return status ? note_not_stored(l, &problem, err) : lds_report_note_cache(l->plan->report, err, "stored");
}

/* What progress is told of. */
static uint64_t nbytes_of(const lds_plan *plan)
{
    return plan->stats.read_nbytes + (plan->is_lazy ? 0 : plan->stats.mapped_nbytes);
}

/* The steps up to the point of no return, each with its time. */
static lds_status execute(load *l, lds_error *err)
{
    lds_report_stats *stats = &l->plan->report->stats;
    LDS_TRY(end_phase(l, "plan", &stats->plan_seconds, LDS_OK));
    LDS_TRY(end_phase(l, "cache", &stats->cache_seconds, look_into_cache(l, err)));
    l->total_nbytes = nbytes_of(l->plan) + (l->cache.plan ? nbytes_of(l->cache.plan) : 0);
    LDS_TRY(end_phase(l, "memory", &stats->memory_seconds, take_memory(l, err)));
    LDS_TRY(end_phase(l, "cache", &stats->cache_seconds, begin_cache_entry(l, err)));
    l->touched_callers = true;
    LDS_TRY(end_phase(l, "transfer", &stats->transfer_seconds, lds_transfers_read(&l->transfers, err)));
    stats->read_seconds = (double)atomic_load(&l->transfers.read_ns) / 1e9;
    stats->convert_seconds = (double)atomic_load(&l->transfers.convert_ns) / 1e9;
    LDS_TRY(end_phase(l, "init", &stats->init_seconds, initialise(l, err)));
    LDS_TRY(end_phase(l, "check", &stats->check_seconds, check_all_files(l, err)));
    LDS_TRY(end_phase(l, "cache", &stats->cache_seconds, finish_cache_entry(l, err)));
    if (l->options->progress && tick(l))
        return lds_fail_cancelled(err);
    stats->seconds = (double)(l->lap_ns - l->started_ns) / 1e9;
    return LDS_OK;
}

static lds_status finish(load *l, lds_error *err)
{
    lds_status status = execute(l, err);
    if (!status)
        status = lds_report_compose(l->plan->report, err);
    if (!status) {
        place_params(&l->transfers);
        if (l->cache.plan)
            place_params(&l->cached);
    } else if (l->touched_callers) {
        drop_callers(l);
    }
    lds_room_give(&l->room);
    release_memory(&l->transfers);
    release_memory(&l->cached);
    lds_cache_end(&l->cache);
    return status;
}

lds_status lds_load(lds_network *network, const lds_checkpoint *checkpoint, const lds_load_options *options,
                    lds_report **report, lds_error *err)
{
    lds_load_options checked;
    load l = {.options = &checked, .started_ns = lds_now_ns()};
    l.lap_ns = l.started_ns;
    if (report)
        *report = NULL;
    LDS_TRY(lds_load_options_check(&checked, options, err));
    LDS_TRY(lds_plan_make(&l.plan, network, checkpoint, &checked, report, err));
    l.transfers.plan = l.plan;
    l.transfers.done_nbytes = &l.done_nbytes;
    l.transfers.tick = checked.progress ? tick : NULL;
    l.transfers.tick_ctx = &l;
    l.transfers.trace = l.lane.trace = checked.trace;
    l.transfers.trace_load = l.lane.load = lds_trace_begin_load(checked.trace, checkpoint->path);
    l.cached = l.transfers;
    l.cached.plan = NULL;
    lds_status status = finish(&l, err);
    lds_lane_end(&l.lane);
    if (!status && report) {
        *report = l.plan->report;
        l.plan->report = NULL;
    }
    lds_plan_free(l.plan);
    return status;
}
