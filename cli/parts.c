/*
 * A directory says by its config.json which network its weights are for. A single file says nothing of the
 * kind, even if a config lies beside it: it may be one shard of many.
 */
#include "parts.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "command.h"

lds_status parts_open(parts *ps, const command_line *line, lds_error *err)
{
    *ps = (parts){0};
    lds_checkpoint_options options;
    lds_checkpoint_options_init(&options, sizeof options);
    options.variant = line->variant;
    options.revision = line->revision;
    lds_status status = lds_checkpoint_open(&ps->checkpoint, line->path, &options, err);
    if (status)
        return status;

    struct stat st;
    ps->is_directory = stat(line->path, &st) || S_ISDIR(st.st_mode);
    size_t n = lds_checkpoint_n_components(ps->checkpoint);
    ps->is_pipeline = n > 0;
    ps->n = n ? n : 1;
    ps->items = allocate(NULL, ps->n, sizeof *ps->items);
    ps->items[0] = (part){.checkpoint = ps->checkpoint};
    for (size_t i = 0; i < n; i++)
        ps->items[i] = (part){.name = lds_checkpoint_component_name(ps->checkpoint, i),
                              .checkpoint = lds_checkpoint_component(ps->checkpoint, i)};
    return LDS_OK;
}

static void part_close(part *p)
{
    lds_report_free(p->report);
    lds_plan_free(p->plan);
    lds_network_free(p->network);
    free(p->names.items);
}

void parts_close(parts *ps)
{
    for (size_t i = 0; i < ps->n; i++)
        part_close(&ps->items[i]);
    free(ps->items);
    lds_checkpoint_close(ps->checkpoint);
    *ps = (parts){0};
}

bool has_config(const char *dir)
{
    output path = {0};
    put_format(&path, "%s/config.json", dir);
    put(&path, "", 1);
    struct stat st;
    bool found = !lstat(path.data, &st);
    output_free(&path);
    return found;
}

lds_status part_make_network(part *p, const parts *ps, const command_line *line, const lds_keymap *keymap,
                             lds_error *err)
{
    const char *dir = lds_checkpoint_dir(p->checkpoint);
    if (ps->is_directory && has_config(dir)) {
        lds_dtype dtype = line->dtype ? (lds_dtype)line->dtype : lds_checkpoint_dtype(p->checkpoint);
        lds_status status = lds_network_from_config(&p->network, dir, dtype, err);
        if (status != LDS_ERR_ARCHITECTURE)
            return status;
        if (!line->quiet)
            complain("%s; going by the checkpoint's own names", err->message);
    }
    if (keymap)
        return lds_network_from_keymap(&p->network, p->checkpoint, keymap, (lds_dtype)line->dtype, err);
    return lds_network_from_checkpoint(&p->network, p->checkpoint, (lds_dtype)line->dtype, err);
}

/* As lds_load_options has it: a name, or a glob. */
static bool has_param(const part *p, const char *glob)
{
    bool found = lds_network_find(p->network, glob) != NULL;
    size_t n = lds_network_n_params(p->network);
    for (size_t i = 0; i < n && !found; i++)
        found = lds_glob_match(glob, lds_param_name(lds_network_param(p->network, i)));
    return found;
}

static bool has_float(const part *p, const char *glob)
{
    bool found = false;
    size_t n = lds_network_n_params(p->network);
    for (size_t i = 0; i < n && !found; i++) {
        const lds_param *param = lds_network_param(p->network, i);
        found = lds_dtype_is_float(lds_param_dtype(param)) && lds_glob_match(glob, lds_param_name(param));
    }
    return found;
}

static bool share_out(parts *ps, const char *glob)
{
    bool found = false;
    for (size_t i = 0; i < ps->n; i++)
        if (has_param(&ps->items[i], glob)) {
            text_list_add(&ps->items[i].names, glob);
            found = true;
        }
    return found;
}

static void remove_unnamed(parts *ps)
{
    size_t n = 0;
    for (size_t i = 0; i < ps->n; i++) {
        if (ps->items[i].names.n)
            ps->items[n++] = ps->items[i];
        else
            part_close(&ps->items[i]);
    }
    ps->n = n;
}

int parts_select(parts *ps, const command_line *line)
{
    const char *whole = ps->is_pipeline ? "any component" : "the network";
    for (size_t i = 0; i < line->keep_f32.n && !line->quiet; i++) {
        bool found = false;
        for (size_t k = 0; k < ps->n && !found; k++)
            found = has_float(&ps->items[k], line->keep_f32.items[i]);
        if (!found)
            complain("--keep-f32: no float parameter of %s matches '%s'", whole, line->keep_f32.items[i]);
    }
    for (size_t i = 0; i < line->names.n; i++)
        if (!share_out(ps, line->names.items[i])) {
            complain("--names: no parameter of %s matches '%s'", whole, line->names.items[i]);
            return CLI_MISMATCH;
        }
    if (line->names.n)
        remove_unnamed(ps);
    return CLI_DONE;
}

const char *part_title(const part *p)
{
    return p->name ? p->name : lds_checkpoint_path(p->checkpoint);
}
