/*
 * The cache's folder: finding it, giving files their names, and keeping it small.
 *
 * An entry appears under its name when it is whole and on the disk, by rename(2) of a file that had a
 * temporary name before. That file is locked by its writer: so of those that would write the same one does,
 * and what a process that was killed has left is known, since its lock went with it, and taken away by the
 * next who writes or evicts. An entry may be removed while others have it mapped; they keep it.
 *
 * When it was used last is its time of access, which is set by hand, since most systems do not keep it. That only
 * its owner may do: whoever else uses it makes an empty file beside it, whose age is as good. To let others write to
 * the entry would be enough, too, but then they could change what is mapped.
 */
#include "src/load/cache_dir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { KEY_LENGTH = LDS_CACHE_DIGEST_SIZE - 1 };

static const char suffix[] = ".safetensors", temporary_suffix[] = ".tmp", use_suffix[] = ".used";

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

/* Make a folder and those that it is in, for the user alone. What first kept one from being made, or 0. */
static int make_folders(char *path)
{
    int why = 0;
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        if (mkdir(path, 0700) && errno != EEXIST && !why)
            why = errno;
        *slash = '/';
    }
    if (mkdir(path, 0700) && errno != EEXIST && !why)
        why = errno;
    return why;
}

lds_status lds_cache_dir_open(lds_cache_dir *dir, const char *path, bool make, lds_error *err)
{
    struct stat st;
    *dir = (lds_cache_dir){.fd = -1};
    LDS_TRY(*path ? lds_copy_string(&dir->path, path, strlen(path), err) : default_path(&dir->path, err));
    assert(dir->path); /* the analyser cannot know that a failure is never LDS_OK */
    int unmade = make ? make_folders(dir->path) : 0;
    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd >= 0 && !fstat(dir->fd, &st)) {
        dir->is_everybodys = st.st_mode & S_IWOTH;
        return LDS_OK;
    }
    int why = errno;
    lds_status status = why == ENOENT && !unmade ? LDS_ERR_NOT_FOUND : LDS_ERR_IO;
    if (why == ENOENT && unmade)
        lds_fail_errno(err, status, unmade, "cannot be made");
    else
        lds_fail_errno(err, status, why, "cannot be opened");
    return lds_error_context(err, status, dir->path, NULL);
}

void lds_cache_dir_close(lds_cache_dir *dir)
{
    if (dir->path && dir->fd >= 0)
        close(dir->fd);
    free(dir->path);
    *dir = (lds_cache_dir){.fd = -1};
}

bool lds_cache_dir_trusts(const lds_cache_dir *dir, const struct stat *st)
{
    return !dir->is_everybodys || !st->st_uid || st->st_uid == geteuid();
}

/* Whoever holds the lock has it for moments, unless it was stopped: that is no reason to wait for long. */
void lds_cache_dir_lock(const lds_cache_dir *dir)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    for (int i = 0; i < 200 && flock(dir->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK; i++)
        nanosleep(&pause, NULL);
}

void lds_cache_dir_unlock(const lds_cache_dir *dir)
{
    flock(dir->fd, LOCK_UN);
}

/* ------------------------------------------------------------------------------------------------------- */

/* The key may be any name that begins with one. */
static void make_name(char name[static LDS_CACHE_NAME_SIZE], const char *key, const char *ending)
{
    snprintf(name, LDS_CACHE_NAME_SIZE, "%.*s%s", KEY_LENGTH, key, ending);
}

/* Is it a name that the cache gives? The folder may have other people's files. */
static bool has_name(const char *name, const char *ending)
{
    return strspn(name, "0123456789abcdef") == KEY_LENGTH && !strcmp(name + KEY_LENGTH, ending);
}

/* A link is nothing that the cache has made. */
static bool is_file(struct stat *st, const lds_cache_dir *dir, const char *name)
{
    return !fstatat(dir->fd, name, st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st->st_mode);
}

