/* What a load or a plan has come to, for machines. The names of the fields do not change. */

#include "json_writer.h"
#include "load_result.h"

/* A name at the top level of a pipeline begins with its component's; it is then composed in the buffer. */
static const char *qualify(output *buffer, const part *p, const char *name)
{
    if (!p->name)
        return name;
    buffer->n = 0;
    put_format(buffer, "%s/%s", p->name, name);
    put(buffer, "", 1);
    return buffer->data;
}

static void write_name(json_writer *json, const part *p, const char *name, bool is_qualified)
{
    output buffer = {0};
    json_string(json, is_qualified ? qualify(&buffer, p, name) : name);
    output_free(&buffer);
}

static void write_mismatch(json_writer *json, const part *p, size_t i, bool is_qualified)
{
    const char *name = lds_report_name(p->report, LDS_REPORT_MISMATCHED, i);
    uint32_t n_dims;
    const uint64_t *shape = lds_report_found_shape(p->report, i, &n_dims);
    const lds_param *param = lds_network_find(p->network, name);
    json_object(json);
    json_key(json, "name");
    write_name(json, p, name, is_qualified);
    json_field_shape(json, "expected", lds_param_n_dims(param), lds_param_shape(param));
    json_field_shape(json, "found", n_dims, shape);
    json_field_string(json, "detail", lds_report_detail(p->report, LDS_REPORT_MISMATCHED, i));
    json_object_end(json);
}

static void write_tie(json_writer *json, const part *p, size_t i, bool is_qualified)
{
    json_object(json);
    json_key(json, "name");
    write_name(json, p, lds_report_name(p->report, LDS_REPORT_TIED, i), is_qualified);
    json_key(json, "tied_to");
    write_name(json, p, lds_report_detail(p->report, LDS_REPORT_TIED, i), is_qualified);
    json_object_end(json);
}

/* One list of the reports of parts first to end. */
static void write_list(json_writer *json, const load_result *result, size_t first, size_t end,
                       bool is_qualified, const char *key, lds_report_list list)
{
    json_key(json, key);
    json_array(json);
    for (size_t k = first; k < end; k++) {
        const part *p = &result->ps->items[k];
        size_t n = lds_report_count(p->report, list);
        for (size_t i = 0; i < n; i++) {
            if (list == LDS_REPORT_MISMATCHED)
                write_mismatch(json, p, i, is_qualified);
            else if (list == LDS_REPORT_TIED)
                write_tie(json, p, i, is_qualified);
            else
                write_name(json, p, lds_report_name(p->report, list, i), is_qualified);
        }
    }
    json_array_end(json);
}

static void write_lists(json_writer *json, const load_result *result, size_t first, size_t end,
                        bool is_qualified)
{
    write_list(json, result, first, end, is_qualified, "missing", LDS_REPORT_MISSING);
    write_list(json, result, first, end, is_qualified, "unexpected", LDS_REPORT_UNEXPECTED);
    write_list(json, result, first, end, is_qualified, "mismatched", LDS_REPORT_MISMATCHED);
    write_list(json, result, first, end, is_qualified, "initialised", LDS_REPORT_INITIALISED);
    write_list(json, result, first, end, is_qualified, "tied", LDS_REPORT_TIED);
}

static void write_sums(json_writer *json, const load_sums *sums, double seconds)
{
    json_field_u64(json, "tensors", sums->n_tensors);
    json_field_u64(json, "bytes_read", sums->read_nbytes + sums->mapped_nbytes);
    json_field_u64(json, "bytes_mapped", sums->mapped_nbytes);
    json_field_u64(json, "bytes_written", sums->written_nbytes);
    json_field_double(json, "seconds", seconds);
    json_field_string(json, "source", sums->source ? sums->source : "none");
    json_field_u64(json, "threads", sums->n_threads);
}

/* What one part has and a sum of several has not. */
static void write_part_fields(json_writer *json, const part *p)
{
    lds_report_stats s = {.struct_size = sizeof s};
    lds_report_get_stats(p->report, &s);
    json_field_string(json, "architecture", lds_network_architecture(p->network));
    json_field_string(json, "reason", s.reason);
    json_field_string(json, "source_reason", s.source_reason);
    json_field_string(json, "fallback", s.fallback);
    json_field_string(json, "cache", s.cache);
    json_key(json, "phases");
    json_object(json);
    json_field_double(json, "plan", s.plan_seconds);
    json_field_double(json, "memory", s.memory_seconds);
    json_field_double(json, "transfer", s.transfer_seconds);
    json_field_double(json, "init", s.init_seconds);
    json_field_double(json, "cache", s.cache_seconds);
    json_field_double(json, "check", s.check_seconds);
    json_field_double(json, "read", s.read_seconds);
    json_field_double(json, "convert", s.convert_seconds);
    json_object_end(json);
}

