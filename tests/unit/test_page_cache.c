/*
 * What loads do with the page cache: they bring mapped pages in, copy what is there, read past it what is not, and
 * leave it as it was.
 */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "src/checkpoint/checkpoint.h"
#include "tests/unit/faults.h"
#include "tests/unit/loads.h"

/* Of what a busy kernel may spoil by taking pages that nobody let go of, or keeping some just then. */
enum { N_TRIES = 20 };

/* More than what is read at once, whatever the page cache has. */
enum { N_ELEMENTS = 20 << 20, N_PAGES = N_ELEMENTS / 2048 };

static char *folder;
static char *weights;    /* a file */
static uint16_t *values; /* of "d", BF16, the only tensor */

static int set_up(void **state)
{
    (void)state;
    folder = make_folder();
    weights = strdup(in_folder(folder, "w.safetensors"));
    values = make_values(N_ELEMENTS);
    write_values(weights, values, N_ELEMENTS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(values);
    free(weights);
    remove_folder(folder);
    return 0;
}

/* How many pages of a file the page cache has, and how many there are. */
static size_t count_cached(const char *path, size_t *n_pages)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &st), 0);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    long page_nbytes = sysconf(_SC_PAGESIZE);
    *n_pages = (size_t)((st.st_size + page_nbytes - 1) / page_nbytes);
    unsigned char *present = calloc(*n_pages, 1);
    assert_int_equal(mincore(map, (size_t)st.st_size, present), 0);
    size_t n = 0;
    for (size_t i = 0; i < *n_pages; i++)
        n += present[i] & 1;
    munmap(map, (size_t)st.st_size);
    free(present);
    return n;
}

typedef bool load_function(const char *path, const how *h);

static bool load_here(const char *path, const how *h)
{
    outcome o;
    lds_status status = load(&o, path, h, NULL);
    forget(&o);
    return !status;
}

/*
 * The page cache has so many pages of the file after a load, or it is tried again: a busy kernel takes pages that
 * nobody let go of, and keeps some that it has in its hands just then.
 */
static void check_left(load_function *load_it, const char *path, const how *h, size_t expected)
{
    enum { N_ALLOWED = 100 }; /* edges, shared by two reads */
    size_t n_left, n_pages;
    bool is_loaded;
    for (int i = 0; i < N_TRIES; i++) {
        is_loaded = load_it(path, h);
        n_left = count_cached(path, &n_pages);
        expected = expected < n_pages ? expected : n_pages - N_ALLOWED;
        if (is_loaded && n_left >= expected && n_left <= expected + N_ALLOWED)
            break;
    }
    assert_true(is_loaded);
    assert_in_range(n_left, expected, expected + N_ALLOWED);
}

static void what_was_not_in_the_page_cache_is_let_go_of(void **state)
{
    (void)state;
    enum { N_BROUGHT = 1000 };
    size_t n_pages;
    evict(weights);
    if (count_cached(weights, &n_pages) || sysconf(_SC_PAGESIZE) != 4096)
        skip(); /* a file system without a page cache of its own, or in memory */
    how h = {.n_threads = 2, .dtype = LDS_F32, .is_cold = true};
    for (h.io = LDS_IO_READ; h.io <= LDS_IO_DIRECT; h.io++)
        for (int is_partly = 0; is_partly < 2; is_partly++) {
            h.n_brought = is_partly ? N_BROUGHT : 0;
            check_left(load_here, weights, &h, h.n_brought);
        }
    how kept = {.io = LDS_IO_AUTO, .n_threads = 2, .dtype = LDS_F32, .is_cold = true, .keep_cache = true};
    check_left(load_here, weights, &kept, SIZE_MAX);
    kept.keep_cache = false;
    kept.prefetch = true;
    check_left(load_here, weights, &kept, SIZE_MAX);
    kept.io = LDS_IO_DIRECT; /* past the page cache all the same, and so not read twice */
    check_left(load_here, weights, &kept, 0);
}

static uint64_t read_from_disk_nbytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_inblock * 512;
}

