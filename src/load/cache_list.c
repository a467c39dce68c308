/* What callers may do with a cache's folder: look what is in it, and make it smaller. */
#include "src/base/options.h"
#include "src/load/cache_entry.h"

typedef struct listed {
    char *path, *source;
    uint64_t nbytes;
    int64_t used_seconds;
} listed;

typedef struct listed_unfinished {
    char *path;
    uint64_t nbytes;
    bool is_being_written;
} listed_unfinished;

struct lds_cache_list {
    listed *entries;
    listed_unfinished *unfinished;
    size_t n, n_unfinished;
};

/* What an entry says it was made from; one that cannot be read says nothing, and is listed all the same. */
static lds_status describe(listed *entry, lds_error *err)
{
    lds_checkpoint *checkpoint;
    if (lds_checkpoint_open(&checkpoint, entry->path, NULL, NULL))
        return lds_copy_string(&entry->source, "", 0, err);
    const char *source = lds_cache_entry_source(checkpoint);
    lds_status status = lds_copy_string(&entry->source, source, strlen(source), err);
    lds_checkpoint_close(checkpoint);
    return status;
}

static lds_status list_entries(lds_cache_list *list, const lds_cache_dir *dir,
                               const lds_cache_found_list *found, lds_error *err)
{
    LDS_TRY(lds_calloc(&list->entries, found->n, sizeof *list->entries, err));
    for (size_t i = found->n; i-- > 0;) { /* the last that was used first */
        listed *entry = &list->entries[list->n++];
        entry->nbytes = found->data[i].nbytes;
        entry->used_seconds = (int64_t)found->data[i].used.tv_sec;
        LDS_TRY(lds_format_string(&entry->path, err, "%s/%s", dir->path, found->data[i].name));
        LDS_TRY(describe(entry, err));
    }
    return LDS_OK;
}

static lds_status list_unfinished(lds_cache_list *list, const lds_cache_dir *dir,
                                  const lds_cache_found_list *found, lds_error *err)
{
    LDS_TRY(lds_calloc(&list->unfinished, found->n, sizeof *list->unfinished, err));
    for (size_t i = 0; i < found->n; i++) {
        listed_unfinished *file = &list->unfinished[list->n_unfinished++];
        file->nbytes = found->data[i].nbytes;
        file->is_being_written = found->data[i].writer != LDS_CACHE_WRITER_GONE;
        LDS_TRY(lds_format_string(&file->path, err, "%s/%s", dir->path, found->data[i].name));
    }
    return LDS_OK;
}

/* To look whether a writer is alive takes a file's lock for a moment, which one that begins should not see. */
static lds_status fill_list(lds_cache_list *list, const lds_cache_dir *dir, lds_error *err)
{
    lds_cache_content content;
    lds_cache_dir_lock(dir);
    lds_status status = lds_cache_content_init(&content, dir, false, err);
    lds_cache_dir_unlock(dir);
    if (!status)
        status = list_entries(list, dir, &content.entries, err);
    if (!status)
        status = list_unfinished(list, dir, &content.unfinished, err);
    lds_cache_content_destroy(&content);
    return status;
}

/* Open a folder for looking. One that is not there is as good as an empty one: *is_there is false then. */
static lds_status open_folder(lds_cache_dir *folder, bool *is_there, const char *dir, lds_error *err)
{
    lds_error problem = LDS_ERROR_INIT;
    lds_status status = lds_cache_dir_open(folder, dir ? dir : "", false, &problem);
    *is_there = !status;
    if (status == LDS_ERR_NOT_FOUND && folder->path)
        return LDS_OK;
    return status ? lds_error_take(err, status, &problem) : LDS_OK;
}

lds_status lds_cache_list_new(lds_cache_list **list, const char *dir, lds_error *err)
{
    bool is_there;
    lds_cache_dir folder;
    *list = NULL;
    LDS_TRY(lds_calloc(list, 1, sizeof **list, err));
    lds_status status = open_folder(&folder, &is_there, dir, err);
    if (is_there)
        status = fill_list(*list, &folder, err);
    if (is_there && status)
        lds_error_context(err, status, folder.path, NULL);
    lds_cache_dir_close(&folder);
    if (status) {
        lds_cache_list_free(*list);
        *list = NULL;
    }
    return status;
}

size_t lds_cache_list_n_entries(const lds_cache_list *list)
{
    return list->n;
}

void lds_cache_list_get_entry(const lds_cache_list *list, size_t i, lds_cache_entry *entry)
{
    const listed *l = &list->entries[i];
    lds_cache_entry e = {sizeof e, l->path, l->source, l->nbytes, l->used_seconds};
    lds_options_export(entry, entry->struct_size, &e, sizeof e);
}

size_t lds_cache_list_n_unfinished(const lds_cache_list *list)
{
    return list->n_unfinished;
}

void lds_cache_list_get_unfinished(const lds_cache_list *list, size_t i, lds_cache_unfinished *file)
{
    const listed_unfinished *l = &list->unfinished[i];
    lds_cache_unfinished f = {sizeof f, l->path, l->nbytes, l->is_being_written};
    lds_options_export(file, file->struct_size, &f, sizeof f);
}

void lds_cache_list_free(lds_cache_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->n; i++) {
        free(list->entries[i].path);
        free(list->entries[i].source);
    }
    for (size_t i = 0; i < list->n_unfinished; i++)
        free(list->unfinished[i].path);
    free(list->entries);
    free(list->unfinished);
    free(list);
}

lds_status lds_cache_trim(const char *dir, uint64_t keep_nbytes, uint64_t *removed_nbytes, lds_error *err)
{
    bool is_there;
    lds_cache_dir folder;
    uint64_t removed = 0;
    lds_status status = open_folder(&folder, &is_there, dir, err);
    if (is_there)
        status = lds_cache_evict(&folder, keep_nbytes, &removed, err);
    if (is_there && status)
        lds_error_context(err, status, folder.path, NULL);
    lds_cache_dir_close(&folder);
    if (removed_nbytes)
        *removed_nbytes = removed;
    return status;
}
