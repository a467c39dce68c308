/*
 * The machine's own limits: what loops written by hand for this one purpose reach. They are the other side of
 * the ratios that bench/run.py prints, so they are given every freedom: page size, block size, how blocks are
 * shared out, where stores go, how the file is reached, and which kernel converts. run.py tries them all and
 * takes the best.
 *
 * One invocation is one measurement in a process of its own, and prints one JSON object. Memory, once taken,
 * is given back by the end of the process, outside the clock.
 */
#include <errno.h>
#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/limits_files.h"
#include "bench/limits_kernels.h"
#include "bench/measure.h"

enum { MAX_THREADS = 256, GRAIN = 128 };

typedef struct settings {
    const char *file;
    uint64_t offset, nbytes; /* of the file's bytes to bring in; nbytes 0: to its end */
    lds_dtype src, dst;
    uint64_t block;
    uint32_t n_threads;
    bool huge, used, stream, halves, library, map, populate, look;
    uint32_t n_runs, fill;
} settings;

typedef struct load_job {
    const settings *set;
    int fd;
    const uint8_t *mapped; /* the file's bytes, or NULL to read them */
    uint8_t *dst;
    limits_kernel kernel; /* NULL: the bytes are wanted as they are */
    uint64_t src_size, dst_size;
    uint64_t n_blocks;
    atomic_uint_fast64_t next;
} load_job;

typedef struct worker {
    load_job *job;
    uint32_t index;
    pthread_t thread;
} worker;

