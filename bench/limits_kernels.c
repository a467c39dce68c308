/*
 * Converting loops in intrinsics for the three pairs that are published. Short because they may assume what a
 * library may not: aligned destinations, lengths that are multiples of 32.
 */
#include "bench/limits_kernels.h"

#include "src/base/cpu.h"

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,f16c")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#define INLINE static inline __attribute__((always_inline))

INLINE AVX2 void put256(void *dst, __m256i value, bool stream)
{
    if (stream)
        _mm256_stream_si256(dst, value);
    else
        _mm256_store_si256(dst, value);
}

INLINE AVX2 __m256i widen256(const uint16_t *src)
{
    return _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)src)), 16);
}

/* The upper halves of eight floats, rounded to nearest even, in 32-bit lanes; NaN keeps its sign. */
INLINE AVX2 __m256i round256(const float *src)
{
    __m256 value = _mm256_loadu_ps(src);
    __m256i bits = _mm256_castps_si256(value), high = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    return _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), nan,
                              _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q)));
}

INLINE AVX2 void bf16_to_f32_256(uint32_t *dst, const uint16_t *src, size_t n, bool stream)
{
    for (size_t i = 0; i < n; i += 16) {
        put256(dst + i, widen256(src + i), stream);
        put256(dst + i + 8, widen256(src + i + 8), stream);
    }
}

INLINE AVX2 void f32_to_bf16_256(uint16_t *dst, const float *src, size_t n, bool stream)
{
    for (size_t i = 0; i < n; i += 16) {
        __m256i packed = _mm256_packus_epi32(round256(src + i), round256(src + i + 8));
        put256(dst + i, _mm256_permute4x64_epi64(packed, 0xd8), stream);
    }
}

INLINE AVX2 void bf16_to_f16_256(uint16_t *dst, const uint16_t *src, size_t n, bool stream)
{
    for (size_t i = 0; i < n; i += 16) {
        __m128i low = _mm256_cvtps_ph(_mm256_castsi256_ps(widen256(src + i)), _MM_FROUND_TO_NEAREST_INT);
        __m128i high = _mm256_cvtps_ph(_mm256_castsi256_ps(widen256(src + i + 8)), _MM_FROUND_TO_NEAREST_INT);
        put256(dst + i, _mm256_set_m128i(high, low), stream);
    }
}

INLINE AVX512 void put512(void *dst, __m512i value, bool stream)
{
    if (stream)
        _mm512_stream_si512(dst, value);
    else
        _mm512_store_si512(dst, value);
}

INLINE AVX512 __m512i widen512(const uint16_t *src)
{
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)src)), 16);
}

INLINE AVX512 __m256i round512(const float *src)
{
    __m512 value = _mm512_loadu_ps(src);
    __m512i bits = _mm512_castps_si512(value), high = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    __m512i nan = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    __m512i rounded = _mm512_mask_mov_epi32(_mm512_srli_epi32(sum, 16),
                                            _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q), nan);
    return _mm512_cvtepi32_epi16(rounded);
}

INLINE AVX512 __m512i join512(__m256i low, __m256i high)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

INLINE AVX512 void bf16_to_f32_512(uint32_t *dst, const uint16_t *src, size_t n, bool stream)
{
    for (size_t i = 0; i < n; i += 32) {
        put512(dst + i, widen512(src + i), stream);
        put512(dst + i + 16, widen512(src + i + 16), stream);
    }
}

INLINE AVX512 void f32_to_bf16_512(uint16_t *dst, const float *src, size_t n, bool stream)
{
    for (size_t i = 0; i < n; i += 32)
        put512(dst + i, join512(round512(src + i), round512(src + i + 16)), stream);
}

INLINE AVX512 void bf16_to_f16_512(uint16_t *dst, const uint16_t *src, size_t n, bool stream)
{
    for (size_t i = 0; i < n; i += 32) {
        __m256i low = _mm512_cvtps_ph(_mm512_castsi512_ps(widen512(src + i)), _MM_FROUND_TO_NEAREST_INT);
        __m256i high =
            _mm512_cvtps_ph(_mm512_castsi512_ps(widen512(src + i + 16)), _MM_FROUND_TO_NEAREST_INT);
        put512(dst + i, join512(low, high), stream);
    }
}

