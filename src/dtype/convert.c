/*
 * Choosing the kernel of a pair, and the public function over it.
 *
 * The table of what this machine uses is filled once: first with C, which has every pair, then upward by
 * instruction set, each replacing what it does better.
 */
#include "src/dtype/convert.h"

#include <pthread.h>
#include <string.h>

#include "src/base/cpu.h"
#include "src/base/memory.h"
#include "src/dtype/dtype.h"
#include "src/dtype/kernels.h"

#if defined(__x86_64__)
#define ON_X86(kernels) (&(kernels))
#define ON_ARM(kernels) NULL
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define ON_X86(kernels) NULL
#define ON_ARM(kernels) (&(kernels))
#else
#define ON_X86(kernels) NULL
#define ON_ARM(kernels) NULL
#endif

enum {
    NEED_AVX2 = LDS_CPU_AVX2 | LDS_CPU_F16C,
    NEED_AVX512 = NEED_AVX2 | LDS_CPU_AVX512F | LDS_CPU_AVX512BW | LDS_CPU_AVX512DQ | LDS_CPU_AVX512VL,
    NEED_AVX512VBMI = NEED_AVX512 | LDS_CPU_AVX512VBMI
};

static const struct {
    const char *name;
    const lds_kernels *kernels; /* NULL where the library is built without them */
    uint32_t features;          /* all of these are needed */
} isas[LDS_N_ISAS] = {
    [LDS_ISA_C] = {"c", &lds_kernels_c, 0},
    [LDS_ISA_AVX2] = {"avx2", ON_X86(lds_kernels_avx2), NEED_AVX2},
    [LDS_ISA_AVX512] = {"avx512", ON_X86(lds_kernels_avx512), NEED_AVX512},
    [LDS_ISA_AVX512VBMI] = {"avx512vbmi", ON_X86(lds_kernels_avx512vbmi), NEED_AVX512VBMI},
    [LDS_ISA_NEON] = {"neon", ON_ARM(lds_kernels_neon), LDS_CPU_NEON},
};

static lds_kernels best;
static pthread_once_t best_once = PTHREAD_ONCE_INIT;

const char *lds_isa_name(lds_isa isa)
{
    return isas[isa].name;
}

bool lds_isa_available(lds_isa isa)
{
    return isas[isa].kernels && !(isas[isa].features & ~lds_cpu_features());
}

lds_convert_fn lds_convert_kernel_for(lds_isa isa, lds_dtype dst, lds_dtype src)
{
    int d = lds_float_index(dst), s = lds_float_index(src);
    if (d < 0 || s < 0 || !lds_isa_available(isa))
        return NULL;
    return isas[isa].kernels->kernel[d][s];
}

lds_convert_fn lds_stream_kernel_for(lds_isa isa, lds_dtype dst, lds_dtype src)
{
    return lds_convert_kernel_for(isa, dst, src)
               ? isas[isa].kernels->stream[lds_float_index(dst)][lds_float_index(src)]
               : NULL;
}

static void choose_kernels(void)
{
    for (int isa = 0; isa < LDS_N_ISAS; isa++) {
        if (!lds_isa_available((lds_isa)isa))
            continue;
        for (int d = 0; d < LDS_N_FLOATS; d++)
            for (int s = 0; s < LDS_N_FLOATS; s++)
                if (isas[isa].kernels->kernel[d][s]) {
                    best.kernel[d][s] = isas[isa].kernels->kernel[d][s];
                    best.stream[d][s] = isas[isa].kernels->stream[d][s];
                }
    }
}

static void copy_1(void *dst, const void *src, size_t n)
{
    if (n && dst != src)
        memcpy(dst, src, n);
}

static void copy_2(void *dst, const void *src, size_t n)
{
    copy_1(dst, src, n * 2);
}

static void copy_4(void *dst, const void *src, size_t n)
{
    copy_1(dst, src, n * 4);
}

static void copy_8(void *dst, const void *src, size_t n)
{
    copy_1(dst, src, n * 8);
}

/* NULL for a dtype whose elements are not whole bytes: a kernel counts in elements. */
static lds_convert_fn copy_kernel(lds_dtype dtype)
{
    switch (lds_dtype_bits(dtype)) {
    case 8: return copy_1;
    case 16: return copy_2;
    case 32: return copy_4;
    case 64: return copy_8;
    default: return NULL;
    }
}

lds_convert_fn lds_convert_kernel(lds_dtype dst, lds_dtype src)
{
    if (dst == src)
        return copy_kernel(dst);
    int d = lds_float_index(dst), s = lds_float_index(src);
    if (d < 0 || s < 0)
        return NULL;
    pthread_once(&best_once, choose_kernels);
    return best.kernel[d][s];
}

lds_convert_fn lds_stream_kernel(lds_dtype dst, lds_dtype src)
{
    int d = lds_float_index(dst), s = lds_float_index(src);
    if (d < 0 || s < 0)
        return NULL;
    pthread_once(&best_once, choose_kernels);
    return best.stream[d][s];
}

/* A line that two stores share is written twice. */
void lds_convert_elements(void *dst, lds_dtype dst_dtype, const void *src, lds_dtype src_dtype, size_t n)
{
    enum { WORTH_NBYTES = 64 * LDS_LINE_NBYTES };
    lds_convert_fn convert = lds_convert_kernel(dst_dtype, src_dtype);
    size_t in_nbytes = lds_dtype_bits(src_dtype) / 8, out_nbytes = lds_dtype_bits(dst_dtype) / 8;
    if (dst_dtype != src_dtype && n >= WORTH_NBYTES / out_nbytes) {
        size_t head = lds_elements_before_line(dst, out_nbytes);
        convert(dst, src, head);
        dst = (uint8_t *)dst + head * out_nbytes;
        src = (const uint8_t *)src + head * in_nbytes;
        n -= head;
    }
    convert(dst, src, n);
}

lds_status lds_convert(void *dst, lds_dtype dst_dtype, const void *src, lds_dtype src_dtype, size_t n,
                       lds_error *err)
{
    const char *dst_name = lds_dtype_name(dst_dtype), *src_name = lds_dtype_name(src_dtype);
    if (!dst_name || !src_name)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a dtype, found %d",
                        (int)(src_name ? dst_dtype : src_dtype));
    if (n && (!dst || !src))
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected memory for %zu elements, found NULL", n);
    if (lds_convert_kernel(dst_dtype, src_dtype)) {
        lds_convert_elements(dst, dst_dtype, src, src_dtype, n);
        return LDS_OK;
    }
    if (dst_dtype != src_dtype)
        return lds_fail(err, LDS_ERR_UNSUPPORTED,
                        "expected two float dtypes or twice the same, found %s to %s", src_name, dst_name);
    uint64_t nbytes;
    if (lds_dtype_nbytes(&nbytes, dst_dtype, n, err)) {
        if (err)
            err->code = LDS_ERR_ARGUMENT; /* no file has said how many */
        return LDS_ERR_ARGUMENT;
    }
    copy_1(dst, src, nbytes);
    return LDS_OK;
}
