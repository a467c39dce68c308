/* The kernels of each instruction set, for the dispatch and for the program that checks and times them. */
#ifndef LDS_DTYPE_KERNELS_H
#define LDS_DTYPE_KERNELS_H

#include "src/dtype/convert.h"

/* In the order of preference: a later one that the machine has replaces an earlier one, pair by pair. */
typedef enum lds_isa {
    LDS_ISA_C,
    LDS_ISA_AVX2,
    LDS_ISA_AVX512,
    LDS_ISA_AVX512VBMI,
    LDS_ISA_NEON,
    LDS_N_ISAS,
} lds_isa;

/* The float dtypes as indices of a kernel table, in the order of lds_dtype. */
enum {
    lds_float_f16,
    lds_float_bf16,
    lds_float_f32,
    lds_float_f64,
    lds_float_e4m3,
    lds_float_e5m2,
    lds_float_e4m3fnuz,
    lds_float_e5m2fnuz,
    LDS_N_FLOATS
};

/* X(dst, src) for each of the 56 ordered pairs, and for groups of them. */
/* clang-format off */
#define LDS_FOR_EACH_PAIR(X)                             \
    LDS_FOR_EACH_F8_TO_16(X) LDS_FOR_EACH_16_TO_F8(X)    \
    LDS_FOR_EACH_F8_TO_F8(X) LDS_FOR_EACH_PAIR_BY_F32(X) \
    X(bf16, f16)
#define LDS_FOR_EACH_PAIR_BY_F32(X)                               \
    X(f16, bf16) X(f16, f32) X(f16, f64)                          \
    X(bf16, f32) X(bf16, f64)                                     \
    X(f32, f16) X(f32, bf16) X(f32, f64) LDS_FROM_EACH_F8(X, f32) \
    X(f64, f16) X(f64, bf16) X(f64, f32) LDS_FROM_EACH_F8(X, f64) \
    LDS_TO_EACH_F8(X, f32) LDS_TO_EACH_F8(X, f64)
#define LDS_FOR_EACH_F8_TO_16(X) LDS_FROM_EACH_F8(X, f16) LDS_FROM_EACH_F8(X, bf16)
#define LDS_FOR_EACH_16_TO_F8(X) LDS_TO_EACH_F8(X, f16) LDS_TO_EACH_F8(X, bf16)
#define LDS_FOR_EACH_F8_TO_F8(X)                             \
    X(e4m3, e5m2) X(e4m3, e4m3fnuz) X(e4m3, e5m2fnuz)         \
    X(e5m2, e4m3) X(e5m2, e4m3fnuz) X(e5m2, e5m2fnuz)         \
    X(e4m3fnuz, e4m3) X(e4m3fnuz, e5m2) X(e4m3fnuz, e5m2fnuz) \
    X(e5m2fnuz, e4m3) X(e5m2fnuz, e5m2) X(e5m2fnuz, e4m3fnuz)
#define LDS_FROM_EACH_F8(X, dst) X(dst, e4m3) X(dst, e5m2) X(dst, e4m3fnuz) X(dst, e5m2fnuz)
#define LDS_TO_EACH_F8(X, src) X(e4m3, src) X(e5m2, src) X(e4m3fnuz, src) X(e5m2fnuz, src)
/* clang-format on */

/* The pairs that have kernels for stores past the cache: those of most weights. */
#define LDS_FOR_EACH_STREAMED_PAIR(X) \
    X(f16, bf16) X(f16, f32) X(bf16, f16) X(bf16, f32) X(f32, f16) X(f32, bf16)

/* The functions of a pair, and their places in the tables: static functions named f16_to_bf16. */
#define LDS_TABLE_ENTRY(dst, src) [lds_float_##dst][lds_float_##src] = src##_to_##dst,
#define LDS_STREAM_ENTRY(dst, src) [lds_float_##dst][lds_float_##src] = src##_to_##dst##_streamed,

/*
 * kernel[dst][src]; NULL where the instruction set has none of its own. stream[dst][src]: what lds_stream_kernel()
 * gives, where that is the best.
 */
typedef struct lds_kernels {
    lds_convert_fn kernel[LDS_N_FLOATS][LDS_N_FLOATS];
    lds_convert_fn stream[LDS_N_FLOATS][LDS_N_FLOATS];
} lds_kernels;

/* Each is there on machines of its architecture only. */
extern const lds_kernels lds_kernels_c, lds_kernels_avx2, lds_kernels_avx512, lds_kernels_avx512vbmi,
    lds_kernels_neon;

/* The index of a float dtype, or -1. */
static inline int lds_float_index(lds_dtype dtype)
{
    if (dtype >= LDS_F16 && dtype <= LDS_F64)
        return (int)dtype - LDS_F16;
    if (dtype >= LDS_F8_E4M3 && dtype <= LDS_F8_E5M2FNUZ)
        return (int)dtype - LDS_F8_E4M3 + lds_float_e4m3;
    return -1;
}

/* "avx2" */
const char *lds_isa_name(lds_isa isa);

/* Whether this machine has it. */
bool lds_isa_available(lds_isa isa);

/* The kernel of one instruction set; NULL if it has none for the pair or the machine lacks it. */
lds_convert_fn lds_convert_kernel_for(lds_isa isa, lds_dtype dst, lds_dtype src);

/* The same of those that lds_stream_kernel() tells of. */
lds_convert_fn lds_stream_kernel_for(lds_isa isa, lds_dtype dst, lds_dtype src);

#endif
