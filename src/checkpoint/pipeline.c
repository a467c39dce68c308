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

typedef struct pipeline {
    lds_json json;
    lds_checkpoint *checkpoint;
    const lds_checkpoint_options *options;
    lds_names seen; /* components so far, to refuse repeated ones */
    bool has_variant;
    lds_error *err;
} pipeline;

typedef struct component {
    char *name;
    char *class_name; /* NULL if the pipeline goes without this component */
} component;

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
static lds_status find_component(pipeline *p, lds_place *place, const char *dir)
{
    const char *variant = p->options->variant;
    if (variant) {
        LDS_TRY(lds_find_model(place, dir, variant, p->err));
        if (place->path) {
            p->has_variant = true;
            return LDS_OK;
        }
    }
    return lds_find_model(place, dir, NULL, p->err);
}

static lds_status check_left_out(pipeline *p, const component *c, const char *dir)
{
    if (is_weightless(c->class_name))
        return LDS_OK;
    if (!lds_path_is_dir(dir)) {
        lds_status status = lds_fail(p->err, LDS_ERR_NOT_FOUND,
                                     "expected the folder of the pipeline's component %s, found none", c->name);
        return lds_error_context(p->err, status, dir, NULL);
    }
    char *config;
    LDS_TRY(lds_join_path(&config, dir, "config.json", p->err));
    bool is_model = lds_path_exists(config);
    free(config);
    return is_model ? lds_explain_no_model(dir, p->options->variant, p->err) : LDS_OK;
}

static lds_status add_component(pipeline *p, const char *name, lds_place *place)
{
    lds_checkpoint *ck = p->checkpoint;
    lds_checkpoint *opened;
    LDS_TRY(lds_open_place(&opened, place, p->options, p->err));
    size_t i = ck->n_components;
    lds_status status = lds_copy_string(&ck->component_names[i], name, strlen(name), p->err);
    if (status) {
        lds_checkpoint_close(opened);
        return status;
    }
    ck->components[i] = opened;
    ck->n_components++;
    return LDS_OK;
}

static lds_status open_component(pipeline *p, const component *c)
{
    lds_checkpoint *ck = p->checkpoint;
    size_t names_capacity = ck->n_components, capacity = ck->n_components;
    LDS_TRY(lds_grow(&ck->component_names, &names_capacity, ck->n_components + 1, sizeof(char *), p->err));
    LDS_TRY(lds_grow(&ck->components, &capacity, ck->n_components + 1, sizeof(lds_checkpoint *), p->err));
    char *dir;
    lds_place place = {0};
    LDS_TRY(lds_join_path(&dir, ck->dir, c->name, p->err));
    lds_status status = find_component(p, &place, dir);
    if (!status)
        status = place.path ? add_component(p, c->name, &place) : check_left_out(p, c, dir);
    free(dir);
    return status;
}

static bool is_folder_name(const char *name, size_t nbytes)
{
    return nbytes && strlen(name) == nbytes && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

/* The value of a key: c->class_name is set if it is a component. */
static lds_status read_value(pipeline *p, component *c)
{
    lds_json *json = &p->json;
    lds_json_token token = lds_json_next(json);
    char *texts[2] = {NULL, NULL};
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
    if (n == 2 && texts[0])
        c->class_name = texts[1];
    return LDS_OK;
}

static lds_status read_entry(pipeline *p)
{
    lds_json *json = &p->json;
    component c = {.name = json->text};
    size_t nbytes = json->nbytes, offset = json->token_offset;
    LDS_TRY(read_value(p, &c));
    if (c.name[0] == '_' || !c.class_name)
        return LDS_OK;
    if (!is_folder_name(c.name, nbytes))
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, offset, "expected the name of a folder, found \"%.200s\"",
                           c.name);
    uint32_t found;
    LDS_TRY(lds_names_add(&p->seen, lds_name_of(c.name, nbytes), &found, p->err));
    if (found != LDS_NO_INDEX)
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, offset, "expected the component %s once, found it twice",
                           c.name);
    return open_component(p, &c);
}

static lds_status read_model_index(pipeline *p)
{
    lds_json *json = &p->json;
    lds_json_token token = lds_json_next(json);
    if (token != LDS_JSON_OBJECT)
        return token == LDS_JSON_ERROR ? json->status
                                       : lds_fail_at(p->err, LDS_ERR_MALFORMED, json->token_offset,
                                                     "expected an object of components, found something else");
    while ((token = lds_json_next(json)) == LDS_JSON_KEY)
        LDS_TRY(read_entry(p));
    return token == LDS_JSON_ERROR || lds_json_next(json) == LDS_JSON_ERROR ? json->status : LDS_OK;
}

static lds_status check_components(const pipeline *p)
{
    const char *variant = p->options->variant;
    if (!p->checkpoint->n_components)
        return lds_fail(p->err, LDS_ERR_NOT_FOUND, "expected components with weights, found none");
    if (variant && !p->has_variant)
        return lds_fail(p->err, LDS_ERR_NOT_FOUND,
                        "expected a component with files of the variant %s, found none", variant);
    return LDS_OK;
}

lds_status lds_open_pipeline(lds_checkpoint *checkpoint, const lds_checkpoint_options *options, lds_error *err)
{
    char *path, *text = NULL;
    size_t nbytes;
    pipeline p = {.checkpoint = checkpoint, .options = options, .err = err};
    LDS_TRY(lds_join_path(&path, checkpoint->dir, "model_index.json", err));
    lds_status status = lds_read_text(&text, &nbytes, path, MAX_MODEL_INDEX_NBYTES, err);
    if (!status) {
        lds_json_init(&p.json, text, nbytes, err);
        status = read_model_index(&p);
        if (!status)
            status = check_components(&p);
    }
    lds_names_destroy(&p.seen);
    free(text);
    free(path);
    return status;
}
