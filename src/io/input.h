/* Between an input and the sources that do its reads. */
#ifndef LDS_IO_INPUT_H
#define LDS_IO_INPUT_H

#include <pthread.h>

#include "src/io/source.h"

#define LDS_NO_PLACE UINT32_MAX

/* A way of doing reads, on threads of the input's own. */
typedef struct lds_source {
    bool has_one_thread; /* for all reads; else each read that is under way has one */
    /* A thread's work: take reads and finish them until lds_input_take() says that it is over. */
    void (*run)(lds_input *input);
    /* There is a new read to take, or the end has come. Called with the lock. */
    void (*wake)(lds_input *input);
} lds_source;

/* A file, opened once more: a read may outlive the checkpoint. Descriptors are -1 where there is none. */
typedef struct lds_input_file {
    int fd, direct_fd;
    bool is_shared;               /* fd is of the description that the checkpoint has */
    bool hides_cache, is_overlay; /* as in lds_file */
} lds_input_file;

typedef struct lds_view lds_view;

struct lds_input {
    lds_input_options options;
    size_t n_files; /* that have been dealt with */
    lds_input_file *files;
    lds_view *views;                /* of each file, or NULL */
    atomic_uint n_viewed, n_single; /* blocks that were, and that are of single pages */
    atomic_uint n_passed;           /* that were not looked at, for that */
    bool has_direct;                /* one of them can be read directly */
    _Atomic(const char *) fallback; /* why it is not what was wanted, or NULL */
    atomic_bool refuses_direct;     /* the file system said yes to opening, and no to reading */
    atomic_bool lacks_nowait;       /* the kernel, or the file system, cannot say what is in the page cache */

    struct lds_ring *ring; /* of the source that has one */
    atomic_bool is_ring_lost;

    /* The lock guards all that follows, and the lists of the readers. */
    pthread_mutex_t lock;
    pthread_cond_t work;  /* there is a new read to take, or the end has come */
    pthread_cond_t quiet; /* nothing is under way, or a thread has ended */
    const lds_source *source;
    lds_reader *readers;
    lds_read *first, **last; /* waiting to be taken */
    uint32_t n_waiting, n_taken;
    uint32_t n_taken_foreign; /* of these, into memory that is not to be written to after the load */
    pthread_t threads[LDS_MAX_IO_THREADS];
    uint32_t n_started, n_running, n_idle;
    bool is_ending;          /* nothing more will be taken */
    atomic_bool is_orphaned; /* the load has gone; the last thread frees what is left */
};

/* The next system call for a read. Direct ones cover whole units, so they begin before at and end after it. */
typedef struct lds_range {
    int fd;
    uint8_t *data;
    size_t nbytes;
    uint64_t offset;
} lds_range;

/* As lds_file_resident(). */
uint64_t lds_input_resident(const lds_input *input, uint32_t file, uint64_t offset, uint64_t nbytes);

lds_range lds_read_range(const lds_input *input, const lds_read *read);

/*
 * A system call for that range has given result: bytes, or an errno as a negative number. True if the read is
 * over, false if it needs another call.
 */
bool lds_read_advance(lds_input *input, lds_read *read, const lds_range *range, long result);

/* Do all of a read by pread(2), or what is left of it. */
void lds_read_blocking(lds_input *input, lds_read *read);

/* Switch the kernel's reading ahead in all files on or off. */
void lds_input_read_ahead(lds_input *input, bool is_on);

/*
 * Note which pages of a read are in the page cache now, and later let go of the others. Where the kernel does not
 * tell, it is those that were copied at once.
 */
void lds_page_cache_note(const lds_input *input, lds_read *read);
void lds_page_cache_let_go(const lds_input *input, lds_read *read);

/* Have views of the files, of those that can be viewed. */
lds_status lds_views_open(lds_input *input, lds_error *err);
void lds_views_close(lds_input *input);

/* Take the read that has waited longest, or NULL. Called with the lock, as are the next three. */
lds_read *lds_input_take(lds_input *input);

/* A read that was taken is over. */
void lds_input_finish(lds_input *input, lds_read *read);

/* A read that was taken is to be taken by somebody else. */
void lds_input_put_back(lds_input *input, lds_read *read);

/* There is no ring any more: threads with pread(2) go on. */
void lds_input_lose_ring(lds_input *input, const char *why);

/* Note why the input is not what was wanted: the first reason is kept. */
void lds_input_fall_back(lds_input *input, const char *why);

/* pread(2) on a number of threads. */
extern const lds_source lds_source_pread;

/*
 * io_uring. lds_ring_open() gives the input its ring; if the system has none for it, the reason is returned, a
 * string constant, and otherwise NULL.
 */
extern const lds_source lds_source_uring;
const char *lds_ring_open(lds_input *input);
void lds_ring_close(struct lds_ring *ring);

/*
 * Have the kernel hold a buffer's pages for all reads that go there. The place that it has then, or LDS_NO_PLACE: the
 * pages count as locked memory, of which a process may not have much, and the reads go there all the same. Any thread
 * may call; the ring may be NULL.
 */
uint32_t lds_ring_register(struct lds_ring *ring, void *data, size_t nbytes);

#endif
