/* Looking at an open checkpoint. */
#include "src/checkpoint/checkpoint.h"

const char *lds_checkpoint_path(const lds_checkpoint *checkpoint)
{
    return checkpoint->path;
}

const char *lds_checkpoint_dir(const lds_checkpoint *checkpoint)
{
    return checkpoint->dir;
}

size_t lds_checkpoint_n_components(const lds_checkpoint *checkpoint)
{
    return checkpoint->n_components;
}

const lds_checkpoint *lds_checkpoint_component(const lds_checkpoint *checkpoint, size_t i)
{
    return checkpoint->components[i].checkpoint;
}

const char *lds_checkpoint_component_name(const lds_checkpoint *checkpoint, size_t i)
{
    return checkpoint->components[i].name;
}

size_t lds_checkpoint_n_tensors(const lds_checkpoint *checkpoint)
{
    return checkpoint->n_tensors;
}

const lds_tensor *lds_checkpoint_tensor(const lds_checkpoint *checkpoint, size_t i)
{
    return &checkpoint->tensors[i];
}

const lds_tensor *lds_checkpoint_find(const lds_checkpoint *checkpoint, const char *name)
{
    uint32_t i = lds_names_find(&checkpoint->names, lds_name_of(name, strlen(name)));
    return i == LDS_NO_INDEX ? NULL : &checkpoint->tensors[i];
}

size_t lds_checkpoint_n_files(const lds_checkpoint *checkpoint)
{
    return checkpoint->n_files;
}

const char *lds_checkpoint_file(const lds_checkpoint *checkpoint, size_t i)
{
    return checkpoint->files[i].path;
}

size_t lds_checkpoint_n_metadata(const lds_checkpoint *checkpoint)
{
    return checkpoint->n_metadata;
}

const char *lds_checkpoint_metadata_key(const lds_checkpoint *checkpoint, size_t i)
{
    return checkpoint->metadata[i].key;
}

const char *lds_checkpoint_metadata_value(const lds_checkpoint *checkpoint, size_t i)
{
    return checkpoint->metadata[i].value;
}

lds_dtype lds_checkpoint_dtype(const lds_checkpoint *checkpoint)
{
    uint64_t nbytes[UINT8_MAX + 1] = {0};
    uint8_t most = LDS_DTYPE_NONE;
    for (size_t i = 0; i < checkpoint->n_tensors; i++) {
        const lds_tensor *tensor = &checkpoint->tensors[i];
        if (!lds_dtype_is_float(tensor->dtype))
            continue;
        nbytes[tensor->dtype] += tensor->nbytes;
        if (!most || nbytes[tensor->dtype] > nbytes[most])
            most = tensor->dtype;
    }
    return (lds_dtype)most;
}

const char *lds_tensor_name(const lds_tensor *tensor)
{
    return tensor->name.text;
}

lds_dtype lds_tensor_dtype(const lds_tensor *tensor)
{
    return (lds_dtype)tensor->dtype;
}

uint32_t lds_tensor_n_dims(const lds_tensor *tensor)
{
    return tensor->n_dims;
}

const uint64_t *lds_tensor_shape(const lds_tensor *tensor)
{
    return tensor->shape;
}

uint64_t lds_tensor_nbytes(const lds_tensor *tensor)
{
    return tensor->nbytes;
}

uint32_t lds_tensor_file(const lds_tensor *tensor)
{
    return tensor->file;
}

uint64_t lds_tensor_offset(const lds_tensor *tensor)
{
    return tensor->offset;
}
