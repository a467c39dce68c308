/*
 * Files for a hot measurement and for a cold one, with the kernel's own word (mincore) on what is resident, and
 * the rate of the disk itself: direct reads, as many at once as asked for, each by a thread of its own. A thread
 * for each request costs next to nothing beside reads of this size, and needs no interface that some kernel or
 * sandbox refuses.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/limits_files.h"
#include "bench/measure.h"

enum { MAX_THREADS = 256, SECTOR = 4096, N_EVICTIONS = 5 };

typedef struct direct_job {
    const limits_reads *reads;
    int fd;
    uint64_t end;
    uint8_t *kept;             /* memory for all, or NULL */
    uint8_t *filled;           /* the same, for what is filled */
    atomic_uint_fast64_t next; /* where the next request begins */
    atomic_uint_fast64_t n_read, sum;
    pthread_barrier_t ready; /* buffers are there: the clock starts */
} direct_job;

static int open_file(const char *file, int flags, uint64_t *nbytes)
{
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC | flags);
    if (fd < 0 || fstat(fd, &st))
        err(1, "%s", file);
    *nbytes = (uint64_t)st.st_size;
    return fd;
}

static double resident_share(const char *file)
{
    uint64_t nbytes, n_resident = 0;
    int fd = open_file(file, 0, &nbytes);
    uint64_t n_pages = (nbytes + 4095) / 4096;
    unsigned char *pages = malloc(n_pages + 1);
    void *data = mmap(NULL, nbytes ? nbytes : 1, PROT_READ, MAP_SHARED, fd, 0);
    if (!pages || data == MAP_FAILED || mincore(data, nbytes, pages))
        err(1, "%s", file);
    for (uint64_t i = 0; i < n_pages; i++)
        n_resident += pages[i] & 1;
    munmap(data, nbytes ? nbytes : 1);
    free(pages);
    close(fd);
    return n_pages ? (double)n_resident / (double)n_pages : 1;
}

static void print_residency(const char *file, double before)
{
    printf("{\"before\":%.6f,\"resident\":%.6f}\n", before, resident_share(file));
}

void limits_warm(const char *file)
{
    double before = resident_share(file);
    if (before < 1) {
        uint64_t nbytes;
        uint8_t *buffer = malloc(1 << 20);
        int fd = open_file(file, 0, &nbytes);
        while (buffer && read(fd, buffer, 1 << 20) > 0)
            continue;
        close(fd);
        free(buffer);
    }
    print_residency(file, before);
}

/* The kernel skips what is dirty, and what is still on its way onto its lists: so after a sync, and repeatedly. */
void limits_evict(const char *file)
{
    uint64_t nbytes;
    double before = resident_share(file), share = before;
    int fd = open_file(file, 0, &nbytes);
    if (fdatasync(fd))
        err(1, "%s", file);
    for (int i = 0; share > 0 && i < N_EVICTIONS; i++) {
        int error = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        if (error)
            errx(1, "%s: %s", file, strerror(error));
        share = resident_share(file);
    }
    close(fd);
    print_residency(file, before);
}

/* The result is of no use, but that nobody can leave this out. */
static uint64_t look(const uint8_t *data, uint64_t nbytes)
{
    uint64_t sum = 0, word;
    for (uint64_t i = 0; i + 64 <= nbytes; i += 64) {
        memcpy(&word, data + i, sizeof word);
        sum += word;
    }
    return sum;
}

static uint64_t percent(const direct_job *job, uint64_t nbytes)
{
    return nbytes * job->reads->fills_percent / 100;
}

static void *read_blocks(void *arg)
{
    direct_job *job = arg;
    uint64_t offset = job->reads->offset, block = job->reads->block;
    uint8_t *buffer = job->kept;
    if (!job->kept) {
        buffer = take_memory(block, job->reads->huge);
        memset(buffer, 1, block);
    }
    pthread_barrier_wait(&job->ready);
    for (uint64_t at; (at = atomic_fetch_add(&job->next, block)) < job->end;) {
        uint64_t want = job->end - at < block ? job->end - at : block;
        uint8_t *to = buffer + (job->kept ? at - offset : 0);
        ssize_t n = pread(job->fd, to, (want + SECTOR - 1) & ~(uint64_t)(SECTOR - 1), (off_t)at);
        if (n < 0 || (uint64_t)n < want)
            errx(1, "direct read: %s", n < 0 ? strerror(errno) : "fewer bytes than asked for");
        if (job->reads->looks)
            atomic_fetch_add(&job->sum, look(to, want));
        if (job->filled)
            memset(job->filled + percent(job, at - offset), 1, percent(job, want));
        atomic_fetch_add(&job->n_read, want);
    }
    return NULL;
}

void limits_direct(const char *file, const limits_reads *reads)
{
    uint64_t size;
    pthread_t threads[MAX_THREADS];
    direct_job job = {.reads = reads, .fd = open_file(file, O_DIRECT, &size), .next = reads->offset};
    if (reads->offset % SECTOR || reads->offset > size || reads->n_threads > MAX_THREADS)
        errx(2, "the offset is no multiple of %d, or behind the end of the file", SECTOR);
    uint64_t most = size - reads->offset,
             nbytes = reads->nbytes && reads->nbytes < most ? reads->nbytes : most;
    job.end = reads->offset + nbytes;
    if (reads->keeps) {
        job.kept = take_memory(nbytes + SECTOR, reads->huge);
        memset(job.kept, 1, nbytes);
    }
    if (reads->fills_percent)
        job.filled = take_memory(percent(&job, nbytes), true);
    pthread_barrier_init(&job.ready, NULL, reads->n_threads + 1);
    for (uint32_t i = 0; i < reads->n_threads; i++)
        if (pthread_create(&threads[i], NULL, read_blocks, &job))
            errx(1, "cannot start a thread");
    pthread_barrier_wait(&job.ready);
    double begin = now();
    for (uint32_t i = 0; i < reads->n_threads; i++)
        pthread_join(threads[i], NULL);
    printf("{\"seconds\":%.6f,\"out_nbytes\":%" PRIu64 ",\"disk_nbytes\":%" PRIu64 "}\n", now() - begin,
           (uint64_t)job.n_read, disk_nbytes());
    close(job.fd);
}
