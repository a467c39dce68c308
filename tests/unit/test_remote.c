/*
 * Files of a network file system or FUSE are read with many reads at once, each of which is a round trip: how many,
 * is counted by the file system.
 */
#include <fcntl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "loadstone.h"
#include "tests/unit/slow_fs.h"
#include "tests/unit/support.h"

enum { N_AT_ONCE = 40, N_THREADS = 32, TIMES_AS_FAST = 5, N_OF_HEADER = 8 };
static const uint64_t data_nbytes = (uint64_t)48 << 20, header_nbytes = (uint64_t)1 << 20;

static slow_fs *fs;
static uint8_t *file;
static size_t file_nbytes;

static int set_up(void **state)
{
    (void)state;
    const char *why_not;
    const uint64_t n = header_nbytes - 8;
    file_nbytes = header_nbytes + data_nbytes;
    file = malloc(file_nbytes);
    memset(file, ' ', header_nbytes);
    memcpy(file, &n, 8);
    int n_written =
        sprintf((char *)file + 8, "{\"w\":{\"dtype\":\"BF16\",\"shape\":[%llu],\"data_offsets\":[0,%llu]}}",
                (unsigned long long)data_nbytes / 2, (unsigned long long)data_nbytes);
    file[8 + n_written] = ' ';
    for (size_t i = 0; i < data_nbytes; i++)
        file[header_nbytes + i] = (uint8_t)(i * 2654435761u >> 13) & 0x3F;
    fs = slow_fs_mount(file, file_nbytes, &why_not);
    if (!fs)
        print_message("not tested: %s\n", why_not);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (fs)
        slow_fs_unmount(fs);
    free(file);
    return 0;
}

/* Read a byte of each page, which is when a mapping that nobody has prepared is read. */
static void walk(const volatile uint8_t *data)
{
    for (uint64_t i = 0; i < data_nbytes; i += 4096)
        (void)data[i];
}

/* A load that can begin. */
typedef struct load_job {
    lds_checkpoint *checkpoint;
    lds_network *network;
    lds_load_options options;
} load_job;

static load_job prepare(lds_io io, lds_dtype dtype, unsigned delay_ms, unsigned hold)
{
    load_job job;
    slow_fs_begin(fs, 0, 0);
    assert_int_equal(lds_checkpoint_open(&job.checkpoint, fs->path, NULL, NULL), LDS_OK);
    assert_int_equal(lds_network_from_checkpoint(&job.network, job.checkpoint, dtype, NULL), LDS_OK);
    lds_load_options_init(&job.options, sizeof job.options);
    job.options.io = io;
    job.options.n_threads = 2;
    slow_fs_begin(fs, delay_ms, hold);
    return job;
}

static void clean_up(load_job *job)
{
    lds_network_free(job->network);
    lds_checkpoint_close(job->checkpoint);
}

/* Load the file, by a walk if the load leaves it to that; the report's figures. */
static void load(lds_io io, bool walks, lds_report_stats *stats, unsigned delay_ms, unsigned hold)
{
    lds_report *report;
    load_job job = prepare(io, LDS_DTYPE_NONE, delay_ms, hold);
    job.options.lazy = walks;
    assert_int_equal(lds_load(job.network, job.checkpoint, &job.options, &report, NULL), LDS_OK);
    const lds_param *w = lds_network_find(job.network, "w");
    if (walks)
        walk(lds_param_data(w));
    *stats = (lds_report_stats){.struct_size = sizeof *stats};
    lds_report_get_stats(report, stats);
    assert_memory_equal(lds_param_data(w), file + header_nbytes, data_nbytes);
    lds_report_free(report);
    clean_up(&job);
}

/* Before Linux 5.15 io_uring could not be told how many threads of the kernel's may wait for such a file system. */
static bool is_old_kernel(void)
{
    struct utsname name;
    unsigned major = 0, minor = 0;
    return uname(&name) || sscanf(name.release, "%u.%u", &major, &minor) != 2 || major * 100 + minor < 515;
}

static void many_reads_are_under_way_at_once(void **state)
{
    (void)state;
    static const lds_io ways[] = {LDS_IO_READ, LDS_IO_AUTO, LDS_IO_URING, LDS_IO_DIRECT};
    if (!fs)
        skip();
    for (size_t i = 0; i < (is_old_kernel() ? 1 : sizeof ways / sizeof *ways); i++) {
        lds_report_stats stats;
        load(ways[i], false, &stats, 0, i ? N_AT_ONCE : N_THREADS);
        assert_int_equal(stats.mapped_nbytes, 0);
        /* Where there is no io_uring, threads read, whatever was asked for, direct reads included. */
        bool by_threads = stats.fallback || !strcmp(stats.source, "read");
        unsigned expected = by_threads ? N_THREADS : N_AT_ONCE;
        assert_in_range(atomic_load(&fs->n_most), expected, UINT32_MAX);
    }
}

