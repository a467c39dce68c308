/*
 * Every way of bringing bytes in gives the same bytes: from the page cache and not, into places that lie as in
 * the file and others, converted and not, in blocks of every size; also where the system offers less than was
 * asked for, and fails what it offered.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/unit/faults.h"
#include "tests/unit/loads.h"

enum { N_LARGE = 3000001, N_SMALL = 1001, N_PARAMS = 8 };

static const struct {
    const char *name;
    const char *dtype;
    uint64_t numel, element_nbytes;
} tensors[N_PARAMS] = {
    {"a", "BF16", N_LARGE, 2}, {"b", "F32", N_SMALL, 4},     {"c", "BF16", N_SMALL, 2},
    {"d", "BF16", N_LARGE, 2}, {"e", "F32", N_LARGE / 4, 4}, {"f", "U8", 5, 1},
    {"g", "BF16", N_SMALL, 2}, {"h", "BF16", N_LARGE, 2},
};

static char *folder;
static uint8_t *bytes;
static uint64_t n_bytes, begins[N_PARAMS];

/* Two files of the same weights: even.safetensors, and odd.safetensors, in which no element is aligned. */
static int set_up(void **state)
{
    (void)state;
    char header[2048] = "{";
    folder = make_folder();
    for (int i = 0; i < N_PARAMS; i++) {
        begins[i] = n_bytes;
        n_bytes += tensors[i].numel * tensors[i].element_nbytes;
        snprintf(header + strlen(header), 256,
                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d],\"data_offsets\":[%d,%d]}", i ? "," : "",
                 tensors[i].name, tensors[i].dtype, (int)tensors[i].numel, (int)begins[i], (int)n_bytes);
    }
    strcat(header, "}");
    bytes = malloc(n_bytes);
    uint32_t x = 1;
    for (uint64_t i = 0; i < n_bytes; i++) {
        x = x * 1664525 + 1013904223;
        bytes[i] = (x >> 24) & 0x3F; /* no infinities, no NaNs */
    }
    while (strlen(header) % 8)
        strcat(header, " ");
    write_safetensors(in_folder(folder, "even.safetensors"), header, bytes, n_bytes);
    strcat(header, " ");
    write_safetensors(in_folder(folder, "odd.safetensors"), header, bytes, n_bytes);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(bytes);
    remove_folder(folder);
    return 0;
}

static bool are_same(const outcome *a, const outcome *b)
{
    bool same = true;
    for (int i = 0; i < N_PARAMS; i++) {
        const lds_param *p = lds_network_find(a->network, tensors[i].name);
        const lds_param *q = lds_network_find(b->network, tensors[i].name);
        const void *x = lds_param_data(p), *y = lds_param_data(q);
        same &= x && y ? !memcmp(x, y, lds_param_nbytes(p)) : x == y;
    }
    return same;
}

static void check_same(const outcome *a, const outcome *b)
{
    assert_true(are_same(a, b));
}

/* Load as h says, cold and hot, and compare with one thread of pread. */
static void check(const char *file, const how *h)
{
    outcome expected, found;
    how plain = {.io = LDS_IO_READ, .dtype = h->dtype, .n_threads = 1, .names = h->names};
    const char *path = in_folder(folder, file);
    assert_int_equal(load(&expected, path, &plain, NULL), LDS_OK);
    for (int is_cold = 0; is_cold < 2; is_cold++) {
        how now = *h;
        now.is_cold = is_cold;
        assert_int_equal(load(&found, path, &now, NULL), LDS_OK);
        check_same(&expected, &found);
        forget(&found);
    }
    forget(&expected);
}

static const char *const files[] = {"even.safetensors", "odd.safetensors"};

static void every_source_gives_the_same(void **state)
{
    (void)state;
    static const lds_dtype dtypes[] = {LDS_DTYPE_NONE, LDS_BF16, LDS_F32, LDS_F16, LDS_F8_E5M2};
    for (lds_io io = LDS_IO_AUTO; io <= LDS_IO_DIRECT; io++)
        for (size_t f = 0; f < 2; f++)
            for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++)
                check(files[f], &(how){.io = io, .dtype = dtypes[d], .n_threads = 2});
}

