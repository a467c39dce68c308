/*
 * Building a network. Names and shapes go to the network's region, where they never move; the array of parameters
 * moves as it grows, so until the end a tie is kept as the index of its root, and becomes a pointer when the
 * builder finishes.
 *
 * Scopes are a stack of frames, each with what was there before it. A mark is the frame's serial number, never
 * given twice: so a mark that was left already is noticed, even if another scope has been opened in its place.
 */
#include "src/network/builder.h"

#include <stdarg.h>
#include <stdio.h>

#include "src/dtype/dtype.h"
#include "src/network/init.h"

enum { MAX_NAME_NBYTES = 1 << 30 };

/* What lds_builder_leave() goes back to. */
typedef struct frame {
    lds_scope serial;
    uint32_t prefix_nbytes;
    lds_dtype dtype;
} frame;

struct lds_builder {
    lds_network *network;
    size_t params_capacity;
    uint32_t *roots; /* of each parameter: its own index, or that of the parameter that it is tied to */
    size_t roots_capacity;
    char *text; /* the name scope, then, for a moment, a name in it */
    size_t text_capacity;
    uint32_t prefix_nbytes; /* of the name scope, its last '.' included */
    lds_dtype dtype;
    frame *frames;
    size_t n_frames, frames_capacity;
    lds_scope last_serial;
    const char *const *keep_f32; /* or NULL */
    lds_error error;
    lds_status status;
};

lds_status lds_builder_new(lds_builder **builder, lds_dtype dtype, lds_error *err)
{
    *builder = NULL;
    if (!lds_dtype_name(dtype))
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a default dtype, found %d", (int)dtype);
    lds_builder *b;
    LDS_TRY(lds_calloc(&b, 1, sizeof *b, err));
    lds_status status = lds_calloc(&b->network, 1, sizeof *b->network, err);
    if (status) {
        free(b);
        return status;
    }
    b->dtype = dtype;
    b->error = (lds_error)LDS_ERROR_INIT;
    *builder = b;
    return LDS_OK;
}

void lds_builder_free(lds_builder *builder)
{
    if (!builder)
        return;
    lds_network_free(builder->network);
    free(builder->roots);
    free(builder->text);
    free(builder->frames);
    free(builder);
}

lds_status lds_builder_status(const lds_builder *builder)
{
    return builder->status;
}

/* ---------------------------------------------------------------------------------------------------------
 *                                           Scopes and default dtypes
 * --------------------------------------------------------------------------------------------------------- */

static lds_scope push_frame(lds_builder *b)
{
    b->status = lds_grow(&b->frames, &b->frames_capacity, b->n_frames + 1, sizeof *b->frames, &b->error);
    if (b->status)
        return 0;
    b->frames[b->n_frames++] = (frame){++b->last_serial, b->prefix_nbytes, b->dtype};
    return b->last_serial;
}

/* Put a name into b->text, behind the name scope. *nbytes is the length of all. */
static lds_status write_name(lds_builder *b, size_t *nbytes, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    lds_status status = LDS_ERR_ARGUMENT;
    if (n < 0 || (size_t)n + b->prefix_nbytes >= MAX_NAME_NBYTES)
        lds_fail(&b->error, status, "expected a name of less than %d bytes", MAX_NAME_NBYTES);
    else /* two more: a '.' and the NUL byte */
        status = lds_grow(&b->text, &b->text_capacity, b->prefix_nbytes + (size_t)n + 2, 1, &b->error);
    if (!status) {
        vsnprintf(b->text + b->prefix_nbytes, (size_t)n + 1, format, again);
        *nbytes = b->prefix_nbytes + (size_t)n;
    }
    va_end(again);
    return status;
}

lds_scope lds_builder_enter(lds_builder *builder, const char *format, ...)
{
    if (builder->status)
        return 0;
    size_t nbytes;
    va_list args;
    va_start(args, format);
    builder->status = write_name(builder, &nbytes, format, args);
    va_end(args);
    lds_scope scope = builder->status ? 0 : push_frame(builder);
    if (scope && nbytes > builder->prefix_nbytes) {
        builder->text[nbytes++] = '.';
        builder->prefix_nbytes = (uint32_t)nbytes;
    }
    return scope;
}

lds_scope lds_builder_push_dtype(lds_builder *builder, lds_dtype dtype)
{
    if (!builder->status && !lds_dtype_name(dtype))
        builder->status =
            lds_fail(&builder->error, LDS_ERR_ARGUMENT, "expected a default dtype, found %d", (int)dtype);
    lds_scope scope = builder->status ? 0 : push_frame(builder);
    if (scope)
        builder->dtype = dtype;
    return scope;
}

