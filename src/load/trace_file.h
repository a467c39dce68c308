/* The file that a trace is written to. */
#ifndef LDS_LOAD_TRACE_FILE_H
#define LDS_LOAD_TRACE_FILE_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "src/base/error.h"

/* What every trace begins with, by which a file is known to be one. */
#define LDS_TRACE_BEGIN "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"

typedef struct lds_trace_file {
    char *path;      /* links are resolved */
    char *temporary; /* beside it, or NULL */
    FILE *stream;    /* between begin and end */
    bool is_there;   /* an earlier trace, of this mode */
    mode_t mode;
    bool is_stream; /* a pipe or a terminal, which takes the trace as it comes */
} lds_trace_file;

/* Refuses what is there and is no trace. Ends with lds_trace_file_end(), also if it fails. */
lds_status lds_trace_file_find(lds_trace_file *file, const char *path, lds_error *err);

/* Open file->stream. What is at the path stays as it is. */
lds_status lds_trace_file_begin(lds_trace_file *file, lds_error *err);

/* What was written takes its place, whole. */
lds_status lds_trace_file_commit(lds_trace_file *file, lds_error *err);

/* Without a commit nothing has happened, but for a pipe. */
void lds_trace_file_end(lds_trace_file *file);

#endif
