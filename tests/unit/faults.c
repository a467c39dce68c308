/* The linker's --wrap leads what is linked statically here for malloc, calloc, realloc and aligned_alloc. */
#include "tests/unit/faults.h"

#include <stdatomic.h>
#include <stddef.h>

void *__real_malloc(size_t nbytes);
void *__real_calloc(size_t n, size_t nbytes);
void *__real_realloc(void *data, size_t nbytes);
void *__real_aligned_alloc(size_t alignment, size_t nbytes);
void *__wrap_malloc(size_t nbytes);
void *__wrap_calloc(size_t n, size_t nbytes);
void *__wrap_realloc(void *data, size_t nbytes);
void *__wrap_aligned_alloc(size_t alignment, size_t nbytes);

static atomic_uint_fast64_t left; /* allocations until the one that fails; 0 for none */
static atomic_bool failed;

static bool fails(void)
{
    uint_fast64_t n = atomic_load(&left);
    while (n && !atomic_compare_exchange_weak(&left, &n, n - 1))
        continue;
    if (n != 1)
        return false;
    atomic_store(&failed, true);
    return true;
}

void *__wrap_malloc(size_t nbytes)
{
    return fails() ? NULL : __real_malloc(nbytes);
}

void *__wrap_calloc(size_t n, size_t nbytes)
{
    return fails() ? NULL : __real_calloc(n, nbytes);
}

void *__wrap_realloc(void *data, size_t nbytes)
{
    return fails() ? NULL : __real_realloc(data, nbytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t nbytes)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, nbytes);
}

void faults_arm(uint64_t n)
{
    atomic_store(&failed, false);
    atomic_store(&left, n);
}

bool faults_disarm(void)
{
    atomic_store(&left, 0);
    return atomic_load(&failed);
}