void lds_builder_leave(lds_builder *builder, lds_scope scope)
{
    size_t depth = builder->n_frames;
    while (depth && builder->frames[depth - 1].serial > scope)
        depth--;
    if (!depth || builder->frames[depth - 1].serial != scope) {
        if (!builder->status)
            builder->status = lds_fail(&builder->error, LDS_ERR_ARGUMENT,
                                       "expected a scope that is open, found one that was left before");
        return;
    }
    const frame *f = &builder->frames[depth - 1];
    builder->prefix_nbytes = f->prefix_nbytes;
    builder->dtype = f->dtype;
    builder->n_frames = depth - 1;
}

lds_dtype lds_builder_dtype(const lds_builder *builder)
{
    return builder->dtype;
}

/* ---------------------------------------------------------------------------------------------------------
 *                                                 Parameters
 * --------------------------------------------------------------------------------------------------------- */

/* Copy param's name and add it, tied to root if that is not LDS_NO_INDEX. The last thing that can fail. */
static lds_status append_param(lds_builder *b, lds_param param, uint32_t root, lds_error *err)
{
    lds_network *net = b->network;
    LDS_TRY(lds_grow(&net->params, &b->params_capacity, net->n_params + 1, sizeof *net->params, err));
    LDS_TRY(lds_grow(&b->roots, &b->roots_capacity, net->n_params + 1, sizeof *b->roots, err));
    char *text;
    LDS_TRY(lds_region_alloc(&text, &net->region, (size_t)param.name.nbytes + 1, 1, err));
    memcpy(text, param.name.text, param.name.nbytes);
    text[param.name.nbytes] = 0;
    param.name.text = text;
    uint32_t found;
    LDS_TRY(lds_names_add(&net->names, param.name, &found, err));
    if (found != LDS_NO_INDEX)
        return lds_fail(err, LDS_ERR_NAME, "expected a new name, found that of parameter %u", found);
    b->roots[net->n_params] = root == LDS_NO_INDEX ? (uint32_t)net->n_params : root;
    net->params[net->n_params++] = param;
    return LDS_OK;
}

/* Networks have few different rules, mostly in runs: the one used last serves again. */
static lds_status keep_init(lds_builder *b, const lds_init **kept, const lds_init *init, lds_error *err)
{
    *kept = NULL;
    if (!init || init->kind == LDS_INIT_NONE)
        return LDS_OK;
    uint32_t fields = lds_init_kind_fields(init->kind);
    lds_init only = {init->kind, fields & LDS_INIT_A ? init->a : 0, fields & LDS_INIT_B ? init->b : 0,
                     fields & LDS_INIT_LO ? init->lo : 0, fields & LDS_INIT_HI ? init->hi : 0};
    for (size_t i = b->network->n_params, tries = 8; i-- > 0 && tries-- > 0;) {
        const lds_init *before = b->network->params[i].init;
        if (before && lds_init_equal(before, &only)) {
            *kept = before;
            return LDS_OK;
        }
    }
    lds_init *copy;
    LDS_TRY(lds_region_alloc(&copy, &b->network->region, sizeof *copy, _Alignof(lds_init), err));
    *copy = only;
    *kept = copy;
    return LDS_OK;
}

static lds_status check_shape(uint64_t *numel, lds_dtype dtype, uint32_t n_dims, const uint64_t *shape,
                              lds_error *err)
{
    uint64_t nbytes;
    if (!lds_dtype_name(dtype))
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a dtype, found %d", (int)dtype);
    if (n_dims > LDS_MAX_DIMS)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a shape of at most %d dimensions, found %u",
                        LDS_MAX_DIMS, n_dims);
    if (n_dims && !shape)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a shape of %u dimensions, found none", n_dims);
    lds_status status = lds_shape_numel(numel, n_dims, shape, err);
    if (!status)
        status = lds_dtype_nbytes(&nbytes, dtype, *numel, err);
    if (status && err)
        err->code = LDS_ERR_ARGUMENT;
    return status ? LDS_ERR_ARGUMENT : LDS_OK;
}

lds_status lds_builder_insert(lds_builder *builder, lds_name name, lds_dtype dtype, uint32_t n_dims,
                              const uint64_t *shape, const lds_init *init, lds_error *err)
{
    lds_param param = {.name = name, .dtype = (uint8_t)dtype, .n_dims = (uint8_t)n_dims};
    LDS_TRY(check_shape(&param.numel, dtype, n_dims, shape, err));
    if (init)
        LDS_TRY(lds_init_check(init, dtype, n_dims, shape, err));
    LDS_TRY(keep_init(builder, &param.init, init, err));
    uint64_t *dims;
    LDS_TRY(
        lds_region_alloc(&dims, &builder->network->region, n_dims * sizeof *dims, _Alignof(uint64_t), err));
    if (n_dims)
        memcpy(dims, shape, n_dims * sizeof *dims);
    param.shape = dims;
    return append_param(builder, param, LDS_NO_INDEX, err);
}

/* The index of the parameter that has the storage of this name, or LDS_NO_INDEX. */
static uint32_t find_root(const lds_builder *b, lds_name name)
{
    uint32_t i = lds_names_find(&b->network->names, name);
    return i == LDS_NO_INDEX ? i : b->roots[i];
}

