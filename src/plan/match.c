/*
 * Matching tensors with parameters.
 *
 * Each tensor's name goes through the key map and is looked up in the network; hashes were computed when the
 * names were read, so without a key map this is one probe a tensor. A tied parameter stands for the one it is
 * tied to: either of the names may be in the checkpoint, or both.
 */
#include "src/plan/match.h"

#include <stdio.h>

#include "src/base/regex.h"
#include "src/dtype/dtype.h"
#include "src/plan/keymap.h"

typedef struct matcher {
    lds_match_table *table;
    lds_network *network;
    const lds_checkpoint *checkpoint;
    const lds_load_options *options;
    lds_report *report;
    uint32_t *led_by;    /* for each parameter: the tensor whose name leads to it */
    uint32_t *tensor_of; /* for each parameter that is not tied: the tensor that fills it */
    uint32_t next;       /* the parameter after the one that the last tensor led to */
    lds_regex **ignored;
    size_t n_ignored;
    lds_keymap_scratch scratch;
} matcher;

static uint32_t root_index(const lds_network *network, uint32_t index)
{
    const lds_param *root = network->params[index].tied_to;
    return root ? (uint32_t)(root - network->params) : index;
}

static void select_param(matcher *m, uint32_t index)
{
    m->table->states[index] = LDS_PARAM_MISSING;
    m->table->states[root_index(m->network, index)] = LDS_PARAM_MISSING;
}

/* Select the parameters that one of options->names means: a name, or a glob. */
static lds_status select_names(matcher *m, const char *glob, lds_error *err)
{
    uint32_t exact = lds_names_find(&m->network->names, lds_name_of(glob, strlen(glob)));
    bool any = exact != LDS_NO_INDEX;
    if (any)
        select_param(m, exact);
    else if (strpbrk(glob, "*?["))
        for (uint32_t i = 0; i < m->network->n_params; i++)
            if (lds_glob_match(glob, m->network->params[i].name.text)) {
                select_param(m, i);
                any = true;
            }
    return any ? LDS_OK : lds_fail(err, LDS_ERR_NAME, "no parameter of the network matches '%s'", glob);
}

static lds_status select_all(matcher *m, lds_error *err)
{
    if (!m->options->n_names)
        memset(m->table->states, LDS_PARAM_MISSING, m->network->n_params);
    for (size_t i = 0; i < m->options->n_names; i++)
        LDS_TRY(select_names(m, m->options->names[i], err));
    return LDS_OK;
}

lds_dtype lds_target_dtype(const lds_param *param, const lds_load_options *options)
{
    lds_dtype dtype = lds_param_dtype(param);
    if (!lds_dtype_is_float(dtype))
        return dtype;
    for (size_t i = 0; i < options->n_keep_f32; i++)
        if (lds_glob_match(options->keep_f32[i], lds_param_name(param)))
            return LDS_F32;
    return options->dtype ? options->dtype : dtype;
}

/* A tensor that leads to no parameter is unexpected, unless the network's class passes over its name. */
static lds_status note_unexpected(matcher *m, const lds_tensor *t, lds_error *err)
{
    bool found = false;
    for (size_t i = 0; i < m->n_ignored && !found; i++)
        LDS_TRY(lds_regex_match(m->ignored[i], &m->scratch.regex, t->name.text, t->name.nbytes, 0, 0, &found,
                                err));
    return found ? LDS_OK : lds_report_add(m->report, LDS_REPORT_UNEXPECTED, t->name.text, NULL, err);
}

static bool same_shape(const lds_param *param, uint32_t n_dims, const uint64_t *shape)
{
    return param->n_dims == n_dims && !memcmp(param->shape, shape, n_dims * sizeof *shape);
}

