/*
 * Puts each input before a guard page, and stands between the library and malloc (by the linker's --wrap), to
 * fail an allocation and to notice one that no input can justify.
 */
#include "fuzz/fuzz.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* Small inputs have no use for blocks this large: something believed a number in the input. */
enum { MAX_ALLOCATION = 256 << 20 };

/* The fuzzer itself allocates too; only what is done inside fuzz_one() counts. */
static bool is_running;
static uint64_t allocations_left; /* until the one that fails; 0 for none */
static bool failed;

void *__real_malloc(size_t nbytes);
void *__real_calloc(size_t n, size_t nbytes);
void *__real_realloc(void *data, size_t nbytes);
void *__wrap_malloc(size_t nbytes);
void *__wrap_calloc(size_t n, size_t nbytes);
void *__wrap_realloc(void *data, size_t nbytes);

static bool may_allocate(size_t n, size_t nbytes)
{
    if (!is_running)
        return true;
    size_t total;
    FUZZ_CHECK(!__builtin_mul_overflow(n, nbytes, &total) && total <= MAX_ALLOCATION);
    if (!allocations_left || --allocations_left)
        return true;
    failed = true;
    errno = ENOMEM;
    return false;
}

void *__wrap_malloc(size_t nbytes)
{
    return may_allocate(1, nbytes) ? __real_malloc(nbytes) : NULL;
}

void *__wrap_calloc(size_t n, size_t nbytes)
{
    return may_allocate(n, nbytes) ? __real_calloc(n, nbytes) : NULL;
}

void *__wrap_realloc(void *data, size_t nbytes)
{
    return may_allocate(1, nbytes) ? __real_realloc(data, nbytes) : NULL;
}

bool fuzz_allocation_failed(void)
{
    return failed;
}

/* A place for nbytes that ends where a page begins that cannot be read. Kept from input to input. */
static uint8_t *guarded(size_t nbytes)
{
    static uint8_t *base;
    static size_t capacity;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!base || nbytes > capacity) {
        if (base)
            munmap(base, capacity + page);
        capacity = (nbytes + page) / page * page;
        base = mmap(NULL, capacity + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        FUZZ_CHECK(base != MAP_FAILED && !mprotect(base + capacity, page, PROT_NONE));
    }
    return base + capacity - nbytes;
}

/* FNV-1a. */
static uint64_t hash(const uint8_t *data, size_t nbytes)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < nbytes; i++)
        h = (h ^ data[i]) * 0x100000001B3u;
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    uint8_t *copy = guarded(nbytes);
    if (nbytes)
        memcpy(copy, data, nbytes);
    failed = false;
    /* Most inputs make few allocations: the early ones have to be the likely ones. */
    uint64_t h = hash(data, nbytes);
    allocations_left = getenv("FUZZ_FAIL_ALLOCATIONS") ? 1 + (h >> 8) % (1u << h % 8) : 0;
    is_running = true;
    fuzz_one(copy, nbytes);
    is_running = false;
    return 0;
}
