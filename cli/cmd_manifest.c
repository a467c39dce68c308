/* loadstone manifest: the network that a directory's weights are for, in the form that load reads back. */
#include <stddef.h>

#include "command.h"
#include "json_writer.h"
#include "parts.h"
#include "table.h"

/* The numbers that belong to an init rule. */
enum { HAS_A = 1, HAS_B = 2, HAS_RANGE = 4 };

static unsigned numbers_of(lds_init_kind kind)
{
    switch (kind) {
    case LDS_INIT_CONSTANT:
    case LDS_INIT_XAVIER_UNIFORM:
    case LDS_INIT_XAVIER_NORMAL:
    case LDS_INIT_KAIMING_UNIFORM:
    case LDS_INIT_KAIMING_NORMAL: return HAS_A;
    case LDS_INIT_NORMAL:
    case LDS_INIT_ARANGE: return HAS_A | HAS_B;
    case LDS_INIT_TRUNC_NORMAL: return HAS_A | HAS_B | HAS_RANGE;
    case LDS_INIT_UNIFORM: return HAS_RANGE;
    default: return 0;
    }
}

static void write_init(json_writer *json, lds_init init)
{
    unsigned numbers = numbers_of(init.kind);
    if (!numbers) {
        json_string(json, lds_init_kind_name(init.kind));
        return;
    }
    json_object(json);
    json_field_string(json, "kind", lds_init_kind_name(init.kind));
    if (numbers & HAS_A)
        json_field_double(json, "a", init.a);
    if (numbers & HAS_B)
        json_field_double(json, "b", init.b);
    if (numbers & HAS_RANGE) {
        json_field_double(json, "lo", init.lo);
        json_field_double(json, "hi", init.hi);
    }
    json_object_end(json);
}

static void write_param(json_writer *json, const lds_param *param)
{
    const lds_param *tied_to = lds_param_tied_to(param);
    json_line(json);
    json_object(json);
    json_field_string(json, "name", lds_param_name(param));
    json_field_string(json, "dtype", lds_dtype_name(lds_param_dtype(param)));
    json_field_shape(json, "shape", lds_param_n_dims(param), lds_param_shape(param));
    json_key(json, "init");
    write_init(json, lds_param_init(param));
    json_field_string(json, "tied_to", tied_to ? lds_param_name(tied_to) : NULL);
    json_object_end(json);
}

static void write_network(json_writer *json, const lds_network *network)
{
    json_array(json);
    size_t n = lds_network_n_params(network);
    for (size_t i = 0; i < n; i++)
        write_param(json, lds_network_param(network, i));
    json_array_end(json);
}

static void put_init(output *out, lds_init init)
{
    unsigned numbers = numbers_of(init.kind);
    put_text(out, init.kind == LDS_INIT_NONE ? "" : lds_init_kind_name(init.kind));
    if (numbers & HAS_A)
        put_format(out, " %g", init.a);
    if (numbers & HAS_B)
        put_format(out, ", %g", init.b);
    if (numbers & HAS_RANGE)
        put_format(out, "%s %g to %g", numbers & HAS_A ? "," : "", init.lo, init.hi);
}

static void put_network(output *out, const lds_network *network)
{
    table t;
    table_init(&t, "lllll");
    table_cell(&t, "parameter");
    table_cell(&t, "dtype");
    table_cell(&t, "shape");
    table_cell(&t, "init");
    table_cell(&t, "tied to");
    uint64_t numel = 0, nbytes = 0;
    size_t n = lds_network_n_params(network);
    for (size_t i = 0; i < n; i++) {
        const lds_param *param = lds_network_param(network, i), *tied_to = lds_param_tied_to(param);
        put_name(&t.text, lds_param_name(param));
        table_end_cell(&t);
        put_dtype(&t.text, lds_param_dtype(param));
        table_end_cell(&t);
        put_shape(&t.text, lds_param_n_dims(param), lds_param_shape(param));
        table_end_cell(&t);
        put_init(&t.text, lds_param_init(param));
        table_end_cell(&t);
        if (tied_to)
            put_name(&t.text, lds_param_name(tied_to));
        table_end_cell(&t);
        numel += tied_to ? 0 : lds_param_numel(param);
        nbytes += tied_to ? 0 : lds_param_nbytes(param);
    }
    table_put(out, &t, 0);
    put_text(out, "\n");
    put_count(out, n);
    put_text(out, n == 1 ? " parameter, " : " parameters, ");
    put_count(out, numel);
    put_text(out, numel == 1 ? " element, " : " elements, ");
    put_size(out, nbytes);
    put_text(out, "\n");
}

/* A network with its name: of the component, or NULL. */
static void put_titled(output *out, const char *title, const lds_network *network)
{
    const char *architecture = lds_network_architecture(network);
    put_text(out, out->n ? "\n" : "");
    put_name(out, title);
    if (architecture) {
        put_text(out, ": ");
        put_name(out, architecture);
    }
    put_text(out, "\n\n");
    put_network(out, network);
}

static void put_parts(output *out, const parts *ps, bool as_json)
{
    if (!as_json) {
        for (size_t i = 0; i < ps->n; i++)
            put_titled(out, part_title(&ps->items[i]), ps->items[i].network);
        return;
    }
    json_writer json;
    json_begin(&json, out);
    if (ps->is_pipeline)
        json_object(&json);
    for (size_t i = 0; i < ps->n; i++) {
        if (ps->is_pipeline)
            json_key(&json, ps->items[i].name);
        write_network(&json, ps->items[i].network);
    }
    if (ps->is_pipeline)
        json_object_end(&json);
    put_text(out, "\n");
}

/* A directory that has a config and no weights has a network all the same. */
static int run_without_weights(const command_line *line, output *out)
{
    lds_error err = LDS_ERROR_INIT;
    lds_network *network;
    lds_status status = lds_network_from_config(&network, line->path, (lds_dtype)line->dtype, &err);
    if (status)
        return fail(status, &err);
    part only = {.name = line->path, .network = network};
    put_parts(out, &(parts){.items = &only, .n = 1}, line->json);
    lds_network_free(network);
    return CLI_DONE;
}

static int run_manifest(const command_line *line, output *out)
{
    lds_error err = LDS_ERROR_INIT;
    parts ps;
    lds_status status = parts_open(&ps, line, &err);
    if (status == LDS_ERR_NOT_FOUND && has_config(line->path))
        return run_without_weights(line, out);
    if (status)
        return fail(status, &err);
    for (size_t i = 0; i < ps.n && !status; i++)
        status = part_make_network(&ps.items[i], &ps, line, NULL, &err);
    if (!status)
        put_parts(out, &ps, line->json);
    parts_close(&ps);
    return status ? fail(status, &err) : CLI_DONE;
}

static const option options[] = {
    {"dtype", 'd', OPTION_DTYPE, offsetof(command_line, dtype), "DTYPE",
     "of the float parameters (what most of the checkpoint's are)"},
    {"quiet", 'q', OPTION_FLAG, offsetof(command_line, quiet), NULL,
     "do not say that an architecture is not known"},
};

const command manifest_command = {
    .name = "manifest",
    .operand = "PATH",
    .opens_checkpoint = true,
    .summary = "print the network that a checkpoint is for: names, dtypes, shapes, init rules, ties",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .run = run_manifest,
};
