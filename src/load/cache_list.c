/* What callers may do with a cache's folder: look what is in it, and make it smaller. */
#include "src/base/options.h"
#include "src/load/cache_entry.h"

typedef struct listed {
    char *path, *source;
    uint64_t nbytes;
    int64_t used_seconds;
} listed;

struct lds_cache_list {
    listed *entries;
    size_t n;
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

static lds_status fill_list(lds_cache_list *list, const lds_cache_dir *dir, lds_error *err)
{
    lds_cache_found_list all = {0};
    lds_status status = lds_cache_find_all(&all, dir, false, err);
    if (!status)
        status = lds_calloc(&list->entries, all.n, sizeof *list->entries, err);
    for (size_t i = all.n; !status && i-- > 0;) { /* the last that was used first */
        listed *entry = &list->entries[list->n++];
        entry->nbytes = all.data[i].nbytes;
        entry->used_seconds = (int64_t)all.data[i].used.tv_sec;
        status = lds_format_string(&entry->path, err, "%s/%s", dir->path, all.data[i].name);
        if (!status)
            status = describe(entry, err);
    }
    free(all.data);
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

void lds_cache_list_free(lds_cache_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->n; i++) {
        free(list->entries[i].path);
        free(list->entries[i].source);
    }
    free(list->entries);
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
