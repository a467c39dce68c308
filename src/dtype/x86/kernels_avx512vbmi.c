/*
 * F8 to F8, to and from the 16-bit floats and F32 by looking bytes up, with AVX-512 VBMI.
 *
 * An F8 has 256 values, and two instructions look 64 of them up in a table of 256 bytes: that is as fast as
 * memory. A wider float needs a table for each byte, where one instruction looks the magnitude up, and the sign is
 * put beside it. The tables of a pair are made at each call by the AVX-512 kernel of that pair, which takes less
 * time than to load them; short runs and rests go to that kernel altogether.
 *
 * To F8, a magnitude is first brought into 16 bits whose high byte, the index, has its exponent and as many bits
 * of mantissa as F8 has. Then the low byte, the rest, decides between two results that are neighbours: whether it
 * is above a limit that depends on the index alone. That of a normal result is half, or one less where the index
 * is odd, so that ties become even; a subnormal one may be decided by the index, or by whether there is a rest.
 */
#include <immintrin.h>

#include "src/dtype/kernels.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")))
#define INLINE TARGET static inline __attribute__((always_inline))

/* Fewer elements than this are not worth the tables of F8 to F8, of a widening, of a narrowing. */
enum { MIN_N = 512, MIN_N_WIDEN = 2048, MIN_N_NARROW = 1024 };

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

/* Bytes 1, 3, 5 ... of two vectors, and 0, 2, 4 ... */
INLINE __m512i odd_bytes(__m512i a, __m512i b)
{
    const __m512i odd =
        _mm512_set_epi64(0x7F7D7B7977757371, 0x6F6D6B6967656361, 0x5F5D5B5957555351, 0x4F4D4B4947454341,
                         0x3F3D3B3937353331, 0x2F2D2B2927252321, 0x1F1D1B1917151311, 0x0F0D0B0907050301);
    return _mm512_permutex2var_epi8(a, odd, b);
}

INLINE __m512i even_bytes(__m512i a, __m512i b)
{
    const __m512i even =
        _mm512_set_epi64(0x7E7C7A7876747270, 0x6E6C6A6866646260, 0x5E5C5A5856545250, 0x4E4C4A4846444240,
                         0x3E3C3A3836343230, 0x2E2C2A2826242220, 0x1E1C1A1816141210, 0x0E0C0A0806040200);
    return _mm512_permutex2var_epi8(a, even, b);
}

/* The low and the high bytes of what F8 magnitudes become, and of what 0x80 does: in FNUZ that is NaN. */
typedef struct word_table {
    __m512i low[2], high[2];
    __m512i low_of_0x80, high_of_0x80;
} word_table;

INLINE word_table make_word_table(lds_convert_fn kernel)
{
    uint16_t words[256];
    word_table t;
    convert_all(kernel, words);
    for (int i = 0; i < 2; i++) {
        __m512i a = _mm512_loadu_si512(words + 64 * i), b = _mm512_loadu_si512(words + 64 * i + 32);
        t.low[i] = even_bytes(a, b);
        t.high[i] = odd_bytes(a, b);
    }
    t.low_of_0x80 = _mm512_set1_epi8((char)words[0x80]);
    t.high_of_0x80 = _mm512_set1_epi8((char)(words[0x80] >> 8));
    return t;
}

typedef struct two_vectors {
    __m512i a, b;
} two_vectors;

