/*
 * The vector kernels, written once and compiled for each instruction set: the including file defines what
 * follows, includes this, and gets 56 static functions, named as LDS_TABLE_ENTRY() wants them.
 *
 * Parameters, besides those of vector.h:
 *
 *   fp_mode, fp_enter(), fp_leave(mode)
 *             set the default floating-point environment, and put the caller's back
 *   min32(a, b), max32(a, b)
 *             the smaller and larger of signed lanes
 *   select_gt16(v, a, b, w)
 *             v, but w in the lanes where a > b (signed)
 *   any_nan(block32)
 *             whether one of its lanes is NaN as F32
 *   select_nan(v, x, w)
 *             v, but w in the lanes where x is NaN as F32
 *   round_high(x)
 *             x rounded, ties to even, so that the high half of each 32-bit lane can be taken alone
 *   adds8, subs16, min16 (a, b)
 *             sum, difference and minimum of unsigned lanes; what would be beyond a lane is its largest or 0
 *   mul_round(a, b)
 *             a * b / 2^15 of signed 16-bit lanes, to nearest, halves upward
 *   lookup(i, table)
 *             table[i % 16] in the 8-bit lanes where i < 128, else 0
 *   any_top_bit(v8)
 *             whether one of its lanes is 128 or more
 *   load_8_for_16, load_8_for_32 (p)
 *             BLOCK bytes in such an order that zip_8(), or zip_8() and then zip_high(), leave them in theirs
 *   zip_8(low, high)
 *             the words of BLOCK low and BLOCK high bytes
 *   zip_high(block16)
 *             words as the high halves of 32-bit lanes, the low halves being 0
 *   load_16(p)
 *             the same of BLOCK words from memory
 *   pack_8(block16), pack_sign(block16), order_16(v8)
 *             words, which are at most 255, as bytes; bytes that have the sign bits of words, and anything else
 *             below; the bytes of these two in the order of the words
 *   add_scaled(x, y, shift, low)
 *             x + y * 2^shift as F32, where y is a power of two and the bits low are set in the product
 *   narrow_high(block32)
 *             the high halves of 32-bit lanes
 *   narrow_8(block32), narrow_sign(block32), order_32(v8)
 *             the low bytes of 32-bit lanes, whose low halves are at most 255; bytes that have their sign bits,
 *             and anything else below; the bytes of these two in the order of the lanes
 *   load_f16, load_f64, store_f16, store_f64
 *             BLOCK floats from memory to F32 and the other way
 *   STREAMS, stream_vector(dst, v), load_stored_f16(p)
 *             defined, and a store past the cache to dst, which is aligned, where the machine has such; it gets static
 *             functions for LDS_STREAM_ENTRY(), too; and a vector of what store_f16() has left on the stack
 *
 * Every pair is a load to F32 and a store from F32, but for those between F8 and the 16-bit floats and F16 to BF16,
 * where F32 would be a detour in lanes of twice the size, and F8 to F8, which goes through F16. The results are
 * those of scalar.h, which is written for reading; here are the shorter ways to them.
 */
#include <string.h>

INLINE v16 set16(uint16_t x)
{
    return (v16){0} + x;
}

INLINE v32 set32(uint32_t x)
{
    return (v32){0} + x;
}

/* load_X: BLOCK elements from memory to F32. */

INLINE block32 load_f32(const uint8_t *src)
{
    block32 x;
    for (int i = 0; i < 4; i++)
        x.v[i] = load_vector(src + 4 * LANES * i);
    return x;
}

INLINE block32 load_bf16(const uint8_t *src)
{
    return load_16(src);
}

/*
 * F8 to a float of 16 bits that holds all its values. The exponent is moved by shift and rebias. What that is
 * wrong by for the magnitudes below 8, where the subnormals are, is added; the bytes of it come from tables,
 * whose index is at least 128 for all other magnitudes. Infinity and NaN wait for a block that has one.
 */
typedef struct f8_to_16 {
    int shift;
    uint16_t rebias;
    uint16_t inf, nan; /* of the 16-bit float */
    uint8_t low[16], high[16];
} f8_to_16;

/* clang-format off */
static const f8_to_16 e4m3_to_bf16_by = {
    4, (127 - 7) << 7, 0x7F80, 0x7FC0,
    {[8] = 0, 0xF0, 0x60, 0x90, 0xC0, 0xD0, 0xE0, 0xF0},
    {[8] = 0xC4, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}};
