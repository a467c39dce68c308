/*
 * Reading a tensor, or a rectangle of it, into the caller's memory.
 *
 * A slice falls into runs: elements that lie together in the file and in the result. Where runs are close to each
 * other, what is between them is read too: runs then make up a block, which goes through a window. Further apart,
 * each is a block of its own. Waiting for the disk for each in turn can take longer than reading all of the tensor;
 * telling the kernel of each beforehand takes longer than the reads, where nobody waits. So the reads are timed, and
 * the next ones are announced after one that had to wait. Runs are taken in the order of the file; a step backwards
 * only changes where in the result they go.
 */
#include <fcntl.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/checkpoint/checkpoint.h"
#include "src/dtype/dtype.h"

/*
 * With so many reads on their way, a local disk brings in 12 to 16 KiB in the time that it takes for one more of
 * them: a smaller gap is cheaper to read than to leave out.
 */
enum {
    MAX_GAP = 12 * 1024,
    WINDOW_NBYTES = 256 * 1024,
    AHEAD_BLOCKS = 256,
    AHEAD_NBYTES = 8 << 20 /* but one block at least */
};

/* A read that takes longer than this, and a nanosecond a byte, had to wait: announcing takes some 5 us a block. */
enum { PROMPT_NS = 20000 };

/* From so many blocks on it pays to open the file for them alone. */
enum { MANY_BLOCKS = 64 };

/* A dimension to step along, from one run to the next. */
typedef struct axis {
    uint64_t n, i;
    uint64_t src_nbytes; /* a step in the file */
    int64_t dst_nbytes;  /* a step in the result */
} axis;

typedef struct reading {
    const lds_file *file;
    int fd;
    lds_dtype src_dtype, dst_dtype;
    uint64_t src_size, dst_size; /* bytes of an element */
    axis *axes;                  /* outermost first */
    uint32_t n_axes;
    uint32_t n_outer;      /* axes outside of a block */
    uint64_t run_elements; /* never 0 */
    uint64_t block_nbytes; /* from the first byte of a block to its end, in the file */
    uint64_t block_end;    /* of the block that is being read */
    uint64_t n_blocks, n_begun;
    uint64_t n_announced; /* the blocks before this one have been, or have had their chance */
    uint64_t begin;       /* of the first block, in the file */
    uint64_t offset;      /* of the next run, in the file */
    uint8_t *to;          /* where that goes */
    uint8_t *window;
    uint64_t window_offset, window_end;
} reading;

static lds_status check_slice(const lds_slice *s, uint64_t extent, uint32_t dim, lds_error *err)
{
    if (!s->count)
        return LDS_OK;
    uint64_t last = s->count - 1, way;
    uint64_t step = s->step < 0 ? -(uint64_t)s->step : (uint64_t)s->step;
    bool fits = s->start < extent && lds_mul(last, step, &way);
    if (fits)
        fits = s->step < 0 ? way <= s->start : way < extent - s->start;
    if (!fits || (!s->step && last))
        return lds_fail(
            err, LDS_ERR_ARGUMENT,
            "expected a slice within the %llu elements of dimension %u, found %llu from %llu on in "
            "steps of %lld",
            (unsigned long long)extent, dim, (unsigned long long)s->count, (unsigned long long)s->start,
            (long long)s->step);
    return LDS_OK;
}

/* Another checkpoint's offsets would be read from this one's files. */
static lds_status check_belongs(const lds_checkpoint *checkpoint, const lds_tensor *tensor, lds_error *err)
{
    uintptr_t way = (uintptr_t)tensor - (uintptr_t)checkpoint->tensors; /* wraps around if before */
    if (way < checkpoint->n_tensors * sizeof *tensor)
        return LDS_OK;
    lds_fail(err, LDS_ERR_ARGUMENT, "expected a tensor of this checkpoint, found another's");
    return lds_error_context(err, LDS_ERR_ARGUMENT, checkpoint->path, tensor->name.text);
}

static lds_status check_request(const lds_tensor *tensor, const lds_slice *slices, lds_dtype dtype,
                                const void *data, uint64_t nbytes, lds_error *err)
{
    lds_dtype src = (lds_dtype)tensor->dtype;
    if (!lds_dtype_converts(src, dtype))
        return lds_fail(err, LDS_ERR_UNSUPPORTED, "cannot be converted from %s to %s", lds_dtype_name(src),
                        lds_dtype_name(dtype) ? lds_dtype_name(dtype) : "an unknown dtype");
    uint64_t expected = tensor->nbytes, numel = tensor->numel;
    if (slices && lds_dtype_bits(src) % 8)
        return lds_fail(err, LDS_ERR_UNSUPPORTED, "%s is packed, and can only be read whole",
                        lds_dtype_name(src));
    if (slices) {
        numel = 1;
        for (uint32_t d = 0; d < tensor->n_dims; d++) {
            LDS_TRY(check_slice(&slices[d], tensor->shape[d], d, err));
            numel *= slices[d].count; /* at most the dimension, whose product fits */
        }
    }
    if ((slices || src != dtype) && !lds_mul(numel, lds_dtype_bits(dtype) / 8, &expected))
        return lds_fail(err, LDS_ERR_ARGUMENT, "%llu elements of %s are more than memory can hold",
                        (unsigned long long)numel, lds_dtype_name(dtype));
    if (nbytes != expected)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected %llu bytes of memory, found %llu",
                        (unsigned long long)expected, (unsigned long long)nbytes);
    if (nbytes && !data)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected %llu bytes of memory, found NULL",
                        (unsigned long long)nbytes);
    return LDS_OK;
}

