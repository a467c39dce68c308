/*
 * Key maps from JSON; docs/keymap.md describes the format. It is written by hand, so a field that is misspelt
 * or of the wrong kind is an error that names the rule, the field and the byte, never something to skip.
 */
#include <inttypes.h>
#include <stdio.h>

#include "src/base/json.h"
#include "src/plan/keymap.h"

typedef struct reader {
    lds_json json;
    lds_keymap *keymap;
    lds_error *err;
    uint32_t n_rules; /* so far */
    char field[64];   /* what is being read, "rules[2].to", or empty */
    lds_keymap_rule rule;
    uint32_t seen; /* fields of the rule, a bit each */
    int64_t reshape[LDS_MAX_DIMS];
} reader;

typedef enum rule_field { EXACT, PREFIX, REGEX, TO, DROP, ADD_DIM, RESHAPE, N_FIELDS } rule_field;

static const char *const field_names[N_FIELDS] = {"exact", "prefix",  "regex",  "to",
                                                  "drop",  "add_dim", "reshape"};

enum { MATCH_FIELDS = 1 << EXACT | 1 << PREFIX | 1 << REGEX };

/* Fail at the token that was read last. */
static lds_status fail(reader *r, const char *expected, const char *found)
{
    return lds_fail_at(r->err, LDS_ERR_MALFORMED, r->json.token_offset, "expected %s, found %s", expected,
                       found);
}

/* A token, which must not be an error. */
static lds_status next(reader *r, lds_json_token *token)
{
    *token = lds_json_next(&r->json);
    if (*token == LDS_JSON_ERROR)
        r->field[0] = 0;
    return r->json.status;
}

/* Fail at the token that was read last, which is another than was expected. */
static lds_status refuse(reader *r, lds_json_token token, const char *expected)
{
    return lds_json_refuse(&r->json, LDS_ERR_MALFORMED, token, expected);
}

static lds_status expect(reader *r, lds_json_token wanted, const char *expected)
{
    lds_json_token token;
    LDS_TRY(next(r, &token));
    return token == wanted ? LDS_OK : refuse(r, token, expected);
}

static lds_status read_string(reader *r, const char **text)
{
    LDS_TRY(expect(r, LDS_JSON_STRING, "a string"));
    *text = r->json.text;
    return lds_json_is_c_string(&r->json) ? LDS_OK : fail(r, "a string without NUL", "one with \\u0000");
}

static lds_status read_drop(reader *r)
{
    lds_json_token token;
    LDS_TRY(next(r, &token));
    r->rule.drop = token == LDS_JSON_TRUE;
    return r->rule.drop || token == LDS_JSON_FALSE ? LDS_OK : refuse(r, token, "true or false");
}

static lds_status read_add_dim(reader *r)
{
    int64_t value;
    LDS_TRY(expect(r, LDS_JSON_NUMBER, "an integer"));
    if (!lds_json_i64(&r->json, &value) || value < -LDS_MAX_DIMS || value >= LDS_MAX_DIMS) {
        char expected[64];
        snprintf(expected, sizeof expected, "an integer from %d to %d", -LDS_MAX_DIMS, LDS_MAX_DIMS - 1);
        return refuse(r, LDS_JSON_NUMBER, expected);
    }
    r->rule.add_dim = (int32_t)value;
    return LDS_OK;
}

static lds_status read_reshape(reader *r)
{
    LDS_TRY(expect(r, LDS_JSON_ARRAY, "an array of integers"));
    for (uint32_t n = 0;; n++) {
        lds_json_token token;
        LDS_TRY(next(r, &token));
        r->rule.reshape = r->reshape;
        r->rule.n_reshape = n;
        if (token == LDS_JSON_ARRAY_END)
            return LDS_OK;
        if (n == LDS_MAX_DIMS)
            return fail(r, "at most 64 dimensions", "more");
        if (token != LDS_JSON_NUMBER || !lds_json_i64(&r->json, &r->reshape[n]))
            return refuse(r, token, "an integer");
    }
}

static lds_status read_value(reader *r, rule_field field)
{
    static const lds_match matches[] = {LDS_MATCH_EXACT, LDS_MATCH_PREFIX, LDS_MATCH_REGEX};
    switch (field) {
    case EXACT:
    case PREFIX:
    case REGEX: r->rule.match = matches[field]; return read_string(r, &r->rule.pattern);
    case TO: return read_string(r, &r->rule.to);
    case DROP: return read_drop(r);
    case ADD_DIM: return read_add_dim(r);
    default: return read_reshape(r);
    }
}

