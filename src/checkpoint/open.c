/*
 * Opening a checkpoint: find its files, read and parse their headers, index the names. What can be opened is in
 * docs/checkpoints.md.
 */
#include "src/checkpoint/open.h"

#include <fcntl.h>

#include "src/base/options.h"
#include "src/checkpoint/index.h"
#include "src/checkpoint/safetensors.h"

enum { MAX_INDEX_NBYTES = 256 << 20 };

static const lds_checkpoint_options default_options = {.struct_size = sizeof default_options};

void lds_checkpoint_options_init(lds_checkpoint_options *options, size_t size)
{
    lds_options_export(options, size, &default_options, sizeof default_options);
}

/* ---- weights files ---- */

static lds_status read_rest(lds_file *file, uint64_t nbytes, lds_error *err)
{
    file->header = lds_malloc_large((size_t)nbytes);
    if (!file->header)
        return lds_fail_memory(err, nbytes);
    file->header_nbytes = (size_t)nbytes;
    lds_file_announce(file->fd, nbytes, LDS_SAFETENSORS_HEADER_OFFSET);
    return lds_file_read(file->fd, file->header, file->header_nbytes, LDS_SAFETENSORS_HEADER_OFFSET, err);
}

/*
 * What the kernel would read ahead here is weights that nobody has asked for; and in the last of these pages it leaves
 * a mark, from which it reads on for whoever comes there, whatever advice he gave.
 */
static lds_status read_header(lds_file *file, lds_error *err)
{
    uint8_t start[LDS_SAFETENSORS_START_NBYTES];
    uint64_t file_nbytes = file->identity.nbytes, nbytes;
    size_t n = file_nbytes < sizeof start ? (size_t)file_nbytes : sizeof start;
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_RANDOM);
    LDS_TRY(lds_file_read(file->fd, start, n, 0, err));
    LDS_TRY(lds_safetensors_start(&nbytes, start, n, file_nbytes, file->path, err));
    LDS_TRY(read_rest(file, nbytes, err));
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_NORMAL);
    return LDS_OK;
}

static lds_status add_file(lds_checkpoint *checkpoint, const char *path, lds_error *err)
{
    uint32_t i = (uint32_t)checkpoint->n_files++;
    lds_file *file = &checkpoint->files[i];
    LDS_TRY(lds_file_open(file, path, err));
    lds_status status = read_header(file, err);
    if (status)
        return lds_error_context(err, status, path, NULL);
    return lds_safetensors_parse(checkpoint, i, err);
}

static lds_status open_single(lds_checkpoint *checkpoint, lds_error *err)
{
    LDS_TRY(lds_calloc(&checkpoint->files, 1, sizeof *checkpoint->files, err));
    return add_file(checkpoint, checkpoint->path, err);
}

/* ---- sharded sets ---- */

static lds_status add_shard(lds_checkpoint *checkpoint, const char *name, lds_error *err)
{
    char *path;
    LDS_TRY(lds_join_path(&path, checkpoint->dir, name, err));
    lds_status status;
    if (lds_path_exists(path)) {
        status = add_file(checkpoint, path, err);
    } else {
        status = lds_fail(err, LDS_ERR_NOT_FOUND,
                          "expected the shard %s beside the index, found none: download it", name);
        lds_error_context(err, status, checkpoint->path, NULL);
    }
    free(path);
    return status;
}

/* Every name of the index has to be where it says. */
static lds_status check_index(const lds_checkpoint *checkpoint, const lds_index *index, lds_error *err)
{
    for (size_t i = 0; i < index->names.n; i++) {
        lds_name name = index->names.entries[i];
        uint32_t shard = index->shard_of[i], found = lds_names_find(&checkpoint->names, name);
        if (found != LDS_NO_INDEX && checkpoint->tensors[found].file == shard)
            continue;
        lds_status status =
            lds_fail(err, LDS_ERR_MALFORMED, "expected it in %s, found it in %s", index->shards[shard],
                     found == LDS_NO_INDEX ? "no shard" : index->shards[checkpoint->tensors[found].file]);
        return lds_error_context(err, status, checkpoint->path, name.text);
    }
    return LDS_OK;
}

