/* Paths as texts: put together, taken apart, and looked at. */
#include "src/checkpoint/path.h"

#include "src/base/memory.h"

lds_status lds_join_path(char **path, const char *dir, const char *name, lds_error *err)
{
    size_t n = strlen(dir);
    return lds_format_string(path, err, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
}

lds_status lds_parent_of(char **dir, const char *path, lds_error *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return lds_copy_string(dir, ".", 1, err);
    return lds_copy_string(dir, path, slash == path ? 1 : (size_t)(slash - path), err);
}

bool lds_path_stays_below(const char *path)
{
    for (const char *part = path;; part++) {
        size_t n = strcspn(part, "/");
        if (!n || (part[0] == '.' && (n == 1 || (n == 2 && part[1] == '.'))))
            return false;
        part += n;
        if (!*part)
            return true;
    }
}
