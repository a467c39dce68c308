/* The blocking source: the read happens when it is waited for. */
#include "src/base/memory.h"
#include "src/checkpoint/checkpoint.h"
#include "src/io/source.h"

struct lds_reader {
    lds_read *pending;
};

static lds_status pread_open(lds_reader **reader, lds_error *err)
{
    return lds_calloc(reader, 1, sizeof **reader, err);
}

static lds_status pread_submit(lds_reader *reader, lds_read *read, lds_error *err)
{
    (void)err;
    reader->pending = read;
    return LDS_OK;
}

static lds_status pread_wait(lds_reader *reader, lds_read **read, lds_error *err)
{
    lds_read *r = *read = reader->pending;
    reader->pending = NULL;
    return lds_file_read(r->fd, r->data, r->nbytes, r->offset, err);
}

static void pread_close(lds_reader *reader)
{
    free(reader);
}

const lds_source lds_source_pread = {"pread", 1, pread_open, pread_submit, pread_wait, pread_close};
