/*
 * Plans: matching (match.c), then placing, which gives each parameter that was found its place in memory and its
 * run of bytes in a file, then settling how those bytes are read.
 */
#include "src/plan/plan.h"

#include "src/base/machine.h"
#include "src/base/options.h"
#include "src/dtype/dtype.h"
#include "src/plan/layout.h"
#include "src/plan/match.h"

/*
 * A block is read, then converted while it is in cache: not all of it in the second level's, but smaller blocks,
 * which would be, take up to a seventh more time, into fresh memory and other (`./dev bench fresh` tries loops of
 * several sizes). Small loads are cut smaller, so that all threads have a share and end together, and so is what
 * comes over a network, where the number of reads at once counts.
 */
enum {
    BLOCK_NBYTES = 4 << 20,
    FAIR_BLOCK_NBYTES = 1 << 20,
    FAIR_BLOCKS = 4 /* a thread */
};

/* The window is a part of what is read, within limits. */
enum { WINDOW_PART = 4, LEAST_WINDOW_NBYTES = 64 << 20, MOST_WINDOW_NBYTES = 128 << 20 };

/* A direct read is of whole units, and so takes in up to one beside its block at each end. */
enum { MARGINS_NBYTES = 2 * LDS_DIRECT_NBYTES };

/*
 * What a disk writes to again and again is best in a cache, as small as keeps the disk busy while a part of it is
 * converted: 6 MiB a thread, which are whole huge pages. 64 MiB of 4 MiB each took a seventh more time.
 */
enum { DIRECT_READ_NBYTES = 512 << 10, DIRECT_DEPTH = 12 };

/* Tensors with less between them are looked for in the page cache together. */
enum { NEAR_NBYTES = 1 << 20 };

/* Of memory, on any machine: not worth asking. */
enum { ALWAYS_FREE_NBYTES = 64 << 20 };

/* ------------------------------------------------------------------------------------------------------- */

/* Why a tensor's bytes are read and not mapped. */
enum reason {
    CAN_MAP,
    OTHER_DTYPE,
    CALLERS_MEMORY,
    CALLERS_ALLOCATOR,
    ASKED_TO_READ,
    REMOTE,
    UNALIGNED,
    EMPTY,
    N_REASONS
};

static const char *const reason_texts[N_REASONS] = {
    [CAN_MAP] = "same dtype, local file system",
    [OTHER_DTYPE] = "dtypes differ",
    [CALLERS_MEMORY] = "into the caller's memory",
    [CALLERS_ALLOCATOR] = "into the caller's allocator",
    [ASKED_TO_READ] = "as asked",
    [REMOTE] = "network file system",
    [UNALIGNED] = "unaligned in the file",
    [EMPTY] = "nothing to load",
};

typedef struct placer {
    lds_plan *plan;
    const lds_load_options *options;
    uint64_t nbytes_for[N_REASONS];
} placer;

static enum reason why_read(const placer *pl, const lds_tensor *tensor, const lds_param *param,
                            lds_dtype dtype)
{
    uint32_t element_nbytes = lds_dtype_bits(dtype) / 8;
    if (!tensor->nbytes)
        return EMPTY;
    if (param->is_callers)
        return CALLERS_MEMORY;
    if (tensor->dtype != dtype)
        return OTHER_DTYPE;
    if (pl->options->io > LDS_IO_MAP)
        return ASKED_TO_READ;
    if (element_nbytes && tensor->offset % element_nbytes)
        return UNALIGNED;
    if (pl->options->io == LDS_IO_MAP)
        return CAN_MAP;
    if (pl->options->allocator)
        return CALLERS_ALLOCATOR;
    return pl->plan->checkpoint->files[tensor->file].fs >= LDS_FS_NETWORK ? REMOTE : CAN_MAP;
}

static lds_status begin_target(placer *pl, lds_param *param, lds_target **target, lds_error *err)
{
    lds_target *t = &pl->plan->targets[pl->plan->n_targets];
    t->param = param;
    t->dtype = (uint8_t)lds_target_dtype(param, pl->options);
    if (param->is_callers && t->dtype != param->dtype)
        return lds_fail(err, LDS_ERR_ARGUMENT, "lies in the caller's memory as %s and cannot become %s there",
                        lds_dtype_name((lds_dtype)param->dtype), lds_dtype_name((lds_dtype)t->dtype));
    LDS_TRY(lds_dtype_nbytes(&t->nbytes, (lds_dtype)t->dtype, param->numel, err));
    pl->plan->n_targets++;
    *target = t;
    return LDS_OK;
}

