/*
 * The cache of converted weights.
 *
 * What a load that converts has in its arena is written to a safetensors file of the parameters' own names, and
 * the next load of the same maps that file as it would map any checkpoint of the right dtypes: it gets a plan of
 * its own beside the load's. What is "the same" is a key: a digest of what the source files are (path, device,
 * inode, size, times) and of every transfer (tensor, extent, dtype, shape, parameter).
 *
 * An entry that is found is not believed because of its name. It is parsed like any file, has to name the key, to
 * have all the parameters in their dtypes and shapes, and to have been left alone since it was written (its time
 * of modification is in its header), and a digest of samples of its bytes has to agree: that is what a disk that
 * lost power could have made otherwise. To go through all of it would take longer than the load saves.
 */
#include "src/load/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "src/base/json.h"
#include "src/base/threads.h"
#include "src/dtype/dtype.h"
#include "src/load/sync.h"

enum {
    HEADER_GRAIN = 4096,
    PIECE_NBYTES = 4 << 20,
    SAMPLE_NBYTES = 256 << 10,
    N_SAMPLES = 64,
    DIGEST_TEXT_SIZE = LDS_CACHE_KEY_SIZE
};

#define DEFAULT_MAX_NBYTES (UINT64_C(64) << 30)

static void write_hex(char text[static DIGEST_TEXT_SIZE], XXH128_hash_t hash)
{
    snprintf(text, DIGEST_TEXT_SIZE, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

static bool is_kept(const lds_target *target)
{
    return target->place == LDS_PLACE_ARENA;
}

/* ------------------------------------------------------------------------------------------------------- */

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

/* What the file was when it was opened: an entry of what it has become since is not what is to be loaded. */
static lds_status add_file(XXH3_state_t *state, const lds_file *file, lds_error *err)
{
    struct stat st;
    if (fstat(file->fd, &st))
        return lds_fail_errno(err, LDS_ERR_IO, errno, "its status cannot be read");
    LDS_TRY(lds_file_check_unchanged(file, err));
    char *path = realpath(file->path, NULL);
    add_text(state, path ? path : file->path);
    free(path);
    add_u64(state, st.st_dev);
    add_u64(state, st.st_ino);
    add_u64(state, (uint64_t)st.st_size);
    add_time(state, st.st_mtim);
    add_time(state, st.st_ctim);
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

static lds_status make_key(char key[static LDS_CACHE_KEY_SIZE], const lds_plan *plan, lds_error *err)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return lds_fail_memory(err, sizeof *state);
    XXH3_128bits_reset(state);
    add_text(state, "loadstone cache 1");
    add_u64(state, 1); /* in the machine's order of bytes */
    lds_status status = LDS_OK;
    uint32_t file = UINT32_MAX;
    for (size_t r = 0; r < plan->n_runs && !status; r++) {
        const lds_run *run = &plan->runs[r];
        if (!is_kept(&plan->targets[run->target]))
            continue;
        if (plan->checkpoint->tensors[run->tensor].file != file) {
            file = plan->checkpoint->tensors[run->tensor].file;
            status = add_file(state, &plan->checkpoint->files[file], err);
        }
        add_run(state, plan, run);
    }
    write_hex(key, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    return status;
}

static bool converts(const lds_plan *plan)
{
    for (size_t r = 0; r < plan->n_runs; r++) {
        const lds_target *target = &plan->targets[plan->runs[r].target];
        if (is_kept(target) && plan->checkpoint->tensors[plan->runs[r].tensor].dtype != target->dtype)
            return true;
    }
    return false;
}

/* ------------------------------------------------------------------------------------------------------- */

/* A digest of the whole, if that is short, or of samples from its beginning to its end. */
static lds_status sample(char text[static DIGEST_TEXT_SIZE], int fd, uint64_t offset, uint64_t nbytes,
                         lds_error *err)
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
    bool is_short = nbytes <= (uint64_t)N_SAMPLES * SAMPLE_NBYTES;
    uint64_t step = is_short ? SAMPLE_NBYTES : (nbytes - SAMPLE_NBYTES) / (N_SAMPLES - 1);
    for (uint64_t at = 0; at < nbytes && !status; at += step) {
        size_t n = nbytes - at < SAMPLE_NBYTES ? (size_t)(nbytes - at) : SAMPLE_NBYTES;
        status = lds_file_read(fd, data, n, offset + at, err);
        XXH3_128bits_update(state, data, n);
    }
    write_hex(text, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    free(data);
    return status;
}

static const char *metadata_of(const lds_checkpoint *checkpoint, const char *key)
{
    for (size_t i = 0; i < checkpoint->n_metadata; i++)
        if (!strcmp(checkpoint->metadata[i].key, key))
            return checkpoint->metadata[i].value;
    return "";
}

/* Where an entry's data begins and ends: its tensors tile it. */
static uint64_t data_begin(const lds_checkpoint *entry)
{
    return entry->n_tensors ? entry->tensors[0].offset : entry->files[0].identity.nbytes;
}

static lds_status check_whole(const lds_cache *cache, const lds_checkpoint *entry, lds_error *err)
{
    struct stat st;
    char digest[DIGEST_TEXT_SIZE];
    const lds_file *file = &entry->files[0];
    if (strcmp(metadata_of(entry, "loadstone.key"), cache->key) != 0)
        return lds_fail(err, LDS_ERR_MALFORMED, "is the entry of another key");
    if (fstat(file->fd, &st) || st.st_mtim.tv_nsec ||
        (long long)st.st_mtim.tv_sec != strtoll(metadata_of(entry, "loadstone.written"), NULL, 10))
        return lds_fail(err, LDS_ERR_CHANGED, "was changed since it was written");
    uint64_t begin = data_begin(entry);
    LDS_TRY(sample(digest, file->fd, begin, file->identity.nbytes - begin, err));
    if (strcmp(metadata_of(entry, "loadstone.sample"), digest) != 0)
        return lds_fail(err, LDS_ERR_MALFORMED, "is damaged");
    return LDS_OK;
}

/* Does it have what the plan would have in its arena, no more and no less? */
static bool has_all(const lds_checkpoint *entry, const lds_plan *plan)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_targets; i++) {
        const lds_target *target = &plan->targets[i];
        if (!is_kept(target))
            continue;
        uint32_t at = lds_names_find(&entry->names, target->param->name);
        if (at == LDS_NO_INDEX)
            return false;
        const lds_tensor *tensor = &entry->tensors[at];
        if (tensor->dtype != target->dtype || tensor->nbytes != target->nbytes ||
            tensor->n_dims != target->param->n_dims ||
            memcmp(tensor->shape, target->param->shape, tensor->n_dims * sizeof *tensor->shape) != 0)
            return false;
        n++;
    }
    return n == entry->n_tensors;
}

static bool is_mapped_whole(const lds_plan *plan, size_t n_targets)
{
    for (size_t i = 0; i < plan->n_targets; i++)
        if (plan->targets[i].nbytes && plan->targets[i].place != LDS_PLACE_MAPPED)
            return false;
    return plan->n_targets == n_targets;
}

static lds_status plan_entry(lds_cache *cache, const lds_plan *plan, const lds_load_options *options,
                             lds_error *err)
{
    lds_load_options own = *options;
    own.keymap = NULL; /* an entry has the parameters' names */
    own.strict = own.init_missing = own.hugetlb = false;
    own.io = LDS_IO_MAP;
    own.cache = NULL;
    own.pool = NULL;
    LDS_TRY(lds_plan_make(&cache->plan, plan->network, cache->entry, &own, NULL, err));
    if (!is_mapped_whole(cache->plan, cache->entry->n_tensors))
        return lds_fail(err, LDS_ERR_MALFORMED, "cannot be mapped whole");
    return LDS_OK;
}

static void forget_entry(lds_cache *cache)
{
    lds_plan_free(cache->plan);
    lds_checkpoint_close(cache->entry);
    cache->plan = NULL;
    cache->entry = NULL;
}

/* Open and check the entry; whatever is wrong with it, there is none then. */
static lds_status open_entry(lds_cache *cache, const lds_plan *plan, const lds_load_options *options,
                             lds_error *err)
{
    char *path;
    LDS_TRY(lds_format_string(&path, err, "%s/%s.safetensors", cache->dir.path, cache->key));
    lds_status status = lds_path_exists(path) ? lds_checkpoint_open(&cache->entry, path, NULL, err)
                                              : lds_fail(err, LDS_ERR_NOT_FOUND, "is not there");
    free(path);
    if (status)
        return status;
    status = check_whole(cache, cache->entry, err);
    if (!status && !has_all(cache->entry, plan))
        status = lds_fail(err, LDS_ERR_MALFORMED, "has other parameters");
    if (!status)
        status = plan_entry(cache, plan, options, err);
    if (status) {
        forget_entry(cache);
        return status;
    }
    const struct timespec times[] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    (void)!futimens(cache->entry->files[0].fd, times); /* used now, for the eviction */
    return LDS_OK;
}

/* Leave the plan with what is not in the entry; what is initialised moves together. */
static lds_status strip(lds_plan *plan, lds_error *err)
{
    uint32_t *moved;
    size_t n_targets = 0, n_runs = 0;
    LDS_TRY(lds_calloc(&moved, plan->n_targets, sizeof *moved, err));
    plan->stats.peak_nbytes -= plan->arena_nbytes;
    plan->arena_nbytes = 0;
    for (size_t i = 0; i < plan->n_targets; i++) {
        lds_target t = plan->targets[i];
        moved[i] = UINT32_MAX;
        if (is_kept(&t))
            continue;
        if (t.place == LDS_PLACE_INIT) {
            t.offset = plan->arena_nbytes;
            plan->arena_nbytes = lds_align_up(t.offset + t.nbytes + !t.nbytes, 64);
        }
        moved[i] = (uint32_t)n_targets;
        plan->targets[n_targets++] = t;
    }
    plan->stats.peak_nbytes += plan->arena_nbytes;
    for (size_t r = 0; r < plan->n_runs; r++) {
        lds_run run = plan->runs[r];
        run.target = moved[run.target];
        if (run.target == UINT32_MAX)
            plan->stats.read_nbytes -= plan->checkpoint->tensors[run.tensor].nbytes;
        else
            plan->runs[n_runs++] = run;
    }
    plan->n_targets = n_targets;
    plan->n_runs = n_runs;
    free(moved);
    return LDS_OK;
}

static void settle_statistics(lds_plan *plan, const lds_plan *from_entry)
{
    lds_report_stats *stats = &plan->report->stats;
    const char *fallback = from_entry->report->stats.fallback;
    stats->written_nbytes -= from_entry->stats.mapped_nbytes;
    stats->read_nbytes = plan->stats.read_nbytes;
    if (fallback || !(stats->read_nbytes || stats->mapped_nbytes)) /* what is left may have one of its own */
        stats->fallback = fallback;
    stats->source = stats->read_nbytes ? "cache+read" : stats->mapped_nbytes ? "map+cache" : "cache";
    stats->reason = "converted by an earlier load";
    stats->mapped_nbytes += from_entry->stats.mapped_nbytes;
    if (!stats->read_nbytes) {
        stats->n_threads = 0;
        stats->source_reason = NULL;
    }
}

lds_status lds_cache_find(lds_cache *cache, lds_plan *plan, const lds_load_options *options,
                          lds_error *problem, lds_error *err)
{
    if (!converts(plan))
        return LDS_OK;
    cache->is_wanted = true;
    lds_status status = lds_cache_dir_open(&cache->dir, options->cache, true, problem);
    if (!status)
        status = make_key(cache->key, plan, problem);
    if (status) {
        cache->is_wanted = false;
        return LDS_OK;
    }
    if (open_entry(cache, plan, options, NULL))
        return LDS_OK;
    LDS_TRY(strip(plan, err));
    settle_statistics(plan, cache->plan);
    return LDS_OK;
}

void lds_cache_end(lds_cache *cache)
{
    forget_entry(cache);
    lds_cache_dir_close(&cache->dir);
}

/* ------------------------------------------------------------------------------------------------------- */

/* One write: a parameter, or a part of it. */
typedef struct piece {
    const uint8_t *data;
    uint64_t offset; /* in the file */
    size_t nbytes;
} piece;

typedef struct writing {
    const lds_cache *cache;
    uint64_t max_nbytes; /* that the folder's entries may have together */
    const lds_transfers *transfers;
    const lds_target **targets; /* those that are kept, those with the largest elements first */
    size_t n_targets;
    int fd;
    char *header;
    size_t header_nbytes, header_capacity;
    size_t sample_at; /* where in the header the digest belongs */
    uint64_t data_nbytes;
    piece *pieces;
    size_t n_pieces, pieces_capacity;
    atomic_size_t next;
    atomic_bool give_way;
} writing;

/* So each begins at a multiple of its element, and none leaves a gap. */
static int compare_targets(const void *a, const void *b)
{
    const lds_target *x = *(const lds_target *const *)a, *y = *(const lds_target *const *)b;
    uint32_t m = lds_dtype_bits((lds_dtype)x->dtype), n = lds_dtype_bits((lds_dtype)y->dtype);
    if (m != n)
        return m > n ? -1 : 1;
    return (x > y) - (x < y);
}

static lds_status list_targets(writing *w, lds_error *err)
{
    const lds_plan *plan = w->transfers->plan;
    LDS_TRY(lds_calloc(&w->targets, plan->n_targets, sizeof(const lds_target *), err));
    for (size_t i = 0; i < plan->n_targets; i++)
        if (is_kept(&plan->targets[i]))
            w->targets[w->n_targets++] = &plan->targets[i];
    qsort(w->targets, w->n_targets, sizeof(const lds_target *), compare_targets);
    return LDS_OK;
}

static lds_status say(writing *w, lds_error *err, const char *format, ...) LDS_PRINTF(3, 4);
static lds_status say(writing *w, lds_error *err, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    lds_status status = lds_grow(&w->header, &w->header_capacity, w->header_nbytes + (size_t)n + 1, 1, err);
    if (!status)
        w->header_nbytes += (size_t)vsnprintf(w->header + w->header_nbytes, (size_t)n + 1, format, again);
    va_end(again);
    return status;
}

static lds_status say_string(writing *w, const char *text, lds_error *err)
{
    char escaped[8];
    LDS_TRY(say(w, err, "\""));
    while (*text)
        LDS_TRY(say(w, err, "%s", lds_json_escape(escaped, &text)));
    return say(w, err, "\"");
}

static lds_status say_target(writing *w, const lds_target *target, lds_error *err)
{
    LDS_TRY(say(w, err, ","));
    LDS_TRY(say_string(w, target->param->name.text, err));
    LDS_TRY(say(w, err, ":{\"dtype\":\"%s\",\"shape\":[", lds_dtype_name((lds_dtype)target->dtype)));
    for (uint32_t d = 0; d < target->param->n_dims; d++)
        LDS_TRY(say(w, err, d ? ",%llu" : "%llu", (unsigned long long)target->param->shape[d]));
    LDS_TRY(say(w, err, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)w->data_nbytes,
                (unsigned long long)(w->data_nbytes + target->nbytes)));
    w->data_nbytes += target->nbytes;
    return LDS_OK;
}

