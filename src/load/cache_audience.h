/* Who may read an entry of the cache. */
#ifndef LDS_LOAD_CACHE_AUDIENCE_H
#define LDS_LOAD_CACHE_AUDIENCE_H

#include "src/plan/plan.h"

typedef enum lds_cache_readers { LDS_CACHE_EVERYBODY, LDS_CACHE_USER } lds_cache_readers;

typedef struct lds_cache_audience {
    lds_cache_readers readers;
    uint32_t id; /* the user's; 0 for everybody */
} lds_cache_audience;

/* Who may read an entry of what a plan loads: whoever may read all files of its checkpoint. */
lds_cache_audience lds_cache_audience_of(const lds_plan *plan);

#endif
