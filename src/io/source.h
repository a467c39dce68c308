/*
 * The way bytes come in. A source hands each worker a reader; a worker submits reads, as many as the reader
 * takes at once, and waits for whichever comes first. A blocking source takes one; one that keeps a queue in
 * the kernel takes many, and the worker converts one block while the others are on their way.
 */
#ifndef LDS_IO_SOURCE_H
#define LDS_IO_SOURCE_H

#include "src/base/error.h"

typedef struct lds_read {
    int fd;
    uint64_t offset;
    size_t nbytes;
    void *data;
} lds_read;

typedef struct lds_reader lds_reader;

typedef struct lds_source {
    const char *name;
    uint32_t depth; /* reads that a reader takes at once */
    lds_status (*open)(lds_reader **reader, lds_error *err);
    /* The read must stay where it is until it has been waited for. */
    lds_status (*submit)(lds_reader *reader, lds_read *read, lds_error *err);
    /* A read that is now complete. An error is about *read; the others are still to be waited for. */
    lds_status (*wait)(lds_reader *reader, lds_read **read, lds_error *err);
    /* Nothing may be under way. */
    void (*close)(lds_reader *reader);
} lds_source;

/* Plain pread(2), one read at a time. */
extern const lds_source lds_source_pread;

/*
 * Make the pages of data[0..nbytes), in a mapping of fd whose first byte is at offset of the file, present, or
 * at least resident, without ever touching one: a file that has shrunk is LDS_ERR_CHANGED, not a SIGBUS.
 */
lds_status lds_map_populate(void *data, size_t nbytes, int fd, uint64_t offset, lds_error *err);

#endif
