/* What PATH leads to, part by part: a checkpoint has one part, a pipeline one for each component. */
#ifndef CLI_PARTS_H
#define CLI_PARTS_H

#include "command_line.h"
#include "loadstone.h"

typedef struct part {
    const char *name; /* of the component; NULL if this is no pipeline */
    const lds_checkpoint *checkpoint;
} part;

typedef struct parts {
    lds_checkpoint *checkpoint;
    part *items;
    size_t n;
    bool is_pipeline;
} parts;

/* Open line->path. On failure there is nothing to close. */
lds_status parts_open(parts *ps, const command_line *line, lds_error *err);

void parts_close(parts *ps);

/* The name in a title: the component's, or where the checkpoint was found. */
const char *part_title(const part *p);

#endif
