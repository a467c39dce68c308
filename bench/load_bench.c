/*
 * Loads measured from C through the public header, as a program that links the library would see them. One
 * invocation is one measurement in a process of its own, and prints one JSON object: seconds for each step,
 * the peak of resident memory as the kernel counted it at the end of the load, and how many page faults a
 * walk over every page of the network still took, which proves that the pages were present.
 */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "bench/measure.h"
#include "loadstone.h"

typedef struct settings {
    const char *path, *cache;
    lds_dtype dtype;
    lds_io io;
    uint32_t n_threads, n_loads;
    bool allocator, bind, pool, huge, lazy, at_once, store;
} settings;

/* Memory used before, handed out once. */
typedef struct used_memory {
    uint8_t *data;
    uint64_t nbytes, taken;
} used_memory;

typedef struct result {
    double open, network, load;
    uint64_t peak, network_nbytes, disk_nbytes;
    lds_report_stats stats;
} result;

static void must(lds_status status, const lds_error *e)
{
    if (status)
        errx(1, "%s", e->message);
}

static void *used_alloc(void *ctx, size_t nbytes, size_t alignment)
{
    used_memory *p = ctx;
    uint64_t at = (p->taken + alignment - 1) & ~(uint64_t)(alignment - 1);
    if (at > p->nbytes || nbytes > p->nbytes - at)
        return NULL;
    p->taken = at + nbytes;
    return p->data + at;
}

static void used_free(void *ctx, void *data, size_t nbytes)
{
    (void)ctx, (void)data, (void)nbytes;
}

static void used_fill(used_memory *p, uint64_t nbytes, bool huge)
{
    p->nbytes = nbytes;
    p->data = take_memory(nbytes, huge);
    for (uint64_t at = 0; at < nbytes; at += 4096)
        p->data[at] = 1;
}

static uint64_t nbytes_of(const lds_network *network)
{
    uint64_t nbytes = 0;
    for (size_t i = 0; i < lds_network_n_params(network); i++) {
        lds_param *param = lds_network_param(network, i);
        nbytes += lds_param_tied_to(param) ? 0 : lds_param_nbytes(param);
    }
    return nbytes;
}

static void bind_all(lds_network *network, used_memory *p)
{
    lds_error e = LDS_ERROR_INIT;
    for (size_t i = 0; i < lds_network_n_params(network); i++) {
        lds_param *param = lds_network_param(network, i);
        uint64_t nbytes = lds_param_nbytes(param);
        if (!lds_param_tied_to(param) && nbytes)
            must(lds_param_bind(param, used_alloc(p, nbytes, 64), nbytes, NULL, NULL, &e), &e);
    }
}

static uint64_t n_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_minflt + usage.ru_majflt);
}

/* Read a byte of every page of every parameter. */
static uint64_t walk(const lds_network *network)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < lds_network_n_params(network); i++) {
        lds_param *param = lds_network_param(network, i);
        const volatile uint8_t *data = lds_param_data(param);
        for (uint64_t at = 0; data && at < lds_param_nbytes(param); at += 4096)
            sum += data[at];
    }
    return sum;
}

/* A model directory becomes the network of its config, a file the network of its own names. */
static void make_network(lds_network **network, const settings *set, const lds_checkpoint *checkpoint)
{
    struct stat st;
    lds_error e = LDS_ERROR_INIT;
    if (!stat(set->path, &st) && S_ISDIR(st.st_mode))
        must(lds_network_from_config(network, set->path, set->dtype, &e), &e);
    else
        must(lds_network_from_checkpoint(network, checkpoint, set->dtype, &e), &e);
}

