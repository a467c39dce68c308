/*
 * Compare one kernel with the C reference: over random and extreme inputs, in every small length and
 * misalignment, between pages that cannot be touched, in place, and in floating-point environments that a
 * program may have set.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/checkasm/checkasm.h"

enum { MAX_N = 4500, N_ROUNDS = 10, MAX_SHOWN = 4, CANARY = 0xA5 };

/* xorshift64*: the same inputs on every machine. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1DULL;
}

/* Exponent and mantissa bits of a float dtype of 16 bits or more; of F8 all inputs are tried anyway. */
static int mantissa_bits(lds_dtype dtype)
{
    switch (dtype) {
    case LDS_F64: return 52;
    case LDS_F32: return 23;
    case LDS_F16: return 10;
    case LDS_BF16: return 7;
    default: return 3;
    }
}

/*
 * A bit pattern of the source: a third are random, a third have an exponent of the targets' ranges, a third are
 * a few units from where a mantissa begins, ends, or is cut in half.
 */
static uint64_t next_input(const pair *p, uint64_t *state)
{
    uint64_t random = next_random(state);
    int mantissa = mantissa_bits(p->src), bits = (int)p->src_nbytes * 8;
    uint64_t kind = random % 3, sign = (random >> 8 & 1) << (bits - 1);
    random = next_random(state);
    if (kind == 0 || bits == 8)
        return random;
    uint64_t bias = (1ULL << ((bits - mantissa - 2) & 63)) - 1;
    uint64_t exponent = bias + next_random(state) % 64 - 40;
    if (bits == 16)
        exponent = next_random(state);
    exponent = exponent << mantissa & ((1ULL << (bits - 1)) - 1);
    if (kind == 1)
        return sign | exponent | (random & ((1ULL << mantissa) - 1));
    uint64_t top = random & 0xFF & ((1ULL << mantissa) - 1);
    uint64_t edge =
        top << (mantissa > 8 ? mantissa - (int)(random >> 8 & 7) - 1 : 0) & ((1ULL << mantissa) - 1);
    return (sign | exponent | edge) + (random >> 16) % 5 - 2;
}

static void put_input(void *at, size_t nbytes, uint64_t bits)
{
    union {
        uint8_t b8;
        uint16_t b16;
        uint32_t b32;
        uint64_t b64;
    } u;
    switch (nbytes) {
    case 1: u.b8 = (uint8_t)bits; break;
    case 2: u.b16 = (uint16_t)bits; break;
    case 4: u.b32 = (uint32_t)bits; break;
    default: u.b64 = bits;
    }
    memcpy(at, &u, nbytes);
}

/* Show the first elements that differ. */
static int report(const pair *p, const char *what, const uint8_t *found, const uint8_t *expected,
                  const uint8_t *src, size_t n)
{
    if (!memcmp(found, expected, n * p->dst_nbytes))
        return 0;
    int n_shown = 0;
    for (size_t i = 0; i < n && n_shown < MAX_SHOWN; i++) {
        uint64_t f = 0, e = 0, s = 0;
        memcpy(&f, found + i * p->dst_nbytes, p->dst_nbytes);
        memcpy(&e, expected + i * p->dst_nbytes, p->dst_nbytes);
        memcpy(&s, src + i * p->src_nbytes, p->src_nbytes);
        if (f == e)
            continue;
        fprintf(stderr, "%s %s to %s, %s, element %zu of %zu: expected %0*llx, found %0*llx from %0*llx\n",
                lds_isa_name(p->isa), lds_dtype_name(p->src), lds_dtype_name(p->dst), what, i, n,
                (int)p->dst_nbytes * 2, (unsigned long long)e, (int)p->dst_nbytes * 2, (unsigned long long)f,
                (int)p->src_nbytes * 2, (unsigned long long)s);
        n_shown++;
    }
    return 1;
}

/* Memory whose neighbours on both sides fault when they are touched. */
typedef struct guarded {
    uint8_t *begin, *end, *mapping;
    size_t mapping_nbytes;
} guarded;

