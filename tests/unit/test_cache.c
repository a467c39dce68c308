/*
 * The cache and the trace while the system fails them: allocations, and each call that writes an entry. The load
 * is whole or has failed for want of memory; an entry is whole or not there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "src/plan/report.h"
#include "tests/unit/faults.h"
#include "tests/unit/support.h"

enum { N = 300000 };

static char *folder;
static char cache[4096];
static lds_checkpoint *checkpoint;

static _Atomic enum {
    NONE,
    FTRUNCATE,
    FALLOCATE,
    PWRITE,
    FSYNC,
    RENAMEAT,
    FLOCK,
    N_FAILURES, /* of those that leave no entry */
    FCHOWN = N_FAILURES,
    FREMOVEXATTR,
    FCHMOD
} failure; /* that the next calls have */
static int fails_with;
static uint64_t free_nbytes;               /* that the machine has, or 0 for what it has */
static atomic_uint_fast64_t wished_nbytes; /* that the kernel was asked to read into the page cache */

static atomic_int kills_in, n_until_kill; /* the call that the process does not survive, counted from 1 */

static bool fails(int which)
{
    if (atomic_load(&kills_in) == which && atomic_fetch_sub(&n_until_kill, 1) == 1)
        raise(SIGKILL);
    if ((int)failure != which)
        return false;
    errno = fails_with;
    return true;
}

int __real_ftruncate64(int fd, off_t nbytes);
int __wrap_ftruncate64(int fd, off_t nbytes);
int __real_fallocate64(int fd, int mode, off_t offset, off_t nbytes);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t nbytes);
ssize_t __real_pwrite64(int fd, const void *data, size_t nbytes, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t nbytes, off_t offset);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_renameat(int from, const char *old, int to, const char *name);
int __wrap_renameat(int from, const char *old, int to, const char *name);
int __real_flock(int fd, int how);
int __wrap_flock(int fd, int how);
int __real_fchown(int fd, uid_t user, gid_t group);
int __wrap_fchown(int fd, uid_t user, gid_t group);
int __real_fremovexattr(int fd, const char *name);
int __wrap_fremovexattr(int fd, const char *name);
int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __real_posix_fadvise64(int fd, off_t offset, off_t nbytes, int advice);
int __wrap_posix_fadvise64(int fd, off_t offset, off_t nbytes, int advice);
uint64_t __real_lds_memory_available_in(const char *root, bool *by_cgroup);
uint64_t __wrap_lds_memory_available_in(const char *root, bool *by_cgroup);

int __wrap_ftruncate64(int fd, off_t nbytes)
{
    return fails(FTRUNCATE) ? -1 : __real_ftruncate64(fd, nbytes);
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t nbytes)
{
    return fails(FALLOCATE) ? -1 : __real_fallocate64(fd, mode, offset, nbytes);
}

static void (*before_writing)(void); /* or NULL */

/* Short writes always, so that going on after one is seen. */
ssize_t __wrap_pwrite64(int fd, const void *data, size_t nbytes, off_t offset)
{
    if (before_writing)
        before_writing();
    return fails(PWRITE) ? -1 : __real_pwrite64(fd, data, nbytes > 100000 ? 100000 : nbytes, offset);
}

/* A disk that does not answer while is_stalled. */
static atomic_int n_syncs_to_stall; /* calls until the one that waits for it, 0 for none */
static atomic_bool is_stalled;

int __wrap_fsync(int fd)
{
    int n = atomic_load(&n_syncs_to_stall);
    if (n && atomic_fetch_sub(&n_syncs_to_stall, 1) == 1)
        for (atomic_store(&is_stalled, true); atomic_load(&is_stalled);)
            usleep(1000);
    return fails(FSYNC) ? -1 : __real_fsync(fd);
}

int __wrap_renameat(int from, const char *old, int to, const char *name)
{
    return fails(RENAMEAT) ? -1 : __real_renameat(from, old, to, name);
}

