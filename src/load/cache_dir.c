/*
 * The cache's folder: finding it, giving files their names, and keeping it small.
 *
 * An entry appears under its name when it is whole and on the disk, by linkat(2) of a file that had no name
 * before, or by rename(2) where the file system cannot do that or there is no /proc. So a process that is
 * killed at any moment leaves nothing behind, or a temporary file, which the next eviction takes away: its
 * lock went with its writer. An entry may be removed while others have it mapped; they keep it. When it was
 * used last is its time of access, which is set by hand, since most systems do not keep it.
 */
#include "src/load/cache_dir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "src/checkpoint/checkpoint.h"

static const char suffix[] = ".safetensors", lock_suffix[] = ".lock", temporary_suffix[] = ".tmp";

static lds_status default_path(char **path, lds_error *err)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache == '/') /* any other is to be ignored, says the standard */
        return lds_format_string(path, err, "%s/loadstone", cache);
    if (home && *home)
        return lds_format_string(path, err, "%s/.cache/loadstone", home);
    return lds_fail(err, LDS_ERR_NOT_FOUND,
                    "there is no folder for the cache: neither XDG_CACHE_HOME nor HOME is set");
}

/* Make a folder and those that it is in; errors show when it is opened. */
static void make_folders(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        (void)!mkdir(path, 0777);
        *slash = '/';
    }
    (void)!mkdir(path, 0777);
}

lds_status lds_cache_dir_open(lds_cache_dir *dir, const char *path, bool make, lds_error *err)
{
    *dir = (lds_cache_dir){.fd = -1};
    LDS_TRY(*path ? lds_copy_string(&dir->path, path, strlen(path), err) : default_path(&dir->path, err));
    assert(dir->path); /* the analyser cannot know that a failure is never LDS_OK */
    if (make)
        make_folders(dir->path);
    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd >= 0)
        return LDS_OK;
    int why = errno;
    lds_fail_errno(err, why == ENOENT ? LDS_ERR_NOT_FOUND : LDS_ERR_IO, why, "cannot be opened");
    return lds_error_context(err, why == ENOENT ? LDS_ERR_NOT_FOUND : LDS_ERR_IO, dir->path, NULL);
}

void lds_cache_dir_close(lds_cache_dir *dir)
{
    if (dir->path && dir->fd >= 0)
        close(dir->fd);
    free(dir->path);
    *dir = (lds_cache_dir){.fd = -1};
}