static const f8_to_16 e4m3fnuz_to_bf16_by = {
    4, (127 - 8) << 7, 0x7F80, 0x7FC0,
    {[8] = 0x80, 0xF0, 0x60, 0x90, 0xC0, 0xD0, 0xE0, 0xF0},
    {[8] = 0xC4, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}};
static const f8_to_16 e5m2_to_bf16_by = {
    5, (127 - 15) << 7, 0x7F80, 0x7FC0,
    {[8] = 0, 0x60, 0xC0, 0xE0, 0, 0, 0, 0},
    {[8] = 0xC8, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}};
static const f8_to_16 e5m2fnuz_to_bf16_by = {
    5, (127 - 16) << 7, 0x7F80, 0x7FC0,
    {[8] = 0x80, 0x60, 0xC0, 0xE0, 0, 0, 0, 0},
    {[8] = 0xC8, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}};
static const f8_to_16 e4m3_to_f16_by = {
    7, (15 - 7) << 10, 0x7C00, 0x7E00,
    {[8] = 0, 0x80, 0, 0x80, 0, 0x80, 0, 0x80},
    {[8] = 0xE0, 0xF7, 0xFB, 0xFC, 0xFE, 0xFE, 0xFF, 0xFF}};
static const f8_to_16 e4m3fnuz_to_f16_by = {
    7, (15 - 8) << 10, 0x7C00, 0x7E00,
    {[8] = 0, 0x80, 0, 0x80, 0, 0x80, 0, 0x80},
    {[8] = 0xE4, 0xF7, 0xFB, 0xFC, 0xFE, 0xFE, 0xFF, 0xFF}};
static const f8_to_16 e5m2_to_f16_by = {8, 0, 0x7C00, 0x7E00, {0}, {0}}; /* the high half of an F16 */
static const f8_to_16 e5m2fnuz_to_f16_by = {
    8, 0xFC00, 0x7C00, 0x7E00,
    {[8] = 0, 0x80, 0, 0x80, 0, 0x80, 0, 0x80},
    {[8] = 0x04, 0x03, 0x03, 0x02, 0x02, 0x01, 0x01, 0}};
/* clang-format on */

/* The lanes of x that are not numbers have their top bit set. */
INLINE v8 special_e4m3(v8 x)
{
    return (x & 0x7F) + 1;
}

INLINE v8 special_e5m2(v8 x)
{
    return (x & 0x7F) + 4;
}

INLINE v8 special_fnuz(v8 x)
{
    return (v8)(x == 0x80);
}

/* y, but w in the words whose byte of x is special. */
INLINE block16 put_special(block16 y, v8 x, v8 special, const f8_to_16 *by, uint8_t sign)
{
    block16 infinity = zip_8((v8){0}, (v8)((x & 0x7F) == 0x7C)), not_number = zip_8(special, special);
    block16 signs = zip_8((v8){0}, x & sign);
    for (int i = 0; i < 2; i++) {
        v16 w = select_gt16(set16(by->nan), set16(0), infinity.v[i], set16(by->inf));
        y.v[i] = select_gt16(y.v[i], set16(0), not_number.v[i], w | signs.v[i]);
    }
    return y;
}

INLINE block16 widen_f8(v8 x, v8 special, const f8_to_16 *by, uint8_t sign)
{
    v8 mag = x & 0x7F;
    v8 i = adds8(mag, (v8){0} + 0x78);
    block16 y = zip_8(mag, (v8){0});
    block16 wrong = zip_8(lookup(i, by->low), lookup(i, by->high) + (x & 0x80));
    for (int j = 0; j < 2; j++)
        y.v[j] = (y.v[j] << by->shift) + wrong.v[j] + by->rebias;
    if (__builtin_expect(any_top_bit(special), 0))
        y = put_special(y, x, special, by, sign);
    return y;
}

