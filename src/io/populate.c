/*
 * Making pages present before they are used. For mapped files, the kernel can do it on request and report a
 * failure as an error; a plain access would report it as a SIGBUS, which a library must not risk. Kernels
 * before 5.14 lack the request: there the bytes are read and thrown away, which leaves the pages resident and
 * their first use cheap.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "src/checkpoint/checkpoint.h"
#include "src/io/source.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; missing from the headers of older systems */
#endif

enum { SCRATCH_NBYTES = 64 << 10 };

static lds_status read_through(int fd, uint64_t offset, size_t nbytes, lds_error *err)
{
    char scratch[SCRATCH_NBYTES];
    for (size_t done = 0; done < nbytes; done += sizeof scratch) {
        size_t n = nbytes - done < sizeof scratch ? nbytes - done : sizeof scratch;
        LDS_TRY(lds_file_read(fd, scratch, n, offset + done, err));
    }
    return LDS_OK;
}

/* Before 5.18 a fault did not heed the advice, which was for a thread of the kernel's that copies pages together. */
bool lds_map_fault_by_huge_pages(void *data, size_t nbytes)
{
    struct utsname system;
    unsigned major, minor;
    if (uname(&system) || sscanf(system.release, "%u.%u", &major, &minor) != 2)
        return false;
    return (major > 5 || (major == 5 && minor >= 18)) && !madvise(data, nbytes, MADV_HUGEPAGE);
}

bool lds_map_make_present(void *data, size_t nbytes)
{
    size_t into_page = (uintptr_t)data % lds_page_nbytes();
    int failed;
    do
        failed = madvise((char *)data - into_page, nbytes + into_page, MADV_POPULATE_READ);
    while (failed && (errno == EINTR || errno == EAGAIN));
    return !failed;
}

lds_status lds_map_populate(void *data, size_t nbytes, int fd, uint64_t offset, lds_error *err)
{
    /* Whatever went wrong, reading the same bytes finds out what it was, or does the work. */
    return lds_map_make_present(data, nbytes) ? LDS_OK : read_through(fd, offset, nbytes, err);
}
