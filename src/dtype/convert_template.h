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
 *   select_gt16, select_eq16 (v, a, b, w)
 *             v, but w in the lanes where a > b (signed), or a == b
 *   any_nan(block32)
 *             whether one of its lanes is NaN as F32
 *   select_nan(v, x, w)
 *             v, but w in the lanes where x is NaN as F32
 *   round_high(x)
 *             x rounded, ties to even, so that the high half of each 32-bit lane can be taken alone
 *   lookup_lt8(v, i, table)
 *             v, but table[i] in the 16-bit lanes where i < 8; i is at most 127
 *   load_8(p) BLOCK bytes to 16-bit lanes
 *   load_16(p)
 *             BLOCK 16-bit words to the high halves of 32-bit lanes, the low halves being 0
 *   widen_16(block16)
 *             the same of words in registers
 *   narrow_high(block32), narrow_8(block32), narrow_sign(block32)
 *             the high halves of 32-bit lanes; their values, which are at most 255, as bytes; bytes that have
 *             the sign bits of the lanes, and anything else below
 *   load_f16, load_f64, store_f16, store_f64
 *             BLOCK floats from memory to F32 and the other way
 *
 * Every pair is a load to F32 and a store from F32, but for F8 to the 16-bit floats, where F32 would be a
 * detour. The results are those of scalar.h, which is written for reading; here are the shorter ways to them.
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
 * F8 to a float of 16 bits that holds all its values. The exponent is moved by shift and rebias; the magnitudes
 * below 8, where subnormals are, come from a table; then what is special is put right.
 */
typedef struct f8_to_16 {
    int shift;
    uint16_t rebias;
    uint16_t inf, nan; /* of the 16-bit float */
    uint16_t low[8];
} f8_to_16;

static const f8_to_16 e4m3_to_bf16_by = {
    4, (127 - 7) << 7, 0x7F80, 0x7FC0, {0, 0x3B00, 0x3B80, 0x3BC0, 0x3C00, 0x3C20, 0x3C40, 0x3C60}};
static const f8_to_16 e4m3fnuz_to_bf16_by = {
    4, (127 - 8) << 7, 0x7F80, 0x7FC0, {0, 0x3A80, 0x3B00, 0x3B40, 0x3B80, 0x3BA0, 0x3BC0, 0x3BE0}};
static const f8_to_16 e5m2_to_bf16_by = {
    5, (127 - 15) << 7, 0x7F80, 0x7FC0, {0, 0x3780, 0x3800, 0x3840, 0x3880, 0x38A0, 0x38C0, 0x38E0}};
static const f8_to_16 e5m2fnuz_to_bf16_by = {
    5, (127 - 16) << 7, 0x7F80, 0x7FC0, {0, 0x3700, 0x3780, 0x37C0, 0x3800, 0x3820, 0x3840, 0x3860}};
static const f8_to_16 e4m3_to_f16_by = {
    7, (15 - 7) << 10, 0x7C00, 0x7E00, {0, 0x1800, 0x1C00, 0x1E00, 0x2000, 0x2100, 0x2200, 0x2300}};
static const f8_to_16 e4m3fnuz_to_f16_by = {
    7, (15 - 8) << 10, 0x7C00, 0x7E00, {0, 0x1400, 0x1800, 0x1A00, 0x1C00, 0x1D00, 0x1E00, 0x1F00}};
static const f8_to_16 e5m2_to_f16_by = {8, 0, 0x7C00, 0x7E00, {0}}; /* the high half of an F16 */
static const f8_to_16 e5m2fnuz_to_f16_by = {
    8, 0xFC00, 0x7C00, 0x7E00, {0, 0x80, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380}};

INLINE v16 widen_e4m3(v16 x, const f8_to_16 *by)
{
    v16 mag = x & 0x7F;
    v16 y = (mag << by->shift) + by->rebias;
    y = lookup_lt8(y, mag, by->low);
    y = select_eq16(y, mag, set16(0x7F), set16(by->nan));
    return y | (x & 0x80) << 8;
}

INLINE v16 widen_e5m2(v16 x, const f8_to_16 *by)
{
    v16 mag = x & 0x7F;
    v16 y = (mag << by->shift) + by->rebias;
    if (by->rebias) {
        y = lookup_lt8(y, mag, by->low);
        y = select_eq16(y, mag, set16(0x7C), set16(by->inf));
    }
    y = select_gt16(y, mag, set16(0x7C), set16(by->nan));
    return y | (x & 0x80) << 8;
}