static lds_status note_mismatch(matcher *m, uint32_t root, uint32_t n_dims, const uint64_t *shape,
                                lds_error *err)
{
    const lds_param *p = &m->network->params[root];
    char expected[200], found[200], detail[440];
    snprintf(detail, sizeof detail, "expected %s, found %s",
             lds_shape_text(expected, sizeof expected, p->n_dims, p->shape),
             lds_shape_text(found, sizeof found, n_dims, shape));
    m->table->states[root] = LDS_PARAM_MISMATCHED;
    return lds_report_add_mismatch(m->report, p->name.text, detail, n_dims, shape, err);
}

/* Make tensor t, whose name leads to parameter index, the source of its root, unless another is. */
static lds_status assign(matcher *m, uint32_t t, uint32_t root, uint32_t index, lds_error *err)
{
    const lds_tensor *tensor = &m->checkpoint->tensors[t];
    uint32_t earlier = m->tensor_of[root];
    if (earlier != LDS_NO_INDEX) {
        if (index != root) /* both names of a tie are there: the parameter's own decides */
            return LDS_OK;
        m->table->param_of[earlier] = LDS_NO_INDEX;
    }
    lds_dtype dtype = lds_target_dtype(&m->network->params[root], m->options);
    if (!lds_dtype_converts((lds_dtype)tensor->dtype, dtype))
        return lds_fail(err, LDS_ERR_UNSUPPORTED,
                        "expected %s, found %s: there is no conversion between them", lds_dtype_name(dtype),
                        lds_dtype_name((lds_dtype)tensor->dtype));
    m->tensor_of[root] = t;
    m->table->param_of[t] = root;
    m->table->states[root] = LDS_PARAM_FOUND;
    return LDS_OK;
}

static lds_status match_tensor(matcher *m, uint32_t t, lds_error *err)
{
    const lds_tensor *tensor = &m->checkpoint->tensors[t];
    lds_name name = tensor->name;
    uint32_t n_dims = tensor->n_dims;
    const uint64_t *shape = tensor->shape;
    lds_mapped mapped;
    if (m->options->keymap) {
        LDS_TRY(lds_keymap_apply(m->options->keymap, &m->scratch, name, n_dims, shape, &mapped, err));
        if (mapped.dropped)
            return LDS_OK;
        name = lds_name_of(mapped.name, mapped.name_nbytes);
        if (mapped.changed_shape) {
            n_dims = mapped.n_dims;
            shape = mapped.shape;
        }
    }
    uint32_t index = lds_names_find_near(&m->network->names, name, m->next);
    if (index == LDS_NO_INDEX)
        return note_unexpected(m, tensor, err);
    m->next = index + 1;
    uint32_t root = root_index(m->network, index);
    if (m->table->states[root] == LDS_PARAM_UNSELECTED)
        return LDS_OK;
    uint32_t earlier = m->led_by[index];
    if (earlier != LDS_NO_INDEX)
        return lds_fail(err, LDS_ERR_NAME, "leads to parameter %s, and so does tensor %s",
                        m->network->params[index].name.text, m->checkpoint->tensors[earlier].name.text);
    m->led_by[index] = t;
    if (!same_shape(&m->network->params[root], n_dims, shape))
        return m->table->states[root] == LDS_PARAM_MISSING ? note_mismatch(m, root, n_dims, shape, err)
                                                           : LDS_OK;
    return assign(m, t, root, index, err);
}

static lds_status match_all(matcher *m, lds_error *err)
{
    for (uint32_t t = 0; t < m->checkpoint->names.n; t++) {
        m->table->param_of[t] = LDS_NO_INDEX;
        lds_status status = match_tensor(m, t, err);
        if (status == LDS_ERR_MEMORY)
            return status;
        if (status) {
            const lds_tensor *tensor = &m->checkpoint->tensors[t];
            return lds_error_context(err, status, m->checkpoint->files[tensor->file].path, tensor->name.text);
        }
    }
    return LDS_OK;
}

