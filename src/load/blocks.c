/*
 * Cutting runs into blocks.
 *
 * What the page cache has is cut where a huge page of the arena ends: one worker has a page cleared and fills it,
 * while another would wait for it, or clear one in vain. Elsewhere it is cut at multiples of 64 bytes of a run, so
 * never inside an element, and never inside a cache line of a destination that began on one. What comes from a
 * disk comes in whole pages, so those blocks end where pages do: cut elsewhere, two blocks would both read the page
 * between them.
 */
#include "src/load/blocks.h"

#include "src/base/memory.h"
#include "src/dtype/dtype.h"

/*
 * Bytes between two runs that are worth reading over to save a system call: those of a page come along anyway, and
 * more only as long as what is read over is not more than what is wanted.
 */
enum { MAX_GAP_NBYTES = 64 << 10, FREE_GAP_NBYTES = 4 << 10 };

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
    uint64_t end = last->offset + last->nbytes, gap = offset - end;
    uint64_t whole = offset - last->offset + nbytes, wanted = last->run_nbytes + nbytes;
    if (offset < end || gap > MAX_GAP_NBYTES || whole > block_nbytes)
        return false;
    if (gap > FREE_GAP_NBYTES && whole - wanted > wanted)
        return false;
    last->nbytes = whole;
    last->run_nbytes = wanted;
    return true;
}

uint64_t lds_run_param_nbytes(const lds_run *run, const lds_plan *plan, uint64_t nbytes)
{
    lds_dtype src = (lds_dtype)plan->checkpoint->tensors[run->tensor].dtype;
    lds_dtype dst = (lds_dtype)plan->targets[run->target].dtype;
    return src == dst ? nbytes : nbytes / (lds_dtype_bits(src) / 8) * (lds_dtype_bits(dst) / 8);
}

/* Of nbytes of a run, from done on: those before the last huge page of the arena that they only begin to fill. */
static uint64_t cut_at_huge_page(const lds_run *run, const lds_plan *plan, uint64_t done, uint64_t nbytes)
{
    const lds_target *target = &plan->targets[run->target];
    uint64_t begin = target->offset + run->param_offset + lds_run_param_nbytes(run, plan, done);
    uint64_t param_nbytes = lds_run_param_nbytes(run, plan, nbytes);
    uint64_t too_much = (begin + param_nbytes) % LDS_HUGE_PAGE_NBYTES;
    if (target->place != LDS_PLACE_ARENA || too_much >= param_nbytes)
        return nbytes;
    return nbytes - too_much * nbytes / param_nbytes;
}

/* How much of a run the block that begins at done takes. */
static uint64_t cut(const lds_run *run, const lds_plan *plan, uint64_t done, uint64_t nbytes,
                    const lds_cut *how)
{
    if (nbytes - done <= how->block_nbytes)
        return nbytes - done;
    if (!how->unit_nbytes)
        return cut_at_huge_page(run, plan, done, how->block_nbytes);
    uint32_t element_nbytes = lds_dtype_bits((lds_dtype)plan->checkpoint->tensors[run->tensor].dtype) / 8;
    uint64_t end = run->file_offset + done + how->block_nbytes, into_unit = end % how->unit_nbytes;
    /* An element that lies across two units cannot be cut there; one of less than a byte never stands alone. */
    if (!element_nbytes || run->file_offset % element_nbytes || into_unit >= how->block_nbytes)
        return how->block_nbytes;
    return how->block_nbytes - into_unit;
}

lds_status lds_blocks_cut(lds_blocks *blocks, const lds_plan *plan, const lds_cut *how, lds_error *err)
{
    blocks->most_nbytes = how->block_nbytes;
    for (size_t r = 0; r < plan->n_runs; r++) {
        const lds_run *run = &plan->runs[r];
        uint64_t nbytes = run_nbytes(run, plan);
        uint32_t file = plan->checkpoint->tensors[run->tensor].file;
        if (!nbytes || is_mapped(run, plan) != how->mapped ||
            extend(blocks, file, run->file_offset, nbytes, how->block_nbytes))
            continue;
        for (uint64_t done = 0, n; done < nbytes; done += n) {
            n = cut(run, plan, done, nbytes, how);
            LDS_TRY(lds_grow(&blocks->data, &blocks->capacity, blocks->n + 1, sizeof *blocks->data, err));
            blocks->data[blocks->n++] = (lds_block){run->file_offset + done, n, n, done, r, file};
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
