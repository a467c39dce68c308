/*
 * A pipeline's directory, as diffusers writes it. Its model_index.json lists the components:
 *
 *     {"_class_name": ..., "vae": ["diffusers", "AutoencoderKL"], "scheduler": [...], "safety_checker": [null, null]}
 *
 * and each has a folder of its name. What is not such a pair is a setting of the pipeline and of no interest
 * here. Schedulers, tokenizers and the like have no weights and are left out; a model that has lost its weights
 * must not be, so a folder that lacks them is looked at twice.
 */
#include "src/checkpoint/open.h"

#include "src/base/json.h"

enum { MAX_MODEL_INDEX_NBYTES = 1 << 20 };

typedef struct component {
    const char *name;
    const char *class_name;
} component;

typedef struct parser {
    lds_json json;
    component *components;
    size_t n, capacity;
    lds_names names; /* of the components, to refuse repeated ones */
    lds_error *err;
} parser;

/* ---- the list of components ---- */

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
    component c = {.name = json->text};
    size_t nbytes = json->nbytes, offset = json->token_offset;
    LDS_TRY(read_value(p, &c.class_name));
    if (c.name[0] == '_' || !c.class_name)
        return LDS_OK;
    if (!is_folder_name(c.name, nbytes))
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, offset,
                           "expected the name of a folder, found \"%.200s\"", c.name);
    uint32_t found;
    LDS_TRY(lds_names_add(&p->names, lds_name_of(c.name, nbytes), &found, p->err));
    if (found != LDS_NO_INDEX)
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, offset,
                           "expected the component %.200s once, found it twice", c.name);
    LDS_TRY(lds_grow(&p->components, &p->capacity, p->n + 1, sizeof c, p->err));
    p->components[p->n++] = c;
    return LDS_OK;
}

static lds_status read_model_index(parser *p)
{
    lds_json *json = &p->json;
    lds_json_token token = lds_json_next(json);
    if (token != LDS_JSON_OBJECT && token != LDS_JSON_ERROR)
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, json->token_offset,
                           "expected an object of components, found something else");
    while (token != LDS_JSON_ERROR && (token = lds_json_next(json)) == LDS_JSON_KEY)
        LDS_TRY(read_entry(p));
    return token == LDS_JSON_ERROR || lds_json_next(json) == LDS_JSON_ERROR ? json->status : LDS_OK;
}

/* ---- the components ---- */

/* Is this the class of something that never has weights? */
static bool is_weightless(const char *class_name)
{
    static const char *const words[] = {"Scheduler", "Tokenizer", "Processor", "FeatureExtractor"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(class_name, words[i]))
            return true;
    return false;
}

/* With the variant if there is one of this component, as diffusers does it. */
static lds_status find_component(lds_place *place, const char *dir, const char *variant, bool *has_variant,
                                 lds_error *err)
{
    *place = (lds_place){0};
    if (variant)
        LDS_TRY(lds_find_model(place, dir, variant, err));
    *has_variant |= place->path != NULL;
    return place->path ? LDS_OK : lds_find_model(place, dir, NULL, err);
}

static lds_status check_left_out(const component *c, const char *dir, const char *variant, lds_error *err)
{
    if (is_weightless(c->class_name))
        return LDS_OK;
    if (!lds_path_is_dir(dir)) {
        lds_status status =
            lds_fail(err, LDS_ERR_NOT_FOUND, "expected the folder of the component %s, found none", c->name);
        return lds_error_context(err, status, dir, NULL);
    }
    char *config;
    LDS_TRY(lds_join_path(&config, dir, "config.json", err));
    bool is_model = lds_path_exists(config);
    free(config);
    return is_model ? lds_explain_no_model(dir, variant, err) : LDS_OK;
}

/* Takes place->path. */
static lds_status add_component(lds_checkpoint *checkpoint, const char *name, lds_place *place,
                                const lds_checkpoint_options *options, lds_error *err)
{
    lds_checkpoint *opened;
    char *copy;
    LDS_TRY(lds_open_place(&opened, place, options, err));
    lds_status status = lds_copy_string(&copy, name, strlen(name), err);
    if (status) {
        lds_checkpoint_close(opened);
        return status;
    }
    checkpoint->components[checkpoint->n_components++] = (lds_component){copy, opened};
    return LDS_OK;
}

static lds_status open_component(lds_checkpoint *checkpoint, const component *c,
                                 const lds_checkpoint_options *options, bool *has_variant, lds_error *err)
{
    char *dir;
    lds_place place;
    LDS_TRY(lds_join_path(&dir, checkpoint->dir, c->name, err));
    lds_status status = find_component(&place, dir, options->variant, has_variant, err);
    if (!status)
        status = place.path ? add_component(checkpoint, c->name, &place, options, err)
                            : check_left_out(c, dir, options->variant, err);
    free(dir);
    return status;
}

static lds_status open_components(lds_checkpoint *checkpoint, const parser *p,
                                  const lds_checkpoint_options *options, lds_error *err)
{
    bool has_variant = false;
    LDS_TRY(lds_calloc(&checkpoint->components, p->n, sizeof *checkpoint->components, err));
    for (size_t i = 0; i < p->n; i++)
        LDS_TRY(open_component(checkpoint, &p->components[i], options, &has_variant, err));
    lds_status status = LDS_OK;
    if (!checkpoint->n_components)
        status = lds_fail(err, LDS_ERR_NOT_FOUND, "expected components with weights, found none");
    else if (options->variant && !has_variant)
        status = lds_fail(err, LDS_ERR_NOT_FOUND,
                          "expected a component with files of the variant %s, found none", options->variant);
    return status ? lds_error_context(err, status, checkpoint->path, NULL) : LDS_OK;
}

lds_status lds_open_pipeline(lds_checkpoint *checkpoint, const lds_checkpoint_options *options,
                             lds_error *err)
{
    char *path, *text = NULL;
    size_t nbytes;
    parser p = {.err = err};
    LDS_TRY(lds_join_path(&path, checkpoint->dir, "model_index.json", err));
    lds_status status = lds_read_text(&text, &nbytes, path, MAX_MODEL_INDEX_NBYTES, err);
    if (!status) {
        lds_json_init(&p.json, text, nbytes, err);
        p.json.allows_nonfinite = true; /* written by Python, like a config.json */
        status = read_model_index(&p);
        status = status ? lds_error_context(err, status, path, NULL)
                        : open_components(checkpoint, &p, options, err);
    }
    free(p.components);
    lds_names_destroy(&p.names);
    free(text);
    free(path);
    return status;
}
