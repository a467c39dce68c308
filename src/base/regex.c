/*
 * Regular expressions are PCRE2's, within limits, because the names that they meet come from files that nobody has
 * checked.
 */
#include "src/base/regex.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "src/base/memory.h"

/*
 * A sane pattern takes a few steps for each byte of a name. The limit ends a match within some milliseconds;
 * the heap limit, in KiB, is what that many steps may need.
 */
enum { MATCH_LIMIT = 200000, HEAP_LIMIT_KIB = 16384, MAX_PATTERN_SHOWN = 200 };

struct lds_regex {
    pcre2_code *code;
    pcre2_match_context *limits;
    uint32_t n_groups;
};

static lds_status explain(int code, size_t offset, const char *pattern, lds_error *err)
{
    char text[256];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    lds_status status =
        lds_fail(err, LDS_ERR_ARGUMENT,
                 "expected a regular expression, found \"%.*s\": %s, at byte %zu of the pattern",
                 MAX_PATTERN_SHOWN, pattern, text, offset);
    if (err)
        err->offset = offset;
    return status;
}

lds_status lds_regex_compile(lds_regex **regex, const char *pattern, lds_error *err)
{
    *regex = NULL;
    lds_regex *r;
    LDS_TRY(lds_calloc(&r, 1, sizeof *r, err));
    int code;
    size_t offset;
    r->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C,
                            &code, &offset, NULL);
    if (!r->code) {
        lds_regex_free(r);
        return code == PCRE2_ERROR_HEAP_FAILED ? lds_fail_memory(err, strlen(pattern))
                                               : explain(code, offset, pattern, err);
    }
    r->limits = pcre2_match_context_create(NULL);
    if (!r->limits) {
        lds_regex_free(r);
        return lds_fail_memory(err, sizeof *r);
    }
    pcre2_set_match_limit(r->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(r->limits, HEAP_LIMIT_KIB);
    pcre2_pattern_info(r->code, PCRE2_INFO_CAPTURECOUNT, &r->n_groups);
    /* Without it, matching is only slower: no JIT for this processor, or no executable memory to be had. */
    (void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
    *regex = r;
    return LDS_OK;
}

void lds_regex_free(lds_regex *regex)
{
    if (!regex)
        return;
    pcre2_match_context_free(regex->limits);
    pcre2_code_free(regex->code);
    free(regex);
}

uint32_t lds_regex_n_groups(const lds_regex *regex)
{
    return regex->n_groups;
}

uint32_t lds_regex_group(const lds_regex *regex, const char *name)
{
    int number = pcre2_substring_number_from_name(regex->code, (PCRE2_SPTR)name);
    return number > 0 ? (uint32_t)number : 0;
}

static lds_status reserve_pairs(lds_regex_scratch *scratch, uint32_t n_pairs, lds_error *err)
{
    if (n_pairs <= scratch->n_pairs)
        return LDS_OK;
    lds_regex_scratch_destroy(scratch);
    pcre2_match_data *data = pcre2_match_data_create(n_pairs, NULL);
    if (!data)
        return lds_fail_memory(err, n_pairs * 2 * sizeof(size_t));
    *scratch = (lds_regex_scratch){data, n_pairs, pcre2_get_ovector_pointer(data)};
    return LDS_OK;
}

lds_status lds_regex_match(const lds_regex *regex, lds_regex_scratch *scratch, const char *text,
                           size_t nbytes, size_t start, uint32_t flags, bool *found, lds_error *err)
{
    LDS_TRY(reserve_pairs(scratch, regex->n_groups + 1, err));
    uint32_t options = (flags & LDS_REGEX_NOT_EMPTY_AT_START ? PCRE2_NOTEMPTY_ATSTART : 0) |
                       (flags & LDS_REGEX_IS_UTF8 ? PCRE2_NO_UTF_CHECK : 0);
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int n = pcre2_match(regex->code, subject, nbytes, start, options, scratch->match_data, regex->limits);
    /* Compiled code has a small fixed stack; the interpreter takes the heap. */
    if (n == PCRE2_ERROR_JIT_STACKLIMIT)
        n = pcre2_match(regex->code, subject, nbytes, start, options | PCRE2_NO_JIT, scratch->match_data,
                        regex->limits);
    *found = n > 0;
    if (n > 0 || n == PCRE2_ERROR_NOMATCH)
        return LDS_OK;
    char message[256];
    pcre2_get_error_message(n, (PCRE2_UCHAR *)message, sizeof message);
    if (n == PCRE2_ERROR_NOMEMORY)
        return lds_fail_memory(err, nbytes);
    if (n <= PCRE2_ERROR_UTF8_ERR1 && n >= PCRE2_ERROR_UTF8_ERR21)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a name in UTF-8, found another (%s)", message);
    return lds_fail(err, LDS_ERR_UNSUPPORTED,
                    "expected a pattern that is matched within %d steps, found one that is not (%s)",
                    MATCH_LIMIT, message);
}

void lds_regex_scratch_destroy(lds_regex_scratch *scratch)
{
    pcre2_match_data_free(scratch->match_data);
    *scratch = (lds_regex_scratch){0};
}