/* Inner dimensions that are taken whole, and the one around them if its elements follow each other, are a run. */
static void divide_into_runs(reading *r, const lds_tensor *tensor, const lds_slice *slices)
{
    uint64_t src_stride = r->src_size, dst_stride = r->dst_size;
    bool is_together = true;
    r->run_elements = 1;
    for (uint32_t d = tensor->n_dims; d-- > 0;) {
        const lds_slice *s = &slices[d];
        bool is_backwards = s->step < 0 && s->count > 1;
        uint64_t step = is_backwards ? -(uint64_t)s->step : (uint64_t)s->step;
        uint64_t way = (s->count - 1) * (s->count > 1 ? step : 0);
        r->offset += (is_backwards ? s->start - way : s->start) * src_stride;
        if (is_together && (s->count == 1 || s->step == 1)) {
            r->run_elements *= s->count;
            is_together = s->count == tensor->shape[d];
        } else if (s->count > 1) {
            is_together = false;
            if (is_backwards)
                r->to += (s->count - 1) * dst_stride;
            int64_t dst_step = is_backwards ? -(int64_t)dst_stride : (int64_t)dst_stride;
            r->axes[r->n_axes++] = (axis){s->count, 0, step * src_stride, dst_step};
        }
        src_stride *= tensor->shape[d];
        dst_stride *= s->count;
    }
    for (uint32_t i = 0; i < r->n_axes / 2; i++) {
        axis swap = r->axes[i];
        r->axes[i] = r->axes[r->n_axes - 1 - i];
        r->axes[r->n_axes - 1 - i] = swap;
    }
}

