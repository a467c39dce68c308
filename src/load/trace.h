/* When each thread of a load did what. */
#ifndef LDS_LOAD_TRACE_H
#define LDS_LOAD_TRACE_H

#include "src/base/error.h"

typedef struct lds_trace_event {
    const char *what; /* a string constant */
    uint64_t begin_ns, end_ns;
    uint64_t nbytes; /* that it was about, or 0 */
} lds_trace_event;

/* What one thread has to say; only it touches this until lds_lane_end(). All do nothing where trace is NULL. */
typedef struct lds_lane {
    lds_trace *trace;
    uint32_t load;   /* from lds_trace_begin_load() */
    uint32_t number; /* 0 is the calling thread's */
    lds_trace_event *events;
    size_t n, capacity;
} lds_lane;

/* A number for a load of that checkpoint. */
uint32_t lds_trace_begin_load(lds_trace *trace, const char *path);

/* Of what memory does not suffice for there is no trace. */
void lds_lane_add(lds_lane *lane, const char *what, uint64_t begin_ns, uint64_t end_ns, uint64_t nbytes);
void lds_lane_end(lds_lane *lane);

#endif
