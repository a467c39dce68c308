/* The list of a pipeline's components: its model_index.json. */
#ifndef LDS_CHECKPOINT_MODEL_INDEX_H
#define LDS_CHECKPOINT_MODEL_INDEX_H

#include "src/checkpoint/checkpoint.h"

typedef struct lds_listed_component {
    const char *name; /* which is that of its folder, too */
    const char *class_name;
} lds_listed_component;

typedef struct lds_model_index {
    lds_listed_component *components; /* in the order of the file */
    size_t n, capacity;
    lds_names names; /* of the components, to refuse repeated ones */
} lds_model_index;

/*
 * Parse the JSON text of a model_index.json in place; names and classes point into it. What cannot be the name of
 * a folder beside the file is refused. path is for messages. *index is to be destroyed whatever the result.
 */
lds_status lds_model_index_parse(lds_model_index *index, char *text, size_t nbytes, const char *path,
                                 lds_error *err);
void lds_model_index_destroy(lds_model_index *index);

#endif
