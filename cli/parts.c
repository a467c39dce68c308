/* Opening what a command was given. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

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
    free(ps->items);
    lds_checkpoint_close(ps->checkpoint);
    *ps = (parts){0};
}

const char *part_title(const part *p)
{
    return p->name ? p->name : lds_checkpoint_path(p->checkpoint);
}
