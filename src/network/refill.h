/* New values for many parameters at once: one arena, all processors, and a swap at the end. */
#ifndef LDS_NETWORK_REFILL_H
#define LDS_NETWORK_REFILL_H

#include "src/network/network.h"

/*
 * Both work on an array of parameters, with a caller's options or NULL. On failure nothing has changed; errors name
 * the parameter, if any.
 */

/* Make the floats among them dtype, a float; skips what is tied or has it already. */
lds_status lds_refill_convert(lds_param *params, size_t n_params, lds_dtype dtype,
                              const lds_change_options *options, lds_error *err);

/* Initialise those that have an init rule and no storage; skips what is tied. */
lds_status lds_refill_init(lds_param *params, size_t n_params, uint64_t seed,
                           const lds_change_options *options, lds_error *err);

/* New values of one parameter, and where they go. */
typedef struct lds_fill {
    lds_param *param;
    lds_dtype dtype;      /* that the values will have */
    uint64_t offset;      /* of their first byte in the memory that they share */
    uint64_t first_block; /* filled in by lds_fill_initial() */
} lds_fill;

/* How initial values are made. */
typedef struct lds_fill_how {
    uint64_t seed;
    uint32_t n_threads;     /* most; 0 for as many as there may be */
    int (*tick)(void *ctx); /* as in lds_team, or NULL */
    void *tick_ctx;
} lds_fill_how;

/*
 * Write the initial values of parameters that have an init rule into memory, and leave the parameters as they
 * are. The same values as lds_refill_init() gives.
 */
lds_status lds_fill_initial(lds_fill *fills, size_t n_fills, const lds_storage *memory,
                            const lds_fill_how *how, lds_error *err);

#endif