int __wrap_flock(int fd, int how)
{
    return fails(FLOCK) ? -1 : __real_flock(fd, how);
}

static atomic_bool is_clock_stopped; /* the one of files: at the last change of what is loaded */

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    struct stat st;
    if (clock != CLOCK_REALTIME_COARSE || !atomic_load(&is_clock_stopped))
        return __real_clock_gettime(clock, now);
    assert_int_equal(stat(in_folder(folder, "m.safetensors"), &st), 0);
    *now = st.st_ctim;
    return 0;
}

int __wrap_fchown(int fd, uid_t user, gid_t group)
{
    return fails(FCHOWN) ? -1 : __real_fchown(fd, user, group);
}

int __wrap_fremovexattr(int fd, const char *name)
{
    return fails(FREMOVEXATTR) ? -1 : __real_fremovexattr(fd, name);
}

int __wrap_fchmod(int fd, mode_t mode)
{
    return fails(FCHMOD) ? -1 : __real_fchmod(fd, mode);
}

int __wrap_posix_fadvise64(int fd, off_t offset, off_t nbytes, int advice)
{
    if (advice == POSIX_FADV_WILLNEED)
        atomic_fetch_add(&wished_nbytes, (uint64_t)nbytes);
    return __real_posix_fadvise64(fd, offset, nbytes, advice);
}

uint64_t __wrap_lds_memory_available_in(const char *root, bool *by_cgroup)
{
    *by_cgroup = false;
    return free_nbytes ? free_nbytes : __real_lds_memory_available_in(root, by_cgroup);
}

static void write_model(const char *path)
{
    uint16_t *values = calloc(N + 2, sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < N + 2; i++)
        values[i] = (uint16_t)(i % 30000);
    char header[512];
    snprintf(header, sizeof header,
             "{\"a\":{\"dtype\":\"F16\",\"shape\":[%d],\"data_offsets\":[0,%d]},"
             "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[%d,%d]}}",
             N, 2 * N, 2 * N, 2 * N + 4);
    write_safetensors(path, header, values, 2 * N + 4);
    free(values);
}

