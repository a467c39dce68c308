/* Carrying out a plan's transfers once all memory is there. */
#ifndef LDS_LOAD_TRANSFER_H
#define LDS_LOAD_TRANSFER_H

#include "src/load/blocks.h"

/* What a load has while it runs. */
typedef struct lds_transfers {
    const lds_plan *plan;
    lds_storage *arena;            /* or NULL */
    bool has_callers_arena;        /* it came from the caller's allocator, so it is probably not fresh */
    lds_storage **mappings;        /* for each file, or NULL */
    uint64_t *map_offsets;         /* where each mapping begins in its file */
    _Atomic uint64_t *done_nbytes; /* bytes of the checkpoint that are in place, for progress */
    int (*tick)(void *ctx);        /* as in lds_team */
    void *tick_ctx;
    _Atomic uint64_t read_ns, convert_ns; /* summed over the workers */
} lds_transfers;

/* The address of a target's bytes. */
uint8_t *lds_target_data(const lds_transfers *transfers, const lds_target *target);

/* Make the pages of the mapped targets present. */
lds_status lds_transfers_populate(lds_transfers *transfers, lds_error *err);

/* Read and convert the others. */
lds_status lds_transfers_read(lds_transfers *transfers, lds_error *err);

uint64_t lds_now_ns(void);

#endif