/* The file's beginning, with its length in front; the digest is filled in later. */
static lds_status compose_header(writing *w, const char *key, time_t written, lds_error *err)
{
    LDS_TRY(say(w, err,
                "........{\"__metadata__\":{\"loadstone.key\":\"%s\",\"loadstone.written\":\"%lld\","
                "\"loadstone.source\":",
                key, (long long)written));
    LDS_TRY(say_string(w, w->transfers->plan->checkpoint->path, err));
    LDS_TRY(say(w, err, ",\"loadstone.sample\":\""));
    w->sample_at = w->header_nbytes;
    LDS_TRY(say(w, err, "%32s\"}", ""));
    for (size_t i = 0; i < w->n_targets; i++)
        LDS_TRY(say_target(w, w->targets[i], err));
    LDS_TRY(say(w, err, "}"));
    size_t whole = (size_t)lds_align_up(w->header_nbytes, HEADER_GRAIN);
    LDS_TRY(say(w, err, "%*s", (int)(whole - w->header_nbytes), ""));
    for (int i = 0; i < 8; i++)
        w->header[i] = (char)((uint64_t)(w->header_nbytes - 8) >> 8 * i);
    return LDS_OK;
}

static lds_status cut_pieces(writing *w, lds_error *err)
{
    uint64_t offset = w->header_nbytes;
    for (size_t i = 0; i < w->n_targets; i++) {
        const uint8_t *data = lds_target_data(w->transfers, w->targets[i]);
        for (uint64_t done = 0, left; (left = w->targets[i]->nbytes - done);) {
            size_t n = left < PIECE_NBYTES ? (size_t)left : PIECE_NBYTES;
            LDS_TRY(lds_grow(&w->pieces, &w->pieces_capacity, w->n_pieces + 1, sizeof *w->pieces, err));
            w->pieces[w->n_pieces++] = (piece){data + done, offset, n};
            done += n;
            offset += n;
        }
    }
    return LDS_OK;
}

