/*
 * The way bytes come in.
 *
 * An input belongs to one load. Each worker opens a reader on it, submits reads, as many as the reader has, and
 * waits for whichever comes first: so a worker converts one block while the next ones are on their way. What the
 * page cache has is copied at once by the worker itself, while the block is still going to be in its cache.
 * Everything else is left to the kernel, where it can read by itself, or else to threads of the input's own, which
 * wait in the worker's place. So a read that never returns keeps no load from returning: what it reads into is kept
 * until it does.
 */
#ifndef LDS_IO_SOURCE_H
#define LDS_IO_SOURCE_H

#include <stdatomic.h>

#include "src/checkpoint/checkpoint.h"
#include "src/network/storage.h"
#include "src/plan/policy.h"

/* Of a read of which is known what was in the page cache: longer ones leave there what they brought in. */
enum { LDS_MAX_PAGES = (4 << 20) / 4096 + 1 };

/* That wait for a read each. */
enum { LDS_MAX_IO_THREADS = 32 };

typedef struct lds_input lds_input;
typedef struct lds_reader lds_reader;

typedef struct lds_read {
    /* For the worker to set before each submit. */
    uint32_t file; /* of the input's */
    uint64_t offset;
    size_t nbytes;
    uint8_t *data;
    /*
     * data is congruent to offset modulo LDS_DIRECT_NBYTES, and what lies around it up to the next multiples
     * may be written to, with what the file has there. Without it the read is never a direct one.
     */
    bool has_margins;
    /* data lies in a mapping of the file, as offset does: its pages are made present, and nothing is copied. */
    bool is_populate;
    lds_storage *storage; /* that data is in; NULL for what must not be written to after the load */
    const void *tag;      /* whatever the worker likes */

    /* From lds_reader_make_buffers(), for as long as the input lives; NULL before. */
    uint8_t *buffer;
    lds_storage *buffers; /* that it lies in */

    /* The input's own. */
    struct lds_read *next;
    lds_reader *reader;
    uint64_t at;  /* the first byte of the file that is not there yet */
    int os_errno; /* why it failed, or 0; with at short of the end: the file ends there */
    uint32_t n_refusals;
    bool is_direct;
    bool is_async;
    bool is_kept;                            /* a reference to storage is held */
    bool has_note;                           /* of what was in the page cache before: */
    unsigned char was_cached[LDS_MAX_PAGES]; /* page by page, as of mincore(2) */
} lds_read;

typedef struct lds_input_options {
    const lds_file *files;
    size_t n_files;
    const bool *is_needed; /* of each file: the others are not read */
    lds_source_kind kind;  /* what is wanted; what the system does not offer is replaced */
    uint32_t depth;        /* of each reader, 1 to LDS_MAX_DEPTH */
    uint32_t max_threads;  /* where each read that is under way has one, 1 to LDS_MAX_IO_THREADS */
    /*
     * In the page cache, for the most part: what it has all of a worker reads itself, where the kernel cannot copy
     * that.
     */
    bool is_resident;
    bool is_remote;       /* on a network file system, for one */
    bool looks_first;     /* what the page cache has all of is copied from there, not read directly */
    bool has_huge_faults; /* lds_map_fault_by_huge_pages() was true for all mappings of files */
    bool keep_cache;      /* what is read stays in the page cache; else what was not there before does not */
} lds_input_options;

lds_status lds_input_new(lds_input **input, const lds_input_options *options, lds_error *err);

/* What it has come to be, and why it is not what was wanted: a string constant, or NULL. Ask at the end. */
lds_source_kind lds_input_kind(const lds_input *input);
const char *lds_input_fallback(const lds_input *input);

/*
 * End. Reads that are under way are waited for shortly; what then is still under way into storage of the
 * library's is left to end by itself, with what it needs. Into other memory it is waited for. NULL does nothing.
 */
void lds_input_close(lds_input *input);

/* A worker's reader: one that was given back, or a new one. It lives as long as the input. */
lds_status lds_reader_open(lds_reader **reader, lds_input *input, lds_error *err);

/*
 * Give it back. What is under way after a failure is waited for, as by lds_input_close(); if that is not to be, the
 * worker's team does not wait for its thread.
 */
void lds_reader_close(lds_reader *reader);

/* A read that is not under way, the one that was last used; NULL if all are. */
lds_read *lds_reader_idle(lds_reader *reader);

/*
 * Give each of its reads a buffer of nbytes, which data may then lie in. Their pages are touched by that, or when they
 * are used.
 */
lds_status lds_reader_make_buffers(lds_reader *reader, size_t nbytes, lds_error *err);

/*
 * nbytes of a file at offset, where the page cache has them all and nobody can change them; else NULL, and they are to
 * be read. A view is ended soon, by lds_input_end_view() with the same numbers, in the same thread, which has one at a
 * time: somebody may be waiting to write to the file. That is false if what was seen may not be what the file had: it
 * may have been written to, after a view as long as half a minute, or a page was gone, and zeros in its place.
 */
const uint8_t *lds_input_view(lds_input *input, uint32_t file, uint64_t offset, size_t nbytes);
bool lds_input_end_view(lds_input *input, uint32_t file, uint64_t offset, size_t nbytes);

/* Begin a read that was got from lds_reader_idle(). True if it is complete already. */
bool lds_reader_submit(lds_reader *reader, lds_read *read);

/*
 * A read that is complete, idle again from now on: there must be one under way. LDS_ERR_CANCELLED with *read
 * NULL if *stop becomes true first. Any other error is about *read: LDS_ERR_IO, LDS_ERR_CHANGED if the file ended.
 */
lds_status lds_reader_wait(lds_reader *reader, lds_read **read, const atomic_bool *stop, lds_error *err);

/* How many are under way. */
uint32_t lds_reader_n_under_way(const lds_reader *reader);

/* Whether reads of this file are direct, if they have margins. */
bool lds_input_is_direct(const lds_input *input, uint32_t file);

/*
 * Have the first use of a page in data[0..nbytes), in a mapping of a file, bring in two huge pages of the file: as
 * requests that a disk likes, and where the file system has huge pages, as these. False where the kernel does not do
 * that: there a first use brings in as little as 128 KiB. data is at the beginning of a page.
 */
bool lds_map_fault_by_huge_pages(void *data, size_t nbytes);

/*
 * Make the pages of data[0..nbytes), in a mapping of a file, present. False if one of them cannot be, or the kernel
 * has no such call.
 */
bool lds_map_make_present(void *data, size_t nbytes);

/*
 * Make the pages of data[0..nbytes), in a mapping of fd whose first byte is at offset of the file, present, or
 * at least resident, without ever touching one: a file that has shrunk is LDS_ERR_CHANGED, not a SIGBUS.
 */
lds_status lds_map_populate(void *data, size_t nbytes, int fd, uint64_t offset, lds_error *err);

#endif