static void every_size_of_reads_gives_the_same(void **state)
{
    (void)state;
    static const uint64_t windows[] = {64 << 10, 100 << 10, 300001, 1 << 20, 5 << 20};
    for (lds_io io = LDS_IO_READ; io <= LDS_IO_DIRECT; io++)
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
            check(files[w % 2],
                  &(how){.io = io, .dtype = LDS_F32, .n_threads = 1, .window_nbytes = windows[w]});
}

static void parts_and_memory_of_the_callers_give_the_same(void **state)
{
    (void)state;
    for (lds_io io = LDS_IO_AUTO; io <= LDS_IO_DIRECT; io++) {
        check(files[0], &(how){.io = io, .n_threads = 2, .is_bound = true});
        check(files[0], &(how){.io = io, .n_threads = 2, .dtype = LDS_F32, .is_bound = true});
        check(files[0], &(how){.io = io, .n_threads = 2, .names = "[aceh]"});
        check(files[1], &(how){.io = io, .n_threads = 2, .names = "[bfg]"});
    }
}

/* What a load of all bytes says about itself. */
static outcome told(lds_io io, bool is_cold)
{
    outcome o;
    assert_int_equal(
        load(&o, in_folder(folder, files[0]), &(how){.io = io, .n_threads = 2, .is_cold = is_cold}, NULL),
        LDS_OK);
    return o;
}

static void check_told(lds_io io, const char *source, const char *fallback)
{
    outcome o = told(io, true);
    assert_string_equal(o.stats.source, source);
    if (fallback)
        assert_string_equal(o.stats.fallback, fallback);
    else
        assert_null(o.stats.fallback);
    assert_string_equal(o.stats.source_reason, "as asked");
    forget(&o);
}

#ifdef LDS_HAVE_URING
/* Containers often forbid it, and emulators do not know it. */
static bool has_uring(void)
{
    return syscall(__NR_io_uring_setup, 0, NULL) < 0 && errno != ENOSYS && errno != EPERM;
}
#endif

static void the_report_says_what_was_used(void **state)
{
    (void)state;
    check_told(LDS_IO_READ, "read", NULL);
#ifdef LDS_HAVE_URING
    if (has_uring())
        check_told(LDS_IO_URING, "uring", NULL);
#else
    check_told(LDS_IO_URING, "read", "built without io_uring");
#endif
}

/* ------------------------------------------------------------------------------------------------------- */

/* What the page cache has of tensors that are not loaded says nothing about those that are. */
static void what_is_not_loaded_does_not_count_as_cached(void **state)
{
    (void)state;
    const char *path = in_folder(folder, "parts.safetensors");
    write_safetensors(
        path,
        "{\"a\":{\"dtype\":\"BF16\",\"shape\":[1048576],\"data_offsets\":[0,2097152]},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[41943040],\"data_offsets\":[2097152,85983232]},"
        "\"d\":{\"dtype\":\"BF16\",\"shape\":[20971520],\"data_offsets\":[85983232,127926272]}} ",
        NULL, 122 << 20);
    outcome o;
    const how h = {.n_threads = 2, .dtype = LDS_F32, .is_cold = true, .n_brought = 82 << 8, .names = "[ad]"};
    assert_int_equal(load(&o, path, &h, NULL), LDS_OK);
    assert_string_not_equal(o.stats.source_reason, "in the page cache");
    forget(&o);
}