static void what_is_partly_in_the_page_cache_is_copied_and_read_past_it(void **state)
{
    (void)state;
    enum { N_BROUGHT = N_PAGES / 2, BLOCK_NBYTES = 4 << 20 };
    size_t n_pages;
    evict(weights);
    if (count_cached(weights, &n_pages) || sysconf(_SC_PAGESIZE) != 4096)
        skip();
    how h = {.io = LDS_IO_AUTO, .n_threads = 2, .dtype = LDS_F32, .is_cold = true, .n_brought = N_BROUGHT};
    check_left(load_here, weights, &h, N_BROUGHT);
    const uint64_t expected = (uint64_t)(N_PAGES - N_BROUGHT) * 4096 + BLOCK_NBYTES;
    uint64_t n_read = UINT64_MAX;
    outcome o = {0};
    for (int i = 0; i < N_TRIES && n_read > expected; i++) {
        forget(&o);
        evict(weights);
        bring_in(weights, N_BROUGHT);
        uint64_t before = read_from_disk_nbytes();
        assert_int_equal(load(&o, weights, &(how){.dtype = LDS_F32, .n_threads = 2}, NULL), LDS_OK);
        n_read = read_from_disk_nbytes() - before;
        check_values(&o, values, N_ELEMENTS);
    }
    assert_in_range(n_read, 0, expected);
    assert_string_equal(o.stats.source_reason, "partly in the page cache");
    assert_true(!strcmp(o.stats.source, "direct") || o.stats.fallback);
    forget(&o);
}

/* Old kernels and emulators do not tell what they have at hand. */
static bool has_nowait(const char *path)
{
    char byte;
    struct iovec piece = {&byte, 1};
    int fd = open(path, O_RDONLY);
    bool ok = pread(fd, &byte, 1, 0) == 1 && preadv2(fd, &piece, 1, 0, RWF_NOWAIT) == 1;
    close(fd);
    return ok;
}

/* Whether of n_pages in the page cache so many are found, all of which are still there. */
static bool are_found(const lds_file *file, size_t n_pages)
{
    enum { N_ALLOWED = 100 };
    size_t n_all;
    evict(weights);
    bring_in(weights, n_pages);
    uint64_t n_found = lds_file_resident(file, 0, file->identity.nbytes) / 4096;
    return count_cached(weights, &n_all) >= n_pages && n_found + N_ALLOWED >= n_pages &&
           n_found <= n_pages + N_ALLOWED;
}

/* By cachestat(2), by mincore(2) where the kernel has no such call, and by reads that may not wait. */
static void what_the_page_cache_has_is_found_in_each_way(void **state)
{
    (void)state;
    enum { BY_CACHESTAT, BY_MINCORE, BY_NOWAIT, N_WAYS };
    size_t n_pages;
    evict(weights);
    if (count_cached(weights, &n_pages) || sysconf(_SC_PAGESIZE) != 4096 || !has_nowait(weights))
        skip();
    lds_file file;
    assert_int_equal(lds_file_open(&file, weights, NULL), LDS_OK);
    for (int way = 0; way < N_WAYS; way++)
        for (size_t n = 0; n <= N_PAGES; n += N_PAGES / 4) {
            bool found = false;
            file.hides_cache = way == BY_NOWAIT;
            faults_inject(way == BY_CACHESTAT ? FAULT_NONE : FAULT_COUNT, 0);
            for (int i = 0; i < N_TRIES && !found; i++)
                found = are_found(&file, n);
            assert_int_equal(faults_disarm(), way == BY_MINCORE && !file.is_overlay);
            assert_true(found);
        }
    lds_file_close(&file);
}

#if !defined(__SANITIZE_THREAD__)
/* As a user who may only read the file: what the process sees of the page cache, and a load that lets go. */
static bool load_as_nobody(const char *path, const how *h)
{
    enum { NOBODY = 65534 };
    lds_file file;
    if (setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY))
        return false;
    evict(path);
    if (lds_file_open(&file, path, NULL) || !file.hides_cache)
        return false;
    uint64_t n_cached = lds_file_resident(&file, 0, file.identity.nbytes);
    bring_in(path, (size_t)(file.identity.nbytes / 4096));
    uint64_t n_brought = lds_file_resident(&file, 0, file.identity.nbytes);
    bool is_seen = n_cached < file.identity.nbytes / 8 && n_brought > file.identity.nbytes / 8 * 7;
    lds_file_close(&file);
    return is_seen && load_here(path, h);
}

