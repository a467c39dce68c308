/*
 * The floating-point environment of a kernel on x86: rounding to nearest, subnormals kept, nothing trapped,
 * whatever the caller has set; and on leaving, the caller's, its exception flags too. MXCSR is written only where
 * that changes it: on a Sapphire Rapids, writing it twice takes as long as converting a thousand elements.
 *
 * The compiler does not know that arithmetic depends on MXCSR. That memory may change at both ends keeps the
 * kernels' loads and stores, and so what is between them, inside.
 */
#ifndef LDS_DTYPE_X86_FP_MODE_H
#define LDS_DTYPE_X86_FP_MODE_H

#include <immintrin.h>

typedef unsigned fp_mode;

enum { MXCSR_DEFAULT = 0x1F80, MXCSR_FLAGS = 0x3F };

static inline __attribute__((always_inline)) fp_mode fp_enter(void)
{
    fp_mode mode = _mm_getcsr();
    if ((mode & ~(unsigned)MXCSR_FLAGS) != MXCSR_DEFAULT)
        _mm_setcsr(MXCSR_DEFAULT);
    __asm__ volatile("" ::: "memory");
    return mode;
}

static inline __attribute__((always_inline)) void fp_leave(fp_mode mode)
{
    __asm__ volatile("" ::: "memory");
    if (_mm_getcsr() != mode)
        _mm_setcsr(mode);
}

/*
 * clang that knows an F32 vector to come from F16 compares halves instead, for which there is no instruction,
 * one by one: twenty times slower. This is no instruction, and what x was before is forgotten.
 */
#define HIDE_ORIGIN(x) __asm__("" : "+v"(x))

#endif