static guarded guarded_new(size_t nbytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    nbytes = (nbytes + page - 1) / page * page;
    guarded g = {.mapping_nbytes = nbytes + 2 * page};
    g.mapping = mmap(NULL, g.mapping_nbytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.mapping == MAP_FAILED || mprotect(g.mapping + page, nbytes, PROT_READ | PROT_WRITE)) {
        perror("checkasm: mmap");
        exit(1);
    }
    g.begin = g.mapping + page;
    g.end = g.begin + nbytes;
    return g;
}

static void guarded_free(guarded *g)
{
    munmap(g->mapping, g->mapping_nbytes);
}

typedef struct buffers {
    guarded src, dst;
    uint8_t *input, *expected; /* MAX_N elements, made by the reference */
} buffers;

/* Convert n elements from src to dst, which are inside the guarded memory, and look around the result. */
static int check_at(const pair *p, buffers *b, uint8_t *dst, uint8_t *src, size_t n, const char *what)
{
    memcpy(src, b->input, n * p->src_nbytes);
    memset(b->dst.begin, CANARY, (size_t)(b->dst.end - b->dst.begin));
    p->kernel(dst, src, n);
    int n_failed = report(p, what, dst, b->expected, b->input, n);
    for (uint8_t *at = b->dst.begin; at < b->dst.end; at++) {
        if (at == dst)
            at += n * p->dst_nbytes;
        if (at < b->dst.end && *at != CANARY) {
            fprintf(stderr, "%s %s to %s, %s, %zu elements: wrote at %td\n", lds_isa_name(p->isa),
                    lds_dtype_name(p->src), lds_dtype_name(p->dst), what, n, at - dst);
            return n_failed + 1;
        }
    }
    return n_failed;
}

/* Every small length, at both ends of the guarded memory and at odd addresses. */
static int check_lengths(const pair *p, buffers *b)
{
    for (size_t n = 0; n <= MAX_N; n += n < 300 ? 1 : 97) {
        uint8_t *src_end = b->src.end - n * p->src_nbytes, *dst_end = b->dst.end - n * p->dst_nbytes;
        size_t src_shift = n % 67, dst_shift = n % 61;
        if (check_at(p, b, dst_end, src_end, n, "at the end of a page") ||
            check_at(p, b, b->dst.begin, b->src.begin, n, "at the beginning of a page") ||
            check_at(p, b, b->dst.begin + dst_shift, b->src.begin + src_shift, n, "misaligned"))
            return 1;
    }
    return 0;
}

/* The same for stores past the cache, which begin at a line. */
static int check_stream(const pair *p, buffers *b)
{
    pair streamed = *p;
    streamed.kernel = p->stream;
    for (size_t n = 0; p->stream && n <= MAX_N; n += LDS_STREAM_GRAIN) {
        uint8_t *src_end = b->src.end - n * p->src_nbytes, *dst_end = b->dst.end - n * p->dst_nbytes;
        size_t src_shift = n / LDS_STREAM_GRAIN % 67;
        if (check_at(&streamed, b, dst_end, src_end, n, "past the cache, at the end of a page") ||
            check_at(&streamed, b, b->dst.begin, b->src.begin + src_shift, n, "past the cache"))
            return 1;
    }
    return 0;
}

static int check_in_place(const pair *p, buffers *b)
{
    if (p->src_nbytes != p->dst_nbytes)
        return 0;
    for (size_t n = 0; n <= MAX_N; n += 1 + n / 8) {
        memcpy(b->src.begin, b->input, n * p->src_nbytes);
        p->kernel(b->src.begin, b->src.begin, n);
        if (report(p, "in place", b->src.begin, b->expected, b->input, n))
            return 1;
    }
    return 0;
}

/*
 * The register that holds rounding and flush-to-zero modes, and values of it that change arithmetic; on x86 it has
 * the exception flags, too, which have to stay clear in the usual mode and must not trap where they are not masked.
 */
