/*
 * Drives a fuzz target without libFuzzer, with the options of libFuzzer that it has:
 *
 *     TARGET [-runs=N] [-seed=N] [-max_len=N] [-max_total_time=SECONDS] [-timeout=SECONDS] [-dict=FILE]
 *            [PATH...]
 *
 * Files and the files of directories are tried as they are, then N inputs that are random or mutated from
 * them. Input i of a seed is always the same, so the target runs in a child process that only has to leave the
 * number of the input it is at: when it dies or hangs, the parent makes that input again and writes it to a
 * file. Nothing is learned from coverage: that is libFuzzer's job.
 */
#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz/fuzz.h"

typedef struct blob {
    uint8_t *data;
    size_t nbytes;
} blob;

typedef struct blob_list {
    blob *blobs;
    size_t n;
} blob_list;

static struct {
    uint64_t runs, seed, max_len, max_total_time, timeout;
    const char *dict;
    blob_list seeds, words;
} options = {.runs = 100000, .seed = 1, .max_len = 4096, .timeout = 20};

static void die(const char *what, const char *path)
{
    fprintf(stderr, "%s: %s\n", path, what);
    exit(2);
}

static void add_blob(blob_list *list, const void *data, size_t nbytes)
{
    list->blobs = realloc(list->blobs, (list->n + 1) * sizeof *list->blobs);
    uint8_t *copy = malloc(nbytes + 1);
    if (!list->blobs || !copy)
        die("out of memory", "fuzz");
    memcpy(copy, data, nbytes);
    copy[nbytes] = 0;
    list->blobs[list->n++] = (blob){copy, nbytes};
}

static void add_file(blob_list *list, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        die("cannot be opened", path);
    static uint8_t data[1 << 20];
    add_blob(list, data, fread(data, 1, sizeof data, file));
    fclose(file);
}