static int set_up(void **state)
{
    (void)state;
    folder = make_folder();
    snprintf(cache, sizeof cache, "%s/cache", folder);
    const char *path = in_folder(folder, "m.safetensors");
    write_model(path);
    return lds_checkpoint_open(&checkpoint, path, NULL, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    lds_checkpoint_close(checkpoint);
    remove_folder(folder);
    return 0;
}

/* Load as F32 with the cache and a trace. *what is what the report says of the cache, cut to size. */
static lds_status load(char what[static 256])
{
    lds_network *network;
    lds_trace *trace;
    lds_report *report;
    assert_int_equal(lds_network_from_checkpoint(&network, checkpoint, LDS_F32, NULL), LDS_OK);
    assert_int_equal(lds_trace_new(&trace, NULL), LDS_OK);
    lds_load_options options;
    lds_load_options_init(&options, sizeof options);
    options.cache = cache;
    options.trace = trace;
    options.n_threads = 2;
    lds_status status = lds_load(network, checkpoint, &options, &report, NULL);
    const lds_param *a = lds_network_param(network, 0), *b = lds_network_param(network, 1);
    if (!status) {
        lds_report_stats stats = {.struct_size = sizeof stats};
        lds_report_get_stats(report, &stats);
        snprintf(what, 256, "%.255s", stats.cache);
        uint16_t half = 29999;
        float expected;
        assert_int_equal(lds_convert(&expected, LDS_F32, &half, LDS_F16, 1, NULL), LDS_OK);
        assert_memory_equal((const float *)lds_param_data(a) + 29999, &expected, sizeof expected);
        half = (N + 1) % 30000;
        assert_int_equal(lds_convert(&expected, LDS_F32, &half, LDS_F16, 1, NULL), LDS_OK);
        assert_memory_equal((const float *)lds_param_data(b) + 1, &expected, sizeof expected);
    } else {
        assert_null(lds_param_data(a));
    }
    lds_report_free(report);
    lds_trace_free(trace);
    lds_network_free(network);
    return status;
}

static void clear(void)
{
    assert_int_equal(lds_cache_trim(cache, 0, NULL, NULL), LDS_OK);
}

static size_t n_entries(void)
{
    lds_cache_list *list;
    assert_int_equal(lds_cache_list_new(&list, cache, NULL), LDS_OK);
    size_t n = lds_cache_list_n_entries(list);
    lds_cache_list_free(list);
    return n;
}

/* Returns the size of what is there and no entry; each is to be written still, or not. */
static uint64_t unfinished_nbytes(bool is_being_written)
{
    uint64_t nbytes = 0;
    lds_cache_list *list;
    assert_int_equal(lds_cache_list_new(&list, cache, NULL), LDS_OK);
    for (size_t i = 0; i < lds_cache_list_n_unfinished(list); i++) {
        lds_cache_unfinished file = {.struct_size = sizeof file};
        lds_cache_list_get_unfinished(list, i, &file);
        assert_int_equal(file.is_being_written, is_being_written);
        nbytes += file.nbytes;
    }
    lds_cache_list_free(list);
    return nbytes;
}

/* Entries and all else. */
static size_t n_files(void)
{
    size_t n = 0;
    DIR *d = opendir(cache);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    char what[256];
    for (int hit = 0; hit < 2; hit++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            clear();
            if (hit)
                assert_int_equal(load(what), LDS_OK);
            faults_arm(n);
            lds_status status = LDS_OK;
            lds_network *network = NULL;
            if (!lds_network_from_checkpoint(&network, checkpoint, LDS_F32, NULL)) {
                lds_load_options options;
                lds_load_options_init(&options, sizeof options);
                options.cache = cache;
                status = lds_load(network, checkpoint, &options, NULL, NULL);
            }
            failed = faults_disarm();
            assert_true(status == LDS_OK || (failed && status == LDS_ERR_MEMORY));
            lds_network_free(network);
        }
    }
    clear();
}

static void whatever_fails_there_is_no_half_entry(void **state)
{
    (void)state;
    char what[256], expected[8192];
    static const char *const messages[N_FAILURES] = {
        [FTRUNCATE] = "cannot be written to: No space left on device",
        [FALLOCATE] = "has no room for 0.00 GB: No space left on device",
        [PWRITE] = "cannot be written to: No space left on device",
        [FSYNC] = "cannot be written to: No space left on device",
        [RENAMEAT] = "cannot be given its name: No space left on device",
        [FLOCK] = "cannot be written to: No space left on device",
    };
    for (int which = FTRUNCATE; which <= FLOCK; which++) {
        clear();
        failure = (unsigned)which;
        fails_with = ENOSPC;
        assert_int_equal(load(what), LDS_OK);
        failure = NONE;
        snprintf(expected, sizeof expected, "not stored: %s: %s", cache, messages[which]);
        assert_string_equal(what, expected);
        assert_int_equal(n_files(), 0);
        assert_int_equal(load(what), LDS_OK);
        assert_string_equal(what, "stored");
        assert_int_equal(load(what), LDS_OK);
        assert_string_equal(what, "hit");
    }
}

/* A file system that cannot set room aside, or is interrupted, says how much it has. */
static void room_need_not_be_set_aside(void **state)
{
    (void)state;
    char what[256];
    for (int i = 0; i < 2; i++) {
        clear();
        failure = FALLOCATE;
        fails_with = i ? EINTR : EOPNOTSUPP;
        assert_int_equal(load(what), LDS_OK);
        failure = NONE;
        assert_string_equal(what, "stored");
        assert_int_equal(load(what), LDS_OK);
        assert_string_equal(what, "hit");
        assert_int_equal(n_entries(), 1);
    }
}

/* What one load came to. */
typedef struct outcome {
    char cache[256];
    const char *fallback;               /* a string constant */
    uint64_t done_nbytes, total_nbytes; /* that the callback was told last */
} outcome;

