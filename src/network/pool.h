/*
 * Small things that live and die together, in a few large blocks: names, shapes. What is in a pool never
 * moves, and is freed all at once.
 */
#ifndef LDS_NETWORK_POOL_H
#define LDS_NETWORK_POOL_H

#include "src/base/error.h"

typedef struct lds_pool {
    struct lds_pool_block *blocks; /* the newest first */
    uint8_t *at;
    size_t left;
} lds_pool;

/* Zeroed memory is an empty pool. */
void lds_pool_destroy(lds_pool *pool);

/* *data becomes nbytes of memory that is not initialised; alignment is a power of two, at most 16. */
lds_status lds_pool_alloc(void *data, lds_pool *pool, size_t nbytes, size_t alignment, lds_error *err);

#endif
