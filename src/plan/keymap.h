/* Applying a key map, for the plan. */
#ifndef LDS_PLAN_KEYMAP_H
#define LDS_PLAN_KEYMAP_H

#include "src/base/names.h"
#include "src/base/regex.h"
#include "src/dtype/dtype.h"

enum {
    LDS_KEYMAP_MAX_NAME_NBYTES = 1 << 16, /* of a name before and after any rule */
    LDS_KEYMAP_MAX_MATCHES = 1000         /* of one pattern in a name */
};

/* Memory for the work, reused from call to call. Zero it first. */
typedef struct lds_keymap_scratch {
    lds_regex_scratch regex;
    char *text[2]; /* a name, and the one that the next rule makes of it */
    size_t capacity[2];
} lds_keymap_scratch;

/* What becomes of a tensor. */
typedef struct lds_mapped {
    const char *name; /* NUL-terminated; the very pointer that came in if no rule changed the name */
    uint32_t name_nbytes;
    bool dropped;       /* nothing else is meant then */
    bool changed_shape; /* a rule gave it a shape, even if the same */
    uint32_t n_dims;
    uint64_t shape[LDS_MAX_DIMS];
} lds_mapped;

/*
 * What the rules make of a tensor's name and shape. scratch is reused from call to call: zero it first,
 * lds_keymap_scratch_destroy() it at the end. mapped->name stays good until the next call with that scratch.
 * keymap NULL keeps all. The keymap may be used by many threads at once.
 *
 * LDS_ERR_MISMATCH if a shape cannot become what a rule says, LDS_ERR_UNSUPPORTED for a pattern that takes
 * too long on the name, and for names that are too long. Errors do not name the tensor: the caller does.
 */
lds_status lds_keymap_apply(const lds_keymap *keymap, lds_keymap_scratch *scratch, lds_name name,
                            uint32_t n_dims, const uint64_t *shape, lds_mapped *mapped, lds_error *err);

void lds_keymap_scratch_destroy(lds_keymap_scratch *scratch);

#endif