static int watch(void *ctx, const lds_progress *progress)
{
    outcome *o = ctx;
    o->done_nbytes = progress->done_nbytes;
    o->total_nbytes = progress->total_nbytes;
    return 0;
}

static lds_load_options cached(void)
{
    lds_load_options options;
    lds_load_options_init(&options, sizeof options);
    options.cache = cache;
    options.n_threads = 2;
    return options;
}

/* Load as F32, with the progress in the outcome. */
static lds_status load_as(outcome *o, const lds_checkpoint *from, lds_load_options options, lds_error *err)
{
    lds_network *network;
    lds_report *report;
    *o = (outcome){0};
    options.progress = watch;
    options.progress_ctx = o;
    assert_int_equal(lds_network_from_checkpoint(&network, from, LDS_F32, NULL), LDS_OK);
    lds_status status = lds_load(network, from, &options, &report, err);
    if (!status) {
        lds_report_stats stats = {.struct_size = sizeof stats};
        lds_report_get_stats(report, &stats);
        snprintf(o->cache, sizeof o->cache, "%s", stats.cache);
        o->fallback = stats.fallback;
    }
    lds_report_free(report);
    lds_network_free(network);
    return status;
}

/* The same for one that succeeds. */
static outcome load_ok(const lds_checkpoint *from, lds_load_options options)
{
    outcome o;
    assert_int_equal(load_as(&o, from, options, NULL), LDS_OK);
    return o;
}

/* Of the one that is stored then. */
static mode_t mode_of_entry(void)
{
    lds_cache_list *list;
    struct stat st;
    clear();
    assert_string_equal(load_ok(checkpoint, cached()).cache, "stored");
    assert_int_equal(lds_cache_list_new(&list, cache, NULL), LDS_OK);
    lds_cache_entry entry = {.struct_size = sizeof entry};
    lds_cache_list_get_entry(list, 0, &entry);
    assert_int_equal(stat(entry.path, &st), 0);
    lds_cache_list_free(list);
    return st.st_mode & 07777;
}

/* Its source is for a group. */
static void an_entry_that_cannot_be_shared_is_private(void **state)
{
    (void)state;
    assert_int_equal(chmod(folder, 0710), 0);
    mode_t shared = mode_of_entry();
    for (int which = FCHOWN; which <= FCHMOD; which++) {
        failure = (unsigned)which;
        fails_with = EPERM;
        assert_int_equal(mode_of_entry(), 0600);
        failure = NONE;
    }
    assert_int_equal(chmod(folder, 0700), 0);
    clear();
    if (shared != 0640)
        skip(); /* no folder for temporary files that everybody can reach */
}

/* The entry is that of what the file has become, and not of what was opened. */
static void a_source_that_changed_is_no_hit(void **state)
{
    (void)state;
    const char *path = in_folder(folder, "changed.safetensors");
    outcome o;
    write_model(path);
    lds_checkpoint *before, *after;
    assert_int_equal(lds_checkpoint_open(&before, path, NULL, NULL), LDS_OK);
    write_model(path);
    const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(lds_checkpoint_open(&after, path, NULL, NULL), LDS_OK);
    assert_string_equal(load_ok(after, cached()).cache, "stored");
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(load_as(&o, before, cached(), &err), LDS_ERR_CHANGED);
    assert_non_null(strstr(err.message, "changed.safetensors: changed since it was opened: it has been"));
    assert_string_equal(load_ok(after, cached()).cache, "hit");
    lds_checkpoint_close(before);
    lds_checkpoint_close(after);
    clear();
}

/* What is changed next would have the same time. */
static void a_source_that_may_change_unseen_is_not_kept(void **state)
{
    (void)state;
    atomic_store(&is_clock_stopped, true);
    assert_string_equal(load_ok(checkpoint, cached()).cache,
                        "not stored: the checkpoint was changed just now");
    atomic_store(&is_clock_stopped, false);
    assert_int_equal(n_files(), 0);
    assert_string_equal(load_ok(checkpoint, cached()).cache, "stored");
    clear();
}

