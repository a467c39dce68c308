/* The dtype table, inside the library. */
#ifndef LDS_DTYPE_DTYPE_H
#define LDS_DTYPE_DTYPE_H

#include "src/base/error.h"

/*
 * Bytes of numel elements; LDS_ERR_MALFORMED if they overflow or, for F4 and F6, do not fill whole bytes. The
 * error is without a name.
 */
lds_status lds_dtype_nbytes(uint64_t *nbytes, lds_dtype dtype, uint64_t numel, lds_error *err);

/* As many dimensions as a tensor or a parameter may have. */
enum { LDS_MAX_DIMS = 64 };

/* The product of a shape, checked; 1 for a scalar. */
lds_status lds_shape_numel(uint64_t *numel, uint32_t n_dims, const uint64_t *shape, lds_error *err);

/* "[2, 3]" into text, cut to size. Returns text. */
const char *lds_shape_text(char *text, size_t size, uint32_t n_dims, const uint64_t *shape);

/* Can a load turn src into dst: the same, or both floats. */
static inline bool lds_dtype_converts(lds_dtype src, lds_dtype dst)
{
    return src == dst || (lds_dtype_is_float(src) && lds_dtype_is_float(dst));
}

#endif