#ifdef LDS_HAVE_URING
static void a_kernel_without_io_uring_is_read_otherwise(void **state)
{
    (void)state;
    static const struct {
        int os_errno;
        const char *reason;
    } cases[] = {
        {ENOSYS, "this kernel has no io_uring"},
        {EPERM, "io_uring is not permitted here"},
        {ENOMEM, "io_uring may not have the memory that it needs"},
        {EMFILE, "too few descriptors for io_uring"},
        {ENXIO, "io_uring does not work here"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        faults_inject(FAULT_RING, (uint64_t)cases[i].os_errno);
        check_told(LDS_IO_URING, "read", cases[i].reason);
        check(files[i % 2], &(how){.io = LDS_IO_URING, .dtype = LDS_F32, .n_threads = 2});
        check(files[i % 2], &(how){.io = LDS_IO_DIRECT, .dtype = LDS_F32, .n_threads = 2});
        assert_true(faults_disarm());
    }
    faults_inject(FAULT_OLD_RING, 0);
    check_told(LDS_IO_URING, "read", cases[0].reason);
    assert_true(faults_disarm());
}

static void a_kernel_that_lacks_a_flag_has_io_uring_without_it(void **state)
{
    (void)state;
    const how h = {.io = LDS_IO_URING, .n_threads = 2, .dtype = LDS_F32, .is_cold = true};
    outcome plain, o;
    assert_int_equal(load(&plain, in_folder(folder, files[0]), &h, NULL), LDS_OK);
    faults_inject(FAULT_RING_FLAG, 0);
    assert_int_equal(load(&o, in_folder(folder, files[0]), &h, NULL), LDS_OK);
    assert_true(faults_disarm());
    assert_string_equal(o.stats.source, plain.stats.source); /* "uring", but where nobody may */
    assert_true(are_same(&o, &plain));
    forget(&plain);
    forget(&o);
}

#if !defined(__SANITIZE_THREAD__) /* which knows no threads in forked children */
/* From now on this process may not make a system call. False if it cannot be forbidden here. */
static bool forbid(uint32_t call)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) &&
           syscall(call, 1, NULL) < 0 && errno == EPERM;
}

static bool is_told(lds_io io, const char *source, const outcome *expected)
{
    outcome o;
    const how h = {.io = io, .n_threads = 2, .dtype = LDS_F32, .is_cold = true};
    bool is_same = !load(&o, in_folder(folder, files[0]), &h, NULL) && !strcmp(o.stats.source, source) &&
                   o.stats.fallback && !strcmp(o.stats.fallback, "io_uring is not permitted here") &&
                   are_same(&o, expected);
    forget(&o);
    return is_same;
}

/* Filters cannot be taken back, so a child has them. */
static void a_container_that_forbids_io_uring_is_read_otherwise(void **state)
{
    (void)state;
    enum { DONE, WRONG, CANNOT };
    pid_t child = fork();
    if (!child) {
        outcome plain;
        const how h = {.io = LDS_IO_DIRECT, .n_threads = 2, .dtype = LDS_F32, .is_cold = true};
        bool ok = !load(&plain, in_folder(folder, files[0]), &h, NULL);
        const char *direct = plain.stats.source; /* where the file system has direct reads */
        if (!forbid(__NR_io_uring_setup))
            _exit(CANNOT);
        ok = ok && is_told(LDS_IO_URING, "read", &plain) && is_told(LDS_IO_DIRECT, direct, &plain);
        ok = ok && forbid(__NR_io_submit) && is_told(LDS_IO_DIRECT, direct, &plain);
        _exit(ok ? DONE : WRONG);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT)
        skip();
    assert_int_equal(WEXITSTATUS(status), DONE);
}
#endif

/* Which is no fall-back, and so not told. */
static void buffers_that_cannot_be_registered_are_read_into(void **state)
{
    (void)state;
    const how h = {.io = LDS_IO_DIRECT, .dtype = LDS_F32, .n_threads = 2, .is_cold = true};
    outcome plain, o;
    assert_int_equal(load(&plain, in_folder(folder, files[0]), &h, NULL), LDS_OK);
    for (uint64_t n = 1; n < 4; n++) {
        faults_inject(FAULT_BUFFERS, n);
        assert_int_equal(load(&o, in_folder(folder, files[0]), &h, NULL), LDS_OK);
        bool was_refused = faults_disarm();
        if (n == 1 && has_uring() && !strcmp(plain.stats.source, "direct"))
            assert_true(was_refused);
        assert_string_equal(o.stats.source, plain.stats.source);
        assert_true(!o.stats.fallback == !plain.stats.fallback);
        check_same(&o, &plain);
        forget(&o);
    }
    forget(&plain);
}

static void a_ring_that_fails_is_replaced(void **state)
{
    (void)state;
    if (!has_uring())
        skip();
    for (uint64_t n = 1; n < 6; n++) { /* refused for a moment */
        faults_inject(FAULT_SUBMIT, n);
        check_told(LDS_IO_URING, "uring", NULL);
        faults_disarm();
    }
    faults_inject(FAULT_SUBMITS, 0);
    check_told(LDS_IO_URING, "read", "io_uring stopped working");
    check(files[0], &(how){.io = LDS_IO_DIRECT, .dtype = LDS_F32, .n_threads = 2});
    check(files[1], &(how){.io = LDS_IO_URING, .n_threads = 2});
    assert_true(faults_disarm());
}
#endif

