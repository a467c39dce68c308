/* The kernels for AVX2 with F16C. */
#include <immintrin.h>

#define LANES 8
#define TARGET __attribute__((target("avx2,f16c")))
#include "src/dtype/vector.h"
#include "src/dtype/x86/fp_mode.h"

#define STREAMS
INLINE void stream_vector(uint8_t *dst, v32 x)
{
    _mm256_stream_si256((__m256i *)dst, (__m256i)x);
}

INLINE v32 min32(v32 a, v32 b)
{
    return (v32)_mm256_min_epi32((__m256i)a, (__m256i)b);
}

INLINE v32 max32(v32 a, v32 b)
{
    return (v32)_mm256_max_epi32((__m256i)a, (__m256i)b);
}

INLINE bool any_nan(block32 x)
{
    __m256 low = _mm256_cmp_ps((__m256)x.v[0], (__m256)x.v[1], _CMP_UNORD_Q);
    __m256 high = _mm256_cmp_ps((__m256)x.v[2], (__m256)x.v[3], _CMP_UNORD_Q);
    return _mm256_movemask_ps(_mm256_or_ps(low, high)) != 0;
}

INLINE v32 select_nan(v32 v, v32 x, v32 w)
{
    __m256 nan = _mm256_cmp_ps((__m256)x, (__m256)x, _CMP_UNORD_Q);
    return (v32)_mm256_blendv_ps((__m256)v, (__m256)w, nan);
}

INLINE v32 add_scaled(v32 x, v32 y, uint32_t shift, uint32_t low)
{
    return (v32)((vf32)x + (vf32)(y + (shift << 23) + low));
}

INLINE v32 round_high(v32 x)
{
    return x + 0x7FFF + (x >> 16 & 1);
}

INLINE v16 select_gt16(v16 v, v16 a, v16 b, v16 w)
{
    __m256i greater = _mm256_cmpgt_epi16((__m256i)a, (__m256i)b);
    return (v16)_mm256_blendv_epi8((__m256i)v, (__m256i)w, greater);
}

INLINE v8 adds8(v8 a, v8 b)
{
    return (v8)_mm256_adds_epu8((__m256i)a, (__m256i)b);
}

INLINE v16 subs16(v16 a, v16 b)
{
    return (v16)_mm256_subs_epu16((__m256i)a, (__m256i)b);
}

INLINE v16 min16(v16 a, v16 b)
{
    return (v16)_mm256_min_epu16((__m256i)a, (__m256i)b);
}

INLINE v16 mul_round(v16 a, v16 b)
{
    return (v16)_mm256_mulhrs_epi16((__m256i)a, (__m256i)b);
}

INLINE v8 lookup(v8 i, const uint8_t table[16])
{
    __m256i values = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return (v8)_mm256_shuffle_epi8(values, (__m256i)i);
}

INLINE bool any_top_bit(v8 x)
{
    return _mm256_movemask_epi8((__m256i)x) != 0;
}

/* Unpacking and packing work within 128 bits: quadwords, or dwords, are put in their places before or after. */
INLINE v8 load_8_for_16(const uint8_t *src)
{
    return (v8)_mm256_permute4x64_epi64((__m256i)load_vector(src), 0xD8);
}

INLINE v8 load_8_for_32(const uint8_t *src)
{
    const __m256i order = _mm256_set_epi32(7, 5, 3, 1, 6, 4, 2, 0);
    return (v8)_mm256_permutevar8x32_epi32((__m256i)load_vector(src), order);
}

INLINE block16 zip_8(v8 low, v8 high)
{
    return (block16){{(v16)_mm256_unpacklo_epi8((__m256i)low, (__m256i)high),
                      (v16)_mm256_unpackhi_epi8((__m256i)low, (__m256i)high)}};
}

INLINE block32 zip_high(block16 x)
{
    const __m256i zero = _mm256_setzero_si256();
    block32 y;
    for (int i = 0; i < 2; i++) {
        y.v[2 * i] = (v32)_mm256_unpacklo_epi16(zero, (__m256i)x.v[i]);
        y.v[2 * i + 1] = (v32)_mm256_unpackhi_epi16(zero, (__m256i)x.v[i]);
    }
    return y;
}

