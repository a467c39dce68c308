/* What a load, or the plan of one, has come to, and its two forms. */
#ifndef CLI_LOAD_RESULT_H
#define CLI_LOAD_RESULT_H

#include "parts.h"

enum { DIGEST_NBYTES = 16, DIGEST_TEXT_SIZE = 2 * DIGEST_NBYTES + 1 };

/* XXH3-128 of the bytes of a parameter. */
typedef struct digest {
    const part *part;
    const lds_param *param;
    uint8_t bytes[DIGEST_NBYTES];
} digest;

typedef struct load_result {
    const command_line *line;
    const parts *ps;
    size_t n_parts;  /* that were loaded or planned: fewer than ps->n if one did not fit */
    bool is_refused; /* the last of them did not fit */
    double seconds;  /* from before opening to the end of the last load */
    uint64_t peak_rss_nbytes;
    digest *digests; /* of every parameter that has storage, part by part; or NULL */
    size_t n_digests;
} load_result;

/* The numbers of one report, or summed over several. */
typedef struct load_sums {
    uint64_t n_tensors;
    uint64_t read_nbytes, mapped_nbytes, written_nbytes;
    uint32_t n_threads;
    const char *source; /* as in lds_report_stats; NULL if there is none */
} load_sums;

void add_sums(load_sums *sums, const part *p);

/* The same for plans: peak_nbytes counts what the parts before this one keep. */
void add_plan(lds_plan_stats *sums, const part *p);

/* Make the digests of what was loaded. False if it was interrupted. */
bool make_digests(load_result *result);

/* A digest as 32 hexadecimal digits, in text, which is returned. */
const char *digest_text(char text[static DIGEST_TEXT_SIZE], const digest *d);

/* A line for each digest, as xxhsum has them; none if the result has no digests. */
void put_digests(output *out, const load_result *result);

/* For people. */
void put_load(output *out, const load_result *result);
void put_plan(output *out, const load_result *result);

/* For machines: docs/man/loadstone-load.1 has the fields. */
void put_load_json(output *out, const load_result *result);
void put_plan_json(output *out, const load_result *result);

#endif
