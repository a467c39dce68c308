/* lds_convert: its arguments, copies and edges. That values are right is tests/checkasm's and pytest's work. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "src/dtype/convert.h"
#include "src/dtype/kernels.h"
#include "src/dtype/stream.h"

static void known_values_convert(void **state)
{
    (void)state;
    const float values[] = {1.0f, -2.5f, 0.0f, 65504.0f, 1e-8f};
    uint16_t f16[5], bf16[5];
    uint8_t e4m3[5];
    assert_int_equal(lds_convert(f16, LDS_F16, values, LDS_F32, 5, NULL), LDS_OK);
    assert_memory_equal(f16, ((uint16_t[]){0x3C00, 0xC100, 0, 0x7BFF, 0}), sizeof f16);
    assert_int_equal(lds_convert(bf16, LDS_BF16, values, LDS_F32, 5, NULL), LDS_OK);
    assert_memory_equal(bf16, ((uint16_t[]){0x3F80, 0xC020, 0, 0x4780, 0x322C}), sizeof bf16);
    assert_int_equal(lds_convert(e4m3, LDS_F8_E4M3, values, LDS_F32, 5, NULL), LDS_OK);
    assert_memory_equal(e4m3, ((uint8_t[]){0x38, 0xC2, 0, 0x7F, 0}), sizeof e4m3);
}

static void every_float_pair_has_a_kernel(void **state)
{
    (void)state;
    for (int d = 0; d < 40; d++) {
        for (int s = 0; s < 40; s++) {
            lds_dtype dst = (lds_dtype)d, src = (lds_dtype)s;
            bool floats = lds_dtype_is_float(dst) && lds_dtype_is_float(src);
            bool copies = d == s && lds_dtype_bits(dst) && lds_dtype_bits(dst) % 8 == 0;
            assert_int_equal(lds_convert_kernel(dst, src) != NULL, floats || copies);
            assert_int_equal(lds_convert_kernel_for(LDS_ISA_C, dst, src) != NULL, floats && d != s);
        }
    }
}

static void equal_dtypes_are_copied(void **state)
{
    (void)state;
    uint8_t src[64], dst[64];
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)(i * 37);
    for (int d = 1; d < 32; d++) {
        uint32_t bits = lds_dtype_bits((lds_dtype)d);
        if (!bits)
            continue;
        memset(dst, 0, sizeof dst);
        assert_int_equal(lds_convert(dst, (lds_dtype)d, src, (lds_dtype)d, 8, NULL), LDS_OK);
        assert_memory_equal(dst, src, bits);
        for (size_t i = bits; i < sizeof dst; i++)
            assert_int_equal(dst[i], 0);
    }
}

static void in_place_for_equal_sizes(void **state)
{
    (void)state;
    enum { N = 1000 };
    uint16_t data[N], expected[N];
    for (size_t i = 0; i < N; i++)
        data[i] = (uint16_t)(i * 65);
    assert_int_equal(lds_convert(expected, LDS_F16, data, LDS_BF16, N, NULL), LDS_OK);
    assert_int_equal(lds_convert(data, LDS_F16, data, LDS_BF16, N, NULL), LDS_OK);
    assert_memory_equal(data, expected, sizeof data);
    assert_int_equal(lds_convert(data, LDS_F16, data, LDS_F16, N, NULL), LDS_OK);
    assert_memory_equal(data, expected, sizeof data);
}

/* Past the cache or not: the same bytes, and none beside them. */
static void streaming_changes_nothing(void **state)
{
    (void)state;
    enum { N = 1500, ROOM = 8 * N + 128 };
    static _Alignas(64) uint8_t src[8 * N], plain[ROOM], streamed[ROOM];
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)(i * 167 + i / 251);
    const size_t lengths[] = {0, 1, 31, 64, 511, 512, 513, 1024, N};
    for (int d = LDS_F16; d <= LDS_F8_E5M2FNUZ; d++) {
        for (int s = LDS_F16; s <= LDS_F8_E5M2FNUZ; s++) {
            lds_convert_fn kernel = lds_convert_kernel((lds_dtype)d, (lds_dtype)s);
            for (size_t i = 0; kernel && d != LDS_C64 && s != LDS_C64 && i < 9 * 66; i++) {
                size_t n = lengths[i / 66], at = i % 66;
                memset(plain, 0xAA, ROOM);
                memset(streamed, 0xAA, ROOM);
                kernel(plain + at, src, n);
                lds_convert_stream(streamed + at, (lds_dtype)d, src, (lds_dtype)s, n);
                assert_memory_equal(plain, streamed, ROOM);
            }
        }
    }
}