static const char *source; /* that is written to in the middle of its load */

static void write_to_source(void)
{
    const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
    assert_int_equal(n_files(), 1);
    assert_true(unfinished_nbytes(true) > sizeof(float) * N);
    assert_int_equal(utimensat(AT_FDCWD, source, times, 0), 0);
}

/* What was written by then is thrown away. */
static void a_source_that_changes_meanwhile_leaves_no_entry(void **state)
{
    (void)state;
    lds_checkpoint *changing;
    outcome o;
    lds_error err = LDS_ERROR_INIT;
    source = in_folder(folder, "changing.safetensors");
    write_model(source);
    assert_int_equal(lds_checkpoint_open(&changing, source, NULL, NULL), LDS_OK);
    before_writing = write_to_source;
    assert_int_equal(load_as(&o, changing, cached(), &err), LDS_ERR_CHANGED);
    before_writing = NULL;
    assert_int_equal(n_files(), 0);
    lds_checkpoint_close(changing);
}

/* Of the source, and of the entry, whose samples are read. */
static void a_read_that_fails_leaves_no_half_entry(void **state)
{
    (void)state;
    bool failed = true;
    size_t n_loads_failed = 0, n_not_stored = 0;
    outcome o;
    int writer = open(in_folder(folder, "m.safetensors"), O_WRONLY); /* so there are reads, and no views */
    assert_true(writer >= 0);
    for (uint64_t n = 1; failed; n++) {
        clear();
        faults_inject(FAULT_READ, n);
        lds_status status = load_as(&o, checkpoint, cached(), NULL);
        failed = faults_disarm();
        assert_true(status == LDS_OK || (failed && status == LDS_ERR_IO));
        bool is_stored = !status && !strcmp(o.cache, "stored");
        assert_int_equal(n_files(), is_stored);
        n_loads_failed += status != LDS_OK;
        n_not_stored += !status && !is_stored;
    }
    assert_true(n_loads_failed && n_not_stored);
    close(writer);
    clear();
}

static void stall(void)
{
    atomic_store(&is_stalled, true);
    usleep(200000);
}

static int stop_if_stalled(void *ctx, const lds_progress *progress)
{
    (void)ctx, (void)progress;
    return atomic_load(&is_stalled);
}

static void a_load_that_is_cancelled_leaves_no_entry(void **state)
{
    (void)state;
    lds_network *network;
    lds_load_options options = cached();
    options.progress = stop_if_stalled;
    before_writing = stall;
    assert_int_equal(lds_network_from_checkpoint(&network, checkpoint, LDS_F32, NULL), LDS_OK);
    assert_int_equal(lds_load(network, checkpoint, &options, NULL, NULL), LDS_ERR_CANCELLED);
    before_writing = NULL;
    atomic_store(&is_stalled, false);
    assert_int_equal(n_files(), 0);
    lds_network_free(network);
}

static void *load_beside_others(void *ctx)
{
    *(outcome *)ctx = load_ok(checkpoint, cached());
    return NULL;
}

static void of_loads_at_once_one_writes(void **state)
{
    (void)state;
    enum { N_LOADS = 4, N_ROUNDS = 20 };
    char busy[sizeof cache + 64];
    snprintf(busy, sizeof busy, "not stored: %s: another load is writing the same", cache);
    for (int round = 0; round < N_ROUNDS; round++) {
        outcome outcomes[N_LOADS];
        pthread_t threads[N_LOADS];
        size_t n_stored = 0;
        clear();
        for (int i = 0; i < N_LOADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, load_beside_others, &outcomes[i]), 0);
        for (int i = 0; i < N_LOADS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (int i = 0; i < N_LOADS; i++) {
            bool is_stored = !strcmp(outcomes[i].cache, "stored");
            assert_true(is_stored || !strcmp(outcomes[i].cache, "hit") || !strcmp(outcomes[i].cache, busy));
            n_stored += is_stored;
        }
        assert_true(n_stored > 0);
        assert_int_equal(n_files(), 1);
    }
    clear();
}

