/* The conversion kernels: one function for each ordered pair of float dtypes. */
#ifndef LDS_DTYPE_CONVERT_H
#define LDS_DTYPE_CONVERT_H

#include "src/base/error.h"

enum { LDS_LINE_NBYTES = 64 }; /* of a processor's cache */

/* How many elements there are before the first cache line. The next one begins it if dst is aligned to elements. */
static inline size_t lds_elements_before_line(const void *dst, size_t element_nbytes)
{
    return -(uintptr_t)dst % LDS_LINE_NBYTES / element_nbytes;
}

typedef void (*lds_convert_fn)(void *dst, const void *src, size_t n);

/*
 * The best kernel of this machine for a pair; copies for equal dtypes of whole bytes; NULL if there is no
 * conversion. A kernel takes unaligned pointers and n = 0. dst may equal src if both dtypes have one size.
 */
lds_convert_fn lds_convert_kernel(lds_dtype dst, lds_dtype src);

/* Run it, with whole vectors from a cache line of dst on. There has to be one. */
void lds_convert_elements(void *dst, lds_dtype dst_dtype, const void *src, lds_dtype src_dtype, size_t n);

/*
 * One whose stores go past the cache, with no fence behind them; NULL if there is none. It takes a dst at a cache line
 * that is not src, and an n that is a multiple of LDS_STREAM_GRAIN.
 */
lds_convert_fn lds_stream_kernel(lds_dtype dst, lds_dtype src);

enum { LDS_STREAM_GRAIN = 64 };

#endif
