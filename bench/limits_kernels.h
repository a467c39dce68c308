/* Converting loops that owe nothing to the library's, so that it is not measured by its own ruler. */
#ifndef BENCH_LIMITS_KERNELS_H
#define BENCH_LIMITS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "loadstone.h"

/* n is a multiple of 32 and dst is aligned to 64 bytes. */
typedef void (*limits_kernel)(void *dst, const void *src, size_t n);

/*
 * The widest loop that this machine has for a pair, or NULL if there is none. With stream, its stores go past
 * the caches; NULL where that makes no difference. *isa becomes the name of its instruction set.
 */
limits_kernel limits_kernel_find(lds_dtype dst, lds_dtype src, bool stream, const char **isa);

#endif
