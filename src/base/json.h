/*
 * A bounded JSON pull reader (RFC 8259) over a buffer that it may change: strings are unescaped where they
 * stand, and end in a NUL byte in place of their closing quote. No allocation, no recursion.
 *
 * It is strict: UTF-8 only and no byte order mark, no control characters in strings, no lone surrogates, no
 * numbers beyond the grammar, nothing but white space after the value. The one exception has to be asked for:
 * NaN, Infinity and -Infinity, which Python's json writes. Repeated keys are the consumer's to find. The
 * grammar is the reader's to check: after LDS_JSON_KEY the next token begins a value, and what is opened is
 * closed, so a consumer only checks that values are of the kind it wants.
 */
#ifndef LDS_BASE_JSON_H
#define LDS_BASE_JSON_H

#include <stdio.h>
#include <string.h>

#include "src/base/error.h"

enum { LDS_JSON_MAX_DEPTH = 256 };

typedef enum lds_json_token {
    LDS_JSON_ERROR,
    LDS_JSON_END, /* the document is whole and nothing but white space follows */
    LDS_JSON_OBJECT,
    LDS_JSON_OBJECT_END,
    LDS_JSON_ARRAY,
    LDS_JSON_ARRAY_END,
    LDS_JSON_KEY,    /* text, nbytes */
    LDS_JSON_STRING, /* text, nbytes; may hold NUL bytes if the document has \u0000 */
    LDS_JSON_NUMBER, /* text, nbytes: as it stands, not NUL-terminated */
    LDS_JSON_TRUE,
    LDS_JSON_FALSE,
    LDS_JSON_NULL
} lds_json_token;

typedef struct lds_json {
    char *at, *end, *begin;
    char *text;           /* of the last KEY, STRING or NUMBER */
    size_t nbytes;        /* of text */
    size_t token_offset;  /* byte in the buffer where the last token began */
    uint64_t base_offset; /* of the buffer in its file, added to the byte that errors name; init: 0 */
    lds_error *err;       /* where LDS_JSON_ERROR explained itself; may be NULL */
    lds_status status;    /* of the error, LDS_ERR_MALFORMED */
    uint32_t depth;
    uint8_t state;
    bool allows_nonfinite; /* take NaN, Infinity and -Infinity for numbers; init: false */
    uint64_t in_object[LDS_JSON_MAX_DEPTH / 64];
} lds_json;

/* text[0..nbytes) is changed by reading; text[nbytes] need not exist. */
void lds_json_init(lds_json *json, char *text, size_t nbytes, lds_error *err);

/* The next token. After LDS_JSON_ERROR or LDS_JSON_END it stays at that. */
lds_json_token lds_json_next(lds_json *json);

/* What a token is, in messages: "an object", "a string"; a string constant. */
const char *lds_json_describe(lds_json_token token);

/*
 * Fail with status at the token just returned: "expected <expected>, found <it>", a string or number as it stands.
 * A syntax error has explained itself: then the result is its status.
 */
lds_status lds_json_refuse(lds_json *json, lds_status status, lds_json_token token, const char *expected);

/* The end of the document, once its value has been read: LDS_OK, or the status of a syntax error, an earlier one too. */
lds_status lds_json_finish(lds_json *json);

/* Is the KEY or STRING just returned this text? */
static inline bool lds_json_is(const lds_json *json, const char *text)
{
    size_t n = strlen(text);
    return json->nbytes == n && !memcmp(json->text, text, n);
}

/* Has the KEY or STRING just returned no NUL bytes, so that it can be a C string? */
static inline bool lds_json_is_c_string(const lds_json *json)
{
    return !memchr(json->text, 0, json->nbytes);
}

/*
 * Skip the value that begins with the token just returned, or follows it if that is a KEY. False on a syntax
 * error.
 */
bool lds_json_skip(lds_json *json, lds_json_token token);

/*
 * The number just returned. The integers are false for what does not fit, and for what has a fraction or an
 * exponent, even 1.0; u64 is also for -0. double is the nearest one, whatever the locale; false if that is
 * infinite and the text is not Infinity.
 */
bool lds_json_u64(const lds_json *json, uint64_t *value);
bool lds_json_i64(const lds_json *json, int64_t *value);
bool lds_json_double(const lds_json *json, double *value);

/* Write text as a string in JSON. A byte that is not UTF-8, which a path may have, becomes U+FFFD. */
void lds_json_put_string(FILE *f, const char *text);

#endif
