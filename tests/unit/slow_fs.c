/* A slow file system: see slow_fs.h. */
#include "tests/unit/slow_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/base/clock.h"

enum { FILE_ID = 2, REQUEST_NBYTES = 1 << 17, MAX_WAITING = 1024, PATIENCE_MS = 10000 };
static const char file_name[] = "model.safetensors";

typedef struct waiting {
    uint64_t unique, offset, came_ns;
    uint32_t nbytes;
} waiting;

typedef struct server {
    slow_fs *fs;
    int fd;
    size_t n;
    waiting reads[MAX_WAITING]; /* the first has waited longest */
} server;

static void answer(const server *s, uint64_t unique, int os_errno, const void *data, size_t nbytes)
{
    struct fuse_out_header header = {(uint32_t)(sizeof header + nbytes), -os_errno, unique};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)(uintptr_t)data, nbytes}};
    while (writev(s->fd, parts, nbytes ? 2 : 1) < 0 && errno == EINTR)
        continue; /* a request that was given up is no longer there: ENOENT */
}

static struct fuse_attr attributes(const server *s, uint64_t id)
{
    bool is_file = id == FILE_ID;
    return (struct fuse_attr){.ino = id,
                              .size = is_file ? s->fs->nbytes : 0,
                              .mode = is_file ? S_IFREG | 0444 : S_IFDIR | 0555,
                              .nlink = 1,
                              .blksize = 4096};
}

static void begin_session(const server *s, uint64_t unique, const struct fuse_init_in *in)
{
    const struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = in->max_readahead,
        .flags = in->flags & (FUSE_ASYNC_READ | FUSE_MAX_PAGES | FUSE_ASYNC_DIO),
        .max_background = 256,
        .congestion_threshold = 256,
        .max_write = 1 << 20,
        .time_gran = 1,
        .max_pages = 256,
    };
    answer(s, unique, 0, &out, sizeof out);
}

static void look_up(const server *s, uint64_t unique, const char *name)
{
    const struct fuse_entry_out out = {
        .nodeid = FILE_ID, .attr_valid = 3600, .entry_valid = 3600, .attr = attributes(s, FILE_ID)};
    bool is_there = !strcmp(name, file_name);
    answer(s, unique, is_there ? 0 : ENOENT, &out, is_there ? sizeof out : 0);
}

static void put_off(server *s, uint64_t unique, const struct fuse_read_in *in)
{
    slow_fs *fs = s->fs;
    if (s->n == MAX_WAITING) {
        answer(s, unique, ENOMEM, NULL, 0);
        return;
    }
    s->reads[s->n++] = (waiting){unique, in->offset, lds_now_ns(), in->size};
    atomic_fetch_add(&fs->n_reads, 1);
    if (s->n > atomic_load(&fs->n_most))
        atomic_store(&fs->n_most, (unsigned)s->n);
}

static void serve(server *s, const struct fuse_in_header *request)
{
    const void *in = request + 1;
    const struct fuse_attr_out attr_out = {.attr_valid = 3600, .attr = attributes(s, request->nodeid)};
    const struct fuse_open_out open_out = {.open_flags = FOPEN_KEEP_CACHE};
    const struct fuse_statfs_out statfs_out = {.st = {.bsize = 4096, .namelen = 255}};
    uint64_t unique = request->unique;
    switch (request->opcode) {
    case FUSE_INIT: begin_session(s, unique, in); return;
    case FUSE_LOOKUP: look_up(s, unique, in); return;
    case FUSE_GETATTR: answer(s, unique, 0, &attr_out, sizeof attr_out); return;
    case FUSE_STATFS: answer(s, unique, 0, &statfs_out, sizeof statfs_out); return;
    case FUSE_OPEN: answer(s, unique, 0, &open_out, sizeof open_out); return;
    case FUSE_READ: put_off(s, unique, in); return;
    case FUSE_FLUSH:
    case FUSE_RELEASE: answer(s, unique, 0, NULL, 0); return;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: return;
    default: answer(s, unique, ENOSYS, NULL, 0);
    }
}

