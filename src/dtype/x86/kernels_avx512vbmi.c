/*
 * F8 to F8, to the 16-bit floats and to F32 by looking bytes up, with AVX-512 VBMI.
 *
 * An F8 has 256 values, and two instructions look 64 of them up in a table of 256 bytes: that is as fast as
 * memory. The table of a pair is made at each call by the AVX-512 kernel of that pair, which takes less time
 * than to load one; short runs and rests go to that kernel altogether.
 */
#include <immintrin.h>

#include "src/dtype/kernels.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")))
#define INLINE TARGET static inline __attribute__((always_inline))

/* Fewer elements than this are not worth a table. */
enum { MIN_N = 512 };

/* 256 bytes. */
typedef struct table {
    __m512i v[4];
} table;

INLINE __m512i look_up(const table *t, __m512i x)
{
    __m512i positive = _mm512_permutex2var_epi8(t->v[0], x, t->v[1]);
    __m512i negative = _mm512_permutex2var_epi8(t->v[2], x, t->v[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), positive, negative);
}

/* The F8 numbers 0 to 255 converted by kernel. */
static void convert_all(lds_convert_fn kernel, void *values)
{
    uint8_t all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    kernel(values, all, 256);
}

/* The low bytes of 256 words in one table, the high ones in another. */
INLINE void split_words(table *low, table *high, const uint16_t words[256])
{
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_loadu_si512(words + 64 * i), b = _mm512_loadu_si512(words + 64 * i + 32);
        __m512i low_a = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(a));
        __m512i high_a = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(_mm512_srli_epi16(a, 8)));
        low->v[i] = _mm512_inserti64x4(low_a, _mm512_cvtepi16_epi8(b), 1);
        high->v[i] = _mm512_inserti64x4(high_a, _mm512_cvtepi16_epi8(_mm512_srli_epi16(b, 8)), 1);
    }
}

TARGET static void look_up_8(uint8_t *dst, const uint8_t *src, size_t n, lds_convert_fn kernel)
{
    table values;
    if (n >= MIN_N) {
        convert_all(kernel, &values);
        for (; n >= 64; n -= 64, src += 64, dst += 64)
            _mm512_storeu_si512(dst, look_up(&values, _mm512_loadu_si512(src)));
    }
    kernel(dst, src, n);
}

/* Unpacking works within 128 bits: bytes are first put where it leaves their words in order. */
TARGET static void look_up_16(uint8_t *dst, const uint8_t *src, size_t n, lds_convert_fn kernel)
{
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
    uint16_t words[256];
    table low, high;
    if (n >= MIN_N) {
        convert_all(kernel, words);
        split_words(&low, &high, words);
        for (; n >= 64; n -= 64, src += 64, dst += 128) {
            __m512i x = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(src));
            __m512i x_low = look_up(&low, x), x_high = look_up(&high, x);
            _mm512_storeu_si512(dst, _mm512_unpacklo_epi8(x_low, x_high));
            _mm512_storeu_si512(dst + 64, _mm512_unpackhi_epi8(x_low, x_high));
        }
    }
    kernel(dst, src, n);
}

/* The same for F32, of which F8 needs the high half alone: kernel is that to BF16, rest that to F32. */
TARGET static void look_up_32(uint8_t *dst, const uint8_t *src, size_t n, lds_convert_fn kernel,
                              lds_convert_fn rest)
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512i zero = _mm512_setzero_si512();
    uint16_t words[256];
    table low, high;
    if (n >= MIN_N) {
        convert_all(kernel, words);
        split_words(&low, &high, words);
        for (; n >= 64; n -= 64, src += 64, dst += 256) {
            __m512i x = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(src));
            __m512i x_low = look_up(&low, x), x_high = look_up(&high, x);
            __m512i a = _mm512_unpacklo_epi8(x_low, x_high), b = _mm512_unpackhi_epi8(x_low, x_high);
            _mm512_storeu_si512(dst, _mm512_unpacklo_epi16(zero, a));
            _mm512_storeu_si512(dst + 64, _mm512_unpackhi_epi16(zero, a));
            _mm512_storeu_si512(dst + 128, _mm512_unpacklo_epi16(zero, b));
            _mm512_storeu_si512(dst + 192, _mm512_unpackhi_epi16(zero, b));
        }
    }
    rest(dst, src, n);
}

#define AVX512(D, S) lds_kernels_avx512.kernel[lds_float_##D][lds_float_##S]

#define KERNEL_8(D, S)                                           \
    static void S##_to_##D(void *dst, const void *src, size_t n) \
    {                                                            \
        look_up_8(dst, src, n, AVX512(D, S));                    \
    }

#define KERNEL_16(D, S)                                          \
    static void S##_to_##D(void *dst, const void *src, size_t n) \
    {                                                            \
        look_up_16(dst, src, n, AVX512(D, S));                   \
    }

#define KERNEL_32(D, S)                                           \
    static void S##_to_##D(void *dst, const void *src, size_t n)  \
    {                                                             \
        look_up_32(dst, src, n, AVX512(bf16, S), AVX512(f32, S)); \
    }

LDS_FOR_EACH_F8_TO_F8(KERNEL_8)
LDS_FOR_EACH_F8_TO_16(KERNEL_16)
LDS_FROM_EACH_F8(KERNEL_32, f32)

#define FOR_EACH_PAIR(X) LDS_FOR_EACH_F8_TO_F8(X) LDS_FOR_EACH_F8_TO_16(X) LDS_FROM_EACH_F8(X, f32)

const lds_kernels lds_kernels_avx512vbmi = {{FOR_EACH_PAIR(LDS_TABLE_ENTRY)}};
