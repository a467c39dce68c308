/* Converted weights, kept in files from one load to the next. */
#ifndef LDS_LOAD_CACHE_H
#define LDS_LOAD_CACHE_H

#include "src/load/cache_write.h"

/* The cache's side of one load. Zeroed, it is a load without a cache. */
typedef struct lds_cache {
    lds_cache_dir dir;
    lds_cache_audience audience; /* of the entry */
    char key[LDS_CACHE_DIGEST_SIZE];
    bool is_wanted;         /* there is something worth keeping, and no entry that has it */
    lds_checkpoint *entry;  /* that was found, or NULL */
    lds_plan *plan;         /* from the entry to the network */
    lds_cache_write *write; /* of the entry that was begun, or NULL */
} lds_cache;

/*
 * Look for what the plan's arena would hold. If it is there, what is in the entry is taken out of the plan,
 * whose statistics stay, and cache->plan maps it. A cache that cannot be used is no error: *problem says why
 * not. lds_cache_end() must follow.
 */
lds_status lds_cache_find(lds_cache *cache, lds_plan *plan, const lds_load_options *options,
                          lds_error *problem, lds_error *err);

/* Begin the entry that is wanted: cache->write is for those who have a part of it, and to be finished. */
lds_status lds_cache_begin_entry(lds_cache *cache, const lds_plan *plan, const lds_load_options *options,
                                 lds_error *err);

/* What was begun and not finished is thrown away. */
void lds_cache_end(lds_cache *cache);

#endif