/* An entry of 80 MiB, of a file without a byte on the disk. */
static lds_checkpoint *open_large(void)
{
    enum { NBYTES = 40 << 20 };
    char header[256];
    lds_checkpoint *large;
    const char *path = in_folder(folder, "large.safetensors");
    snprintf(header, sizeof header, "{\"w\":{\"dtype\":\"F16\",\"shape\":[%d],\"data_offsets\":[0,%d]}}",
             NBYTES / 2, NBYTES);
    write_safetensors(path, header, NULL, NBYTES);
    assert_int_equal(lds_checkpoint_open(&large, path, NULL, NULL), LDS_OK);
    return large;
}

static void an_entry_larger_than_free_memory_is_left_to_first_use(void **state)
{
    (void)state;
    lds_checkpoint *large = open_large();
    assert_string_equal(load_ok(large, cached()).cache, "stored");
    outcome o = load_ok(large, cached());
    assert_string_equal(o.cache, "hit");
    assert_null(o.fallback);
    assert_true(o.done_nbytes > 0);
    free_nbytes = 70 << 20;
    o = load_ok(large, cached());
    assert_string_equal(o.cache, "hit");
    assert_string_equal(o.fallback, "larger than free memory: pages are read on first use");
    assert_int_equal(o.done_nbytes, 0);
    lds_load_options options = cached();
    options.prefetch = options.lazy = true;
    assert_string_equal(load_ok(large, options).fallback, "larger than free memory: not prefetched");
    free_nbytes = 0;
    lds_checkpoint_close(large);
    clear();
}

/* On a hit the kernel is asked to read the entry, which is what will be used. */
static void an_entry_is_prefetched(void **state)
{
    (void)state;
    assert_string_equal(load_ok(checkpoint, cached()).cache, "stored");
    lds_load_options options = cached();
    options.prefetch = options.lazy = true;
    atomic_store(&wished_nbytes, 0);
    assert_string_equal(load_ok(checkpoint, options).cache, "hit");
    assert_true(atomic_load(&wished_nbytes) >= sizeof(float) * N);
    clear();
}

static void progress_is_that_of_what_is_brought_in(void **state)
{
    (void)state;
    const uint64_t source_nbytes = sizeof(uint16_t) * (N + 2), entry_nbytes = sizeof(float) * (N + 2);
    outcome o = load_ok(checkpoint, cached());
    assert_string_equal(o.cache, "stored");
    assert_int_equal(o.done_nbytes, source_nbytes);
    assert_int_equal(o.total_nbytes, source_nbytes);
    o = load_ok(checkpoint, cached());
    assert_string_equal(o.cache, "hit");
    assert_int_equal(o.done_nbytes, entry_nbytes);
    assert_int_equal(o.total_nbytes, entry_nbytes);
    lds_load_options options = cached();
    options.lazy = true;
    o = load_ok(checkpoint, options);
    assert_string_equal(o.cache, "hit");
    assert_int_equal(o.done_nbytes, 0);
    assert_int_equal(o.total_nbytes, 0);
    clear();
}

static void a_write_that_fails_costs_no_entry(void **state)
{
    (void)state;
    const char *path = in_folder(folder, "other.safetensors");
    lds_checkpoint *other;
    write_model(path);
    assert_int_equal(lds_checkpoint_open(&other, path, NULL, NULL), LDS_OK);
    lds_load_options options = cached();
    options.cache_nbytes = 6 * N; /* an entry has 4 * N and a header */
    assert_string_equal(load_ok(checkpoint, options).cache, "stored");
    for (int which = PWRITE; which <= RENAMEAT; which++) {
        failure = (unsigned)which;
        fails_with = EIO;
        outcome o = load_ok(other, options);
        failure = NONE;
        assert_int_equal(strncmp(o.cache, "not stored: ", 12), 0);
        assert_string_equal(load_ok(checkpoint, options).cache, "hit");
    }
    assert_string_equal(load_ok(other, options).cache, "stored");
    assert_int_equal(n_entries(), 1);
    lds_checkpoint_close(other);
    clear();
}

