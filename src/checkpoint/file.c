/*
 * Files as the checkpoint needs them: opened without ever waiting (a path may name a pipe), known by their
 * identity so that a change is seen, read at offsets whatever short reads and signals come.
 */
#include "src/checkpoint/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Of longer ranges some kernels and disks bring in the beginning only. */
enum { ADVICE_NBYTES = 128 << 10 };

static lds_fs kind_of_fs(uint32_t magic)
{
    switch (magic) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case HUGETLBFS_MAGIC: return LDS_FS_MEMORY;
    case FUSE_SUPER_MAGIC: return LDS_FS_FUSE;
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
    case AFS_SUPER_MAGIC: /* OpenAFS */
    case AFS_FS_MAGIC:    /* the kernel's own */
    case CEPH_SUPER_MAGIC:
    case CODA_SUPER_MAGIC:
    case NCP_SUPER_MAGIC:
    case V9FS_MAGIC: /* also what shares folders with virtual machines */
    /* These are in no header of the kernel: */
    case 0x0BD00BD0: /* Lustre */
    case 0x47504653: /* GPFS, now IBM Storage Scale */
    case 0x19830326: /* BeeGFS */
    case 0xAAD7AAEA: /* PanFS */
    case 0x20030528: /* OrangeFS */
    case 0x786F4256: /* VirtualBox shared folders */
    case 0xBACBACBC: /* VMware shared folders */ return LDS_FS_NETWORK;
    default: return LDS_FS_LOCAL;
    }
}

static void identify_fs(lds_file *file)
{
    struct statfs fs;
    uint32_t magic = fstatfs(file->fd, &fs) ? 0 : (uint32_t)fs.f_type;
    file->fs = kind_of_fs(magic);
    file->is_overlay = magic == OVERLAYFS_SUPER_MAGIC;
}

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void identify(lds_file_identity *identity, const struct stat *st)
{
    *identity = (lds_file_identity){
        .device = st->st_dev,
        .inode = st->st_ino,
        .nbytes = (uint64_t)st->st_size,
        .modified_ns = nanoseconds(st->st_mtim),
    };
}

/* As mincore(2) has it since Linux 5.2, and cachestat(2): who may neither own nor write it is told "all of it". */
static bool hides_cache(const char *path, const struct stat *st)
{
    uid_t user = geteuid();
    return user && st->st_uid != user && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0;
}

lds_status lds_file_identify(lds_file_identity *identity, int fd, lds_error *err)
{
    struct stat st;
    if (fstat(fd, &st))
        return lds_fail_errno(err, LDS_ERR_IO, errno, "its status cannot be read");
    identify(identity, &st);
    return LDS_OK;
}

static lds_status check_unchanged(const lds_file *file, lds_error *err)
{
    lds_file_identity now = {0}, then = file->identity;
    LDS_TRY(lds_file_identify(&now, file->fd, err));
    if (now.nbytes != then.nbytes)
        return lds_fail(err, LDS_ERR_CHANGED, "changed since it was opened: expected %llu bytes, found %llu",
                        (unsigned long long)then.nbytes, (unsigned long long)now.nbytes);
    if (now.modified_ns != then.modified_ns || now.inode != then.inode || now.device != then.device)
        return lds_fail(err, LDS_ERR_CHANGED, "changed since it was opened: it has been written to");
    return LDS_OK;
}

lds_status lds_file_check_unchanged(const lds_file *file, lds_error *err)
{
    lds_status status = check_unchanged(file, err);
    return status ? lds_error_context(err, status, file->path, NULL) : LDS_OK;
}

lds_status lds_file_fail_read(size_t nbytes, uint64_t offset, int os_errno, lds_error *err)
{
    if (!os_errno)
        return lds_fail_at(err, LDS_ERR_CHANGED, offset,
                           "changed since it was opened: expected %zu more bytes, found the end", nbytes);
    lds_status status = lds_fail_errno(err, LDS_ERR_IO, os_errno, "%zu bytes at byte %llu cannot be read",
                                       nbytes, (unsigned long long)offset);
    if (err)
        err->offset = offset;
    return status;
}

void lds_file_announce(int fd, uint64_t nbytes, uint64_t offset)
{
    for (uint64_t end = offset + nbytes; nbytes > ADVICE_NBYTES && offset < end; offset += ADVICE_NBYTES)
        posix_fadvise(fd, (off_t)offset, ADVICE_NBYTES, POSIX_FADV_WILLNEED);
}

