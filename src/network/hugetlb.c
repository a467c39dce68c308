/*
 * Memory in huge pages that the administrator has reserved.
 *
 * With a mapping the kernel sets aside as many as it needs, and they are touched by whoever fills them, like other
 * memory. But the limit of a control group counts a page when it is touched, and what is beyond it is a SIGBUS. So
 * where there is one, the load is refused if it has no room, and else, since others share the limit, whoever fills
 * pages first asks for them: by a request that fails where a store would end the process. Kernels before 5.14 lack it;
 * there the limit has been looked at, and nothing more can be done.
 */
#include <errno.h>
#include <sys/mman.h>

#include "src/base/cgroup.h"
#include "src/base/memory.h"
#include "src/base/system_file.h"
#include "src/network/storage.h"

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* missing from the headers of older systems */
#endif

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

static lds_status fail_by_others(uint64_t nbytes, lds_error *err)
{
    return lds_fail(
        err, LDS_ERR_MEMORY,
        "out of memory: needs %llu reserved huge pages of 2 MiB, others have taken what the control "
        "group's limit left of them (hugetlb.2MB)",
        (unsigned long long)(nbytes / LDS_HUGE_PAGE_NBYTES));
}

lds_status lds_storage_populate(const lds_storage *storage, void *data, size_t nbytes, lds_error *err)
{
    size_t into_page = (uintptr_t)data % lds_page_nbytes();
    int failed;
    do
        failed = madvise((char *)data - into_page, nbytes + into_page, MADV_POPULATE_WRITE);
    while (failed && (errno == EINTR || errno == EAGAIN));
    return failed && errno != EINVAL && storage->is_limited ? fail_by_others(storage->nbytes, err) : LDS_OK;
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

lds_status lds_storage_new_hugetlb(lds_storage **storage, uint64_t nbytes, lds_error *err)
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
    lds_status status = lds_storage_wrap(storage, data, nbytes, release_huge_pages, NULL, err);
    if (status)
        munmap(data, (size_t)nbytes);
    else
        (*storage)->is_limited = left != UINT64_MAX;
    return status;
}
