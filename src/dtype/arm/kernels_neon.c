/* The kernels for Advanced SIMD (NEON) on 64-bit arm, as ARMv8.0 has it. */
#include <arm_neon.h>

#define LANES 4
#define TARGET
#include "src/dtype/vector.h"

/* FPCR, which holds rounding and flush-to-zero, is 0 by default. See x86/fp_mode.h. */
typedef uint64_t fp_mode;

INLINE void set_fpcr(fp_mode mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
}

INLINE fp_mode fp_enter(void)
{
    fp_mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode) : : "memory");
    if (mode)
        set_fpcr(0);
    return mode;
}

INLINE void fp_leave(fp_mode mode)
{
    if (mode)
        set_fpcr(mode);
}

INLINE v32 min32(v32 a, v32 b)
{
    return (v32)vminq_s32((int32x4_t)a, (int32x4_t)b);
}

INLINE v32 max32(v32 a, v32 b)
{
    return (v32)vmaxq_s32((int32x4_t)a, (int32x4_t)b);
}

/* The larger of two numbers is NaN if one of them is; in the whole vector, if there is one. */
INLINE bool any_nan(block32 x)
{
    float32x4_t low = vmaxq_f32((float32x4_t)x.v[0], (float32x4_t)x.v[1]);
    float32x4_t high = vmaxq_f32((float32x4_t)x.v[2], (float32x4_t)x.v[3]);
    float32_t most = vmaxvq_f32(vmaxq_f32(low, high));
    return most != most;
}

INLINE v32 select_nan(v32 v, v32 x, v32 w)
{
    uint32x4_t number = vceqq_f32((float32x4_t)x, (float32x4_t)x);
    return (v32)vbslq_u32(number, (uint32x4_t)v, (uint32x4_t)w);
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
    return (v16)vbslq_u16(vcgtq_s16((int16x8_t)a, (int16x8_t)b), (uint16x8_t)w, (uint16x8_t)v);
}

INLINE v8 adds8(v8 a, v8 b)
{
    return (v8)vqaddq_u8((uint8x16_t)a, (uint8x16_t)b);
}

INLINE v16 subs16(v16 a, v16 b)
{
    return (v16)vqsubq_u16((uint16x8_t)a, (uint16x8_t)b);
}

INLINE v16 min16(v16 a, v16 b)
{
    return (v16)vminq_u16((uint16x8_t)a, (uint16x8_t)b);
}

INLINE v16 mul_round(v16 a, v16 b)
{
    return (v16)vqrdmulhq_s16((int16x8_t)a, (int16x8_t)b);
}

/* Indices of 16 and more give 0. */
INLINE v8 lookup(v8 i, const uint8_t table[16])
{
    return (v8)vqtbl1q_u8(vld1q_u8(table), (uint8x16_t)(i & 0x8F));
}

INLINE bool any_top_bit(v8 x)
{
    return vmaxvq_u8((uint8x16_t)x) >= 128;
}

/* Here all that is zipped and packed is in order. */
INLINE v8 load_8_for_16(const uint8_t *src)
{
    return (v8)load_vector(src);
}

INLINE v8 load_8_for_32(const uint8_t *src)
{
    return (v8)load_vector(src);
}

INLINE block16 zip_8(v8 low, v8 high)
{
    return (block16){{(v16)vzip1q_u8((uint8x16_t)low, (uint8x16_t)high),
                      (v16)vzip2q_u8((uint8x16_t)low, (uint8x16_t)high)}};
}

INLINE v8 pack_8(block16 x)
{
    return (v8)vuzp1q_u8((uint8x16_t)x.v[0], (uint8x16_t)x.v[1]);
}

INLINE v8 pack_sign(block16 x)
{
    return (v8)vuzp2q_u8((uint8x16_t)x.v[0], (uint8x16_t)x.v[1]);
}

INLINE v8 order_16(v8 x)
{
    return x;
}

INLINE block32 zip_high(block16 x)
{
    block32 y;
    for (int i = 0; i < 2; i++) {
        y.v[2 * i] = (v32)vshll_n_u16(vget_low_u16((uint16x8_t)x.v[i]), 16);
        y.v[2 * i + 1] = (v32)vshll_high_n_u16((uint16x8_t)x.v[i], 16);
    }
    return y;
}

INLINE block32 load_16(const uint8_t *src)
{
    return zip_high((block16){{(v16)load_vector(src), (v16)load_vector(src + 16)}});
}

INLINE block16 narrow_high(block32 x)
{
    block16 y;
    for (int i = 0; i < 2; i++)
        y.v[i] = (v16)vuzp2q_u16((uint16x8_t)x.v[2 * i], (uint16x8_t)x.v[2 * i + 1]);
    return y;
}

INLINE v8 narrow_8(block32 x)
{
    uint16x8_t low = vuzp1q_u16((uint16x8_t)x.v[0], (uint16x8_t)x.v[1]);
    uint16x8_t high = vuzp1q_u16((uint16x8_t)x.v[2], (uint16x8_t)x.v[3]);
    return (v8)vuzp1q_u8((uint8x16_t)low, (uint8x16_t)high);
}

INLINE v8 narrow_sign(block32 x)
{
    block16 y = narrow_high(x);
    return (v8)vuzp2q_u8((uint8x16_t)y.v[0], (uint8x16_t)y.v[1]);
}

INLINE v8 order_32(v8 x)
{
    return x;
}

INLINE block32 load_f16(const uint8_t *src)
{
    block32 x;
    for (int i = 0; i < 2; i++) {
        float16x8_t eight = (float16x8_t)load_vector(src + 16 * i);
        x.v[2 * i] = (v32)vcvt_f32_f16(vget_low_f16(eight));
        x.v[2 * i + 1] = (v32)vcvt_high_f32_f16(eight);
    }
    return x;
}

INLINE void store_f16(uint8_t *dst, block32 x)
{
    for (int i = 0; i < 2; i++) {
        float16x4_t low = vcvt_f16_f32((float32x4_t)x.v[2 * i]);
        store_vector(dst + 16 * i, (v32)vcvt_high_f16_f32(low, (float32x4_t)x.v[2 * i + 1]));
    }
}

INLINE block32 load_f64(const uint8_t *src)
{
    block32 x;
    for (int i = 0; i < 4; i++) {
        float32x2_t low = vcvt_f32_f64((float64x2_t)load_vector(src + 32 * i));
        x.v[i] = (v32)vcvt_high_f32_f64(low, (float64x2_t)load_vector(src + 32 * i + 16));
    }
    return x;
}

INLINE void store_f64(uint8_t *dst, block32 x)
{
    for (int i = 0; i < 4; i++) {
        store_vector(dst + 32 * i, (v32)vcvt_f64_f32(vget_low_f32((float32x4_t)x.v[i])));
        store_vector(dst + 32 * i + 16, (v32)vcvt_high_f64_f32((float32x4_t)x.v[i]));
    }
}

#include "src/dtype/convert_template.h"

const lds_kernels lds_kernels_neon = {.kernel = {LDS_FOR_EACH_PAIR(LDS_TABLE_ENTRY)}};