static int lock_file(const lds_cache_dir *dir, const char *name, int how)
{
    int fd = openat(dir->fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0 && flock(fd, how)) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

static void lock_name(char name[static LDS_CACHE_NAME_SIZE], const char *key)
{
    snprintf(name, LDS_CACHE_NAME_SIZE, "%s%s", key, lock_suffix);
}

int lds_cache_lock_key(const lds_cache_dir *dir, const char *key)
{
    char name[LDS_CACHE_NAME_SIZE];
    lock_name(name, key);
    return lock_file(dir, name, LOCK_EX | LOCK_NB);
}

/* Somebody may have opened it meanwhile and lock what has no name any more: then two write, and one is in vain. */
void lds_cache_unlock_key(const lds_cache_dir *dir, const char *key, int fd)
{
    char name[LDS_CACHE_NAME_SIZE];
    lock_name(name, key);
    unlinkat(dir->fd, name, 0);
    close(fd);
}

/* ------------------------------------------------------------------------------------------------------- */

/* The way to give such a file its name. Without /proc there is none that takes no privileges. */
static void path_of_fd(char path[static 64], int fd)
{
    snprintf(path, 64, "/proc/self/fd/%d", fd);
}

static int create_nameless(const lds_cache_dir *dir)
{
    char path[64];
    int fd = openat(dir->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0)
        return -1;
    path_of_fd(path, fd);
    if (!access(path, F_OK))
        return fd;
    close(fd);
    return -1;
}

lds_status lds_cache_create(int *fd, char temporary[static LDS_CACHE_NAME_SIZE + 32],
                            const lds_cache_dir *dir, const char *key, lds_error *err)
{
    temporary[0] = 0;
    *fd = create_nameless(dir);
    if (*fd < 0) {
        snprintf(temporary, LDS_CACHE_NAME_SIZE + 32, "%s-%ld%s", key, (long)getpid(), temporary_suffix);
        unlinkat(dir->fd, temporary, 0);
        *fd = openat(dir->fd, temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (*fd < 0)
        return lds_fail_errno(err, LDS_ERR_IO, errno, "cannot be written to");
    (void)!flock(*fd, LOCK_EX | LOCK_NB); /* says that its writer is alive */
    return LDS_OK;
}

lds_status lds_cache_publish(int fd, const char *temporary, const lds_cache_dir *dir, const char *name,
                             lds_error *err)
{
    int failed;
    if (*temporary) {
        failed = renameat(dir->fd, temporary, dir->fd, name);
    } else {
        char path[64];
        path_of_fd(path, fd);
        unlinkat(dir->fd, name, 0); /* what was found to be of no use */
        failed = linkat(AT_FDCWD, path, dir->fd, name, AT_SYMLINK_FOLLOW);
        if (failed && errno == EEXIST) /* another process was as quick, with the same */
            failed = 0;
    }
    return failed ? lds_fail_errno(err, LDS_ERR_IO, errno, "cannot be given its name") : LDS_OK;
}

/* ------------------------------------------------------------------------------------------------------- */

typedef struct found {
    char name[LDS_CACHE_NAME_SIZE];
    uint64_t nbytes;
    struct timespec used;
} found;

typedef struct found_list {
    found *data;
    size_t n, capacity;
    uint64_t nbytes;
} found_list;

/* What follows the key in a name that begins with one, or NULL. The folder may have other people's files. */
static const char *after_key(const char *name)
{
    enum { KEY_LENGTH = LDS_CACHE_KEY_SIZE - 1 };
    return strspn(name, "0123456789abcdef") == KEY_LENGTH ? name + KEY_LENGTH : NULL;
}

static bool is_entry(const char *name)
{
    const char *rest = after_key(name);
    return rest && !strcmp(rest, suffix);
}

static bool is_lock(const char *name)
{
    const char *rest = after_key(name);
    return rest && !strcmp(rest, lock_suffix);
}

static bool is_temporary(const char *name)
{
    const char *rest = after_key(name);
    size_t n_digits = rest && *rest == '-' ? strspn(rest + 1, "0123456789") : 0;
    return n_digits && !strcmp(rest + 1 + n_digits, temporary_suffix);
}

/* Remove a lock or a temporary file whose writer is gone. */
static void remove_stale(const lds_cache_dir *dir, const char *name)
{
    int fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    if (!flock(fd, LOCK_EX | LOCK_NB))
        unlinkat(dir->fd, name, 0);
    close(fd);
}

static lds_status note(found_list *list, const lds_cache_dir *dir, const char *name, lds_error *err)
{
    struct stat st;
    if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
        return LDS_OK;
    LDS_TRY(lds_grow(&list->data, &list->capacity, list->n + 1, sizeof *list->data, err));
    found *f = &list->data[list->n++];
    memcpy(f->name, name, sizeof f->name); /* is_entry() has seen that it fits */
    f->nbytes = (uint64_t)st.st_size;
    f->used = st.st_atim;
    list->nbytes += f->nbytes;
    return LDS_OK;
}

static int compare_used(const void *a, const void *b)
{
    const struct timespec *x = &((const found *)a)->used, *y = &((const found *)b)->used;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* The entries, the least recently used first. What is stale is removed on the way, if clean. */
static lds_status find_all(found_list *list, const lds_cache_dir *dir, bool clean, lds_error *err)
{
    int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        return lds_fail_errno(err, LDS_ERR_IO, why, "cannot be listed");
    }
    lds_status status = LDS_OK;
    for (struct dirent *e; !status && (e = readdir(folder));) {
        if (is_entry(e->d_name))
            status = note(list, dir, e->d_name, err);
        else if (clean && (is_lock(e->d_name) || is_temporary(e->d_name)))
            remove_stale(dir, e->d_name);
    }
    closedir(folder);
    if (!status && list->n)
        qsort(list->data, list->n, sizeof *list->data, compare_used);
    return status;
}

/*
 * Of those that evict at once each might spare its own entry and remove the other's. Whoever holds the lock has it
 * for moments, unless it was stopped: that is no reason to wait for long.
 */
static void lock_folder(const lds_cache_dir *dir)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    for (int i = 0; i < 200 && flock(dir->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK; i++)
        nanosleep(&pause, NULL);
}

/* Returns how much went. */
static uint64_t evict(const lds_cache_dir *dir, const found_list *list, uint64_t keep_nbytes,
                      const char *spared)
{
    uint64_t left = list->nbytes;
    for (size_t i = 0; i < list->n && left > keep_nbytes; i++) {
        const found *f = &list->data[i];
        if (spared && !strcmp(f->name, spared))
            continue;
        if (!unlinkat(dir->fd, f->name, 0) || errno == ENOENT)
            left -= f->nbytes;
    }
    return list->nbytes - left;
}

lds_status lds_cache_evict(const lds_cache_dir *dir, uint64_t keep_nbytes, const char *spared,
                           uint64_t *removed_nbytes, lds_error *err)
{
    found_list list = {0};
    lock_folder(dir);
    lds_status status = find_all(&list, dir, true, err);
    uint64_t removed = status ? 0 : evict(dir, &list, keep_nbytes, spared);
    flock(dir->fd, LOCK_UN);
    if (removed_nbytes)
        *removed_nbytes = removed;
    free(list.data);
    return status;
}

uint64_t lds_cache_free_nbytes(const lds_cache_dir *dir)
{
    struct statvfs fs;
    return fstatvfs(dir->fd, &fs) ? UINT64_MAX : (uint64_t)fs.f_bavail * fs.f_frsize;
}

bool lds_cache_make_room(const lds_cache_dir *dir, uint64_t keep_nbytes, uint64_t nbytes)
{
    found_list list = {0};
    uint64_t room = lds_cache_free_nbytes(dir), removed = 0;
    if (room >= nbytes || find_all(&list, dir, true, NULL)) {
        free(list.data);
        return false;
    }
    for (size_t i = 0; i < list.n && list.nbytes - removed > keep_nbytes; i++)
        removed += list.data[i].nbytes;
    removed = removed < nbytes - room ? 0 : evict(dir, &list, keep_nbytes, NULL);
    free(list.data);
    return removed;
}

/* ------------------------------------------------------------------------------------------------------- */

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
    const char *source = "";
    for (size_t i = 0; i < lds_checkpoint_n_metadata(checkpoint); i++)
        if (!strcmp(lds_checkpoint_metadata_key(checkpoint, i), "loadstone.source"))
            source = lds_checkpoint_metadata_value(checkpoint, i);
    lds_status status = lds_copy_string(&entry->source, source, strlen(source), err);
    lds_checkpoint_close(checkpoint);
    return status;
}

static lds_status fill_list(lds_cache_list *list, const lds_cache_dir *dir, lds_error *err)
{
    found_list all = {0};
    lds_status status = find_all(&all, dir, false, err);
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

lds_status lds_cache_list_new(lds_cache_list **list, const char *dir, lds_error *err)
{
    lds_cache_dir folder;
    *list = NULL;
    LDS_TRY(lds_calloc(list, 1, sizeof **list, err));
    lds_error problem = LDS_ERROR_INIT;
    lds_status status = lds_cache_dir_open(&folder, dir ? dir : "", false, &problem);
    if (!status)
        status = fill_list(*list, &folder, &problem);
    lds_cache_dir_close(&folder);
    if (!status || status == LDS_ERR_NOT_FOUND) /* no folder: nothing in it */
        return LDS_OK;
    lds_cache_list_free(*list);
    *list = NULL;
    return lds_fail(err, status, "%s", problem.message);
}

size_t lds_cache_list_n_entries(const lds_cache_list *list)
{
    return list->n;
}

void lds_cache_list_get_entry(const lds_cache_list *list, size_t i, lds_cache_entry *entry)
{
    const listed *l = &list->entries[i];
    lds_cache_entry e = {sizeof e, l->path, l->source, l->nbytes, l->used_seconds};
    memcpy((char *)entry + sizeof(size_t), (char *)&e + sizeof(size_t),
           (entry->struct_size < sizeof e ? entry->struct_size : sizeof e) - sizeof(size_t));
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
    lds_cache_dir folder;
    if (removed_nbytes)
        *removed_nbytes = 0;
    lds_error problem = LDS_ERROR_INIT;
    lds_status status = lds_cache_dir_open(&folder, dir ? dir : "", false, &problem);
    if (!status)
        status = lds_cache_evict(&folder, keep_nbytes, NULL, removed_nbytes, &problem);
    lds_cache_dir_close(&folder);
    if (!status || status == LDS_ERR_NOT_FOUND)
        return LDS_OK;
    return lds_fail(err, status, "%s", problem.message);
}
