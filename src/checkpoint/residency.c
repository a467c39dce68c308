/*
 * What of a file is in the page cache: by cachestat(2) or, where that is missing or, under an overlay, looks at a file
 * that has no pages of its own, by mincore(2) on a private mapping. Neither reads a page. Of files of other users, which
 * weights on shared machines often are, both say nothing, or what is not true: there the kernel is asked for single
 * bytes that it has at hand. Each that it has not it begins to read, a page each with reading ahead switched off.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "src/checkpoint/checkpoint.h"

/* The same number on every architecture, since Linux 6.5; missing from the headers of older systems. */
enum { NR_CACHESTAT = 451 };

/* Counting visits every page, so it samples, too: no more than 64 MiB of a file, in 64 places. */
enum { N_SAMPLES = 64, SAMPLE_PAGES = 256 };

typedef struct cache_range {
    uint64_t offset, nbytes;
} cache_range;

typedef struct cache_counts {
    uint64_t n_cached, n_dirty, n_writeback, n_evicted, n_recently_evicted;
} cache_counts;

/* Pages from offset on that are present; -1 if the kernel cannot count. */
static int64_t count_pages(int fd, uint64_t offset, uint64_t nbytes)
{
    cache_range range = {offset, nbytes};
    cache_counts counts = {0};
    return syscall(NR_CACHESTAT, fd, &range, &counts, 0) ? -1 : (int64_t)counts.n_cached;
}

bool lds_file_look_at_pages(int fd, uint64_t offset, size_t nbytes, unsigned char *present)
{
    void *map = mmap(NULL, nbytes, PROT_READ, MAP_PRIVATE, fd, (off_t)offset);
    if (map == MAP_FAILED)
        return false;
    bool ok = !mincore(map, nbytes, present);
    munmap(map, nbytes);
    return ok;
}

/* The same as count_pages(), of a sample, where the kernel cannot count. */
static uint64_t look_at_sample(int fd, uint64_t offset, uint64_t nbytes)
{
    unsigned char present[SAMPLE_PAGES];
    uint64_t n = 0;
    if (lds_file_look_at_pages(fd, offset, (size_t)nbytes, present))
        for (size_t i = 0; i < nbytes / lds_page_nbytes(); i++)
            n += present[i] & 1;
    return n;
}

static bool has_at_hand(int fd, uint64_t offset)
{
    char byte;
    struct iovec piece = {&byte, 1};
    return preadv2(fd, &piece, 1, (off_t)offset, RWF_NOWAIT) == 1;
}

/* How many pages of a sample are present. */
static uint64_t sample_pages(const lds_file *file, uint64_t offset, uint64_t nbytes)
{
    if (file->hides_cache)
        return has_at_hand(file->fd, offset) ? nbytes / lds_page_nbytes() : 0;
    int64_t found = file->is_overlay ? -1 : count_pages(file->fd, offset, nbytes);
    return found < 0 ? look_at_sample(file->fd, offset, nbytes) : (uint64_t)found;
}

uint64_t lds_file_resident(const lds_file *file, uint64_t offset, uint64_t nbytes)
{
    uint64_t page_nbytes = lds_page_nbytes(), sample_nbytes = SAMPLE_PAGES * page_nbytes;
    uint64_t end, n_seen = 0, n_present = 0;
    if (!nbytes || !lds_add(offset, nbytes, &end))
        return 0;
    uint64_t step = nbytes / N_SAMPLES & ~(page_nbytes - 1);
    step = step < sample_nbytes ? sample_nbytes : step;
    if (file->hides_cache)
        posix_fadvise(file->fd, 0, 0, POSIX_FADV_RANDOM);
    for (uint64_t at = offset & ~(page_nbytes - 1); at < end; at += step) {
        uint64_t n = end - at < sample_nbytes ? lds_align_up(end - at, page_nbytes) : sample_nbytes;
        n_present += sample_pages(file, at, n);
        n_seen += n / page_nbytes;
    }
    if (file->hides_cache)
        posix_fadvise(file->fd, 0, 0, POSIX_FADV_NORMAL);
    return n_present >= n_seen ? nbytes : (uint64_t)((double)nbytes * (double)n_present / (double)n_seen);
}
