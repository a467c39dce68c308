/* loadstone inspect: what is in a checkpoint, from its headers alone. */
#include <stddef.h>

#include "command.h"
#include "json_writer.h"
#include "parts.h"
#include "table.h"
#include "tree.h"

static void put_tensors(output *out, const lds_checkpoint *checkpoint)
{
    table t;
    table_init(&t, "llrl");
    table_cell(&t, "tensor");
    table_cell(&t, "dtype");
    table_cell(&t, "size");
    table_cell(&t, "shape");
    size_t n = lds_checkpoint_n_tensors(checkpoint);
    for (size_t i = 0; i < n; i++) {
        const lds_tensor *tensor = lds_checkpoint_tensor(checkpoint, i);
        put_name(&t.text, lds_tensor_name(tensor));
        table_end_cell(&t);
        put_dtype(&t.text, lds_tensor_dtype(tensor));
        table_end_cell(&t);
        put_size(&t.text, lds_tensor_nbytes(tensor));
        table_end_cell(&t);
        put_shape(&t.text, lds_tensor_n_dims(tensor), lds_tensor_shape(tensor));
        table_end_cell(&t);
    }
    table_put(out, &t, 0);
}

enum { N_DTYPES = 64 };

typedef struct totals {
    uint64_t n_tensors, nbytes;
} totals;

/* Dtype LDS_DTYPE_NONE is for the row of all of them. */
static void add_total_row(table *t, lds_dtype dtype, const totals *total)
{
    if (dtype)
        put_dtype(&t->text, dtype);
    else
        put_text(&t->text, "total");
    table_end_cell(t);
    put_count(&t->text, total->n_tensors);
    table_end_cell(t);
    table_cell(t, total->n_tensors == 1 ? "tensor" : "tensors");
    put_size(&t->text, total->nbytes);
    table_end_cell(t);
}

/* One line for each dtype, and one for all if there are several. */
static void put_totals(output *out, const lds_checkpoint *checkpoint)
{
    totals by_dtype[N_DTYPES] = {0}, all = {0};
    size_t n = lds_checkpoint_n_tensors(checkpoint), n_used = 0;
    for (size_t i = 0; i < n; i++) {
        const lds_tensor *tensor = lds_checkpoint_tensor(checkpoint, i);
        totals *total = &by_dtype[lds_tensor_dtype(tensor) % N_DTYPES];
        n_used += !total->n_tensors++;
        total->nbytes += lds_tensor_nbytes(tensor);
        all.n_tensors++;
        all.nbytes += lds_tensor_nbytes(tensor);
    }
    table t;
    table_init(&t, "lrlr");
    for (int dtype = 0; dtype < N_DTYPES; dtype++)
        if (by_dtype[dtype].n_tensors)
            add_total_row(&t, (lds_dtype)dtype, &by_dtype[dtype]);
    if (n_used != 1)
        add_total_row(&t, LDS_DTYPE_NONE, &all);
    table_put(out, &t, 0);
}

static void put_metadata(output *out, const lds_checkpoint *checkpoint)
{
    size_t n = lds_checkpoint_n_metadata(checkpoint);
    if (!n)
        return;
    put_text(out, "\nmetadata\n");
    table t;
    table_init(&t, "ll");
    for (size_t i = 0; i < n; i++) {
        put_name(&t.text, lds_checkpoint_metadata_key(checkpoint, i));
        table_end_cell(&t);
        put_name(&t.text, lds_checkpoint_metadata_value(checkpoint, i));
        table_end_cell(&t);
    }
    table_put(out, &t, 2);
}

static void put_text_form(output *out, const parts *ps, const command_line *line)
{
    for (size_t i = 0; i < ps->n; i++) {
        const part *p = &ps->items[i];
        put_text(out, i ? "\n" : "");
        put_name(out, part_title(p));
        put_text(out, "\n\n");
        if (line->tree)
            put_tree(out, p->checkpoint);
        else
            put_tensors(out, p->checkpoint);
        put_text(out, "\n");
        put_totals(out, p->checkpoint);
        put_metadata(out, p->checkpoint);
    }
}

static void write_tensor(json_writer *json, const lds_checkpoint *checkpoint, const lds_tensor *tensor,
                         const char *component)
{
    json_line(json);
    json_object(json);
    json_field_string(json, "name", lds_tensor_name(tensor));
    json_field_string(json, "dtype", lds_dtype_name(lds_tensor_dtype(tensor)));
    json_field_shape(json, "shape", lds_tensor_n_dims(tensor), lds_tensor_shape(tensor));
    json_field_string(json, "file", lds_checkpoint_file(checkpoint, lds_tensor_file(tensor)));
    json_field_u64(json, "offset", lds_tensor_offset(tensor));
    json_field_u64(json, "nbytes", lds_tensor_nbytes(tensor));
    if (component) {
        json_field_string(json, "component", component);
    }
    json_object_end(json);
}

/* Those of parts first to end, in one array. */
static void write_tensors(json_writer *json, const parts *ps, size_t first, size_t end)
{
    json_key(json, "tensors");
    json_array(json);
    for (size_t i = first; i < end; i++) {
        const part *p = &ps->items[i];
        size_t n = lds_checkpoint_n_tensors(p->checkpoint);
        for (size_t k = 0; k < n; k++)
            write_tensor(json, p->checkpoint, lds_checkpoint_tensor(p->checkpoint, k), p->name);
    }
    json_array_end(json);
}

static void write_metadata(json_writer *json, const lds_checkpoint *checkpoint)
{
    json_key(json, "metadata");
    json_object(json);
    size_t n = lds_checkpoint_n_metadata(checkpoint);
    for (size_t i = 0; i < n; i++) {
        json_key(json, lds_checkpoint_metadata_key(checkpoint, i));
        json_string(json, lds_checkpoint_metadata_value(checkpoint, i));
    }
    json_object_end(json);
}

static void write_json_form(output *out, const parts *ps)
{
    json_writer json;
    json_begin(&json, out);
    json_object(&json);
    write_tensors(&json, ps, 0, ps->n);
    write_metadata(&json, ps->checkpoint);
    if (ps->is_pipeline) {
        json_key(&json, "components");
        json_object(&json);
        for (size_t i = 0; i < ps->n; i++) {
            json_key(&json, ps->items[i].name);
            json_object(&json);
            write_tensors(&json, ps, i, i + 1);
            write_metadata(&json, ps->items[i].checkpoint);
            json_object_end(&json);
        }
        json_object_end(&json);
    }
    json_object_end(&json);
    put_text(out, "\n");
}

static int run_inspect(const command_line *line, output *out)
{
    lds_error err = LDS_ERROR_INIT;
    parts ps;
    lds_status status = parts_open(&ps, line, &err);
    if (status)
        return fail(status, &err);
    if (line->json)
        write_json_form(out, &ps);
    else
        put_text_form(out, &ps, line);
    parts_close(&ps);
    return CLI_DONE;
}

static const option options[] = {
    {"tree", 't', OPTION_FLAG, offsetof(command_line, tree), NULL, "by module, repeated blocks shown once"},
};

const command inspect_command = {
    .name = "inspect",
    .operand = "PATH",
    .opens_checkpoint = true,
    .summary = "list the tensors, dtypes, sizes and metadata of a checkpoint",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .run = run_inspect,
};