/* Runs that are close to each other are a block, and so are such blocks. */
static void gather_into_blocks(reading *r)
{
    r->block_nbytes = r->run_elements * r->src_size;
    for (r->n_outer = r->n_axes; r->n_outer; r->n_outer--) {
        const axis *a = &r->axes[r->n_outer - 1];
        if (a->src_nbytes - r->block_nbytes >= MAX_GAP)
            break;
        r->block_nbytes += (a->n - 1) * a->src_nbytes;
    }
    r->n_blocks = 1;
    for (uint32_t d = 0; d < r->n_outer; d++)
        r->n_blocks *= r->axes[d].n; /* at most the elements of the tensor */
    r->begin = r->offset;
    r->block_end = r->offset + r->block_nbytes;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t block_offset(const reading *r, uint64_t block)
{
    uint64_t offset = r->begin;
    for (uint32_t d = r->n_outer; d-- > 0;) {
        offset += block % r->axes[d].n * r->axes[d].src_nbytes;
        block /= r->axes[d].n;
    }
    return offset;
}

/* Let the kernel begin to read the blocks after this one. It may refuse: they are then read when it is their turn. */
static void announce_blocks(reading *r)
{
    uint64_t n = less(AHEAD_BLOCKS, AHEAD_NBYTES / r->block_nbytes + 1);
    uint64_t end = less(r->n_blocks, r->n_begun + 1 + n);
    for (r->n_announced = r->n_begun + 1; r->n_announced < end; r->n_announced++)
        (void)posix_fadvise(r->fd, (off_t)block_offset(r, r->n_announced), (off_t)r->block_nbytes,
                            POSIX_FADV_WILLNEED);
}

/* Read nbytes of the block whose turn it is. */
static lds_status read_part(reading *r, void *data, size_t nbytes, uint64_t offset, lds_error *err)
{
    bool is_timed = r->n_blocks > 1 && r->n_begun >= r->n_announced;
    uint64_t began = is_timed ? lds_now_ns() : 0;
    LDS_TRY(lds_file_read(r->fd, data, nbytes, offset, err));
    if (is_timed && lds_now_ns() - began > PROMPT_NS + nbytes)
        announce_blocks(r);
    return LDS_OK;
}

/* A long run goes straight to its place, or through the window piece by piece to be converted. */
static lds_status read_long_run(reading *r, lds_error *err)
{
    if (r->src_dtype == r->dst_dtype)
        return read_part(r, r->to, (size_t)(r->run_elements * r->src_size), r->offset, err);
    uint64_t piece = WINDOW_NBYTES / r->src_size;
    for (uint64_t done = 0; done < r->run_elements; done += piece) {
        size_t n = (size_t)less(piece, r->run_elements - done);
        uint64_t offset = r->offset + done * r->src_size;
        LDS_TRY(read_part(r, r->window, n * (size_t)r->src_size, offset, err));
        LDS_TRY(lds_convert(r->to + done * r->dst_size, r->dst_dtype, r->window, r->src_dtype, n, err));
    }
    return LDS_OK;
}

static lds_status read_run(reading *r, lds_error *err)
{
    uint64_t nbytes = r->run_elements * r->src_size;
    if (nbytes == r->block_nbytes || nbytes > WINDOW_NBYTES / 2)
        return read_long_run(r, err);
    if (r->offset < r->window_offset || r->offset + nbytes > r->window_end) {
        size_t n = (size_t)less(WINDOW_NBYTES, r->block_end - r->offset);
        LDS_TRY(read_part(r, r->window, n, r->offset, err));
        r->window_offset = r->offset;
        r->window_end = r->offset + n;
    }
    return lds_convert(r->to, r->dst_dtype, r->window + (r->offset - r->window_offset), r->src_dtype,
                       (size_t)r->run_elements, err);
}

/* Go to the next run; false after the last one. */
static bool advance(reading *r)
{
    for (uint32_t d = r->n_axes; d-- > 0;) {
        axis *a = &r->axes[d];
        if (++a->i < a->n) {
            r->offset += a->src_nbytes;
            r->to += a->dst_nbytes;
            if (d < r->n_outer) {
                r->block_end = r->offset + r->block_nbytes;
                r->n_begun++;
            }
            return true;
        }
        r->offset -= (a->n - 1) * a->src_nbytes;
        r->to -= (int64_t)(a->n - 1) * a->dst_nbytes;
        a->i = 0;
    }
    return false;
}

/*
 * What the kernel reads ahead by itself, beside one of many small blocks, is not of the slice: it is told not to, by a
 * descriptor for that. Other readers of the checkpoint share its own.
 */
static void open_for_blocks(reading *r)
{
    int fd = r->n_blocks < MANY_BLOCKS ? -1 : lds_file_open_again(r->file, 0);
    if (fd < 0)
        return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    r->fd = fd;
}

static lds_status read_slices(reading *r, const lds_tensor *tensor, const lds_slice *slices, lds_error *err)
{
    for (uint32_t d = 0; slices && d < tensor->n_dims; d++)
        if (!slices[d].count)
            return LDS_OK;
    LDS_TRY(lds_calloc(&r->axes, tensor->n_dims, sizeof *r->axes, err));
    LDS_TRY(lds_calloc(&r->window, WINDOW_NBYTES, 1, err));
    r->src_size = lds_dtype_bits(r->src_dtype) / 8;
    r->dst_size = lds_dtype_bits(r->dst_dtype) / 8;
    if (slices)
        divide_into_runs(r, tensor, slices);
    else
        r->run_elements = tensor->numel;
    gather_into_blocks(r);
    lds_status status;
    open_for_blocks(r);
    do
        status = read_run(r, err);
    while (!status && advance(r));
    if (r->fd != r->file->fd)
        close(r->fd);
    return status;
}

static lds_status read_tensor(reading *r, const lds_tensor *tensor, const lds_slice *slices, uint64_t nbytes,
                              lds_error *err)
{
    LDS_TRY(check_request(tensor, slices, r->dst_dtype, r->to, nbytes, err));
    if (!slices && r->src_dtype == r->dst_dtype)
        LDS_TRY(lds_file_read(r->fd, r->to, (size_t)nbytes, r->offset, err));
    else if (nbytes)
        LDS_TRY(read_slices(r, tensor, slices, err));
    return LDS_OK;
}

lds_status lds_tensor_read(const lds_checkpoint *checkpoint, const lds_tensor *tensor,
                           const lds_slice *slices, lds_dtype dtype, void *data, uint64_t nbytes,
                           lds_error *err)
{
    LDS_TRY(check_belongs(checkpoint, tensor, err));
    reading r = {
        .file = &checkpoint->files[tensor->file],
        .fd = checkpoint->files[tensor->file].fd,
        .src_dtype = (lds_dtype)tensor->dtype,
        .dst_dtype = dtype ? dtype : (lds_dtype)tensor->dtype,
        .offset = tensor->offset,
        .to = data,
    };
    lds_status status = read_tensor(&r, tensor, slices, nbytes, err);
    free(r.axes);
    free(r.window);
    if (status)
        return lds_error_context(err, status, r.file->path, tensor->name.text);
    return lds_file_check_unchanged(r.file, err);
}
