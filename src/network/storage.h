/* Memory that parameters are in: counted references to a mapping, an arena, or the caller's memory. */
#ifndef LDS_NETWORK_STORAGE_H
#define LDS_NETWORK_STORAGE_H

#include <stdatomic.h>

#include "src/base/error.h"

struct lds_storage {
    atomic_uint_fast32_t refs;
    void *data;
    uint64_t nbytes;
    bool is_limited; /* a page that is written to without having been asked for may be a SIGBUS */
    void (*release)(void *ctx, void *data, size_t nbytes);
    void *ctx;
};

/* Every function gives one reference, to be handed back with lds_storage_release(). */

/*
 * nbytes of new memory, at least one, aligned to 4096: from the allocator, which is copied, or from the system
 * if it is NULL. Contents are undefined.
 */
lds_status lds_storage_new(lds_storage **storage, uint64_t nbytes, const lds_allocator *allocator,
                           lds_error *err);

/*
 * nbytes in huge pages that the administrator has reserved; LDS_ERR_MEMORY if there are too few, or a control group's
 * limit leaves too few.
 */
lds_status lds_storage_new_hugetlb(lds_storage **storage, uint64_t nbytes, lds_error *err);

/*
 * Ask for the pages of a part of it that is fresh in one call. It is advice, unless storage->is_limited: then
 * LDS_ERR_MEMORY if they cannot be had.
 */
lds_status lds_storage_populate(const lds_storage *storage, void *data, size_t nbytes, lds_error *err);

/* Memory that was had elsewhere; release gets what is given here. On failure it is the caller's still. */
lds_status lds_storage_wrap(lds_storage **storage, void *data, uint64_t nbytes,
                            void (*release)(void *ctx, void *data, size_t nbytes), void *ctx, lds_error *err);

/*
 * Anonymous pages, at a multiple of 2 MiB if they are as many, so that huge pages can back all of them; MAP_FAILED
 * if they cannot be had. Freed with munmap().
 */
void *lds_pages_map(size_t nbytes);

/* A private, writable mapping of nbytes of a file at offset, which begins a page. No page is made present. */
lds_status lds_storage_map(lds_storage **storage, int fd, uint64_t offset, uint64_t nbytes, lds_error *err);

/* The caller's memory. */
lds_status lds_storage_adopt(lds_storage **storage, void *data, uint64_t nbytes,
                             void (*release)(void *ctx, void *data), void *ctx, lds_error *err);

static inline lds_storage *lds_storage_retain(lds_storage *storage)
{
    if (storage)
        atomic_fetch_add_explicit(&storage->refs, 1, memory_order_relaxed);
    return storage;
}

#endif
