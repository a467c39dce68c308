/* Init rules: their names, and which of them a parameter can have. What they make of it: init_values.h. */
#ifndef LDS_NETWORK_INIT_H
#define LDS_NETWORK_INIT_H

#include "src/base/error.h"

/* The fields of lds_init that a kind uses. */
enum { LDS_INIT_A = 1, LDS_INIT_B = 2, LDS_INIT_LO = 4, LDS_INIT_HI = 8 };

/* False if no kind has that name. */
bool lds_init_kind_parse(lds_init_kind *kind, const char *name);

/* The LDS_INIT_ fields of a kind. */
uint32_t lds_init_kind_fields(lds_init_kind kind);

/* Does the shape of the parameter count? */
bool lds_init_kind_has_fans(lds_init_kind kind);

/* Fields that the kinds do not use count too: they are 0 where a rule has been kept. */
static inline bool lds_init_equal(const lds_init *a, const lds_init *b)
{
    return a->kind == b->kind && a->a == b->a && a->b == b->b && a->lo == b->lo && a->hi == b->hi;
}

/*
 * LDS_ERR_ARGUMENT, without a name, unless a parameter of this dtype and shape (whose product does not
 * overflow) can be initialised so.
 */
lds_status lds_init_check(const lds_init *init, lds_dtype dtype, uint32_t n_dims, const uint64_t *shape,
                          lds_error *err);

#endif
