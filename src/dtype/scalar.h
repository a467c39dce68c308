/*
 * One element at a time, in integer arithmetic: what every kernel must equal, bit for bit.
 *
 * Every conversion is to_f32_X() followed by from_f32_Y(); docs/conversion.md says what they do and why. There
 * is no floating-point arithmetic here, so that neither rounding mode nor flush-to-zero can change a result.
 */
#ifndef LDS_DTYPE_SCALAR_H
#define LDS_DTYPE_SCALAR_H

#include <stdint.h>

enum { F32_INF = 0x7F800000, F32_QUIET = 0x00400000, F32_NAN = F32_INF | F32_QUIET };

/* value / 2^shift, to nearest, ties to even; shift is 1 to 62. */
static inline uint64_t scalar_round(uint64_t value, int shift)
{
    uint64_t odd = value >> shift & 1;
    return (value + (1ULL << (shift - 1)) - 1 + odd) >> shift;
}

/*
 * A finite magnitude (a float without its sign bit) to one with fewer mantissa bits, or as many and a smaller
 * exponent range. bits and bias are those of mantissa and exponent. The result may be beyond the target's
 * largest finite value; the caller looks.
 */
static inline uint64_t scalar_narrow(uint64_t mag, int src_bits, int src_bias, int dst_bits, int dst_bias)
{
    int exponent = (int)(mag >> src_bits);
    uint64_t significand = mag & ((1ULL << src_bits) - 1);
    if (exponent)
        significand |= 1ULL << src_bits;
    else
        exponent = 1;
    exponent += dst_bias - src_bias;
    int shift = src_bits - dst_bits;
    if (exponent < 1) {
        shift += 1 - exponent;
        exponent = 1;
    }
    if (shift > 62)
        return 0;
    /* The leading one, if there is one, adds 1 to the exponent; so does a carry. */
    return ((uint64_t)(exponent - 1) << dst_bits) + scalar_round(significand, shift);
}

/* A finite magnitude to a wider float, whose normal range takes in the narrower one's subnormals. */
static inline uint64_t scalar_widen(uint64_t mag, int src_bits, int src_bias, int dst_bits, int dst_bias)
{
    if (!mag)
        return 0;
    int shift = dst_bits - src_bits;
    int exponent = dst_bias - src_bias;
    if (!(mag >> src_bits)) {
        int zeros = __builtin_clzll(mag) - (63 - src_bits);
        shift += zeros;
        exponent += 1 - zeros;
        mag &= ~(1ULL << (src_bits - zeros));
    }
    return ((uint64_t)exponent << dst_bits) + (mag << shift);
}

static inline uint32_t to_f32_f32(uint32_t x)
{
    return x;
}

static inline uint32_t to_f32_bf16(uint16_t x)
{
    return (uint32_t)x << 16;
}

static inline uint32_t to_f32_f16(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, mag = x & 0x7FFF;
    if (mag >= 0x7C00)
        return sign | F32_INF | (mag > 0x7C00 ? F32_QUIET : 0) | (mag & 0x3FF) << 13;
    return sign | (uint32_t)scalar_widen(mag, 10, 15, 23, 127);
}

static inline uint32_t to_f32_f64(uint64_t x)
{
    uint32_t sign = (uint32_t)(x >> 32) & 0x80000000;
    uint64_t mag = x & INT64_MAX;
    if (mag > 0x7FF0000000000000)
        return sign | F32_INF | F32_QUIET | ((uint32_t)(mag >> 29) & 0x7FFFFF);
    uint64_t narrow = mag < 0x7FF0000000000000 ? scalar_narrow(mag, 52, 1023, 23, 127) : F32_INF;
    return sign | (uint32_t)(narrow < F32_INF ? narrow : F32_INF);
}

static inline uint32_t to_f32_e4m3(uint8_t x)
{
    uint32_t sign = (uint32_t)(x & 0x80) << 24, mag = x & 0x7F;
    if (mag == 0x7F)
        return sign | F32_NAN;
    return sign | (uint32_t)scalar_widen(mag, 3, 7, 23, 127);
}

