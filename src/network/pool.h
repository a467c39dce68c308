/* Memory for weights that is kept from one load to the next. */
#ifndef LDS_NETWORK_POOL_H
#define LDS_NETWORK_POOL_H

#include "src/network/storage.h"

/*
 * A storage of nbytes from the pool; its memory goes back there with the last reference. *n_used is how many of
 * its bytes, from the beginning, are in pages that were used before.
 */
lds_status lds_pool_take(lds_storage **storage, uint64_t *n_used, lds_pool *pool, uint64_t nbytes,
                         lds_error *err);

/* Bytes that the pool has and nobody uses. */
uint64_t lds_pool_idle_nbytes(lds_pool *pool);

#endif
