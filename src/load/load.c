/*
 * Loading: plan, memory, transfers, and only then the parameters.
 *
 * All that can fail comes before the first parameter is touched: memory is taken, files are mapped, bytes are
 * read and converted into memory that no parameter knows of yet. What remains is to put each parameter into its
 * place, which cannot fail. Parameters in the caller's memory are the exception, since they are where they are:
 * when a load fails after it began to write, they lose their storage.
 */
#include "src/load/transfer.h"

#include "src/dtype/dtype.h"
#include "src/network/refill.h"

typedef struct load {
    lds_plan *plan;
    const lds_load_options *options;
    lds_transfers transfers;
    uint64_t started_ns;
    uint64_t total_nbytes;
    _Atomic uint64_t done_nbytes;
    bool touched_callers; /* bytes may have been written into the caller's memory */
} load;

static double seconds_since(uint64_t start_ns)
{
    return (double)(lds_now_ns() - start_ns) / 1e9;
}

static int tick(void *ctx)
{
    load *l = ctx;
    uint64_t done = atomic_load_explicit(&l->done_nbytes, memory_order_relaxed);
    const lds_progress progress = {
        .struct_size = sizeof progress,
        .done_nbytes = done < l->total_nbytes ? done : l->total_nbytes, /* gaps were read over */
        .total_nbytes = l->total_nbytes,
        .seconds = seconds_since(l->started_ns),
    };
    return l->options->progress(l->options->progress_ctx, &progress);
}

/* Map each file that has mapped targets, from the first byte of the first one to the last of the last. */
static lds_status map_files(load *l, lds_error *err)
{
    const lds_plan *plan = l->plan;
    size_t n_files = plan->checkpoint->n_files;
    uint64_t page_nbytes = lds_page_nbytes(), *ends;
    LDS_TRY(lds_calloc(&l->transfers.mappings, n_files, sizeof *l->transfers.mappings, err));
    LDS_TRY(lds_calloc(&l->transfers.map_offsets, n_files, sizeof *l->transfers.map_offsets, err));
    LDS_TRY(lds_calloc(&ends, n_files, sizeof *ends, err));
    for (size_t i = 0; i < plan->n_targets; i++) {
        const lds_target *t = &plan->targets[i];
        if (t->place != LDS_PLACE_MAPPED)
            continue;
        if (!ends[t->file]) /* targets are in file order */
            l->transfers.map_offsets[t->file] = t->offset & ~(page_nbytes - 1);
        ends[t->file] = t->offset + t->nbytes;
    }
    lds_status status = LDS_OK;
    for (size_t f = 0; f < n_files && !status; f++) {
        const lds_file *file = &plan->checkpoint->files[f];
        uint64_t offset = l->transfers.map_offsets[f];
        if (!ends[f])
            continue;
        status = lds_storage_map(&l->transfers.mappings[f], file->fd, offset, ends[f] - offset, err);
        if (status)
            lds_error_context(err, status, file->path, NULL);
    }
    free(ends);
    return status;
}

static lds_status take_memory(load *l, lds_error *err)
{
    if (l->plan->stats.mapped_nbytes)
        LDS_TRY(map_files(l, err));
    if (l->plan->arena_nbytes)
        LDS_TRY(lds_storage_new(&l->transfers.arena, l->plan->arena_nbytes, l->options->allocator, err));
    return l->options->lazy ? LDS_OK : lds_transfers_populate(&l->transfers, err);
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
    lds_status status = LDS_OK;
    if (n)
        status = lds_fill_initial(fills, n, l->transfers.arena->data, l->options->seed, l->options->n_threads,
                                  err);
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

static void place_params(load *l)
{
    for (size_t i = 0; i < l->plan->n_targets; i++) {
        const lds_target *t = &l->plan->targets[i];
        lds_storage *storage =
            t->place == LDS_PLACE_MAPPED ? l->transfers.mappings[t->file] : l->transfers.arena;
        if (t->place != LDS_PLACE_CALLERS)
            lds_param_place(t->param, lds_storage_retain(storage), lds_target_data(&l->transfers, t),
                            (lds_dtype)t->dtype);
    }
}

static void drop_callers(load *l)
{
    for (size_t i = 0; i < l->plan->n_targets; i++)
        if (l->plan->targets[i].place == LDS_PLACE_CALLERS)
            lds_param_place(l->plan->targets[i].param, NULL, NULL, (lds_dtype)l->plan->targets[i].dtype);
}

/* The steps up to the point of no return, each with its time. */
static lds_status execute(load *l, lds_error *err)
{
    lds_report_stats *stats = &l->plan->report->stats;
    stats->plan_seconds = seconds_since(l->started_ns);
    uint64_t at = lds_now_ns();
    LDS_TRY(take_memory(l, err));
    stats->memory_seconds = seconds_since(at);
    at = lds_now_ns();
    l->touched_callers = true;
    LDS_TRY(lds_transfers_read(&l->transfers, err));
    stats->transfer_seconds = seconds_since(at);
    stats->read_seconds = (double)atomic_load(&l->transfers.read_ns) / 1e9;
    stats->convert_seconds = (double)atomic_load(&l->transfers.convert_ns) / 1e9;
    at = lds_now_ns();
    LDS_TRY(initialise(l, err));
    stats->init_seconds = seconds_since(at);
    LDS_TRY(check_files(l->plan, err));
    if (l->options->progress && tick(l))
        return lds_fail(err, LDS_ERR_CANCELLED, "cancelled by the progress callback");
    return LDS_OK;
}

static lds_status finish(load *l, lds_error *err)
{
    lds_status status = execute(l, err);
    if (!status) {
        l->plan->report->stats.seconds = seconds_since(l->started_ns);
        status = lds_report_compose(l->plan->report, err);
    }
    if (!status)
        place_params(l);
    else if (l->touched_callers)
        drop_callers(l);
    if (l->transfers.mappings)
        for (size_t f = 0; f < l->plan->checkpoint->n_files; f++)
            lds_storage_release(l->transfers.mappings[f]);
    free(l->transfers.mappings);
    free(l->transfers.map_offsets);
    lds_storage_release(l->transfers.arena);
    return status;
}

lds_status lds_load(lds_network *network, const lds_checkpoint *checkpoint, const lds_load_options *options,
                    lds_report **report, lds_error *err)
{
    lds_load_options checked;
    load l = {.options = &checked, .started_ns = lds_now_ns()};
    if (report)
        *report = NULL;
    LDS_TRY(lds_load_options_check(&checked, options, err));
    LDS_TRY(lds_plan_make(&l.plan, network, checkpoint, &checked, report, err));
    l.transfers.plan = l.plan;
    l.transfers.has_callers_arena = checked.allocator;
    l.transfers.done_nbytes = &l.done_nbytes;
    l.transfers.tick = checked.progress ? tick : NULL;
    l.transfers.tick_ctx = &l;
    l.total_nbytes = l.plan->stats.read_nbytes + (checked.lazy ? 0 : l.plan->stats.mapped_nbytes);
    lds_status status = finish(&l, err);
    if (!status && report) {
        *report = l.plan->report;
        l.plan->report = NULL;
    }
    lds_plan_free(l.plan);
    return status;
}
