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

void parts_close(parts *ps)
{
    for (size_t i = 0; i < ps->n; i++) {
        lds_report_free(ps->items[i].report);
        lds_plan_free(ps->items[i].plan);
        lds_network_free(ps->items[i].network);
    }
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

lds_status part_make_network(part *p, const parts *ps, const command_line *line, lds_error *err)
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
    return lds_network_from_checkpoint(&p->network, p->checkpoint, (lds_dtype)line->dtype, err);
}

const char *part_title(const part *p)
{
    return p->name ? p->name : lds_checkpoint_path(p->checkpoint);
}