/* In alphabetical order, so that an input's number means the same everywhere. */
static void add_path(blob_list *list, const char *path)
{
    struct stat status;
    if (stat(path, &status))
        die("no such file", path);
    if (!S_ISDIR(status.st_mode)) {
        add_file(list, path);
        return;
    }
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && !stat(name, &status) && S_ISREG(status.st_mode))
            add_file(list, name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

/* The text between the quotes of a dictionary's line, without its escapes: \\, \" and \xNN. */
static void add_word(blob_list *words, const char *p)
{
    uint8_t word[256];
    size_t n = 0;
    for (; *p && *p != '"' && n < sizeof word; p++) {
        char digits[3] = {0};
        word[n] = (uint8_t)*p;
        if (*p == '\\' && p[1] == 'x' && p[2] && p[3]) {
            memcpy(digits, p + 2, 2);
            word[n] = (uint8_t)strtoul(digits, NULL, 16);
            p += 3;
        } else if (*p == '\\' && p[1]) {
            word[n] = (uint8_t) * ++p;
        }
        n++;
    }
    add_blob(words, word, n);
}

static void read_dict(blob_list *words, const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        die("cannot be opened", path);
    char line[1024];
    while (fgets(line, sizeof line, file)) {
        const char *quote = strchr(line, '"');
        if (line[0] != '#' && quote)
            add_word(words, quote + 1);
    }
    fclose(file);
}

/* splitmix64 */
static uint64_t draw(uint64_t *rng)
{
    uint64_t z = *rng += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* A number below n; 0 if n is 0. */
static size_t below(uint64_t *rng, size_t n)
{
    return n ? draw(rng) % n : 0;
}

/* Put what is in from over n_replaced bytes at position at, as far as there is room. */
static void splice(blob *input, size_t at, size_t n_replaced, const uint8_t *from, size_t nbytes)
{
    size_t rest = input->nbytes - at - n_replaced;
    if (at + nbytes + rest > options.max_len)
        return;
    memmove(input->data + at + nbytes, input->data + at + n_replaced, rest);
    if (nbytes) /* from may be NULL */
        memcpy(input->data + at, from, nbytes);
    input->nbytes = at + nbytes + rest;
}

static void mutate(blob *input, uint64_t *rng)
{
    uint8_t bytes[64];
    size_t at = below(rng, input->nbytes + 1), left = input->nbytes - at, n = 1 + below(rng, 8);
    const blob_list *words = options.words.n ? &options.words : &options.seeds;
    const blob *other;
    switch (draw(rng) % 8) {
    case 0:
        if (left)
            input->data[at] ^= (uint8_t)(1u << draw(rng) % 8);
        break;
    case 1:
        if (left)
            input->data[at] = (uint8_t)draw(rng);
        break;
    case 2: splice(input, at, below(rng, left + 1), NULL, 0); break;
    case 3: splice(input, at, n < left ? n : left, NULL, 0); break;
    case 4: /* repeat what stands here */
        n = left < sizeof bytes ? left : sizeof bytes;
        memcpy(bytes, input->data + at, n);
        splice(input, at, 0, bytes, n);
        break;
    case 5:
        if (options.seeds.n) { /* the tail of another */
            other = &options.seeds.blobs[below(rng, options.seeds.n)];
            size_t begin = below(rng, other->nbytes + 1);
            splice(input, at, left, other->data + begin, other->nbytes - begin);
        }
        break;
    default:
        if (words->n) {
            other = &words->blobs[below(rng, words->n)];
            splice(input, at, draw(rng) % 2 && other->nbytes <= left ? other->nbytes : 0, other->data,
                   other->nbytes);
        }
    }
}

/* Input number i: first the seeds as they are, then one in sixteen random, the others mutated seeds. */
static void make_input(blob *input, uint64_t i)
{
    const blob_list *seeds = &options.seeds;
    input->nbytes = 0;
    if (i < seeds->n) {
        input->nbytes = seeds->blobs[i].nbytes;
        memcpy(input->data, seeds->blobs[i].data, input->nbytes);
        return;
    }
    uint64_t rng = options.seed * 0xD1342543DE82EF95u + i;
    if (!seeds->n || draw(&rng) % 16 == 0) {
        input->nbytes = below(&rng, options.max_len < 256 ? options.max_len : 256);
        for (size_t k = 0; k < input->nbytes; k++)
            input->data[k] = (uint8_t)draw(&rng);
    } else {
        const blob *seed = &seeds->blobs[below(&rng, seeds->n)];
        splice(input, 0, 0, seed->data, seed->nbytes);
    }
    for (size_t n = 1 + below(&rng, 6); n; n--)
        mutate(input, &rng);
}

static void run(blob *input, volatile uint64_t *at)
{
    time_t begin = time(NULL);
    for (uint64_t i = 0; i < options.seeds.n + options.runs; i++) {
        if (options.max_total_time && i % 256 == 0 &&
            (uint64_t)(time(NULL) - begin) >= options.max_total_time)
            break;
        *at = i;
        make_input(input, i);
        LLVMFuzzerTestOneInput(input->data, input->nbytes);
    }
    *at = UINT64_MAX;
}

/* Wait for the child, and end it if it stays at one input for too long. Its wait status. */
static int watch(pid_t child, volatile const uint64_t *at)
{
    uint64_t last = *at;
    time_t since = time(NULL);
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        struct timespec pause = {0, 20000000};
        nanosleep(&pause, NULL);
        if (*at != last) {
            last = *at;
            since = time(NULL);
        } else if ((uint64_t)(time(NULL) - since) > options.timeout) {
            fprintf(stderr, "input %llu takes more than %llu s\n", (unsigned long long)last,
                    (unsigned long long)options.timeout);
            kill(child, SIGKILL);
            since = time(NULL);
        }
    }
    return status;
}

static void keep_input(blob *input, uint64_t i)
{
    if (i == UINT64_MAX)
        return; /* it died while it ended: the leak checker has said what of */
    make_input(input, i);
    char path[64];
    snprintf(path, sizeof path, "crash-%llu-%llu", (unsigned long long)options.seed, (unsigned long long)i);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(input->data, 1, input->nbytes, file) != input->nbytes || fclose(file))
        die("cannot be written", path);
    fprintf(stderr, "input %llu is in %s\n", (unsigned long long)i, path);
}

static void read_option(const char *arg)
{
    static const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {{"-runs=", &options.runs},
                   {"-seed=", &options.seed},
                   {"-max_len=", &options.max_len},
                   {"-max_total_time=", &options.max_total_time},
                   {"-timeout=", &options.timeout}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        size_t n = strlen(numbers[i].name);
        if (!strncmp(arg, numbers[i].name, n)) {
            *numbers[i].value = strtoull(arg + n, NULL, 10);
            return;
        }
    }
    if (strncmp(arg, "-dict=", 6))
        die("unknown option", arg);
    read_dict(&options.words, arg + 6);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-')
            read_option(argv[i]);
        else
            add_path(&options.seeds, argv[i]);
    }
    size_t capacity = options.max_len + 1;
    for (size_t i = 0; i < options.seeds.n; i++)
        if (options.seeds.blobs[i].nbytes >= capacity)
            capacity = options.seeds.blobs[i].nbytes + 1;
    static blob input; /* kept to the end, by parent and child alike */
    input.data = malloc(capacity);
    uint64_t *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!input.data || at == MAP_FAILED)
        die("out of memory", argv[0]);
    *at = 0;
    pid_t child = fork();
    if (child < 0)
        die("cannot fork", argv[0]);
    if (!child) {
        run(&input, at);
        exit(0);
    }
    int status = watch(child, at);
    if (status) {
        keep_input(&input, *at);
        return 1;
    }
    return 0;
}
