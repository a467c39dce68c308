/*
 * An index from names to the order in which they were added. It does not own the names: they live in a file's
 * header or in the network. Hashes are the same for the whole process, so a name is hashed once and looked up
 * in many indices.
 */
#ifndef LDS_BASE_NAMES_H
#define LDS_BASE_NAMES_H

#include "src/base/memory.h"

#define LDS_NO_INDEX UINT32_MAX

typedef struct lds_name {
    const char *text; /* NUL-terminated */
    uint32_t nbytes;
    uint32_t hash;
} lds_name;

typedef struct lds_names {
    lds_name *entries; /* in the order of adding */
    uint32_t *slots;   /* index + 1 of an entry, or 0 */
    size_t n;
    size_t capacity;
    size_t n_slots; /* a power of two, or 0 */
} lds_names;

/* Zeroed memory is an empty index. */
void lds_names_destroy(lds_names *names);

/* Seeded differently in each process, so that no file can be made whose names all collide. Thread-safe. */
uint32_t lds_name_hash(const char *text, size_t nbytes);

static inline lds_name lds_name_of(const char *text, size_t nbytes)
{
    return (lds_name){text, (uint32_t)nbytes, lds_name_hash(text, nbytes)};
}

/* Make room for n names in all. */
lds_status lds_names_reserve(lds_names *names, size_t n, lds_error *err);

/*
 * Add a name under index names->n. If it is there already, *found is its index, nothing is added, and the
 * result is still LDS_OK; otherwise *found is LDS_NO_INDEX.
 */
lds_status lds_names_add(lds_names *names, lds_name name, uint32_t *found, lds_error *err);

/*
 * Make *copy, which is empty, an index of the same names in the same order, without hashing or comparing any.
 * Its texts are the other's: point its entries at copies of them before the other's go.
 */
lds_status lds_names_clone(lds_names *copy, const lds_names *names, lds_error *err);

/* The index of a name, or LDS_NO_INDEX. */
uint32_t lds_names_find(const lds_names *names, lds_name name);

/*
 * The same, much quicker if it is at guess: names that were written in one order are mostly asked
 * for in that order, and then this touches memory in order too.
 */
uint32_t lds_names_find_near(const lds_names *names, lds_name name, uint32_t guess);

#endif
