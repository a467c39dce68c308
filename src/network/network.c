/* Networks: an array of parameters in order, and the index of their names. */
#include "src/checkpoint/checkpoint.h"
#include "src/dtype/dtype.h"
#include "src/network/builder.h"
#include "src/network/refill.h"

void lds_network_free(lds_network *network)
{
    if (!network)
        return;
    for (size_t i = 0; i < network->n_params; i++)
        lds_storage_release(network->params[i].storage);
    free(network->params);
    lds_names_destroy(&network->names);
    lds_pool_destroy(&network->pool);
    free(network);
}

size_t lds_network_n_params(const lds_network *network)
{
    return network->n_params;
}

lds_param *lds_network_param(const lds_network *network, size_t i)
{
    return &network->params[i];
}

lds_param *lds_network_find(const lds_network *network, const char *name)
{
    uint32_t i = lds_names_find(&network->names, lds_name_of(name, strlen(name)));
    return i == LDS_NO_INDEX ? NULL : &network->params[i];
}

const char *lds_network_architecture(const lds_network *network)
{
    return network->architecture;
}

lds_status lds_network_init(lds_network *network, uint64_t seed, lds_error *err)
{
    LDS_TRY(lds_refill_init(network->params, network->n_params, seed, err));
    for (size_t i = 0; i < network->n_params; i++)
        if (!network->params[i].tied_to && !network->params[i].storage) {
            lds_fail(err, LDS_ERR_MISMATCH,
                     "expected an init rule, found none: it has to come from a checkpoint");
            return lds_error_context(err, LDS_ERR_MISMATCH, NULL, network->params[i].name.text);
        }
    return LDS_OK;
}

lds_status lds_network_to(lds_network *network, lds_dtype dtype, lds_error *err)
{
    if (!lds_dtype_is_float(dtype))
        return lds_fail(err, LDS_ERR_UNSUPPORTED, "expected a float dtype to convert to, found %s",
                        lds_dtype_name(dtype) ? lds_dtype_name(dtype) : "none");
    return lds_refill_convert(network->params, network->n_params, dtype, err);
}

static lds_status add_tensors(lds_builder *builder, const lds_checkpoint *checkpoint, lds_dtype dtype,
                              lds_error *err)
{
    size_t n = checkpoint->names.n;
    LDS_TRY(lds_builder_reserve(builder, n, err));
    for (size_t i = 0; i < n; i++) {
        const lds_tensor *t = &checkpoint->tensors[i];
        lds_dtype own = dtype && lds_dtype_is_float(t->dtype) ? dtype : (lds_dtype)t->dtype;
        lds_status status = lds_builder_insert(builder, t->name, own, t->n_dims, t->shape, NULL, err);
        if (status)
            return lds_error_context(err, status, NULL, t->name.text);
    }
    return LDS_OK;
}

lds_status lds_network_from_checkpoint(lds_network **network, const lds_checkpoint *checkpoint,
                                       lds_dtype dtype, lds_error *err)
{
    *network = NULL;
    if (dtype && !lds_dtype_is_float(dtype))
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a float dtype or none, found %s",
                        lds_dtype_name(dtype) ? lds_dtype_name(dtype) : "an unknown one");
    if (checkpoint->n_components) {
        lds_fail(err, LDS_ERR_UNSUPPORTED,
                 "expected one checkpoint, found a pipeline of %zu: open its components",
                 checkpoint->n_components);
        return lds_error_context(err, LDS_ERR_UNSUPPORTED, checkpoint->path, NULL);
    }
    lds_builder *builder;
    LDS_TRY(lds_builder_new(&builder, LDS_F32, err));
    lds_status status = add_tensors(builder, checkpoint, dtype, err);
    if (!status)
        return lds_builder_finish(network, builder, err);
    lds_builder_free(builder);
    return status;
}