/* Streaming stores are weakly ordered: the fence puts them before whatever tells others of the block. */
#define INSTANCES(pair, isa, target)                                                  \
    static target void pair##_##isa##_cached(void *dst, const void *src, size_t n)    \
    {                                                                                 \
        pair##_##isa(dst, src, n, false);                                             \
    }                                                                                 \
    static target void pair##_##isa##_streaming(void *dst, const void *src, size_t n) \
    {                                                                                 \
        pair##_##isa(dst, src, n, true);                                              \
        _mm_sfence();                                                                 \
    }

INSTANCES(bf16_to_f32, 256, AVX2)
INSTANCES(f32_to_bf16, 256, AVX2)
INSTANCES(bf16_to_f16, 256, AVX2)
INSTANCES(bf16_to_f32, 512, AVX512)
INSTANCES(f32_to_bf16, 512, AVX512)
INSTANCES(bf16_to_f16, 512, AVX512)

#define FIND(pair, isa) (stream ? pair##_##isa##_streaming : pair##_##isa##_cached)

limits_kernel limits_kernel_find(lds_dtype dst, lds_dtype src, bool stream, const char **isa)
{
    const uint32_t narrow_needs = LDS_CPU_AVX2 | LDS_CPU_F16C;
    const uint32_t wide_needs = LDS_CPU_AVX512F | LDS_CPU_AVX512BW | LDS_CPU_AVX512VL;
    uint32_t cpu = lds_cpu_features();
    bool wide = (cpu & wide_needs) == wide_needs;
    if (!wide && (cpu & narrow_needs) != narrow_needs)
        return NULL;
    *isa = wide ? "avx512" : "avx2";
    if (src == LDS_BF16 && dst == LDS_F32)
        return wide ? FIND(bf16_to_f32, 512) : FIND(bf16_to_f32, 256);
    if (src == LDS_F32 && dst == LDS_BF16)
        return wide ? FIND(f32_to_bf16, 512) : FIND(f32_to_bf16, 256);
    if (src == LDS_BF16 && dst == LDS_F16)
        return wide ? FIND(bf16_to_f16, 512) : FIND(bf16_to_f16, 256);
    return NULL;
}

#elif defined(__aarch64__)
#include <arm_neon.h>

static void bf16_to_f32(void *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint16x8_t bits = vld1q_u16((const uint16_t *)src + i);
        vst1q_u32((uint32_t *)dst + i, vshll_n_u16(vget_low_u16(bits), 16));
        vst1q_u32((uint32_t *)dst + i + 4, vshll_high_n_u16(bits, 16));
    }
}

static inline uint16x4_t round128(const float *src)
{
    float32x4_t value = vld1q_f32(src);
    uint32x4_t bits = vreinterpretq_u32_f32(value), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t sum = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    uint32x4_t nan = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(value, value), sum, nan), 16);
}

static void f32_to_bf16(void *dst, const void *src, size_t n)
{
    const float *from = src;
    for (size_t i = 0; i < n; i += 8)
        vst1q_u16((uint16_t *)dst + i, vcombine_u16(round128(from + i), round128(from + i + 4)));
}

static void bf16_to_f16(void *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint16x8_t bits = vld1q_u16((const uint16_t *)src + i);
        float32x4_t low = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16));
        float32x4_t high = vreinterpretq_f32_u32(vshll_high_n_u16(bits, 16));
        vst1q_u16((uint16_t *)dst + i, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(low), high)));
    }
}

limits_kernel limits_kernel_find(lds_dtype dst, lds_dtype src, bool stream, const char **isa)
{
    *isa = "neon";
    if (stream)
        return NULL;
    if (src == LDS_BF16 && dst == LDS_F32)
        return bf16_to_f32;
    if (src == LDS_F32 && dst == LDS_BF16)
        return f32_to_bf16;
    if (src == LDS_BF16 && dst == LDS_F16)
        return bf16_to_f16;
    return NULL;
}

#else

limits_kernel limits_kernel_find(lds_dtype dst, lds_dtype src, bool stream, const char **isa)
{
    (void)dst, (void)src, (void)stream;
    *isa = "none";
    return NULL;
}
#endif
