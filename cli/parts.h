/* What PATH leads to, part by part: a checkpoint has one part, a pipeline one for each component. */
#ifndef CLI_PARTS_H
#define CLI_PARTS_H

#include "command_line.h"
#include "loadstone.h"

typedef struct part {
    const char *name; /* of the component; NULL if this is no pipeline */
    const lds_checkpoint *checkpoint;
    lds_network *network; /* once it has been asked for */
    text_list names;      /* those of --names that mean parameters of it */
    lds_plan *plan;       /* of a dry run */
    lds_report *report;   /* once planned or loaded, also if the two do not fit */
    double seconds;       /* that the load took, making the network included */
} part;

typedef struct parts {
    lds_checkpoint *checkpoint;
    part *items;
    size_t n;
    bool is_pipeline;
    bool is_directory; /* PATH is a directory or a hub model, where a config.json may be */
} parts;

/* Open line->path. On failure there is nothing to close. */
lds_status parts_open(parts *ps, const command_line *line, lds_error *err);

void parts_close(parts *ps);

/*
 * Make the network that a part is loaded into when no manifest says which: from the config.json in its
 * directory, else (there is none, PATH is a single file, or the architecture is not known, which is said on
 * stderr) the checkpoint's own names, or what keymap, unless it is NULL, makes of them. Floats become line->dtype,
 * or what most of the checkpoint's are.
 */
lds_status part_make_network(part *p, const parts *ps, const command_line *line, const lds_keymap *keymap,
                             lds_error *err);

/*
 * Once all have their networks: leave the parts alone that have nothing that --names means. CLI_DONE, or
 * CLI_MISMATCH after saying which pattern means nothing in any part. A --keep-f32 of that kind is said, too, but
 * no error: a script may well name what only some models have.
 */
int parts_select(parts *ps, const command_line *line);

/* The name in a title: the component's, or where the checkpoint was found. */
const char *part_title(const part *p);

/* True if there is a config.json in the directory, be it a link that leads nowhere, which is then an error. */
bool has_config(const char *dir);

#endif
