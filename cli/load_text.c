/* What a load or a plan has come to, for people: a line for each part, then what did not fit. */
#include <string.h>

#include "load_result.h"
#include "table.h"

/* Longer lists are cut, unless --verbose asks for all. */
enum { MAX_NAMES = 20 };

/* The float dtype that most of the network's bytes have; that of its first parameter if it has no floats. */
static lds_dtype network_dtype(const lds_network *network)
{
    enum { N_DTYPES = 64 };
    uint64_t nbytes[N_DTYPES] = {0};
    size_t n = lds_network_n_params(network);
    lds_dtype most = n ? lds_param_dtype(lds_network_param(network, 0)) : LDS_DTYPE_NONE;
    for (size_t i = 0; i < n; i++) {
        const lds_param *param = lds_network_param(network, i);
        lds_dtype dtype = lds_param_dtype(param);
        if (!lds_dtype_is_float(dtype))
            continue;
        nbytes[dtype % N_DTYPES] += lds_param_nbytes(param);
        if (!lds_dtype_is_float(most) || nbytes[dtype % N_DTYPES] > nbytes[most % N_DTYPES])
            most = dtype;
    }
    return most;
}

static lds_dtype source_dtype(const lds_checkpoint *checkpoint)
{
    lds_dtype dtype = lds_checkpoint_dtype(checkpoint);
    if (!dtype && lds_checkpoint_n_tensors(checkpoint))
        dtype = lds_tensor_dtype(lds_checkpoint_tensor(checkpoint, 0));
    return dtype;
}

static const char *last_part_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void add_title(table *t, const load_result *result, const part *p)
{
    put_name(&t->text, p->name ? p->name : last_part_of(result->line->path));
    table_end_cell(t);
}

static void add_size(table *t, uint64_t nbytes)
{
    put_size(&t->text, nbytes);
    table_end_cell(t);
}

static void add_dtypes(table *t, const part *p)
{
    put_dtype(&t->text, source_dtype(p->checkpoint));
    put_text(&t->text, " -> ");
    put_dtype(&t->text, network_dtype(p->network));
    table_end_cell(t);
}

static void put_source(output *out, const load_sums *sums)
{
    if (sums->mapped_nbytes && sums->read_nbytes) {
        put_text(out, "mapped ");
        put_size(out, sums->mapped_nbytes);
        put_text(out, ", read ");
        put_size(out, sums->read_nbytes);
    } else if (sums->mapped_nbytes) {
        put_text(out, "mapped, 0 copied");
    } else if (sums->read_nbytes) {
        put_format(out, "read, %u thread%s", sums->n_threads, sums->n_threads == 1 ? "" : "s");
    } else {
        put_text(out, "nothing to load");
    }
}

/* Up to the dtypes, which the line of totals does not have. */
static void add_counts(table *t, const load_sums *sums)
{
    put_count(&t->text, sums->n_tensors);
    put_text(&t->text, sums->n_tensors == 1 ? " tensor" : " tensors");
    table_end_cell(t);
    add_size(t, sums->read_nbytes + sums->mapped_nbytes);
}

static void add_source(table *t, const load_sums *sums, double seconds, bool is_refused)
{
    if (is_refused)
        put_text(&t->text, "does not fit");
    else
        put_source(&t->text, sums);
    table_end_cell(t);
    put_format(&t->text, "%.2f s", seconds);
    table_end_cell(t);
}

static void put_prefix(output *out, const part *p)
{
    if (!p->name)
        return;
    put_name(out, p->name);
    put_text(out, ": ");
}

static void put_list(output *out, const load_result *result, const part *p, lds_report_list list,
                     const char *title)
{
    size_t n = lds_report_count(p->report, list);
    size_t n_shown = n > MAX_NAMES && !result->line->verbose ? MAX_NAMES : n;
    if (!n)
        return;
    put_prefix(out, p);
    put_count(out, n);
    put_format(out, " %s\n", title);
    for (size_t i = 0; i < n_shown; i++) {
        const char *detail = lds_report_detail(p->report, list, i);
        put_text(out, "  ");
        put_name(out, lds_report_name(p->report, list, i));
        if (detail) {
            put_text(out, ": ");
            put_name(out, detail);
        }
        put_text(out, "\n");
    }
    if (n_shown < n) {
        put_text(out, "  and ");
        put_count(out, n - n_shown);
        put_text(out, " more (--verbose shows all)\n");
    }
}

static void put_lists(output *out, const load_result *result)
{
    for (size_t i = 0; i < result->n_parts; i++) {
        const part *p = &result->ps->items[i];
        put_list(out, result, p, LDS_REPORT_MISSING, "missing from the checkpoint");
        put_list(out, result, p, LDS_REPORT_UNEXPECTED, "unexpected in the checkpoint");
        put_list(out, result, p, LDS_REPORT_MISMATCHED, "of another shape in the checkpoint");
        put_list(out, result, p, LDS_REPORT_INITIALISED, "initialised");
        if (result->line->verbose)
            put_list(out, result, p, LDS_REPORT_TIED, "tied");
    }
}

/* A cache that was asked for and could not be used: the next load will take as long as this one. */
static void put_cache_problem(output *out, const part *p)
{
    lds_report_stats s = {.struct_size = sizeof s};
    lds_report_get_stats(p->report, &s);
    if (!s.cache || strncmp(s.cache, "not stored: ", 12) != 0)
        return;
    put_prefix(out, p);
    put_text(out, "cache: ");
    put_name(out, s.cache);
    put_text(out, "\n");
}

