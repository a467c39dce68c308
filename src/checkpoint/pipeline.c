/*
 * A pipeline's directory, as diffusers writes it: each component that its model_index.json lists has a folder of
 * its name. Schedulers, tokenizers and the like have no weights and are left out; a model that has lost its
 * weights must not be, so a folder that lacks them is looked at twice.
 */
#include "src/checkpoint/model_index.h"
#include "src/checkpoint/open.h"

enum { MAX_MODEL_INDEX_NBYTES = 1 << 20 };

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
static lds_status find_component(lds_location *location, const char *dir, const char *variant,
                                 bool *has_variant, lds_error *err)
{
    *location = (lds_location){0};
    if (variant)
        LDS_TRY(lds_find_model(location, dir, variant, err));
    *has_variant |= location->path != NULL;
    return location->path ? LDS_OK : lds_find_model(location, dir, NULL, err);
}

static lds_status check_left_out(const lds_listed_component *c, const char *dir, const char *variant,
                                 lds_error *err)
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
    return is_model ? lds_explain_no_model(dir, variant, err) : lds_check_no_weights(dir, variant, err);
}

/* Takes location->path. */
static lds_status add_component(lds_checkpoint *checkpoint, const char *name, lds_location *location,
                                const lds_checkpoint_options *options, lds_error *err)
{
    lds_checkpoint *opened;
    char *copy;
    LDS_TRY(lds_open_location(&opened, location, options, err));
    lds_status status = lds_copy_string(&copy, name, strlen(name), err);
    if (status) {
        lds_checkpoint_close(opened);
        return status;
    }
    checkpoint->components[checkpoint->n_components++] = (lds_component){copy, opened};
    return LDS_OK;
}

static lds_status open_component(lds_checkpoint *checkpoint, const lds_listed_component *c,
                                 const lds_checkpoint_options *options, bool *has_variant, lds_error *err)
{
    char *dir;
    lds_location location;
    LDS_TRY(lds_join_path(&dir, checkpoint->dir, c->name, err));
    lds_status status = find_component(&location, dir, options->variant, has_variant, err);
    if (!status)
        status = location.path ? add_component(checkpoint, c->name, &location, options, err)
                               : check_left_out(c, dir, options->variant, err);
    free(dir);
    return status;
}

static lds_status open_components(lds_checkpoint *checkpoint, const lds_model_index *index,
                                  const lds_checkpoint_options *options, lds_error *err)
{
    bool has_variant = false;
    LDS_TRY(lds_calloc(&checkpoint->components, index->n, sizeof *checkpoint->components, err));
    for (size_t i = 0; i < index->n; i++)
        LDS_TRY(open_component(checkpoint, &index->components[i], options, &has_variant, err));
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
    lds_model_index index = {0};
    LDS_TRY(lds_join_path(&path, checkpoint->dir, "model_index.json", err));
    lds_status status = lds_read_text(&text, &nbytes, path, MAX_MODEL_INDEX_NBYTES, err);
    if (!status)
        status = lds_model_index_parse(&index, text, nbytes, path, err);
    if (!status)
        status = open_components(checkpoint, &index, options, err);
    lds_model_index_destroy(&index);
    free(text);
    free(path);
    return status;
}
