/* What a network is, for plan and load. */
#ifndef LDS_NETWORK_NETWORK_H
#define LDS_NETWORK_NETWORK_H

#include "src/base/names.h"
#include "src/network/region.h"
#include "src/network/storage.h"

/* There may be hundreds of thousands: kept small, and what most do not have is behind a pointer. */
struct lds_param {
    lds_name name;
    const uint64_t *shape;
    uint64_t numel;
    lds_param *tied_to; /* never itself tied; NULL if this parameter has a storage of its own */
    /* All that follows is tied_to's where that is set: read it through the public functions. */
    lds_storage *storage; /* owns a reference, or NULL */
    uint8_t *data;        /* in storage, or NULL */
    const lds_init *init; /* NULL for LDS_INIT_NONE */
    bool is_callers;      /* bound by the caller: loads write into it */
    uint8_t dtype;
    uint8_t n_dims; /* this one also holds for a tied parameter */
};

struct lds_network {
    lds_param *params; /* never moves once built; parameter i is entry i of names */
    size_t n_params;
    lds_names names;
    const char *architecture; /* or NULL */
    const char *const
        *ignored;      /* PCRE2 patterns of tensor names that are not unexpected; static; NULL-ended */
    lds_region region; /* names, shapes and init rules */
};

/* The parameter that has the storage: the one that param is tied to, or itself. */
static inline lds_param *lds_param_root(const lds_param *param)
{
    return param->tied_to ? param->tied_to : (lds_param *)param;
}

/* Refuse what no network can be made of: a pipeline, or a dtype that is neither a float nor LDS_DTYPE_NONE. */
lds_status lds_network_check_source(const lds_checkpoint *checkpoint, lds_dtype dtype, lds_error *err);

/*
 * Put the parameter (which is not tied) into storage at data, as dtype. Takes over one reference to storage,
 * lets go of the old one, cannot fail. storage NULL leaves it without. It stays the caller's memory only if
 * storage is the one that it was in.
 */
void lds_param_place(lds_param *param, lds_storage *storage, void *data, lds_dtype dtype);

#endif
