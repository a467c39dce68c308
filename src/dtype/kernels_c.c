/* The kernels in C, for machines that have none of the vector ones, and to check those against. */
#include <string.h>

#include "src/dtype/kernels.h"
#include "src/dtype/scalar.h"

typedef uint16_t f16;
typedef uint16_t bf16;
typedef uint32_t f32;
typedef uint64_t f64;
typedef uint8_t e4m3;
typedef uint8_t e5m2;
typedef uint8_t e4m3fnuz;
typedef uint8_t e5m2fnuz;

/* memcpy, because neither side need be aligned; the compiler makes it a plain load or store. */
#define KERNEL(D, S)                                             \
    static void S##_to_##D(void *dst, const void *src, size_t n) \
    {                                                            \
        for (size_t i = 0; i < n; i++) {                         \
            S x;                                                 \
            memcpy(&x, (const S *)src + i, sizeof x);            \
            D y = from_f32_##D(to_f32_##S(x));                   \
            memcpy((D *)dst + i, &y, sizeof y);                  \
        }                                                        \
    }

LDS_FOR_EACH_PAIR(KERNEL)

const lds_kernels lds_kernels_c = {.kernel = {LDS_FOR_EACH_PAIR(LDS_TABLE_ENTRY)}};
