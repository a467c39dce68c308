/* What bench/limits does with files as such: in the page cache, out of it, and past it. */
#ifndef BENCH_LIMITS_FILES_H
#define BENCH_LIMITS_FILES_H

#include <stdint.h>

/* Each prints one JSON object. */
void limits_warm(const char *file);  /* read it into the page cache */
void limits_evict(const char *file); /* have the page cache let go of it */

/* Read nbytes from offset on (0: to the end) past the page cache, n_threads requests of block bytes at a time. */
void limits_direct(const char *file, uint64_t offset, uint64_t nbytes, uint64_t block, uint32_t n_threads);

#endif
