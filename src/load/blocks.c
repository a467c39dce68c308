/*
 * Cutting runs into blocks. The cut is in bytes of the file, at multiples of 64, so never inside an element, and
 * never inside a cache line of a destination that began on one.
 */
#include "src/load/blocks.h"

/* Bytes between two runs that are worth reading over to save a system call. */
enum { MAX_GAP_NBYTES = 64 << 10 };

static uint64_t run_nbytes(const lds_run *run, const lds_plan *plan)
{
    const lds_tensor *tensor = &plan->checkpoint->tensors[run->tensor];
    return run->numel == tensor->numel ? tensor->nbytes
                                       : run->numel * lds_dtype_bits((lds_dtype)tensor->dtype) / 8;
}

static bool is_mapped(const lds_run *run, const lds_plan *plan)
{
    return plan->targets[run->target].place == LDS_PLACE_MAPPED;
}

/* Make a run of nbytes part of the last block, if it lies right behind it and fits. */
static bool extend(lds_blocks *blocks, uint32_t file, uint64_t offset, uint64_t nbytes, uint64_t block_nbytes)
{
    lds_block *last = blocks->n ? &blocks->data[blocks->n - 1] : NULL;
    if (!last || last->file != file)
        return false;
    uint64_t end = last->offset + last->nbytes;
    if (offset < end || offset - end > MAX_GAP_NBYTES || offset - last->offset + nbytes > block_nbytes)
        return false;
    last->nbytes = offset - last->offset + nbytes;
    return true;
}

lds_status lds_blocks_cut(lds_blocks *blocks, const lds_plan *plan, bool mapped, uint64_t block_nbytes,
                          lds_error *err)
{
    for (size_t r = 0; r < plan->n_runs; r++) {
        const lds_run *run = &plan->runs[r];
        uint64_t nbytes = run_nbytes(run, plan);
        uint32_t file = plan->checkpoint->tensors[run->tensor].file;
        if (!nbytes || is_mapped(run, plan) != mapped ||
            extend(blocks, file, run->file_offset, nbytes, block_nbytes))
            continue;
        for (uint64_t done = 0; done < nbytes; done += block_nbytes) {
            uint64_t n = nbytes - done < block_nbytes ? nbytes - done : block_nbytes;
            LDS_TRY(lds_grow(&blocks->data, &blocks->capacity, blocks->n + 1, sizeof *blocks->data, err));
            blocks->data[blocks->n++] = (lds_block){run->file_offset + done, n, done, r, file};
        }
    }
    return LDS_OK;
}

bool lds_block_next(const lds_block *block, const lds_plan *plan, lds_piece *piece)
{
    bool mapped = is_mapped(&plan->runs[block->first_run], plan);
    uint64_t end = block->offset + block->nbytes;
    const lds_run *run = piece->run ? piece->run + 1 : &plan->runs[block->first_run];
    uint64_t before = piece->run ? 0 : block->skip_nbytes;
    for (; run < plan->runs + plan->n_runs; run++, before = 0) {
        uint64_t nbytes = run_nbytes(run, plan), offset = run->file_offset + before;
        if (plan->checkpoint->tensors[run->tensor].file != block->file || offset >= end)
            return false;
        if (!nbytes || is_mapped(run, plan) != mapped)
            continue;
        nbytes -= before;
        *piece = (lds_piece){run, before, offset, nbytes < end - offset ? nbytes : end - offset};
        return true;
    }
    return false;
}
