/* Regular expressions over names. */
#ifndef LDS_BASE_REGEX_H
#define LDS_BASE_REGEX_H

#include "src/base/error.h"

/* A compiled PCRE2 pattern. May be used by many threads at once, each with a scratch of its own. */
typedef struct lds_regex lds_regex;

/* What matching needs besides, reused from call to call and from pattern to pattern. Zero it first. */
typedef struct lds_regex_scratch {
    void *match_data;
    uint32_t n_pairs;    /* that match_data has room for */
    const size_t *spans; /* of the last match: begin and end of the whole and of each group, or LDS_NO_SPAN */
} lds_regex_scratch;

#define LDS_NO_SPAN SIZE_MAX

enum {
    LDS_REGEX_NOT_EMPTY_AT_START = 1, /* find only what is not empty or begins after start */
    LDS_REGEX_IS_UTF8 = 2             /* text has been matched before: it need not be checked again */
};

/*
 * Compile a pattern of UTF-8 text. LDS_ERR_ARGUMENT if it is none, with the position in it as err->offset.
 * On failure *regex is NULL.
 */
lds_status lds_regex_compile(lds_regex **regex, const char *pattern, lds_error *err);
void lds_regex_free(lds_regex *regex);

/* The groups of the pattern, the whole match not counted. */
uint32_t lds_regex_n_groups(const lds_regex *regex);

/* The number of the group of that name, or 0. */
uint32_t lds_regex_group(const lds_regex *regex, const char *name);

/*
 * Whether the pattern is found anywhere in text at or after start. The work is bounded: a pattern that would
 * take exponential time is LDS_ERR_UNSUPPORTED. LDS_ERR_ARGUMENT if text is not UTF-8.
 */
lds_status lds_regex_match(const lds_regex *regex, lds_regex_scratch *scratch, const char *text,
                           size_t nbytes, size_t start, uint32_t flags, bool *found, lds_error *err);

void lds_regex_scratch_destroy(lds_regex_scratch *scratch);

#endif
