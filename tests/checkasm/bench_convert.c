/*
 * Time one kernel on data in the second-level cache, beside memcpy.
 *
 * Bytes are counted in and out. The buffers take 256 KiB together, which is more than a first-level cache and
 * less than a second-level one; memcpy moves as many bytes in and out. Each is timed in turns of about a
 * millisecond, and the best turn counts: other programs on the machine can only make it slower.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/checkasm/checkasm.h"

enum { TOTAL_NBYTES = 256 * 1024, N_TURNS = 12 };

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void copy_bytes(void *dst, const void *src, size_t n)
{
    memcpy(dst, src, n);
}

/* Seconds of one call, best of several turns. */
static double time_calls(lds_convert_fn function, void *dst, const void *src, size_t n)
{
    double best = 1;
    int n_calls = 1;
    for (int turn = 0; turn < N_TURNS;) {
        double begin = seconds_now();
        for (int i = 0; i < n_calls; i++) {
            function(dst, src, n);
            __asm__ volatile("" ::: "memory");
        }
        double seconds = seconds_now() - begin;
        if (seconds < 0.5e-3 && n_calls < 1 << 20) {
            n_calls *= 2;
            continue;
        }
        if (seconds / n_calls < best)
            best = seconds / n_calls;
        turn++;
    }
    return best;
}

speed bench_pair(const pair *p)
{
    size_t n = TOTAL_NBYTES / (p->src_nbytes + p->dst_nbytes);
    uint8_t *memory = aligned_alloc(4096, 2 * TOTAL_NBYTES);
    if (!memory)
        abort();
    /* Small numbers in every dtype, so that no time goes into what is rare. */
    for (size_t i = 0; i < 2 * TOTAL_NBYTES; i++)
        memory[i] = (uint8_t)(i % 8 == 7 || i % p->src_nbytes == p->src_nbytes - 1 ? 0x3C : i * 37);
    uint8_t *dst = memory + TOTAL_NBYTES;
    double seconds = time_calls(p->kernel, dst, memory, n);
    double copy_seconds = time_calls(copy_bytes, dst, memory, TOTAL_NBYTES / 2);
    free(memory);
    double nbytes = (double)n * (double)(p->src_nbytes + p->dst_nbytes);
    return (speed){nbytes / seconds * 1e-9, TOTAL_NBYTES / copy_seconds * 1e-9};
}
