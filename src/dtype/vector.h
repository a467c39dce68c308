/*
 * The vectors of one instruction set. Parameters, which the including file defines:
 *
 *   LANES     32-bit lanes of a vector: 4, 8 or 16
 *   TARGET    attributes that every function needs: those of the instruction set
 *
 * These are GCC's and clang's vector types, so that arithmetic is written with operators, and only what C has
 * no operator for is an intrinsic.
 */
#include "src/dtype/kernels.h"

/* Elements that are converted at once: four vectors as F32, or two with 16-bit lanes, or the bytes of one. */
enum { BLOCK = 4 * LANES };

typedef uint32_t v32 __attribute__((vector_size(4 * LANES)));
typedef uint16_t v16 __attribute__((vector_size(4 * LANES)));
typedef uint8_t v8 __attribute__((vector_size(4 * LANES)));
typedef float vf32 __attribute__((vector_size(4 * LANES)));

typedef struct block32 {
    v32 v[4];
} block32;

typedef struct block16 {
    v16 v[2];
} block16;

#define INLINE TARGET static inline __attribute__((always_inline))

/* Whole vectors from and to memory, wherever they are. */
typedef v32 v32_unaligned __attribute__((aligned(1), may_alias));

INLINE v32 load_vector(const uint8_t *src)
{
    return *(const v32_unaligned *)src;
}

INLINE void store_vector(uint8_t *dst, v32 x)
{
    *(v32_unaligned *)dst = x;
}
