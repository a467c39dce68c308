/*
 * Open addressing with linear probing over 32-bit hashes. A checkpoint may have hundreds of thousands of
 * names, so a slot is four bytes, and an entry's text is only compared once its whole hash agrees.
 */
#include "src/base/names.h"

#include <stdatomic.h>
#include <sys/random.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static uint64_t process_seed(void)
{
    static _Atomic uint64_t shared;
    uint64_t seed = atomic_load_explicit(&shared, memory_order_relaxed);
    if (seed)
        return seed;
    uint64_t fresh = 0;
    if (getrandom(&fresh, sizeof fresh, GRND_NONBLOCK) != (ssize_t)sizeof fresh)
        fresh = (uint64_t)time(NULL) ^ (uint64_t)(uintptr_t)&shared;
    fresh |= 1;
    /* Threads may race to be first: the one that wins gives the seed to all. */
    return atomic_compare_exchange_strong(&shared, &seed, fresh) ? fresh : seed;
}

uint32_t lds_name_hash(const char *text, size_t nbytes)
{
    return (uint32_t)XXH3_64bits_withSeed(text, nbytes, process_seed());
}

void lds_names_destroy(lds_names *names)
{
    free(names->entries);
    free(names->slots);
    *names = (lds_names){0};
}

static bool is_same(const lds_name *a, const lds_name *b)
{
    return a->hash == b->hash && a->nbytes == b->nbytes && !memcmp(a->text, b->text, b->nbytes);
}

static uint32_t *slot_of(const lds_names *names, lds_name name)
{
    size_t mask = names->n_slots - 1;
    for (size_t i = name.hash & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &names->slots[i];
        if (!*slot)
            return slot;
        if (is_same(&names->entries[*slot - 1], &name))
            return slot;
    }
}

lds_status lds_names_reserve(lds_names *names, size_t n, lds_error *err)
{
    if (n >= UINT32_MAX / 2)
        return lds_fail(err, LDS_ERR_UNSUPPORTED, "expected fewer than 2^31 names, found %zu", n);
    LDS_TRY(lds_grow(&names->entries, &names->capacity, n, sizeof *names->entries, err));
    size_t n_slots = names->n_slots ? names->n_slots : 16;
    while (n_slots < 2 * n)
        n_slots *= 2;
    if (n_slots == names->n_slots)
        return LDS_OK;
    uint32_t *slots;
    LDS_TRY(lds_calloc(&slots, n_slots, sizeof *slots, err));
    free(names->slots);
    names->slots = slots;
    names->n_slots = n_slots;
    for (size_t i = 0; i < names->n; i++)
        *slot_of(names, names->entries[i]) = (uint32_t)i + 1;
    return LDS_OK;
}

lds_status lds_names_add(lds_names *names, lds_name name, uint32_t *found, lds_error *err)
{
    LDS_TRY(lds_names_reserve(names, names->n + 1, err));
    uint32_t *slot = slot_of(names, name);
    *found = *slot ? *slot - 1 : LDS_NO_INDEX;
    if (*slot)
        return LDS_OK;
    names->entries[names->n] = name;
    *slot = (uint32_t)++names->n;
    return LDS_OK;
}

lds_status lds_names_clone(lds_names *copy, const lds_names *names, lds_error *err)
{
    lds_names clone = {.n = names->n, .capacity = names->n, .n_slots = names->n_slots};
    LDS_TRY(lds_calloc(&clone.entries, names->n, sizeof *clone.entries, err));
    lds_status status = lds_calloc(&clone.slots, names->n_slots, sizeof *clone.slots, err);
    if (status) {
        free(clone.entries);
        return status;
    }
    if (names->n) {
        memcpy(clone.entries, names->entries, names->n * sizeof *clone.entries);
        memcpy(clone.slots, names->slots, names->n_slots * sizeof *clone.slots);
    }
    *copy = clone;
    return LDS_OK;
}

uint32_t lds_names_find(const lds_names *names, lds_name name)
{
    if (!names->n)
        return LDS_NO_INDEX;
    const uint32_t *slot = slot_of(names, name);
    return *slot ? *slot - 1 : LDS_NO_INDEX;
}

uint32_t lds_names_find_near(const lds_names *names, lds_name name, uint32_t guess)
{
    return guess < names->n && is_same(&names->entries[guess], &name) ? guess : lds_names_find(names, name);
}