/* The field of a rule whose key was just read. */
static lds_status read_field(reader *r)
{
    uint32_t i = 0;
    while (i < N_FIELDS && !lds_json_is(&r->json, field_names[i]))
        i++;
    if (i == N_FIELDS)
        return refuse(r, LDS_JSON_KEY, "one of exact, prefix, regex, to, drop, add_dim, reshape");
    size_t n = strlen(r->field);
    snprintf(r->field + n, sizeof r->field - n, ".%s", field_names[i]);
    uint32_t bit = 1u << i;
    if (r->seen & bit)
        return fail(r, "the field once", "it again");
    if (bit & MATCH_FIELDS && r->seen & MATCH_FIELDS)
        return fail(r, "one of exact, prefix, regex", "a second");
    r->seen |= bit;
    LDS_TRY(read_value(r, (rule_field)i));
    r->field[n] = 0;
    return LDS_OK;
}

/* What the key map says of a rule, with the byte where the rule begins. */
static lds_status add_rule(reader *r, uint64_t offset)
{
    lds_status status = lds_keymap_add(r->keymap, &r->rule, r->err);
    if (!status || status == LDS_ERR_MEMORY || !r->err)
        return !status || status == LDS_ERR_MEMORY ? status : LDS_ERR_MALFORMED;
    char message[sizeof r->err->message];
    memcpy(message, r->err->message, sizeof message);
    return lds_fail_at(r->err, LDS_ERR_MALFORMED, offset, "%s", message);
}

/* A rule, or the end of the array, which *more tells. */
static lds_status read_rule(reader *r, bool *more)
{
    lds_json_token token;
    snprintf(r->field, sizeof r->field, "rules[%" PRIu32 "]", r->n_rules);
    LDS_TRY(next(r, &token));
    *more = token != LDS_JSON_ARRAY_END;
    if (!*more)
        return LDS_OK;
    if (token != LDS_JSON_OBJECT)
        return refuse(r, token, "an object");
    uint64_t offset = r->json.token_offset;
    lds_keymap_rule_init(&r->rule, sizeof r->rule);
    r->seen = 0;
    for (;;) {
        LDS_TRY(next(r, &token));
        if (token == LDS_JSON_OBJECT_END)
            break;
        LDS_TRY(read_field(r));
    }
    if (!(r->seen & MATCH_FIELDS))
        return lds_fail_at(r->err, LDS_ERR_MALFORMED, offset,
                           "expected one of exact, prefix, regex, found none");
    LDS_TRY(add_rule(r, offset));
    r->n_rules++;
    return LDS_OK;
}

static lds_status read_document(reader *r)
{
    LDS_TRY(expect(r, LDS_JSON_OBJECT, "an object with the field \"rules\""));
    lds_json_token token;
    bool more = true;
    LDS_TRY(next(r, &token));
    if (token != LDS_JSON_KEY || !lds_json_is(&r->json, "rules"))
        return refuse(r, token, "the field \"rules\"");
    snprintf(r->field, sizeof r->field, "rules");
    LDS_TRY(expect(r, LDS_JSON_ARRAY, "an array"));
    while (more)
        LDS_TRY(read_rule(r, &more));
    r->field[0] = 0;
    LDS_TRY(expect(r, LDS_JSON_OBJECT_END, "no field but \"rules\""));
    return lds_json_finish(&r->json);
}

lds_status lds_keymap_from_json(lds_keymap **keymap, const char *json, size_t nbytes, const char *file,
                                lds_error *err)
{
    *keymap = NULL;
    char *copy; /* reading changes it */
    LDS_TRY(lds_copy_string(&copy, json, nbytes, err));
    reader r = {.err = err};
    lds_json_init(&r.json, copy, nbytes, err);
    lds_status status = lds_keymap_new(&r.keymap, err);
    if (!status)
        status = read_document(&r);
    if (status) {
        lds_keymap_free(r.keymap);
        r.keymap = NULL;
        if (status != LDS_ERR_MEMORY)
            lds_error_context(err, status, file, r.field[0] ? r.field : NULL);
    }
    free(copy);
    *keymap = r.keymap;
    return status;
}
