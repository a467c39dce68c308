/*
 * From a config.json to a network: which class it is of, and that class's description of itself. The
 * architectures are in src/network/models/; docs/architectures.md says how to add one.
 */
#include <stdio.h>

#include "src/base/memory.h"
#include "src/checkpoint/checkpoint.h"
#include "src/network/builder.h"
#include "src/network/models/models.h"

enum { MAX_CONFIG_NBYTES = 4 << 20 };

static const lds_architecture *const architectures[] = {
    &lds_cogvideox_transformer, &lds_cogvideox_vae, &lds_t5_encoder, &lds_t5_model, &lds_t5_generation, NULL,
};

/* The classes that could stand in the field that names one, or in either if neither does. */
static lds_status fail_unknown(lds_error *err, const lds_config_source *source, const lds_config_class *class)
{
    bool is_diffusers = class->class_name;
    const char *name = is_diffusers ? class->class_name : class->architecture;
    const char *field = is_diffusers ? "_class_name"
                        : name       ? "architectures"
                                     : "_class_name or architectures";
    char known[512] = "";
    size_t n = 0;
    for (const lds_architecture *const *a = architectures; *a && n < sizeof known; a++)
        if (!name || is_diffusers == !(*a)->model_type)
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", (*a)->class_name);
    lds_status status = lds_fail(err, LDS_ERR_ARCHITECTURE, "expected one of %s, found %.200s", known,
                                 name ? name : "neither");
    return lds_error_context(err, status, source->path, field);
}

static const lds_architecture *architecture_of(const char *class_name, bool is_diffusers)
{
    for (const lds_architecture *const *a = architectures; *a; a++)
        if (strcmp((*a)->class_name, class_name) == 0 && is_diffusers == !(*a)->model_type)
            return *a;
    return NULL;
}

/*
 * diffusers names the class outright, transformers as the first of the architectures. *architecture is NULL on
 * failure.
 */
static lds_status find_architecture(const lds_architecture **architecture, const lds_config_source *source,
                                    lds_error *err)
{
    *architecture = NULL;
    lds_config_class class;
    LDS_TRY(lds_config_read_class(&class, source, err));
    bool is_diffusers = class.class_name;
    const char *name = is_diffusers ? class.class_name : class.architecture;
    const lds_architecture *a = name ? architecture_of(name, is_diffusers) : NULL;
    if (!a)
        return fail_unknown(err, source, &class);
    if (a->model_type && class.model_type && strcmp(a->model_type, class.model_type) != 0) {
        lds_status status = lds_fail(err, LDS_ERR_ARCHITECTURE, "expected %s for the class %s, found %.200s",
                                     a->model_type, a->class_name, class.model_type);
        return lds_error_context(err, status, source->path, "model_type");
    }
    *architecture = a;
    return LDS_OK;
}

static lds_status build(lds_network **network, const lds_architecture *architecture,
                        const lds_config_source *source, lds_dtype dtype, lds_error *err)
{
    lds_builder *builder;
    LDS_TRY(lds_builder_new(&builder, dtype ? dtype : LDS_F32, err));
    lds_builder_set_architecture(builder, architecture->class_name);
    lds_builder_ignore(builder, architecture->ignored_tensors);
    lds_builder_keep_f32(builder, dtype == LDS_F16 ? architecture->keep_f32_in_f16 : NULL);
    lds_status status = architecture->describe(builder, source, dtype, err);
    if (status) {
        lds_builder_free(builder);
        return status;
    }
    status = lds_builder_finish(network, builder, err);
    return status ? lds_error_context(err, status, source->path, NULL) : LDS_OK;
}

lds_status lds_network_from_source(lds_network **network, const lds_config_source *source, lds_dtype dtype,
                                   lds_error *err)
{
    *network = NULL;
    if (dtype && !lds_dtype_is_float(dtype))
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a float dtype, found %s",
                        lds_dtype_name(dtype) ? lds_dtype_name(dtype) : "none that is known");

    /* Reading changes the text, and it is read twice: first for the class, then for the fields. */
    lds_config_source copy = *source;
    LDS_TRY(lds_copy_string(&copy.text, source->text, source->nbytes, err));
    const lds_architecture *architecture;
    lds_status status = find_architecture(&architecture, &copy, err);
    if (architecture) {
        memcpy(copy.text, source->text, source->nbytes);
        status = build(network, architecture, &copy, dtype, err);
    }
    free(copy.text);
    return status;
}

static lds_status from_file(lds_network **network, const char *path, lds_dtype dtype, lds_error *err)
{
    lds_config_source source = {.path = path};
    LDS_TRY(lds_read_text(&source.text, &source.nbytes, path, MAX_CONFIG_NBYTES, err));
    lds_status status = lds_network_from_source(network, &source, dtype, err);
    free(source.text);
    return status;
}

static lds_status from_dir(lds_network **network, const char *dir, lds_dtype dtype, lds_error *err)
{
    char *path;
    LDS_TRY(lds_format_string(&path, err, "%s/config.json", dir));
    lds_status status = from_file(network, path, dtype, err);
    free(path);
    return status;
}

lds_status lds_network_from_config(lds_network **network, const char *dir, lds_dtype dtype, lds_error *err)
{
    *network = NULL;
    char *resolved;
    LDS_TRY(lds_resolve_dir(&resolved, dir, NULL, err));
    lds_status status = from_dir(network, resolved, dtype, err);
    free(resolved);
    return status;
}