#if defined(__x86_64__)
static const uint64_t fp_modes[] = {0x1F80 | 0x8040, 0x1F80 | 0x2000, 0x1F80 | 0x4000,
                                    0x1F80 | 0xE040, 0x1F80,          0};

static uint64_t get_fp_mode(void)
{
    return __builtin_ia32_stmxcsr();
}

static void set_fp_mode(uint64_t mode)
{
    __builtin_ia32_ldmxcsr((unsigned)mode);
}
#elif defined(__aarch64__)
static const uint64_t fp_modes[] = {1 << 24, 1 << 22, 2 << 22, 3 << 22 | 1 << 24 | 1 << 25 | 1 << 26};

static uint64_t get_fp_mode(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}

static void set_fp_mode(uint64_t mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
}
#else
static const uint64_t fp_modes[] = {0};

static uint64_t get_fp_mode(void)
{
    return 0;
}

static void set_fp_mode(uint64_t mode)
{
    (void)mode;
}
#endif

static int check_fp_modes(const pair *p, buffers *b)
{
    int n_failed = 0;
    uint64_t usual = get_fp_mode();
    for (size_t i = 0; i < sizeof fp_modes / sizeof fp_modes[0]; i++) {
        memcpy(b->src.begin, b->input, MAX_N * p->src_nbytes);
        set_fp_mode(fp_modes[i]);
        p->kernel(b->dst.begin, b->src.begin, MAX_N);
        uint64_t after = get_fp_mode();
        set_fp_mode(usual);
        n_failed += report(p, "in another floating-point mode", b->dst.begin, b->expected, b->input, MAX_N);
        if (after != fp_modes[i]) {
            fprintf(stderr, "%s %s to %s: changed the floating-point mode\n", lds_isa_name(p->isa),
                    lds_dtype_name(p->src), lds_dtype_name(p->dst));
            n_failed++;
        }
    }
    return n_failed;
}

int check_pair(const pair *p)
{
    if (p->src_nbytes <= 2 && check_pair_exhaustively(p))
        return 1;
    buffers b = {guarded_new(MAX_N * p->src_nbytes + 128), guarded_new(MAX_N * p->dst_nbytes + 128), NULL,
                 NULL};
    b.input = malloc(MAX_N * p->src_nbytes);
    b.expected = malloc(MAX_N * p->dst_nbytes);
    if (!b.input || !b.expected)
        abort();
    uint64_t state = 88172645463325252ULL;
    int n_failed = 0;
    for (int round = 0; round < N_ROUNDS && !n_failed; round++) {
        for (size_t i = 0; i < MAX_N; i++)
            put_input(b.input + i * p->src_nbytes, p->src_nbytes, next_input(p, &state));
        p->reference(b.expected, b.input, MAX_N);
        if (round == 0)
            n_failed += check_lengths(p, &b) + check_in_place(p, &b);
        n_failed += check_at(p, &b, b.dst.begin, b.src.begin, MAX_N, "random") + check_fp_modes(p, &b) +
                    check_stream(p, &b);
    }
    free(b.input);
    free(b.expected);
    guarded_free(&b.src);
    guarded_free(&b.dst);
    return n_failed ? 1 : 0;
}

int check_pair_exhaustively(const pair *p)
{
    enum { PART = 1 << 16 };
    uint8_t *memory = malloc(PART * (p->src_nbytes + 2 * p->dst_nbytes));
    if (!memory)
        abort();
    uint8_t *src = memory, *found = src + PART * p->src_nbytes, *expected = found + PART * p->dst_nbytes;
    uint64_t n_inputs = 1ULL << p->src_nbytes * 8;
    int n_failed = 0;
    for (uint64_t begin = 0; begin < n_inputs && !n_failed; begin += PART) {
        for (size_t i = 0; i < PART; i++) /* those of 8 bits come round again */
            put_input(src + i * p->src_nbytes, p->src_nbytes, begin + i);
        p->reference(expected, src, PART);
        p->kernel(found, src, PART);
        n_failed = report(p, "of all inputs", found, expected, src, PART);
    }
    free(memory);
    return n_failed;
}
