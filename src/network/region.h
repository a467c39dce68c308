/*
 * Small things that live and die together, in a few large blocks: names, shapes. What is in a region never
 * moves, and is freed all at once.
 */
#ifndef LDS_NETWORK_REGION_H
#define LDS_NETWORK_REGION_H

#include "src/base/error.h"

typedef struct lds_region {
    struct lds_region_block *blocks; /* the newest first */
    uint8_t *at;
    size_t left;
} lds_region;

/* Zeroed memory is an empty region. */
void lds_region_destroy(lds_region *region);

/* *data becomes nbytes of memory that is not initialised; alignment is a power of two, at most 16. */
lds_status lds_region_alloc(void *data, lds_region *region, size_t nbytes, size_t alignment, lds_error *err);

#endif
