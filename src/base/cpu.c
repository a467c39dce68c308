/*
 * CPU features: cpuid and XCR0 on x86, the auxiliary vector on arm, none elsewhere.
 *
 * Written out, and not left to __builtin_cpu_supports(), because that lists other names on each compiler and
 * is absent on arm.
 */
#include "src/base/cpu.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* Bits of XCR0: which registers the operating system saves. */
enum { XCR0_SSE_AVX = 0x06, XCR0_AVX512 = 0xE0 };

static uint32_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static uint32_t bit_if(uint32_t word, int bit, uint32_t feature)
{
    return word >> bit & 1 ? feature : 0;
}

uint32_t lds_cpu_features(void)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) /* OSXSAVE: xgetbv may be used */
        return 0;
    uint32_t xcr0 = read_xcr0();
    if ((xcr0 & XCR0_SSE_AVX) != XCR0_SSE_AVX)
        return 0;
    uint32_t features = bit_if(c, 29, LDS_CPU_F16C);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return features;
    features |= bit_if(b, 5, LDS_CPU_AVX2);
    if ((xcr0 & XCR0_AVX512) == XCR0_AVX512)
        features |= bit_if(b, 16, LDS_CPU_AVX512F) | bit_if(b, 17, LDS_CPU_AVX512DQ) |
                    bit_if(b, 30, LDS_CPU_AVX512BW) | bit_if(b, 31, LDS_CPU_AVX512VL) |
                    bit_if(c, 1, LDS_CPU_AVX512VBMI);
    return features;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

enum { HWCAP_ADVANCED_SIMD = 1 << 1 };

uint32_t lds_cpu_features(void)
{
    return getauxval(AT_HWCAP) & HWCAP_ADVANCED_SIMD ? LDS_CPU_NEON : 0;
}

#elif defined(__aarch64__)

uint32_t lds_cpu_features(void)
{
    return LDS_CPU_NEON;
}

#else

uint32_t lds_cpu_features(void)
{
    return 0;
}

#endif