INLINE v16 widen_fnuz(v16 x, const f8_to_16 *by)
{
    v16 mag = x & 0x7F;
    v16 y = (mag << by->shift) + by->rebias;
    y = lookup_lt8(y, mag, by->low);
    y |= (x & 0x80) << 8;
    return select_eq16(y, x, set16(0x80), set16(by->nan));
}

#define WIDEN_F8(S, widen)                                                                  \
    INLINE block16 S##_in_bf16(const uint8_t *src)                                          \
    {                                                                                       \
        block16 x = load_8(src);                                                            \
        return (block16){{widen(x.v[0], &S##_to_bf16_by), widen(x.v[1], &S##_to_bf16_by)}}; \
    }                                                                                       \
    INLINE block16 S##_in_f16(const uint8_t *src)                                           \
    {                                                                                       \
        block16 x = load_8(src);                                                            \
        return (block16){{widen(x.v[0], &S##_to_f16_by), widen(x.v[1], &S##_to_f16_by)}};   \
    }                                                                                       \
    INLINE block32 load_##S(const uint8_t *src)                                             \
    {                                                                                       \
        return widen_16(S##_in_bf16(src));                                                  \
    }

WIDEN_F8(e4m3, widen_e4m3)
WIDEN_F8(e5m2, widen_e5m2)
WIDEN_F8(e4m3fnuz, widen_fnuz)
WIDEN_F8(e5m2fnuz, widen_fnuz)

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
 * Magnitudes to F8 magnitudes with so many bits of mantissa. min_exponent is the exponent in F32 of the smallest
 * normal one; limit is what all that is too large becomes before it is rounded, to infinity or NaN.
 *
 * Adding 2^(23 - bits) of the number's own power of two makes the adder round where the mantissa ends, and that
 * of the smallest exponent makes it round subnormals; the low bits of the sum are then the mantissa with its
 * leading one, if it has one.
 */
INLINE v32 narrow_f8(v32 mag, uint32_t bits, uint32_t min_exponent, uint32_t limit)
{
    mag = min32(mag, set32(limit));
    v32 exponent = max32(mag & 0x7F800000, set32(min_exponent << 23));
    v32 magic = exponent + ((23 - bits) << 23);
    v32 sum = (v32)((vf32)mag + (vf32)magic);
    return sum - magic + (exponent >> (23 - bits)) - (min_exponent << bits);
}

INLINE void store_e4m3(uint8_t *dst, block32 x)
{
    block32 y;
    for (int i = 0; i < 4; i++)
        y.v[i] = narrow_f8(x.v[i] & 0x7FFFFFFF, 3, 127 - 6, 0x43F00000);
    store_vector(dst, (v32)(narrow_8(y) | (narrow_sign(x) & 0x80)));
}

INLINE void store_e5m2(uint8_t *dst, block32 x)
{
    block32 y;
    for (int i = 0; i < 4; i++) {
        y.v[i] = narrow_f8(x.v[i] & 0x7FFFFFFF, 2, 127 - 14, 0x47800000);
        y.v[i] = select_nan(y.v[i], x.v[i], set32(0x7E));
    }
    store_vector(dst, (v32)(narrow_8(y) | (narrow_sign(x) & 0x80)));
}

/* Zero has no sign here, and the NaN that limit rounds to is 0x80. */
INLINE void store_fnuz(uint8_t *dst, block32 x, uint32_t bits, uint32_t min_exponent, uint32_t limit)
{
    block32 y;
    for (int i = 0; i < 4; i++)
        y.v[i] = narrow_f8(x.v[i] & 0x7FFFFFFF, bits, min_exponent, limit);
    v8 mag = narrow_8(y);
    store_vector(dst, (v32)(mag | (narrow_sign(x) & 0x80 & (v8)(mag != 0))));
}

INLINE void store_e4m3fnuz(uint8_t *dst, block32 x)
{
    store_fnuz(dst, x, 3, 127 - 7, 0x43800000);
}

INLINE void store_e5m2fnuz(uint8_t *dst, block32 x)
{
    store_fnuz(dst, x, 2, 127 - 15, 0x47800000);
}

/* A block of each pair. */

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

LDS_FOR_EACH_OTHER_PAIR(BLOCK_BY_F32)
LDS_FOR_EACH_F8_TO_16(BLOCK_BY_16)

/*
 * The kernel of a pair: whole blocks, then the rest by way of a block on the stack, so that nothing outside
 * the n elements is read or written, and dst may be src.
 */
#define KERNEL(D, S)                                                         \
    TARGET static void S##_to_##D(void *dst, const void *src, size_t n)      \
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

LDS_FOR_EACH_PAIR(KERNEL)