static lds_status place_tensor(placer *pl, uint32_t index, lds_param *param, lds_error *err)
{
    const lds_tensor *tensor = &pl->plan->checkpoint->tensors[index];
    lds_report_stats *stats = &pl->plan->report->stats;
    lds_target *target;
    LDS_TRY(begin_target(pl, param, &target, err));
    enum reason reason = why_read(pl, tensor, param, (lds_dtype)target->dtype);
    pl->nbytes_for[reason] += tensor->nbytes;
    stats->n_tensors++;
    if (reason == CAN_MAP) {
        target->place = LDS_PLACE_MAPPED;
        target->offset = tensor->offset;
        target->file = tensor->file;
        stats->mapped_nbytes += tensor->nbytes;
    } else {
        target->place = param->is_callers ? LDS_PLACE_CALLERS : LDS_PLACE_ARENA;
        stats->read_nbytes += tensor->nbytes;
        stats->written_nbytes += target->nbytes;
    }
    pl->plan->runs[pl->plan->n_runs++] =
        (lds_run){index, (uint32_t)(target - pl->plan->targets), tensor->offset, 0, tensor->numel};
    return LDS_OK;
}

/* Give a parameter that was not found a place to be initialised in, if the options and its rule allow. */
static lds_status place_init(placer *pl, lds_param *param, lds_error *err)
{
    if (!pl->options->init_missing || param->storage || !param->init)
        return LDS_OK;
    lds_target *target;
    LDS_TRY(begin_target(pl, param, &target, err));
    target->place = LDS_PLACE_INIT;
    pl->plan->report->stats.written_nbytes += target->nbytes;
    return lds_report_add(pl->plan->report, LDS_REPORT_INITIALISED, param->name.text, NULL, err);
}

/* A part of a file, and how much of it is mapped, or read. */
typedef struct stretch {
    uint32_t file;
    uint64_t begin, end, nbytes;
} stretch;

/* The next runs from *r on, of those that are mapped, or read, that lie near each other in a file. False if none is. */
static bool next_stretch(const lds_plan *plan, size_t *r, bool mapped, stretch *s)
{
    *s = (stretch){0};
    for (; *r < plan->n_runs; ++*r) {
        const lds_run *run = &plan->runs[*r];
        const lds_tensor *tensor = &plan->checkpoint->tensors[run->tensor];
        if ((plan->targets[run->target].place == LDS_PLACE_MAPPED) != mapped)
            continue;
        if (s->nbytes && (tensor->file != s->file || tensor->offset - s->end > NEAR_NBYTES))
            break;
        if (!s->nbytes)
            *s = (stretch){.file = tensor->file, .begin = tensor->offset};
        s->end = tensor->offset + tensor->nbytes;
        s->nbytes += tensor->nbytes;
    }
    return s->nbytes;
}

/* What is known about the files that have something to map, or to read. */
static lds_policy_facts gather_facts(const placer *pl, bool mapped)
{
    const lds_plan *plan = pl->plan;
    const lds_report_stats *stats = &plan->report->stats;
    lds_policy_facts facts = {
        .asked = pl->options->io,
        .read_nbytes = mapped ? stats->mapped_nbytes : stats->read_nbytes,
        .keep_cache = plan->keep_cache,
    };
    size_t r = 0;
    for (stretch s; next_stretch(plan, &r, mapped, &s);) {
        const lds_file *f = &plan->checkpoint->files[s.file];
        uint64_t span = s.end - s.begin, cached = lds_file_resident(f, s.begin, span);
        facts.fs = f->fs > facts.fs ? f->fs : facts.fs;
        facts.cached_nbytes +=
            cached == span ? s.nbytes : (uint64_t)((double)s.nbytes / (double)span * (double)cached);
    }
    return facts;
}

/* What is done for the page cache, and against it. */
static void settle_cache(placer *pl)
{
    lds_plan *plan = pl->plan;
    lds_report_stats *stats = &plan->report->stats;
    uint64_t nbytes = stats->mapped_nbytes + stats->read_nbytes;
    bool by_cgroup;
    uint64_t memory_nbytes =
        nbytes < ALWAYS_FREE_NBYTES ? UINT64_MAX : lds_memory_available_in("", &by_cgroup);
    plan->is_lazy = pl->options->lazy;
    bool is_direct = pl->options->io == LDS_IO_DIRECT; /* all would be read a second time */
    plan->is_prefetched = pl->options->prefetch && nbytes <= memory_nbytes && !is_direct;
    plan->keep_cache = pl->options->keep_cache || pl->options->prefetch;
    if (pl->options->prefetch && !plan->is_prefetched)
        stats->fallback = is_direct ? "past the page cache, as asked: not prefetched"
                                    : "larger than free memory: not prefetched";
    /* Pages made present beyond that would push out the first ones. */
    if (!plan->is_lazy && stats->mapped_nbytes > memory_nbytes) {
        plan->is_lazy = true;
        stats->fallback = "larger than free memory: pages are read on first use";
    }
}

static bool is_of_a_disk(const lds_plan *plan)
{
    return plan->choice.kind == LDS_SOURCE_DIRECT && !plan->choice.is_remote;
}

