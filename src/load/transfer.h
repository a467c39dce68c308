/* Carrying out a plan's transfers once all memory is there. */
#ifndef LDS_LOAD_TRANSFER_H
#define LDS_LOAD_TRANSFER_H

#include "src/load/blocks.h"
#include "src/load/cache_write.h"
#include "src/load/trace.h"

/* What a load has while it runs. */
typedef struct lds_transfers {
    lds_plan *plan;
    lds_storage *arena;     /* or NULL */
    bool is_callers_arena;  /* it came from the caller's allocator */
    uint64_t used_nbytes;   /* of the arena's beginning that is not in cache, as what was just cleared is */
    lds_storage **mappings; /* for each file, or NULL */
    uint64_t *map_offsets;  /* where each mapping begins in its file */
    _Atomic uint64_t *done_nbytes; /* bytes of the checkpoint that are in place, for progress */
    lds_cache_write *cache_write;  /* gets what comes into the arena; or NULL */
    int (*tick)(void *ctx);        /* as in lds_team */
    void *tick_ctx;
    _Atomic uint64_t read_ns, convert_ns; /* summed over the workers */
    lds_trace *trace;                     /* or NULL */
    uint32_t trace_load;
} lds_transfers;

/* The address of a target's bytes. */
uint8_t *lds_target_data(const lds_transfers *transfers, const lds_target *target);

/* Ask the kernel to read into the page cache what will be mapped or read. It goes on by itself. */
lds_status lds_transfers_prefetch(lds_transfers *transfers, lds_error *err);

/* Make the pages of the mapped targets present. */
lds_status lds_transfers_populate(lds_transfers *transfers, lds_error *err);

/* Read and convert the others. */
lds_status lds_transfers_read(lds_transfers *transfers, lds_error *err);

#endif
