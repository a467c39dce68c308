/* What a network is, for plan and load. */
#ifndef LDS_NETWORK_NETWORK_H
#define LDS_NETWORK_NETWORK_H

#include "src/base/names.h"
#include "src/network/storage.h"

struct lds_param {
    lds_network *network;
    lds_name name;
    const uint64_t *shape;
    uint64_t numel;
    lds_param *tied_to; /* never itself tied; NULL if this parameter has a storage of its own */
    /* The following three are those of tied_to where that is set: read them through the public functions. */
    lds_storage *storage; /* owns a reference, or NULL */
    uint8_t *data;        /* in storage, or NULL */
    bool is_callers;      /* bound by the caller: loads write into it */
    uint8_t dtype;
    uint8_t n_dims;
    lds_init init;
};

struct lds_network {
    lds_param *params; /* never moves once built; parameter i is entry i of names */
    size_t n_params;
    lds_names names;
    char *architecture;       /* or NULL */
    const char *const *ignored; /* PCRE2 patterns of tensor names that are not unexpected; static; NULL-ended */
    void *text;               /* one block that holds all names */
    uint64_t *dims;           /* one block that holds all shapes */
};

/*
 * Put the parameter (which is not tied) into storage at data, as dtype. Takes over one reference to storage,
 * lets go of the old one, cannot fail. storage NULL leaves it without.
 */
void lds_param_place(lds_param *param, lds_storage *storage, void *data, lds_dtype dtype);

/* Write the initial values of a parameter with an init rule to data, elements first to first + n. */
void lds_init_fill(const lds_param *param, lds_dtype dtype, void *data, uint64_t seed, uint64_t first,
                   uint64_t n);

#endif
