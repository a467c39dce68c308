/*
 * A pipeline's model_index.json, as diffusers writes it, lists its components:
 *
 *     {"_class_name": ..., "vae": ["diffusers", "AutoencoderKL"], "scheduler": [...], "safety_checker": [null, null]}
 *
 * What is not such a pair is a setting of the pipeline and of no interest here.
 */
#include "src/checkpoint/model_index.h"

#include "src/base/json.h"

typedef struct parser {
    lds_json json;
    lds_model_index *index;
    lds_error *err;
} parser;

void lds_model_index_destroy(lds_model_index *index)
{
    lds_names_destroy(&index->names);
    free(index->components);
    *index = (lds_model_index){0};
}

static bool is_folder_name(const char *name, size_t nbytes)
{
    return nbytes && strlen(name) == nbytes && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* The value of a key: *class_name is set if the key is that of a component. */
static lds_status read_value(parser *p, const char **class_name)
{
    lds_json *json = &p->json;
    lds_json_token token = lds_json_next(json);
    const char *texts[2] = {NULL, NULL};
    size_t n = 0;
    if (token != LDS_JSON_ARRAY)
        return lds_json_skip(json, token) ? LDS_OK : json->status;
    while ((token = lds_json_next(json)) != LDS_JSON_ARRAY_END) {
        if (token == LDS_JSON_STRING && n < 2)
            texts[n] = json->text;
        else if (!lds_json_skip(json, token))
            return json->status;
        n++;
    }
    *class_name = n == 2 && texts[0] ? texts[1] : NULL;
    return LDS_OK;
}

static lds_status read_entry(parser *p)
{
    lds_json *json = &p->json;
    lds_model_index *index = p->index;
    lds_listed_component c = {.name = json->text};
    size_t nbytes = json->nbytes, offset = json->token_offset;
    LDS_TRY(read_value(p, &c.class_name));
    if (c.name[0] == '_' || !c.class_name)
        return LDS_OK;
    if (!is_folder_name(c.name, nbytes))
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, offset,
                           "expected the name of a folder, found \"%.200s\"", c.name);
    uint32_t found;
    LDS_TRY(lds_names_add(&index->names, lds_name_of(c.name, nbytes), &found, p->err));
    if (found != LDS_NO_INDEX)
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, offset,
                           "expected the component %.200s once, found it twice", c.name);
    LDS_TRY(lds_grow(&index->components, &index->capacity, index->n + 1, sizeof c, p->err));
    index->components[index->n++] = c;
    return LDS_OK;
}

static lds_status read_model_index(parser *p)
{
    lds_json *json = &p->json;
    lds_json_token token = lds_json_next(json);
    if (token != LDS_JSON_OBJECT)
        return lds_json_refuse(json, LDS_ERR_MALFORMED, token, "an object of components");
    while (lds_json_next(json) == LDS_JSON_KEY)
        LDS_TRY(read_entry(p));
    return lds_json_finish(json);
}

lds_status lds_model_index_parse(lds_model_index *index, char *text, size_t nbytes, const char *path,
                                 lds_error *err)
{
    *index = (lds_model_index){0};
    parser p = {.index = index, .err = err};
    lds_json_init(&p.json, text, nbytes, err);
    p.json.allows_nonfinite = true; /* written by Python, like a config.json */
    lds_status status = read_model_index(&p);
    return status ? lds_error_context(err, status, path, NULL) : LDS_OK;
}
