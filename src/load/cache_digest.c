/*
 * Digests for the cache.
 *
 * The key is a digest of what the source files are (path, device, inode, size, times), of every transfer (tensor,
 * extent, dtype, shape, parameter), and of who may read the entry, if not everybody: what is not the same in all of
 * that has another entry. Sizes and times make its second half, so that an entry of what the same files were before,
 * for the same readers, is known by its name. The digest of an entry's bytes is one of samples, which tells when a
 * disk that lost power has not kept all of them: to go through the whole would take longer than the load saves.
 */
#include "src/load/cache_digest.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "src/base/clock.h"

enum { SAMPLE_NBYTES = 256 << 10, N_SAMPLES = 64, MAX_WAIT_MS = 50 };

static void write_hex(char text[static LDS_CACHE_DIGEST_SIZE], XXH128_hash_t hash)
{
    snprintf(text, LDS_CACHE_DIGEST_SIZE, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

/* Where the parts of a key go. */
typedef struct key_state {
    XXH3_state_t *what, *when;
} key_state;

static void add_u64(XXH3_state_t *state, uint64_t value)
{
    XXH3_128bits_update(state, &value, sizeof value);
}

static void add_text(XXH3_state_t *state, const char *text)
{
    add_u64(state, strlen(text));
    XXH3_128bits_update(state, text, strlen(text));
}

static void add_time(XXH3_state_t *state, struct timespec t)
{
    add_u64(state, (uint64_t)t.tv_sec);
    add_u64(state, (uint64_t)t.tv_nsec);
}

/*
 * A change that comes before the clock goes on leaves the time of the one before, and so what is cached of the file now
 * would be taken for what it is then. The kernel's clock goes by ticks of up to 10 ms, and file systems cut it down: to
 * a microsecond if not to two seconds. A time that is more than a tick ahead is by another clock.
 */
static bool may_change_unseen(struct timespec changed, struct timespec now)
{
    double age = (double)now.tv_sec - (double)changed.tv_sec + (double)(now.tv_nsec - changed.tv_nsec) / 1e9;
    return age > -0.02 && age <= (changed.tv_nsec ? 1e-6 : 2);
}

/* Of a file whose next change will be seen. A tick is waited for, and not two seconds, in which nobody could cancel. */
static lds_status wait_for_status(struct stat *st, int fd, lds_error *err)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct timespec now;
    for (uint64_t began = lds_now_ns(); lds_now_ns() - began < MAX_WAIT_MS * UINT64_C(1000000);) {
        clock_gettime(CLOCK_REALTIME_COARSE, &now); /* that the kernel takes the times of files from */
        if (fstat(fd, st))
            return lds_fail_errno(err, LDS_ERR_IO, errno, "its status cannot be read");
        if (!may_change_unseen(st->st_ctim, now))
            return LDS_OK;
        nanosleep(&pause, NULL);
    }
    return lds_fail(err, LDS_ERR_CHANGED, "the checkpoint was changed just now");
}

/* What the file was when it was opened: an entry of what it has become since is not what is to be loaded. */
static lds_status add_file(const key_state *state, const lds_file *file, lds_error *err)
{
    struct stat st;
    LDS_TRY(wait_for_status(&st, file->fd, err));
    LDS_TRY(lds_file_check_unchanged(file, err));
    char *path = realpath(file->path, NULL);
    add_text(state->what, path ? path : file->path);
    free(path);
    add_u64(state->what, st.st_dev);
    add_u64(state->what, st.st_ino);
    add_u64(state->when, (uint64_t)st.st_size);
    add_time(state->when, st.st_mtim);
    add_time(state->when, st.st_ctim);
    return LDS_OK;
}

static void add_shape(XXH3_state_t *state, uint32_t n_dims, const uint64_t *shape)
{
    add_u64(state, n_dims);
    XXH3_128bits_update(state, shape, n_dims * sizeof *shape);
}

static void add_run(XXH3_state_t *state, const lds_plan *plan, const lds_run *run)
{
    const lds_tensor *tensor = &plan->checkpoint->tensors[run->tensor];
    const lds_target *target = &plan->targets[run->target];
    add_text(state, tensor->name.text);
    add_text(state, target->param->name.text);
    add_shape(state, tensor->n_dims, tensor->shape);
    add_shape(state, target->param->n_dims, target->param->shape);
    const uint64_t numbers[] = {tensor->file,     tensor->dtype,     tensor->offset, tensor->nbytes,
                                run->file_offset, run->param_offset, run->numel,     target->dtype};
    XXH3_128bits_update(state, numbers, sizeof numbers);
}

static lds_status add_plan(const key_state *state, const lds_plan *plan, lds_error *err)
{
    uint32_t file = UINT32_MAX;
    add_text(state->what, "loadstone cache 1");
    add_u64(state->what, 1); /* in the machine's order of bytes */
    for (size_t r = 0; r < plan->n_runs; r++) {
        const lds_run *run = &plan->runs[r];
        if (!lds_cache_keeps(&plan->targets[run->target]))
            continue;
        if (plan->checkpoint->tensors[run->tensor].file != file) {
            file = plan->checkpoint->tensors[run->tensor].file;
            LDS_TRY(add_file(state, &plan->checkpoint->files[file], err));
        }
        add_run(state->what, plan, run);
    }
    return LDS_OK;
}

static void add_audience(XXH3_state_t *state, lds_cache_audience audience)
{
    if (audience.readers == LDS_CACHE_EVERYBODY)
        return;
    add_u64(state, audience.readers);
    add_u64(state, audience.id);
}

static lds_status compose_key(char key[static LDS_CACHE_DIGEST_SIZE], const key_state *state,
                              lds_cache_audience audience, const lds_plan *plan, lds_error *err)
{
    if (!state->what || !state->when)
        return lds_fail_memory(err, sizeof *state->what);
    XXH3_128bits_reset(state->what);
    XXH3_128bits_reset(state->when);
    LDS_TRY(add_plan(state, plan, err));
    add_audience(state->what, audience);
    write_hex(key, (XXH128_hash_t){.high64 = XXH3_128bits_digest(state->what).high64,
                                   .low64 = XXH3_128bits_digest(state->when).low64});
    return LDS_OK;
}

lds_status lds_cache_make_key(char key[static LDS_CACHE_DIGEST_SIZE], lds_cache_audience audience,
                              const lds_plan *plan, lds_error *err)
{
    const key_state state = {XXH3_createState(), XXH3_createState()};
    lds_status status = compose_key(key, &state, audience, plan, err);
    XXH3_freeState(state.what);
    XXH3_freeState(state.when);
    return status;
}

/* Of sample i; behind the end if there are fewer. */
static uint64_t sample_offset(uint64_t i, uint64_t nbytes)
{
    if (nbytes <= (uint64_t)N_SAMPLES * SAMPLE_NBYTES)
        return i * SAMPLE_NBYTES;
    uint64_t last = nbytes - SAMPLE_NBYTES;
    return i == N_SAMPLES - 1 ? last : i * (last / (N_SAMPLES - 1));
}

lds_status lds_cache_sample(char digest[static LDS_CACHE_DIGEST_SIZE], int fd, uint64_t offset,
                            uint64_t nbytes, lds_error *err)
{
    uint8_t *data = NULL;
    XXH3_state_t *state = XXH3_createState();
    lds_status status =
        state ? lds_calloc(&data, SAMPLE_NBYTES, 1, err) : lds_fail_memory(err, sizeof *state);
    if (status) {
        XXH3_freeState(state);
        return status;
    }
    XXH3_128bits_reset(state);
    for (uint64_t i = 0, at; i < N_SAMPLES && (at = sample_offset(i, nbytes)) < nbytes && !status; i++) {
        size_t n = nbytes - at < SAMPLE_NBYTES ? (size_t)(nbytes - at) : SAMPLE_NBYTES;
        status = lds_file_read(fd, data, n, offset + at, err);
        XXH3_128bits_update(state, data, n);
    }
    write_hex(digest, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    free(data);
    return status;
}
