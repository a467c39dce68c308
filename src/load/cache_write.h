/* Writing an entry of the cache while what it has is being loaded. */
#ifndef LDS_LOAD_CACHE_WRITE_H
#define LDS_LOAD_CACHE_WRITE_H

#include "src/load/cache_entry.h"

typedef struct lds_cache_write lds_cache_write;

/*
 * Begin the entry of a key, which will have what the plan brings into its arena, for an audience. There is room for
 * all of it then, in the folder and on its disk. On failure *write is NULL.
 */
lds_status lds_cache_write_begin(lds_cache_write **write, const lds_cache_dir *dir, const char *key,
                                 lds_cache_audience audience, const lds_plan *plan, uint64_t max_nbytes,
                                 lds_error *err);

/*
 * Write nbytes of one of the plan's targets, from a byte of it on. For many threads at once, each with other
 * bytes. When it fails once, nothing more is written, and lds_cache_write_finish() says why.
 */
void lds_cache_write_part(lds_cache_write *write, size_t target, uint64_t begin, const void *data,
                          size_t nbytes);

/*
 * All has been written: bring it to the disk, give it its name, and evict others. tick may be NULL; if it
 * does not return 0, the result is LDS_ERR_CANCELLED.
 */
lds_status lds_cache_write_finish(lds_cache_write *write, int (*tick)(void *ctx), void *tick_ctx,
                                  lds_error *err);

/* What was not finished is thrown away. */
void lds_cache_write_end(lds_cache_write *write);

#endif
