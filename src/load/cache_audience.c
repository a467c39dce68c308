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

/* What the system shows for any group that it has no number for: another host's, or one outside of a container. */
enum { NAMELESS = 65534 };

static const char access_list[] = "system.posix_acl_access";

static bool means_no_list(int why)
{
    return why == ENODATA || why == EOPNOTSUPP;
}

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
    return getxattr(path, access_list, NULL, 0) >= 0 || !means_no_list(errno);
}

/*
 * Whom the mode of a file or folder gives what a bit gives others. A user has what the first of owner, group and others
 * has that he is of, and no more: so all before the last have to have it, too.
 */
static lds_cache_audience allowed(const char *path, mode_t bit)
{
    struct stat st;
    const mode_t known = bit << 3 | bit << 6;
    if (stat(path, &st) || has_access_list(path) || (st.st_mode & known) != known)
        return the_user();
    if (st.st_mode & bit)
        return (lds_cache_audience){.readers = LDS_CACHE_EVERYBODY};
    return st.st_gid == NAMELESS ? the_user() : (lds_cache_audience){LDS_CACHE_GROUP, st.st_gid};
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

/*
 * Who may read the source need not be a member: its owner may be none, and then cannot give a file to the group.
 * His entry would be his alone, but have the name of the group's, and so each would replace the other's.
 */
static bool may_give_to(gid_t group)
{
    return !geteuid() || getegid() == group || group_member(group);
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
    return audience.readers == LDS_CACHE_GROUP && !may_give_to(audience.id) ? the_user() : audience;
}

mode_t lds_cache_audience_mode(lds_cache_audience audience)
{
    return audience.readers == LDS_CACHE_EVERYBODY ? 0644 : 0600;
}

/*
 * In this order nobody else may open it at any moment. The bits of the group are also the most that a list which the
 * folder has given it grants, and so bring to effect what that grants to others.
 */
void lds_cache_audience_admit(lds_cache_audience audience, int fd)
{
    if (audience.readers != LDS_CACHE_GROUP || fchown(fd, (uid_t)-1, audience.id))
        return;
    if (!fremovexattr(fd, access_list) || means_no_list(errno))
        (void)!fchmod(fd, 0640);
}
