/*
 * Init rules: their names, the numbers that they have, and which a parameter can have. A rule that passes here can
 * be carried out, so that no load fails for one.
 */
#include "src/network/init.h"

#include <float.h>
#include <math.h>

#include "src/base/memory.h"
#include "src/dtype/dtype.h"

__extension__ typedef __int128 wide;

static const struct kind {
    const char *name;
    uint32_t fields;
    bool is_random, has_fans;
} kinds[] = {
    [LDS_INIT_NONE] = {"none", 0, false, false},
    [LDS_INIT_ZEROS] = {"zeros", 0, false, false},
    [LDS_INIT_ONES] = {"ones", 0, false, false},
    [LDS_INIT_CONSTANT] = {"constant", LDS_INIT_A, false, false},
    [LDS_INIT_NORMAL] = {"normal", LDS_INIT_A | LDS_INIT_B, true, false},
    [LDS_INIT_TRUNC_NORMAL] = {"trunc_normal", LDS_INIT_A | LDS_INIT_B | LDS_INIT_LO | LDS_INIT_HI, true,
                               false},
    [LDS_INIT_UNIFORM] = {"uniform", LDS_INIT_LO | LDS_INIT_HI, true, false},
    [LDS_INIT_ARANGE] = {"arange", LDS_INIT_A | LDS_INIT_B, false, false},
    [LDS_INIT_XAVIER_UNIFORM] = {"xavier_uniform", LDS_INIT_A, true, true},
    [LDS_INIT_XAVIER_NORMAL] = {"xavier_normal", LDS_INIT_A, true, true},
    [LDS_INIT_KAIMING_UNIFORM] = {"kaiming_uniform", LDS_INIT_A, true, true},
    [LDS_INIT_KAIMING_NORMAL] = {"kaiming_normal", LDS_INIT_A, true, true},
};

enum { N_KINDS = sizeof kinds / sizeof *kinds };

const char *lds_init_kind_name(lds_init_kind kind)
{
    return (unsigned)kind < N_KINDS ? kinds[kind].name : NULL;
}

bool lds_init_kind_parse(lds_init_kind *kind, const char *name)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        if (kinds[i].name && !strcmp(kinds[i].name, name)) {
            *kind = (lds_init_kind)i;
            return true;
        }
    return false;
}

uint32_t lds_init_kind_fields(lds_init_kind kind)
{
    return kinds[kind].fields;
}

bool lds_init_kind_has_fans(lds_init_kind kind)
{
    return kinds[kind].has_fans;
}

/* The values of an integer dtype or BOOL: from *least to below *end. False for other dtypes. */
static bool integer_range(lds_dtype dtype, double *least, double *end)
{
    bool is_signed = dtype == LDS_I8 || dtype == LDS_I16 || dtype == LDS_I32 || dtype == LDS_I64;
    if (!is_signed && dtype != LDS_BOOL && dtype != LDS_U8 && dtype != LDS_U16 && dtype != LDS_U32 &&
        dtype != LDS_U64)
        return false;
    int bits = dtype == LDS_BOOL ? 1 : (int)lds_dtype_bits(dtype);
    *end = ldexp(1, is_signed ? bits - 1 : bits);
    *least = is_signed ? -*end : 0;
    return true;
}

static bool is_value_of(lds_dtype dtype, double value)
{
    double least, end;
    if (integer_range(dtype, &least, &end))
        return value == trunc(value) && value >= least && value < end;
    return lds_dtype_is_float(dtype) || dtype == LDS_C64;
}

/* a, a + b, ... stays in an integer's range to the end of the last dimension. */
static bool is_arange_of(lds_dtype dtype, const lds_init *init, uint64_t length)
{
    double least, end;
    if (dtype == LDS_BOOL || !integer_range(dtype, &least, &end))
        return lds_dtype_is_float(dtype);
    if (!is_value_of(dtype, init->a) || init->b != trunc(init->b) || fabs(init->b) >= 0x1p63)
        return false;
    wide last;
    if (!lds_mul((wide)init->b, (wide)(length ? length - 1 : 0), &last) ||
        !lds_add(last, (wide)init->a, &last))
        return false;
    return last >= (wide)least && last < (wide)end;
}

static bool suits_dtype(const lds_init *init, lds_dtype dtype, uint32_t n_dims, const uint64_t *shape)
{
    switch (init->kind) {
    case LDS_INIT_NONE: return true;
    case LDS_INIT_ZEROS: return dtype != LDS_F8_E8M0; /* it has no zero */
    case LDS_INIT_ONES: return dtype == LDS_F8_E8M0 || is_value_of(dtype, 1);
    case LDS_INIT_CONSTANT: return is_value_of(dtype, init->a);
    case LDS_INIT_ARANGE: return is_arange_of(dtype, init, n_dims ? shape[n_dims - 1] : 1);
    default: return lds_dtype_is_float(dtype);
    }
}

static lds_status check_numbers(const lds_init *init, lds_error *err)
{
    const struct kind *kind = &kinds[init->kind];
    const double values[] = {init->a, init->b, init->lo, init->hi};
    static const char *const names[] = {"a", "b", "lo", "hi"};
    for (int i = 0; i < 4; i++)
        if (kind->fields & 1u << i && !(fabs(values[i]) <= (kind->is_random ? FLT_MAX : DBL_MAX)))
            return lds_fail(err, LDS_ERR_ARGUMENT, "init: %s: expected a finite %s, found %g", kind->name,
                            names[i], values[i]);
    if (kind->is_random && kind->fields & LDS_INIT_B && init->b < 0)
        return lds_fail(err, LDS_ERR_ARGUMENT,
                        "init: %s: expected a standard deviation b of at least 0, found %g", kind->name,
                        init->b);
    if (kind->fields & LDS_INIT_LO && init->lo > init->hi)
        return lds_fail(err, LDS_ERR_ARGUMENT, "init: %s: expected lo to be at most hi, found %g and %g",
                        kind->name, init->lo, init->hi);
    if (kind->has_fans && init->kind < LDS_INIT_KAIMING_UNIFORM && init->a < 0)
        return lds_fail(err, LDS_ERR_ARGUMENT, "init: %s: expected a gain a of at least 0, found %g",
                        kind->name, init->a);
    return LDS_OK;
}

lds_status lds_init_check(const lds_init *init, lds_dtype dtype, uint32_t n_dims, const uint64_t *shape,
                          lds_error *err)
{
    const char *name = lds_init_kind_name(init->kind);
    if (!name)
        return lds_fail(err, LDS_ERR_ARGUMENT, "init: expected a kind, found %d", (int)init->kind);
    LDS_TRY(check_numbers(init, err));
    if (kinds[init->kind].has_fans && n_dims < 2)
        return lds_fail(err, LDS_ERR_ARGUMENT, "init: %s: expected at least 2 dimensions, found %u", name,
                        n_dims);
    if (!suits_dtype(init, dtype, n_dims, shape))
        return lds_fail(err, LDS_ERR_ARGUMENT, "init: %s: expected a rule whose values %s can have", name,
                        lds_dtype_name(dtype));
    return LDS_OK;
}
