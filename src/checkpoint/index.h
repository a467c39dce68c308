/* The index of a sharded checkpoint: which file each tensor is in. */
#ifndef LDS_CHECKPOINT_INDEX_H
#define LDS_CHECKPOINT_INDEX_H

#include "src/checkpoint/checkpoint.h"

typedef struct lds_index {
    lds_names names;    /* of the tensors, in the order of the weight_map */
    uint32_t *shard_of; /* for each name, an index for shards */
    size_t shard_of_capacity;
    const char **shards; /* relative paths, sorted, each once */
    size_t n_shards;
} lds_index;

/*
 * Parse the JSON text of an index in place; names and shards point into it. Shards that would lie outside the
 * index's directory are refused. path is for messages. *index is to be destroyed whatever the result.
 */
lds_status lds_index_parse(lds_index *index, char *text, size_t nbytes, const char *path, lds_error *err);
void lds_index_destroy(lds_index *index);

#endif
