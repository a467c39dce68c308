/* The few forms of heap allocation that the library uses. Weights do not come from here: see storage.c. */
#include "src/base/memory.h"

#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/base/format.h"

lds_status lds_calloc(void *data, size_t n, size_t element_nbytes, lds_error *err)
{
    size_t nbytes;
    if (!lds_mul(n, element_nbytes, &nbytes))
        return lds_fail_memory(err, UINT64_MAX);
    void *p = calloc(1, nbytes ? nbytes : 1);
    if (!p)
        return lds_fail_memory(err, nbytes);
    memcpy(data, &p, sizeof p);
    return LDS_OK;
}

lds_status lds_grow(void *data, size_t *capacity, size_t n, size_t element_nbytes, lds_error *err)
{
    if (n <= *capacity)
        return LDS_OK;
    size_t room = *capacity < 8 ? 16 : *capacity * 2, nbytes;
    if (room < n)
        room = n;
    if (!lds_mul(room, element_nbytes, &nbytes))
        return lds_fail_memory(err, UINT64_MAX);
    void *p;
    memcpy(&p, data, sizeof p);
    p = realloc(p, nbytes);
    if (!p)
        return lds_fail_memory(err, nbytes);
    memcpy(data, &p, sizeof p);
    *capacity = room;
    return LDS_OK;
}

void *lds_malloc_large(size_t nbytes)
{
    if (nbytes < LDS_HUGE_PAGE_NBYTES)
        return malloc(nbytes);
    size_t room = (size_t)lds_align_up(nbytes, LDS_HUGE_PAGE_NBYTES);
    void *p = aligned_alloc(LDS_HUGE_PAGE_NBYTES, room);
    if (p)
        (void)madvise(p, room, MADV_HUGEPAGE); /* only a wish */
    return p;
}

lds_status lds_copy_string(char **copy, const char *text, size_t n, lds_error *err)
{
    char *p = malloc(n + 1);
    if (!p)
        return lds_fail_memory(err, (uint64_t)n + 1);
    if (n)
        memcpy(p, text, n);
    p[n] = 0;
    *copy = p;
    return LDS_OK;
}

lds_status lds_format_string(char **string, lds_error *err, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = lds_vformat(NULL, 0, format, args);
    va_end(args);
    char *p = n < 0 ? NULL : malloc((size_t)n + 1);
    if (p)
        lds_vformat(p, (size_t)n + 1, format, again);
    va_end(again);
    if (!p)
        return lds_fail_memory(err, n < 0 ? 0 : (uint64_t)n + 1);
    *string = p;
    return LDS_OK;
}

size_t lds_page_nbytes(void)
{
    long n = sysconf(_SC_PAGESIZE);
    return n > 0 ? (size_t)n : 4096;
}
