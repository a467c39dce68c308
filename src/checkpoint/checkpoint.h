/* What an open checkpoint is, for the rooms behind it: network, plan and load. */
#ifndef LDS_CHECKPOINT_CHECKPOINT_H
#define LDS_CHECKPOINT_CHECKPOINT_H

#include "src/base/names.h"

/*
 * Enough of a file's status to see that it was written to. The time of the last status change is left out: it
 * moves when a file is renamed, linked or unlinked, which is nobody's loss while it is open.
 */
typedef struct lds_file_identity {
    uint64_t device, inode, nbytes;
    int64_t modified_ns;
} lds_file_identity;

/* What stands behind a file, as far as reading it goes. */
typedef enum lds_fs {
    LDS_FS_LOCAL,   /* a disk of this machine, or what looks like one: ext4, XFS, Btrfs, an overlay */
    LDS_FS_MEMORY,  /* tmpfs and its like: there is no disk */
    LDS_FS_NETWORK, /* another machine: a page fault may be a round trip */
    LDS_FS_FUSE     /* another process, and who knows what behind it */
} lds_fs;

typedef struct lds_file {
    char *path;
    int fd;
    lds_fs fs;
    bool hides_cache; /* the kernel does not tell what of it is in the page cache: it is somebody else's */
    bool is_overlay;  /* its pages in the page cache are those of the file below: cachestat(2) counts none */
    lds_file_identity identity;
    char *header; /* the bytes that names and metadata of this file point into */
    size_t header_nbytes;
    uint64_t *dims; /* one block that holds the shapes of this file */
} lds_file;

struct lds_tensor {
    lds_name name;
    const uint64_t *shape;
    uint64_t nbytes;
    uint64_t numel;
    uint64_t offset; /* from the beginning of the file */
    uint32_t file;
    uint8_t dtype;
    uint8_t n_dims;
};

typedef struct lds_metadata {
    const char *key, *value;
} lds_metadata;

typedef struct lds_component {
    char *name;
    lds_checkpoint *checkpoint;
} lds_component;

struct lds_checkpoint {
    char *path;
    char *dir;
    lds_file *files;
    size_t n_files;
    lds_tensor *tensors; /* in the order of files and offsets; tensor i is entry i of names */
    size_t n_tensors, tensors_capacity;
    lds_names names;
    lds_metadata *metadata; /* pair i is entry i of metadata_names */
    size_t n_metadata, metadata_capacity;
    lds_names metadata_names;
    lds_component *components;
    size_t n_components;
};

/*
 * Open a regular file for reading, without waiting for anything. The error names the file. Whatever the
 * result, lds_file_close() may follow, and does nothing if file was zeroed.
 */
lds_status lds_file_open(lds_file *file, const char *path, lds_error *err);
void lds_file_close(lds_file *file);

/* The file opened once more, with further flags; -1 with errno if that is not possible. */
int lds_file_open_again(const lds_file *file, int flags);

/* Is there something of that name, be it a link to nowhere? */
bool lds_path_exists(const char *path);
bool lds_path_is_dir(const char *path);

/* The status of an open file. The error is without the file's name. */
lds_status lds_file_identify(lds_file_identity *identity, int fd, lds_error *err);

/* LDS_ERR_CHANGED, naming the file, if it is no longer what it was when it was opened. */
lds_status lds_file_check_unchanged(const lds_file *file, lds_error *err);

/*
 * Have the kernel bring in what is going to be read, in many requests at once where it is long: a read alone waits for
 * one after the other, which over a network are round trips.
 */
void lds_file_announce(int fd, uint64_t nbytes, uint64_t offset);

/*
 * Read exactly nbytes at offset, whatever short reads and signals come. LDS_ERR_CHANGED if the file ends
 * first. The error is without the file's name.
 */
lds_status lds_file_read(int fd, void *data, size_t nbytes, uint64_t offset, lds_error *err);

/* The error of nbytes at offset that could not be read: why, or 0 if the file ends there. Returns the status. */
lds_status lds_file_fail_read(size_t nbytes, uint64_t offset, int os_errno, lds_error *err);

/*
 * How many of nbytes at offset of a file are in the page cache: counted where the kernel counts (6.5), else
 * estimated from a sample, and 0 if it does not say.
 */
uint64_t lds_file_resident(const lds_file *file, uint64_t offset, uint64_t nbytes);

/*
 * Which pages of nbytes at offset, the beginning of one, are in the page cache: bit 0 of a byte for each, as mincore(2)
 * has it. False if the kernel does not say.
 */
bool lds_file_look_at_pages(int fd, uint64_t offset, size_t nbytes, unsigned char *present);

/*
 * The directory that path leads to: path itself, or the snapshot of "org/name" in the local hub cache.
 * revision may be NULL. Freed with free().
 */
lds_status lds_resolve_dir(char **dir, const char *path, const char *revision, lds_error *err);

/*
 * Read a small text file (a config, an index, a key map) whole, NUL-terminated, at most max_nbytes.
 * Freed with free(). The error names the file.
 */
lds_status lds_read_text(char **text, size_t *nbytes, const char *path, size_t max_nbytes, lds_error *err);

#endif
