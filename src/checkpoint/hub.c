/*
 * The local cache of the Hugging Face hub, as its Python client lays it out:
 *
 *     <cache>/models--<org>--<name>/refs/<branch or tag>       a file that holds the commit
 *     <cache>/models--<org>--<name>/snapshots/<commit>/...     links to ../../blobs
 *
 * Nothing is downloaded and nothing is written.
 */
#include "src/checkpoint/resolve.h"

#include <dirent.h>
#include <stdio.h>

enum { MAX_REF_NBYTES = 4096, MAX_LISTED_NBYTES = 300 };

bool lds_hub_is_id(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t first = strspn(text, allowed);
    if (!first || text[0] == '.' || strstr(text, ".."))
        return false;
    if (!text[first])
        return true;
    const char *name = text + first + 1;
    size_t second = strspn(name, allowed);
    return text[first] == '/' && second && name[0] != '.' && !name[second];
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* value/below, where "~/" at the beginning of value is the user's home. */
static lds_status expand(char **dir, const char *value, const char *below, lds_error *err)
{
    const char *home = variable("HOME");
    bool in_home = home && value[0] == '~' && (value[1] == '/' || !value[1]);
    return lds_format_string(dir, err, "%s%s%s", in_home ? home : "", in_home ? value + 1 : value, below);
}

static lds_status find_cache(char **dir, lds_error *err)
{
    const char *value;
    if ((value = variable("HF_HUB_CACHE")) || (value = variable("HUGGINGFACE_HUB_CACHE")))
        return expand(dir, value, "", err);
    if ((value = variable("HF_HOME")))
        return expand(dir, value, "/hub", err);
    if ((value = variable("XDG_CACHE_HOME")))
        return expand(dir, value, "/huggingface/hub", err);
    return expand(dir, "~/.cache", "/huggingface/hub", err);
}

/* "<cache>/models--<org>--<name>" */
static lds_status find_repository(char **repository, const char *id, lds_error *err)
{
    char *cache;
    LDS_TRY(find_cache(&cache, err));
    const char *slash = strchr(id, '/');
    int n = slash ? (int)(slash - id) : (int)strlen(id);
    lds_status status = lds_format_string(repository, err, "%s/models--%.*s%s%s", cache, n, id,
                                          slash ? "--" : "", slash ? slash + 1 : "");
    free(cache);
    return status;
}

/* The commit that refs/<revision> holds, or a copy of revision if there is no such ref. */
static lds_status read_ref(char **commit, const char *repository, const char *revision, lds_error *err)
{
    char *path;
    size_t n;
    LDS_TRY(lds_format_string(&path, err, "%s/refs/%s", repository, revision));
    lds_status status;
    if (!lds_path_exists(path) || lds_path_is_dir(path)) {
        status = lds_copy_string(commit, revision, strlen(revision), err);
    } else {
        status = lds_read_text(commit, &n, path, MAX_REF_NBYTES, err);
        if (!status)
            (*commit)[strcspn(*commit, " \t\r\n")] = 0;
    }
    free(path);
    return status;
}

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* The names in a directory of the repository, in order, ", " between them, as many as fit. */
static void list(char *text, size_t size, const char *repository, const char *name)
{
    char *path;
    struct dirent **entries;
    text[0] = 0;
    if (lds_format_string(&path, NULL, "%s/%s", repository, name))
        return;
    int n_entries = scandir(path, &entries, is_shown, by_bytes);
    free(path);
    size_t n = 0;
    for (int i = 0; i < n_entries; i++) {
        const char *entry = entries[i]->d_name;
        if (n + strlen(entry) + 3 <= size)
            n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "", entry);
        free(entries[i]);
    }
    if (n_entries >= 0)
        free(entries);
}

/* commit is what the revision leads to; both are the same if there is no such branch or tag. */
static lds_status explain_no_revision(const char *repository, const char *revision, const char *commit,
                                      lds_error *err)
{
    char refs[MAX_LISTED_NBYTES], snapshots[MAX_LISTED_NBYTES];
    list(refs, sizeof refs, repository, "refs");
    list(snapshots, sizeof snapshots, repository, "snapshots");
    lds_status status;
    if (strcmp(revision, commit) != 0)
        status = lds_fail(err, LDS_ERR_NOT_FOUND,
                          "expected the commit %.100s of %.100s, found only [%s]: download it first", commit,
                          revision, snapshots);
    else
        status = lds_fail(err, LDS_ERR_NOT_FOUND,
                          "expected the revision %s, found the branches and tags [%s] and the commits [%s]",
                          revision, refs, snapshots);
    return lds_error_context(err, status, repository, NULL);
}

static lds_status find_snapshot(char **dir, const char *repository, const char *revision, lds_error *err)
{
    char *commit;
    LDS_TRY(read_ref(&commit, repository, revision, err));
    lds_status status = LDS_ERR_NOT_FOUND;
    *dir = NULL;
    if (lds_path_stays_below(commit))
        status = lds_format_string(dir, err, "%s/snapshots/%s", repository, commit);
    if (*dir && !lds_path_is_dir(*dir)) {
        free(*dir);
        status = LDS_ERR_NOT_FOUND;
    }
    if (status == LDS_ERR_NOT_FOUND)
        status = explain_no_revision(repository, revision, commit, err);
    free(commit);
    return status;
}

lds_status lds_hub_find(char **dir, const char *id, const char *revision, lds_error *err)
{
    if (!revision)
        revision = "main";
    if (!lds_path_stays_below(revision))
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a branch, tag or commit, found \"%.100s\"",
                        revision);
    char *repository;
    LDS_TRY(find_repository(&repository, id, err));
    lds_status status;
    if (lds_path_is_dir(repository)) {
        status = find_snapshot(dir, repository, revision, err);
    } else {
        status = lds_fail(err, LDS_ERR_NOT_FOUND,
                          "expected a file or directory, or a model in the hub cache, found "
                          "neither it nor %s",
                          repository);
        status = lds_error_context(err, status, id, NULL);
    }
    free(repository);
    return status;
}