#define WIDEN_F8(S, kind, sign)                                                 \
    INLINE block16 S##_in_bf16(const uint8_t *src)                              \
    {                                                                           \
        v8 x = load_8_for_16(src);                                              \
        return widen_f8(x, special_##kind(x), &S##_to_bf16_by, sign);           \
    }                                                                           \
    INLINE block16 S##_in_f16(const uint8_t *src)                               \
    {                                                                           \
        v8 x = load_8_for_16(src);                                              \
        return widen_f8(x, special_##kind(x), &S##_to_f16_by, sign);            \
    }                                                                           \
    INLINE block32 load_##S(const uint8_t *src)                                 \
    {                                                                           \
        v8 x = load_8_for_32(src);                                              \
        return zip_high(widen_f8(x, special_##kind(x), &S##_to_bf16_by, sign)); \
    }

WIDEN_F8(e4m3, e4m3, 0x80)
WIDEN_F8(e5m2, e5m2, 0x80)
WIDEN_F8(e4m3fnuz, fnuz, 0)
WIDEN_F8(e5m2fnuz, fnuz, 0)

/* store_X: BLOCK elements from F32 to memory. */

INLINE void store_16(uint8_t *dst, block16 x)
{
    for (int i = 0; i < 2; i++)
        store_vector(dst + 4 * LANES * i, (v32)x.v[i]);
}

INLINE void store_f32(uint8_t *dst, block32 x)
{
    for (int i = 0; i < 4; i++)
        store_vector(dst + 4 * LANES * i, x.v[i]);
}

/* Weights have no NaN: so its quiet bit waits for a block that has one. Its low half must not round up. */
INLINE void store_bf16(uint8_t *dst, block32 x)
{
    if (__builtin_expect(any_nan(x), 0))
        for (int i = 0; i < 4; i++)
            x.v[i] = select_nan(x.v[i], x.v[i], (x.v[i] | 0x00400000) & 0xFFFF0000);
    for (int i = 0; i < 4; i++)
        x.v[i] = round_high(x.v[i]);
    store_16(dst, narrow_high(x));
}

/*
 * F32 to F8 magnitudes with so many bits of mantissa, in the low bytes of lanes. min_exponent is the exponent in
 * F32 of the smallest normal one; limit is what all that is too large becomes before it is rounded, to infinity
 * or NaN.
 *
 * Adding 2^(23 - bits) of the number's own power of two makes the adder round where the mantissa ends, and that
 * of the smallest exponent makes it round subnormals; the low bits of the sum are then the mantissa with its
 * leading one, if it has one, and its exponent goes on top of that. What the exponent is too large by is put
 * below the power of two, modulo 2^16.
 */
INLINE v32 narrow_f8(v32 x, uint32_t bits, uint32_t min_exponent, uint32_t limit)
{
    uint32_t shift = 23 - bits;
    uint32_t bias = 0x10000 - ((min_exponent + shift) << bits);
    v32 mag = min32(x & 0x7FFFFFFF, set32(limit));
    v32 exponent = max32(mag & 0x7F800000, set32(min_exponent << 23));
    v32 sum = add_scaled(mag, exponent, shift, bias);
    return sum + (sum >> shift);
}

INLINE void store_e4m3(uint8_t *dst, block32 x)
{
    block32 y;
    for (int i = 0; i < 4; i++)
        y.v[i] = narrow_f8(x.v[i], 3, 127 - 6, 0x43F00000);
    store_vector(dst, (v32)order_32(narrow_8(y) | (narrow_sign(x) & 0x80)));
}

INLINE void store_e5m2(uint8_t *dst, block32 x)
{
    block32 y;
    for (int i = 0; i < 4; i++)
        y.v[i] = narrow_f8(x.v[i], 2, 127 - 14, 0x47800000);
    if (__builtin_expect(any_nan(x), 0))
        for (int i = 0; i < 4; i++)
            y.v[i] = select_nan(y.v[i], x.v[i], set32(0x7E));
    store_vector(dst, (v32)order_32(narrow_8(y) | (narrow_sign(x) & 0x80)));
}

/* Zero has no sign here, and the NaN that limit rounds to is 0x80. */
INLINE void store_fnuz(uint8_t *dst, block32 x, uint32_t bits, uint32_t min_exponent, uint32_t limit)
{
    block32 y;
    for (int i = 0; i < 4; i++)
        y.v[i] = narrow_f8(x.v[i], bits, min_exponent, limit);
    v8 mag = narrow_8(y);
    store_vector(dst, (v32)order_32(mag | (narrow_sign(x) & 0x80 & (v8)(mag != 0))));
}

INLINE void store_e4m3fnuz(uint8_t *dst, block32 x)
{
    store_fnuz(dst, x, 3, 127 - 7, 0x43800000);
}

INLINE void store_e5m2fnuz(uint8_t *dst, block32 x)
{
    store_fnuz(dst, x, 2, 127 - 15, 0x47800000);
}

/*
 * The magnitudes of 16-bit floats with so many bits of mantissa to F8 magnitudes with 3 or 2; lowest is the
 * exponent in the 16-bit float of half of the smallest F8.
 *
 * The significand is scaled so that F8's last place is the same bit in all lanes: by as much for all normal
 * results, half as much with each exponent below. Half an odd number's last place rounds up, that of an even
 * one less a little does not.
 */
INLINE v16 narrow_16(v16 x, int mantissa, int bits, int lowest, const uint8_t scale[16])
{
    v16 one = set16((uint16_t)(1 << mantissa));
    v16 above = subs16((x + x) >> (mantissa + 1), set16((uint16_t)(lowest - 1)));
    v16 subnormal = min16(above, set16((uint16_t)(bits + 2)));
    v16 significand = ((x & (one - 1)) | one) * (v16)lookup((v8)subnormal, scale);
    v16 even = (v16)((significand & (uint16_t)(0x4000 >> bits)) == 0);
    v16 rounded = mul_round(significand + even, set16((uint16_t)(2 << bits)));
    return rounded + ((above - subnormal) << bits);
}

static const uint8_t f16_scale_3[16] = {0, 1, 2, 4, 8, 16};
static const uint8_t bf16_scale_3[16] = {0, 8, 16, 32, 64, 128};
static const uint8_t bf16_scale_2[16] = {0, 16, 32, 64, 128};

INLINE v16 f16_as_e4m3(v16 x)
{
    return min16(narrow_16(x, 10, 3, 15 - 10, f16_scale_3), set16(0x7F));
}

INLINE v16 f16_as_e4m3fnuz(v16 x)
{
    return min16(narrow_16(x, 10, 3, 15 - 11, f16_scale_3), set16(0x80));
}

INLINE v16 bf16_as_e4m3(v16 x)
{
    return min16(narrow_16(x, 7, 3, 127 - 10, bf16_scale_3), set16(0x7F));
}

INLINE v16 bf16_as_e4m3fnuz(v16 x)
{
    return min16(narrow_16(x, 7, 3, 127 - 11, bf16_scale_3), set16(0x80));
}

INLINE v16 bf16_as_e5m2(v16 x)
{
    v16 y = min16(narrow_16(x, 7, 2, 127 - 17, bf16_scale_2), set16(0x7C));
    return select_gt16(y, x & 0x7FFF, set16(0x7F80), set16(0x7E));
}

INLINE v16 bf16_as_e5m2fnuz(v16 x)
{
    return min16(narrow_16(x, 7, 2, 127 - 18, bf16_scale_2), set16(0x80));
}

INLINE v16 f16_as_e5m2(v16 x)
{
    v16 mag = x & 0x7FFF;
    v16 y = (mag + 0x7F + (mag >> 8 & 1)) >> 8;
    return select_gt16(y, mag, set16(0x7C00), set16(0x7E));
}

/* Its exponent is one more; F16's subnormals become normal by being doubled. */
INLINE v16 f16_as_e5m2fnuz(v16 x)
{
    v16 mag = min16(x + x, (x & 0x7FFF) + 0x400);
    return min16((mag + 0x7F + (mag >> 8 & 1)) >> 8, set16(0x80));
}

INLINE void store_signed(uint8_t *dst, block16 mag, block16 sign)
{
    store_vector(dst, (v32)order_16(pack_8(mag) | (pack_sign(sign) & 0x80)));
}

INLINE void store_unsigned_zero(uint8_t *dst, block16 mag, block16 sign)
{
    v8 y = pack_8(mag);
    store_vector(dst, (v32)order_16(y | (pack_sign(sign) & 0x80 & (v8)(y != 0))));
}

#define STORE_F8_OF(S, D, store)                                            \
    INLINE void store_##D##_of_##S(uint8_t *dst, block16 x)                 \
    {                                                                       \
        store(dst, (block16){{S##_as_##D(x.v[0]), S##_as_##D(x.v[1])}}, x); \
    }

STORE_F8_OF(f16, e4m3, store_signed)
STORE_F8_OF(f16, e5m2, store_signed)
STORE_F8_OF(f16, e4m3fnuz, store_unsigned_zero)
STORE_F8_OF(f16, e5m2fnuz, store_unsigned_zero)
STORE_F8_OF(bf16, e4m3, store_signed)
STORE_F8_OF(bf16, e5m2, store_signed)
STORE_F8_OF(bf16, e4m3fnuz, store_unsigned_zero)
STORE_F8_OF(bf16, e5m2fnuz, store_unsigned_zero)

/*
 * F16 to BF16 in words, for blocks in which all are normal: the mantissa is rounded to seven bits, halves to even,
 * and the exponent moved. Weights have few subnormals, and zeros, so that few blocks have to go by way of F32.
 */
INLINE v16 f16_normal_as_bf16(v16 x)
{
    v16 even = (v16)((x & 8) == 0);
    v16 rounded = mul_round(x + even, set16(1 << 12));
    /* The sign's copies lie between it and the exponent. */
    return (rounded & 0x8FFF) + ((127 - 15) << 7);
}

/* 0x8800 or more for a normal word, less for any other. */
INLINE v16 normality_f16(v16 x)
{
    return 0x3FF - (x & 0x7FFF);
}

INLINE void block_f16_to_bf16(uint8_t *dst, const uint8_t *src)
{
    block16 x = {{(v16)load_vector(src), (v16)load_vector(src + 4 * LANES)}};
    v16 least = min16(normality_f16(x.v[0]), normality_f16(x.v[1]));
    v16 is_special = ~(least & (least - 0x800)) & 0x8000;
    if (__builtin_expect(any_top_bit((v8)is_special), 0))
        store_bf16(dst, load_f16(src));
    else
        store_16(dst, (block16){{f16_normal_as_bf16(x.v[0]), f16_normal_as_bf16(x.v[1])}});
}

/* A block of each other pair. */

#define BLOCK_BY_F32(D, S)                                           \
    INLINE void block_##S##_to_##D(uint8_t *dst, const uint8_t *src) \
    {                                                                \
        store_##D(dst, load_##S(src));                               \
    }

#define BLOCK_BY_16(D, S)                                            \
    INLINE void block_##S##_to_##D(uint8_t *dst, const uint8_t *src) \
    {                                                                \
        store_16(dst, S##_in_##D(src));                              \
    }

#define BLOCK_FROM_16(D, S)                                                       \
    INLINE void block_##S##_to_##D(uint8_t *dst, const uint8_t *src)              \
    {                                                                             \
        block16 x = {{(v16)load_vector(src), (v16)load_vector(src + 4 * LANES)}}; \
        store_##D##_of_##S(dst, x);                                               \
    }

#define BLOCK_BY_F16(D, S)                                           \
    INLINE void block_##S##_to_##D(uint8_t *dst, const uint8_t *src) \
    {                                                                \
        store_##D##_of_f16(dst, S##_in_f16(src));                    \
    }

LDS_FOR_EACH_PAIR_BY_F32(BLOCK_BY_F32)
LDS_FOR_EACH_F8_TO_16(BLOCK_BY_16)
LDS_FOR_EACH_16_TO_F8(BLOCK_FROM_16)
LDS_FOR_EACH_F8_TO_F8(BLOCK_BY_F16)

/*
 * A kernel: whole blocks, then the rest by way of a block on the stack, so that nothing outside
 * the n elements is read or written, and dst may be src.
 */
#define KERNEL_BY_BLOCKS(name, D, S)                                         \
    TARGET static void name(void *dst, const void *src, size_t n)            \
    {                                                                        \
        enum { IN = S##_nbytes, OUT = D##_nbytes };                          \
        const uint8_t *in = src;                                             \
        uint8_t *out = dst;                                                  \
        fp_mode mode = fp_enter();                                           \
        for (; n >= BLOCK; n -= BLOCK, in += BLOCK * IN, out += BLOCK * OUT) \
            block_##S##_to_##D(out, in);                                     \
        if (n) {                                                             \
            uint8_t rest[BLOCK * IN] = {0}, done[BLOCK * OUT];               \
            size_t in_nbytes = n * IN, out_nbytes = n * OUT;                 \
            memcpy(rest, in, in_nbytes);                                     \
            block_##S##_to_##D(done, rest);                                  \
            memcpy(out, done, out_nbytes);                                   \
        }                                                                    \
        fp_leave(mode);                                                      \
    }

enum {
    f16_nbytes = 2,
    bf16_nbytes = 2,
    f32_nbytes = 4,
    f64_nbytes = 8,
    e4m3_nbytes = 1,
    e5m2_nbytes = 1,
    e4m3fnuz_nbytes = 1,
    e5m2fnuz_nbytes = 1
};

/* The kernel of a pair. */
#define KERNEL(D, S) KERNEL_BY_BLOCKS(S##_to_##D, D, S)

/*
 * F8 to F8 by table, where there are enough of them: each of eight lookups sees all magnitudes from 16 k on, and
 * adds to what the ones before have left there the difference between its 16 results and theirs.
 */
enum { TABLE_NBYTES = 128, TABLE_MIN_N = 2048 };

typedef struct f8_table {
    uint8_t differences[TABLE_NBYTES / 16][16];
    uint8_t nan; /* the result of 0x80, where that is no zero */
} f8_table;

INLINE f8_table make_f8_table(lds_convert_fn convert)
{
    uint8_t all[TABLE_NBYTES + 1], results[TABLE_NBYTES + 1];
    for (int i = 0; i <= TABLE_NBYTES; i++)
        all[i] = (uint8_t)i;
    convert(results, all, sizeof all);
    f8_table t = {.nan = results[TABLE_NBYTES]};
    for (int i = 0; i < TABLE_NBYTES; i++)
        t.differences[i / 16][i % 16] = results[i] ^ (i < 16 ? 0 : results[i - 16]);
    return t;
}

INLINE v8 look_up_f8(v8 x, const f8_table *t, bool from_fnuz, bool to_fnuz)
{
    v8 i = x & 0x7F, y = lookup(i, t->differences[0]);
    for (int k = 1; k < TABLE_NBYTES / 16; k++) {
        i -= 16; /* 128 and more once it is below 0 */
        y ^= lookup(i, t->differences[k]);
    }
    v8 sign = x & 0x80;
    if (to_fnuz)
        sign &= (v8)(y != 0);
    y |= sign;
    if (from_fnuz) {
        v8 is_nan = (v8)(x == 0x80);
        y = (y & ~is_nan) | (is_nan & t->nan);
    }
    return y;
}

#define KERNEL_BY_TABLE(D, S)                                                        \
    KERNEL_BY_BLOCKS(S##_to_##D##_by_f16, D, S)                                      \
    TARGET static void S##_to_##D(void *dst, const void *src, size_t n)              \
    {                                                                                \
        const uint8_t *in = src;                                                     \
        uint8_t *out = dst;                                                          \
        if (n >= TABLE_MIN_N) {                                                      \
            const f8_table t = make_f8_table(S##_to_##D##_by_f16);                   \
            for (; n >= BLOCK; n -= BLOCK, in += BLOCK, out += BLOCK) {              \
                v8 x = (v8)load_vector(in);                                          \
                store_vector(out, (v32)look_up_f8(x, &t, S##_is_fnuz, D##_is_fnuz)); \
            }                                                                        \
        }                                                                            \
        S##_to_##D##_by_f16(out, in, n);                                             \
    }

enum { e4m3_is_fnuz = 0, e5m2_is_fnuz = 0, e4m3fnuz_is_fnuz = 1, e5m2fnuz_is_fnuz = 1 };

LDS_FOR_EACH_F8_TO_16(KERNEL)
LDS_FOR_EACH_16_TO_F8(KERNEL)
LDS_FOR_EACH_PAIR_BY_F32(KERNEL)
KERNEL(bf16, f16)
LDS_FOR_EACH_F8_TO_F8(KERNEL_BY_TABLE)

#ifdef STREAMS
#define load_stored_bf16 load_vector
#define load_stored_f32 load_vector

/* The compiler keeps the block in registers, as long as it is loaded in the pieces in which it was stored. */
#define KERNEL_STREAMED(D, S)                                                      \
    TARGET static void S##_to_##D##_streamed(void *dst, const void *src, size_t n) \
    {                                                                              \
        enum { IN = S##_nbytes, OUT = D##_nbytes };                                \
        const uint8_t *in = src;                                                   \
        uint8_t *out = dst;                                                        \
        fp_mode mode = fp_enter();                                                 \
        for (; n; n -= BLOCK, in += BLOCK * IN, out += BLOCK * OUT) {              \
            uint8_t block[BLOCK * OUT];                                            \
            block_##S##_to_##D(block, in);                                         \
            for (int i = 0; i < BLOCK * OUT; i += 4 * LANES)                       \
                stream_vector(out + i, load_stored_##D(block + i));                \
        }                                                                          \
        fp_leave(mode);                                                            \
    }

LDS_FOR_EACH_STREAMED_PAIR(KERNEL_STREAMED)
#endif