static lds_status list_params(matcher *m, lds_error *err)
{
    for (uint32_t i = 0; i < m->network->n_params; i++) {
        const lds_param *p = &m->network->params[i];
        uint8_t state = m->table->states[root_index(m->network, i)];
        if (!p->tied_to && state == LDS_PARAM_MISSING)
            LDS_TRY(lds_report_add(m->report, LDS_REPORT_MISSING, p->name.text, NULL, err));
        if (p->tied_to && state == LDS_PARAM_FOUND)
            LDS_TRY(lds_report_add(m->report, LDS_REPORT_TIED, p->name.text, p->tied_to->name.text, err));
    }
    return LDS_OK;
}

static lds_status compile_ignored(matcher *m, lds_error *err)
{
    size_t n = 0;
    while (m->network->ignored && m->network->ignored[n])
        n++;
    LDS_TRY(lds_calloc(&m->ignored, n, sizeof *m->ignored, err));
    for (; m->n_ignored < n; m->n_ignored++)
        LDS_TRY(lds_regex_compile(&m->ignored[m->n_ignored], m->network->ignored[m->n_ignored], err));
    return LDS_OK;
}

static lds_status match_with(matcher *m, lds_error *err)
{
    size_t n_params = m->network->n_params;
    LDS_TRY(lds_calloc(&m->table->param_of, m->checkpoint->names.n, sizeof *m->table->param_of, err));
    LDS_TRY(lds_calloc(&m->table->states, n_params, 1, err));
    LDS_TRY(lds_calloc(&m->led_by, n_params, sizeof *m->led_by, err));
    LDS_TRY(lds_calloc(&m->tensor_of, n_params, sizeof *m->tensor_of, err));
    memset(m->led_by, 0xFF, n_params * sizeof *m->led_by);
    memset(m->tensor_of, 0xFF, n_params * sizeof *m->tensor_of);
    LDS_TRY(compile_ignored(m, err));
    LDS_TRY(select_all(m, err));
    LDS_TRY(match_all(m, err));
    return list_params(m, err);
}

lds_status lds_match_names(lds_match_table *table, lds_network *network, const lds_checkpoint *checkpoint,
                           const lds_load_options *options, lds_report *report, lds_error *err)
{
    matcher m = {
        .table = table, .network = network, .checkpoint = checkpoint, .options = options, .report = report};
    lds_status status = match_with(&m, err);
    free(m.led_by);
    free(m.tensor_of);
    for (size_t i = 0; i < m.n_ignored; i++)
        lds_regex_free(m.ignored[i]);
    free(m.ignored);
    lds_keymap_scratch_destroy(&m.scratch);
    return status;
}

void lds_match_table_destroy(lds_match_table *table)
{
    free(table->param_of);
    free(table->states);
}

/* Append "<n> <what> (first <name>[: <detail>])" to text. */
static void count_list(char *text, size_t size, const lds_report *report, lds_report_list list,
                       const char *what)
{
    size_t n = lds_report_count(report, list), at = strlen(text);
    if (!n)
        return;
    const char *name = lds_report_name(report, list, 0), *detail = lds_report_detail(report, list, 0);
    snprintf(text + at, size - at, "%s%zu %s (first %.200s%s%s)", at ? ", " : "", n, what,
             *name ? name : "\"\"", detail ? ": " : "", detail ? detail : "");
}

lds_status lds_match_verdict(const lds_report *report, const lds_checkpoint *checkpoint,
                             const lds_load_options *options, lds_error *err)
{
    char text[900] = "";
    if (options->strict) {
        count_list(text, sizeof text, report, LDS_REPORT_MISSING, "missing");
        count_list(text, sizeof text, report, LDS_REPORT_UNEXPECTED, "unexpected");
    }
    if (!options->ignore_mismatched)
        count_list(text, sizeof text, report, LDS_REPORT_MISMATCHED, "of another shape");
    if (!*text)
        return LDS_OK;
    lds_fail(err, LDS_ERR_MISMATCH, "does not fit the network: %s", text);
    return lds_error_context(err, LDS_ERR_MISMATCH, checkpoint->path, NULL);
}
