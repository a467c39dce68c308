/* What the library's own makers of networks ask of a builder, beyond the public functions. */
#ifndef LDS_NETWORK_BUILDER_H
#define LDS_NETWORK_BUILDER_H

#include "src/network/network.h"

/* What lds_network_architecture will return; copied. */
void lds_builder_set_architecture(lds_builder *builder, const char *architecture);

/*
 * PCRE2 patterns of tensor names that the framework's class passes over in silence; NULL-ended, and as
 * lasting as the network: a static table.
 */
void lds_builder_ignore(lds_builder *builder, const char *const *patterns);

/*
 * Parameters that are added from here on with the default dtype, if that is a float, become F32 if their full
 * name has one of the modules in it: "wo" is in "block.0.wo.weight", not in "wo_norm.weight"; "a.b" is in
 * "x.a.b.bias". NULL-ended; must last as long as the builder; NULL ends it. This is how transformers and
 * diffusers match _keep_in_fp32_modules. For which dtypes they do, is for the caller to know.
 */
void lds_builder_keep_f32(lds_builder *builder, const char *const *modules);

/*
 * Like lds_builder_add() and lds_builder_tie(), but the name is the full one, with its hash, dtype is not
 * LDS_DTYPE_NONE, and a failure is the caller's to report instead of becoming the builder's first error: its
 * message is without the name, and the builder is as it was. The texts need not be NUL-terminated.
 */
lds_status lds_builder_insert(lds_builder *builder, lds_name name, lds_dtype dtype, uint32_t n_dims,
                              const uint64_t *shape, const lds_init *init, lds_error *err);
lds_status lds_builder_insert_tied(lds_builder *builder, lds_name name, lds_name target, lds_error *err);

/* The parameter that has or shares the storage of this full name, until the next is added; or NULL. */
const lds_param *lds_builder_find(const lds_builder *builder, lds_name name);

#endif
