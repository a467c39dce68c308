/*
 * The choice of the source, as a table: the first row that fits decides. Each row was measured or was somebody's
 * grief: direct reads of what the page cache has are as slow as the disk; a large cold file read through the page
 * cache pushes out what others have there, and costs a copy; over a network one read at a time, whoever does it,
 * waits for a round trip each.
 */
#include "src/plan/policy.h"

enum { SMALL_NBYTES = 32 << 20 }; /* read before more than one thing at a time pays */

/* Sets of file systems, of states of the page cache, of sizes: any of them fits. */
enum { ANY_FS = 15, LOCAL = 1 << LDS_FS_LOCAL, MEMORY = 1 << LDS_FS_MEMORY };
enum { REMOTE = 1 << LDS_FS_NETWORK | 1 << LDS_FS_FUSE };
enum { COLD = 1, PARTLY = 2, HOT = 4, ANY_CACHE = 7 };
enum { SMALL = 1, LARGE = 2, ANY_SIZE = 3 };

typedef struct row {
    uint8_t fs, cache, size;
    lds_source_kind kind;
    const char *reason;
} row;

static const row rows[] = {
    {MEMORY, ANY_CACHE, ANY_SIZE, LDS_SOURCE_VIEW, "file system in memory"},
    {LOCAL, HOT, ANY_SIZE, LDS_SOURCE_VIEW, "in the page cache"},
    {REMOTE, HOT, ANY_SIZE, LDS_SOURCE_READ, "in the page cache"},
    {REMOTE, ANY_CACHE, ANY_SIZE, LDS_SOURCE_URING, "network file system"},
    {LOCAL, ANY_CACHE, SMALL, LDS_SOURCE_READ, "small"},
    {LOCAL, COLD, ANY_SIZE, LDS_SOURCE_DIRECT, "cold and large"},
    {LOCAL, PARTLY, ANY_SIZE, LDS_SOURCE_DIRECT, "partly in the page cache"},
};

/* What the row says if the page cache is to keep it. */
static lds_choice kept(lds_choice choice)
{
    if (choice.kind == LDS_SOURCE_DIRECT) {
        choice.kind = LDS_SOURCE_URING;
        choice.reason = "to be kept in the page cache";
    }
    return choice;
}

/* A little that is missing does not matter, unless it is a network's: each page may be a round trip. */
static uint8_t cache_state(const lds_policy_facts *facts)
{
    uint64_t little = REMOTE & 1 << facts->fs ? 0 : facts->read_nbytes / 8;
    if (facts->cached_nbytes >= facts->read_nbytes - little)
        return HOT;
    return facts->cached_nbytes > facts->read_nbytes / 8 ? PARTLY : COLD;
}

static uint8_t size_class(const lds_policy_facts *facts)
{
    return facts->read_nbytes <= SMALL_NBYTES ? SMALL : LARGE;
}

bool lds_policy_awaits(const lds_policy_facts *facts)
{
    bool is_near = facts->fs == LDS_FS_MEMORY || (facts->fs == LDS_FS_LOCAL && size_class(facts) == SMALL);
    return cache_state(facts) != HOT && !is_near;
}

lds_choice lds_policy_choose(const lds_policy_facts *facts)
{
    uint8_t cache = cache_state(facts), size = size_class(facts);
    lds_choice choice = {
        .is_resident = cache == HOT || facts->fs == LDS_FS_MEMORY,
        .is_whole = facts->cached_nbytes >= facts->read_nbytes || facts->fs == LDS_FS_MEMORY,
        .is_remote = cache != HOT && (REMOTE & 1 << facts->fs),
        .reason = "as asked",
    };
    switch (facts->asked) {
    case LDS_IO_READ: choice.kind = LDS_SOURCE_READ; return choice;
    case LDS_IO_URING: choice.kind = LDS_SOURCE_URING; return choice;
    case LDS_IO_DIRECT: choice.kind = LDS_SOURCE_DIRECT; return choice;
    default: break;
    }
    const row *r = rows;
    while (!(r->fs & 1 << facts->fs) || !(r->cache & cache) || !(r->size & size))
        r++;
    choice.kind = r->kind;
    choice.reason = r->reason;
    choice.looks_first = true;
    return facts->keep_cache ? kept(choice) : choice;
}
