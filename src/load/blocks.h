/* A plan's runs, cut into the pieces that workers take: one read each. */
#ifndef LDS_LOAD_BLOCKS_H
#define LDS_LOAD_BLOCKS_H

#include "src/plan/plan.h"

typedef struct lds_block {
    uint64_t offset; /* in the file */
    uint64_t nbytes;
    uint64_t run_nbytes;  /* of these, what runs have; the rest lies between them */
    uint64_t skip_nbytes; /* bytes of the first run that earlier blocks have */
    size_t first_run;
    uint32_t file;
} lds_block;

typedef struct lds_blocks {
    lds_block *data;
    size_t n, capacity;
    uint64_t most_nbytes; /* of a block */
} lds_blocks;

typedef struct lds_cut {
    uint64_t block_nbytes; /* most bytes of a block, a multiple of 64 and of unit_nbytes */
    uint64_t unit_nbytes;  /* of the file: runs are cut where one ends if elements allow; 0: see blocks.c */
    bool mapped;           /* the runs that are mapped, or the others */
} lds_cut;

/*
 * Cut runs into blocks. Runs with little between them share a block. *blocks starts zeroed; its data is freed by
 * the caller in any case.
 */
lds_status lds_blocks_cut(lds_blocks *blocks, const lds_plan *plan, const lds_cut *how, lds_error *err);

/* The bytes of a run's parameter that nbytes of its tensor become. */
uint64_t lds_run_param_nbytes(const lds_run *run, const lds_plan *plan, uint64_t nbytes);

/* One run's part of a block. */
typedef struct lds_piece {
    const lds_run *run;
    uint64_t run_nbytes_before; /* bytes of the run before this part */
    uint64_t offset;            /* of this part in the file */
    uint64_t nbytes;
} lds_piece;

/* Walk the parts of a block: start with *piece zeroed; false when there are no more. */
bool lds_block_next(const lds_block *block, const lds_plan *plan, lds_piece *piece);

#endif