/* Within each 128 bits of x, the words of bytes 0 to 7 and those of bytes 8 to 15: unpacking goes no further. */
INLINE two_vectors look_up_words(const word_table *t, __m512i x)
{
    const __m512i sign = _mm512_set1_epi8((char)0x80);
    __mmask64 is_0x80 = _mm512_cmpeq_epi8_mask(x, sign);
    __m512i low = _mm512_permutex2var_epi8(t->low[0], x, t->low[1]);
    __m512i high = _mm512_permutex2var_epi8(t->high[0], x, t->high[1]);
    high = _mm512_or_si512(high, _mm512_and_si512(x, sign));
    low = _mm512_mask_mov_epi8(low, is_0x80, t->low_of_0x80);
    high = _mm512_mask_mov_epi8(high, is_0x80, t->high_of_0x80);
    return (two_vectors){_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
}

TARGET static void look_up_16(uint8_t *dst, const uint8_t *src, size_t n, lds_convert_fn kernel)
{
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
    if (n >= MIN_N_WIDEN) {
        const word_table t = make_word_table(kernel);
        for (; n >= 64; n -= 64, src += 64, dst += 128) {
            two_vectors w = look_up_words(&t, _mm512_permutexvar_epi64(order, _mm512_loadu_si512(src)));
            _mm512_storeu_si512(dst, w.a);
            _mm512_storeu_si512(dst + 64, w.b);
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
    if (n >= MIN_N_WIDEN) {
        const word_table t = make_word_table(kernel);
        for (; n >= 64; n -= 64, src += 64, dst += 256) {
            two_vectors w = look_up_words(&t, _mm512_permutexvar_epi32(order, _mm512_loadu_si512(src)));
            _mm512_storeu_si512(dst, _mm512_unpacklo_epi16(zero, w.a));
            _mm512_storeu_si512(dst + 64, _mm512_unpackhi_epi16(zero, w.a));
            _mm512_storeu_si512(dst + 128, _mm512_unpacklo_epi16(zero, w.b));
            _mm512_storeu_si512(dst + 192, _mm512_unpackhi_epi16(zero, w.b));
        }
    }
    rest(dst, src, n);
}

/*
 * Magnitudes of a 16-bit float, doubled, on their way to index and rest: lowest is subtracted, which leaves 0 of
 * what is less, and the difference shifted left. That makes an index of below 64 of all that becomes subnormal;
 * from there on the result is the index less normal, but no more than too_large.
 */
typedef struct window {
    uint16_t lowest;
    int shift;
    uint8_t normal, too_large;
} window;

static const window f16_to_e4m3_by = {1 << 11, 0, 7 << 3, 0x7F};
static const window f16_to_e4m3fnuz_by = {0, 0, 7 << 3, 0x80};
static const window bf16_to_e4m3_by = {(127 - 14) << 8, 3, 7 << 3, 0x7F};
static const window bf16_to_e4m3fnuz_by = {(127 - 14) << 8, 3, 6 << 3, 0x80};
static const window bf16_to_e5m2_by = {(127 - 30) << 8, 2, 15 << 2, 0x7C};
static const window bf16_to_e5m2fnuz_by = {(127 - 30) << 8, 2, 14 << 2, 0x80};

/* For each index below 64: the result without a rest, and the largest rest that does not make it one more. */
typedef struct narrowing {
    __m512i result, limit;
} narrowing;

/* Seen at four rests: none, the least, half, and half and the least. */
INLINE narrowing make_narrowing(const window *w, lds_convert_fn kernel)
{
    const unsigned least = 2U << w->shift, rests[4] = {0, least, 0x80, 0x80 + least};
    uint16_t words[4][64];
    uint8_t results[4][64], limits[64];
    for (int k = 0; k < 4; k++)
        for (unsigned i = 0; i < 64; i++)
            words[k][i] = (uint16_t)(((i << 8 | rests[k]) >> w->shift) + w->lowest) >> 1;
    kernel(results, words, 4 * 64);
    for (int i = 0; i < 64; i++) {
        int none = results[0][i];
        limits[i] = (uint8_t)(255 - 127 * (results[1][i] - none) - (results[2][i] - none) -
                              127 * (results[3][i] - none));
    }
    return (narrowing){_mm512_loadu_si512(results[0]), _mm512_loadu_si512(limits)};
}

/* What is too large would lose bits at the top: it becomes the least index of that kind. */
INLINE __m512i through_window(__m512i doubled, const window *w)
{
    __m512i y = doubled;
    if (w->lowest)
        y = _mm512_subs_epu16(y, _mm512_set1_epi16((short)w->lowest));
    if (w->shift) {
        int highest = (w->normal + w->too_large) << 8 >> w->shift;
        y = _mm512_slli_epi16(_mm512_min_epu16(y, _mm512_set1_epi16((short)highest)), (unsigned)w->shift);
    }
    return y;
}

/* The results of magnitudes that have gone through the window. */
INLINE __m512i narrow_64(__m512i a, __m512i b, const narrowing *t, const window *w)
{
    const __m512i one = _mm512_set1_epi8(1);
    __m512i index = odd_bytes(a, b);
    __mmask64 is_small = _mm512_cmplt_epu8_mask(index, _mm512_set1_epi8(64));
    __m512i limit = _mm512_sub_epi8(_mm512_set1_epi8((char)0x80), _mm512_and_si512(index, one));
    __m512i result = _mm512_sub_epi8(index, _mm512_set1_epi8((char)w->normal));
    limit = _mm512_mask_permutexvar_epi8(limit, is_small, index, t->limit);
    result = _mm512_mask_permutexvar_epi8(result, is_small, index, t->result);
    result = _mm512_mask_add_epi8(result, _mm512_cmpgt_epu8_mask(even_bytes(a, b), limit), result, one);
    return w->shift ? result : _mm512_min_epu8(result, _mm512_set1_epi8((char)w->too_large));
}

/* With the signs of the words a and b; zero only if it has one. */
INLINE __m512i put_signs(__m512i y, __m512i a, __m512i b, bool has_negative_zero)
{
    __m512i signs = _mm512_and_si512(odd_bytes(a, b), _mm512_set1_epi8((char)0x80));
    if (!has_negative_zero)
        signs = _mm512_and_si512(signs,
                                 _mm512_add_epi8(y, _mm512_set1_epi8(0x7F))); /* has the bit if y is not 0 */
    return _mm512_or_si512(y, signs);
}

/*
 * Narrow n elements, a multiple of 64. False if one of BF16 is NaN and F8 has infinity, which it has become, as all
 * that is too large: looking for that once, at the end, costs least.
 */
INLINE bool narrow_all(uint8_t *dst, const uint8_t *src, size_t n, const narrowing *t, const window *w)
{
    __m512i largest = _mm512_setzero_si512();
    for (; n >= 64; n -= 64, src += 128, dst += 64) {
        __m512i a = _mm512_loadu_si512(src), b = _mm512_loadu_si512(src + 64);
        __m512i a_mag = _mm512_add_epi16(a, a), b_mag = _mm512_add_epi16(b, b);
        if (w->too_large == 0x7C)
            largest = _mm512_max_epu16(largest, _mm512_max_epu16(a_mag, b_mag));
        __m512i y = narrow_64(through_window(a_mag, w), through_window(b_mag, w), t, w);
        _mm512_storeu_si512(dst, put_signs(y, a, b, w->too_large != 0x80));
    }
    return !_mm512_cmpgt_epu16_mask(largest, _mm512_set1_epi16((short)0xFF00));
}

/* The other kernel has short runs, rests, and once more all of a run that has a NaN. */
INLINE void narrow(uint8_t *dst, const uint8_t *src, size_t n, const window *w, lds_convert_fn kernel)
{
    size_t n_done = n >= MIN_N_NARROW ? n / 64 * 64 : 0;
    if (n_done) {
        const narrowing t = make_narrowing(w, kernel);
        if (!narrow_all(dst, src, n_done, &t, w))
            n_done = 0;
    }
    kernel(dst + n_done, src + 2 * n_done, n - n_done);
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

#define KERNEL_NARROW(D, S)                                             \
    TARGET static void S##_to_##D(void *dst, const void *src, size_t n) \
    {                                                                   \
        narrow(dst, src, n, &S##_to_##D##_by, AVX512(D, S));            \
    }

/* F16 is E5M2 and a byte more, which AVX512 makes use of. */
#define FOR_EACH_NARROWING(X) LDS_TO_EACH_F8(X, bf16) X(e4m3, f16) X(e4m3fnuz, f16)

LDS_FOR_EACH_F8_TO_F8(KERNEL_8)
LDS_FOR_EACH_F8_TO_16(KERNEL_16)
LDS_FROM_EACH_F8(KERNEL_32, f32)
FOR_EACH_NARROWING(KERNEL_NARROW)

#define FOR_EACH_PAIR(X) \
    LDS_FOR_EACH_F8_TO_F8(X) LDS_FOR_EACH_F8_TO_16(X) LDS_FROM_EACH_F8(X, f32) FOR_EACH_NARROWING(X)

const lds_kernels lds_kernels_avx512vbmi = {.kernel = {FOR_EACH_PAIR(LDS_TABLE_ENTRY)}};