static void read_all(int fd, uint8_t *data, uint64_t nbytes, uint64_t offset)
{
    while (nbytes) {
        ssize_t n = pread(fd, data, nbytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            errx(1, "read: %s", n ? strerror(errno) : "the file ends early");
        data += n, offset += (uint64_t)n, nbytes -= (uint64_t)n;
    }
}

static void convert(const load_job *job, uint8_t *dst, const uint8_t *src, uint64_t nbytes)
{
    size_t n = nbytes / job->src_size;
    if (job->kernel)
        job->kernel(dst, src, n);
    else if (lds_convert(dst, job->set->dst, src, job->set->src, n, NULL))
        errx(1, "the library cannot convert this pair");
}

static void do_block(const load_job *job, uint64_t block, uint8_t *buffer)
{
    const settings *set = job->set;
    uint64_t at = block * set->block;
    uint64_t nbytes = set->nbytes - at < set->block ? set->nbytes - at : set->block;
    uint8_t *dst = job->dst + at / job->src_size * job->dst_size;
    if (set->populate)
        madvise((void *)((uintptr_t)dst & ~(uintptr_t)4095), nbytes / job->src_size * job->dst_size,
                MADV_POPULATE_WRITE);
    if (job->mapped) {
        convert(job, dst, job->mapped + at, nbytes);
    } else if (set->src == set->dst) {
        read_all(job->fd, dst, nbytes, set->offset + at);
    } else {
        read_all(job->fd, buffer, nbytes, set->offset + at);
        convert(job, dst, buffer, nbytes);
    }
}

/* In halves each thread has its own run of the file; otherwise all walk through it side by side. */
static void *do_blocks(void *arg)
{
    worker *w = arg;
    load_job *job = w->job;
    uint8_t *buffer = aligned_alloc(4096, job->set->block);
    if (!buffer)
        err(1, "buffer");
    uint64_t n = job->set->n_threads;
    uint64_t block = job->n_blocks * w->index / n, end = job->n_blocks * (w->index + 1) / n;
    if (!job->set->halves)
        block = atomic_fetch_add(&job->next, 1), end = job->n_blocks;
    while (block < end) {
        do_block(job, block, buffer);
        block = job->set->halves ? block + 1 : atomic_fetch_add(&job->next, 1);
    }
    free(buffer);
    return NULL;
}

static void run_threads(uint32_t n_threads, load_job *job, void *(*work)(void *))
{
    worker workers[MAX_THREADS];
    for (uint32_t i = 0; i < n_threads; i++) {
        workers[i] = (worker){.job = job, .index = i};
        if (i && pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            errx(1, "cannot start a thread");
    }
    work(&workers[0]);
    for (uint32_t i = 1; i < n_threads; i++)
        pthread_join(workers[i].thread, NULL);
}

static void *touch_share(void *arg)
{
    worker *w = arg;
    uint64_t n = w->job->set->n_threads, nbytes = w->job->set->nbytes;
    uint64_t begin = nbytes * w->index / n & ~(uint64_t)4095, end = nbytes * (w->index + 1) / n;
    for (uint64_t at = begin; at < end; at += 4096)
        w->job->dst[at] = 1;
    return NULL;
}

static void *convert_share(void *arg)
{
    worker *w = arg;
    const load_job *job = w->job;
    uint64_t n = job->set->n_threads, grains = job->set->nbytes / job->src_size / GRAIN;
    uint64_t begin = grains * w->index / n * GRAIN, end = grains * (w->index + 1) / n * GRAIN;
    convert(job, job->dst + begin * job->dst_size, job->mapped + begin * job->src_size,
            (end - begin) * job->src_size);
    return NULL;
}

static void touch(const settings *set, uint8_t *data, uint64_t nbytes)
{
    settings all = *set;
    all.nbytes = nbytes;
    load_job job = {.set = &all, .dst = data};
    run_threads(set->n_threads, &job, touch_share);
}

static int open_file(settings *set)
{
    struct stat st;
    int fd = open(set->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        err(1, "%s", set->file);
    if (set->offset > (uint64_t)st.st_size)
        errx(1, "%s: the offset lies behind its end", set->file);
    if (!set->nbytes || set->nbytes > (uint64_t)st.st_size - set->offset)
        set->nbytes = (uint64_t)st.st_size - set->offset;
    return fd;
}

static const uint8_t *map_file(const settings *set, int fd)
{
    uint64_t before = set->offset & 4095;
    uint8_t *data =
        mmap(NULL, set->nbytes + before, PROT_READ, MAP_PRIVATE, fd, (off_t)(set->offset - before));
    if (data == MAP_FAILED)
        err(1, "%s", set->file);
    return data + before;
}

/* A loop that converts wrongly is no limit: its first block has to equal the library's. */
static void check_block(const load_job *job)
{
    const settings *set = job->set;
    uint64_t nbytes = set->nbytes < set->block ? set->nbytes : set->block, n = nbytes / job->src_size;
    uint8_t *src = malloc(nbytes), *expected = malloc(n * job->dst_size);
    if (!src || !expected)
        err(1, "buffer");
    read_all(job->fd, src, nbytes, set->offset);
    if (lds_convert(expected, set->dst, src, set->src, n, NULL) ||
        memcmp(expected, job->dst, n * job->dst_size))
        errx(1, "the loop's result is not the library's");
    free(src);
    free(expected);
}

/* Bring a file's bytes in, converted, into fresh memory or into memory that was used before. */
static void measure_load(settings *set)
{
    int fd = open_file(set);
    load_job job = {
        .set = set, .src_size = lds_dtype_bits(set->src) / 8, .dst_size = lds_dtype_bits(set->dst) / 8};
    set->nbytes -= set->src == set->dst ? 0 : set->nbytes % GRAIN;
    uint64_t out = set->nbytes / job.src_size * job.dst_size;
    const char *isa = "library";
    if (set->src != set->dst && !set->library) {
        job.kernel = limits_kernel_find(set->dst, set->src, set->stream, &isa);
        if (!job.kernel)
            errx(2, "no loop of our own for this pair, instruction set and kind of store");
    } else if (set->src == set->dst) {
        isa = "none";
    }
    if (set->used) {
        job.dst = take_memory(out, set->huge);
        touch(set, job.dst, out);
    }
    close(fd);

    double begin = now();
    job.fd = open_file(set);
    set->nbytes -= set->src == set->dst ? 0 : set->nbytes % GRAIN;
    job.n_blocks = (set->nbytes + set->block - 1) / set->block;
    if (!set->used)
        job.dst = take_memory(out, set->huge);
    if (set->map)
        job.mapped = map_file(set, job.fd);
    run_threads(set->n_threads, &job, do_blocks);
    double seconds = now() - begin;

    check_block(&job);
    printf("{\"seconds\":%.6f,\"in_nbytes\":%" PRIu64 ",\"out_nbytes\":%" PRIu64 ",\"isa\":\"%s\",", seconds,
           set->nbytes, out, isa);
    printf("\"peak_rss_bytes\":%" PRIu64 ",\"disk_nbytes\":%" PRIu64 "}\n", peak_rss(), disk_nbytes());
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort_seconds(double *seconds, uint32_t n)
{
    qsort(seconds, n, sizeof *seconds, compare_doubles);
}

/* Values like any: some processors move lines of nothing but zeros a third faster. */
static void fill(uint8_t *data, uint64_t nbytes)
{
    uint64_t x = 1;
    for (uint64_t i = 0; i + sizeof x <= nbytes; i += sizeof x) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        memcpy(data + i, &x, sizeof x);
    }
}

/* From memory to memory, both used before: by a loop by hand, or by memcpy where nothing is to be converted. */
static void measure_copy(settings *set)
{
    load_job job = {
        .set = set, .src_size = lds_dtype_bits(set->src) / 8, .dst_size = lds_dtype_bits(set->dst) / 8};
    uint64_t out = set->nbytes / job.src_size * job.dst_size;
    const char *isa = "none";
    if (set->src != set->dst && !(job.kernel = limits_kernel_find(set->dst, set->src, set->stream, &isa)))
        errx(2, "no loop of our own for this pair, instruction set and kind of store");
    uint32_t n_runs = set->n_runs ? set->n_runs : 1;
    uint8_t *src = take_memory(set->nbytes, set->huge);
    double *seconds = calloc(n_runs, sizeof *seconds);
    if (!seconds)
        err(1, "times");
    job.dst = take_memory(out, set->huge);
    job.mapped = src;
    fill(src, set->nbytes);
    touch(set, job.dst, out);
    for (uint32_t i = 0; i < n_runs; i++) {
        double begin = now();
        run_threads(set->n_threads, &job, convert_share);
        seconds[i] = now() - begin;
    }
    sort_seconds(seconds, n_runs);
    printf("{\"seconds\":%.7f,\"in_nbytes\":%" PRIu64 ",\"out_nbytes\":%" PRIu64 ",\"isa\":\"%s\"}\n",
           seconds[n_runs / 2], set->nbytes, out, isa);
    free(seconds);
}

static void measure_touch(settings *set)
{
    double begin = now();
    touch(set, take_memory(set->nbytes, set->huge), set->nbytes);
    printf("{\"seconds\":%.6f,\"out_nbytes\":%" PRIu64 "}\n", now() - begin, set->nbytes);
}

/*
 * Have the host of a virtual machine back as much memory as a measurement will take: it hands out memory that was
 * free for a while only at the first touch, and slowly. It is at hand once two touches in a row took as long.
 */
static void back(settings *set)
{
    double last = 0, seconds = 0;
    int n = 0;
    do {
        last = seconds;
        double begin = now();
        uint8_t *data = take_memory(set->nbytes, true);
        touch(set, data, set->nbytes);
        seconds = now() - begin;
        munmap(data, set->nbytes);
    } while (++n < 16 && (seconds < 0.8 * last || seconds > 1.25 * last));
    printf("{\"seconds\":%.6f,\"n_touches\":%d}\n", seconds, n);
}

static void measure_direct(const settings *set)
{
    const limits_reads reads = {
        .offset = set->offset,
        .nbytes = set->nbytes,
        .block = set->block,
        .n_threads = set->n_threads,
        .huge = set->huge,
        .keeps = set->used,
        .looks = set->look,
        .fills_percent = set->fill,
    };
    limits_direct(set->file, &reads);
}

/* A private mapping with every page present: what a load without a conversion cannot go below. */
static void measure_map(settings *set)
{
    double begin = now();
    int fd = open_file(set);
    uint8_t *data = mmap(NULL, set->nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        err(1, "%s", set->file);
    uint64_t sum = 0;
    for (uint64_t at = 0; at < set->nbytes; at += 4096)
        sum += *(volatile uint8_t *)(data + at);
    double seconds = now() - begin;
    printf("{\"seconds\":%.6f,\"out_nbytes\":%" PRIu64 ",\"disk_nbytes\":%" PRIu64 ",\"sum\":%" PRIu64 "}\n",
           seconds, set->nbytes, disk_nbytes(), sum);
}

/* A whole process, from its start to its end, its output thrown away: many times, since it is short. */
static void measure_spawn(settings *set, char **command)
{
    extern char **environ;
    uint32_t n_runs = set->n_runs ? set->n_runs : 100;
    double *seconds = calloc(n_runs, sizeof *seconds);
    posix_spawn_file_actions_t actions;
    if (!seconds || posix_spawn_file_actions_init(&actions) ||
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0))
        errx(1, "cannot set up");
    for (uint32_t i = 0; i < n_runs; i++) {
        pid_t pid;
        int status;
        double begin = now();
        int error = posix_spawnp(&pid, command[0], &actions, NULL, command, environ);
        if (error)
            errx(1, "%s: %s", command[0], strerror(error));
        if (waitpid(pid, &status, 0) < 0 || status)
            errx(1, "%s: ended with status %d", command[0], status);
        seconds[i] = now() - begin;
    }
    sort_seconds(seconds, n_runs);
    printf("{\"seconds\":%.6f,\"best\":%.6f,\"worst\":%.6f,\"n_runs\":%" PRIu32 "}\n", seconds[n_runs / 2],
           seconds[0], seconds[n_runs - 1], n_runs);
    free(seconds);
}

static const char usage_text[] =
    "usage: limits load FILE [--offset N] [--nbytes N] [--src DTYPE --dst DTYPE] [--block N] [--threads N]\n"
    "                        [--huge] [--used] [--stream] [--halves] [--library] [--map] [--populate]\n"
    "       limits copy --nbytes N [--src DTYPE --dst DTYPE] [--threads N] [--huge] [--stream] [--runs N]\n"
    "       limits touch --nbytes N [--threads N] [--huge]\n"
    "       limits back --nbytes N\n"
    "       limits map|warm|evict FILE\n"
    "       limits direct FILE [--offset N] [--nbytes N] [--block N] [--threads N] [--huge] [--used]\n"
    "                     [--look] [--fill PERCENT]\n"
    "       limits spawn [--runs N] -- COMMAND...\n";

static _Noreturn void usage(void)
{
    fputs(usage_text, stderr);
    exit(2);
}

static const struct option options[] = {
    {"offset", required_argument, NULL, 'o'},
    {"nbytes", required_argument, NULL, 'n'},
    {"src", required_argument, NULL, 's'},
    {"dst", required_argument, NULL, 'd'},
    {"block", required_argument, NULL, 'b'},
    {"threads", required_argument, NULL, 't'},
    {"runs", required_argument, NULL, 'r'},
    {"huge", no_argument, NULL, 'H'},
    {"used", no_argument, NULL, 'U'},
    {"stream", no_argument, NULL, 'S'},
    {"halves", no_argument, NULL, 'V'},
    {"library", no_argument, NULL, 'L'},
    {"map", no_argument, NULL, 'M'},
    {"populate", no_argument, NULL, 'P'},
    {"look", no_argument, NULL, 'K'},
    {"fill", required_argument, NULL, 'F'},
    {NULL, 0, NULL, 0},
};

static void parse(settings *set, int argc, char **argv)
{
    for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
        switch (c) {
        case 'o': set->offset = strtoull(optarg, NULL, 10); break;
        case 'n': set->nbytes = strtoull(optarg, NULL, 10); break;
        case 's': set->src = lds_dtype_parse(optarg); break;
        case 'd': set->dst = lds_dtype_parse(optarg); break;
        case 'b': set->block = strtoull(optarg, NULL, 10); break;
        case 't': set->n_threads = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'r': set->n_runs = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'H': set->huge = true; break;
        case 'U': set->used = true; break;
        case 'S': set->stream = true; break;
        case 'V': set->halves = true; break;
        case 'L': set->library = true; break;
        case 'M': set->map = true; break;
        case 'P': set->populate = true; break;
        case 'K': set->look = true; break;
        case 'F': set->fill = (uint32_t)strtoul(optarg, NULL, 10); break;
        default: usage();
        }
    }
    if (!set->src || !set->dst || !set->block || set->block % 4096 || !set->n_threads ||
        set->n_threads > MAX_THREADS)
        usage();
}

int main(int argc, char **argv)
{
    settings set = {.src = LDS_U8, .dst = LDS_U8, .block = 1 << 20};
    set.n_threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    if (argc < 2)
        usage();
    const char *what = argv[1];
    bool no_file =
        !strcmp(what, "copy") || !strcmp(what, "touch") || !strcmp(what, "back") || !strcmp(what, "spawn");
    int skip = no_file ? 1 : 2;
    if (argc <= skip)
        usage();
    set.file = argv[skip];
    parse(&set, argc - skip, argv + skip);
    if (!strcmp(what, "load"))
        measure_load(&set);
    else if (!strcmp(what, "copy") && set.nbytes)
        measure_copy(&set);
    else if (!strcmp(what, "touch") && set.nbytes)
        measure_touch(&set);
    else if (!strcmp(what, "back") && set.nbytes)
        back(&set);
    else if (!strcmp(what, "map"))
        measure_map(&set);
    else if (!strcmp(what, "warm"))
        limits_warm(set.file);
    else if (!strcmp(what, "evict"))
        limits_evict(set.file);
    else if (!strcmp(what, "direct"))
        measure_direct(&set);
    else if (!strcmp(what, "spawn") && argc > skip + optind)
        measure_spawn(&set, argv + skip + optind);
    else
        usage();
    return 0;
}