/* As some file systems of networks and FUSE cannot: they say so at once, or at the first read. */
static void check_refusals(bool leave_uring, bool leave_aio)
{
    static const struct {
        fault kind;
        uint64_t n;
        const char *fallback;
    } cases[] = {
        {FAULT_DIRECT, 0, "no direct reads on this file system"},
        /* after the checkpoint's, and the load's own */
        {FAULT_OPEN, 3, "too few descriptors for direct reads"},
        {FAULT_REFUSED, 1, "direct reads are refused here"},
    };
    outcome plain = told(LDS_IO_READ, false), usual = told(LDS_IO_DIRECT, false);
    bool can_refuse = !strcmp(usual.stats.source, "direct");
    faults_leave(leave_uring, leave_aio);
    for (size_t i = 0; i < sizeof cases / sizeof *cases && (!i || can_refuse); i++) {
        faults_inject(cases[i].kind, cases[i].n);
        outcome o = told(LDS_IO_DIRECT, false);
        assert_true(faults_disarm());
        assert_string_not_equal(o.stats.source, "direct");
        if (can_refuse)
            assert_string_equal(o.stats.fallback, cases[i].fallback);
        check_same(&o, &plain);
        forget(&o);
    }
    faults_leave(true, true);
    forget(&usual);
    forget(&plain);
}

static void what_cannot_be_read_directly_is_read_otherwise(void **state)
{
    (void)state;
    check_refusals(true, true);
#if !defined( \
    __SANITIZE_THREAD__) /* which sees threads write to a margin what another writes there, the same bytes */
    check_refusals(false, true);
    check_refusals(false, false);
#endif
}

static bool has_direct(void)
{
    outcome o = told(LDS_IO_DIRECT, true);
    bool is_direct = !strcmp(o.stats.source, "direct");
    forget(&o);
    return is_direct;
}

static bool has_aio(void)
{
    return syscall(__NR_io_setup, 0, NULL) < 0 && errno != ENOSYS && errno != EPERM;
}

/* Results of all kinds for reads that the kernel does by itself: some that say nothing, and one that is an error. */
static void check_results(lds_io io, lds_dtype dtype)
{
    static const int passing[] = {0, EINTR, EAGAIN, ENOMEM};
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) {
        faults_inject(FAULT_RESULTS, (uint64_t)passing[i]);
        check(files[0], &(how){.io = io, .n_threads = 2, .dtype = dtype});
        assert_true(faults_disarm());
    }
    for (uint64_t n = 1; n < 10; n += 4) {
        outcome o;
        lds_error err = LDS_ERROR_INIT;
        const how h = {.io = io, .n_threads = 2, .dtype = dtype, .is_cold = true};
        faults_inject(FAULT_RESULT, n);
        assert_int_equal(load(&o, in_folder(folder, files[0]), &h, &err), LDS_ERR_IO);
        assert_true(faults_disarm());
        assert_int_equal(err.os_errno, EIO);
        forget(&o);
    }
}

static void results_of_the_kernels_are_understood(void **state)
{
    (void)state;
#ifdef LDS_HAVE_URING
    if (has_uring()) {
        check_results(LDS_IO_URING, LDS_DTYPE_NONE);
        check_results(LDS_IO_DIRECT, LDS_DTYPE_NONE);
        check_results(LDS_IO_DIRECT, LDS_F32);
    }
#endif
#if !defined(__SANITIZE_THREAD__) /* as above */
    faults_leave(false, true);
    for (int i = 0; i < 2 && has_direct() && has_aio(); i++)
        check_results(LDS_IO_DIRECT, i ? LDS_F32 : LDS_DTYPE_NONE);
    faults_leave(true, true);
#endif
}

