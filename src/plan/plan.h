/*
 * What a plan is: which tensor goes to which parameter, as which dtype, into which memory. Pure arithmetic over
 * an open checkpoint and a network: no I/O, no memory for weights.
 */
#ifndef LDS_PLAN_PLAN_H
#define LDS_PLAN_PLAN_H

#include "src/checkpoint/checkpoint.h"
#include "src/network/network.h"
#include "src/plan/policy.h"
#include "src/plan/report.h"

/* The least that window_nbytes may be, a thread. */
enum { LDS_MIN_WINDOW_NBYTES = 64 << 10 };

/* Where a parameter's new bytes will be. */
typedef enum lds_place {
    LDS_PLACE_MAPPED,  /* in the file's mapping */
    LDS_PLACE_ARENA,   /* in the load's arena, at offset */
    LDS_PLACE_CALLERS, /* where the parameter is already */
    LDS_PLACE_INIT     /* in the arena, at offset, initialised instead of loaded */
} lds_place;

/* One parameter that the load gives new values. */
typedef struct lds_target {
    lds_param *param; /* never a tied one */
    uint64_t nbytes;  /* as dtype */
    uint64_t offset;  /* MAPPED: of the first byte in the file; ARENA and INIT: in the arena */
    uint32_t file;    /* MAPPED: which file */
    uint8_t dtype;    /* that it will have */
    uint8_t place;
    bool is_in_stretch; /* ARENA: its bytes, and those around them, lie there as in the file: see layout.c */
} lds_target;

/*
 * A run of elements that lie together in a file and in a parameter. Today every tensor is one run; a tensor
 * that is cut or interleaved becomes several.
 */
typedef struct lds_run {
    uint32_t tensor;
    uint32_t target;
    uint64_t file_offset;  /* of the first byte */
    uint64_t param_offset; /* of the first byte */
    uint64_t numel;
} lds_run;

struct lds_plan {
    lds_network *network;
    const lds_checkpoint *checkpoint;
    lds_target *targets;
    size_t n_targets;
    lds_run *runs; /* in the order of files and file offsets; mapped ones too */
    size_t n_runs;
    uint64_t arena_nbytes;
    uint64_t block_nbytes; /* most bytes of one read */
    uint32_t depth;        /* most reads of one thread that are under way */
    bool is_lazy;          /* mapped pages are left to be read on first use */
    bool is_prefetched;    /* the kernel is asked to read everything into the page cache first */
    bool keep_cache;       /* what is read stays in the page cache */
    lds_choice choice;     /* how the bytes come in that are not mapped */
    bool awaits_mapped;    /* making mapped pages present means to wait for a disk */
    uint32_t n_threads;    /* that have something to read */
    uint32_t max_threads;  /* that the options allow */
    lds_plan_stats stats;
    lds_report *report; /* the plan's side of it; NULL once the caller has it */
};

/* The options with defaults for what the caller's struct does not have; LDS_ERR_ARGUMENT if they are wrong. */
lds_status lds_load_options_check(lds_load_options *checked, const lds_load_options *options, lds_error *err);

/*
 * Make a plan. options were checked. On LDS_ERR_MISMATCH *report, unless NULL, is set all the same, and *plan
 * is NULL; on success the plan owns the report.
 */
lds_status lds_plan_make(lds_plan **plan, lds_network *network, const lds_checkpoint *checkpoint,
                         const lds_load_options *options, lds_report **report, lds_error *err);

/* Tell the report which source it was: what is not mapped may come in by another than was chosen. */
void lds_plan_name_source(lds_plan *plan, lds_source_kind kind);

#endif
