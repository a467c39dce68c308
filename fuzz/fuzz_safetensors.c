/*
 * The safetensors parser over any header: the eight bytes before it, a header's length in a file, are here the
 * length of the data behind it. What is accepted keeps every promise that plan and load build on.
 */
#include "fuzz/fuzz.h"
#include "src/checkpoint/safetensors.h"

static uint64_t little_endian(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < LDS_SAFETENSORS_HEADER_OFFSET; i++)
        value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

static void check_tensors(const lds_checkpoint *checkpoint, uint64_t data_offset)
{
    uint64_t end = data_offset;
    FUZZ_CHECK(checkpoint->names.n == checkpoint->n_tensors);
    FUZZ_CHECK(checkpoint->metadata_names.n == checkpoint->n_metadata);
    for (size_t i = 0; i < checkpoint->n_tensors; i++) {
        const lds_tensor *tensor = &checkpoint->tensors[i];
        uint64_t numel = 1;
        for (uint32_t d = 0; d < tensor->n_dims; d++)
            numel *= tensor->shape[d];
        FUZZ_CHECK(tensor->offset == end && tensor->numel == numel);
        FUZZ_CHECK(tensor->nbytes * 8 == numel * lds_dtype_bits(tensor->dtype));
        FUZZ_CHECK(strlen(tensor->name.text) == tensor->name.nbytes);
        FUZZ_CHECK(lds_names_find(&checkpoint->names, tensor->name) == i);
        end += tensor->nbytes;
    }
    FUZZ_CHECK(end == checkpoint->files[0].identity.nbytes);
    for (size_t i = 0; i < checkpoint->n_metadata; i++)
        FUZZ_CHECK(checkpoint->metadata[i].key && checkpoint->metadata[i].value);
}

static void check_error(const lds_error *err, lds_status status)
{
    if (status == LDS_ERR_MEMORY) {
        FUZZ_CHECK(fuzz_allocation_failed());
        return;
    }
    FUZZ_CHECK(err->code == status && err->message[0]);
    FUZZ_CHECK(status == LDS_ERR_MALFORMED || status == LDS_ERR_TRUNCATED || status == LDS_ERR_UNSUPPORTED ||
               status == LDS_ERR_NOT_WEIGHTS);
}

void fuzz_one(uint8_t *data, size_t nbytes)
{
    lds_error err = LDS_ERROR_INIT;
    uint64_t header_nbytes;
    lds_status status = lds_safetensors_start(&header_nbytes, data, nbytes, nbytes, "fuzz.safetensors", &err);
    FUZZ_CHECK(status || header_nbytes <= nbytes - LDS_SAFETENSORS_HEADER_OFFSET);
    if (status)
        check_error(&err, status);
    if (nbytes < LDS_SAFETENSORS_HEADER_OFFSET)
        return;

    char path[] = "fuzz.safetensors";
    lds_file file = {.path = path, .fd = -1, .header = (char *)data + LDS_SAFETENSORS_HEADER_OFFSET};
    file.header_nbytes = nbytes - LDS_SAFETENSORS_HEADER_OFFSET;
    file.identity.nbytes = nbytes + (little_endian(data) & INT64_MAX);
    lds_checkpoint checkpoint = {.files = &file, .n_files = 1};
    status = lds_safetensors_parse(&checkpoint, 0, &err);
    if (status)
        check_error(&err, status);
    else
        check_tensors(&checkpoint, nbytes);
    lds_names_destroy(&checkpoint.names);
    lds_names_destroy(&checkpoint.metadata_names);
    free(checkpoint.tensors);
    free(checkpoint.metadata);
    free(file.dims);
}
