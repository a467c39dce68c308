/* What a path is: a weights file, an index, a model's or a pipeline's directory, a model in the hub cache. */
#include "src/checkpoint/resolve.h"

#include <errno.h>
#include <sys/stat.h>

static lds_status resolve_in_dir(lds_location *location, const char *dir, const char *variant, lds_error *err)
{
    LDS_TRY(lds_find_model(location, dir, variant, err));
    if (location->path)
        return LDS_OK;
    char *model_index;
    LDS_TRY(lds_join_path(&model_index, dir, "model_index.json", err));
    bool is_pipeline = lds_path_exists(model_index);
    free(model_index);
    if (!is_pipeline)
        return lds_explain_no_model(dir, variant, err);
    location->kind = LDS_LOCATION_PIPELINE;
    return lds_copy_string(&location->path, dir, strlen(dir), err);
}

static lds_status resolve_file(lds_location *location, const char *path, lds_error *err)
{
    const char *slash = strrchr(path, '/');
    if (!strcmp(slash ? slash + 1 : path, "model_index.json")) {
        location->kind = LDS_LOCATION_PIPELINE;
        return lds_parent_of(&location->path, path, err);
    }
    location->kind = lds_path_ends_in(path, ".json") ? LDS_LOCATION_INDEX : LDS_LOCATION_FILE;
    return lds_copy_string(&location->path, path, strlen(path), err);
}

/* LDS_OK if path is or leads to something here; otherwise why not, of which the hub cache may know better. */
static lds_status find_here(const char *path, bool *is_dir, lds_error *err)
{
    struct stat st = {0};
    if (!path || !*path)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a path, found %s", path ? "an empty one" : "NULL");
    if (stat(path, &st) && !lds_path_exists(path)) {
        lds_status status = errno == ENOENT || errno == ENOTDIR ? LDS_ERR_NOT_FOUND : LDS_ERR_IO;
        if (status == LDS_ERR_NOT_FOUND && strstr(path, "://"))
            lds_fail(err, status, "expected a path or org/name, found a URL: nothing is ever downloaded");
        else
            lds_fail_errno(err, status, errno, "cannot be opened");
        return lds_error_context(err, status, path, NULL);
    }
    *is_dir = S_ISDIR(st.st_mode);
    return LDS_OK;
}

lds_status lds_resolve(lds_location *location, const char *path, const char *variant, const char *revision,
                       lds_error *err)
{
    *location = (lds_location){0};
    bool is_dir = false;
    lds_status status = find_here(path, &is_dir, err);
    if (!status)
        return is_dir ? resolve_in_dir(location, path, variant, err) : resolve_file(location, path, err);
    if (status != LDS_ERR_NOT_FOUND || !lds_hub_is_id(path))
        return status;
    char *dir;
    LDS_TRY(lds_hub_find(&dir, path, revision, err));
    status = resolve_in_dir(location, dir, variant, err);
    free(dir);
    return status;
}

lds_status lds_resolve_dir(char **dir, const char *path, const char *revision, lds_error *err)
{
    bool is_dir = false;
    lds_status status = find_here(path, &is_dir, err);
    if (status == LDS_ERR_NOT_FOUND && lds_hub_is_id(path))
        return lds_hub_find(dir, path, revision, err);
    LDS_TRY(status);
    if (!is_dir) {
        status = lds_fail(err, LDS_ERR_NOT_FOUND, "expected a directory, found a file");
        return lds_error_context(err, status, path, NULL);
    }
    return lds_copy_string(dir, path, strlen(path), err);
}