/* Answer the reads whose time has come; the milliseconds until that of the next, or -1. */
static int answer_reads(server *s)
{
    slow_fs *fs = s->fs;
    uint64_t now = lds_now_ns();
    unsigned hold = atomic_load(&fs->hold);
    if (hold && (s->n >= hold || (s->n && now - s->reads[0].came_ns >= PATIENCE_MS * UINT64_C(1000000))))
        atomic_store(&fs->hold, hold = 0);
    uint64_t wait_ms = hold ? PATIENCE_MS : atomic_load(&fs->delay_ms);
    size_t n = 0;
    while (n < s->n && now - s->reads[n].came_ns >= wait_ms * 1000000u) {
        const waiting *read = &s->reads[n++];
        uint64_t left = read->offset < fs->nbytes ? fs->nbytes - read->offset : 0;
        answer(s, read->unique, 0, fs->data + read->offset, left < read->nbytes ? left : read->nbytes);
    }
    memmove(s->reads, s->reads + n, (s->n - n) * sizeof *s->reads);
    s->n -= n;
    return s->n ? (int)(wait_ms - (now - s->reads[0].came_ns) / 1000000u) : -1;
}

static void serve_all(server *s)
{
    union {
        struct fuse_in_header request;
        char bytes[REQUEST_NBYTES + (1 << 20)];
    } *buffer = malloc(sizeof *buffer);
    for (int wait_ms = -1;;) {
        struct pollfd ready = {s->fd, POLLIN, 0};
        if (poll(&ready, 1, wait_ms) > 0) {
            ssize_t n = read(s->fd, buffer, sizeof *buffer);
            if (n < 0 && errno == ENODEV) /* unmounted */
                _exit(0);
            if (n >= (ssize_t)sizeof buffer->request)
                serve(s, &buffer->request);
        }
        wait_ms = answer_reads(s);
    }
}

static const char *begin(slow_fs *fs)
{
    static server s;
    char options[128];
    s = (server){.fs = fs, .fd = open("/dev/fuse", O_RDWR | O_CLOEXEC)};
    if (s.fd < 0)
        return "no /dev/fuse that may be opened";
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u", s.fd, getuid(),
             getgid());
    /* In a namespace of this process's own it goes when the process does, whatever ends it. */
    bool ok = !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
              !mount("loadstone-test", fs->folder, "fuse", MS_NOSUID | MS_NODEV | MS_RDONLY, options);
    if (!ok) {
        close(s.fd);
        return "this process may not mount a file system";
    }
    fs->server = fork();
    if (!fs->server) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve_all(&s);
    }
    close(s.fd);
    return NULL;
}

slow_fs *slow_fs_mount(const void *data, uint64_t nbytes, const char **why_not)
{
    slow_fs *fs = mmap(NULL, sizeof *fs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fs == MAP_FAILED)
        return NULL;
    fs->data = data;
    fs->nbytes = nbytes;
    snprintf(fs->folder, sizeof fs->folder, "/tmp/loadstone-test-XXXXXX");
    *why_not = mkdtemp(fs->folder) ? begin(fs) : "no folder";
    if (*why_not) {
        rmdir(fs->folder);
        munmap(fs, sizeof *fs);
        return NULL;
    }
    snprintf(fs->path, sizeof fs->path, "%s/%s", fs->folder, file_name);
    return fs;
}

void slow_fs_begin(slow_fs *fs, unsigned delay_ms, unsigned hold)
{
    int fd = open(fs->path, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    atomic_store(&fs->delay_ms, delay_ms);
    atomic_store(&fs->hold, hold);
    atomic_store(&fs->n_most, 0);
    atomic_store(&fs->n_reads, 0);
}

void slow_fs_unmount(slow_fs *fs)
{
    umount2(fs->folder, MNT_DETACH);
    waitpid(fs->server, NULL, 0);
    rmdir(fs->folder);
    munmap(fs, sizeof *fs);
}
