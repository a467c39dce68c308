/*
 * The memory that parameters are in.
 *
 * Weights get pages straight from the kernel: they are large, live long, and go back to the system at once
 * when the last parameter lets go. Memory is not touched here: the thread that fills a page is the one that
 * faults it in. Huge pages that were reserved may have to be asked for first: see hugetlb.c.
 */
#include "src/network/storage.h"

#include <errno.h>
#include <sys/mman.h>

#include "src/base/memory.h"

enum { SMALL_NBYTES = 64 << 10, ALIGNMENT = 4096 };

/* What release_adopted() takes as its context. */
typedef struct adopted {
    void (*release)(void *ctx, void *data);
    void *ctx;
} adopted;

static void release_heap(void *ctx, void *data, size_t nbytes)
{
    (void)ctx, (void)nbytes;
    free(data);
}

static void release_pages(void *ctx, void *data, size_t nbytes)
{
    (void)ctx;
    munmap(data, nbytes);
}

static void release_allocated(void *ctx, void *data, size_t nbytes)
{
    lds_allocator *allocator = ctx;
    allocator->free(allocator->ctx, data, nbytes);
    free(allocator);
}

static void release_adopted(void *ctx, void *data, size_t nbytes)
{
    (void)nbytes;
    adopted *a = ctx;
    if (a->release)
        a->release(a->ctx, data);
    free(a);
}

lds_status lds_storage_wrap(lds_storage **storage, void *data, uint64_t nbytes,
                            void (*release)(void *ctx, void *data, size_t nbytes), void *ctx, lds_error *err)
{
    lds_storage *s;
    LDS_TRY(lds_calloc(&s, 1, sizeof *s, err));
    atomic_init(&s->refs, 1);
    s->data = data;
    s->nbytes = nbytes;
    s->release = release;
    s->ctx = ctx;
    *storage = s;
    return LDS_OK;
}

/* The same for memory that was taken for it: on failure it is released. */
static lds_status own(lds_storage **storage, void *data, uint64_t nbytes,
                      void (*release)(void *ctx, void *data, size_t nbytes), void *ctx, lds_error *err)
{
    lds_status status = lds_storage_wrap(storage, data, nbytes, release, ctx, err);
    if (status)
        release(ctx, data, (size_t)nbytes);
    return status;
}

void *lds_pages_map(size_t nbytes)
{
    nbytes = lds_align_up(nbytes, lds_page_nbytes());
    size_t slack = nbytes < LDS_HUGE_PAGE_NBYTES ? 0 : LDS_HUGE_PAGE_NBYTES, whole = nbytes + slack;
    uint8_t *p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || !slack)
        return p;
    uint8_t *aligned = (uint8_t *)lds_align_up((uintptr_t)p, LDS_HUGE_PAGE_NBYTES);
    if (aligned > p)
        munmap(p, (size_t)(aligned - p));
    if (aligned + nbytes < p + whole)
        munmap(aligned + nbytes, (size_t)(p + whole - aligned - nbytes));
    madvise(aligned, nbytes, MADV_HUGEPAGE);
    return aligned;
}

static lds_status take_from_allocator(lds_storage **storage, size_t nbytes, const lds_allocator *allocator,
                                      lds_error *err)
{
    lds_allocator *copy;
    LDS_TRY(lds_calloc(&copy, 1, sizeof *copy, err));
    *copy = *allocator;
    void *p = copy->alloc(copy->ctx, nbytes, ALIGNMENT);
    if (p && (uintptr_t)p % ALIGNMENT == 0)
        return own(storage, p, nbytes, release_allocated, copy, err);
    if (p)
        copy->free(copy->ctx, p, nbytes);
    free(copy);
    if (p)
        return lds_fail(err, LDS_ERR_ARGUMENT,
                        "expected memory at a multiple of %d from the caller's allocator, found it at %p",
                        ALIGNMENT, p);
    return lds_fail(err, LDS_ERR_MEMORY, "out of memory: the caller's allocator refused %zu bytes", nbytes);
}

lds_status lds_storage_new(lds_storage **storage, uint64_t nbytes, const lds_allocator *allocator,
                           lds_error *err)
{
    nbytes = nbytes ? nbytes : 1;
    if (nbytes > SIZE_MAX / 2)
        return lds_fail_memory(err, nbytes);
    if (allocator)
        return take_from_allocator(storage, (size_t)nbytes, allocator, err);
    if (nbytes < SMALL_NBYTES) {
        void *p = aligned_alloc(ALIGNMENT, (size_t)lds_align_up(nbytes, ALIGNMENT));
        return p ? own(storage, p, nbytes, release_heap, NULL, err) : lds_fail_memory(err, nbytes);
    }
    void *p = lds_pages_map((size_t)nbytes);
    return p != MAP_FAILED ? own(storage, p, nbytes, release_pages, NULL, err) : lds_fail_memory(err, nbytes);
}

lds_status lds_storage_map(lds_storage **storage, int fd, uint64_t offset, uint64_t nbytes, lds_error *err)
{
    if (nbytes > SIZE_MAX / 2)
        return lds_fail_memory(err, nbytes);
    /* Without NORESERVE the kernel would count the whole file as if all of it were going to be written to. */
    void *p =
        mmap(NULL, (size_t)nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, (off_t)offset);
    if (p != MAP_FAILED)
        return own(storage, p, nbytes, release_pages, NULL, err);
    return errno == ENOMEM ? lds_fail_memory(err, nbytes)
                           : lds_fail_errno(err, LDS_ERR_IO, errno, "cannot be mapped");
}

lds_status lds_storage_adopt(lds_storage **storage, void *data, uint64_t nbytes,
                             void (*release)(void *ctx, void *data), void *ctx, lds_error *err)
{
    adopted *a;
    LDS_TRY(lds_calloc(&a, 1, sizeof *a, err));
    *a = (adopted){release, ctx};
    lds_status status = lds_storage_wrap(storage, data, nbytes, release_adopted, a, err);
    if (status)
        free(a);
    return status;
}

uint64_t lds_storage_freed_nbytes(const lds_storage *storage)
{
    return storage && atomic_load_explicit(&storage->refs, memory_order_relaxed) == 1 ? storage->nbytes : 0;
}

void lds_storage_release(lds_storage *storage)
{
    if (!storage || atomic_fetch_sub_explicit(&storage->refs, 1, memory_order_acq_rel) != 1)
        return;
    storage->release(storage->ctx, storage->data, (size_t)storage->nbytes);
    free(storage);
}
