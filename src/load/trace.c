/*
 * Traces in the Trace Event Format, which chrome://tracing and ui.perfetto.dev draw: one process a load, one lane a
 * worker. Each thread collects on its own and hands in what it has when it ends, so that tracing takes no lock
 * while anything is measured.
 */
#include "src/load/trace.h"

#include <pthread.h>

#include "src/base/json.h"
#include "src/base/memory.h"
#include "src/load/trace_file.h"

enum { MIN_NS = 1000 }; /* what is shorter cannot be seen */

struct lds_trace {
    pthread_mutex_t lock; /* of the rest */
    lds_lane *lanes;
    size_t n_lanes, lanes_capacity;
    char **loads;
    size_t n_loads, loads_capacity;
};

lds_status lds_trace_new(lds_trace **trace, lds_error *err)
{
    *trace = NULL;
    LDS_TRY(lds_calloc(trace, 1, sizeof **trace, err));
    pthread_mutex_init(&(*trace)->lock, NULL);
    return LDS_OK;
}

void lds_trace_free(lds_trace *trace)
{
    if (!trace)
        return;
    for (size_t i = 0; i < trace->n_lanes; i++)
        free(trace->lanes[i].events);
    for (size_t i = 0; i < trace->n_loads; i++)
        free(trace->loads[i]);
    free(trace->lanes);
    free(trace->loads);
    pthread_mutex_destroy(&trace->lock);
    free(trace);
}

uint32_t lds_trace_begin_load(lds_trace *trace, const char *path)
{
    if (!trace)
        return 0;
    char *copy = NULL;
    pthread_mutex_lock(&trace->lock);
    uint32_t number = (uint32_t)trace->n_loads;
    if (!lds_copy_string(&copy, path, strlen(path), NULL) &&
        !lds_grow(&trace->loads, &trace->loads_capacity, trace->n_loads + 1, sizeof *trace->loads, NULL))
        trace->loads[trace->n_loads++] = copy;
    else
        free(copy);
    pthread_mutex_unlock(&trace->lock);
    return number;
}

void lds_lane_add(lds_lane *lane, const char *what, uint64_t begin_ns, uint64_t end_ns, uint64_t nbytes)
{
    if (lane->trace && end_ns - begin_ns >= MIN_NS &&
        !lds_grow(&lane->events, &lane->capacity, lane->n + 1, sizeof *lane->events, NULL))
        lane->events[lane->n++] = (lds_trace_event){what, begin_ns, end_ns, nbytes};
}

void lds_lane_end(lds_lane *lane)
{
    lds_trace *trace = lane->trace;
    if (!trace)
        return;
    pthread_mutex_lock(&trace->lock);
    if (lane->n &&
        !lds_grow(&trace->lanes, &trace->lanes_capacity, trace->n_lanes + 1, sizeof *trace->lanes, NULL)) {
        trace->lanes[trace->n_lanes++] = *lane;
        lane->events = NULL;
    }
    pthread_mutex_unlock(&trace->lock);
    free(lane->events);
    *lane = (lds_lane){0};
}

/* ------------------------------------------------------------------------------------------------------- */

static void put_names(FILE *f, const lds_trace *trace)
{
    for (size_t i = 0; i < trace->n_loads; i++) {
        fprintf(f,
                "%s{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%zu,\"args\":{\"name\":", i ? ",\n" : "",
                i);
        lds_json_put_string(f, trace->loads[i]);
        fputs("}}", f);
    }
    for (size_t i = 0; i < trace->n_lanes; i++) {
        const lds_lane *lane = &trace->lanes[i];
        fprintf(f, ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":",
                lane->load, lane->number);
        if (lane->number)
            fprintf(f, "\"worker %u\"}}", lane->number);
        else
            fputs("\"load\"}}", f);
    }
}

/* In microseconds. A double would be printed with the decimal point of the program's locale. */
static void put_time(FILE *f, const char *field, uint64_t ns)
{
    fprintf(f, ",\"%s\":%llu.%03u", field, (unsigned long long)(ns / 1000), (unsigned)(ns % 1000));
}

static void put_events(FILE *f, const lds_trace *trace)
{
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < trace->n_lanes; i++)
        if (trace->lanes[i].events[0].begin_ns < first)
            first = trace->lanes[i].events[0].begin_ns;
    for (size_t i = 0; i < trace->n_lanes; i++)
        for (size_t k = 0; k < trace->lanes[i].n; k++) {
            const lds_trace_event *e = &trace->lanes[i].events[k];
            fprintf(f, ",\n{\"name\":\"%s\",\"cat\":\"load\",\"ph\":\"X\",\"pid\":%u,\"tid\":%u", e->what,
                    trace->lanes[i].load, trace->lanes[i].number);
            put_time(f, "ts", e->begin_ns - first);
            put_time(f, "dur", e->end_ns - e->begin_ns);
            if (e->nbytes)
                fprintf(f, ",\"args\":{\"bytes\":%llu}", (unsigned long long)e->nbytes);
            fputc('}', f);
        }
}

static lds_status write_to(lds_trace_file *file, lds_trace *trace, lds_error *err)
{
    LDS_TRY(lds_trace_file_begin(file, err));
    pthread_mutex_lock(&trace->lock);
    fputs(LDS_TRACE_BEGIN, file->stream);
    put_names(file->stream, trace);
    put_events(file->stream, trace);
    fputs("\n]}\n", file->stream);
    pthread_mutex_unlock(&trace->lock);
    return lds_trace_file_commit(file, err);
}

static bool has_loads(lds_trace *trace)
{
    pthread_mutex_lock(&trace->lock);
    bool has = trace->n_loads > 0;
    pthread_mutex_unlock(&trace->lock);
    return has;
}

lds_status lds_trace_write(lds_trace *trace, const char *path, lds_error *err)
{
    lds_trace_file file;
    lds_status status = lds_trace_file_find(&file, path, err);
    if (!status && (has_loads(trace) || !file.is_there))
        status = write_to(&file, trace, err);
    lds_trace_file_end(&file);
    return status ? lds_error_context(err, status, path, NULL) : LDS_OK;
}

lds_status lds_trace_check(const char *path, lds_error *err)
{
    lds_trace_file file;
    lds_status status = lds_trace_file_find(&file, path, err);
    if (!status && !file.is_stream) /* a pipe's reader takes one end for the last */
        status = lds_trace_file_begin(&file, err);
    lds_trace_file_end(&file);
    return status ? lds_error_context(err, status, path, NULL) : LDS_OK;
}