static uint64_t window_for(const placer *pl)
{
    uint64_t part = pl->plan->report->stats.read_nbytes / WINDOW_PART;
    part = part > LEAST_WINDOW_NBYTES ? part : LEAST_WINDOW_NBYTES;
    if (is_of_a_disk(pl->plan))
        part = (uint64_t)pl->options->n_threads * DIRECT_DEPTH * DIRECT_READ_NBYTES;
    return part < MOST_WINDOW_NBYTES ? part : MOST_WINDOW_NBYTES;
}

/* Of a load of so much a thread. */
static uint64_t best_block_nbytes(const lds_plan *plan, uint64_t nbytes)
{
    if (is_of_a_disk(plan))
        return DIRECT_READ_NBYTES - MARGINS_NBYTES;
    uint64_t fair = nbytes / FAIR_BLOCKS;
    if (fair < FAIR_BLOCK_NBYTES || plan->choice.is_remote)
        return FAIR_BLOCK_NBYTES;
    return fair < BLOCK_NBYTES ? fair : BLOCK_NBYTES;
}

static void size_reads(placer *pl)
{
    lds_plan *plan = pl->plan;
    lds_report_stats *stats = &plan->report->stats;
    uint64_t asked = pl->options->window_nbytes, window = asked ? asked : window_for(pl);
    uint64_t share = window / pl->options->n_threads - MARGINS_NBYTES;
    uint64_t best = best_block_nbytes(plan, stats->read_nbytes / pl->options->n_threads);
    plan->block_nbytes = (share < best ? share : best) & ~(uint64_t)(LDS_DIRECT_NBYTES - 1);
    plan->max_threads = pl->options->n_threads;
    uint64_t n_blocks = (stats->read_nbytes + plan->block_nbytes - 1) / plan->block_nbytes;
    n_blocks += !n_blocks;
    plan->n_threads = n_blocks < pl->options->n_threads ? (uint32_t)n_blocks : pl->options->n_threads;
    stats->n_threads = stats->read_nbytes ? plan->n_threads : 0;
    uint64_t depth = (share + MARGINS_NBYTES) / (plan->block_nbytes + MARGINS_NBYTES);
    uint64_t per_thread = stats->n_threads ? n_blocks / stats->n_threads : 1;
    depth = depth < per_thread ? depth : per_thread;
    plan->depth = depth < 1 ? 1 : depth < LDS_MAX_DEPTH ? (uint32_t)depth : LDS_MAX_DEPTH;
}

static const char *source_name(bool is_mapped, bool is_read, lds_source_kind kind)
{
    static const char *const names[2][4] = {{"read", "uring", "direct", "view"},
                                            {"map+read", "map+uring", "map+direct", "map+view"}};
    return is_read ? names[is_mapped][kind] : is_mapped ? "map" : "none";
}

void lds_plan_name_source(lds_plan *plan, lds_source_kind kind)
{
    lds_report_stats *stats = &plan->report->stats;
    stats->source = source_name(stats->mapped_nbytes, stats->read_nbytes, kind);
}

static void settle_source(placer *pl)
{
    lds_plan *plan = pl->plan;
    lds_report_stats *stats = &plan->report->stats;
    enum reason most = stats->mapped_nbytes ? CAN_MAP : EMPTY;
    for (int r = OTHER_DTYPE; r < N_REASONS; r++)
        if (pl->nbytes_for[r] > (most == CAN_MAP ? 0 : pl->nbytes_for[most]))
            most = (enum reason)r;
    stats->reason =
        most == CAN_MAP && pl->options->io == LDS_IO_MAP ? "same dtype, as asked" : reason_texts[most];
    settle_cache(pl);
    if (stats->mapped_nbytes && !plan->is_lazy) {
        const lds_policy_facts facts = gather_facts(pl, true);
        plan->awaits_mapped = lds_policy_awaits(&facts);
    }
    if (stats->read_nbytes) {
        const lds_policy_facts facts = gather_facts(pl, false);
        plan->choice = lds_policy_choose(&facts);
        stats->source_reason = plan->choice.reason;
    }
    lds_plan_name_source(plan, plan->choice.kind);
    size_reads(pl);
    /* What is there is read or viewed at once, by the worker itself: nothing else is on its way meanwhile. */
    if (plan->choice.is_whole && plan->choice.kind != LDS_SOURCE_DIRECT)
        plan->depth = 1;
    plan->stats = (lds_plan_stats){
        .struct_size = sizeof plan->stats,
        .n_transfers = plan->n_runs,
        .read_nbytes = stats->read_nbytes,
        .mapped_nbytes = stats->mapped_nbytes,
        .written_nbytes = stats->written_nbytes,
        .peak_nbytes = plan->arena_nbytes +
                       (uint64_t)stats->n_threads * plan->depth * (plan->block_nbytes + MARGINS_NBYTES),
    };
}