/* Load in a process that dies in call n of a kind. */
static void die_in(int call, int n)
{
    int status;
    pid_t pid = fork();
    if (!pid) {
        atomic_store(&n_until_kill, n);
        atomic_store(&kills_in, call);
        load_ok(checkpoint, cached());
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_writer_that_is_killed_leaves_no_half_entry(void **state)
{
    (void)state;
    static const struct {
        int call, n;
        size_t n_entries, n_others; /* left: a temporary file */
        bool is_left;               /* it has the size of an entry */
    } moments[] = {
        {FLOCK, 1, 0, 0, false},     /* it has no file yet */
        {FLOCK, 2, 0, 1, false},     /* the file is empty, and nobody's */
        {FTRUNCATE, 1, 0, 1, false}, /* it is empty still */
        {FALLOCATE, 1, 0, 1, true},  /* nothing is written yet */
        {PWRITE, 1, 0, 1, true},     /* all of it is of the data, */
        {PWRITE, 13, 0, 1, true},    /* but for the last, */
        {PWRITE, 14, 0, 1, true},    /* which is the header */
        {FSYNC, 1, 0, 1, true},      /* of the file */
        {RENAMEAT, 1, 0, 1, true},   /* it has its temporary name still */
        {FSYNC, 2, 1, 0, false},     /* of the folder */
    };
    char what[256];
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
        clear();
        die_in(moments[i].call, moments[i].n);
        assert_int_equal(n_entries(), moments[i].n_entries);
        assert_int_equal(n_files(), moments[i].n_entries + moments[i].n_others);
        uint64_t left_nbytes = unfinished_nbytes(false), removed_nbytes;
        assert_int_equal(left_nbytes > sizeof(float) * N, moments[i].is_left);
        assert_int_equal(lds_cache_trim(cache, UINT64_MAX, &removed_nbytes, NULL), LDS_OK);
        assert_int_equal(removed_nbytes, left_nbytes);
        assert_int_equal(n_files(), moments[i].n_entries);
        clear();
        die_in(moments[i].call, moments[i].n);
        assert_int_equal(load(what), LDS_OK);
        assert_string_equal(what, moments[i].n_entries ? "hit" : "stored");
        clear();
        assert_int_equal(n_files(), 0);
    }
}

static int cancel_if_stalled(void *ctx, const lds_progress *progress)
{
    double *seconds = ctx;
    *seconds = progress->seconds;
    return atomic_load(&is_stalled);
}

/* Returns how long the load took after its callback had asked to stop. */
static double cancel_in_sync(int n)
{
    lds_network *network;
    lds_error err = LDS_ERROR_INIT;
    lds_load_options options = cached();
    double asked_at = 0;
    struct timespec before, after;
    options.progress = cancel_if_stalled;
    options.progress_ctx = &asked_at;
    assert_int_equal(lds_network_from_checkpoint(&network, checkpoint, LDS_F32, NULL), LDS_OK);
    atomic_store(&n_syncs_to_stall, n);
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(lds_load(network, checkpoint, &options, NULL, &err), LDS_ERR_CANCELLED);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_string_equal(err.message, "cancelled by the progress callback");
    assert_true(atomic_load(&is_stalled));
    assert_null(lds_param_data(lds_network_param(network, 0)));
    lds_network_free(network);
    return (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9 - asked_at;
}

static void a_disk_that_does_not_answer_can_be_left(void **state)
{
    (void)state;
    clear();
    assert_true(cancel_in_sync(1) < 1);
    assert_int_equal(n_files(), 0);
    atomic_store(&is_stalled, false);
    /* The folder's: the entry is there, and whole. */
    assert_true(cancel_in_sync(2) < 1);
    atomic_store(&is_stalled, false);
    assert_int_equal(n_files(), 1);
    assert_string_equal(load_ok(checkpoint, cached()).cache, "hit");
    clear();
}

static int count_entries(void *ctx, const lds_progress *progress)
{
    (void)progress;
    *(size_t *)ctx = n_entries();
    return 0;
}

static void the_last_call_comes_after_the_entry(void **state)
{
    (void)state;
    lds_network *network;
    size_t n_last = 0;
    lds_load_options options = cached();
    options.progress = count_entries;
    options.progress_ctx = &n_last;
    assert_int_equal(lds_network_from_checkpoint(&network, checkpoint, LDS_F32, NULL), LDS_OK);
    assert_int_equal(lds_load(network, checkpoint, &options, NULL, NULL), LDS_OK);
    assert_int_equal(n_last, 1);
    lds_network_free(network);
    clear();
}

static void the_text_has_every_phase(void **state)
{
    (void)state;
    lds_report *report;
    assert_int_equal(lds_report_new(&report, NULL), LDS_OK);
    lds_report_stats *s = &report->stats;
    s->n_tensors = 1;
    s->seconds = 2.1;
    s->plan_seconds = 0.1;
    s->cache_seconds = 0.2;
    s->memory_seconds = 0.3;
    s->transfer_seconds = 0.4;
    s->init_seconds = 0.5;
    s->check_seconds = 0.6;
    s->fallback = "no io_uring";
    s->cache = "hit";
    assert_int_equal(lds_report_compose(report, NULL), LDS_OK);
    assert_string_equal(lds_report_text(report),
                        "1 tensor in 2.100 s\nsource: none (nothing to load; no io_uring)\ncache: hit\n"
                        "time: plan 0.100 s, cache 0.200 s, memory 0.300 s, transfer 0.400 s, init 0.500 s, "
                        "check 0.600 s\n");
    lds_report_free(report);
}

static void options_are_checked(void **state)
{
    (void)state;
    lds_network *network;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_network_from_checkpoint(&network, checkpoint, LDS_F32, NULL), LDS_OK);
    lds_load_options options;
    lds_load_options_init(&options, sizeof options);
    options.cache = cache;
    options.io = LDS_IO_READ;
    assert_int_equal(lds_load(network, checkpoint, &options, NULL, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "options: what a cache has is mapped, which io does not allow");
    lds_network_free(network);
    lds_cache_list *list;
    const char *file = in_folder(folder, "m.safetensors");
    assert_int_equal(lds_cache_list_new(&list, file, &err), LDS_ERR_IO);
    assert_null(list);
    assert_int_equal(err.os_errno, ENOTDIR);
    assert_int_equal(err.file_nbytes, strlen(file));
    assert_int_equal(err.struct_size, sizeof err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(whatever_fails_there_is_no_half_entry),
        cmocka_unit_test(an_entry_that_cannot_be_shared_is_private),
        cmocka_unit_test(room_need_not_be_set_aside),
        cmocka_unit_test(a_source_that_changed_is_no_hit),
        cmocka_unit_test(a_source_that_may_change_unseen_is_not_kept),
        cmocka_unit_test(a_source_that_changes_meanwhile_leaves_no_entry),
        cmocka_unit_test(a_read_that_fails_leaves_no_half_entry),
        cmocka_unit_test(a_load_that_is_cancelled_leaves_no_entry),
        cmocka_unit_test(of_loads_at_once_one_writes),
        cmocka_unit_test(an_entry_larger_than_free_memory_is_left_to_first_use),
        cmocka_unit_test(an_entry_is_prefetched),
        cmocka_unit_test(progress_is_that_of_what_is_brought_in),
        cmocka_unit_test(a_write_that_fails_costs_no_entry),
        cmocka_unit_test(a_writer_that_is_killed_leaves_no_half_entry),
        cmocka_unit_test(a_disk_that_does_not_answer_can_be_left),
        cmocka_unit_test(the_last_call_comes_after_the_entry),
        cmocka_unit_test(the_text_has_every_phase),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
