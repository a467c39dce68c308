/*
 * A pool gives out memory from the end of one block until it is used up, then takes the next, twice as large.
 * Large blocks ask for huge pages: half a million small things are tens of megabytes, and most of the time to
 * make them would be the kernel's, one page fault after the other.
 */
#include "src/network/pool.h"

#include <sys/mman.h>

#include "src/base/memory.h"

enum { FIRST_NBYTES = 4 << 10, MAX_NBYTES = 4 << 20, HUGE_PAGE_NBYTES = 2 << 20 };

typedef struct lds_pool_block {
    struct lds_pool_block *next;
    size_t nbytes;
} lds_pool_block;

_Static_assert(sizeof(lds_pool_block) % 16 == 0, "what follows is aligned");

void lds_pool_destroy(lds_pool *pool)
{
    for (lds_pool_block *block = pool->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *pool = (lds_pool){0};
}

/* What is left of the newest block is given up. */
static lds_status add_block(lds_pool *pool, size_t nbytes, lds_error *err)
{
    size_t room = pool->blocks ? pool->blocks->nbytes * 2 : FIRST_NBYTES;
    if (room > MAX_NBYTES)
        room = MAX_NBYTES;
    if (room < nbytes + sizeof(lds_pool_block))
        room = lds_align_up(nbytes + sizeof(lds_pool_block), 16);
    bool is_huge = room >= HUGE_PAGE_NBYTES;
    lds_pool_block *block =
        is_huge ? aligned_alloc(HUGE_PAGE_NBYTES, lds_align_up(room, HUGE_PAGE_NBYTES)) : malloc(room);
    if (!block)
        return lds_fail_memory(err, room);
    if (is_huge)
        madvise(block, room, MADV_HUGEPAGE);
    *block = (lds_pool_block){pool->blocks, room};
    pool->blocks = block;
    pool->at = (uint8_t *)(block + 1);
    pool->left = room - sizeof *block;
    return LDS_OK;
}

lds_status lds_pool_alloc(void *data, lds_pool *pool, size_t nbytes, size_t alignment, lds_error *err)
{
    if (nbytes > SIZE_MAX / 4)
        return lds_fail_memory(err, nbytes);
    size_t gap = -(uintptr_t)pool->at & (alignment - 1);
    if (!pool->blocks || pool->left < gap || pool->left - gap < nbytes) {
        LDS_TRY(add_block(pool, nbytes, err));
        gap = 0;
    }
    void *p = pool->at + gap;
    pool->at += gap + nbytes;
    pool->left -= gap + nbytes;
    memcpy(data, &p, sizeof p);
    return LDS_OK;
}