static void print_result(const result *r, uint64_t n_faults_after, double walk_seconds)
{
    printf("{\"seconds\":%.6f,\"open\":%.6f,\"network\":%.6f,\"load\":%.6f,\"plan\":%.6f,",
           r->open + r->network + r->load, r->open, r->network, r->load, r->stats.plan_seconds);
    printf("\"memory\":%.6f,\"transfer\":%.6f,\"read\":%.6f,\"convert\":%.6f,", r->stats.memory_seconds,
           r->stats.transfer_seconds, r->stats.read_seconds, r->stats.convert_seconds);
    printf("\"n_tensors\":%zu,\"network_nbytes\":%" PRIu64 ",\"read_nbytes\":%" PRIu64
           ",\"mapped_nbytes\":%" PRIu64 ",",
           r->stats.n_tensors, r->network_nbytes, r->stats.read_nbytes, r->stats.mapped_nbytes);
    printf("\"peak_rss_bytes\":%" PRIu64 ",\"source\":\"%s\",\"n_threads\":%" PRIu32 ",", r->peak,
           r->stats.source, r->stats.n_threads);
    printf("\"disk_nbytes\":%" PRIu64 ",\"cache\":\"%s\",", r->disk_nbytes,
           r->stats.cache ? r->stats.cache : "");
    printf("\"walk\":%.6f,\"walk_faults\":%" PRIu64 "}\n", walk_seconds, n_faults_after);
}

static lds_network *load_network(const settings *set, const lds_load_options *options)
{
    lds_error e = LDS_ERROR_INIT;
    lds_checkpoint *checkpoint;
    lds_network *network;
    must(lds_checkpoint_open(&checkpoint, set->path, NULL, &e), &e);
    make_network(&network, set, checkpoint);
    must(lds_load(network, checkpoint, options, NULL, &e), &e);
    lds_checkpoint_close(checkpoint);
    return network;
}

static void measure_load(const settings *set)
{
    lds_error e = LDS_ERROR_INIT;
    lds_checkpoint *checkpoint;
    lds_network *network;
    lds_report *report;
    lds_load_options options;
    result r = {.stats.struct_size = sizeof r.stats};
    used_memory memory = {0};

    lds_load_options_init(&options, sizeof options);
    options.io = set->io;
    options.n_threads = set->n_threads;
    options.lazy = set->lazy;
    options.cache = set->cache;
    if (set->store) /* what an earlier run has left there would be used, and not written */
        must(lds_cache_trim(set->cache, 0, NULL, &e), &e);
    if (set->pool) {
        must(lds_pool_create(&options.pool, 0, &e), &e);
        /* What a program before this one would have left behind. */
        lds_network_free(load_network(set, &options));
    }

    double t0 = now();
    must(lds_checkpoint_open(&checkpoint, set->path, NULL, &e), &e);
    double t1 = now();
    make_network(&network, set, checkpoint);
    double t2 = now();
    r.network_nbytes = nbytes_of(network);
    if (set->allocator || set->bind) /* room for what alignment takes beside the weights themselves */
        used_fill(&memory, r.network_nbytes + 64 * lds_network_n_params(network) + (64 << 20), set->huge);
    if (set->bind)
        bind_all(network, &memory);
    lds_allocator allocator = {&memory, used_alloc, used_free};
    if (set->allocator)
        options.allocator = &allocator;

    double t3 = now();
    must(lds_load(network, checkpoint, &options, &report, &e), &e);
    r.load = now() - t3;
    r.open = t1 - t0;
    r.network = t2 - t1;
    r.peak = peak_rss();
    r.disk_nbytes = disk_nbytes();
    lds_report_get_stats(report, &r.stats);

    uint64_t before = n_faults();
    double t4 = now();
    uint64_t sum = walk(network);
    double walked = now() - t4;
    print_result(&r, n_faults() - before, walked);
    if (sum == UINT64_MAX) /* keeps the walk */
        puts("");
    lds_report_free(report);
    lds_network_free(network);
    lds_checkpoint_close(checkpoint);
    lds_pool_release(options.pool);
}

/* What does not depend on the weights' size: headers, names, and the plan. */
static void measure_open(const settings *set)
{
    lds_error e = LDS_ERROR_INIT;
    lds_checkpoint *checkpoint;
    lds_network *network;
    lds_plan *plan;
    double t0 = now();
    must(lds_checkpoint_open(&checkpoint, set->path, NULL, &e), &e);
    double t1 = now();
    make_network(&network, set, checkpoint);
    double t2 = now();
    must(lds_plan_new(&plan, network, checkpoint, NULL, NULL, &e), &e);
    double t3 = now();
    printf("{\"seconds\":%.6f,\"network\":%.6f,\"plan\":%.6f,\"n_tensors\":%zu,\"peak_rss_bytes\":%" PRIu64
           "}\n",
           t1 - t0, t2 - t1, t3 - t2, lds_checkpoint_n_tensors(checkpoint), peak_rss());
    lds_plan_free(plan);
    lds_network_free(network);
    lds_checkpoint_close(checkpoint);
}