lds_status lds_cache_entry_path(char **path, const lds_cache_dir *dir, const char *key, lds_error *err)
{
    struct stat st;
    char name[LDS_CACHE_NAME_SIZE];
    make_name(name, key, suffix);
    if (!is_file(&st, dir, name))
        return lds_fail(err, LDS_ERR_NOT_FOUND, "is not there");
    return lds_format_string(path, err, "%s/%s", dir->path, name);
}

/* A file of another user's may not be used for this, only replaced, which the folder's bits may forbid. */
void lds_cache_note_use(const lds_cache_dir *dir, const char *key, int fd)
{
    const struct timespec times[] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    char name[LDS_CACHE_NAME_SIZE];
    if (!futimens(fd, times))
        return;
    make_name(name, key, use_suffix);
    unlinkat(dir->fd, name, 0);
    int made = openat(dir->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (made >= 0)
        close(made);
}

static int open_temporary(const lds_cache_dir *dir, const char *name)
{
    const int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(dir->fd, name, O_RDWR | flags); /* as NFS wants it for a lock */
    return fd < 0 && errno == EACCES ? openat(dir->fd, name, O_RDONLY | flags) : fd;
}

/*
 * Remove a temporary file whose writer is gone, and add its size; false with errno if that cannot be, EWOULDBLOCK if it
 * is not gone. Who has the lock of what a name leads to is alone with the name, but it may have led to something else
 * before.
 */
static bool remove_stale(const lds_cache_dir *dir, const char *name, uint64_t *removed_nbytes)
{
    struct stat locked, named;
    int fd = open_temporary(dir, name);
    if (fd < 0)
        return errno == ENOENT;
    bool is_done = !flock(fd, LOCK_EX | LOCK_NB);
    if (is_done && !fstat(fd, &locked) && !fstatat(dir->fd, name, &named, AT_SYMLINK_NOFOLLOW) &&
        locked.st_ino == named.st_ino) {
        is_done = !unlinkat(dir->fd, name, 0);
        *removed_nbytes += is_done ? (uint64_t)locked.st_size : 0;
    }
    int why = errno;
    close(fd);
    errno = why;
    return is_done;
}

static lds_cache_writer writer_of(const lds_cache_dir *dir, const char *name)
{
    int fd = open_temporary(dir, name);
    if (fd < 0)
        return LDS_CACHE_WRITER_UNKNOWN;
    bool is_alive = flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
    close(fd);
    return is_alive ? LDS_CACHE_WRITER_ALIVE : LDS_CACHE_WRITER_GONE;
}

/* -1 with errno, EEXIST also for a file that was taken for a stale one before it was locked. */
static int create_locked(const lds_cache_dir *dir, const char *name, mode_t mode)
{
    struct stat st;
    int fd = openat(dir->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    int why = flock(fd, LOCK_EX | LOCK_NB) ? errno : 0;
    if (!why && !fstat(fd, &st) && st.st_nlink)
        return fd;
    if (why && why != EWOULDBLOCK)
        unlinkat(dir->fd, name, 0);
    close(fd);
    errno = why && why != EWOULDBLOCK ? why : EEXIST;
    return -1;
}

int lds_cache_create(const lds_cache_dir *dir, const char *key, lds_cache_audience audience)
{
    int fd;
    uint64_t removed_nbytes = 0;
    char name[LDS_CACHE_NAME_SIZE];
    make_name(name, key, temporary_suffix);
    do
        fd = create_locked(dir, name, lds_cache_audience_mode(audience));
    while (fd < 0 && errno == EEXIST && remove_stale(dir, name, &removed_nbytes));
    if (fd >= 0)
        lds_cache_audience_admit(audience, fd);
    return fd;
}

void lds_cache_remove(const lds_cache_dir *dir, const char *key)
{
    char name[LDS_CACHE_NAME_SIZE];
    make_name(name, key, temporary_suffix);
    unlinkat(dir->fd, name, 0);
}

/* ------------------------------------------------------------------------------------------------------- */

static int compare_times(const struct timespec *x, const struct timespec *y)
{
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* By its owner, or by others. */
static struct timespec last_use(const lds_cache_dir *dir, const char *entry, const struct stat *st)
{
    struct stat use;
    char name[LDS_CACHE_NAME_SIZE];
    make_name(name, entry, use_suffix);
    return is_file(&use, dir, name) && compare_times(&use.st_mtim, &st->st_atim) > 0 ? use.st_mtim
                                                                                     : st->st_atim;
}

static void remove_lone_use(const lds_cache_dir *dir, const char *name)
{
    struct stat st;
    char entry[LDS_CACHE_NAME_SIZE];
    make_name(entry, name, suffix);
    if (!is_file(&st, dir, entry))
        unlinkat(dir->fd, name, 0);
}

static lds_status note(lds_cache_found_list *list, const lds_cache_dir *dir, const char *name,
                       lds_cache_writer writer, lds_error *err)
{
    struct stat st;
    if (!is_file(&st, dir, name))
        return LDS_OK;
    LDS_TRY(lds_grow(&list->data, &list->capacity, list->n + 1, sizeof *list->data, err));
    lds_cache_found *f = &list->data[list->n++];
    *f =
        (lds_cache_found){.nbytes = (uint64_t)st.st_size, .used = last_use(dir, name, &st), .writer = writer};
    memcpy(f->name, name, strlen(name) + 1); /* has_name() has seen that it fits */
    list->nbytes += f->nbytes;
    return LDS_OK;
}

static lds_status note_file(lds_cache_content *content, const lds_cache_dir *dir, const char *name,
                            bool clean, lds_error *err)
{
    if (has_name(name, suffix))
        return note(&content->entries, dir, name, LDS_CACHE_WRITER_GONE, err);
    if (clean && has_name(name, use_suffix))
        remove_lone_use(dir, name);
    if (!has_name(name, temporary_suffix))
        return LDS_OK;
    if (clean && remove_stale(dir, name, &content->removed_nbytes))
        return LDS_OK;
    return note(&content->unfinished, dir, name, writer_of(dir, name), err);
}

static int compare_used(const void *a, const void *b)
{
    return compare_times(&((const lds_cache_found *)a)->used, &((const lds_cache_found *)b)->used);
}

lds_status lds_cache_content_init(lds_cache_content *content, const lds_cache_dir *dir, bool clean,
                                  lds_error *err)
{
    *content = (lds_cache_content){0};
    int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        return lds_fail_errno(err, LDS_ERR_IO, why, "cannot be listed");
    }
    lds_status status = LDS_OK;
    for (struct dirent *e; !status && (e = readdir(folder));)
        status = note_file(content, dir, e->d_name, clean, err);
    closedir(folder);
    lds_cache_found_list *entries = &content->entries;
    if (!status && entries->n)
        qsort(entries->data, entries->n, sizeof *entries->data, compare_used);
    return status;
}

void lds_cache_content_destroy(lds_cache_content *content)
{
    free(content->entries.data);
    free(content->unfinished.data);
}

/* Returns how much went, or was gone already. */
static uint64_t remove_entry(const lds_cache_dir *dir, const lds_cache_found *f)
{
    char use[LDS_CACHE_NAME_SIZE];
    if (unlinkat(dir->fd, f->name, 0) && errno != ENOENT)
        return 0;
    make_name(use, f->name, use_suffix);
    unlinkat(dir->fd, use, 0);
    return f->nbytes;
}

/* Is it the entry of a name, or one of what its source was before? */
static bool is_of_same_source(const lds_cache_found *f, const char *name)
{
    return !strncmp(f->name, name, LDS_CACHE_KEY_COMMON);
}

/* What is spared has come in the place of those of what its source was before, which nobody will look for. */
static uint64_t remove_replaced(const lds_cache_dir *dir, const lds_cache_found_list *list,
                                const char *spared)
{
    uint64_t removed = 0;
    for (size_t i = 0; i < list->n; i++)
        if (is_of_same_source(&list->data[i], spared) && strcmp(list->data[i].name, spared) != 0)
            removed += remove_entry(dir, &list->data[i]);
    return removed;
}

/* Returns how much went. spared may be NULL. */
static uint64_t remove_oldest(const lds_cache_dir *dir, const lds_cache_found_list *list,
                              uint64_t keep_nbytes, const char *spared)
{
    uint64_t removed = spared ? remove_replaced(dir, list, spared) : 0;
    for (size_t i = 0; i < list->n && list->nbytes - removed > keep_nbytes; i++)
        if (!spared || !is_of_same_source(&list->data[i], spared))
            removed += remove_entry(dir, &list->data[i]);
    return removed;
}

static lds_status evict(const lds_cache_dir *dir, uint64_t keep_nbytes, const char *spared,
                        uint64_t *removed_nbytes, lds_error *err)
{
    lds_cache_content content;
    *removed_nbytes = 0;
    lds_status status = lds_cache_content_init(&content, dir, true, err);
    if (!status)
        *removed_nbytes = content.removed_nbytes + remove_oldest(dir, &content.entries, keep_nbytes, spared);
    lds_cache_content_destroy(&content);
    return status;
}

lds_status lds_cache_evict(const lds_cache_dir *dir, uint64_t keep_nbytes, uint64_t *removed_nbytes,
                           lds_error *err)
{
    lds_cache_dir_lock(dir);
    lds_status status = evict(dir, keep_nbytes, NULL, removed_nbytes, err);
    lds_cache_dir_unlock(dir);
    return status;
}

lds_status lds_cache_count_unfinished(uint64_t *nbytes, const lds_cache_dir *dir, lds_error *err)
{
    lds_cache_content content;
    *nbytes = 0;
    lds_status status = lds_cache_content_init(&content, dir, true, err);
    for (size_t i = 0; i < content.unfinished.n; i++)
        if (content.unfinished.data[i].writer == LDS_CACHE_WRITER_ALIVE)
            *nbytes += content.unfinished.data[i].nbytes;
    lds_cache_content_destroy(&content);
    return status;
}

static lds_status give_name(const lds_cache_dir *dir, const char *temporary, const char *name, lds_error *err)
{
    if (!renameat(dir->fd, temporary, dir->fd, name))
        return LDS_OK;
    lds_fail_errno(err, LDS_ERR_IO, errno, "cannot be given its name");
    unlinkat(dir->fd, temporary, 0);
    return LDS_ERR_IO;
}

/*
 * Of those that evict at once each might spare its own entry and remove the other's; and who begins to write must not
 * find the place of this one free before that of those that go is.
 */
lds_status lds_cache_publish(const lds_cache_dir *dir, const char *key, uint64_t max_nbytes, lds_error *err)
{
    uint64_t removed_nbytes;
    char temporary[LDS_CACHE_NAME_SIZE], name[LDS_CACHE_NAME_SIZE];
    make_name(temporary, key, temporary_suffix);
    make_name(name, key, suffix);
    lds_cache_dir_lock(dir);
    lds_status status = give_name(dir, temporary, name, err);
    if (!status) {
        status = evict(dir, max_nbytes, name, &removed_nbytes, err);
        if (status)
            unlinkat(dir->fd, name, 0);
    }
    lds_cache_dir_unlock(dir);
    return status;
}

uint64_t lds_cache_free_nbytes(const lds_cache_dir *dir)
{
    struct statvfs fs;
    bool is_known = !fstatvfs(dir->fd, &fs) && fs.f_blocks; /* which many that are not on a disk leave at 0 */
    return is_known ? (uint64_t)fs.f_bavail * fs.f_frsize : UINT64_MAX;
}

bool lds_cache_make_room(const lds_cache_dir *dir, uint64_t keep_nbytes, uint64_t nbytes)
{
    lds_cache_content content;
    uint64_t room = lds_cache_free_nbytes(dir), removed = 0;
    if (room >= nbytes)
        return false;
    const lds_cache_found_list *list = &content.entries;
    if (!lds_cache_content_init(&content, dir, true, NULL)) {
        for (size_t i = 0; i < list->n && list->nbytes - removed > keep_nbytes; i++)
            removed += list->data[i].nbytes;
        removed = removed < nbytes - room ? 0 : remove_oldest(dir, list, keep_nbytes, NULL);
    }
    lds_cache_content_destroy(&content);
    return removed;
}
