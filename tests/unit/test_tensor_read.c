/* Parts of tensors: every slice of a small tensor against indexing it by hand, and what is refused. */
#include <fcntl.h>

#include "loadstone.h"
#include "tests/unit/support.h"

enum { N0 = 3, N1 = 4, N2 = 5, N = N0 * N1 * N2 };

static uint16_t values[N];
static char *folder;
static lds_checkpoint *checkpoint;
static const lds_tensor *tensor;

static int make_checkpoint(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++)
        values[i] = (uint16_t)(0x3F80 + i);
    folder = make_folder();
    const char *path = in_folder(folder, "a.safetensors");
    write_safetensors(path,
                      "{\"t\":{\"dtype\":\"BF16\",\"shape\":[3,4,5],\"data_offsets\":[0,120]},"
                      "\"f4\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[120,122]},"
                      "\"none\":{\"dtype\":\"BF16\",\"shape\":[0,2],\"data_offsets\":[122,122]},"
                      "\"one\":{\"dtype\":\"I16\",\"shape\":[],\"data_offsets\":[122,124]}}",
                      (uint8_t[124]){0}, 124);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -124, SEEK_END), 0);
    assert_int_equal(fwrite(values, 1, sizeof values, file), sizeof values);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(lds_checkpoint_open(&checkpoint, path, NULL, NULL), LDS_OK);
    tensor = lds_checkpoint_find(checkpoint, "t");
    assert_non_null(tensor);
    return 0;
}

static int remove_checkpoint(void **state)
{
    (void)state;
    lds_checkpoint_close(checkpoint);
    remove_folder(folder);
    return 0;
}

