/* Paths as texts: nothing here asks the file system. */
#ifndef LDS_CHECKPOINT_PATH_H
#define LDS_CHECKPOINT_PATH_H

#include <string.h>

#include "src/base/error.h"

/* "<dir>/<name>", and the directory that a path is in, "." if it has none. Freed with free(). */
lds_status lds_join_path(char **path, const char *dir, const char *name, lds_error *err);
lds_status lds_parent_of(char **dir, const char *path, lds_error *err);

/*
 * Is this the path of something below the directory that it is relative to? No part of it is empty, "." or "..".
 */
bool lds_path_stays_below(const char *path);

static inline bool lds_path_ends_in(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n >= m && !strcmp(path + n - m, end);
}

#endif
