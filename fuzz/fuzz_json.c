/* The JSON reader over any bytes: it stays inside them, and its tokens keep its header's promises. */
#include "fuzz/fuzz.h"
#include "src/base/json.h"

typedef struct summary {
    lds_json_token last;
    uint64_t error_offset;
    size_t n_tokens;
} summary;

static void check_token(const lds_json *json, lds_json_token token, size_t nbytes)
{
    FUZZ_CHECK(json->token_offset <= nbytes && json->depth <= LDS_JSON_MAX_DEPTH);
    if (token != LDS_JSON_KEY && token != LDS_JSON_STRING && token != LDS_JSON_NUMBER)
        return;
    FUZZ_CHECK(json->text >= json->begin && json->text + json->nbytes <= json->end);
    if (token != LDS_JSON_NUMBER) {
        FUZZ_CHECK(json->text[json->nbytes] == 0);
        return;
    }
    uint64_t u;
    int64_t i;
    double d;
    bool is_u64 = lds_json_u64(json, &u), is_i64 = lds_json_i64(json, &i),
         is_double = lds_json_double(json, &d);
    FUZZ_CHECK(!(is_u64 || is_i64) || is_double);
    FUZZ_CHECK(!is_u64 || d == (double)u);
    FUZZ_CHECK(!is_i64 || d == (double)i);
    FUZZ_CHECK(!is_u64 || !is_i64 || u == (uint64_t)i);
}

static summary read_tokens(char *text, size_t nbytes, bool allows_nonfinite)
{
    lds_error err = LDS_ERROR_INIT;
    lds_json json;
    lds_json_init(&json, text, nbytes, &err);
    json.allows_nonfinite = allows_nonfinite;
    summary result = {0};
    while ((result.last = lds_json_next(&json)) > LDS_JSON_END) {
        check_token(&json, result.last, nbytes);
        result.n_tokens++;
    }
    FUZZ_CHECK(lds_json_next(&json) == result.last);
    if (result.last == LDS_JSON_ERROR) {
        FUZZ_CHECK(err.code == LDS_ERR_MALFORMED && json.status == err.code && err.offset <= nbytes);
        FUZZ_CHECK(!strncmp(err.message, "expected ", 9));
        result.error_offset = err.offset;
    }
    FUZZ_CHECK(result.n_tokens <= nbytes);
    return result;
}

void fuzz_one(uint8_t *data, size_t nbytes)
{
    char *copy = malloc(nbytes ? nbytes : 1), *other = malloc(nbytes ? nbytes : 1);
    if (!copy || !other) {
        free(copy);
        free(other);
        return;
    }
    memcpy(copy, data, nbytes);
    memcpy(other, data, nbytes);
    summary all = read_tokens((char *)data, nbytes, false);

    /* Allowing more changes nothing where nothing more is needed. */
    summary relaxed = read_tokens(other, nbytes, true);
    FUZZ_CHECK(all.last == LDS_JSON_END
                   ? relaxed.last == all.last && relaxed.n_tokens == all.n_tokens
                   : relaxed.last == LDS_JSON_END || relaxed.error_offset >= all.error_offset);
    free(other);

    /* Skipping the value ends as reading it does. */
    lds_error err = LDS_ERROR_INIT;
    lds_json json;
    lds_json_init(&json, copy, nbytes, &err);
    bool skipped = lds_json_skip(&json, lds_json_next(&json));
    lds_json_token last = lds_json_next(&json);
    FUZZ_CHECK(last == all.last && (skipped || last == LDS_JSON_ERROR));
    FUZZ_CHECK(last != LDS_JSON_ERROR || err.offset == all.error_offset);
    free(copy);
}
