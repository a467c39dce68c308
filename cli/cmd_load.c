/*
 * loadstone load: all of from_pretrained. Open what PATH leads to, make the network of each part, load one part
 * after the other, and report. Everything that was loaded stays in memory until the end, as it would in a
 * program that uses it, so that the peak that is printed means something.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "load_result.h"
#include "progress_bar.h"

/* What the options say, in the library's terms. */
typedef struct load_job {
    const command_line *line;
    lds_keymap *keymap;
    char *manifest; /* its text, or NULL */
    size_t manifest_nbytes;
    lds_load_options options;
    progress_bar bar;
    lds_trace *trace; /* or NULL */
} load_job;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/*
 * The kernel's high-water mark of this program's memory; getrusage will not do, because its figure outlives
 * exec and so begins at that of whoever started us.
 */
static uint64_t peak_rss_nbytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    unsigned long long kib = 0;
    char text[256];
    while (file && fgets(text, sizeof text, file))
        if (sscanf(text, "VmHWM: %llu kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return (uint64_t)kib * 1024;
}

static int read_keymap(load_job *job)
{
    char *text;
    size_t nbytes;
    const char *path = job->line->map;
    int exit_code = path ? read_file(&text, &nbytes, path) : CLI_DONE;
    if (!path || exit_code)
        return exit_code;
    lds_error err = LDS_ERROR_INIT;
    lds_status status = lds_keymap_from_json(&job->keymap, text, nbytes, path, &err);
    free(text);
    return status ? fail(status, &err) : CLI_DONE;
}

static void set_options(load_job *job)
{
    const command_line *line = job->line;
    lds_load_options *o = &job->options;
    lds_load_options_init(o, sizeof *o);
    /* Every other network has been made in this dtype; a manifest's is what the manifest says. */
    o->dtype = line->network ? (lds_dtype)line->dtype : LDS_DTYPE_NONE;
    o->keep_f32 = line->keep_f32.items;
    o->n_keep_f32 = line->keep_f32.n;
    o->keymap = job->keymap;
    o->strict = !line->no_strict;
    o->ignore_mismatched = line->ignore_mismatched;
    o->init_missing = !line->no_init;
    o->lazy = line->lazy;
    o->keep_cache = line->keep_cache;
    o->prefetch = line->prefetch;
    o->seed = line->seed;
    o->io = (lds_io)line->io;
    o->n_threads = (uint32_t)line->threads;
    o->window_nbytes = line->window;
    o->hugetlb = line->hugetlb;
    o->overcommit = line->overcommit;
    o->cache = line->cache;
    o->trace = job->trace;
    o->cache_nbytes = line->cache_size;
    job->bar.is_shown = isatty(STDERR_FILENO) && !line->json && !line->quiet;
    o->progress = show_progress;
    o->progress_ctx = &job->bar;
}

/* What the report is printed to would be another file when the trace has taken its place. */
static bool is_report(const command_line *line)
{
    struct stat trace, out;
    bool is_silent = line->quiet && !line->json && !line->digest;
    return !is_silent && !stat(line->trace, &trace) && !fstat(STDOUT_FILENO, &out) && S_ISREG(out.st_mode) &&
           trace.st_dev == out.st_dev && trace.st_ino == out.st_ino;
}

/* A place where it cannot be is found before the load. */
static int begin_trace(load_job *job)
{
    if (is_report(job->line))
        return fail_usage("load", "--trace: expected a file of its own, found that of the standard output");
    lds_error err = LDS_ERROR_INIT;
    lds_status status = lds_trace_check(job->line->trace, &err);
    if (!status)
        status = lds_trace_new(&job->trace, &err);
    return status ? fail(status, &err) : CLI_DONE;
}

static int prepare(load_job *job, const command_line *line)
{
    *job = (load_job){.line = line};
    int exit_code = read_keymap(job);
    if (!exit_code && line->network)
        exit_code = read_file(&job->manifest, &job->manifest_nbytes, line->network);
    if (!exit_code && line->trace)
        exit_code = begin_trace(job);
    set_options(job);
    return exit_code;
}

static void clean_up(load_job *job)
{
    lds_keymap_free(job->keymap);
    free(job->manifest);
    lds_trace_free(job->trace);
}

/* The network of each part. They take no memory yet. */
static lds_status make_networks(load_job *job, const parts *ps, lds_error *err)
{
    lds_status status = LDS_OK;
    for (size_t i = 0; i < ps->n && !status; i++) {
        double began = now();
        part *p = &ps->items[i];
        status = job->manifest ? lds_network_from_manifest(&p->network, job->manifest, job->manifest_nbytes,
                                                           job->line->network, err)
                               : part_make_network(p, ps, job->line, job->keymap, err);
        p->seconds = now() - began;
    }
    return status;
}

static lds_status load_part(load_job *job, part *p, lds_error *err)
{
    lds_load_options *o = &job->options;
    o->names = p->names.items;
    o->n_names = p->names.n;
    if (job->line->dry_run)
        return lds_plan_new(&p->plan, p->network, p->checkpoint, o, &p->report, err);
    job->bar.title = part_title(p);
    lds_status status = lds_load(p->network, p->checkpoint, o, &p->report, err);
    clear_progress(&job->bar);
    return status;
}

/* Load part after part; the first that fails is the last. */
static lds_status load_parts(load_job *job, load_result *result, const parts *ps, lds_error *err)
{
    lds_status status = LDS_OK;
    for (size_t i = 0; i < ps->n && !status; i++) {
        double began = now();
        part *p = &ps->items[i];
        status = load_part(job, p, err);
        p->seconds += now() - began;
        result->n_parts += p->report != NULL;
    }
    result->is_refused = status == LDS_ERR_MISMATCH;
    return status;
}

static void put_result(output *out, const load_result *result)
{
    if (result->line->json && result->line->dry_run)
        put_plan_json(out, result);
    else if (result->line->json)
        put_load_json(out, result);
    else if (result->line->quiet && result->digests)
        put_digests(out, result);
    else if (result->line->quiet)
        return;
    else if (result->line->dry_run)
        put_plan(out, result);
    else
        put_load(out, result);
}

/* A report is printed also if the two do not fit: it says how. Nothing else that fails has one. */
static int finish(load_result *result, lds_status status, const lds_error *err, output *out)
{
    if (status && !result->is_refused)
        return fail(status, err);
    if (!status && result->line->digest && !result->line->dry_run && !make_digests(result))
        return fail(LDS_ERR_CANCELLED, err);
    if (result->n_parts)
        put_result(out, result);
    if (!status)
        return CLI_DONE;
    int exit_code = print_output(out);
    const char *name = result->n_parts ? result->ps->items[result->n_parts - 1].name : NULL;
    if (name)
        complain("%s: %s", name, err->message);
    else
        fail(status, err);
    return exit_code ? exit_code : CLI_MISMATCH;
}

/* What was opened at began. */
static int load_opened(load_job *job, parts *ps, double began, output *out)
{
    if (ps->is_pipeline && job->manifest)
        return fail_usage("load", "--network: expected a single checkpoint, found a pipeline; "
                                  "give the directory of one of its components");
    lds_error err = LDS_ERROR_INIT;
    lds_status status = make_networks(job, ps, &err);
    if (status)
        return fail(status, &err);
    int exit_code = parts_select(ps, job->line);
    if (exit_code)
        return exit_code;
    load_result result = {.line = job->line, .ps = ps};
    catch_interrupt(); /* before, nothing is there yet, and what a pipe or a server does not answer can be left */
    status = load_parts(job, &result, ps, &err);
    result.seconds = now() - began;
    result.peak_rss_nbytes = peak_rss_nbytes();
    exit_code = finish(&result, status, &err, out);
    free(result.digests);
    return exit_code;
}

static int load_path(load_job *job, output *out)
{
    double began = now();
    lds_error err = LDS_ERROR_INIT;
    parts ps;
    lds_status status = parts_open(&ps, job->line, &err);
    if (status)
        return fail(status, &err);
    int exit_code = load_opened(job, &ps, began, out);
    parts_close(&ps);
    return exit_code;
}

static int run_load(const command_line *line, output *out)
{
    load_job job;
    int exit_code = prepare(&job, line);
    if (!exit_code)
        exit_code = load_path(&job, out);
    lds_error err = LDS_ERROR_INIT;
    lds_status status = job.trace ? lds_trace_write(job.trace, line->trace, &err) : LDS_OK;
    if (status && !exit_code)
        exit_code = fail(status, &err);
    clean_up(&job);
    return exit_code;
}

#define FIELD(name) offsetof(command_line, name)

static const option options[] = {
    {"dtype", 'd', OPTION_DTYPE, FIELD(dtype), "DTYPE",
     "of the float parameters (what most of the checkpoint's are)"},
    {"keep-f32", 0, OPTION_LIST, FIELD(keep_f32), "GLOB",
     "float parameters that become f32 whatever --dtype says"},
    {"names", 0, OPTION_LIST, FIELD(names), "GLOB", "load these parameters only"},
    {"map", 'm', OPTION_TEXT, FIELD(map), "FILE", "key map (JSON): from tensor names to parameter names"},
    {"network", 'n', OPTION_TEXT, FIELD(network), "MANIFEST",
     "the network (JSON, as 'loadstone manifest' prints it)"},
    {"no-strict", 0, OPTION_FLAG, FIELD(no_strict), NULL, "missing and unexpected names are no error"},
    {"ignore-mismatched", 0, OPTION_FLAG, FIELD(ignore_mismatched), NULL,
     "a tensor of another shape counts as missing"},
    {"no-init", 0, OPTION_FLAG, FIELD(no_init), NULL, "leave what is missing without values"},
    {"seed", 0, OPTION_NUMBER, FIELD(seed), "N", "of what is initialised (0)"},
    {"io", 0, OPTION_CHOICE, FIELD(io), "auto|map|read|uring|direct", "how the bytes come in (auto)"},
    {"threads", 'j', OPTION_THREADS, FIELD(threads), "N", "1 to 1024 (what this process may use)"},
    {"window", 0, OPTION_SOME, FIELD(window), "SIZE", "most memory for bytes on their way (6MiB to 128MiB)"},
    {"lazy", 0, OPTION_FLAG, FIELD(lazy), NULL, "leave mapped pages to be read on first use"},
    {"keep-cache", 0, OPTION_FLAG, FIELD(keep_cache), NULL, "leave what is read in the page cache"},
    {"prefetch", 0, OPTION_FLAG, FIELD(prefetch), NULL, "first have all of it read into the page cache"},
    {"hugetlb", 0, OPTION_FLAG, FIELD(hugetlb), NULL, "put weights into reserved huge pages"},
    {"overcommit", 0, OPTION_FLAG, FIELD(overcommit), NULL, "begin also what memory has no room for"},
    {"cache", 0, OPTION_MAYBE, FIELD(cache), "DIR",
     "keep what was converted, and map it the next time (loadstone help cache)"},
    {"cache-size", 0, OPTION_SOME, FIELD(cache_size), "SIZE", "most that the cache may have (64GiB)"},
    {"trace", 0, OPTION_TEXT, FIELD(trace), "FILE", "write what each thread did when, for ui.perfetto.dev"},
    {"dry-run", 0, OPTION_FLAG, FIELD(dry_run), NULL, "print the plan, load nothing"},
    {"digest", 0, OPTION_FLAG, FIELD(digest), NULL, "print XXH3-128 of each parameter's bytes"},
    {"verbose", 'v', OPTION_FLAG, FIELD(verbose), NULL,
     "print whole lists, phases, and the transfers of --dry-run"},
    {"quiet", 'q', OPTION_FLAG, FIELD(quiet), NULL, "print errors only, and digests or JSON if asked for"},
};

const command load_command = {
    .name = "load",
    .operand = "PATH",
    .opens_checkpoint = true,
    .summary = "load a checkpoint into its network, and report",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .run = run_load,
};
