/*
 * Parameters. What a parameter is (name, shape, dtype) and where its bytes are (storage) are kept apart, so
 * that the second can be swapped while everybody keeps pointing at the first. A tied parameter has neither
 * storage nor dtype: each function goes to its root first.
 */
#include "src/dtype/dtype.h"
#include "src/network/network.h"
#include "src/network/refill.h"

const char *lds_param_name(const lds_param *param)
{
    return param->name.text;
}

lds_dtype lds_param_dtype(const lds_param *param)
{
    return lds_param_root(param)->dtype;
}

uint32_t lds_param_n_dims(const lds_param *param)
{
    return param->n_dims;
}

const uint64_t *lds_param_shape(const lds_param *param)
{
    return param->shape;
}

uint64_t lds_param_numel(const lds_param *param)
{
    return param->numel;
}

uint64_t lds_param_nbytes(const lds_param *param)
{
    /* Whole bytes that fit, for every dtype that the parameter can be given: checked where it is. */
    uint64_t bits = lds_dtype_bits(lds_param_dtype(param));
    return param->numel / 8 * bits + param->numel % 8 * bits / 8;
}

lds_init lds_param_init(const lds_param *param)
{
    const lds_init *init = lds_param_root(param)->init;
    return init ? *init : (lds_init){0};
}

lds_param *lds_param_tied_to(const lds_param *param)
{
    return param->tied_to;
}

void *lds_param_data(const lds_param *param)
{
    return lds_param_root(param)->data;
}

lds_storage *lds_param_storage(const lds_param *param)
{
    return lds_storage_retain(lds_param_root(param)->storage);
}

void lds_param_place(lds_param *param, lds_storage *storage, void *data, lds_dtype dtype)
{
    lds_storage *old = param->storage;
    param->is_callers = param->is_callers && storage == old;
    param->storage = storage;
    param->data = data;
    param->dtype = (uint8_t)dtype;
    lds_storage_release(old);
}

static lds_status check_alignment(lds_dtype dtype, const void *data, lds_error *err)
{
    uint32_t element_nbytes = lds_dtype_bits(dtype) / 8;
    if (element_nbytes > 1 && (uintptr_t)data % element_nbytes)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected memory aligned to %u bytes, found it at %p",
                        element_nbytes, data);
    return LDS_OK;
}

static lds_status check_memory(const lds_param *param, const void *data, uint64_t nbytes, lds_error *err)
{
    uint64_t expected = lds_param_nbytes(param);
    if (nbytes != expected)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected %llu bytes of memory, found %llu",
                        (unsigned long long)expected, (unsigned long long)nbytes);
    return check_alignment(param->dtype, data, err);
}

lds_status lds_param_bind(lds_param *param, void *data, uint64_t nbytes,
                          void (*release)(void *ctx, void *data), void *ctx, lds_error *err)
{
    lds_param *root = lds_param_root(param);
    if (!data) {
        lds_param_place(root, NULL, NULL, root->dtype);
        return LDS_OK;
    }
    lds_storage *storage;
    lds_status status = check_memory(root, data, nbytes, err);
    if (!status)
        status = lds_storage_adopt(&storage, data, nbytes, release, ctx, err);
    if (status)
        return lds_error_context(err, status, NULL, param->name.text);
    lds_param_place(root, storage, data, root->dtype);
    root->is_callers = true;
    return LDS_OK;
}

static lds_status check_conversion(const lds_param *param, lds_dtype dtype, lds_error *err)
{
    if (param->dtype == dtype)
        return LDS_OK;
    if (!lds_dtype_is_float(dtype))
        return lds_fail(err, LDS_ERR_UNSUPPORTED, "expected a float dtype to convert to, found %s",
                        lds_dtype_name(dtype) ? lds_dtype_name(dtype) : "none");
    if (!lds_dtype_is_float(param->dtype))
        return lds_fail(err, LDS_ERR_UNSUPPORTED, "expected a float dtype to convert from, found %s",
                        lds_dtype_name(param->dtype));
    return LDS_OK;
}

lds_status lds_param_set_dtype(lds_param *param, lds_dtype dtype, const lds_change_options *options,
                               lds_error *err)
{
    lds_param *root = lds_param_root(param);
    if (root->dtype == dtype)
        return LDS_OK;
    lds_status status = check_conversion(root, dtype, err);
    if (status)
        return lds_error_context(err, status, NULL, param->name.text);
    return lds_refill_convert(root, 1, dtype, options, err);
}

static lds_status check_place(const lds_param *param, const lds_storage *storage, const void *data,
                              lds_dtype dtype, lds_error *err)
{
    uint64_t nbytes, begin = (uintptr_t)data - (uintptr_t)storage->data;
    LDS_TRY(check_conversion(param, dtype, err));
    LDS_TRY(lds_dtype_nbytes(&nbytes, dtype, param->numel, err));
    if (begin > storage->nbytes || nbytes > storage->nbytes - begin)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected %llu bytes in the storage, found %llu",
                        (unsigned long long)nbytes,
                        (unsigned long long)(begin > storage->nbytes ? 0 : storage->nbytes - begin));
    return check_alignment(dtype, data, err);
}

lds_status lds_param_set_storage(lds_param *param, lds_storage *storage, void *data, lds_dtype dtype,
                                 lds_error *err)
{
    lds_param *root = lds_param_root(param);
    lds_status status = check_place(root, storage, data, dtype, err);
    if (status)
        return lds_error_context(err, status, NULL, param->name.text);
    lds_param_place(root, lds_storage_retain(storage), data, dtype);
    root->is_callers = false;
    return LDS_OK;
}