static void *load_once(void *ctx)
{
    const settings *set = ctx;
    lds_load_options options;
    lds_load_options_init(&options, sizeof options);
    options.io = set->io;
    options.n_threads = set->n_threads;
    return load_network(set, &options);
}

/*
 * Some loads of the same, one after the other or all at once. All networks are kept until the last one is there: one
 * that was freed would leave the next its memory, which costs less than new memory, and only those in turn have that.
 */
static void measure_crowd(settings *set)
{
    enum { MAX_LOADS = 64 };
    pthread_t threads[MAX_LOADS];
    void *networks[MAX_LOADS];
    uint32_t n = set->n_loads < MAX_LOADS ? set->n_loads : MAX_LOADS;
    double t0 = now();
    for (uint32_t i = 0; i < n; i++) {
        if (!set->at_once)
            networks[i] = load_once(set);
        else if (pthread_create(&threads[i], NULL, load_once, set))
            errx(1, "no thread");
    }
    for (uint32_t i = 0; i < n && set->at_once; i++)
        pthread_join(threads[i], &networks[i]);
    printf("{\"seconds\":%.6f,\"peak_rss_bytes\":%" PRIu64 ",\"disk_nbytes\":%" PRIu64 "}\n", now() - t0,
           peak_rss(), disk_nbytes());
    for (uint32_t i = 0; i < n; i++)
        lds_network_free(networks[i]);
}

static _Noreturn void usage(void)
{
    fputs("usage: load_bench load|open PATH [--dtype DTYPE] [--io auto|map|read|uring|direct] [--threads N]\n"
          "                  [--allocator | --bind | --pool] [--huge] [--lazy] [--cache DIR [--store]]\n"
          "       load_bench crowd PATH --loads N [--at-once] [--dtype DTYPE] [--io IO] [--threads N]\n",
          stderr);
    exit(2);
}

static const struct option long_options[] = {
    {"dtype", required_argument, NULL, 'd'},
    {"io", required_argument, NULL, 'i'},
    {"threads", required_argument, NULL, 't'},
    {"allocator", no_argument, NULL, 'A'},
    {"bind", no_argument, NULL, 'B'},
    {"huge", no_argument, NULL, 'H'},
    {"pool", no_argument, NULL, 'P'},
    {"cache", required_argument, NULL, 'C'},
    {"loads", required_argument, NULL, 'n'},
    {"at-once", no_argument, NULL, 'O'},
    {"store", no_argument, NULL, 'S'},
    {"lazy", no_argument, NULL, 'L'},
    {NULL, 0, NULL, 0},
};

static lds_io parse_io(const char *name)
{
    static const char *const names[] = {"auto", "map", "read", "uring",
                                        "direct"}; /* in the order of lds_io */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i]))
            return (lds_io)i;
    usage();
}

int main(int argc, char **argv)
{
    settings set = {0};
    if (argc < 3)
        usage();
    set.path = argv[2];
    for (int c; (c = getopt_long(argc - 2, argv + 2, "+", long_options, NULL)) != -1;) {
        switch (c) {
        case 'd': set.dtype = lds_dtype_parse(optarg); break;
        case 'i': set.io = parse_io(optarg); break;
        case 't': set.n_threads = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'A': set.allocator = true; break;
        case 'B': set.bind = true; break;
        case 'C': set.cache = optarg; break;
        case 'P': set.pool = true; break;
        case 'H': set.huge = true; break;
        case 'L': set.lazy = true; break;
        case 'n': set.n_loads = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'O': set.at_once = true; break;
        case 'S': set.store = true; break;
        default: usage();
        }
    }
    if (!strcmp(argv[1], "load"))
        measure_load(&set);
    else if (!strcmp(argv[1], "open"))
        measure_open(&set);
    else if (!strcmp(argv[1], "crowd"))
        measure_crowd(&set);
    else
        usage();
    return 0;
}
