/*
 * Opening a checkpoint while the system fails it: every allocation, open and read in turn, and reads that come
 * in pieces. Whatever fails, the call says so, frees what it had (the leak checker looks), and closes what it
 * opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/checkpoint/checkpoint.h"
#include "tests/unit/faults.h"

/* ---- what is opened ---- */

static char dir[64];

static void write_file(const char *name, const void *bytes, size_t nbytes)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, nbytes, file), nbytes);
    assert_int_equal(fclose(file), 0);
}

static void write_weights(const char *name, const char *header, size_t data_nbytes)
{
    uint8_t bytes[512] = {(uint8_t)strlen(header)};
    assert_true(strlen(header) < 256);
    memcpy(bytes + 8, header, strlen(header));
    write_file(name, bytes, 8 + strlen(header) + data_nbytes);
}

static const char *const files[] = {"p/model_index.json", "p/vae/diffusion_pytorch_model.safetensors",
                                    "p/te/model.safetensors.index.json", "p/te/1.safetensors",
                                    "p/te/2.safetensors"};
static const char *const dirs[] = {
    "p/vae", "p/te", "p/x", "p", "hub/models--a--b/refs", "hub/models--a--b/snapshots", "hub/models--a--b",
    "hub"};

static int make_files(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/lds_faults_XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (size_t i = sizeof dirs / sizeof *dirs; i-- > 0;) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", dir, dirs[i]);
        assert_int_equal(mkdir(path, 0777), 0);
    }
    static const char components[] =
        "{\"vae\":[\"diffusers\",\"VAE\"],\"te\":[\"transformers\",\"T5\"],\"x\":[\"a\",\"B\"]}";
    static const char map[] = "{\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\"}}";
    write_file(files[0], components, sizeof components - 1);
    write_file(files[2], map, sizeof map - 1);
    write_weights(files[1],
                  "{\"__metadata__\":{\"format\":\"pt\"},"
                  "\"y\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]},"
                  "\"x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
                  9);
    write_weights(files[3], "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    write_weights(files[4], "{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    char path[256];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, dirs[i]);
        rmdir(path);
    }
    return rmdir(dir);
}

static size_t n_open_files(void)
{
    size_t n = 0;
    DIR *fds = opendir("/proc/self/fd");
    while (readdir(fds))
        n++;
    closedir(fds);
    return n;
}

/* Open with call number n of a kind failing; false once there are fewer than n. */
static bool try_fault(const char *path, fault kind, long n, lds_status expected)
{
    lds_error err = LDS_ERROR_INIT;
    lds_checkpoint *checkpoint = (lds_checkpoint *)&err;
    size_t n_before = n_open_files();
    faults_inject(kind, (uint64_t)n);
    lds_status status = lds_checkpoint_open(&checkpoint, path, NULL, &err);
    if (!faults_disarm()) {
        assert_int_equal(status, LDS_OK);
        lds_checkpoint_close(checkpoint);
        return false;
    }
    if (status != expected)
        fail_msg("call %ld: expected %s, found %s: %s", n, lds_status_name(expected), lds_status_name(status),
                 err.message);
    assert_null(checkpoint);
    assert_int_equal(err.code, status);
    assert_true(kind == FAULT_MEMORY || (err.file_nbytes && strstr(err.message, dir)));
    assert_int_equal(n_open_files(), n_before);
    return true;
}

static void every_fault(fault kind, lds_status expected, long at_least)
{
    char path[256];
    long n = 1;
    snprintf(path, sizeof path, "%s/p", dir);
    while (try_fault(path, kind, n, expected))
        n++;
    assert_true(n > at_least);
}

static void allocations_may_fail(void **state)
{
    (void)state;
    every_fault(FAULT_MEMORY, LDS_ERR_MEMORY, 50);
}

static void opens_may_fail(void **state)
{
    (void)state;
    every_fault(FAULT_OPEN, LDS_ERR_IO, 5);
}

static void status_may_be_refused(void **state)
{
    (void)state;
    every_fault(FAULT_STAT, LDS_ERR_IO, 5);
}

static void reads_may_fail(void **state)
{
    (void)state;
    every_fault(FAULT_READ, LDS_ERR_IO, 8);
}

static void files_may_end_while_they_are_read(void **state)
{
    (void)state;
    every_fault(FAULT_END, LDS_ERR_CHANGED, 8);
}

static void reads_may_come_in_pieces(void **state)
{
    (void)state;
    char path[256];
    lds_checkpoint *checkpoint;
    snprintf(path, sizeof path, "%s/p", dir);
    faults_inject(FAULT_PIECES, 1);
    lds_status status = lds_checkpoint_open(&checkpoint, path, NULL, NULL);
    faults_disarm();
    assert_int_equal(status, LDS_OK);
    const lds_checkpoint *vae = lds_checkpoint_component(checkpoint, 0);
    assert_string_equal(lds_tensor_name(lds_checkpoint_tensor(vae, 0)), "x");
    assert_string_equal(lds_tensor_name(lds_checkpoint_tensor(vae, 1)), "y");
    lds_checkpoint_close(checkpoint);
}

/* The paths that only errors take. */
static void explaining_may_fail_too(void **state)
{
    (void)state;
    char hub[256], path[256];
    snprintf(hub, sizeof hub, "%s/hub", dir);
    snprintf(path, sizeof path, "%s/p/x", dir);
    setenv("HF_HUB_CACHE", hub, 1);
    const char *const paths[] = {"a/b", "c/d", path};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        for (long n = 1;; n++) {
            lds_checkpoint *checkpoint;
            lds_error err = LDS_ERROR_INIT;
            faults_arm((uint64_t)n);
            lds_status status = lds_checkpoint_open(&checkpoint, paths[i], NULL, &err);
            bool failed = faults_disarm();
            assert_true(status == LDS_ERR_NOT_FOUND || (failed && status == LDS_ERR_MEMORY));
            assert_null(checkpoint);
            if (!failed)
                break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_may_fail),
        cmocka_unit_test(opens_may_fail),
        cmocka_unit_test(status_may_be_refused),
        cmocka_unit_test(reads_may_fail),
        cmocka_unit_test(files_may_end_while_they_are_read),
        cmocka_unit_test(reads_may_come_in_pieces),
        cmocka_unit_test(explaining_may_fail_too),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