static lds_status place_all(placer *pl, const lds_match_table *table, lds_error *err)
{
    lds_plan *plan = pl->plan;
    size_t n_params = plan->network->n_params, n_tensors = plan->checkpoint->names.n;
    LDS_TRY(lds_calloc(&plan->targets, n_params, sizeof *plan->targets, err));
    LDS_TRY(lds_calloc(&plan->runs, n_tensors < n_params ? n_tensors : n_params, sizeof *plan->runs, err));
    for (uint32_t t = 0; t < n_tensors; t++) {
        if (table->param_of[t] == LDS_NO_INDEX)
            continue;
        lds_param *param = &plan->network->params[table->param_of[t]];
        lds_status status = place_tensor(pl, t, param, err);
        if (status)
            return lds_error_context(err, status, NULL, param->name.text);
    }
    for (size_t i = 0; i < n_params; i++) {
        lds_param *param = &plan->network->params[i];
        if (!param->tied_to &&
            (table->states[i] == LDS_PARAM_MISSING || table->states[i] == LDS_PARAM_MISMATCHED))
            LDS_TRY(place_init(pl, param, err));
    }
    LDS_TRY(lds_plan_lay_out(plan, err));
    settle_source(pl);
    return LDS_OK;
}

static lds_status plan_with(lds_plan *plan, lds_match_table *table, const lds_load_options *options,
                            lds_error *err)
{
    if (plan->checkpoint->n_components) {
        lds_fail(err, LDS_ERR_UNSUPPORTED, "is a pipeline: load its components one by one");
        return lds_error_context(err, LDS_ERR_UNSUPPORTED, plan->checkpoint->path, NULL);
    }
    LDS_TRY(lds_match_names(table, plan->network, plan->checkpoint, options, plan->report, err));
    LDS_TRY(lds_match_verdict(plan->report, plan->checkpoint, options, err));
    placer pl = {.plan = plan, .options = options};
    return place_all(&pl, table, err);
}

lds_status lds_plan_make(lds_plan **plan, lds_network *network, const lds_checkpoint *checkpoint,
                         const lds_load_options *options, lds_report **report, lds_error *err)
{
    lds_plan *p;
    *plan = NULL;
    LDS_TRY(lds_calloc(&p, 1, sizeof *p, err));
    p->network = network;
    p->checkpoint = checkpoint;
    lds_match_table table = {0};
    lds_status status = lds_report_new(&p->report, err);
    if (!status)
        status = plan_with(p, &table, options, err);
    lds_match_table_destroy(&table);
    if (!status) {
        *plan = p;
        return LDS_OK;
    }
    if (status == LDS_ERR_MISMATCH && report && !lds_report_compose(p->report, NULL)) {
        *report = p->report;
        p->report = NULL;
    }
    lds_plan_free(p);
    return status;
}

lds_status lds_plan_new(lds_plan **plan, lds_network *network, const lds_checkpoint *checkpoint,
                        const lds_load_options *options, lds_report **report, lds_error *err)
{
    lds_load_options checked;
    *plan = NULL;
    if (report)
        *report = NULL;
    LDS_TRY(lds_load_options_check(&checked, options, err));
    LDS_TRY(lds_plan_make(plan, network, checkpoint, &checked, report, err));
    if (!report)
        return LDS_OK;
    lds_status status = lds_report_compose((*plan)->report, err);
    if (status) {
        lds_plan_free(*plan);
        *plan = NULL;
        return status;
    }
    *report = (*plan)->report;
    (*plan)->report = NULL;
    return LDS_OK;
}

void lds_plan_get_stats(const lds_plan *plan, lds_plan_stats *stats)
{
    lds_options_export(stats, stats->struct_size, &plan->stats, sizeof plan->stats);
}

void lds_plan_get_transfer(const lds_plan *plan, size_t i, lds_transfer *transfer)
{
    const lds_run *run = &plan->runs[i];
    const lds_target *target = &plan->targets[run->target];
    const lds_tensor *tensor = &plan->checkpoint->tensors[run->tensor];
    const lds_transfer t = {
        .struct_size = sizeof t,
        .tensor = tensor,
        .param = target->param,
        .file_offset = run->file_offset,
        .param_offset = run->param_offset,
        .n_elements = run->numel,
        .src_dtype = (lds_dtype)tensor->dtype,
        .dst_dtype = (lds_dtype)target->dtype,
        .mapped = target->place == LDS_PLACE_MAPPED,
    };
    lds_options_export(transfer, transfer->struct_size, &t, sizeof t);
}

void lds_plan_free(lds_plan *plan)
{
    if (!plan)
        return;
    lds_report_free(plan->report);
    free(plan->targets);
    free(plan->runs);
    free(plan);
}
