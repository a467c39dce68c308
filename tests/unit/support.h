/* What tests of checkpoints and loads share: a folder of their own, and files made by hand. */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A new folder, removed with all that is in it by remove_folder(). */
static inline char *make_folder(void)
{
    const char *base = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/loadstone-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
    return strdup(path);
}

static inline void remove_folder(char *folder)
{
    char command[8192];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    free(folder);
}

static inline void write_file(const char *path, const void *data, size_t nbytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, nbytes, f), nbytes);
    assert_int_equal(fclose(f), 0);
}

/* folder/name; good until the call after the next three. */
static inline const char *in_folder(const char *folder, const char *name)
{
    static char paths[4][4096];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* A safetensors file: the length of the header, the header as it is given, the data; of NULL, nbytes of a hole. */
static inline void write_safetensors(const char *path, const char *header, const void *data, size_t nbytes)
{
    uint64_t n = strlen(header);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int i = 0; i < 8; i++)
        fputc((int)(n >> 8 * i & 255), f);
    assert_int_equal(fwrite(header, 1, n, f), n);
    assert_int_equal(data ? fwrite(data, 1, nbytes, f) : nbytes, nbytes);
    assert_int_equal(fclose(f), 0);
    if (!data)
        assert_int_equal(truncate(path, (off_t)(8 + n + nbytes)), 0);
}

/* Of this process. */
static inline unsigned n_threads_now(void)
{
    unsigned n = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (const struct dirent *entry; (entry = readdir(tasks));)
        n += entry->d_name[0] != '.';
    closedir(tasks);
    return n;
}

#endif
