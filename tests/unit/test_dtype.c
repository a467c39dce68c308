/* The dtype table, names and sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/dtype/dtype.h"

static void each_name_parses_to_its_dtype(void **state)
{
    (void)state;
    int n = 0;
    for (int i = -1; i < 40; i++) {
        const char *name = lds_dtype_name((lds_dtype)i);
        assert_int_equal(!name, !lds_dtype_bits((lds_dtype)i));
        if (!name)
            continue;
        assert_int_equal(lds_dtype_parse(name), i);
        n++;
    }
    assert_int_equal(n, 22);
    assert_null(lds_dtype_name((lds_dtype)-1));
    assert_null(lds_dtype_name((lds_dtype)INT32_MAX));
}

static void parse_takes_the_names_of_frameworks(void **state)
{
    (void)state;
    assert_int_equal(lds_dtype_parse("bf16"), LDS_BF16);
    assert_int_equal(lds_dtype_parse("bfloat16"), LDS_BF16);
    assert_int_equal(lds_dtype_parse("torch.bfloat16"), LDS_BF16);
    assert_int_equal(lds_dtype_parse("Torch.Float8_E4M3FN"), LDS_F8_E4M3);
    assert_int_equal(lds_dtype_parse("float8_e5m2fnuz"), LDS_F8_E5M2FNUZ);
    assert_int_equal(lds_dtype_parse("half"), LDS_F16);
    assert_int_equal(lds_dtype_parse("fp16"), LDS_F16);
    assert_int_equal(lds_dtype_parse("float"), LDS_F32);
    assert_int_equal(lds_dtype_parse("double"), LDS_F64);
    assert_int_equal(lds_dtype_parse("long"), LDS_I64);
    assert_int_equal(lds_dtype_parse("bool"), LDS_BOOL);
    assert_int_equal(lds_dtype_parse("complex64"), LDS_C64);
    assert_int_equal(lds_dtype_parse("float4_e2m1fn_x2"), LDS_F4);
    assert_int_equal(lds_dtype_parse(""), LDS_DTYPE_NONE);
    assert_int_equal(lds_dtype_parse("torch."), LDS_DTYPE_NONE);
    assert_int_equal(lds_dtype_parse("float17"), LDS_DTYPE_NONE);
    assert_int_equal(lds_dtype_parse("torch.torch.half"), LDS_DTYPE_NONE);
}

static void nbytes_counts_packed_elements(void **state)
{
    (void)state;
    uint64_t nbytes = 99;
    assert_int_equal(lds_dtype_nbytes(&nbytes, LDS_F6_E2M3, 8, NULL), LDS_OK);
    assert_int_equal(nbytes, 6);
    assert_int_equal(lds_dtype_nbytes(&nbytes, LDS_F6_E2M3, 4, NULL), LDS_OK);
    assert_int_equal(nbytes, 3);
    assert_int_equal(lds_dtype_nbytes(&nbytes, LDS_F4, 6, NULL), LDS_OK);
    assert_int_equal(nbytes, 3);
    assert_int_equal(lds_dtype_nbytes(&nbytes, LDS_F4, UINT64_MAX - 1, NULL), LDS_OK);
    assert_int_equal(nbytes, UINT64_MAX / 2);
    assert_int_equal(lds_dtype_nbytes(&nbytes, LDS_U8, UINT64_MAX, NULL), LDS_OK);
    assert_int_equal(nbytes, UINT64_MAX);
    assert_int_equal(lds_dtype_nbytes(&nbytes, LDS_F64, 0, NULL), LDS_OK);
    assert_int_equal(nbytes, 0);
}

static void nbytes_refuses_parts_of_bytes_and_overflow(void **state)
{
    (void)state;
    uint64_t nbytes;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_dtype_nbytes(&nbytes, LDS_F4, 3, &err), LDS_ERR_MALFORMED);
    assert_string_equal(err.message, "expected elements that fill whole bytes, found 3 of F4");
    assert_int_equal(lds_dtype_nbytes(&nbytes, LDS_F6_E3M2, 5, &err), LDS_ERR_MALFORMED);
    assert_int_equal(lds_dtype_nbytes(&nbytes, LDS_BF16, UINT64_MAX / 2 + 1, &err), LDS_ERR_MALFORMED);
    assert_string_equal(err.message,
                        "expected a size below 2^64 bytes, found 9223372036854775808 elements of BF16");
}

static void shapes_multiply_without_wrapping(void **state)
{
    (void)state;
    uint64_t numel;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_shape_numel(&numel, 0, NULL, &err), LDS_OK);
    assert_int_equal(numel, 1);
    assert_int_equal(lds_shape_numel(&numel, 3, (uint64_t[]){2, 0, 5}, &err), LDS_OK);
    assert_int_equal(numel, 0);
    assert_int_equal(lds_shape_numel(&numel, 2, (uint64_t[]){1ULL << 32, 1ULL << 32}, &err),
                     LDS_ERR_MALFORMED);
    assert_string_equal(err.message,
                        "expected fewer than 2^64 elements, found shape [4294967296, 4294967296]");
}

static void shape_text_is_cut_to_size(void **state)
{
    (void)state;
    char text[16];
    assert_string_equal(lds_shape_text(text, sizeof text, 0, NULL), "[]");
    assert_string_equal(lds_shape_text(text, sizeof text, 1, (uint64_t[]){7}), "[7]");
    assert_string_equal(lds_shape_text(text, sizeof text, 2, (uint64_t[]){2, 3}), "[2, 3]");
    assert_string_equal(lds_shape_text(text, 5, 2, (uint64_t[]){2, 3}), "[2, ");
    assert_string_equal(lds_shape_text(text, 6, 2, (uint64_t[]){2, 3}), "[2, 3");
    assert_string_equal(lds_shape_text(text, 4, 3, (uint64_t[]){123456, 3, 4}), "[12");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_name_parses_to_its_dtype),
        cmocka_unit_test(parse_takes_the_names_of_frameworks),
        cmocka_unit_test(nbytes_counts_packed_elements),
        cmocka_unit_test(nbytes_refuses_parts_of_bytes_and_overflow),
        cmocka_unit_test(shapes_multiply_without_wrapping),
        cmocka_unit_test(shape_text_is_cut_to_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