static lds_status add_shards(lds_checkpoint *checkpoint, const lds_index *index, lds_error *err)
{
    LDS_TRY(lds_calloc(&checkpoint->files, index->n_shards, sizeof *checkpoint->files, err));
    for (size_t i = 0; i < index->n_shards; i++)
        LDS_TRY(add_shard(checkpoint, index->shards[i], err));
    return check_index(checkpoint, index, err);
}

static lds_status open_index(lds_checkpoint *checkpoint, lds_error *err)
{
    char *text;
    size_t nbytes;
    LDS_TRY(lds_read_text(&text, &nbytes, checkpoint->path, MAX_INDEX_NBYTES, err));
    lds_index index;
    lds_status status = lds_index_parse(&index, text, nbytes, checkpoint->path, err);
    if (!status)
        status = add_shards(checkpoint, &index, err);
    lds_index_destroy(&index);
    free(text);
    return status;
}

/* ---- all of it ---- */

static lds_status open_in(lds_checkpoint *checkpoint, lds_location *location,
                          const lds_checkpoint_options *options, lds_error *err)
{
    checkpoint->path = location->path;
    location->path = NULL;
    if (location->kind == LDS_LOCATION_PIPELINE) {
        LDS_TRY(lds_copy_string(&checkpoint->dir, checkpoint->path, strlen(checkpoint->path), err));
        return lds_open_pipeline(checkpoint, options, err);
    }
    LDS_TRY(lds_parent_of(&checkpoint->dir, checkpoint->path, err));
    return location->kind == LDS_LOCATION_INDEX ? open_index(checkpoint, err) : open_single(checkpoint, err);
}

lds_status lds_open_location(lds_checkpoint **checkpoint, lds_location *location,
                             const lds_checkpoint_options *options, lds_error *err)
{
    lds_checkpoint *opened = NULL;
    lds_status status = lds_calloc(&opened, 1, sizeof *opened, err);
    if (!status)
        status = open_in(opened, location, options, err);
    free(location->path);
    location->path = NULL;
    if (status) {
        lds_checkpoint_close(opened);
        opened = NULL;
    }
    *checkpoint = opened;
    return status;
}

static lds_status check_variant(const char *variant, lds_error *err)
{
    if (!variant || (*variant && !strchr(variant, '/')))
        return LDS_OK;
    return lds_fail(err, LDS_ERR_ARGUMENT, "expected a variant like \"fp16\", found \"%.100s\"", variant);
}

lds_status lds_checkpoint_open(lds_checkpoint **checkpoint, const char *path,
                               const lds_checkpoint_options *given, lds_error *err)
{
    *checkpoint = NULL;
    lds_checkpoint_options options = default_options;
    lds_location location;
    LDS_TRY(lds_options_import(&options, sizeof options, "options", given, err));
    LDS_TRY(check_variant(options.variant, err));
    LDS_TRY(lds_resolve(&location, path, options.variant, options.revision, err));
    return lds_open_location(checkpoint, &location, &options, err);
}

void lds_checkpoint_close(lds_checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    for (size_t i = 0; i < checkpoint->n_components; i++) {
        lds_checkpoint_close(checkpoint->components[i].checkpoint);
        free(checkpoint->components[i].name);
    }
    for (size_t i = 0; i < checkpoint->n_files; i++)
        lds_file_close(&checkpoint->files[i]);
    lds_names_destroy(&checkpoint->names);
    lds_names_destroy(&checkpoint->metadata_names);
    free(checkpoint->components);
    free(checkpoint->files);
    free(checkpoint->tensors);
    free(checkpoint->metadata);
    free(checkpoint->path);
    free(checkpoint->dir);
    free(checkpoint);
}
