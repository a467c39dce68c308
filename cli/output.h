/* What a command prints: composed in memory, written once it is whole. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loadstone.h"

#define CLI_PRINTF(string, first) __attribute__((format(printf, string, first)))

/* Text that grows. Zeroed memory is an empty one. Out of memory ends the program: see allocate(). */
typedef struct output {
    char *data;
    size_t n;
    size_t capacity;
} output;

/* Like realloc() with a checked product, but never NULL: without memory the program ends, exit code 5. */
void *allocate(void *data, size_t n, size_t element_nbytes);

void put(output *out, const char *text, size_t n);
void put_text(output *out, const char *text);
void put_repeat(output *out, char c, size_t n);
void put_format(output *out, const char *format, ...) CLI_PRINTF(2, 3);
void put_u64(output *out, uint64_t value);

/* 1,234,567 */
void put_count(output *out, uint64_t value);

/* A size for people: "312 B", "4.1 kB", "11.1 GB"; powers of 1000, as disks and networks are sold. */
void put_size(output *out, uint64_t nbytes);

/* "bf16"; "-" if it is none. */
void put_dtype(output *out, lds_dtype dtype);

/* "[2, 3]" */
void put_shape(output *out, uint32_t n_dims, const uint64_t *shape);

/*
 * Text from a file, made safe for a terminal: control characters (C1 included) and bytes that are not UTF-8
 * become \xNN. text[n] must be there, and must not continue a character.
 */
void put_escaped(output *out, const char *text, size_t n);

/* The same for a whole string. */
void put_name(output *out, const char *name);

/* Length of the valid UTF-8 sequence (RFC 3629) that text begins with, or 0. text ends in a NUL byte. */
size_t utf8_length(const char *text);

/* Write everything to the file descriptor, and be empty. 0, or the errno of the write that failed. */
int output_write(output *out, int fd);

void output_free(output *out);

#endif
