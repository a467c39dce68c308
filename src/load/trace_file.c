/*
 * Where a trace goes. It is written beside its place and renamed when it is whole, so that an earlier one is there
 * until then. And it takes the place of nothing but a trace: a path that was mistyped may lead to the very weights
 * that are loaded, by way of links, too, and which files belong to a model is not known before it is opened.
 */
#include "src/load/trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/memory.h"

static lds_status cannot(lds_error *err, int why)
{
    return lds_fail_errno(err, LDS_ERR_IO, why, "cannot be written");
}

/* An empty file does as well: there is nothing to lose, and mktemp(1) makes one. */
static lds_status check_earlier(const char *path, lds_error *err)
{
    char begin[sizeof LDS_TRACE_BEGIN - 1];
    if (access(path, W_OK)) /* renaming would not ask for it */
        return cannot(err, errno);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return cannot(err, errno);
    ssize_t n = read(fd, begin, sizeof begin);
    int why = errno;
    close(fd);
    if (n < 0)
        return cannot(err, why);
    if (n && ((size_t)n < sizeof begin || memcmp(begin, LDS_TRACE_BEGIN, sizeof begin) != 0))
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a new file or an earlier trace, found another file");
    return LDS_OK;
}

lds_status lds_trace_file_find(lds_trace_file *file, const char *path, lds_error *err)
{
    struct stat st;
    *file = (lds_trace_file){0};
    if (stat(path, &st)) {
        int why = errno;
        if (why != ENOENT || !*path || !lstat(path, &st)) /* a link to nothing would itself be replaced */
            return cannot(err, why);
        return lds_copy_string(&file->path, path, strlen(path), err);
    }
    file->is_stream = S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode);
    if (file->is_stream)
        return lds_copy_string(&file->path, path, strlen(path), err);
    if (S_ISDIR(st.st_mode))
        return cannot(err, EISDIR);
    file->is_there = true;
    file->mode = st.st_mode & 0777;
    file->path = realpath(path, NULL);
    return file->path ? check_earlier(file->path, err) : cannot(err, errno);
}

lds_status lds_trace_file_begin(lds_trace_file *file, lds_error *err)
{
    const char *path = file->path;
    int flags = O_WRONLY | O_CLOEXEC;
    if (!file->is_stream) {
        unsigned long long now = lds_now_ns();
        LDS_TRY(lds_format_string(&file->temporary, err, "%s.%llx.tmp", path, now));
        path = file->temporary;
        flags |= O_CREAT | O_EXCL;
    }
    int fd = open(path, flags, 0666);
    if (fd < 0) {
        free(file->temporary); /* is another's, or not there */
        file->temporary = NULL;
        return cannot(err, errno);
    }
    if (file->is_there)
        (void)!fchmod(fd, file->mode); /* not every file system has modes */
    file->stream = fdopen(fd, "w");
    if (file->stream)
        return LDS_OK;
    int why = errno;
    close(fd);
    return cannot(err, why);
}

lds_status lds_trace_file_commit(lds_trace_file *file, lds_error *err)
{
    bool failed = ferror(file->stream);
    failed |= fclose(file->stream) != 0;
    file->stream = NULL;
    if (failed || (file->temporary && rename(file->temporary, file->path)))
        return cannot(err, errno);
    free(file->temporary);
    file->temporary = NULL;
    return LDS_OK;
}

void lds_trace_file_end(lds_trace_file *file)
{
    if (file->stream)
        fclose(file->stream);
    if (file->temporary)
        unlink(file->temporary);
    free(file->temporary);
    free(file->path);
}
