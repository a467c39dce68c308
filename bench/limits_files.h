/* What bench/limits does with files as such: in the page cache, out of it, and past it. */
#ifndef BENCH_LIMITS_FILES_H
#define BENCH_LIMITS_FILES_H

#include <stdbool.h>
#include <stdint.h>

/* Each prints one JSON object. */
void limits_warm(const char *file);  /* read it into the page cache */
void limits_evict(const char *file); /* have the page cache let go of it */

/* n_threads requests of block bytes at a time, from offset on (nbytes 0: to the end). */
typedef struct limits_reads {
    uint64_t offset, nbytes, block;
    uint32_t n_threads;
    bool huge;  /* pages of the memory */
    bool keeps; /* all that is read has memory of its own, used before; else a buffer for each thread */
    bool looks; /* at a word of each cache line, which whoever does something with what was read has to */
    uint32_t fills_percent; /* of so much new memory as this is of what was read; 0 fills none */
} limits_reads;

/* Read a file past the page cache. */
void limits_direct(const char *file, const limits_reads *reads);

#endif
