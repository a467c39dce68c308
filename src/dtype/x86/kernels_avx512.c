/* The kernels for AVX-512 F, BW, DQ and VL. */
#include <immintrin.h>

#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c")))
#include "src/dtype/vector.h"
#include "src/dtype/x86/fp_mode.h"

#define STREAMS
INLINE void stream_vector(uint8_t *dst, v32 x)
{
    _mm512_stream_si512((__m512i *)dst, (__m512i)x);
}

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

/* low is as many units of the product's last place: of y, it is 2^(23 - shift) times less. */
INLINE v32 add_scaled(v32 x, v32 y, uint32_t shift, uint32_t low)
{
    __m512 factor = _mm512_set1_ps((float)((1U << shift) + (low >> (23 - shift))));
    return (v32)_mm512_fmadd_ps((__m512)y, factor, (__m512)x);
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

INLINE v8 adds8(v8 a, v8 b)
{
    return (v8)_mm512_adds_epu8((__m512i)a, (__m512i)b);
}

INLINE v16 subs16(v16 a, v16 b)
{
    return (v16)_mm512_subs_epu16((__m512i)a, (__m512i)b);
}

INLINE v16 min16(v16 a, v16 b)
{
    return (v16)_mm512_min_epu16((__m512i)a, (__m512i)b);
}

INLINE v16 mul_round(v16 a, v16 b)
{
    return (v16)_mm512_mulhrs_epi16((__m512i)a, (__m512i)b);
}

INLINE v8 lookup(v8 i, const uint8_t table[16])
{
    __m512i values = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    return (v8)_mm512_shuffle_epi8(values, (__m512i)i);
}

INLINE bool any_top_bit(v8 x)
{
    return _mm512_movepi8_mask((__m512i)x) != 0;
}

/* Unpacking and packing work within 128 bits: quadwords, or dwords, are put in their places before or after. */
INLINE v8 load_8_for_16(const uint8_t *src)
{
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
    return (v8)_mm512_permutexvar_epi64(order, (__m512i)load_vector(src));
}

INLINE v8 load_8_for_32(const uint8_t *src)
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    return (v8)_mm512_permutexvar_epi32(order, (__m512i)load_vector(src));
}

INLINE block16 zip_8(v8 low, v8 high)
{
    return (block16){{(v16)_mm512_unpacklo_epi8((__m512i)low, (__m512i)high),
                      (v16)_mm512_unpackhi_epi8((__m512i)low, (__m512i)high)}};
}

INLINE block32 zip_high(block16 x)
{
    const __m512i zero = _mm512_setzero_si512();
    block32 y;
    for (int i = 0; i < 2; i++) {
        y.v[2 * i] = (v32)_mm512_unpacklo_epi16(zero, (__m512i)x.v[i]);
        y.v[2 * i + 1] = (v32)_mm512_unpackhi_epi16(zero, (__m512i)x.v[i]);
    }
    return y;
}

INLINE v8 pack_8(block16 x)
{
    return (v8)_mm512_packus_epi16((__m512i)x.v[0], (__m512i)x.v[1]);
}

INLINE v8 pack_sign(block16 x)
{
    return (v8)_mm512_packs_epi16((__m512i)x.v[0], (__m512i)x.v[1]);
}

INLINE v8 order_16(v8 x)
{
    const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
    return (v8)_mm512_permutexvar_epi64(order, (__m512i)x);
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

INLINE block16 narrow_high(block32 x)
{
    const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31,
                                         29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    block16 y;
    for (int i = 0; i < 2; i++)
        y.v[i] = (v16)_mm512_permutex2var_epi16((__m512i)x.v[2 * i], odd, (__m512i)x.v[2 * i + 1]);
    return y;
}

INLINE v8 narrow_8(block32 x)
{
    const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30,
                                          28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    block16 y;
    for (int i = 0; i < 2; i++)
        y.v[i] = (v16)_mm512_permutex2var_epi16((__m512i)x.v[2 * i], even, (__m512i)x.v[2 * i + 1]);
    return pack_8(y);
}

INLINE v8 narrow_sign(block32 x)
{
    return pack_sign(narrow_high(x));
}

INLINE v8 order_32(v8 x)
{
    return order_16(x);
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
    for (int i = 0; i < 4; i += 2) {
        __m256i low = _mm512_cvtps_ph((__m512)x.v[i], _MM_FROUND_TO_NEAREST_INT);
        __m256i high = _mm512_cvtps_ph((__m512)x.v[i + 1], _MM_FROUND_TO_NEAREST_INT);
        store_vector(dst + 32 * i, (v32)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
    }
}

INLINE v32 load_stored_f16(const uint8_t *block)
{
    return load_vector(block);
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

const lds_kernels lds_kernels_avx512 = {
    .kernel = {LDS_FOR_EACH_PAIR(LDS_TABLE_ENTRY)},
    .stream = {LDS_FOR_EACH_STREAMED_PAIR(LDS_STREAM_ENTRY)},
};
