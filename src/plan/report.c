/* Reports: lists of names, a few numbers, and their text for people. */
#include "src/plan/report.h"

#include <inttypes.h>
#include <stdarg.h>

#include "src/base/format.h"
#include "src/base/options.h"

/* More names than this of one list are counted, not shown, in the text. */
enum { MAX_NAMES_SHOWN = 20 };

lds_status lds_report_new(lds_report **report, lds_error *err)
{
    LDS_TRY(lds_calloc(report, 1, sizeof **report, err));
    (*report)->stats.struct_size = sizeof(lds_report_stats);
    (*report)->stats.source = "none";
    (*report)->stats.reason = "nothing to load";
    return LDS_OK;
}

void lds_report_free(lds_report *report)
{
    if (!report)
        return;
    for (int list = 0; list < LDS_REPORT_N_LISTS; list++) {
        for (size_t i = 0; i < report->lists[list].n; i++) {
            free(report->lists[list].entries[i].name);
            free(report->lists[list].entries[i].found_shape);
        }
        free(report->lists[list].entries);
    }
    free(report->text);
    free(report->cache);
    free(report);
}

lds_status lds_report_add(lds_report *report, lds_report_list list, const char *name, const char *detail,
                          lds_error *err)
{
    size_t n = strlen(name) + 1, m = detail ? strlen(detail) + 1 : 0;
    LDS_TRY(lds_grow(&report->lists[list].entries, &report->lists[list].capacity, report->lists[list].n + 1,
                     sizeof(lds_report_entry), err));
    char *copy;
    LDS_TRY(lds_calloc(&copy, n + m, 1, err));
    memcpy(copy, name, n);
    if (detail)
        memcpy(copy + n, detail, m);
    report->lists[list].entries[report->lists[list].n++] =
        (lds_report_entry){.name = copy, .detail = detail ? copy + n : NULL};
    return LDS_OK;
}

lds_status lds_report_add_mismatch(lds_report *report, const char *name, const char *detail, uint32_t n_dims,
                                   const uint64_t *shape, lds_error *err)
{
    LDS_TRY(lds_report_add(report, LDS_REPORT_MISMATCHED, name, detail, err));
    size_t last = report->lists[LDS_REPORT_MISMATCHED].n - 1;
    lds_report_entry *e = &report->lists[LDS_REPORT_MISMATCHED].entries[last];
    LDS_TRY(lds_calloc(&e->found_shape, n_dims, sizeof *shape, err));
    if (n_dims)
        memcpy(e->found_shape, shape, n_dims * sizeof *shape);
    e->n_dims = n_dims;
    return LDS_OK;
}

lds_status lds_report_note_cache(lds_report *report, lds_error *err, const char *format, ...)
{
    char text[sizeof err->message + 32];
    va_list args;
    va_start(args, format);
    lds_vformat(text, sizeof text, format, args);
    va_end(args);
    char *copy;
    LDS_TRY(lds_copy_string(&copy, text, strlen(text), err));
    free(report->cache);
    report->stats.cache = report->cache = copy;
    return LDS_OK;
}

void lds_report_get_stats(const lds_report *report, lds_report_stats *stats)
{
    lds_options_export(stats, stats->struct_size, &report->stats, sizeof report->stats);
}

size_t lds_report_count(const lds_report *report, lds_report_list list)
{
    return report->lists[list].n;
}

const char *lds_report_name(const lds_report *report, lds_report_list list, size_t i)
{
    return report->lists[list].entries[i].name;
}

const char *lds_report_detail(const lds_report *report, lds_report_list list, size_t i)
{
    return report->lists[list].entries[i].detail;
}

const uint64_t *lds_report_found_shape(const lds_report *report, size_t i, uint32_t *n_dims)
{
    const lds_report_entry *e = &report->lists[LDS_REPORT_MISMATCHED].entries[i];
    *n_dims = e->n_dims;
    return e->found_shape;
}

const char *lds_report_text(const lds_report *report)
{
    return report->text ? report->text : "";
}

/* ------------------------------------------------------------------------------------------------------- */

