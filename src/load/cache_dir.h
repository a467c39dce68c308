/* The folder that converted weights are kept in. */
#ifndef LDS_LOAD_CACHE_DIR_H
#define LDS_LOAD_CACHE_DIR_H

#include <sys/stat.h>
#include <time.h>

#include "src/load/cache_digest.h"

/* An entry's file name is its key and ".safetensors"; the names of all other files are shorter. */
enum { LDS_CACHE_NAME_SIZE = LDS_CACHE_DIGEST_SIZE + 12 };

typedef struct lds_cache_dir {
    char *path;
    int fd;
    bool is_everybodys; /* any user may write to it */
} lds_cache_dir;

/* Open a folder, and make it where it is missing; "" is the user's own. Closed in any case. */
lds_status lds_cache_dir_open(lds_cache_dir *dir, const char *path, bool make, lds_error *err);
void lds_cache_dir_close(lds_cache_dir *dir);

/*
 * Who may write to a folder is trusted with what is in it, unless that is everybody: then it has to be the
 * user's, or root's.
 */
bool lds_cache_dir_trusts(const lds_cache_dir *dir, const struct stat *st);

/* The path of a key's entry. LDS_ERR_NOT_FOUND if there is none. Freed with free(). */
lds_status lds_cache_entry_path(char **path, const lds_cache_dir *dir, const char *key, lds_error *err);

/* The entry of a key, which fd is open for, is used now: it is not to be the next to go. */
void lds_cache_note_use(const lds_cache_dir *dir, const char *key, int fd);

/*
 * Be alone with the folder, among those who ask for it; but nobody waits for long. Until lds_cache_dir_unlock() or
 * lds_cache_dir_close().
 */
void lds_cache_dir_lock(const lds_cache_dir *dir);
void lds_cache_dir_unlock(const lds_cache_dir *dir);

/*
 * A new file that is to become the entry of a key, and that nobody else has: an open descriptor, with a lock
 * that says that its writer is alive. Only the user may write to it, and only the audience may read it. -1 with
 * errno on failure, EWOULDBLOCK if another writer of the key is alive. Ended by publishing or removing it,
 * and close().
 */
int lds_cache_create(const lds_cache_dir *dir, const char *key, lds_cache_audience audience);
void lds_cache_remove(const lds_cache_dir *dir, const char *key);

/* What is unfinished and being written has. What writers have left that are gone is removed. */
lds_status lds_cache_count_unfinished(uint64_t *nbytes, const lds_cache_dir *dir, lds_error *err);

/*
 * Give it its name, in the place of what may have it and of what its source was before, and then evict others. On
 * failure it is removed.
 */
lds_status lds_cache_publish(const lds_cache_dir *dir, const char *key, uint64_t max_nbytes, lds_error *err);

/*
 * Remove what writers have left that are gone, and what was used least recently until at most keep_nbytes are left.
 * *removed_nbytes is how much went.
 */
lds_status lds_cache_evict(const lds_cache_dir *dir, uint64_t keep_nbytes, uint64_t *removed_nbytes,
                           lds_error *err);

/* That the folder's disk has, as far as it tells. */
uint64_t lds_cache_free_nbytes(const lds_cache_dir *dir);

/* Remove the same if the disk has room for nbytes then, and has not before. True if entries went. */
bool lds_cache_make_room(const lds_cache_dir *dir, uint64_t keep_nbytes, uint64_t nbytes);

/* Of a file that is not an entry yet. */
typedef enum lds_cache_writer {
    LDS_CACHE_WRITER_GONE,
    LDS_CACHE_WRITER_ALIVE,
    LDS_CACHE_WRITER_UNKNOWN /* the user may not open the file */
} lds_cache_writer;

typedef struct lds_cache_found {
    char name[LDS_CACHE_NAME_SIZE];
    uint64_t nbytes;
    struct timespec used;
    lds_cache_writer writer; /* of what is unfinished */
} lds_cache_found;

typedef struct lds_cache_found_list {
    lds_cache_found *data;
    size_t n, capacity;
    uint64_t nbytes; /* of all */
} lds_cache_found_list;

typedef struct lds_cache_content {
    lds_cache_found_list entries;    /* the least recently used first */
    lds_cache_found_list unfinished; /* in no order */
    uint64_t removed_nbytes;         /* of what writers had left that are gone */
} lds_cache_content;

/* Look what is there. If clean, what writers have left that are gone is removed on the way. Destroyed in any case. */
lds_status lds_cache_content_init(lds_cache_content *content, const lds_cache_dir *dir, bool clean,
                                  lds_error *err);
void lds_cache_content_destroy(lds_cache_content *content);

#endif
