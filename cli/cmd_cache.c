/* loadstone cache: what load --cache has kept, and taking it away. */
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "command.h"
#include "json_writer.h"
#include "table.h"

static void put_time(output *out, int64_t seconds)
{
    time_t when = (time_t)seconds;
    struct tm parts;
    if (gmtime_r(&when, &parts))
        put_format(out, "%04d-%02d-%02d %02d:%02d UTC", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                   parts.tm_hour, parts.tm_min);
}

static uint64_t put_unfinished(table *t, const lds_cache_list *list)
{
    uint64_t nbytes = 0;
    for (size_t i = 0; i < lds_cache_list_n_unfinished(list); i++) {
        lds_cache_unfinished file = {.struct_size = sizeof file};
        lds_cache_list_get_unfinished(list, i, &file);
        put_text(&t->text, file.is_being_written ? "being written" : "left unfinished");
        table_end_cell(t);
        put_size(&t->text, file.nbytes);
        table_end_cell(t);
        table_end_cell(t);
        put_name(&t->text, file.path);
        table_end_cell(t);
        nbytes += file.nbytes;
    }
    return nbytes;
}

static void put_entries(output *out, const lds_cache_list *list)
{
    uint64_t nbytes = 0;
    size_t n = lds_cache_list_n_entries(list);
    table t;
    table_init(&t, "lrll");
    for (size_t i = 0; i < n; i++) {
        lds_cache_entry entry = {.struct_size = sizeof entry};
        lds_cache_list_get_entry(list, i, &entry);
        put_time(&t.text, entry.used_seconds);
        table_end_cell(&t);
        put_size(&t.text, entry.nbytes);
        table_end_cell(&t);
        put_name(&t.text, entry.source);
        table_end_cell(&t);
        put_name(&t.text, entry.path);
        table_end_cell(&t);
        nbytes += entry.nbytes;
    }
    uint64_t unfinished_nbytes = put_unfinished(&t, list);
    table_put(out, &t, 0);
    put_count(out, n);
    put_text(out, n == 1 ? " entry, " : " entries, ");
    put_size(out, nbytes);
    if (lds_cache_list_n_unfinished(list)) {
        put_text(out, "; ");
        put_count(out, lds_cache_list_n_unfinished(list));
        put_text(out, " unfinished, ");
        put_size(out, unfinished_nbytes);
    }
    put_text(out, "\n");
}

static void put_unfinished_json(json_writer *json, const lds_cache_list *list)
{
    json_key(json, "unfinished");
    json_array(json);
    for (size_t i = 0; i < lds_cache_list_n_unfinished(list); i++) {
        lds_cache_unfinished file = {.struct_size = sizeof file};
        lds_cache_list_get_unfinished(list, i, &file);
        json_line(json);
        json_object(json);
        json_field_string(json, "path", file.path);
        json_field_u64(json, "bytes", file.nbytes);
        json_field_bool(json, "being_written", file.is_being_written);
        json_object_end(json);
    }
    json_array_end(json);
}

static void put_entries_json(output *out, const lds_cache_list *list)
{
    json_writer json;
    json_begin(&json, out);
    json_object(&json);
    json_key(&json, "entries");
    json_array(&json);
    for (size_t i = 0; i < lds_cache_list_n_entries(list); i++) {
        lds_cache_entry entry = {.struct_size = sizeof entry};
        lds_cache_list_get_entry(list, i, &entry);
        json_line(&json);
        json_object(&json);
        json_field_string(&json, "path", entry.path);
        json_field_string(&json, "source", entry.source);
        json_field_u64(&json, "bytes", entry.nbytes);
        json_field_u64(&json, "used", entry.used_seconds > 0 ? (uint64_t)entry.used_seconds : 0);
        json_object_end(&json);
    }
    json_array_end(&json);
    put_unfinished_json(&json, list);
    json_object_end(&json);
    put_text(out, "\n");
}

static int list_cache(const command_line *line, output *out)
{
    lds_error err = LDS_ERROR_INIT;
    lds_cache_list *list;
    lds_status status = lds_cache_list_new(&list, line->cache, &err);
    if (status)
        return fail(status, &err);
    if (line->json)
        put_entries_json(out, list);
    else
        put_entries(out, list);
    lds_cache_list_free(list);
    return CLI_DONE;
}

static int clear_cache(const command_line *line, output *out)
{
    lds_error err = LDS_ERROR_INIT;
    uint64_t removed_nbytes;
    lds_status status = lds_cache_trim(line->cache, line->cache_size, &removed_nbytes, &err);
    if (status)
        return fail(status, &err);
    if (line->json) {
        json_writer json;
        json_begin(&json, out);
        json_object(&json);
        json_field_u64(&json, "bytes_removed", removed_nbytes);
        json_object_end(&json);
        put_text(out, "\n");
    } else {
        put_text(out, "removed ");
        put_size(out, removed_nbytes);
        put_text(out, "\n");
    }
    return CLI_DONE;
}

static int run_cache(const command_line *line, output *out)
{
    bool lists = !strcmp(line->path, "list");
    if (lists && line->cache_size)
        return fail_usage("cache", "--cache-size: expected clear with it, found list");
    if (lists)
        return list_cache(line, out);
    if (!strcmp(line->path, "clear"))
        return clear_cache(line, out);
    return fail_usage("cache", "expected list or clear, found '%s'", line->path);
}

#define FIELD(name) offsetof(command_line, name)

static const option options[] = {
    {"cache", 0, OPTION_MAYBE, FIELD(cache), "DIR", "the folder (loadstone/ in the user's cache folder)"},
    {"cache-size", 0, OPTION_SIZE, FIELD(cache_size), "SIZE", "with clear: what may stay, the last used (0)"},
};

const command cache_command = {
    .name = "cache",
    .operand = "list|clear",
    .summary = "list or remove what load --cache has kept",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .run = run_cache,
};
