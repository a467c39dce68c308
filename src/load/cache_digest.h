/* Digests for the cache: of what a load is, and of an entry's bytes. */
#ifndef LDS_LOAD_CACHE_DIGEST_H
#define LDS_LOAD_CACHE_DIGEST_H

#include "src/load/cache_audience.h"

/* A digest as text; and of a key, how much entries share that are of the same files at different times. */
enum { LDS_CACHE_DIGEST_SIZE = 33, LDS_CACHE_KEY_COMMON = 16 };

/* True for what an entry has: what the load brings into its arena. */
static inline bool lds_cache_keeps(const lds_target *target)
{
    return target->place == LDS_PLACE_ARENA;
}

/*
 * What loads that come to the same entry have in common: the files, as they were when they were opened, every
 * transfer, and who may read what comes of it. LDS_ERR_CHANGED if a file is not what it was then.
 */
lds_status lds_cache_make_key(char key[static LDS_CACHE_DIGEST_SIZE], lds_cache_audience audience,
                              const lds_plan *plan, lds_error *err);

/* Of nbytes of a file at offset: the whole, if that is short, or samples from its beginning to its end. */
lds_status lds_cache_sample(char digest[static LDS_CACHE_DIGEST_SIZE], int fd, uint64_t offset,
                            uint64_t nbytes, lds_error *err);

#endif
