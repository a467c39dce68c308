/* What an entry of the cache looks like. */
#ifndef LDS_LOAD_CACHE_ENTRY_H
#define LDS_LOAD_CACHE_ENTRY_H

#include <time.h>

#include "src/load/cache_digest.h"
#include "src/load/cache_dir.h"

/* How an entry begins, and where in it each parameter goes. */
typedef struct lds_cache_header {
    char *text;
    size_t nbytes;
    size_t sample_at;  /* where in text the digest belongs */
    uint64_t *offsets; /* in the file, of each of the plan's targets that is kept */
    uint64_t end;      /* of the file */
    time_t written;    /* what its time of modification has to be */
} lds_cache_header;

/* Compose the header of the entry that a plan makes. text and offsets are freed by the caller in any case. */
lds_status lds_cache_header_compose(lds_cache_header *header, const lds_plan *plan, const char *key,
                                    lds_error *err);

/* What the entry was converted from, or "". */
const char *lds_cache_entry_source(const lds_checkpoint *entry);

/*
 * Refuse what is not the entry of this key as it was written, or has not exactly what the plan would bring
 * into its arena, or may be a stranger's.
 */
lds_status lds_cache_entry_check(const lds_checkpoint *entry, const lds_cache_dir *dir, const char *key,
                                 const lds_plan *plan, lds_error *err);

#endif