static lds_status write_all(int fd, const void *data, size_t nbytes, uint64_t offset, lds_error *err)
{
    for (const uint8_t *at = data; nbytes;) {
        ssize_t n = pwrite(fd, at, nbytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return lds_fail_errno(err, LDS_ERR_IO, n ? errno : EIO, "cannot be written to");
        at += n;
        offset += (uint64_t)n;
        nbytes -= (size_t)n;
    }
    return LDS_OK;
}

static lds_status write_worker(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker;
    writing *w = ctx;
    while (!atomic_load_explicit(stop, memory_order_relaxed) && !lds_team_gives_way(&w->give_way)) {
        size_t i = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
        if (i >= w->n_pieces)
            break;
        const piece *p = &w->pieces[i];
        LDS_TRY(write_all(w->fd, p->data, p->nbytes, p->offset, err));
    }
    return LDS_OK;
}

/* 0, or why not. A file system that cannot set room aside can say how much it has. */
static int set_aside(const writing *w, uint64_t nbytes)
{
    if (!fallocate(w->fd, 0, 0, (off_t)nbytes))
        return 0;
    int why = errno;
    if (why == EOPNOTSUPP || why == ENOSYS)
        return lds_cache_free_nbytes(&w->cache->dir) < nbytes ? ENOSPC : 0;
    (void)!ftruncate(w->fd, 0); /* what was set aside before there was no more */
    return why;
}

/*
 * Before anything is written there is room for all of it. Entries go for it only if the cap would have them go
 * anyway, and if that is enough: else the write would fail, and they would be missed.
 */
static lds_status reserve(const writing *w, lds_error *err)
{
    uint64_t whole = w->header_nbytes + w->data_nbytes;
    int why = set_aside(w, whole);
    if (why == ENOSPC && lds_cache_make_room(&w->cache->dir, w->max_nbytes - whole, whole))
        why = set_aside(w, whole);
    if (why)
        return lds_fail_errno(err, LDS_ERR_IO, why, "has no room for %.2f GB", (double)whole / 1e9);
    return LDS_OK;
}

static lds_status write_file(writing *w, time_t written, lds_error *err)
{
    LDS_TRY(reserve(w, err));
    lds_team team = {write_worker, w, w->transfers->tick, w->transfers->tick_ctx, &w->give_way};
    LDS_TRY(lds_team_run(&team, w->n_pieces, w->transfers->plan->max_threads, err));
    char digest[DIGEST_TEXT_SIZE];
    LDS_TRY(sample(digest, w->fd, w->header_nbytes, w->data_nbytes, err));
    memcpy(w->header + w->sample_at, digest, DIGEST_TEXT_SIZE - 1);
    LDS_TRY(write_all(w->fd, w->header, w->header_nbytes, 0, err));
    const struct timespec times[] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = written}};
    if (futimens(w->fd, times))
        return lds_fail_errno(err, LDS_ERR_IO, errno, "cannot be written to");
    return lds_sync(w->fd, w->transfers->tick, w->transfers->tick_ctx, err);
}

