/* Reading the small files that are named on the command line: key maps and manifests. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

enum { FIRST_NBYTES = 1 << 16, MAX_NBYTES = 1 << 30 };

static int fail_file(const char *path, const char *reason)
{
    complain("%s: %s", path, reason);
    return CLI_IO;
}

/* Until the file ends, because a pipe does not say how long it is. */
static int read_all(output *text, int fd, const char *path)
{
    for (;;) {
        char block[FIRST_NBYTES];
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_file(path, strerror(errno));
        if (!n)
            return CLI_DONE;
        if (text->n + (size_t)n > MAX_NBYTES)
            return fail_file(path, "expected at most 1 GiB of JSON");
        put(text, block, (size_t)n);
    }
}

int read_file(char **text, size_t *nbytes, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_file(path, strerror(errno));
    output content = {0};
    int exit_code = read_all(&content, fd, path);
    close(fd);
    if (exit_code) {
        output_free(&content);
        return exit_code;
    }
    *nbytes = content.n;
    put(&content, "", 1);
    *text = content.data;
    return CLI_DONE;
}
