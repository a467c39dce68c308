/* Heap memory that reports failure as lds_error, and arithmetic that cannot wrap. */
#ifndef LDS_BASE_MEMORY_H
#define LDS_BASE_MEMORY_H

#include <stdlib.h>
#include <string.h>

#include "src/base/error.h"

/* False if the result does not fit; *result is then undefined. */
#define lds_mul(a, b, result) (!__builtin_mul_overflow((a), (b), (result)))
#define lds_add(a, b, result) (!__builtin_add_overflow((a), (b), (result)))

enum { LDS_HUGE_PAGE_NBYTES = 2 << 20 };

/* *data becomes n zeroed elements (at least one byte, so never NULL on success). Freed with free(). */
lds_status lds_calloc(void *data, size_t n, size_t element_nbytes, lds_error *err);

/*
 * Make room for at least n elements in the array *data, which now has room for *capacity, by at least
 * doubling it. New elements are not initialised. *data starts as NULL with *capacity 0.
 */
lds_status lds_grow(void *data, size_t *capacity, size_t n, size_t element_nbytes, lds_error *err);

/*
 * nbytes that are not initialised, for free(), or NULL. If they are many, in huge pages, where the kernel has some:
 * getting small ones from it takes longer than writing to them.
 */
void *lds_malloc_large(size_t nbytes);

/* A NUL-terminated copy of n bytes. Freed with free(). */
lds_status lds_copy_string(char **copy, const char *text, size_t n, lds_error *err);

/* A new string from a printf format. Freed with free(). */
lds_status lds_format_string(char **string, lds_error *err, const char *format, ...) LDS_PRINTF(3, 4);

/* Size of the system's pages: 4096 on most machines, 65536 on some. */
size_t lds_page_nbytes(void);

/* value rounded up to a multiple of alignment, a power of two. */
static inline uint64_t lds_align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

#endif