const lds_param *lds_builder_find(const lds_builder *builder, lds_name name)
{
    uint32_t root = find_root(builder, name);
    return root == LDS_NO_INDEX ? NULL : &builder->network->params[root];
}

lds_status lds_builder_insert_tied(lds_builder *builder, lds_name name, lds_name target, lds_error *err)
{
    uint32_t root = find_root(builder, target);
    if (root == LDS_NO_INDEX)
        return lds_fail(err, LDS_ERR_NAME,
                        "expected the name of an earlier parameter to tie it to, found \"%.*s\"",
                        lds_text_shown(target.text, target.nbytes), target.text);
    lds_param param = builder->network->params[root];
    param.name = name;
    return append_param(builder, param, root, err);
}

/* The full name of a name in the scope; *name points into b->text. */
static lds_status full_name(lds_builder *b, lds_name *name, const char *format, ...) LDS_PRINTF(3, 4);
static lds_status full_name(lds_builder *b, lds_name *name, const char *format, ...)
{
    size_t nbytes = 0;
    va_list args;
    va_start(args, format);
    lds_status status = write_name(b, &nbytes, format, args);
    va_end(args);
    if (status)
        return status;
    if (nbytes && nbytes == b->prefix_nbytes)
        return lds_fail(&b->error, LDS_ERR_ARGUMENT, "%s: expected a name, found an empty one", b->text);
    *name = lds_name_of(b->text, nbytes);
    return LDS_OK;
}

/* Does the name have the module in it, as whole parts between its dots? */
static bool has_module(lds_name name, const char *module)
{
    size_t n = strlen(module);
    for (const char *at = name.text; (at = strstr(at, module)); at++)
        if ((at == name.text || at[-1] == '.') && (at[n] == 0 || at[n] == '.'))
            return true;
    return false;
}

static lds_dtype default_dtype(const lds_builder *b, lds_name name)
{
    if (lds_dtype_is_float(b->dtype))
        for (const char *const *module = b->keep_f32; module && *module; module++)
            if (has_module(name, *module))
                return LDS_F32;
    return b->dtype;
}

/* False, and full is not set, if there is an error now or was one before. */
static bool begin_param(lds_builder *b, lds_name *full, const char *name)
{
    if (!b->status && !name) {
        b->status = lds_fail(&b->error, LDS_ERR_ARGUMENT, "expected a name, found NULL");
        return false;
    }
    if (!b->status)
        b->status = full_name(b, full, "%s", name);
    return !b->status;
}

static void end_param(lds_builder *b, lds_name full, lds_status status)
{
    b->status = status ? lds_error_context(&b->error, status, NULL, full.text) : LDS_OK;
}

void lds_builder_add(lds_builder *builder, const char *name, lds_dtype dtype, uint32_t n_dims,
                     const uint64_t *shape, const lds_init *init)
{
    lds_name full;
    if (!begin_param(builder, &full, name))
        return;
    dtype = dtype ? dtype : default_dtype(builder, full);
    end_param(builder, full, lds_builder_insert(builder, full, dtype, n_dims, shape, init, &builder->error));
}

void lds_builder_tie(lds_builder *builder, const char *name, const char *target)
{
    lds_name full;
    if (!begin_param(builder, &full, name))
        return;
    end_param(
        builder, full,
        target ? lds_builder_insert_tied(builder, full, lds_name_of(target, strlen(target)), &builder->error)
               : lds_fail(&builder->error, LDS_ERR_ARGUMENT,
                          "expected the name of a parameter to tie it to, found NULL"));
}

/* ---------------------------------------------------------------------------------------------------------
 *                                              The whole network
 * --------------------------------------------------------------------------------------------------------- */

void lds_builder_set_architecture(lds_builder *builder, const char *architecture)
{
    size_t nbytes = strlen(architecture) + 1;
    char *copy;
    if (builder->status)
        return;
    builder->status = lds_region_alloc(&copy, &builder->network->region, nbytes, 1, &builder->error);
    if (builder->status)
        return;
    memcpy(copy, architecture, nbytes);
    builder->network->architecture = copy;
}

void lds_builder_ignore(lds_builder *builder, const char *const *patterns)
{
    builder->network->ignored = patterns;
}

void lds_builder_keep_f32(lds_builder *builder, const char *const *modules)
{
    builder->keep_f32 = modules;
}

lds_status lds_builder_finish(lds_network **network, lds_builder *builder, lds_error *err)
{
    *network = NULL;
    lds_status status = builder->status;
    if (status) {
        lds_error_take(err, status, &builder->error);
    } else {
        lds_network *net = builder->network;
        for (size_t i = 0; i < net->n_params; i++)
            net->params[i].tied_to = builder->roots[i] == i ? NULL : &net->params[builder->roots[i]];
        *network = net;
        builder->network = NULL;
    }
    lds_builder_free(builder);
    return status;
}