static inline uint32_t to_f32_e5m2(uint8_t x)
{
    uint32_t sign = (uint32_t)(x & 0x80) << 24, mag = x & 0x7F;
    if (mag >= 0x7C)
        return sign | (mag > 0x7C ? F32_NAN : F32_INF);
    return sign | (uint32_t)scalar_widen(mag, 2, 15, 23, 127);
}

static inline uint32_t to_f32_e4m3fnuz(uint8_t x)
{
    if (x == 0x80)
        return F32_NAN;
    return (uint32_t)(x & 0x80) << 24 | (uint32_t)scalar_widen(x & 0x7F, 3, 8, 23, 127);
}

static inline uint32_t to_f32_e5m2fnuz(uint8_t x)
{
    if (x == 0x80)
        return F32_NAN;
    return (uint32_t)(x & 0x80) << 24 | (uint32_t)scalar_widen(x & 0x7F, 2, 16, 23, 127);
}

static inline uint32_t from_f32_f32(uint32_t x)
{
    return x;
}

static inline uint64_t from_f32_f64(uint32_t x)
{
    uint64_t sign = (uint64_t)(x & 0x80000000) << 32, mag = x & 0x7FFFFFFF;
    if (mag >= F32_INF)
        return sign | 0x7FF0000000000000 | (mag > F32_INF ? 1ULL << 51 : 0) | (mag & 0x7FFFFF) << 29;
    return sign | scalar_widen(mag, 23, 127, 52, 1023);
}

/* A magnitude to F16 or BF16, whose infinity is inf. */
static inline uint32_t scalar_to_16(uint32_t mag, int bits, int bias, uint32_t inf)
{
    if (mag > F32_INF)
        return inf | ((mag | F32_QUIET) >> (23 - bits) & ((1U << bits) - 1));
    uint64_t narrow = mag < F32_INF ? scalar_narrow(mag, 23, 127, bits, bias) : inf;
    return (uint32_t)(narrow < inf ? narrow : inf);
}

static inline uint16_t from_f32_f16(uint32_t x)
{
    return (uint16_t)((x >> 16 & 0x8000) | scalar_to_16(x & 0x7FFFFFFF, 10, 15, 0x7C00));
}

static inline uint16_t from_f32_bf16(uint32_t x)
{
    return (uint16_t)((x >> 16 & 0x8000) | scalar_to_16(x & 0x7FFFFFFF, 7, 127, 0x7F80));
}

static inline uint8_t from_f32_e5m2(uint32_t x)
{
    uint32_t sign = x >> 24 & 0x80, mag = x & 0x7FFFFFFF;
    if (mag > F32_INF)
        return (uint8_t)(sign | 0x7E);
    uint64_t narrow = mag < F32_INF ? scalar_narrow(mag, 23, 127, 2, 15) : 0x7C;
    return (uint8_t)(sign | (narrow < 0x7C ? narrow : 0x7C));
}

static inline uint8_t from_f32_e4m3(uint32_t x)
{
    uint32_t mag = x & 0x7FFFFFFF;
    uint64_t narrow = mag < F32_INF ? scalar_narrow(mag, 23, 127, 3, 7) : 0x7F;
    return (uint8_t)((x >> 24 & 0x80) | (narrow < 0x7F ? narrow : 0x7F));
}

/* To a type without infinity and negative zero, whose only NaN is 0x80. */
static inline uint8_t scalar_fnuz(uint32_t x, int bits, int bias)
{
    uint32_t mag = x & 0x7FFFFFFF;
    uint64_t narrow = mag < F32_INF ? scalar_narrow(mag, 23, 127, bits, bias) : 0x80;
    if (narrow > 0x7F)
        return 0x80;
    return (uint8_t)((narrow ? x >> 24 & 0x80 : 0) | narrow);
}

static inline uint8_t from_f32_e4m3fnuz(uint32_t x)
{
    return scalar_fnuz(x, 3, 8);
}

static inline uint8_t from_f32_e5m2fnuz(uint32_t x)
{
    return scalar_fnuz(x, 2, 16);
}

#endif