static void a_streamed_copy_is_a_copy(void **state)
{
    (void)state;
    enum { MOST = 1000, ROOM = MOST + 256 };
    static uint8_t src[ROOM], expected[ROOM], copied[ROOM];
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)(i * 167 + i / 251);
    for (size_t n = 0; n <= MOST; n += n < 200 ? 1 : 37)
        for (size_t to = 0; to < 64; to++) {
            size_t from = (to * 7 + n) % 64;
            memset(expected, 0xAA, ROOM);
            memset(copied, 0xAA, ROOM);
            memcpy(expected + to, src + from, n);
            lds_copy_stream(copied + to, src + from, n);
            assert_memory_equal(copied, expected, ROOM);
        }
}

static void nothing_is_no_error(void **state)
{
    (void)state;
    assert_int_equal(lds_convert(NULL, LDS_F16, NULL, LDS_F32, 0, NULL), LDS_OK);
    assert_int_equal(lds_convert(NULL, LDS_U8, NULL, LDS_U8, 0, NULL), LDS_OK);
    assert_int_equal(lds_convert(NULL, LDS_F4, NULL, LDS_F4, 0, NULL), LDS_OK);
}

static void bad_arguments_are_explained(void **state)
{
    (void)state;
    uint64_t a[2] = {0}, b[2] = {0};
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_convert(a, LDS_F32, b, LDS_I32, 1, &err), LDS_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "expected two float dtypes or twice the same, found I32 to F32");
    assert_int_equal(lds_convert(a, LDS_F8_E8M0, b, LDS_F32, 1, &err), LDS_ERR_UNSUPPORTED);
    assert_int_equal(lds_convert(a, LDS_I8, b, LDS_U8, 1, &err), LDS_ERR_UNSUPPORTED);
    assert_int_equal(lds_convert(a, (lds_dtype)99, b, LDS_F32, 1, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "expected a dtype, found 99");
    assert_int_equal(lds_convert(a, LDS_DTYPE_NONE, b, LDS_DTYPE_NONE, 1, &err), LDS_ERR_ARGUMENT);
    assert_int_equal(lds_convert(NULL, LDS_F16, b, LDS_F32, 1, &err), LDS_ERR_ARGUMENT);
    assert_int_equal(lds_convert(a, LDS_F4, b, LDS_F4, 3, &err), LDS_ERR_ARGUMENT);
    assert_int_equal(err.code, LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "expected elements that fill whole bytes, found 3 of F4");
}

static void *convert_in_thread(void *result)
{
    const float values[] = {1.0f, -2.5f};
    uint16_t bf16[2];
    bool right = lds_convert(bf16, LDS_BF16, values, LDS_F32, 2, NULL) == LDS_OK && bf16[0] == 0x3F80 &&
                 bf16[1] == 0xC020;
    return right ? result : NULL;
}

/* The first of all tests, so that the threads race for the choice of kernels. */
static void threads_may_be_first(void **state)
{
    (void)state;
    enum { N = 8 };
    pthread_t threads[N];
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, convert_in_thread, threads), 0);
    for (int i = 0; i < N; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, threads);
    }
}