/* Why a part's bytes came in as they did. */
static void put_reasons(output *out, const lds_report_stats *s)
{
    put_format(out, "%s (%s", s->source, s->reason);
    if (s->source_reason && strcmp(s->source_reason, s->reason) != 0)
        put_format(out, "; %s", s->source_reason);
    if (s->fallback)
        put_format(out, "; %s", s->fallback);
    put_text(out, ")");
}

static void put_phase(output *out, const char *name, double seconds)
{
    put_format(out, ", %s %.4f s", name, seconds);
}

/* The same, and where the time went. */
static void put_phases(output *out, const part *p)
{
    lds_report_stats s = {.struct_size = sizeof s};
    lds_report_get_stats(p->report, &s);
    put_prefix(out, p);
    put_reasons(out, &s);
    put_format(out, ", %u thread%s", s.n_threads, s.n_threads == 1 ? "" : "s");
    if (s.cache) {
        put_text(out, "; cache ");
        put_name(out, s.cache);
    }
    put_format(out, "; plan %.4f s", s.plan_seconds);
    if (s.cache)
        put_phase(out, "cache", s.cache_seconds);
    put_phase(out, "memory", s.memory_seconds);
    put_phase(out, "transfer", s.transfer_seconds);
    put_phase(out, "init", s.init_seconds);
    put_phase(out, "check", s.check_seconds);
    put_format(out, "; threads were reading %.4f s, converting %.4f s\n", s.read_seconds, s.convert_seconds);
}

void put_digests(output *out, const load_result *result)
{
    char text[DIGEST_TEXT_SIZE];
    for (size_t i = 0; i < result->n_digests; i++) {
        const digest *d = &result->digests[i];
        put_text(out, digest_text(text, d));
        put_text(out, "  ");
        if (d->part->name) {
            put_name(out, d->part->name);
            put_text(out, "/");
        }
        put_name(out, lds_param_name(d->param));
        put_text(out, "\n");
    }
}

void put_load(output *out, const load_result *result)
{
    table t;
    table_init(&t, "lrrllr");
    load_sums all = {0};
    for (size_t i = 0; i < result->n_parts; i++) {
        const part *p = &result->ps->items[i];
        load_sums sums = {0};
        add_sums(&sums, p);
        add_sums(&all, p);
        add_title(&t, result, p);
        add_counts(&t, &sums);
        add_dtypes(&t, p);
        add_source(&t, &sums, result->ps->is_pipeline ? p->seconds : result->seconds,
                   result->is_refused && i + 1 == result->n_parts);
    }
    if (result->ps->is_pipeline) {
        table_cell(&t, "total");
        add_counts(&t, &all);
        table_cell(&t, "");
        add_source(&t, &all, result->seconds, false);
    }
    table_put(out, &t, 0);
    put_lists(out, result);
    for (size_t i = 0; i < result->n_parts; i++)
        if (result->line->verbose)
            put_phases(out, &result->ps->items[i]);
        else
            put_cache_problem(out, &result->ps->items[i]);
    put_digests(out, result);
}

static void add_plan_stats(table *t, const lds_plan_stats *stats)
{
    put_count(&t->text, stats->n_transfers);
    table_end_cell(t);
    add_size(t, stats->read_nbytes);
    add_size(t, stats->mapped_nbytes);
    add_size(t, stats->written_nbytes);
    add_size(t, stats->peak_nbytes);
}

static void put_transfers(output *out, const part *p)
{
    table t;
    table_init(&t, "rrllll");
    static const char *const titles[] = {"offset", "elements", "dtypes", "how", "tensor", "parameter"};
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        table_cell(&t, titles[i]);
    lds_plan_stats stats = {.struct_size = sizeof stats};
    lds_plan_get_stats(p->plan, &stats);
    for (size_t i = 0; i < stats.n_transfers; i++) {
        lds_transfer transfer = {.struct_size = sizeof transfer};
        lds_plan_get_transfer(p->plan, i, &transfer);
        put_u64(&t.text, transfer.file_offset);
        table_end_cell(&t);
        put_count(&t.text, transfer.n_elements);
        table_end_cell(&t);
        put_dtype(&t.text, transfer.src_dtype);
        put_text(&t.text, " -> ");
        put_dtype(&t.text, transfer.dst_dtype);
        table_end_cell(&t);
        table_cell(&t, transfer.mapped ? "map" : "read");
        put_name(&t.text, lds_tensor_name(transfer.tensor));
        table_end_cell(&t);
        put_name(&t.text, lds_param_name(transfer.param));
        table_end_cell(&t);
    }
    put_text(out, "\n");
    if (p->name) {
        put_name(out, p->name);
        put_text(out, "\n");
    }
    table_put(out, &t, 0);
}

void put_plan(output *out, const load_result *result)
{
    table t;
    table_init(&t, "lrrrrrl");
    static const char *const titles[] = {"", "transfers", "read", "mapped", "written", "peak", "dtypes"};
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        table_cell(&t, titles[i]);
    lds_plan_stats all = {.struct_size = sizeof all};
    for (size_t i = 0; i < result->n_parts; i++) {
        const part *p = &result->ps->items[i];
        lds_plan_stats stats = {.struct_size = sizeof stats};
        add_plan(&stats, p);
        add_plan(&all, p);
        add_title(&t, result, p);
        add_plan_stats(&t, &stats);
        add_dtypes(&t, p);
    }
    if (result->ps->is_pipeline) {
        table_cell(&t, "total");
        add_plan_stats(&t, &all);
        table_end_row(&t);
    }
    table_put(out, &t, 0);
    put_lists(out, result);
    for (size_t i = 0; i < result->n_parts && result->line->verbose; i++)
        if (result->ps->items[i].plan)
            put_transfers(out, &result->ps->items[i]);
}
