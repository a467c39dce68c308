/* What a report is. The plan begins it, the load completes it. */
#ifndef LDS_PLAN_REPORT_H
#define LDS_PLAN_REPORT_H

#include "src/base/memory.h"

enum { LDS_REPORT_N_LISTS = LDS_REPORT_INITIALISED + 1 };

typedef struct lds_report_entry {
    char *name;            /* owned; detail, if any, lies behind it in the same block */
    char *detail;          /* or NULL */
    uint64_t *found_shape; /* of a mismatch, owned; or NULL */
    uint32_t n_dims;
} lds_report_entry;

struct lds_report {
    lds_report_stats stats;
    struct {
        lds_report_entry *entries;
        size_t n, capacity;
    } lists[LDS_REPORT_N_LISTS];
    char *text;  /* composed when the report is complete */
    char *cache; /* what stats.cache points to, or NULL */
};

lds_status lds_report_new(lds_report **report, lds_error *err);

/* Add an entry to a list; both are copied, detail may be NULL. */
lds_status lds_report_add(lds_report *report, lds_report_list list, const char *name, const char *detail,
                          lds_error *err);

/* Add a mismatch, whose tensor has this shape, which is copied, too. */
lds_status lds_report_add_mismatch(lds_report *report, const char *name, const char *detail, uint32_t n_dims,
                                   const uint64_t *shape, lds_error *err);

/* Say what became of the cache. */
lds_status lds_report_note_cache(lds_report *report, lds_error *err, const char *format, ...)
    LDS_PRINTF(3, 4);

/* Compose the text from what the report now holds. */
lds_status lds_report_compose(lds_report *report, lds_error *err);

#endif