/* A string that grows; after a failed allocation it takes no more and remembers. */
typedef struct text {
    char *data;
    size_t n, capacity;
    lds_status status;
    lds_error *err;
} text;

static void say(text *t, const char *format, ...) LDS_PRINTF(2, 3);
static void say(text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = lds_vformat(NULL, 0, format, args);
    va_end(args);
    if (!t->status)
        t->status = lds_grow(&t->data, &t->capacity, t->n + (size_t)n + 1, 1, t->err);
    if (!t->status)
        t->n += (size_t)lds_vformat(t->data + t->n, (size_t)n + 1, format, again);
    va_end(again);
}

static void say_bytes(text *t, uint64_t nbytes, const char *what)
{
    if (nbytes >= 1000000000)
        say(t, ", %.2f GB %s", (double)nbytes / 1e9, what);
    else if (nbytes >= 1000000)
        say(t, ", %.1f MB %s", (double)nbytes / 1e6, what);
    else if (nbytes >= 10000)
        say(t, ", %.1f kB %s", (double)nbytes / 1e3, what);
    else if (nbytes)
        say(t, ", %" PRIu64 " bytes %s", nbytes, what);
}

static void say_phase(text *t, const char *name, double seconds)
{
    if (seconds >= 0.0005)
        say(t, ", %s %.3f s", name, seconds);
}

static void say_phases(text *t, const lds_report_stats *s)
{
    if (s->seconds <= 0) /* a plan's report: nothing has been done yet */
        return;
    say(t, "time: plan %.3f s", s->plan_seconds);
    say_phase(t, "cache", s->cache_seconds);
    say_phase(t, "memory", s->memory_seconds);
    say_phase(t, "transfer", s->transfer_seconds);
    say_phase(t, "init", s->init_seconds);
    say_phase(t, "check", s->check_seconds);
    say(t, "\n");
}

static void say_list(text *t, const lds_report *report, lds_report_list list, const char *title)
{
    size_t n = report->lists[list].n;
    if (!n)
        return;
    say(t, "%s (%zu):\n", title, n);
    for (size_t i = 0; i < n && i < MAX_NAMES_SHOWN; i++) {
        const lds_report_entry *e = &report->lists[list].entries[i];
        size_t begin = t->n;
        say(t, e->detail ? "  %s: %s" : "  %s", e->name, e->detail);
        if (!t->status)
            lds_keep_to_one_line(t->data + begin);
        say(t, "\n");
    }
    if (n > MAX_NAMES_SHOWN)
        say(t, "  ... and %zu more\n", n - MAX_NAMES_SHOWN);
}

lds_status lds_report_compose(lds_report *report, lds_error *err)
{
    const lds_report_stats *s = &report->stats;
    text t = {.err = err};
    say(&t, "%zu tensor%s", s->n_tensors, s->n_tensors == 1 ? "" : "s");
    if (s->seconds > 0)
        say(&t, " in %.3f s", s->seconds);
    say_bytes(&t, s->mapped_nbytes, "mapped");
    say_bytes(&t, s->read_nbytes, "read");
    say_bytes(&t, s->written_nbytes, "written");
    if (s->n_threads)
        say(&t, ", %u thread%s", s->n_threads, s->n_threads == 1 ? "" : "s");
    say(&t, "\nsource: %s (%s", s->source, s->reason);
    if (s->source_reason && strcmp(s->source_reason, s->reason) != 0)
        say(&t, "; %s", s->source_reason);
    if (s->fallback)
        say(&t, "; %s", s->fallback);
    say(&t, ")\n");
    if (s->cache)
        say(&t, "cache: %s\n", s->cache);
    say_phases(&t, s);
    say_list(&t, report, LDS_REPORT_MISSING, "missing from the checkpoint");
    say_list(&t, report, LDS_REPORT_UNEXPECTED, "unexpected in the checkpoint");
    say_list(&t, report, LDS_REPORT_MISMATCHED, "of another shape");
    say_list(&t, report, LDS_REPORT_INITIALISED, "initialised");
    say_list(&t, report, LDS_REPORT_TIED, "tied");
    if (t.status) {
        free(t.data);
        return t.status;
    }
    free(report->text);
    report->text = t.data;
    return LDS_OK;
}