static void a_long_header_is_read_in_parts_at_once(void **state)
{
    (void)state;
    if (!fs)
        skip();
    lds_checkpoint *checkpoint;
    uint8_t byte;
    slow_fs_begin(fs, 0, 0);
    int fd = open(fs->path, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    assert_int_equal(pread(fd, &byte, 1, 0), 1); /* which tells how long the header is */
    close(fd);
    atomic_store(&fs->hold, N_OF_HEADER);
    assert_int_equal(lds_checkpoint_open(&checkpoint, fs->path, NULL, NULL), LDS_OK);
    lds_checkpoint_close(checkpoint);
    assert_in_range(atomic_load(&fs->n_most), N_OF_HEADER, UINT32_MAX);
}

/* All of the file that a load is given but a part behind its middle: in the page cache, for the most part. */
static void bring_in_most(void)
{
    int fd = open(fs->path, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    uint8_t *to = malloc(file_nbytes);
    uint64_t middle = file_nbytes / 2, behind = middle + file_nbytes / 16;
    assert_int_equal(pread(fd, to, middle, 0), middle);
    assert_int_equal(pread(fd, to, file_nbytes - behind, (off_t)behind), file_nbytes - behind);
    free(to);
    close(fd);
}

static int stop_at_once(void *ctx, const lds_progress *progress)
{
    (void)ctx, (void)progress;
    return 1;
}

/* Nobody answers, until the load has returned: else this would wait for as long as the file system has patience. */
static void check_cancelled(lds_io io, lds_dtype dtype, bool is_mostly_there)
{
    load_job job = prepare(io, dtype, 0, 0);
    job.options.progress = stop_at_once;
    if (is_mostly_there)
        bring_in_most();
    unsigned n_before = n_threads_now();
    atomic_store(&fs->hold, UINT32_MAX);
    lds_status status = lds_load(job.network, job.checkpoint, &job.options, NULL, NULL);
    unsigned hold = atomic_exchange(&fs->hold, 0);
    clean_up(&job);
    /* What was left reads on for a little, which the next load should not find. A sanitizer's own thread stays. */
    for (int i = 0; i < 1000 && n_threads_now() > n_before; i++)
        usleep(1000);
    assert_int_equal(status, LDS_ERR_CANCELLED);
    assert_int_equal(hold, UINT32_MAX);
}

static void a_load_whose_reads_are_not_answered_can_be_cancelled(void **state)
{
    (void)state;
    if (!fs)
        skip();
    for (lds_io io = LDS_IO_AUTO; io <= LDS_IO_DIRECT; io++)
        for (int is_mostly_there = 0; is_mostly_there < 2; is_mostly_there++) {
            check_cancelled(io, LDS_DTYPE_NONE, is_mostly_there);
            check_cancelled(io, LDS_F32, is_mostly_there);
        }
}

/* As often as reads had to be waited for one after the other, at least. */
static double n_round_trips(void)
{
    return (double)atomic_load(&fs->n_reads) / atomic_load(&fs->n_most);
}

/* A first use of mapped weights waits for page after page. Counted, and not timed: ./dev bench remote does that. */
static void reading_waits_less_often_than_mapping(void **state)
{
    (void)state;
    if (!fs)
        skip();
    lds_report_stats stats;
    load(LDS_IO_MAP, true, &stats, 1, 0);
    assert_int_equal(stats.mapped_nbytes, data_nbytes);
    double n_of_walk = n_round_trips();
    load(LDS_IO_AUTO, false, &stats, 0, N_THREADS);
    assert_int_equal(stats.mapped_nbytes, 0);
    print_message("round trips: %.1f by a walk, %.1f by %s\n", n_of_walk, n_round_trips(), stats.source);
    assert_true(n_of_walk >= TIMES_AS_FAST * n_round_trips());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_header_is_read_in_parts_at_once),
        cmocka_unit_test(a_load_whose_reads_are_not_answered_can_be_cancelled),
        cmocka_unit_test(many_reads_are_under_way_at_once),
        cmocka_unit_test(reading_waits_less_often_than_mapping),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
