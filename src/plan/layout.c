/*
 * Places in the arena.
 *
 * A direct read needs an address that is congruent to its offset in the file, and whole units of 4096 bytes. So
 * weights that are to be as they are in the file, and lie together there, get a stretch of the arena where they
 * lie in the same way, with room before and behind it for what is read too much: they are read without a buffer,
 * and many small ones in one read. A stretch takes up to two units beside its bytes, so short ones are not made.
 */
#include "src/plan/layout.h"

#include "src/base/memory.h"
#include "src/dtype/dtype.h"

/* Beside stretches: a cache line, and the widest vector. */
enum { ALIGNMENT = 64, MIN_STRETCH_NBYTES = 1 << 20 };

static lds_status take(lds_plan *plan, lds_target *target, lds_error *err)
{
    target->offset = plan->arena_nbytes;
    uint64_t end;
    if (!lds_add(target->offset, target->nbytes, &end) || end > UINT64_MAX - ALIGNMENT)
        return lds_fail_memory(err, UINT64_MAX);
    /* An empty parameter takes room too: it has an address of its own, and so a storage. */
    plan->arena_nbytes = lds_align_up(end + !target->nbytes, ALIGNMENT);
    return LDS_OK;
}

/* Whether a run is all of a parameter that goes into the arena as it is in the file. */
static bool is_whole(const lds_plan *plan, const lds_run *run)
{
    const lds_target *target = &plan->targets[run->target];
    const lds_tensor *tensor = &plan->checkpoint->tensors[run->tensor];
    uint32_t element_nbytes = lds_dtype_bits((lds_dtype)target->dtype) / 8;
    return target->place == LDS_PLACE_ARENA && tensor->dtype == target->dtype && tensor->nbytes &&
           run->numel == tensor->numel && target->nbytes == tensor->nbytes &&
           (!element_nbytes || run->file_offset % element_nbytes == 0);
}

/* The runs from first on that lie together in one file and can be one stretch: how many, and where they end. */
static size_t stretch_at(const lds_plan *plan, size_t first, uint64_t *end)
{
    uint32_t file = plan->checkpoint->tensors[plan->runs[first].tensor].file;
    size_t r = first;
    *end = plan->runs[first].file_offset;
    for (; r < plan->n_runs; r++) {
        const lds_run *run = &plan->runs[r];
        const lds_tensor *tensor = &plan->checkpoint->tensors[run->tensor];
        if (!is_whole(plan, run) || tensor->file != file || run->file_offset != *end)
            break;
        *end += tensor->nbytes;
    }
    return r - first;
}

static lds_status take_stretch(lds_plan *plan, size_t first, size_t n, uint64_t end, lds_error *err)
{
    uint64_t begin = plan->runs[first].file_offset;
    uint64_t base = lds_align_up(plan->arena_nbytes, LDS_DIRECT_NBYTES) + begin % LDS_DIRECT_NBYTES;
    if (!lds_add(base, end - begin + LDS_DIRECT_NBYTES, &plan->arena_nbytes))
        return lds_fail_memory(err, UINT64_MAX);
    plan->arena_nbytes &= ~(uint64_t)(LDS_DIRECT_NBYTES - 1);
    for (size_t r = first; r < first + n; r++) {
        lds_target *target = &plan->targets[plan->runs[r].target];
        target->offset = base + (plan->runs[r].file_offset - begin);
        target->is_in_stretch = true;
    }
    return LDS_OK;
}

lds_status lds_plan_lay_out(lds_plan *plan, lds_error *err)
{
    for (size_t r = 0, n; r < plan->n_runs; r += n) {
        uint64_t end;
        n = stretch_at(plan, r, &end);
        if (n && end - plan->runs[r].file_offset >= MIN_STRETCH_NBYTES) {
            LDS_TRY(take_stretch(plan, r, n, end, err));
            continue;
        }
        n = n ? n : 1;
        for (size_t i = r; i < r + n; i++) {
            lds_target *target = &plan->targets[plan->runs[i].target];
            if (target->place == LDS_PLACE_ARENA && !plan->runs[i].param_offset) /* its first run */
                LDS_TRY(take(plan, target, err));
        }
    }
    for (size_t i = 0; i < plan->n_targets; i++)
        if (plan->targets[i].place == LDS_PLACE_INIT)
            LDS_TRY(take(plan, &plan->targets[i], err));
    return LDS_OK;
}
