/*
 * Memory in huge pages that the administrator has reserved.
 *
 * With a mapping the kernel sets aside as many as it needs, and they are touched by whoever fills them, like other
 * memory. But the limit of a control group counts a page when it is touched, and what is beyond it is a SIGBUS. So
 * where there is one, the load is refused if it has no room, and else all pages are touched at once, since others
 * share the limit: by a request that fails where a store would end the process. Kernels before 5.14 lack it; there the
 * limit has been looked at, and nothing more can be done.
 */
#include <errno.h>
#include <sys/mman.h>

#include "src/base/cgroup.h"
#include "src/base/memory.h"
#include "src/base/system_file.h"
#include "src/base/threads.h"
#include "src/network/storage.h"

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* missing from the headers of older systems */
#endif

/* What a thread asks for at once. */
enum { SHARE_NBYTES = 8 * LDS_HUGE_PAGE_NBYTES };

typedef struct touching {
    uint8_t *data;
    uint64_t nbytes, n_shares;
    atomic_uint_fast64_t next;
    atomic_bool give_way;
} touching;

static lds_status fail_by_system(uint64_t nbytes, lds_error *err)
{
    uint64_t n_reserved = 0;
    (void)lds_system_file_number("", "proc/sys/vm/nr_hugepages", &n_reserved);
    return lds_fail(err, LDS_ERR_MEMORY,
                    "out of memory: needs %llu reserved huge pages of 2 MiB, the system has %llu of them, "
                    "in use or not (/proc/sys/vm/nr_hugepages)",
                    (unsigned long long)(nbytes / LDS_HUGE_PAGE_NBYTES), (unsigned long long)n_reserved);
}

static lds_status fail_by_limit(uint64_t nbytes, uint64_t left, lds_error *err)
{
    return lds_fail(
        err, LDS_ERR_MEMORY,
        "out of memory: needs %llu reserved huge pages of 2 MiB, the control group's limit leaves "
        "%llu of them (hugetlb.2MB)",
        (unsigned long long)(nbytes / LDS_HUGE_PAGE_NBYTES),
        (unsigned long long)(left / LDS_HUGE_PAGE_NBYTES));
}

static lds_status fail_to_touch(const touching *t, lds_error *err)
{
    return lds_fail(
        err, LDS_ERR_MEMORY,
        "out of memory: needs %llu reserved huge pages of 2 MiB, others have taken what the control "
        "group's limit left of them (hugetlb.2MB)",
        (unsigned long long)(t->nbytes / LDS_HUGE_PAGE_NBYTES));
}

static lds_status touch_share(const touching *t, uint64_t share, lds_error *err)
{
    uint64_t begin = share * SHARE_NBYTES, n = t->nbytes - begin;
    int failed;
    do
        failed = madvise(t->data + begin, n < SHARE_NBYTES ? n : SHARE_NBYTES, MADV_POPULATE_WRITE);
    while (failed && (errno == EINTR || errno == EAGAIN));
    return failed && errno != EINVAL ? fail_to_touch(t, err) : LDS_OK;
}

static lds_status work(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker;
    touching *t = ctx;
    while (!atomic_load_explicit(stop, memory_order_relaxed) && !lds_team_gives_way(&t->give_way)) {
        uint64_t share = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
        if (share >= t->n_shares)
            break;
        LDS_TRY(touch_share(t, share, err));
    }
    return LDS_OK;
}

static lds_status touch_all(void *data, uint64_t nbytes, const lds_touch_how *how, lds_error *err)
{
    touching t = {.data = data, .nbytes = nbytes, .n_shares = (nbytes + SHARE_NBYTES - 1) / SHARE_NBYTES};
    lds_team team = {work, &t, how->tick, how->tick_ctx, &t.give_way};
    return lds_team_run(&team, t.n_shares, how->n_threads, err);
}

static void release_huge_pages(void *ctx, void *data, size_t nbytes)
{
    (void)ctx;
    munmap(data, nbytes);
}

static void *map_huge_pages(uint64_t nbytes)
{
    /* 21: the binary logarithm of the page's size; the system's default may be another, on arm for example. */
    return mmap(NULL, (size_t)nbytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, -1, 0);
}

lds_status lds_storage_new_hugetlb(lds_storage **storage, bool *is_touched, uint64_t nbytes,
                                   const lds_touch_how *how, lds_error *err)
{
    if (nbytes > SIZE_MAX / 2)
        return lds_fail_memory(err, nbytes);
    nbytes = lds_align_up(nbytes ? nbytes : 1, LDS_HUGE_PAGE_NBYTES);
    uint64_t left = lds_cgroup_hugetlb("");
    if (nbytes > left)
        return fail_by_limit(nbytes, left, err);
    void *data = map_huge_pages(nbytes);
    if (data == MAP_FAILED)
        return fail_by_system(nbytes, err);
    *is_touched = left != UINT64_MAX;
    lds_status status = *is_touched ? touch_all(data, nbytes, how, err) : LDS_OK;
    if (!status)
        status = lds_storage_wrap(storage, data, nbytes, release_huge_pages, NULL, err);
    if (status)
        munmap(data, (size_t)nbytes);
    return status;
}
