/*
 * The dtype table: one row a dtype, one list of the names by which others call them.
 *
 * Names are matched without case and without a leading "torch."; where frameworks disagree about a short name
 * ("float", "int"), torch's meaning is taken, because checkpoints are what these names describe.
 */
#include "src/dtype/dtype.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "src/base/memory.h"

typedef struct dtype_row {
    const char *name;
    uint8_t bits;
    bool is_float; /* lds_convert knows it */
} dtype_row;

static const dtype_row rows[] = {
    [LDS_BOOL] = {"BOOL", 8, false},
    [LDS_U8] = {"U8", 8, false},
    [LDS_I8] = {"I8", 8, false},
    [LDS_U16] = {"U16", 16, false},
    [LDS_I16] = {"I16", 16, false},
    [LDS_U32] = {"U32", 32, false},
    [LDS_I32] = {"I32", 32, false},
    [LDS_U64] = {"U64", 64, false},
    [LDS_I64] = {"I64", 64, false},
    [LDS_F16] = {"F16", 16, true},
    [LDS_BF16] = {"BF16", 16, true},
    [LDS_F32] = {"F32", 32, true},
    [LDS_F64] = {"F64", 64, true},
    [LDS_C64] = {"C64", 64, false},
    [LDS_F8_E4M3] = {"F8_E4M3", 8, true},
    [LDS_F8_E5M2] = {"F8_E5M2", 8, true},
    [LDS_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8, true},
    [LDS_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8, true},
    [LDS_F8_E8M0] = {"F8_E8M0", 8, false},
    [LDS_F6_E2M3] = {"F6_E2M3", 6, false},
    [LDS_F6_E3M2] = {"F6_E3M2", 6, false},
    [LDS_F4] = {"F4", 4, false},
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

/* What is not in the table above: torch, NumPy and ml_dtypes, then the short ones. */
static const struct {
    const char *name;
    lds_dtype dtype;
} aliases[] = {
    {"bool_", LDS_BOOL},
    {"uint8", LDS_U8},
    {"int8", LDS_I8},
    {"uint16", LDS_U16},
    {"int16", LDS_I16},
    {"uint32", LDS_U32},
    {"int32", LDS_I32},
    {"uint64", LDS_U64},
    {"int64", LDS_I64},
    {"float16", LDS_F16},
    {"bfloat16", LDS_BF16},
    {"float32", LDS_F32},
    {"float64", LDS_F64},
    {"complex64", LDS_C64},
    {"float8_e4m3fn", LDS_F8_E4M3},
    {"float8_e5m2", LDS_F8_E5M2},
    {"float8_e4m3fnuz", LDS_F8_E4M3FNUZ},
    {"float8_e5m2fnuz", LDS_F8_E5M2FNUZ},
    {"float8_e8m0fnu", LDS_F8_E8M0},
    {"float6_e2m3fn", LDS_F6_E2M3},
    {"float6_e3m2fn", LDS_F6_E3M2},
    {"float4_e2m1fn", LDS_F4},
    {"float4_e2m1fn_x2", LDS_F4},
    {"short", LDS_I16},
    {"int", LDS_I32},
    {"long", LDS_I64},
    {"half", LDS_F16},
    {"float", LDS_F32},
    {"single", LDS_F32},
    {"double", LDS_F64},
    {"cfloat", LDS_C64},
    {"fp16", LDS_F16},
    {"fp32", LDS_F32},
    {"fp64", LDS_F64},
    {"fp8_e4m3", LDS_F8_E4M3},
    {"fp8_e4m3fn", LDS_F8_E4M3},
    {"fp8_e5m2", LDS_F8_E5M2},
    {"f8_e4m3fn", LDS_F8_E4M3},
};

static const dtype_row *row_of(lds_dtype dtype)
{
    static const dtype_row none = {NULL, 0, false};
    return (unsigned)dtype < N_ROWS ? &rows[dtype] : &none;
}

uint32_t lds_dtype_bits(lds_dtype dtype)
{
    return row_of(dtype)->bits;
}

const char *lds_dtype_name(lds_dtype dtype)
{
    return row_of(dtype)->name;
}

bool lds_dtype_is_float(lds_dtype dtype)
{
    return row_of(dtype)->is_float;
}

lds_dtype lds_dtype_parse(const char *name)
{
    if (!strncasecmp(name, "torch.", 6))
        name += 6;
    for (size_t i = 0; i < N_ROWS; i++)
        if (rows[i].name && !strcasecmp(name, rows[i].name))
            return (lds_dtype)i;
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
        if (!strcasecmp(name, aliases[i].name))
            return aliases[i].dtype;
    return LDS_DTYPE_NONE;
}

lds_status lds_dtype_nbytes(uint64_t *nbytes, lds_dtype dtype, uint64_t numel, lds_error *err)
{
    uint32_t bits = lds_dtype_bits(dtype);
    if (bits % 8) {
        /* 8 of these fill a whole number of bytes; a count that leaves a part of a byte is no tensor. */
        uint64_t rest = numel % 8 * bits;
        if (rest % 8)
            return lds_fail(err, LDS_ERR_MALFORMED,
                            "expected elements that fill whole bytes, found %" PRIu64 " of %s", numel,
                            lds_dtype_name(dtype));
        if (lds_mul(numel / 8, (uint64_t)bits, nbytes) && lds_add(*nbytes, rest / 8, nbytes))
            return LDS_OK;
    } else if (lds_mul(numel, (uint64_t)(bits / 8), nbytes)) {
        return LDS_OK;
    }
    return lds_fail(err, LDS_ERR_MALFORMED,
                    "expected a size below 2^64 bytes, found %" PRIu64 " elements of %s", numel,
                    lds_dtype_name(dtype));
}

lds_status lds_shape_numel(uint64_t *numel, uint32_t n_dims, const uint64_t *shape, lds_error *err)
{
    *numel = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        if (!lds_mul(*numel, shape[i], numel)) {
            char text[256];
            return lds_fail(err, LDS_ERR_MALFORMED, "expected fewer than 2^64 elements, found shape %s",
                            lds_shape_text(text, sizeof text, n_dims, shape));
        }
    }
    return LDS_OK;
}

const char *lds_shape_text(char *text, size_t size, uint32_t n_dims, const uint64_t *shape)
{
    size_t at = 0;
    for (uint32_t i = 0; i < n_dims && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%" PRIu64, i ? ", " : "[", shape[i]);
    if (at < size)
        snprintf(text + at, size - at, n_dims ? "]" : "[]");
    return text;
}