INLINE v8 pack_8(block16 x)
{
    return (v8)_mm256_packus_epi16((__m256i)x.v[0], (__m256i)x.v[1]);
}

INLINE v8 pack_sign(block16 x)
{
    return (v8)_mm256_packs_epi16((__m256i)x.v[0], (__m256i)x.v[1]);
}

INLINE v8 order_16(v8 x)
{
    return (v8)_mm256_permute4x64_epi64((__m256i)x, 0xD8);
}

INLINE v32 words_high(__m128i words)
{
    return (v32)_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16);
}

INLINE block32 load_16(const uint8_t *src)
{
    block32 x;
    for (int i = 0; i < 4; i++)
        x.v[i] = words_high(_mm_loadu_si128((const __m128i *)(src + 16 * i)));
    return x;
}

INLINE block16 narrow_high(block32 x)
{
    block16 y;
    for (int i = 0; i < 2; i++) {
        __m256i low = (__m256i)(x.v[2 * i] >> 16), high = (__m256i)(x.v[2 * i + 1] >> 16);
        y.v[i] = (v16)_mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
    }
    return y;
}

INLINE v8 narrow_8(block32 x)
{
    for (int i = 0; i < 4; i++)
        x.v[i] &= 0xFF;
    __m256i low = _mm256_packus_epi32((__m256i)x.v[0], (__m256i)x.v[1]);
    __m256i high = _mm256_packus_epi32((__m256i)x.v[2], (__m256i)x.v[3]);
    return (v8)_mm256_packus_epi16(low, high);
}

INLINE v8 narrow_sign(block32 x)
{
    __m256i low = _mm256_packs_epi32((__m256i)x.v[0], (__m256i)x.v[1]);
    __m256i high = _mm256_packs_epi32((__m256i)x.v[2], (__m256i)x.v[3]);
    return (v8)_mm256_packs_epi16(low, high);
}

/* Packing twice leaves four dwords within 128 bits, one of each vector: here they are in the vectors' order. */
INLINE v8 order_32(v8 x)
{
    return (v8)_mm256_permutevar8x32_epi32((__m256i)x, _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0));
}

INLINE block32 load_f16(const uint8_t *src)
{
    block32 x;
    for (int i = 0; i < 4; i++) {
        x.v[i] = (v32)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + 16 * i)));
        HIDE_ORIGIN(x.v[i]);
    }
    return x;
}

/* The instruction that rounds stores as well, and then has nothing to shuffle. */
INLINE void store_f16(uint8_t *dst, block32 x)
{
    for (int i = 0; i < 4; i++)
        _mm_storeu_si128((__m128i *)(dst + 16 * i),
                         _mm256_cvtps_ph((__m256)x.v[i], _MM_FROUND_TO_NEAREST_INT));
}

/* By halves, as they were stored: so none of this goes by way of the stack. */
INLINE v32 load_stored_f16(const uint8_t *block)
{
    const __m128i *halves = (const __m128i *)block;
    return (v32)_mm256_set_m128i(_mm_loadu_si128(halves + 1), _mm_loadu_si128(halves));
}

INLINE __m128 four_f64(const uint8_t *src)
{
    return _mm256_cvtpd_ps((__m256d)_mm256_loadu_si256((const __m256i *)src));
}

INLINE block32 load_f64(const uint8_t *src)
{
    block32 x;
    for (int i = 0; i < 4; i++)
        x.v[i] = (v32)_mm256_set_m128(four_f64(src + 64 * i + 32), four_f64(src + 64 * i));
    return x;
}

INLINE void store_f64(uint8_t *dst, block32 x)
{
    for (int i = 0; i < 4; i++) {
        __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128((__m256)x.v[i]));
        __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps((__m256)x.v[i], 1));
        _mm256_storeu_si256((__m256i *)(dst + 64 * i), (__m256i)low);
        _mm256_storeu_si256((__m256i *)(dst + 64 * i + 32), (__m256i)high);
    }
}

#include "src/dtype/convert_template.h"

const lds_kernels lds_kernels_avx2 = {
    .kernel = {LDS_FOR_EACH_PAIR(LDS_TABLE_ENTRY)},
    .stream = {LDS_FOR_EACH_STREAMED_PAIR(LDS_STREAM_ENTRY)},
};
