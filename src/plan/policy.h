/* How the bytes come in that are not mapped: the choice, as a function of what is known before. */
#ifndef LDS_PLAN_POLICY_H
#define LDS_PLAN_POLICY_H

#include "src/checkpoint/checkpoint.h"

typedef enum lds_source_kind {
    LDS_SOURCE_READ,   /* through the page cache: pread(2) */
    LDS_SOURCE_URING,  /* through the page cache: io_uring, many at once */
    LDS_SOURCE_DIRECT, /* past the page cache, many at once */
    LDS_SOURCE_VIEW /* what is converted is not read but viewed in the page cache; else as LDS_SOURCE_READ */
} lds_source_kind;

/* What direct reads need offsets, lengths and addresses to be multiples of: enough for all disks there are. */
enum { LDS_DIRECT_NBYTES = 4096 };

/* Reads of one thread that are under way, at most. */
enum { LDS_MAX_DEPTH = 64 };

typedef struct lds_policy_facts {
    lds_io asked;
    lds_fs fs;              /* the slowest of those that the files are on */
    uint64_t read_nbytes;   /* of the checkpoint, to be read */
    uint64_t cached_nbytes; /* of these, in the page cache */
    bool keep_cache;        /* what is read is to stay in the page cache */
} lds_policy_facts;

typedef struct lds_choice {
    lds_source_kind kind;
    bool is_resident;   /* most bytes are in the page cache */
    bool is_whole;      /* all are, as far as was looked */
    bool looks_first;   /* blocks that the page cache has are copied from there, whatever the kind */
    bool is_remote;     /* a read is a round trip: many small ones at once are better than few large ones */
    const char *reason; /* a string constant */
} lds_choice;

lds_choice lds_policy_choose(const lds_policy_facts *facts);

/* Whether mapped pages have to be waited for, by threads that do nothing else. read_nbytes are the mapped ones. */
bool lds_policy_awaits(const lds_policy_facts *facts);

#endif