/* A kernel of before 4.14, and a file system that cannot tell: what is not known to be there is read by threads. */
static void reads_that_would_wait_are_handed_over(void **state)
{
    (void)state;
    static const int refusals[] = {EAGAIN, EOPNOTSUPP, ENOSYS, EPERM}; /* the last by a container's filter */
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        for (lds_io io = LDS_IO_READ; io <= LDS_IO_DIRECT; io++) {
            faults_nowait(refusals[i]);
            check(files[i % 2], &(how){.io = io, .n_threads = 3, .dtype = LDS_F32});
            check(files[i % 2], &(how){.io = io, .n_threads = 1});
        }
    faults_nowait(0);
}

/* Let read n fail, in the worker and in the threads that read for it. */
static void fail_reads(fault kind, lds_status expected, const char *message)
{
    for (int is_handed_over = 0; is_handed_over < 2; is_handed_over++)
        for (uint64_t n = 1; n < 20; n += 3) {
            outcome o;
            lds_error err = LDS_ERROR_INIT;
            faults_nowait(is_handed_over ? EAGAIN : 0);
            faults_inject(kind, n + 3); /* past the header */
            lds_status status =
                load(&o, in_folder(folder, files[0]), &(how){.io = LDS_IO_READ, .n_threads = 2}, &err);
            faults_nowait(0);
            if (faults_disarm()) {
                assert_int_equal(status, expected);
                assert_non_null(strstr(err.message, message));
                assert_non_null(strstr(err.message, files[0]));
                for (int i = 0; i < N_PARAMS; i++)
                    assert_null(lds_param_data(lds_network_param(o.network, (size_t)i)));
            }
            forget(&o);
        }
}

static void reads_that_fail_fail_the_load(void **state)
{
    (void)state;
    fail_reads(FAULT_READ, LDS_ERR_IO, "cannot be read");
    fail_reads(FAULT_END, LDS_ERR_CHANGED, "found the end");
}

static void reads_in_pieces_are_put_together(void **state)
{
    (void)state;
    for (int is_handed_over = 0; is_handed_over < 2; is_handed_over++) {
        outcome expected = told(LDS_IO_READ, false), found;
        faults_nowait(is_handed_over ? EAGAIN : 0);
        faults_inject(FAULT_PIECES, 100007);
        found = told(LDS_IO_READ, false);
        assert_true(faults_disarm());
        faults_nowait(0);
        check_same(&expected, &found);
        forget(&expected);
        forget(&found);
    }
}

/* ------------------------------------------------------------------------------------------------------- */

/* 0.1 s is what is promised; sanitizers, and machines that do something else besides, take theirs. */
#define MAX_STOP_SECONDS 2.0

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned n_idle_threads; /* where no load runs, and none has left any behind */
static unsigned most_threads;

/* Asks to stop at the second call, and notes when, and the threads that there are until then. */
static int stop_soon(void *ctx, const lds_progress *progress)
{
    double *asked = ctx;
    (void)progress;
    unsigned n = n_threads_now();
    most_threads = n > most_threads ? n : most_threads;
    if (*asked < 0) {
        *asked = 0;
        return 0;
    }
    *asked = *asked > 0 ? *asked : now();
    return 1;
}

/* While one read or all do not return. True if it came to that. */
static bool check_stop(lds_io io, lds_dtype dtype, fault kind, uint64_t n, unsigned least, unsigned most)
{
    double asked = -1;
    outcome o;
    most_threads = 0;
    how h = {.io = io,
             .n_threads = 2,
             .dtype = dtype,
             .is_cold = true,
             .progress = stop_soon,
             .progress_ctx = &asked};
    faults_inject(kind, n);
    lds_status status = load(&o, in_folder(folder, files[0]), &h, NULL);
    double took = now() - asked;
    assert_int_equal(status, LDS_ERR_CANCELLED);
    assert_true(took < MAX_STOP_SECONDS);
    assert_in_range(most_threads, n_idle_threads + least, n_idle_threads + most);
    for (int p = 0; p < N_PARAMS; p++)
        assert_null(lds_param_data(lds_network_param(o.network, (size_t)p)));
    forget(&o);
    bool was_stalled = faults_disarm();
    for (int i = 0; i < 10000 && n_threads_now() > n_idle_threads; i++)
        usleep(1000); /* what was left ends by itself: sanitizers tell if it does not end well */
    assert_int_equal(n_threads_now(), n_idle_threads);
    return was_stalled;
}