/*
 * Others go when it is there: a write that fails costs none of them. That the name is on the disk is waited for,
 * too, but if it is not, the next load that looks for it writes it anew.
 */
static lds_status publish(const writing *w, const char *temporary, lds_error *err)
{
    const lds_cache_dir *dir = &w->cache->dir;
    char name[LDS_CACHE_NAME_SIZE];
    snprintf(name, sizeof name, "%s.safetensors", w->cache->key);
    LDS_TRY(lds_cache_publish(w->fd, temporary, dir, name, err));
    lds_status status = lds_cache_evict(dir, w->max_nbytes, name, NULL, err);
    if (status) {
        unlinkat(dir->fd, name, 0);
        return status;
    }
    status = lds_sync(dir->fd, w->transfers->tick, w->transfers->tick_ctx, err);
    return status == LDS_ERR_CANCELLED ? status : LDS_OK;
}

static lds_status store_in_file(writing *w, time_t written, lds_error *err)
{
    char temporary[LDS_CACHE_NAME_SIZE + 32];
    const lds_cache_dir *dir = &w->cache->dir;
    LDS_TRY(lds_cache_create(&w->fd, temporary, dir, w->cache->key, err));
    lds_status status = write_file(w, written, err);
    if (!status)
        status = publish(w, temporary, err);
    if (status && *temporary)
        unlinkat(dir->fd, temporary, 0);
    close(w->fd);
    return status;
}

