/*
 * The cache of converted weights: its side of a load.
 *
 * What a load that converts has in its arena goes to a file, and the next load of the same maps that file as
 * it would map any checkpoint of the right dtypes: the file gets a plan of its own beside the load's, which
 * is left with the rest.
 */
#include "src/load/cache.h"

#include "src/plan/layout.h"

#define DEFAULT_MAX_NBYTES (UINT64_C(64) << 30)

static bool converts(const lds_plan *plan)
{
    for (size_t r = 0; r < plan->n_runs; r++) {
        const lds_target *target = &plan->targets[plan->runs[r].target];
        if (lds_cache_keeps(target) && plan->checkpoint->tensors[plan->runs[r].tensor].dtype != target->dtype)
            return true;
    }
    return false;
}

static bool is_mapped_whole(const lds_plan *plan, size_t n_targets)
{
    for (size_t i = 0; i < plan->n_targets; i++)
        if (plan->targets[i].nbytes && plan->targets[i].place != LDS_PLACE_MAPPED)
            return false;
    return plan->n_targets == n_targets;
}

static lds_status plan_entry(lds_cache *cache, const lds_plan *plan, const lds_load_options *options,
                             lds_error *err)
{
    lds_load_options own = *options;
    own.keymap = NULL; /* an entry has the parameters' names */
    own.strict = own.init_missing = own.hugetlb = false;
    own.io = LDS_IO_MAP;
    own.cache = NULL;
    own.pool = NULL;
    LDS_TRY(lds_plan_make(&cache->plan, plan->network, cache->entry, &own, NULL, err));
    if (!is_mapped_whole(cache->plan, cache->entry->n_tensors))
        return lds_fail(err, LDS_ERR_MALFORMED, "cannot be mapped whole");
    return LDS_OK;
}

static void forget_entry(lds_cache *cache)
{
    lds_plan_free(cache->plan);
    lds_checkpoint_close(cache->entry);
    cache->plan = NULL;
    cache->entry = NULL;
}

/* Open and check the entry; whatever is wrong with it, there is none then. */
static lds_status open_entry(lds_cache *cache, const lds_plan *plan, const lds_load_options *options,
                             lds_error *err)
{
    char *path;
    LDS_TRY(lds_cache_entry_path(&path, &cache->dir, cache->key, err));
    lds_status status = lds_checkpoint_open(&cache->entry, path, NULL, err);
    free(path);
    if (!status)
        status = lds_cache_entry_check(cache->entry, &cache->dir, cache->key, plan, err);
    if (!status)
        status = plan_entry(cache, plan, options, err);
    if (status) {
        forget_entry(cache);
        return status;
    }
    lds_cache_note_use(&cache->dir, cache->key, cache->entry->files[0].fd);
    return LDS_OK;
}

/* Leave the plan with what is not in the entry; what is initialised moves together. */
static lds_status strip(lds_plan *plan, lds_error *err)
{
    uint32_t *moved;
    size_t n_targets = 0, n_runs = 0;
    LDS_TRY(lds_calloc(&moved, plan->n_targets, sizeof *moved, err));
    for (size_t i = 0; i < plan->n_targets; i++) {
        moved[i] = UINT32_MAX;
        if (lds_cache_keeps(&plan->targets[i]))
            continue;
        moved[i] = (uint32_t)n_targets;
        plan->targets[n_targets++] = plan->targets[i];
    }
    for (size_t r = 0; r < plan->n_runs; r++) {
        lds_run run = plan->runs[r];
        run.target = moved[run.target];
        if (run.target == UINT32_MAX)
            plan->stats.read_nbytes -= plan->checkpoint->tensors[run.tensor].nbytes;
        else
            plan->runs[n_runs++] = run;
    }
    plan->n_targets = n_targets;
    plan->n_runs = n_runs;
    free(moved);
    plan->stats.peak_nbytes -= plan->arena_nbytes;
    plan->arena_nbytes = 0;
    LDS_TRY(lds_plan_lay_out(plan, err));
    plan->stats.peak_nbytes += plan->arena_nbytes;
    return LDS_OK;
}

static void settle_statistics(lds_plan *plan, const lds_plan *from_entry)
{
    lds_report_stats *stats = &plan->report->stats;
    stats->written_nbytes -= from_entry->stats.mapped_nbytes;
    stats->read_nbytes = plan->stats.read_nbytes;
    if (!stats->read_nbytes && !stats->mapped_nbytes) /* what is left may have one of its own */
        stats->fallback = NULL;
    stats->source = stats->read_nbytes ? "cache+read" : stats->mapped_nbytes ? "map+cache" : "cache";
    stats->reason = "converted by an earlier load";
    stats->mapped_nbytes += from_entry->stats.mapped_nbytes;
    if (!stats->read_nbytes) {
        stats->n_threads = 0;
        stats->source_reason = NULL;
    }
}

lds_status lds_cache_find(lds_cache *cache, lds_plan *plan, const lds_load_options *options,
                          lds_error *problem, lds_error *err)
{
    if (!converts(plan))
        return LDS_OK;
    lds_status status = lds_cache_dir_open(&cache->dir, options->cache, true, problem);
    if (!status) {
        cache->audience = lds_cache_audience_of(plan);
        status = lds_cache_make_key(cache->key, cache->audience, plan, problem);
    }
    if (status)
        return LDS_OK;
    cache->is_wanted = open_entry(cache, plan, options, NULL);
    if (cache->is_wanted)
        return LDS_OK;
    LDS_TRY(strip(plan, err));
    settle_statistics(plan, cache->plan);
    return LDS_OK;
}

lds_status lds_cache_begin_entry(lds_cache *cache, const lds_plan *plan, const lds_load_options *options,
                                 lds_error *err)
{
    uint64_t max_nbytes = options->cache_nbytes ? options->cache_nbytes : DEFAULT_MAX_NBYTES;
    return lds_cache_write_begin(&cache->write, &cache->dir, cache->key, cache->audience, plan, max_nbytes,
                                 err);
}

void lds_cache_end(lds_cache *cache)
{
    lds_cache_write_end(cache->write);
    forget_entry(cache);
    lds_cache_dir_close(&cache->dir);
}