static float as_float(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void check_slices(const lds_slice *s)
{
    uint16_t expected[N], found[N];
    float converted[N];
    size_t n = 0;
    for (uint64_t i = 0; i < s[0].count; i++)
        for (uint64_t j = 0; j < s[1].count; j++)
            for (uint64_t k = 0; k < s[2].count; k++) {
                int64_t a = (int64_t)s[0].start + (int64_t)i * s[0].step;
                int64_t b = (int64_t)s[1].start + (int64_t)j * s[1].step;
                int64_t c = (int64_t)s[2].start + (int64_t)k * s[2].step;
                expected[n++] = values[(a * N1 + b) * N2 + c];
            }
    assert_int_equal(lds_tensor_read(checkpoint, tensor, s, LDS_DTYPE_NONE, found, 2 * n, NULL), LDS_OK);
    assert_memory_equal(found, expected, 2 * n);
    assert_int_equal(lds_tensor_read(checkpoint, tensor, s, LDS_F32, converted, 4 * n, NULL), LDS_OK);
    for (size_t i = 0; i < n; i++)
        assert_true(converted[i] == as_float(expected[i]));
}

/* All starts, counts and steps that there are for an extent; returns how many. */
static size_t all_slices(lds_slice *slices, uint64_t extent)
{
    size_t n = 0;
    slices[n++] = (lds_slice){extent + 7, 0, 0};
    for (uint64_t start = 0; start < extent; start++) {
        slices[n++] = (lds_slice){start, 1, 0};
        for (int64_t step = -3; step <= 3; step++)
            for (uint64_t count = 1; step && count <= extent; count++) {
                int64_t last = (int64_t)start + (int64_t)(count - 1) * step;
                if (last >= 0 && last < (int64_t)extent)
                    slices[n++] = (lds_slice){start, count, step};
            }
    }
    return n;
}

static void test_every_slice(void **state)
{
    (void)state;
    lds_slice a[64], b[64], c[128];
    size_t n_a = all_slices(a, N0), n_b = all_slices(b, N1), n_c = all_slices(c, N2);
    for (size_t i = 0; i < n_a; i++)
        for (size_t j = 0; j < n_b; j++)
            for (size_t k = 0; k < n_c; k++)
                check_slices((lds_slice[3]){a[i], b[j], c[k]});
}

static void test_whole_tensors(void **state)
{
    (void)state;
    uint16_t found[N];
    double wide[N];
    uint8_t packed[2];
    int16_t one = -1;
    assert_int_equal(lds_tensor_read(checkpoint, tensor, NULL, LDS_DTYPE_NONE, found, 2 * N, NULL), LDS_OK);
    assert_memory_equal(found, values, 2 * N);
    assert_int_equal(lds_tensor_read(checkpoint, tensor, NULL, LDS_F64, wide, 8 * N, NULL), LDS_OK);
    for (size_t i = 0; i < N; i++)
        assert_true(wide[i] == (double)as_float(values[i]));
    const lds_tensor *t = lds_checkpoint_find(checkpoint, "f4");
    assert_int_equal(lds_tensor_read(checkpoint, t, NULL, LDS_F4, packed, 2, NULL), LDS_OK);
    t = lds_checkpoint_find(checkpoint, "none");
    assert_int_equal(lds_tensor_read(checkpoint, t, NULL, LDS_F32, NULL, 0, NULL), LDS_OK);
    t = lds_checkpoint_find(checkpoint, "one");
    assert_int_equal(lds_tensor_read(checkpoint, t, NULL, LDS_I16, &one, 2, NULL), LDS_OK);
    assert_int_equal(one, 0);
}

enum { ROWS = 96, COLUMNS = 9000 };

/* The index of element i of a slice, which is also its value. */
static int64_t at(const lds_slice *s, uint64_t i)
{
    int64_t row = (int64_t)s[0].start + (int64_t)(i / s[1].count) * s[0].step;
    int64_t column = (int64_t)s[1].start + (int64_t)(i % s[1].count) * s[1].step;
    return row * COLUMNS + column;
}

/* Rows far apart, long runs, and a window that has to be filled again. */
static void test_large(void **state)
{
    (void)state;
    float *data = malloc(sizeof *data * ROWS * COLUMNS);
    float *found = malloc(sizeof *found * ROWS * COLUMNS);
    for (int i = 0; i < ROWS * COLUMNS; i++)
        data[i] = (float)i;
    const char *path = in_folder(folder, "large.safetensors");
    write_safetensors(path, "{\"t\":{\"dtype\":\"F32\",\"shape\":[96,9000],\"data_offsets\":[0,3456000]}}",
                      data, sizeof *data * ROWS * COLUMNS);
    lds_checkpoint *large;
    assert_int_equal(lds_checkpoint_open(&large, path, NULL, NULL), LDS_OK);
    const lds_tensor *t = lds_checkpoint_tensor(large, 0);
    const lds_slice cases[][2] = {
        {{0, ROWS, 1}, {100, 30, 1}},           /* far apart: one by one */
        {{0, ROWS, 1}, {5, COLUMNS - 9, 1}},    /* almost everything */
        {{95, 48, -2}, {COLUMNS - 1, 900, -7}}, /* through the window, backwards */
        {{3, 90, 1}, {0, COLUMNS, 1}},          /* one long run */
        {{0, ROWS, 1}, {0, COLUMNS / 2, 2}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const lds_slice *s = cases[c];
        uint64_t n = s[0].count * s[1].count;
        assert_int_equal(lds_tensor_read(large, t, s, LDS_F32, found, 4 * n, NULL), LDS_OK);
        for (uint64_t i = 0; i < n; i++)
            assert_true(found[i] == (float)at(s, i));
        assert_int_equal(lds_tensor_read(large, t, s, LDS_F16, found, 2 * n, NULL), LDS_OK);
        uint16_t last;
        assert_int_equal(lds_convert(&last, LDS_F16, &(float){(float)at(s, n - 1)}, LDS_F32, 1, NULL),
                         LDS_OK);
        assert_memory_equal((uint16_t *)found + n - 1, &last, 2);
    }
    lds_checkpoint_close(large);
    free(data);
    free(found);
}

/* The first read waits for its disk, and what is asked of the kernel is noted. */
enum { MAX_ASKED = 4 * ROWS };

static struct {
    unsigned wait_us;
    int last_fd;
    int random_fd; /* without reading ahead */
    size_t n_asked;
    struct {
        off_t offset, nbytes;
    } asked[MAX_ASKED];
} disk;

ssize_t __real_pread64(int fd, void *data, size_t nbytes, off_t offset);
ssize_t __wrap_pread64(int fd, void *data, size_t nbytes, off_t offset);
int __real_posix_fadvise64(int fd, off_t offset, off_t nbytes, int advice);
int __wrap_posix_fadvise64(int fd, off_t offset, off_t nbytes, int advice);

ssize_t __wrap_pread64(int fd, void *data, size_t nbytes, off_t offset)
{
    if (disk.wait_us)
        usleep(disk.wait_us);
    disk.wait_us = 0;
    disk.last_fd = fd;
    return __real_pread64(fd, data, nbytes, offset);
}

int __wrap_posix_fadvise64(int fd, off_t offset, off_t nbytes, int advice)
{
    if (advice == POSIX_FADV_RANDOM)
        disk.random_fd = fd;
    if (advice == POSIX_FADV_WILLNEED && disk.n_asked < MAX_ASKED) {
        disk.asked[disk.n_asked].offset = offset;
        disk.asked[disk.n_asked++].nbytes = nbytes;
    }
    return __real_posix_fadvise64(fd, offset, nbytes, advice);
}

/* Of the rows of a slice that are far apart, all others are announced after one that had to wait, and nothing else. */
static void test_rows_are_announced(void **state)
{
    (void)state;
    enum { FIRST = 100, N_COLUMNS = 30 };
    static uint8_t found[ROWS * N_COLUMNS * 4];
    lds_checkpoint *large;
    assert_int_equal(lds_checkpoint_open(&large, in_folder(folder, "large.safetensors"), NULL, NULL), LDS_OK);
    const lds_tensor *t = lds_checkpoint_tensor(large, 0);
    for (uint64_t n_rows = 2; n_rows <= ROWS; n_rows += ROWS - 2) {
        const lds_slice s[] = {{0, n_rows, 1}, {FIRST, N_COLUMNS, 1}};
        disk.n_asked = 0;
        disk.random_fd = -1;
        disk.wait_us = 1000;
        assert_int_equal(lds_tensor_read(large, t, s, LDS_F32, found, n_rows * N_COLUMNS * 4, NULL), LDS_OK);
        assert_int_equal(disk.n_asked, n_rows - 1);
        for (uint64_t row = 1; row < n_rows; row++) {
            uint64_t offset = lds_tensor_offset(t) + (row * COLUMNS + FIRST) * 4;
            assert_int_equal(disk.asked[row - 1].offset, offset);
            assert_int_equal(disk.asked[row - 1].nbytes, N_COLUMNS * 4);
        }
        /* Many have a descriptor of their own, beside whose reads the kernel reads nothing. */
        assert_true((disk.random_fd == disk.last_fd) == (n_rows == ROWS));
    }
    lds_checkpoint_close(large);
}

static void check_refused(const lds_tensor *t, const lds_slice *slices, lds_dtype dtype, uint64_t nbytes,
                          lds_status status, const char *message)
{
    lds_error err = LDS_ERROR_INIT;
    char data[512];
    assert_int_equal(lds_tensor_read(checkpoint, t, slices, dtype, data, nbytes, &err), status);
    assert_non_null(strstr(err.message, message));
    assert_true(err.file_nbytes);
    assert_true(err.tensor_nbytes);
}

static void test_refused(void **state)
{
    (void)state;
    const lds_tensor *f4 = lds_checkpoint_find(checkpoint, "f4"),
                     *one = lds_checkpoint_find(checkpoint, "one");
    const lds_slice bad[] = {{0, 6, 1}, {5, 1, 1},         {4, 2, 1},          {1, 3, -1},        {0, 2, 0},
                             {0, 2, 5}, {0, 2, INT64_MIN}, {0, UINT64_MAX, 3}, {UINT64_MAX, 1, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_refused(tensor, (lds_slice[3]){{0, 1, 1}, {0, 1, 1}, bad[i]}, LDS_BF16, 2, LDS_ERR_ARGUMENT,
                      "t: expected a slice within the 5 elements of dimension 2");
    check_refused(tensor, NULL, LDS_BF16, 119, LDS_ERR_ARGUMENT,
                  "t: expected 120 bytes of memory, found 119");
    check_refused(tensor, NULL, LDS_F32, 120, LDS_ERR_ARGUMENT, "expected 240 bytes of memory, found 120");
    check_refused(tensor, NULL, LDS_I32, 240, LDS_ERR_UNSUPPORTED, "cannot be converted from BF16 to I32");
    check_refused(one, NULL, LDS_F32, 4, LDS_ERR_UNSUPPORTED, "one: cannot be converted from I16 to F32");
    check_refused(f4, &(lds_slice){0, 2, 1}, LDS_F4, 1, LDS_ERR_UNSUPPORTED, "can only be read whole");

    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_tensor_read(checkpoint, tensor, NULL, LDS_F32, NULL, 240, &err), LDS_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "t: expected 240 bytes of memory, found NULL"));
    assert_int_equal(
        lds_tensor_read(checkpoint, lds_checkpoint_find(checkpoint, "none"), NULL, LDS_F32, NULL, 0, NULL),
        LDS_OK);
}

static void test_tensors_of_others_are_refused(void **state)
{
    (void)state;
    lds_checkpoint *other;
    lds_error err = LDS_ERROR_INIT;
    uint16_t found[N];
    assert_int_equal(lds_checkpoint_open(&other, lds_checkpoint_path(checkpoint), NULL, NULL), LDS_OK);
    const lds_tensor *t = lds_checkpoint_find(other, "t");
    assert_int_equal(lds_tensor_read(checkpoint, t, NULL, LDS_BF16, found, 2 * N, &err), LDS_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "t: expected a tensor of this checkpoint, found another's"));
    assert_true(err.file_nbytes);
    assert_int_equal(lds_tensor_read(other, t, NULL, LDS_BF16, found, 2 * N, NULL), LDS_OK);
    lds_checkpoint_close(other);
}

/* The last one: the file is another afterwards. */
static void test_changed_files_are_seen(void **state)
{
    (void)state;
    lds_error err = LDS_ERROR_INIT;
    uint16_t found[N];
    assert_int_equal(truncate(lds_checkpoint_file(checkpoint, 0), 300), 0);
    assert_int_equal(lds_tensor_read(checkpoint, tensor, NULL, LDS_BF16, found, 2 * N, &err),
                     LDS_ERR_CHANGED);
    assert_non_null(strstr(err.message, "changed since it was opened"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_slice),
        cmocka_unit_test(test_whole_tensors),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_rows_are_announced),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_tensors_of_others_are_refused),
        cmocka_unit_test(test_changed_files_are_seen),
    };
    return cmocka_run_group_tests(tests, make_checkpoint, remove_checkpoint);
}
