/* What the processor can do, as far as the kernels care. */
#ifndef LDS_BASE_CPU_H
#define LDS_BASE_CPU_H

#include <stdint.h>

/* One bit a feature. A bit is set only if the operating system saves the registers that the feature uses. */
enum {
    LDS_CPU_AVX2 = 1 << 0,
    LDS_CPU_F16C = 1 << 1,
    LDS_CPU_AVX512F = 1 << 2,
    LDS_CPU_AVX512DQ = 1 << 3,
    LDS_CPU_AVX512BW = 1 << 4,
    LDS_CPU_AVX512VL = 1 << 5,
    LDS_CPU_AVX512VBMI = 1 << 6,
    LDS_CPU_NEON = 1 << 7
};

/* Asked of the processor on each call: callers keep what they made of it. */
uint32_t lds_cpu_features(void);

#endif