lds_status lds_file_read(int fd, void *data, size_t nbytes, uint64_t offset, lds_error *err)
{
    uint8_t *to = data;
    while (nbytes) {
        ssize_t n = pread(fd, to, nbytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return lds_file_fail_read(nbytes, offset, n ? errno : 0, err);
        to += n;
        offset += (uint64_t)n;
        nbytes -= (size_t)n;
    }
    return LDS_OK;
}

bool lds_path_exists(const char *path)
{
    struct stat st;
    return !lstat(path, &st);
}

bool lds_path_is_dir(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR: return "a directory";
    case S_IFIFO: return "a pipe";
    case S_IFSOCK: return "a socket";
    case S_IFCHR: return "a character device";
    case S_IFBLK: return "a block device";
    default: return "something else";
    }
}

static lds_status explain_open(const char *path, int os_errno, lds_error *err)
{
    bool absent = os_errno == ENOENT || os_errno == ENOTDIR;
    if (absent && lds_path_exists(path))
        return lds_fail_errno(err, LDS_ERR_NOT_FOUND, os_errno, "is a link to a file that is not there");
    if (os_errno == EMFILE)
        return lds_fail_errno(
            err, LDS_ERR_IO, os_errno,
            "cannot be opened: a checkpoint's files stay open together, which this process's "
            "limit (ulimit -n) has to allow");
    /* What open() says of a socket. */
    if (os_errno == ENXIO)
        return lds_fail(err, LDS_ERR_IO, "expected a regular file, found a socket or a device");
    return lds_fail_errno(err, absent ? LDS_ERR_NOT_FOUND : LDS_ERR_IO, os_errno, "cannot be opened");
}

static lds_status open_regular(lds_file *file, const char *path, lds_error *err)
{
    LDS_TRY(lds_copy_string(&file->path, path, strlen(path), err));
    do
        file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (file->fd < 0 && errno == EINTR);
    if (file->fd < 0)
        return explain_open(path, errno, err);
    struct stat st;
    if (fstat(file->fd, &st))
        return lds_fail_errno(err, LDS_ERR_IO, errno, "its status cannot be read");
    if (!S_ISREG(st.st_mode))
        return lds_fail(err, LDS_ERR_IO, "expected a regular file, found %s", kind_of(st.st_mode));
    identify(&file->identity, &st);
    identify_fs(file);
    file->hides_cache = hides_cache(path, &st);
    return LDS_OK;
}

lds_status lds_file_open(lds_file *file, const char *path, lds_error *err)
{
    *file = (lds_file){.fd = -1};
    lds_status status = open_regular(file, path, err);
    return status ? lds_error_context(err, status, path, NULL) : LDS_OK;
}

static bool is_same_file(int fd, const lds_file *file)
{
    lds_file_identity identity = {0};
    return !lds_file_identify(&identity, fd, NULL) && identity.device == file->identity.device &&
           identity.inode == file->identity.inode;
}

int lds_file_open_again(const lds_file *file, int flags)
{
    char by_fd[64];
    flags |= O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    snprintf(by_fd, sizeof by_fd, "/proc/self/fd/%d", file->fd);
    /* By descriptor it is the same file whatever has become of its name; /proc need not be there, though. */
    int fd = open(by_fd, flags);
    if (fd < 0 && errno == ENOENT)
        fd = open(file->path, flags);
    if (fd >= 0 && !is_same_file(fd, file)) {
        close(fd);
        errno = ENOENT;
        return -1;
    }
    return fd;
}

void lds_file_close(lds_file *file)
{
    if (file->path && file->fd >= 0)
        close(file->fd);
    free(file->path);
    free(file->header);
    free(file->dims);
    *file = (lds_file){.fd = -1};
}

static lds_status read_whole(char **text, size_t *nbytes, const lds_file *file, size_t max_nbytes,
                             lds_error *err)
{
    uint64_t n = file->identity.nbytes;
    if (n > max_nbytes)
        return lds_fail(err, LDS_ERR_MALFORMED, "expected at most %zu bytes of text, found %llu", max_nbytes,
                        (unsigned long long)n);
    char *p = malloc((size_t)n + 1);
    if (!p)
        return lds_fail_memory(err, n + 1);
    lds_file_announce(file->fd, n, 0);
    lds_status status = lds_file_read(file->fd, p, (size_t)n, 0, err);
    if (status) {
        free(p);
        return status;
    }
    p[n] = 0;
    *text = p;
    *nbytes = (size_t)n;
    return LDS_OK;
}

lds_status lds_read_text(char **text, size_t *nbytes, const char *path, size_t max_nbytes, lds_error *err)
{
    lds_file file;
    lds_status status = lds_file_open(&file, path, err);
    if (!status) {
        status = read_whole(text, nbytes, &file, max_nbytes, err);
        if (status)
            lds_error_context(err, status, path, NULL);
    }
    lds_file_close(&file);
    return status;
}