static bool load_in_child(const char *path, const how *h)
{
    pid_t child = fork();
    if (!child)
        _exit(load_as_nobody(path, h) ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/*
 * All that such a process can ask is what a read finds that may not wait. Its pages are asked for nevertheless, and
 * a thread that is interrupted there finds them present afterwards, and leaves them: so not at every try.
 */
static void what_belongs_to_others_is_let_go_of_too(void **state)
{
    (void)state;
    const how h = {.io = LDS_IO_READ, .n_threads = 2, .dtype = LDS_F32, .is_cold = true};
    size_t n_pages;
    evict(weights);
    if (getuid() || count_cached(weights, &n_pages) || sysconf(_SC_PAGESIZE) != 4096 || !has_nowait(weights))
        skip(); /* nobody else to be, or no page cache */
    assert_int_equal(chmod(folder, 0755), 0);
    check_left(load_in_child, weights, &h, 0);
}
#endif

/* By huge pages, or where the kernel takes no advice by blocks, each of which it is told of. */
static void mapped_pages_of_a_disk_come_in(void **state)
{
    (void)state;
    for (int takes_advice = 0; takes_advice < 2; takes_advice++) {
        outcome o;
        how h = {.io = LDS_IO_MAP, .n_threads = 2, .is_cold = true};
        if (!takes_advice)
            faults_inject(FAULT_ADVICE, 0);
        assert_int_equal(load(&o, weights, &h, NULL), LDS_OK);
        assert_true(takes_advice || faults_disarm());
        check_values(&o, values, N_ELEMENTS);
        forget(&o);
    }
}

/* Every other of 16 tensors of 8 MiB: what lies between them stays on the disk. */
static void only_the_pages_of_what_is_loaded_come_in(void **state)
{
    (void)state;
    enum { N_TENSORS = 16, TENSOR_NBYTES = 8 << 20, N_ALLOWED = 8 * 32 };
    const char *parts = in_folder(folder, "parts.safetensors");
    char header[2048] = "{";
    for (int i = 0; i < N_TENSORS; i++)
        snprintf(header + strlen(header), 128,
                 "%s\"%s%d\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[%d,%d]}", i ? "," : "",
                 i % 2 ? "not" : "d", i, TENSOR_NBYTES, i * TENSOR_NBYTES, (i + 1) * TENSOR_NBYTES);
    strcat(header, "}");
    write_safetensors(parts, header, NULL, (size_t)N_TENSORS * TENSOR_NBYTES);
    size_t n_pages;
    evict(parts);
    if (count_cached(parts, &n_pages) || sysconf(_SC_PAGESIZE) != 4096)
        skip();
    outcome o;
    how h = {.io = LDS_IO_MAP, .n_threads = 2, .is_cold = true, .names = "d*"};
    assert_int_equal(load(&o, parts, &h, NULL), LDS_OK);
    assert_int_equal(o.stats.mapped_nbytes, N_TENSORS / 2 * TENSOR_NBYTES);
    assert_in_range(count_cached(parts, &n_pages), 0, N_TENSORS / 2 * TENSOR_NBYTES / 4096 + N_ALLOWED);
    forget(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_not_in_the_page_cache_is_let_go_of),
        cmocka_unit_test(what_is_partly_in_the_page_cache_is_copied_and_read_past_it),
        cmocka_unit_test(what_the_page_cache_has_is_found_in_each_way),
#if !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(what_belongs_to_others_is_let_go_of_too),
#endif
        cmocka_unit_test(mapped_pages_of_a_disk_come_in),
        cmocka_unit_test(only_the_pages_of_what_is_loaded_come_in),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
