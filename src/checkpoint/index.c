/*
 * The index of a sharded checkpoint, {"metadata": {...}, "weight_map": {tensor: file, ...}}, as transformers and
 * diffusers write it. Only the weight_map counts.
 */
#include "src/checkpoint/index.h"

#include "src/base/json.h"
#include "src/checkpoint/path.h"

typedef struct parser {
    lds_json json;
    lds_index *index;
    lds_names shards; /* in the order of their first use */
    const char *current;
    lds_error *err;
} parser;

void lds_index_destroy(lds_index *index)
{
    lds_names_destroy(&index->names);
    free(index->shard_of);
    free(index->shards);
    *index = (lds_index){0};
}

/* Fail at the token that was read last. */
static lds_status fail(parser *p, const char *expected, const char *found)
{
    return lds_fail_at(p->err, LDS_ERR_MALFORMED, p->json.token_offset, "expected %s, found %s", expected,
                       found);
}

static lds_status check_shard(parser *p)
{
    const lds_json *json = &p->json;
    if (lds_json_is_c_string(json) && lds_path_stays_below(json->text))
        return LDS_OK;
    return lds_fail_at(p->err, LDS_ERR_MALFORMED, json->token_offset,
                       "expected a file beside the index, found \"%.200s\"", json->text);
}

static lds_status read_pair(parser *p)
{
    lds_json *json = &p->json;
    lds_index *index = p->index;
    uint32_t found;
    p->current = json->text;
    if (!lds_json_is_c_string(json))
        return fail(p, "a name", "a NUL character in it");
    LDS_TRY(lds_names_add(&index->names, lds_name_of(json->text, json->nbytes), &found, p->err));
    if (found != LDS_NO_INDEX)
        return fail(p, "each name once", "it twice");
    lds_json_token token = lds_json_next(json);
    if (token != LDS_JSON_STRING)
        return lds_json_refuse(&p->json, LDS_ERR_MALFORMED, token, "the name of a file");
    LDS_TRY(check_shard(p));
    LDS_TRY(lds_names_add(&p->shards, lds_name_of(json->text, json->nbytes), &found, p->err));
    if (found == LDS_NO_INDEX)
        found = (uint32_t)p->shards.n - 1;
    LDS_TRY(lds_grow(&index->shard_of, &index->shard_of_capacity, index->names.n, sizeof found, p->err));
    index->shard_of[index->names.n - 1] = found;
    return LDS_OK;
}

static lds_status read_weight_map(parser *p)
{
    lds_json_token token = lds_json_next(&p->json);
    if (token != LDS_JSON_OBJECT)
        return lds_json_refuse(&p->json, LDS_ERR_MALFORMED, token, "\"weight_map\" to be an object");
    while ((token = lds_json_next(&p->json)) == LDS_JSON_KEY)
        LDS_TRY(read_pair(p));
    p->current = NULL;
    return token == LDS_JSON_ERROR ? p->json.status : LDS_OK;
}

static lds_status read_index(parser *p)
{
    lds_json *json = &p->json;
    bool has_map = false;
    lds_json_token token = lds_json_next(json);
    if (token != LDS_JSON_OBJECT)
        return lds_json_refuse(&p->json, LDS_ERR_MALFORMED, token, "an object with a \"weight_map\"");
    while ((token = lds_json_next(json)) == LDS_JSON_KEY) {
        bool is_map = lds_json_is(json, "weight_map");
        if (is_map && has_map)
            return fail(p, "one \"weight_map\"", "two");
        if (is_map)
            LDS_TRY(read_weight_map(p));
        else if (!lds_json_skip(json, token))
            return json->status;
        has_map |= is_map;
    }
    LDS_TRY(lds_json_finish(json));
    if (!has_map)
        return lds_fail(p->err, LDS_ERR_MALFORMED, "expected an index with a \"weight_map\", found none");
    if (!p->index->names.n)
        return lds_fail(p->err, LDS_ERR_MALFORMED,
                        "expected a \"weight_map\" with tensors, found an empty one");
    return LDS_OK;
}

typedef struct shard {
    const char *path;
    uint32_t first_use; /* its index in the order of first use */
} shard;

static int compare_shards(const void *a, const void *b)
{
    const shard *x = a, *y = b;
    return strcmp(x->path, y->path);
}

/* From the order of first use to that of the names. */
static void renumber(lds_index *index, const shard *sorted, uint32_t *place)
{
    for (size_t i = 0; i < index->n_shards; i++) {
        index->shards[i] = sorted[i].path;
        place[sorted[i].first_use] = (uint32_t)i;
    }
    for (size_t i = 0; i < index->names.n; i++)
        index->shard_of[i] = place[index->shard_of[i]];
}

static lds_status sort_shards(parser *p)
{
    lds_index *index = p->index;
    size_t n = p->shards.n;
    shard *sorted;
    uint32_t *place;
    LDS_TRY(lds_calloc(&index->shards, n, sizeof(char *), p->err));
    LDS_TRY(lds_calloc(&sorted, n, sizeof *sorted, p->err));
    lds_status status = lds_calloc(&place, n, sizeof *place, p->err);
    if (!status) {
        for (size_t i = 0; i < n; i++)
            sorted[i] = (shard){p->shards.entries[i].text, (uint32_t)i};
        qsort(sorted, n, sizeof *sorted, compare_shards);
        index->n_shards = n;
        renumber(index, sorted, place);
        free(place);
    }
    free(sorted);
    return status;
}

lds_status lds_index_parse(lds_index *index, char *text, size_t nbytes, const char *path, lds_error *err)
{
    *index = (lds_index){0};
    parser p = {.index = index, .err = err};
    lds_json_init(&p.json, text, nbytes, err);
    lds_status status = read_index(&p);
    if (!status)
        status = sort_shards(&p);
    lds_names_destroy(&p.shards);
    return status ? lds_error_context(err, status, path, p.current) : LDS_OK;
}
