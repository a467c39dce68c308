/* The folder that converted weights are kept in. */
#ifndef LDS_LOAD_CACHE_DIR_H
#define LDS_LOAD_CACHE_DIR_H

#include "src/base/error.h"

/* A key as text, and an entry's file name: the key and ".safetensors". */
enum { LDS_CACHE_KEY_SIZE = 33, LDS_CACHE_NAME_SIZE = LDS_CACHE_KEY_SIZE + 12 };

typedef struct lds_cache_dir {
    char *path;
    int fd;
} lds_cache_dir;

/* Open a folder, and make it where it is missing; "" is the user's own. Closed in any case. */
lds_status lds_cache_dir_open(lds_cache_dir *dir, const char *path, bool make, lds_error *err);
void lds_cache_dir_close(lds_cache_dir *dir);

/*
 * The right to write the entry of a key: a locked descriptor for close(), or -1 with errno, EWOULDBLOCK if
 * another load has it. What a process that was killed has left locks nobody out.
 */
int lds_cache_lock_key(const lds_cache_dir *dir, const char *key);
void lds_cache_unlock_key(const lds_cache_dir *dir, const char *key, int fd);

/*
 * Remove what was used least recently until at most keep_nbytes are left, but not the entry of the name spared.
 * *removed_nbytes is how much went. Both may be NULL.
 */
lds_status lds_cache_evict(const lds_cache_dir *dir, uint64_t keep_nbytes, const char *spared,
                           uint64_t *removed_nbytes, lds_error *err);

/* That the folder's disk has. */
uint64_t lds_cache_free_nbytes(const lds_cache_dir *dir);

/* Remove the same if it takes that for the disk to have room for nbytes, and if it does. True if entries went. */
bool lds_cache_make_room(const lds_cache_dir *dir, uint64_t keep_nbytes, uint64_t nbytes);

/* A new file in the folder that has no name yet, or a temporary one, which is then put into temporary. */
lds_status lds_cache_create(int *fd, char temporary[static LDS_CACHE_NAME_SIZE + 32],
                            const lds_cache_dir *dir, const char *key, lds_error *err);

/* Give it its name, whole or not at all, in the place of what may have it. */
lds_status lds_cache_publish(int fd, const char *temporary, const lds_cache_dir *dir, const char *name,
                             lds_error *err);

#endif
