/* Converting into memory that is not in cache and will not be read soon. */
#ifndef LDS_DTYPE_STREAM_H
#define LDS_DTYPE_STREAM_H

#include "src/dtype/convert.h"

/*
 * As lds_convert_kernel(dst_dtype, src_dtype)(dst, src, n), but past the cache where the machine can: a plain
 * store into memory that is not in cache first reads what it is about to overwrite. Good for memory that was
 * used before; bad for fresh memory, which the kernel has just left zeroed in cache. dst and src do not overlap.
 */
void lds_convert_stream(void *dst, lds_dtype dst_dtype, const void *src, lds_dtype src_dtype, size_t n);

/* memcpy(dst, src, nbytes) in the same way. */
void lds_copy_stream(void *dst, const void *src, size_t nbytes);

#endif
