/*
 * Layers as torch.nn has them. What there is to know about them is the order of their parameters and the
 * initial values: torch draws the weights of linear and convolution layers with kaiming_uniform_(a=sqrt(5)),
 * which makes the bound 1/sqrt(fan_in), and their biases within the same bound.
 */
#include "src/network/layers.h"

#include <math.h>

enum { MAX_SPATIAL = 3 };

static const lds_init ZEROS = {.kind = LDS_INIT_ZEROS};
static const lds_init ONES = {.kind = LDS_INIT_ONES};

static void add_vector(lds_builder *builder, const char *name, uint64_t dim, const lds_init *init)
{
    lds_builder_add(builder, name, LDS_DTYPE_NONE, 1, &dim, init);
}

static void add_normal(lds_builder *builder, const char *name, uint64_t rows, uint64_t columns,
                       double deviation)
{
    lds_init init = {.kind = LDS_INIT_NORMAL, .a = 0, .b = deviation};
    lds_scope scope = lds_builder_enter(builder, "%s", name);
    lds_builder_add(builder, "weight", LDS_DTYPE_NONE, 2, (uint64_t[]){rows, columns}, &init);
    lds_builder_leave(builder, scope);
}

static void add_affine(lds_builder *builder, const char *name, uint64_t dim)
{
    lds_scope scope = lds_builder_enter(builder, "%s", name);
    add_vector(builder, "weight", dim, &ONES);
    add_vector(builder, "bias", dim, &ZEROS);
    lds_builder_leave(builder, scope);
}

/* The first dimension of shape counts the outputs; the others multiply to fan_in. */
static void add_projection(lds_builder *builder, const char *name, uint32_t n_dims, const uint64_t *shape,
                           bool has_bias)
{
    double fan_in = 1;
    for (uint32_t i = 1; i < n_dims; i++)
        fan_in *= (double)shape[i];
    double bound = 1 / sqrt(fan_in);
    lds_init weight = {.kind = LDS_INIT_KAIMING_UNIFORM, .a = sqrt(5)};
    lds_init bias = {.kind = LDS_INIT_UNIFORM, .lo = -bound, .hi = bound};

    lds_scope scope = lds_builder_enter(builder, "%s", name);
    lds_builder_add(builder, "weight", LDS_DTYPE_NONE, n_dims, shape, &weight);
    if (has_bias)
        add_vector(builder, "bias", shape[0], &bias);
    lds_builder_leave(builder, scope);
}

void lds_linear(lds_builder *builder, const char *name, uint64_t in, uint64_t out, bool has_bias)
{
    add_projection(builder, name, 2, (uint64_t[]){out, in}, has_bias);
}

void lds_linear_normal(lds_builder *builder, const char *name, uint64_t in, uint64_t out, double deviation)
{
    add_normal(builder, name, out, in, deviation);
}

void lds_embedding(lds_builder *builder, const char *name, uint64_t n, uint64_t dim, double deviation)
{
    add_normal(builder, name, n, dim, deviation);
}

void lds_conv(lds_builder *builder, const char *name, uint32_t n_spatial, uint64_t in, uint64_t out,
              uint64_t kernel, bool has_bias)
{
    uint64_t shape[2 + MAX_SPATIAL] = {out, in, kernel, kernel, kernel};
    add_projection(builder, name, 2 + n_spatial, shape, has_bias);
}

void lds_layer_norm(lds_builder *builder, const char *name, uint64_t dim, bool has_affine)
{
    if (has_affine)
        add_affine(builder, name, dim);
}

void lds_group_norm(lds_builder *builder, const char *name, uint64_t n_channels)
{
    add_affine(builder, name, n_channels);
}

void lds_rms_norm(lds_builder *builder, const char *name, uint64_t dim, double initial)
{
    lds_init init = {.kind = LDS_INIT_CONSTANT, .a = initial};
    lds_scope scope = lds_builder_enter(builder, "%s", name);
    add_vector(builder, "weight", dim, &init);
    lds_builder_leave(builder, scope);
}
