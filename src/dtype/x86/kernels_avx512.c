/* The kernels for AVX-512 F, BW, DQ and VL. */
#include <immintrin.h>

#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c")))
#include "src/dtype/vector.h"
#include "src/dtype/x86/fp_mode.h"

INLINE v32 min32(v32 a, v32 b)
{
    return (v32)_mm512_min_epi32((__m512i)a, (__m512i)b);
}

INLINE v32 max32(v32 a, v32 b)
{
    return (v32)_mm512_max_epi32((__m512i)a, (__m512i)b);
}

INLINE bool any_nan(block32 x)
{
    __mmask16 low = _mm512_cmp_ps_mask((__m512)x.v[0], (__m512)x.v[1], _CMP_UNORD_Q);
    __mmask16 high = _mm512_cmp_ps_mask((__m512)x.v[2], (__m512)x.v[3], _CMP_UNORD_Q);
    return !_mm512_kortestz(low, high);
}

INLINE v32 select_nan(v32 v, v32 x, v32 w)
{
    __mmask16 k = _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q);
    return (v32)_mm512_mask_mov_epi32((__m512i)v, k, (__m512i)w);
}

/* Rounded up at halves; then the bit that made an odd number of a tie is taken back. */
INLINE v32 round_high(v32 x)
{
    __m512i up = (__m512i)(x + 0x8000);
    __mmask16 tie = _mm512_testn_epi32_mask(up, _mm512_set1_epi32(0xFFFF));
    return (v32)_mm512_mask_and_epi32(up, tie, up, _mm512_set1_epi32(~0x10000));
}

INLINE v16 select_gt16(v16 v, v16 a, v16 b, v16 w)
{
    __mmask32 k = _mm512_cmpgt_epi16_mask((__m512i)a, (__m512i)b);
    return (v16)_mm512_mask_mov_epi16((__m512i)v, k, (__m512i)w);
}

INLINE v16 select_eq16(v16 v, v16 a, v16 b, v16 w)
{
    __mmask32 k = _mm512_cmpeq_epi16_mask((__m512i)a, (__m512i)b);
    return (v16)_mm512_mask_mov_epi16((__m512i)v, k, (__m512i)w);
}

INLINE v16 lookup_lt8(v16 v, v16 i, const uint16_t table[8])
{
    __m512i values = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    __mmask32 k = _mm512_cmplt_epi16_mask((__m512i)i, _mm512_set1_epi16(8));
    return (v16)_mm512_mask_permutexvar_epi16((__m512i)v, k, (__m512i)i, values);
}

INLINE block16 load_8(const uint8_t *src)
{
    block16 x;
    for (int i = 0; i < 2; i++)
        x.v[i] = (v16)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(src + 32 * i)));
    return x;
}

INLINE v32 words_high(__m256i words)
{
    return (v32)_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16);
}

INLINE block32 load_16(const uint8_t *src)
{
    block32 x;
    for (int i = 0; i < 4; i++)
        x.v[i] = words_high(_mm256_loadu_si256((const __m256i *)(src + 32 * i)));
    return x;
}

INLINE block32 widen_16(block16 x)
{
    block32 y;
    for (int i = 0; i < 2; i++) {
        y.v[2 * i] = words_high(_mm512_castsi512_si256((__m512i)x.v[i]));
        y.v[2 * i + 1] = words_high(_mm512_extracti64x4_epi64((__m512i)x.v[i], 1));
    }
    return y;
}

INLINE block16 narrow_high(block32 x)
{
    const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31,
                                         29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    block16 y;
    for (int i = 0; i < 2; i++)
        y.v[i] = (v16)_mm512_permutex2var_epi16((__m512i)x.v[2 * i], odd, (__m512i)x.v[2 * i + 1]);
    return y;
}

/* Packing works within 128 bits and leaves four dwords there, one of each vector: in the vectors' order. */
INLINE v8 in_order(__m512i packed)
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    return (v8)_mm512_permutexvar_epi32(order, packed);
}

INLINE v8 narrow_8(block32 x)
{
    __m512i low = _mm512_packus_epi32((__m512i)x.v[0], (__m512i)x.v[1]);
    __m512i high = _mm512_packus_epi32((__m512i)x.v[2], (__m512i)x.v[3]);
    return in_order(_mm512_packus_epi16(low, high));
}

INLINE v8 narrow_sign(block32 x)
{
    __m512i low = _mm512_packs_epi32((__m512i)x.v[0], (__m512i)x.v[1]);
    __m512i high = _mm512_packs_epi32((__m512i)x.v[2], (__m512i)x.v[3]);
    return in_order(_mm512_packs_epi16(low, high));
}

INLINE block32 load_f16(const uint8_t *src)
{
    block32 x;
    for (int i = 0; i < 4; i++) {
        x.v[i] = (v32)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(src + 32 * i)));
        HIDE_ORIGIN(x.v[i]);
    }
    return x;
}

INLINE void store_f16(uint8_t *dst, block32 x)
{
    for (int i = 0; i < 4; i++) {
        __m256i words = _mm512_cvtps_ph((__m512)x.v[i], _MM_FROUND_TO_NEAREST_INT);
        _mm256_storeu_si256((__m256i *)(dst + 32 * i), words);
    }
}

INLINE block32 load_f64(const uint8_t *src)
{
    block32 x;
    for (int i = 0; i < 4; i++) {
        __m256 low = _mm512_cvtpd_ps(_mm512_loadu_pd(src + 128 * i));
        __m256 high = _mm512_cvtpd_ps(_mm512_loadu_pd(src + 128 * i + 64));
        x.v[i] = (v32)_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
    }
    return x;
}

INLINE void store_f64(uint8_t *dst, block32 x)
{
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_pd(dst + 128 * i, _mm512_cvtps_pd(_mm512_castps512_ps256((__m512)x.v[i])));
        _mm512_storeu_pd(dst + 128 * i + 64, _mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)x.v[i], 1)));
    }
}

#include "src/dtype/convert_template.h"

const lds_kernels lds_kernels_avx512 = {{LDS_FOR_EACH_PAIR(LDS_TABLE_ENTRY)}};
