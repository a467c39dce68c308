/* Between an input, its readers, and the ways in which reads are done. */
#ifndef LDS_IO_INPUT_H
#define LDS_IO_INPUT_H

#include <pthread.h>

#include "src/io/async.h"

/* A file, opened once more: a read may outlive the checkpoint. Descriptors are -1 where there is none. */
typedef struct lds_input_file {
    int fd, direct_fd;
    bool is_shared;               /* fd is of the description that the checkpoint has */
    bool hides_cache, is_overlay; /* as in lds_file */
} lds_input_file;

/* Reads in a row, the one that has waited longest first. Zeroed it is empty. */
typedef struct lds_read_queue {
    lds_read *first, *last;
} lds_read_queue;

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

    atomic_bool wants_uring, wants_aio; /* the system gives them to readers, as far as is known */
    atomic_bool has_uring, has_lost_uring;

    /* The lock guards all that follows, and the lists of the readers. */
    pthread_mutex_t lock;
    pthread_cond_t work;  /* there is a new read to take, or the end has come */
    pthread_cond_t quiet; /* nothing is under way, or a thread has ended */
    lds_reader *readers;
    lds_read_queue waiting; /* to be taken by a thread */
    uint32_t n_waiting, n_taken;
    uint32_t n_taken_foreign; /* of these, into memory that is not to be written to after the load */
    pthread_t threads[LDS_MAX_IO_THREADS];
    uint32_t n_started, n_idle;
    uint32_t n_running;      /* threads of the input's own */
    bool is_ending;          /* nothing more will be taken */
    atomic_bool is_orphaned; /* the load has gone; the last thread frees what is left */
};

struct lds_reader {
    lds_input *input;
    lds_reader *next;
    lds_async *async;         /* or NULL: then the input's threads read */
    uint32_t n_async;         /* that are under way there */
    lds_read_queue done_here; /* over, not yet waited for */
    pthread_cond_t done_cond;
    lds_read_queue done;  /* the same, by a thread; guarded by the input's lock */
    lds_storage *buffers; /* of all its reads, or NULL */
    uint32_t n_under_way;
    bool is_open;
    uint32_t n_idle;
    lds_read *idle[LDS_MAX_DEPTH];
    lds_read reads[LDS_MAX_DEPTH];
};

/* As lds_file_resident(). */
uint64_t lds_input_resident(const lds_input *input, uint32_t file, uint64_t offset, uint64_t nbytes);

void lds_read_queue_put(lds_read_queue *queue, lds_read *read);

/* The one that has waited longest, or NULL. */
lds_read *lds_read_queue_take(lds_read_queue *queue);

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

/*
 * Threads that read by pread(2), one read at a time each: what is left where the kernel does not. The first hands a
 * read to them; false if the system gives none.
 */
bool lds_input_hand_over(lds_input *input, lds_read *read);

/*
 * Have them end. What they have begun is waited for shortly, and until it is over where it goes into memory that the
 * load does not own. Called with the lock.
 */
void lds_input_end_threads(lds_input *input);

/* Start a thread that counts as one of those that are running. False if the system gives none. Called with the lock. */
bool lds_input_start_thread(lds_input *input, pthread_t *thread, void *(*run)(void *input));

/* The last thing that such a thread does. */
void lds_input_leave(lds_input *input);

/* Free the input. Nobody may be using it. */
void lds_input_free(lds_input *input);

/* Note why the input is not what was wanted: the first reason is kept. */
void lds_input_fall_back(lds_input *input, const char *why);

/* How long a worker waits before it looks whether it should stop, and an end waits for what is under way. */
enum { LDS_LOOK_MS = 10, LDS_END_MS = 30 };

#endif
