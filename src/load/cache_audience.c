/*
 * Who may read an entry of the cache.
 *
 * What is in a file may be known to whoever may open it, by the path that the kernel has of it; links that led there
 * do not matter. So the modes of the file and of all folders above it are looked at, for each load with a cache: who
 * may read an entry is a part of its key, so that users who may not read each other's do not replace them either.
 */
#include "src/load/cache_audience.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static lds_cache_audience the_user(void)
{
    return (lds_cache_audience){LDS_CACHE_USER, geteuid()};
}

/* Of those who may do one thing, those who may do another, too. */
static lds_cache_audience common(lds_cache_audience a, lds_cache_audience b)
{
    if (a.readers == LDS_CACHE_EVERYBODY)
        return b;
    bool is_same = a.readers == b.readers && a.id == b.id;
    return is_same || b.readers == LDS_CACHE_EVERYBODY ? a : the_user();
}

/* It may keep out whom the mode lets in. If in doubt there is one. */
static bool has_access_list(const char *path)
{
    return getxattr(path, "system.posix_acl_access", NULL, 0) >= 0 ||
           (errno != ENODATA && errno != EOPNOTSUPP);
}

/*
 * Whom the mode of a file or folder gives what a bit gives others. Whom it gives less than others, as a group may
 * be, is one of everybody.
 */
static lds_cache_audience allowed(const char *path, mode_t bit)
{
    struct stat st;
    const mode_t all = bit | bit << 3 | bit << 6;
    if (stat(path, &st) || has_access_list(path) || (st.st_mode & all) != all)
        return the_user();
    return (lds_cache_audience){.readers = LDS_CACHE_EVERYBODY};
}

static lds_cache_audience allowed_through_folders(char *path)
{
    lds_cache_audience audience = {.readers = LDS_CACHE_EVERYBODY};
    for (char *slash = path; slash; slash = strchr(slash + 1, '/')) {
        char next = slash[1];
        slash[1] = 0;
        audience = common(audience, allowed(path, S_IXOTH));
        slash[1] = next;
    }
    return audience;
}

static bool is_beside(const char *path, const char *other)
{
    size_t n = (size_t)(strrchr(path, '/') - path) + 1;
    return !strncmp(path, other, n) && !strchr(other + n, '/');
}

/* NULL if in doubt. It has no links in it, and need not be resolved. Freed with free(). */
static char *path_of(int fd)
{
    char link[64], *path;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (lds_calloc(&path, PATH_MAX, 1, NULL))
        return NULL;
    ssize_t n = readlink(link, path, PATH_MAX);
    if (n > 0 && n < PATH_MAX && *path == '/')
        return path;
    free(path);
    return NULL;
}

/* The shards of a checkpoint are in one folder, mostly: what is above them is looked at once. */
lds_cache_audience lds_cache_audience_of(const lds_plan *plan)
{
    lds_cache_audience audience = {.readers = LDS_CACHE_EVERYBODY};
    char *last = NULL;
    for (size_t f = 0; f < plan->checkpoint->n_files; f++) {
        char *path = path_of(plan->checkpoint->files[f].fd);
        audience = common(audience, path ? allowed(path, S_IROTH) : the_user());
        if (path && !(last && is_beside(path, last)))
            audience = common(audience, allowed_through_folders(path));
        free(last);
        last = path;
    }
    free(last);
    return audience;
}
