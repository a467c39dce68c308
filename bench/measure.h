/* What the measuring programs share: the clock, memory by page size, and the kernel's word on its use. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <err.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

static inline double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* New anonymous memory at a multiple of 2 MiB, in huge pages or expressly without. Never given back. */
static inline uint8_t *take_memory(uint64_t nbytes, bool huge)
{
    const uint64_t page = 2 << 20;
    uint64_t room = (nbytes + 2 * page - 1) / page * page;
    uint8_t *data =
        mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED)
        err(1, "memory");
    madvise(data, room, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return data + (page - (uintptr_t)data % page) % page;
}

/* The most memory that this process has had resident, in bytes, as the kernel counts it. */
static inline uint64_t peak_rss(void)
{
    unsigned long long kib = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status) && sscanf(line, "VmHWM: %llu", &kib) != 1)
        continue;
    if (status)
        fclose(status);
    return kib * 1024;
}

/* Bytes that this process has had read from a disk: of a hot run next to none. */
static inline uint64_t disk_nbytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_inblock * 512;
}

#endif
