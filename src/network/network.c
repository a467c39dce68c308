/* Networks: an array of parameters in order, and the index of their names. */
#include "src/checkpoint/checkpoint.h"
#include "src/dtype/dtype.h"
#include "src/network/refill.h"

void lds_network_free(lds_network *network)
{
    if (!network)
        return;
    for (size_t i = 0; i < network->n_params; i++)
        lds_storage_release(network->params[i].storage);
    free(network->params);
    lds_names_destroy(&network->names);
    lds_region_destroy(&network->region);
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

lds_status lds_network_init(lds_network *network, uint64_t seed, const lds_change_options *options,
                            lds_error *err)
{
    LDS_TRY(lds_refill_init(network->params, network->n_params, seed, options, err));
    for (size_t i = 0; i < network->n_params; i++)
        if (!network->params[i].tied_to && !network->params[i].storage) {
            lds_fail(err, LDS_ERR_MISMATCH,
                     "expected an init rule, found none: it has to come from a checkpoint");
            return lds_error_context(err, LDS_ERR_MISMATCH, NULL, network->params[i].name.text);
        }
    return LDS_OK;
}

lds_status lds_network_to(lds_network *network, lds_dtype dtype, const lds_change_options *options,
                          lds_error *err)
{
    if (!lds_dtype_is_float(dtype))
        return lds_fail(err, LDS_ERR_UNSUPPORTED, "expected a float dtype to convert to, found %s",
                        lds_dtype_name(dtype) ? lds_dtype_name(dtype) : "none");
    return lds_refill_convert(network->params, network->n_params, dtype, options, err);
}

/* A parameter for a tensor, with copies of the tensor's name and shape. */
static lds_status copy_tensor(lds_network *network, lds_param *param, const lds_tensor *t, lds_dtype dtype,
                              lds_error *err)
{
    uint64_t nbytes;
    size_t dims_nbytes = t->n_dims * sizeof *t->shape;
    lds_dtype own = dtype && lds_dtype_is_float(t->dtype) ? dtype : (lds_dtype)t->dtype;
    *param = (lds_param){.name = t->name, .numel = t->numel, .dtype = (uint8_t)own, .n_dims = t->n_dims};
    LDS_TRY(lds_dtype_nbytes(&nbytes, own, t->numel, err)); /* a wider dtype may overflow */
    uint8_t *block;
    LDS_TRY(lds_region_alloc(&block, &network->region, dims_nbytes + t->name.nbytes + 1, _Alignof(uint64_t),
                             err));
    if (dims_nbytes)
        memcpy(block, t->shape, dims_nbytes);
    param->shape = (const uint64_t *)block;
    char *text = (char *)block + dims_nbytes;
    memcpy(text, t->name.text, t->name.nbytes);
    text[t->name.nbytes] = 0;
    param->name.text = text;
    return LDS_OK;
}

/*
 * The network's names are the checkpoint's, in the same order, so its index is a copy: looking hundreds of
 * thousands of names up would be most of the work. That is why this does not go through a builder.
 */
static lds_status copy_tensors(lds_network *network, const lds_checkpoint *checkpoint, lds_dtype dtype,
                               lds_error *err)
{
    size_t n = checkpoint->names.n;
    LDS_TRY(lds_names_clone(&network->names, &checkpoint->names, err));
    LDS_TRY(lds_calloc(&network->params, n, sizeof *network->params, err));
    network->n_params = n;
    for (size_t i = 0; i < n; i++) {
        const lds_tensor *t = &checkpoint->tensors[i];
        lds_status status = copy_tensor(network, &network->params[i], t, dtype, err);
        if (status)
            return lds_error_context(err, status, NULL, t->name.text);
        network->names.entries[i] = network->params[i].name;
    }
    return LDS_OK;
}

lds_status lds_network_check_source(const lds_checkpoint *checkpoint, lds_dtype dtype, lds_error *err)
{
    if (dtype && !lds_dtype_is_float(dtype))
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected a float dtype or none, found %s",
                        lds_dtype_name(dtype) ? lds_dtype_name(dtype) : "an unknown one");
    if (checkpoint->n_components) {
        lds_fail(err, LDS_ERR_UNSUPPORTED,
                 "expected one checkpoint, found a pipeline of %zu: open its components",
                 checkpoint->n_components);
        return lds_error_context(err, LDS_ERR_UNSUPPORTED, checkpoint->path, NULL);
    }
    return LDS_OK;
}

lds_status lds_network_from_checkpoint(lds_network **network, const lds_checkpoint *checkpoint,
                                       lds_dtype dtype, lds_error *err)
{
    *network = NULL;
    LDS_TRY(lds_network_check_source(checkpoint, dtype, err));
    lds_network *net;
    LDS_TRY(lds_calloc(&net, 1, sizeof *net, err));
    lds_status status = copy_tensors(net, checkpoint, dtype, err);
    if (status)
        lds_network_free(net);
    else
        *network = net;
    return status;
}