static void write_digests(json_writer *json, const load_result *result)
{
    output name = {0};
    char text[DIGEST_TEXT_SIZE];
    json_key(json, "digests");
    json_object(json);
    for (size_t i = 0; i < result->n_digests; i++) {
        const digest *d = &result->digests[i];
        json_line(json);
        json_key(json, qualify(&name, d->part, lds_param_name(d->param)));
        json_string(json, digest_text(text, d));
    }
    json_object_end(json);
    output_free(&name);
}

static void write_component(json_writer *json, const load_result *result, size_t i)
{
    const part *p = &result->ps->items[i];
    load_sums sums = {0};
    add_sums(&sums, p);
    json_key(json, p->name);
    json_object(json);
    write_sums(json, &sums, p->seconds);
    write_part_fields(json, p);
    write_lists(json, result, i, i + 1, false);
    json_object_end(json);
}

void put_load_json(output *out, const load_result *result)
{
    load_sums all = {0};
    for (size_t i = 0; i < result->n_parts; i++)
        add_sums(&all, &result->ps->items[i]);
    json_writer json;
    json_begin(&json, out);
    json_object(&json);
    write_sums(&json, &all, result->seconds);
    json_field_u64(&json, "peak_rss_bytes", result->peak_rss_nbytes);
    if (!result->ps->is_pipeline)
        write_part_fields(&json, &result->ps->items[0]);
    write_lists(&json, result, 0, result->n_parts, true);
    json_key(&json, "components");
    json_object(&json);
    for (size_t i = 0; i < result->n_parts && result->ps->is_pipeline; i++)
        write_component(&json, result, i);
    json_object_end(&json);
    if (result->digests)
        write_digests(&json, result);
    json_object_end(&json);
    put_text(out, "\n");
}

static void write_plan_stats(json_writer *json, const lds_plan_stats *stats)
{
    json_field_u64(json, "transfers", stats->n_transfers);
    json_field_u64(json, "bytes_read", stats->read_nbytes + stats->mapped_nbytes);
    json_field_u64(json, "bytes_mapped", stats->mapped_nbytes);
    json_field_u64(json, "bytes_written", stats->written_nbytes);
    json_field_u64(json, "peak_bytes", stats->peak_nbytes);
}

static void write_transfer(json_writer *json, const part *p, const lds_transfer *transfer)
{
    json_line(json);
    json_object(json);
    if (p->name)
        json_field_string(json, "component", p->name);
    json_field_string(json, "tensor", lds_tensor_name(transfer->tensor));
    json_field_string(json, "parameter", lds_param_name(transfer->param));
    json_field_string(json, "file", lds_checkpoint_file(p->checkpoint, lds_tensor_file(transfer->tensor)));
    json_field_u64(json, "file_offset", transfer->file_offset);
    json_field_u64(json, "param_offset", transfer->param_offset);
    json_field_u64(json, "elements", transfer->n_elements);
    json_field_string(json, "from", lds_dtype_name(transfer->src_dtype));
    json_field_string(json, "to", lds_dtype_name(transfer->dst_dtype));
    json_field_bool(json, "mapped", transfer->mapped);
    json_object_end(json);
}

static void write_transfers(json_writer *json, const load_result *result)
{
    json_key(json, "plan");
    json_array(json);
    for (size_t k = 0; k < result->n_parts; k++) {
        const part *p = &result->ps->items[k];
        lds_plan_stats stats = {.struct_size = sizeof stats};
        add_plan(&stats, p);
        for (size_t i = 0; i < stats.n_transfers; i++) {
            lds_transfer transfer = {.struct_size = sizeof transfer};
            lds_plan_get_transfer(p->plan, i, &transfer);
            write_transfer(json, p, &transfer);
        }
    }
    json_array_end(json);
}

void put_plan_json(output *out, const load_result *result)
{
    lds_plan_stats all = {.struct_size = sizeof all};
    for (size_t i = 0; i < result->n_parts; i++)
        add_plan(&all, &result->ps->items[i]);
    json_writer json;
    json_begin(&json, out);
    json_object(&json);
    json_field_bool(&json, "dry_run", true);
    write_plan_stats(&json, &all);
    write_lists(&json, result, 0, result->n_parts, true);
    json_key(&json, "components");
    json_object(&json);
    for (size_t i = 0; i < result->n_parts && result->ps->is_pipeline; i++) {
        lds_plan_stats stats = {.struct_size = sizeof stats};
        add_plan(&stats, &result->ps->items[i]);
        json_key(&json, result->ps->items[i].name);
        json_object(&json);
        write_plan_stats(&json, &stats);
        write_lists(&json, result, i, i + 1, false);
        json_object_end(&json);
    }
    json_object_end(&json);
    if (result->line->verbose)
        write_transfers(&json, result);
    json_object_end(&json);
    put_text(out, "\n");
}
