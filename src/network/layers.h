/*
 * The vocabulary that architectures are described in: each layer adds its parameters under a name, in the
 * order in which torch.nn's class of the same name registers them, with that class's initial values.
 */
#ifndef LDS_NETWORK_LAYERS_H
#define LDS_NETWORK_LAYERS_H

#include "loadstone.h"

/* The weight [out, in], then the bias [out] if there is one. */
void lds_linear(lds_builder *builder, const char *name, uint64_t in, uint64_t out, bool has_bias);

/* The weight [out, in] alone, drawn from a normal distribution. */
void lds_linear_normal(lds_builder *builder, const char *name, uint64_t in, uint64_t out, double deviation);

/* The weight [n, dim], drawn from a normal distribution; torch's own has the deviation 1. */
void lds_embedding(lds_builder *builder, const char *name, uint64_t n, uint64_t dim, double deviation);

/*
 * A convolution over n_spatial dimensions (1 to 3), the kernel equally long in all of them: the weight
 * [out, in, kernel, ...], then the bias [out] if there is one.
 */
void lds_conv(lds_builder *builder, const char *name, uint32_t n_spatial, uint64_t in, uint64_t out,
              uint64_t kernel, bool has_bias);

/* Weight and bias [dim], which start as 1 and 0. Without them (elementwise_affine=False) it adds nothing. */
void lds_layer_norm(lds_builder *builder, const char *name, uint64_t dim, bool has_affine);
void lds_group_norm(lds_builder *builder, const char *name, uint64_t n_channels);

/* The weight [dim] alone. */
void lds_rms_norm(lds_builder *builder, const char *name, uint64_t dim, double initial);

#endif