static lds_status store_locked(writing *w, lds_error *err)
{
    time_t written = time(NULL);
    LDS_TRY(list_targets(w, err));
    LDS_TRY(compose_header(w, w->cache->key, written, err));
    LDS_TRY(cut_pieces(w, err));
    uint64_t whole = w->header_nbytes + w->data_nbytes;
    if (whole > w->max_nbytes)
        return lds_fail(err, LDS_ERR_MEMORY, "may have %.2f GB, and this needs %.2f GB",
                        (double)w->max_nbytes / 1e9, (double)whole / 1e9);
    return store_in_file(w, written, err);
}

lds_status lds_cache_store(const lds_cache *cache, const lds_transfers *transfers,
                           const lds_load_options *options, lds_error *err)
{
    int lock = lds_cache_lock_key(&cache->dir, cache->key);
    if (lock < 0 && errno == EWOULDBLOCK)
        return lds_fail(err, LDS_ERR_IO, "another load is writing the same");
    if (lock < 0) {
        lds_fail_errno(err, LDS_ERR_IO, errno, "cannot be written to");
        return lds_error_context(err, LDS_ERR_IO, cache->dir.path, NULL);
    }
    writing w = {
        .cache = cache,
        .transfers = transfers,
        .max_nbytes = options->cache_nbytes ? options->cache_nbytes : DEFAULT_MAX_NBYTES,
    };
    lds_status status = store_locked(&w, err);
    if (status && status != LDS_ERR_CANCELLED)
        lds_error_context(err, status, cache->dir.path, NULL);
    free(w.targets);
    free(w.header);
    free(w.pieces);
    lds_cache_unlock_key(&cache->dir, cache->key, lock);
    return status;
}
