/*
 * A command over a file on a file system that takes its time over each read, as one behind a network does:
 *
 *     slow_fs DELAY_MS FILE COMMAND [ARGUMENT...]
 *
 * {} among the arguments is the file there. Nothing of it is in the page cache when the command begins. It is the
 * file system of the unit tests, which needs /dev/fuse and the right to mount.
 */
#include "tests/unit/slow_fs.h"

#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static slow_fs *mount_file(const char *path)
{
    struct stat st;
    const char *why_not = "no memory";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        err(1, "%s", path);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (data == MAP_FAILED)
        err(1, "%s", path);
    close(fd);
    slow_fs *fs = slow_fs_mount(data, (uint64_t)st.st_size, &why_not);
    if (!fs)
        errx(1, "no slow file system: %s", why_not);
    return fs;
}

static int run(char **command)
{
    int status;
    pid_t child = fork();
    if (!child) {
        execvp(command[0], command);
        err(127, "%s", command[0]);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        err(1, "%s", command[0]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        errx(2, "usage: slow_fs DELAY_MS FILE COMMAND [ARGUMENT...]");
    slow_fs *fs = mount_file(argv[2]);
    for (int i = 3; i < argc; i++)
        if (!strcmp(argv[i], "{}"))
            argv[i] = fs->path;
    slow_fs_begin(fs, (unsigned)strtoul(argv[1], NULL, 10), 0);
    int status = run(argv + 3);
    slow_fs_unmount(fs);
    return status;
}
