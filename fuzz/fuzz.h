/*
 * What fuzz targets share. A target defines fuzz_one(), and is linked with fuzz.c and, unless libFuzzer
 * drives it, runner.c. Library allocations go through fuzz.c: with FUZZ_FAIL_ALLOCATIONS set in the environment, one
 * of each input's allocations fails, chosen by a hash of the input.
 */
#ifndef LDS_FUZZ_FUZZ_H
#define LDS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A broken promise of the library: the target dies, and the input is kept. */
#define FUZZ_CHECK(condition)                                                              \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

/* Try one input. data[nbytes] is on a page that cannot be read; data may be changed. */
void fuzz_one(uint8_t *data, size_t nbytes);

/* True if an allocation was made to fail during this input. */
bool fuzz_allocation_failed(void);

/* The entry that libFuzzer calls, and runner.c too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);

#endif
