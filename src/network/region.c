/*
 * A region gives out memory from the end of one block until it is used up, then takes the next, twice as large.
 * Large blocks ask for huge pages: half a million small things are tens of megabytes, and most of the time to
 * make them would be the kernel's, one page fault after the other.
 */
#include "src/network/region.h"

#include "src/base/memory.h"

enum { FIRST_NBYTES = 4 << 10, MAX_NBYTES = 4 << 20 };

typedef struct lds_region_block {
    struct lds_region_block *next;
    size_t nbytes;
} lds_region_block;

_Static_assert(sizeof(lds_region_block) % 16 == 0, "what follows is aligned");

void lds_region_destroy(lds_region *region)
{
    for (lds_region_block *block = region->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *region = (lds_region){0};
}

/* What is left of the newest block is given up. */
static lds_status add_block(lds_region *region, size_t nbytes, lds_error *err)
{
    size_t room = region->blocks ? region->blocks->nbytes * 2 : FIRST_NBYTES;
    if (room > MAX_NBYTES)
        room = MAX_NBYTES;
    if (room < nbytes + sizeof(lds_region_block))
        room = lds_align_up(nbytes + sizeof(lds_region_block), 16);
    lds_region_block *block = lds_malloc_large(room);
    if (!block)
        return lds_fail_memory(err, room);
    *block = (lds_region_block){region->blocks, room};
    region->blocks = block;
    region->at = (uint8_t *)(block + 1);
    region->left = room - sizeof *block;
    return LDS_OK;
}

lds_status lds_region_alloc(void *data, lds_region *region, size_t nbytes, size_t alignment, lds_error *err)
{
    if (nbytes > SIZE_MAX / 4)
        return lds_fail_memory(err, nbytes);
    size_t gap = -(uintptr_t)region->at & (alignment - 1);
    if (!region->blocks || region->left < gap || region->left - gap < nbytes) {
        LDS_TRY(add_block(region, nbytes, err));
        gap = 0;
    }
    void *p = region->at + gap;
    region->at += gap + nbytes;
    region->left -= gap + nbytes;
    memcpy(data, &p, sizeof p);
    return LDS_OK;
}
