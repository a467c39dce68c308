/* Who may read an entry of the cache. */
#ifndef LDS_LOAD_CACHE_AUDIENCE_H
#define LDS_LOAD_CACHE_AUDIENCE_H

#include <sys/types.h>

#include "src/plan/plan.h"

typedef enum lds_cache_readers { LDS_CACHE_EVERYBODY, LDS_CACHE_GROUP, LDS_CACHE_USER } lds_cache_readers;

typedef struct lds_cache_audience {
    lds_cache_readers readers;
    uint32_t id; /* of the group or user; 0 for everybody */
} lds_cache_audience;

/*
 * Who may read an entry of what a plan loads: everybody, or the members of one group, who are known to be allowed to
 * read all files of its checkpoint; else only the user. A group is one that the user can give an entry to.
 */
lds_cache_audience lds_cache_audience_of(const lds_plan *plan);

/* The mode that an entry is made with. */
mode_t lds_cache_audience_mode(lds_cache_audience audience);

/* Let a group read an entry that was made for it; where that cannot be, it stays the user's alone. */
void lds_cache_audience_admit(lds_cache_audience audience, int fd);

#endif