/* Bytes that differ, with room for three elements more and for one byte that must stay. */
static uint8_t *make_bytes(size_t nbytes)
{
    const size_t more = 3 * sizeof(int64_t) + 1;
    uint8_t *bytes = malloc(nbytes + more);
    for (size_t i = 0; i < nbytes + more; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    return bytes;
}

static void many_threads_convert_as_one(void **state)
{
    (void)state;
    static const struct {
        lds_dtype dst, src;
    } pairs[] = {{LDS_BF16, LDS_F32}, {LDS_F32, LDS_BF16}, {LDS_F8_E4M3, LDS_F16}, {LDS_I64, LDS_I64}};
    const size_t counts[] = {0, 1, (1 << 17) - 1, 3 << 17, (3 << 20) + 1, (6 << 20) + 13};
    const size_t most = counts[5] * 8;
    uint8_t *src = make_bytes(most), *expected = make_bytes(most), *found = make_bytes(most);
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (uint32_t n_threads = 0; n_threads < 4; n_threads++) {
                size_t offset = n_threads * (lds_dtype_bits(pairs[p].dst) / 8), n = counts[i];
                size_t nbytes = n * (lds_dtype_bits(pairs[p].dst) / 8);
                assert_int_equal(lds_convert(expected, pairs[p].dst, src, pairs[p].src, n, NULL), LDS_OK);
                memset(found + offset, 0xA5, nbytes + 1);
                assert_int_equal(
                    lds_convert_parallel(found + offset, pairs[p].dst, src, pairs[p].src, n, n_threads, NULL),
                    LDS_OK);
                assert_memory_equal(found + offset, expected, nbytes);
                assert_int_equal(found[offset + nbytes], 0xA5);
            }
    uint8_t *fresh = malloc(counts[5] * 4); /* so much of it comes straight from the system */
    assert_int_equal(lds_convert(expected, LDS_F32, src, LDS_BF16, counts[5], NULL), LDS_OK);
    assert_int_equal(lds_convert_parallel(fresh, LDS_F32, src, LDS_BF16, counts[5], 2, NULL), LDS_OK);
    assert_memory_equal(fresh, expected, counts[5] * 4);
    free(fresh);
    assert_int_equal(lds_convert(expected, LDS_F16, src, LDS_BF16, counts[5], NULL), LDS_OK);
    assert_int_equal(lds_convert_parallel(src, LDS_F16, src, LDS_BF16, counts[5], 2, NULL), LDS_OK);
    assert_memory_equal(src, expected, counts[5] * 2); /* in place */
    free(src);
    free(expected);
    free(found);
}

/* From some number of elements on, the first are converted by themselves, so that the others begin on a cache line. */
static void results_are_the_same_at_any_address(void **state)
{
    (void)state;
    static const struct {
        lds_dtype dst, src;
    } pairs[] = {{LDS_BF16, LDS_F32}, {LDS_F32, LDS_BF16}, {LDS_F8_E4M3, LDS_F16}, {LDS_F64, LDS_BF16}};
    enum { MOST = 5000, ROOM = 64 + MOST * 8 + 1 };
    uint8_t *src = make_bytes(MOST * 4), *expected = malloc(ROOM), *found = malloc(ROOM);
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
        size_t size = lds_dtype_bits(pairs[p].dst) / 8, worth = 4096 / size;
        const size_t counts[] = {worth - 1, worth, worth + 1, MOST};
        for (size_t i = 0; i < 4; i++)
            for (size_t at = 0; at < 64; at++) {
                size_t n = counts[i];
                memset(expected, 0xA5, ROOM);
                memset(found, 0xA5, ROOM);
                lds_convert_kernel_for(LDS_ISA_C, pairs[p].dst, pairs[p].src)(expected + at, src, n);
                assert_int_equal(lds_convert(found + at, pairs[p].dst, src, pairs[p].src, n, NULL), LDS_OK);
                assert_memory_equal(found, expected, ROOM);
            }
    }
    free(src);
    free(expected);
    free(found);
}

static void many_threads_take_no_bad_arguments(void **state)
{
    (void)state;
    uint8_t bytes[8] = {0};
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_convert_parallel(bytes, LDS_F16, bytes, LDS_F16, 2, 1025, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "expected at most 1024 threads, found 1025");
    assert_int_equal(lds_convert_parallel(bytes, LDS_F16, NULL, LDS_F32, 1 << 30, 2, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "expected memory for 1073741824 elements, found NULL");
    assert_int_equal(lds_convert_parallel(bytes, LDS_I8, bytes, LDS_F32, 1, 2, &err), LDS_ERR_UNSUPPORTED);
    assert_int_equal(lds_convert_parallel(bytes, (lds_dtype)77, bytes, LDS_F32, 1, 2, &err),
                     LDS_ERR_ARGUMENT);
    assert_int_equal(lds_convert_parallel(bytes + 4, LDS_F4, bytes, LDS_F4, 8, 2, &err), LDS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_convert_as_one),
        cmocka_unit_test(many_threads_take_no_bad_arguments),
        cmocka_unit_test(threads_may_be_first),
        cmocka_unit_test(known_values_convert),
        cmocka_unit_test(every_float_pair_has_a_kernel),
        cmocka_unit_test(equal_dtypes_are_copied),
        cmocka_unit_test(in_place_for_equal_sizes),
        cmocka_unit_test(nothing_is_no_error),
        cmocka_unit_test(streaming_changes_nothing),
        cmocka_unit_test(a_streamed_copy_is_a_copy),
        cmocka_unit_test(bad_arguments_are_explained),
        cmocka_unit_test(results_are_the_same_at_any_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
