/* The first half of a plan: which tensor is for which parameter, and which have none. */
#ifndef LDS_PLAN_MATCH_H
#define LDS_PLAN_MATCH_H

#include "src/plan/plan.h"

typedef struct lds_match_table {
    uint32_t
        *param_of;   /* for each tensor: index of the parameter that it fills, never tied; or LDS_NO_INDEX */
    uint8_t *states; /* for each parameter: lds_param_state */
} lds_match_table;

typedef enum lds_param_state {
    LDS_PARAM_UNSELECTED, /* not to be loaded */
    LDS_PARAM_MISSING,    /* no tensor leads to it */
    LDS_PARAM_MISMATCHED, /* its tensor has another shape */
    LDS_PARAM_FOUND
} lds_param_state;

/*
 * Fill *table, which starts zeroed and is destroyed by the caller in any case, and the report's lists but
 * INITIALISED. Succeeds also when there are mismatches: see lds_match_verdict().
 */
lds_status lds_match_names(lds_match_table *table, lds_network *network, const lds_checkpoint *checkpoint,
                           const lds_load_options *options, lds_report *report, lds_error *err);

void lds_match_table_destroy(lds_match_table *table);

/* LDS_ERR_MISMATCH with counts and first names, if the options do not allow what the report lists. */
lds_status lds_match_verdict(const lds_report *report, const lds_checkpoint *checkpoint,
                             const lds_load_options *options, lds_error *err);

/* The dtype that a parameter will have after a load with these options. */
lds_dtype lds_target_dtype(const lds_param *param, const lds_load_options *options);

#endif
