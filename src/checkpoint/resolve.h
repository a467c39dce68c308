/* From what the user typed to the file, index or pipeline that it leads to. */
#ifndef LDS_CHECKPOINT_RESOLVE_H
#define LDS_CHECKPOINT_RESOLVE_H

#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/path.h"

typedef enum lds_location_kind {
    LDS_LOCATION_FILE,    /* path is a weights file, or will be tried as one */
    LDS_LOCATION_INDEX,   /* path is an index of shards */
    LDS_LOCATION_PIPELINE /* path is a directory with a model_index.json */
} lds_location_kind;

typedef struct lds_location {
    lds_location_kind kind;
    char *path; /* freed with free() */
} lds_location;

/* The location that path leads to, of the variant, which may be NULL. location->path is NULL on failure. */
lds_status lds_resolve(lds_location *location, const char *path, const char *variant, const char *revision,
                       lds_error *err);

/*
 * Look for the weights of a model in a directory: LDS_OK with location->path NULL if there are none of that
 * variant, so that the caller may try something else or explain it.
 */
lds_status lds_find_model(lds_location *location, const char *dir, const char *variant, lds_error *err);

/* LDS_ERR_NOT_FOUND or LDS_ERR_UNSUPPORTED for a directory without weights: what was looked for, what is there. */
lds_status lds_explain_no_model(const char *dir, const char *variant, lds_error *err);

/* The same, if anything in the directory could be weights; LDS_OK if nothing could. */
lds_status lds_check_no_weights(const char *dir, const char *variant, lds_error *err);

/* The snapshot of a model in the local hub cache; *dir is freed with free(). */
lds_status lds_hub_find(char **dir, const char *id, const char *revision, lds_error *err);

/* Could it be "name" or "org/name" of a model on the hub? */
bool lds_hub_is_id(const char *text);

#endif
