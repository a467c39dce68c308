/*
 * What an entry of the cache looks like, and whether it is one.
 *
 * An entry is a safetensors file of the parameters' own names. It is not believed because of its name: it is
 * parsed like any file, has to name the key, to have all the parameters in their dtypes and shapes, and to
 * have been left alone since it was written (its time of modification is in its header), and the digest of
 * its samples has to agree.
 */
#include "src/load/cache_entry.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "src/base/json.h"
#include "src/dtype/dtype.h"

enum { HEADER_GRAIN = 4096, LENGTH_NBYTES = 8 };

static const char key_name[] = "loadstone.key", written_name[] = "loadstone.written",
                  source_name[] = "loadstone.source", sample_name[] = "loadstone.sample";

/* The most bits, below a limit, that an element of what is kept has; 0 if there is none. */
static uint32_t widest_below(uint32_t limit, const lds_plan *plan)
{
    uint32_t widest = 0;
    for (size_t i = 0; i < plan->n_targets; i++) {
        uint32_t bits = lds_dtype_bits((lds_dtype)plan->targets[i].dtype);
        if (lds_cache_keeps(&plan->targets[i]) && bits < limit && bits > widest)
            widest = bits;
    }
    return widest;
}

static void put_target(FILE *f, const lds_target *target, uint64_t begin)
{
    fputc(',', f);
    lds_json_put_string(f, target->param->name.text);
    fprintf(f, ":{\"dtype\":\"%s\",\"shape\":[", lds_dtype_name((lds_dtype)target->dtype));
    for (uint32_t d = 0; d < target->param->n_dims; d++)
        fprintf(f, d ? ",%llu" : "%llu", (unsigned long long)target->param->shape[d]);
    fprintf(f, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
            (unsigned long long)(begin + target->nbytes));
}

/* The widest elements come first: so each parameter begins at a multiple of its own, and none leaves a gap. */
static void put_targets(FILE *f, lds_cache_header *header, const lds_plan *plan)
{
    for (uint32_t bits = UINT32_MAX; (bits = widest_below(bits, plan));)
        for (size_t i = 0; i < plan->n_targets; i++) {
            const lds_target *target = &plan->targets[i];
            if (!lds_cache_keeps(target) || lds_dtype_bits((lds_dtype)target->dtype) != bits)
                continue;
            put_target(f, target, header->end);
            header->offsets[i] = header->end;
            header->end += target->nbytes;
        }
}

/* All but the length in front and the digest, which is filled in when it is known. */
static void put_header(FILE *f, lds_cache_header *header, const lds_plan *plan, const char *key)
{
    fprintf(f, "%*s{\"__metadata__\":{\"%s\":\"%s\",\"%s\":\"%lld\",\"%s\":", LENGTH_NBYTES, "", key_name,
            key, written_name, (long long)header->written, source_name);
    lds_json_put_string(f, plan->checkpoint->path);
    fprintf(f, ",\"%s\":\"", sample_name);
    header->sample_at = (size_t)ftell(f);
    fprintf(f, "%*s\"}", LDS_CACHE_DIGEST_SIZE - 1, "");
    put_targets(f, header, plan);
    fputc('}', f);
    uint64_t nbytes = (uint64_t)ftell(f);
    fprintf(f, "%*s", (int)(lds_align_up(nbytes, HEADER_GRAIN) - nbytes), "");
}

lds_status lds_cache_header_compose(lds_cache_header *header, const lds_plan *plan, const char *key,
                                    lds_error *err)
{
    *header = (lds_cache_header){.written = time(NULL)};
    LDS_TRY(lds_calloc(&header->offsets, plan->n_targets, sizeof *header->offsets, err));
    FILE *f = open_memstream(&header->text, &header->nbytes);
    if (f)
        put_header(f, header, plan, key);
    int failed = !f || ferror(f);
    if ((f && fclose(f)) || failed)
        return lds_fail_memory(err, header->nbytes);
    for (int i = 0; i < LENGTH_NBYTES; i++)
        header->text[i] = (char)((uint64_t)(header->nbytes - LENGTH_NBYTES) >> 8 * i);
    for (size_t i = 0; i < plan->n_targets; i++)
        header->offsets[i] += header->nbytes;
    header->end += header->nbytes;
    return LDS_OK;
}

/* ------------------------------------------------------------------------------------------------------- */

static const char *metadata_of(const lds_checkpoint *entry, const char *key)
{
    for (size_t i = 0; i < entry->n_metadata; i++)
        if (!strcmp(entry->metadata[i].key, key))
            return entry->metadata[i].value;
    return "";
}

const char *lds_cache_entry_source(const lds_checkpoint *entry)
{
    return metadata_of(entry, source_name);
}

/* Its tensors tile what follows the header. */
static lds_status check_samples(const lds_checkpoint *entry, lds_error *err)
{
    char digest[LDS_CACHE_DIGEST_SIZE];
    const lds_file *file = &entry->files[0];
    uint64_t end = file->identity.nbytes, begin = entry->n_tensors ? entry->tensors[0].offset : end;
    LDS_TRY(lds_cache_sample(digest, file->fd, begin, end - begin, err));
    if (strcmp(metadata_of(entry, sample_name), digest) != 0)
        return lds_fail(err, LDS_ERR_MALFORMED, "is damaged");
    return LDS_OK;
}

/* Does it have what the plan would have in its arena, no more and no less? */
static bool has_all(const lds_checkpoint *entry, const lds_plan *plan)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_targets; i++) {
        const lds_target *target = &plan->targets[i];
        if (!lds_cache_keeps(target))
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

lds_status lds_cache_entry_check(const lds_checkpoint *entry, const lds_cache_dir *dir, const char *key,
                                 const lds_plan *plan, lds_error *err)
{
    struct stat st;
    if (fstat(entry->files[0].fd, &st))
        return lds_fail_errno(err, LDS_ERR_IO, errno, "its status cannot be read");
    if (!lds_cache_dir_trusts(dir, &st))
        return lds_fail(err, LDS_ERR_IO, "belongs to another user, in a folder that everybody may write to");
    if (strcmp(metadata_of(entry, key_name), key) != 0)
        return lds_fail(err, LDS_ERR_MALFORMED, "is the entry of another key");
    if (st.st_mtim.tv_nsec ||
        (long long)st.st_mtim.tv_sec != strtoll(metadata_of(entry, written_name), NULL, 10))
        return lds_fail(err, LDS_ERR_CHANGED, "was changed since it was written");
    if (!has_all(entry, plan))
        return lds_fail(err, LDS_ERR_MALFORMED, "has other parameters");
    return check_samples(entry, err);
}