static void a_read_that_never_returns_keeps_no_load_from_returning(void **state)
{
    (void)state;
    int n_stalled = 0;
    n_idle_threads = n_threads_now();
    faults_nowait(EAGAIN);
    /* Past the header. Threads are the workers, and those that wait for a read each. */
    for (uint64_t n = 3; n < 15; n += 3)
        n_stalled += check_stop(LDS_IO_READ, n % 2 ? LDS_F32 : LDS_DTYPE_NONE, FAULT_STALL, n, 3, 2 + 8);
    assert_true(n_stalled > 0);
    faults_nowait(0);
}

/* The kernel waits for what it does by itself: there are no threads but the workers. */
static void a_read_that_the_kernel_does_keeps_none_either(void **state)
{
    (void)state;
    n_idle_threads = n_threads_now();
#ifdef LDS_HAVE_URING
    for (int i = 0; i < 4 && has_direct() && has_uring(); i++)
        assert_true(check_stop(i < 2 ? LDS_IO_DIRECT : LDS_IO_URING, i % 2 ? LDS_F32 : LDS_DTYPE_NONE,
                               FAULT_SILENCE, 0, 2, 2));
#endif
    faults_leave(false, true);
    for (int i = 0; i < 2 && has_direct() && has_aio(); i++)
        assert_true(check_stop(LDS_IO_DIRECT, i ? LDS_F32 : LDS_DTYPE_NONE, FAULT_SILENCE, 0, 2, 2));
    faults_leave(true, true);
}

/* A file that is mapped, large enough to be waited for, and not in the page cache: it is a hole. */
static const char *sparse_file(void)
{
    const char *path = in_folder(folder, "sparse.safetensors");
    write_safetensors(path,
                      "{\"d\":{\"dtype\":\"BF16\",\"shape\":[33554432],\"data_offsets\":[0,67108864]}}   ",
                      NULL, 64 << 20);
    return path;
}

static void a_disk_that_never_answers_keeps_no_mapping_from_returning(void **state)
{
    (void)state;
    const char *path = sparse_file();
    for (uint64_t n = 1; n < 6; n += 2) {
        double asked = -1;
        outcome o;
        how h = {
            .io = LDS_IO_MAP, .n_threads = 2, .is_cold = true, .progress = stop_soon, .progress_ctx = &asked};
        faults_inject(FAULT_STALL, n + 2); /* past the header */
        lds_status status = load(&o, path, &h, NULL);
        double took = now() - asked;
        assert_true(faults_disarm());
        assert_int_equal(status, LDS_ERR_CANCELLED);
        assert_true(took < MAX_STOP_SECONDS);
        assert_null(lds_param_data(lds_network_find(o.network, "d")));
        forget(&o);
        usleep(100000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_source_gives_the_same),
        cmocka_unit_test(every_size_of_reads_gives_the_same),
        cmocka_unit_test(parts_and_memory_of_the_callers_give_the_same),
        cmocka_unit_test(the_report_says_what_was_used),
        cmocka_unit_test(what_is_not_loaded_does_not_count_as_cached),
#ifdef LDS_HAVE_URING
        cmocka_unit_test(a_kernel_without_io_uring_is_read_otherwise),
        cmocka_unit_test(a_kernel_that_lacks_a_flag_has_io_uring_without_it),
#if !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(a_container_that_forbids_io_uring_is_read_otherwise),
#endif
        cmocka_unit_test(buffers_that_cannot_be_registered_are_read_into),
        cmocka_unit_test(a_ring_that_fails_is_replaced),
#endif
        cmocka_unit_test(results_of_the_kernels_are_understood),
        cmocka_unit_test(what_cannot_be_read_directly_is_read_otherwise),
        cmocka_unit_test(reads_that_would_wait_are_handed_over),
        cmocka_unit_test(reads_that_fail_fail_the_load),
        cmocka_unit_test(reads_in_pieces_are_put_together),
        cmocka_unit_test(a_read_that_never_returns_keeps_no_load_from_returning),
        cmocka_unit_test(a_read_that_the_kernel_does_keeps_none_either),
        cmocka_unit_test(a_disk_that_never_answers_keeps_no_mapping_from_returning),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
