/* Storage: who frees what, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/base/memory.h"
#include "src/network/storage.h"

typedef struct counts {
    int n_allocs, n_frees;
    size_t nbytes, alignment;
    void *data;
} counts;

static void *counting_alloc(void *ctx, size_t nbytes, size_t alignment)
{
    counts *c = ctx;
    c->n_allocs++;
    c->nbytes = nbytes;
    c->alignment = alignment;
    return c->data = aligned_alloc(alignment, lds_align_up(nbytes, alignment));
}

static void counting_free(void *ctx, void *data, size_t nbytes)
{
    counts *c = ctx;
    c->n_frees++;
    assert_ptr_equal(data, c->data);
    assert_int_equal(nbytes, c->nbytes);
    free(data);
}

static void memory_of_the_system_is_aligned_and_writable(void **state)
{
    (void)state;
    const uint64_t sizes[] = {0, 1, 4097, 65535, 65536, 1000001, (2 << 20) + 1, (5 << 20) + 77};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        lds_storage *s;
        assert_int_equal(lds_storage_new(&s, sizes[i], NULL, NULL), LDS_OK);
        assert_int_equal((uintptr_t)s->data % 4096, 0);
        memset(s->data, 7, sizes[i]);
        lds_storage_release(s);
    }
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    lds_storage *s = NULL;
    lds_error err = LDS_ERROR_INIT;
    const uint64_t sizes[] = {UINT64_MAX, UINT64_MAX / 2, UINT64_C(1) << 60};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(lds_storage_new(&s, sizes[i], NULL, &err), LDS_ERR_MEMORY);
        assert_non_null(strstr(err.message, "out of memory"));
        assert_null(s);
    }
}

static void an_allocator_is_copied_and_gets_its_block_back_once(void **state)
{
    (void)state;
    counts c = {0};
    lds_allocator allocator = {&c, counting_alloc, counting_free};
    lds_storage *s;
    assert_int_equal(lds_storage_new(&s, 1000, &allocator, NULL), LDS_OK);
    allocator = (lds_allocator){0};
    assert_int_equal(c.alignment, 4096);
    lds_storage_release(lds_storage_retain(s));
    assert_int_equal(c.n_frees, 0);
    lds_storage_release(s);
    assert_int_equal(c.n_allocs, 1);
    assert_int_equal(c.n_frees, 1);
}

static void *refusing_alloc(void *ctx, size_t nbytes, size_t alignment)
{
    (void)ctx, (void)nbytes, (void)alignment;
    return NULL;
}

static void an_allocator_may_refuse(void **state)
{
    (void)state;
    const lds_allocator allocator = {NULL, refusing_alloc, NULL};
    lds_storage *s;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_storage_new(&s, 1000, &allocator, &err), LDS_ERR_MEMORY);
    assert_string_equal(err.message, "out of memory: the caller's allocator refused 1000 bytes");
}

static void *misaligning_alloc(void *ctx, size_t nbytes, size_t alignment)
{
    (void)ctx, (void)nbytes;
    return (void *)(5 * alignment + 64);
}

static void note_free(void *ctx, void *data, size_t nbytes)
{
    *(counts *)ctx = (counts){.n_frees = ((counts *)ctx)->n_frees + 1, .nbytes = nbytes, .data = data};
}

static void an_allocator_has_to_align(void **state)
{
    (void)state;
    counts c = {0};
    const lds_allocator allocator = {&c, misaligning_alloc, note_free};
    lds_storage *s;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_storage_new(&s, 1000, &allocator, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(
        err.message, "expected memory at a multiple of 4096 from the caller's allocator, found it at 0x5040");
    assert_int_equal(c.n_frees, 1);
    assert_int_equal(c.nbytes, 1000);
    assert_ptr_equal(c.data, (void *)0x5040);
}

static void count_release(void *ctx, void *data)
{
    (void)data;
    ++*(int *)ctx;
}

static void adopted_memory_is_given_back_once(void **state)
{
    (void)state;
    int n_releases = 0;
    char data[8];
    lds_storage *s;
    assert_int_equal(lds_storage_adopt(&s, data, sizeof data, count_release, &n_releases, NULL), LDS_OK);
    lds_storage_release(lds_storage_retain(s));
    assert_int_equal(n_releases, 0);
    lds_storage_release(s);
    assert_int_equal(n_releases, 1);
    assert_int_equal(lds_storage_adopt(&s, data, sizeof data, NULL, NULL, NULL), LDS_OK);
    lds_storage_release(s);
    lds_storage_release(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_the_system_is_aligned_and_writable),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(an_allocator_is_copied_and_gets_its_block_back_once),
        cmocka_unit_test(an_allocator_may_refuse),
        cmocka_unit_test(an_allocator_has_to_align),
        cmocka_unit_test(adopted_memory_is_given_back_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
