/* The safetensors format: a parser over bytes that somebody else has read. */
#ifndef LDS_CHECKPOINT_SAFETENSORS_H
#define LDS_CHECKPOINT_SAFETENSORS_H

#include "src/checkpoint/checkpoint.h"

enum {
    LDS_SAFETENSORS_HEADER_OFFSET = 8,  /* after its length */
    LDS_SAFETENSORS_START_NBYTES = 512, /* as much of a file's beginning as lds_safetensors_start looks at */
    LDS_SAFETENSORS_MAX_HEADER_NBYTES = 100000000
};

/*
 * How long the header is, by the first n bytes of a file of file_nbytes: all of them, or as many as
 * LDS_SAFETENSORS_START_NBYTES. Says what the file is if it is not safetensors. path is only looked at for
 * how it ends. The error is without the file's name.
 */
lds_status lds_safetensors_start(uint64_t *header_nbytes, const uint8_t *start, size_t n,
                                 uint64_t file_nbytes, const char *path, lds_error *err);

/*
 * Parse the header of checkpoint->files[file], in place, and append the tensors, metadata and names in it to
 * those of the checkpoint. Only the file's path, header and identity are looked at. On failure the checkpoint
 * holds some of it, and can only be closed. The error names the file and the tensor.
 */
lds_status lds_safetensors_parse(lds_checkpoint *checkpoint, uint32_t file, lds_error *err);

#endif
