/*
 * loadstone.h - load the weights of a checkpoint into a network, each in the network's own dtype.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The flow has one direction:
 *
 *     checkpoint (headers only) --+
 *                                 +--> key map --> plan --> load --> report
 *     network (no storage) -------+
 *
 * The words, as this header uses them:
 *
 *     checkpoint   weights at rest: one file, a sharded set with its index, or a pipeline directory
 *     tensor       one entry of a checkpoint: name, dtype, shape, and its bytes in a file
 *     network      what is to be filled: an ordered set of parameters
 *     parameter    name, dtype, shape, init rule; has no storage until a load or an init gives it one
 *     storage      bytes with a reference count: a private mapping, a slice of an arena, or the caller's
 *     key map      rules that turn tensor names into parameter names
 *     plan         the list of transfers: this extent of this file to this range of this parameter
 *     report       what was loaded, missing, unexpected, mismatched, tied, initialised, and how long it took
 *
 * Conventions that hold for every function here:
 *
 *   - Functions that can fail return lds_status: 0, or one of the negative LDS_ERR_ codes. Their last
 *     argument is the caller's lds_error, which may be NULL. On failure, out-parameters are set to NULL or
 *     left as they were, as each function says, and nothing has to be freed.
 *   - The library never prints, never aborts on input, and keeps no error state of its own.
 *   - Names are UTF-8 and end in a NUL byte. Shapes are in elements, outermost dimension first; a scalar
 *     has no dimensions. Offsets and lengths whose names end in _offset and _nbytes are in bytes.
 *   - A pointer may be NULL only where a comment says so; elsewhere it is a mistake that the library need not
 *     notice. The path of a checkpoint or a model, which often comes from argv or getenv(), it does look at:
 *     LDS_ERR_ARGUMENT.
 *   - A function that frees or closes takes NULL and does nothing.
 *   - Threads: different handles may be used by different threads at once. One handle may be read by many
 *     threads at once, and written (any function that takes it as a non-const pointer) by one thread with no
 *     reader beside it. Exceptions are noted.
 *   - Pointers that a function returns belong to the handle that it was asked of, and live as long as that
 *     handle does, unless its comment says otherwise.
 */
#ifndef LOADSTONE_H
#define LOADSTONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LDS_VERSION_MAJOR 0
#define LDS_VERSION_MINOR 1
#define LDS_VERSION_PATCH 0

#if defined(__GNUC__) || defined(__clang__)
#define LDS_API __attribute__((visibility("default")))
#define LDS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define LDS_API
#define LDS_MUST_CHECK
#endif

/* The version of the library that is running, as "0.1.0"; a string constant. */
LDS_API const char *lds_version(void);

/* ---------------------------------------------------------------------------------------------------------
 *                                                  Errors
 * --------------------------------------------------------------------------------------------------------- */

/*
 * What a fallible function returns. The values never change their meaning; new ones are added in the gaps.
 * The group of a code is code / 10: -1 argument, -2 input and output, -3 malformed, -4 unsupported,
 * -5 mismatch, -6 memory, -7 cancelled.
 */
typedef int lds_status;

enum {
    LDS_OK = 0,
    LDS_ERR_ARGUMENT = -10,     /* an argument is out of range or contradicts another */
    LDS_ERR_NAME = -11,         /* no such name, or a name that is there already */
    LDS_ERR_IO = -20,           /* the operating system refused; os_errno says why */
    LDS_ERR_NOT_FOUND = -21,    /* no checkpoint, config or file at that path */
    LDS_ERR_CHANGED = -22,      /* a file changed or shrank between opening and the end of the load */
    LDS_ERR_MALFORMED = -30,    /* a file breaks its format's rules */
    LDS_ERR_TRUNCATED = -31,    /* a file ends before its header says it does */
    LDS_ERR_NOT_WEIGHTS = -32,  /* a git-lfs pointer, a web page, or another file with a weights' name */
    LDS_ERR_UNSUPPORTED = -40,  /* valid, but not something that this version can do */
    LDS_ERR_ARCHITECTURE = -41, /* a config of a class that is not known, or that names none */
    LDS_ERR_MISMATCH = -50, /* checkpoint and network do not fit: missing, unexpected or mismatched names */
    LDS_ERR_MEMORY = -60,   /* memory could not be had */
    LDS_ERR_CANCELLED = -70 /* the progress callback asked to stop */
};

#define LDS_NO_OFFSET UINT64_MAX

/*
 * Where a failed call explains itself. The struct is the caller's; nothing in it has to be freed.
 * Initialise with LDS_ERROR_INIT. A call that succeeds leaves it alone.
 *
 * The message is one line of the form "<file>: <tensor or field>: expected <x>, found <y> (at byte <n>)",
 * with the parts that apply. Long paths are shortened at their left, control characters in names become '?'.
 */
typedef struct lds_error {
    size_t struct_size;     /* sizeof(lds_error) */
    lds_status code;        /* the status that was returned */
    int os_errno;           /* errno of the call that failed, or 0 */
    uint64_t offset;        /* byte in the file that the error is about, or LDS_NO_OFFSET */
    uint32_t file_nbytes;   /* message begins with this many bytes of file path, or 0 if it names none */
    uint32_t tensor_nbytes; /* length of the tensor or field that follows the file and ": ", or 0 */
    char message[1024];     /* NUL-terminated UTF-8, in English in every locale */
} lds_error;

/* clang-format off */
#define LDS_ERROR_INIT {sizeof(lds_error), 0, 0, LDS_NO_OFFSET, 0, 0, {0}}
/* clang-format on */

/* The name of a status, "LDS_ERR_TRUNCATED"; a string constant, never NULL. */
LDS_API const char *lds_status_name(lds_status status);

/* ---------------------------------------------------------------------------------------------------------
 *                                             Dtypes and conversion
 * --------------------------------------------------------------------------------------------------------- */

/*
 * Element types. The values are pinned. Names and meanings are those of the safetensors format; LDS_F8_E4M3
 * is the OCP "fn" type (torch.float8_e4m3fn). LDS_F8_E8M0, LDS_F6_* and LDS_F4 are carried as bytes: they
 * are loaded and shown, never converted; F6 and F4 elements are packed without gaps.
 */
typedef enum lds_dtype {
    LDS_DTYPE_NONE = 0, /* no dtype: "as it is", where a function takes that */
    LDS_BOOL = 1,
    LDS_U8 = 2,
    LDS_I8 = 3,
    LDS_U16 = 4,
    LDS_I16 = 5,
    LDS_U32 = 6,
    LDS_I32 = 7,
    LDS_U64 = 8,
    LDS_I64 = 9,
    LDS_F16 = 16,
    LDS_BF16 = 17,
    LDS_F32 = 18,
    LDS_F64 = 19,
    LDS_C64 = 20, /* complex: two F32 */
    LDS_F8_E4M3 = 24,
    LDS_F8_E5M2 = 25,
    LDS_F8_E4M3FNUZ = 26,
    LDS_F8_E5M2FNUZ = 27,
    LDS_F8_E8M0 = 28,
    LDS_F6_E2M3 = 29,
    LDS_F6_E3M2 = 30,
    LDS_F4 = 31
} lds_dtype;

/* Bits that one element takes: 4 to 64; 0 if dtype is not one of the above. */
LDS_API uint32_t lds_dtype_bits(lds_dtype dtype);

/* The name as safetensors spells it, "BF16"; a string constant; NULL if dtype is not one of the above. */
LDS_API const char *lds_dtype_name(lds_dtype dtype);

/*
 * The dtype of a name, in any case: safetensors' ("BF16"), torch's and NumPy's ("bfloat16", "float8_e4m3fn",
 * with or without a leading "torch."), and the common short ones ("fp16", "half"). LDS_DTYPE_NONE if unknown.
 */
LDS_API lds_dtype lds_dtype_parse(const char *name);

/* True for the dtypes that lds_convert turns into one another: F64, F32, F16, BF16 and the four F8 floats. */
LDS_API bool lds_dtype_is_float(lds_dtype dtype);

/*
 * Convert n elements. src and dst must not overlap, except that they may be equal when both dtypes have the
 * same size. No alignment is needed. Does not allocate; safe from any thread; uses the calling thread alone.
 *
 * Rounds to nearest, ties to even. Subnormals are kept. What is too large becomes infinity where the type
 * has one and NaN where it has not (F8_E4M3 and the FNUZ types). NaN stays NaN and keeps its sign where the
 * type has signed NaNs. F64 reaches types narrower than F32 by way of F32, as in torch. Every result that
 * is not NaN equals torch.Tensor.to's (which since torch 2.12 has 448 where F8_E4M3 overflows). The thread's
 * rounding mode and flush-to-zero setting change nothing.
 *
 * LDS_ERR_UNSUPPORTED unless both are float dtypes or both are the same dtype, which is copied. LDS_ERR_ARGUMENT
 * for what is not a dtype, for NULL unless n is 0, and for packed elements (F6, F4) that do not fill whole bytes.
 */
LDS_API LDS_MUST_CHECK lds_status lds_convert(void *dst, lds_dtype dst_dtype, const void *src,
                                              lds_dtype src_dtype, size_t n, lds_error *err);

/*
 * Like lds_convert(), but for arrays that are larger than a cache: uses up to n_threads threads, at most 1024, 0
 * being as many as lds_load would, and fewer for what is not worth them; and writes past the cache what would not
 * stay in it. Memory that was written to before is much faster than memory that is new. Allocates a little for its
 * threads. Also LDS_ERR_ARGUMENT for more threads than that, LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_convert_parallel(void *dst, lds_dtype dst_dtype, const void *src,
                                                       lds_dtype src_dtype, size_t n, uint32_t n_threads,
                                                       lds_error *err);

/* ---------------------------------------------------------------------------------------------------------
 *                                                Checkpoints
 * --------------------------------------------------------------------------------------------------------- */

/* An open checkpoint: its headers, checked and indexed. No weight has been read. */
typedef struct lds_checkpoint lds_checkpoint;

/* One tensor of a checkpoint. Lives as long as its checkpoint. */
typedef struct lds_tensor lds_tensor;

typedef struct lds_checkpoint_options {
    size_t struct_size;
    const char *variant;  /* of the file names: "fp16" opens model.fp16.safetensors; default NULL, none */
    const char *revision; /* of a hub model: branch, tag or commit; default NULL, "main" */
} lds_checkpoint_options;

/* Set the defaults. size is sizeof *options as the caller compiled it. */
LDS_API void lds_checkpoint_options_init(lds_checkpoint_options *options, size_t size);

/*
 * Open the checkpoint at path, reading headers only. path is, in the order in which it is tried:
 *
 *   - a .safetensors file;
 *   - an index: a .json file with a "weight_map" that names the shards of a set;
 *   - a model directory: holds model, diffusion_pytorch_model or adapter_model .safetensors, whole or with an
 *     index, with the variant if one is asked for;
 *   - a pipeline directory: holds a model_index.json. Each component that has weights is then a checkpoint of
 *     its own, and the checkpoint itself has no tensors (see lds_checkpoint_n_components);
 *   - "org/name", where no such path exists: a model in the local hub cache: the first that is set of
 *     $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub, and else
 *     ~/.cache/huggingface/hub. Nothing is downloaded.
 *
 * The files stay open until the checkpoint is closed, so that what is loaded is what was opened; the process's
 * limit of open files (RLIMIT_NOFILE) must have room for all shards. options may be NULL. On failure *checkpoint
 * is NULL.
 *
 * Every rule of the safetensors format is checked
 * (https://github.com/huggingface/safetensors#format): LDS_ERR_MALFORMED names the rule, the tensor and the
 * byte; LDS_ERR_TRUNCATED and LDS_ERR_NOT_WEIGHTS say how the file was probably damaged and what to do.
 * Also LDS_ERR_NOT_FOUND, LDS_ERR_IO, LDS_ERR_UNSUPPORTED (a dtype or format that is not known), LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_checkpoint_open(lds_checkpoint **checkpoint, const char *path,
                                                      const lds_checkpoint_options *options, lds_error *err);

/*
 * Close the files and free the handle. Parameters that were loaded from it stay valid: a mapping outlives the
 * file descriptor, and even the file's name.
 */
LDS_API void lds_checkpoint_close(lds_checkpoint *checkpoint);

/* Where it was found: the file, index or directory that path led to. */
LDS_API const char *lds_checkpoint_path(const lds_checkpoint *checkpoint);

/* The directory that its files are in, which is where its config.json is to be looked for. */
LDS_API const char *lds_checkpoint_dir(const lds_checkpoint *checkpoint);

/*
 * The components of a pipeline, in the order of model_index.json; 0 for any other checkpoint. Components
 * without weights (schedulers, tokenizers) are left out. They are closed with the pipeline.
 * i is less than the count; the name is that of the component's folder ("text_encoder").
 */
LDS_API size_t lds_checkpoint_n_components(const lds_checkpoint *checkpoint);
LDS_API const lds_checkpoint *lds_checkpoint_component(const lds_checkpoint *checkpoint, size_t i);
LDS_API const char *lds_checkpoint_component_name(const lds_checkpoint *checkpoint, size_t i);

/* The tensors, in the order of their bytes in the files, file after file. i is less than the count. */
LDS_API size_t lds_checkpoint_n_tensors(const lds_checkpoint *checkpoint);
LDS_API const lds_tensor *lds_checkpoint_tensor(const lds_checkpoint *checkpoint, size_t i);

/* The tensor of that name, or NULL. */
LDS_API const lds_tensor *lds_checkpoint_find(const lds_checkpoint *checkpoint, const char *name);

/* The weight files. i is less than the count; the path is as it was opened. */
LDS_API size_t lds_checkpoint_n_files(const lds_checkpoint *checkpoint);
LDS_API const char *lds_checkpoint_file(const lds_checkpoint *checkpoint, size_t i);

/*
 * The __metadata__ of the files: pairs of strings, in file order; where shards repeat a key, the first
 * shard's value. i is less than the count.
 */
LDS_API size_t lds_checkpoint_n_metadata(const lds_checkpoint *checkpoint);
LDS_API const char *lds_checkpoint_metadata_key(const lds_checkpoint *checkpoint, size_t i);
LDS_API const char *lds_checkpoint_metadata_value(const lds_checkpoint *checkpoint, size_t i);

/*
 * The float dtype that most of the checkpoint's bytes have, or LDS_DTYPE_NONE if it has no floats: what a
 * network should be built in to be loaded without a conversion.
 */
LDS_API lds_dtype lds_checkpoint_dtype(const lds_checkpoint *checkpoint);

LDS_API const char *lds_tensor_name(const lds_tensor *tensor);
LDS_API lds_dtype lds_tensor_dtype(const lds_tensor *tensor);
LDS_API uint32_t lds_tensor_n_dims(const lds_tensor *tensor);
LDS_API const uint64_t *lds_tensor_shape(const lds_tensor *tensor); /* lds_tensor_n_dims values */
LDS_API uint64_t lds_tensor_nbytes(const lds_tensor *tensor);
LDS_API uint32_t lds_tensor_file(const lds_tensor *tensor);   /* index for lds_checkpoint_file */
LDS_API uint64_t lds_tensor_offset(const lds_tensor *tensor); /* from the beginning of the file */

/* What to take of one dimension: count elements from start on, every step-th; backwards if step is negative. */
typedef struct lds_slice {
    uint64_t start;
    uint64_t count; /* may be 0; then start and step do not matter */
    int64_t step;   /* not 0, unless count is 1 */
} lds_slice;

/*
 * Read a tensor, or a rectangle of it, into the caller's memory: row-major, as dtype, LDS_DTYPE_NONE being the
 * tensor's own. slices has lds_tensor_n_dims values; NULL takes all. nbytes must be that of the result; data
 * needs no alignment. Parts of a tensor that are 12 KiB or more apart are read without what is between them, many
 * at a time, so that a column of a wide matrix costs a page a row; what is closer together costs less to read
 * whole. Uses the calling thread alone; to read many tensors fast there is lds_load. checkpoint is the one that
 * the tensor was asked of.
 *
 * LDS_ERR_ARGUMENT for a slice that is not within the tensor, another nbytes, data NULL unless nbytes is 0, or
 * another checkpoint's tensor; LDS_ERR_UNSUPPORTED for a conversion that does not exist or a part of a packed
 * tensor (F6, F4); LDS_ERR_CHANGED if the file was changed or cut since it was opened; LDS_ERR_IO, LDS_ERR_MEMORY.
 * On failure the contents of data are undefined.
 */
LDS_API LDS_MUST_CHECK lds_status lds_tensor_read(const lds_checkpoint *checkpoint, const lds_tensor *tensor,
                                                  const lds_slice *slices, lds_dtype dtype, void *data,
                                                  uint64_t nbytes, lds_error *err);

/* ---------------------------------------------------------------------------------------------------------
 *                                             Memory for weights
 * --------------------------------------------------------------------------------------------------------- */

/*
 * Where the bytes of parameters come from, for callers who want pinned, shared or device-visible memory.
 * The library's own small structures do not use it. Both functions may be called from any thread, one call
 * at a time for one load; free is called once for each block, when the last parameter in it lets go, with the
 * values that alloc got and gave.
 *
 * alloc returns nbytes (never 0) of memory at a multiple of alignment (a power of two, at most 2 MiB), or
 * NULL, which fails the load with LDS_ERR_MEMORY; a block that is not aligned so is freed, and fails it with
 * LDS_ERR_ARGUMENT. The contents may be anything. One block holds many parameters.
 */
typedef struct lds_allocator {
    void *ctx;
    void *(*alloc)(void *ctx, size_t nbytes, size_t alignment);
    void (*free)(void *ctx, void *data, size_t nbytes);
} lds_allocator;

/* A counted reference to the memory that a parameter is in. */
typedef struct lds_storage lds_storage;

/* Give one reference back; the last one unmaps or frees the memory. Safe from any thread. */
LDS_API void lds_storage_release(lds_storage *storage);

/*
 * Bytes that giving this reference back would free: all of the storage if there is no other reference, and 0 if there
 * is, or storage is NULL. Gigabytes take long to free, so a caller may want to let go of its locks first. Other threads
 * may change the answer at any time.
 */
LDS_API uint64_t lds_storage_freed_nbytes(const lds_storage *storage);

/*
 * Memory that is kept between loads. Getting pages from the kernel, which clears each, is most of the time of a
 * load that converts; a program that loads one model after the other, in the place of the one before, need not
 * pay it again. A load with a pool (options->pool) takes what it needs from there: pages that are idle first,
 * whatever arenas they were parts of, then fresh ones. They go back when the last parameter in them lets go,
 * contents and all.
 *
 * A pool may be used by any number of threads, and loads, at once, and in every function here.
 */
typedef struct lds_pool lds_pool;

typedef struct lds_pool_stats {
    size_t struct_size;
    uint64_t idle_nbytes; /* kept, in use by nobody */
    uint64_t lent_nbytes; /* in use by parameters */
} lds_pool_stats;

/*
 * Make an empty pool that keeps at most max_nbytes idle, 0 for any number; the rest goes back to the system. On
 * failure, which is LDS_ERR_MEMORY, *pool is NULL.
 */
LDS_API LDS_MUST_CHECK lds_status lds_pool_create(lds_pool **pool, uint64_t max_nbytes, lds_error *err);

/* Give idle memory back to the system until at most keep_nbytes are left. */
LDS_API void lds_pool_trim(lds_pool *pool, uint64_t keep_nbytes);

/* Fill *stats; stats->struct_size must be set. */
LDS_API void lds_pool_get_stats(lds_pool *pool, lds_pool_stats *stats);

/*
 * Give the handle up. Idle memory goes back to the system now. Parameters stay valid: the memory that they are in
 * goes back when they let go of it.
 */
LDS_API void lds_pool_release(lds_pool *pool);

/* ---------------------------------------------------------------------------------------------------------
 *                                         Networks and their parameters
 * --------------------------------------------------------------------------------------------------------- */

typedef struct lds_network lds_network;

/* One parameter of a network. Lives as long as its network, whatever happens to its storage. */
typedef struct lds_param lds_param;

/*
 * How far a call has come. For a load the bytes are the checkpoint's, or those of a cache's entry where that is mapped
 * in its place; pages that are left to be read on first use do not count. For a change (lds_change_options) they are
 * those of the new values.
 */
typedef struct lds_progress {
    size_t struct_size;
    uint64_t done_nbytes;  /* bytes that are in place */
    uint64_t total_nbytes; /* bytes that the call brings in or writes */
    double seconds;        /* since the call began */
} lds_progress;

/* How lds_network_init, lds_network_to and lds_param_set_dtype, which may take seconds, go about it. */
typedef struct lds_change_options {
    size_t struct_size;
    /*
     * Called from the thread that made the call, about 20 times a second while values are written, and once when all
     * are; not at all if there are none to write. Anything but 0 cancels: the call returns LDS_ERR_CANCELLED soon,
     * does not call again, and has changed nothing. It may not use the network. Default NULL.
     */
    int (*progress)(void *ctx, const lds_progress *progress);
    void *progress_ctx;
} lds_change_options;

/* Set the defaults. size is sizeof *options as the caller compiled it. */
LDS_API void lds_change_options_init(lds_change_options *options, size_t size);

/*
 * How a parameter that the checkpoint lacks gets its values. The meanings of the last four, gain and fans
 * included, are those of torch.nn.init; fans are taken from the parameter's shape.
 */
typedef enum lds_init_kind {
    LDS_INIT_NONE = 0, /* it cannot be initialised: it has to come from a checkpoint */
    LDS_INIT_ZEROS = 1,
    LDS_INIT_ONES = 2,
    LDS_INIT_CONSTANT = 3,         /* a */
    LDS_INIT_NORMAL = 4,           /* mean a, standard deviation b */
    LDS_INIT_TRUNC_NORMAL = 5,     /* mean a, standard deviation b, cut at lo and hi */
    LDS_INIT_UNIFORM = 6,          /* lo to hi, hi excluded */
    LDS_INIT_ARANGE = 7,           /* a, a + b, a + 2 b, ... along the last dimension; also for integers */
    LDS_INIT_XAVIER_UNIFORM = 10,  /* gain a */
    LDS_INIT_XAVIER_NORMAL = 11,   /* gain a */
    LDS_INIT_KAIMING_UNIFORM = 12, /* negative slope a of the leaky_relu that follows; fan in */
    LDS_INIT_KAIMING_NORMAL = 13   /* negative slope a of the leaky_relu that follows; fan in */
} lds_init_kind;

typedef struct lds_init {
    lds_init_kind kind;
    double a, b, lo, hi; /* as the kind says, finite; others are ignored */
} lds_init;

/* The name of a kind, as manifests have it: "trunc_normal"; a string constant; NULL if it is not a kind. */
LDS_API const char *lds_init_kind_name(lds_init_kind kind);

/*
 * A network from a checkpoint: one parameter for each tensor, under the tensor's own name, in checkpoint
 * order. Float tensors become dtype; LDS_DTYPE_NONE keeps the dtype of each. Other tensors keep theirs.
 * The network does not refer to the checkpoint afterwards. On failure *network is NULL: LDS_ERR_UNSUPPORTED for a
 * pipeline, LDS_ERR_ARGUMENT for another dtype than a float, LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_network_from_checkpoint(lds_network **network,
                                                              const lds_checkpoint *checkpoint,
                                                              lds_dtype dtype, lds_error *err);

/*
 * A network from the config.json of a model directory (or of "org/name" in the local hub cache), built
 * without allocating or initialising anything. Names, order, shapes, dtypes, persistent buffers and ties are
 * those of the framework's own class, as docs/architectures.md says; modules that the class keeps in float32
 * stay in it. Known are the diffusers classes CogVideoXTransformer3DModel and AutoencoderKLCogVideoX and the
 * transformers classes T5EncoderModel, T5Model and T5ForConditionalGeneration. dtype is that of all other
 * floats; LDS_DTYPE_NONE is what the class has before it is told of any: F32, except for a few tables.
 *
 * On failure *network is NULL. LDS_ERR_ARCHITECTURE if the config's class is not known or it names none, which
 * leaves the caller free to go by the checkpoint's own names (lds_network_from_checkpoint). LDS_ERR_UNSUPPORTED if
 * the class is known and the config has a field that this version does not understand: it might change the
 * structure. LDS_ERR_MALFORMED if the config breaks a rule. Also LDS_ERR_ARGUMENT for another dtype than a float,
 * LDS_ERR_NOT_FOUND, LDS_ERR_IO, LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_network_from_config(lds_network **network, const char *dir,
                                                          lds_dtype dtype, lds_error *err);

/*
 * A network from a manifest: nbytes of JSON at json, an array of objects with "name", "dtype", "shape", and
 * optionally "init" (an object with "kind" and the fields of lds_init, or one of the kinds as a string) and
 * "tied_to" (the name of an earlier parameter; then dtype and shape may be left out). docs/manifest.md has the
 * whole format. json is only read, and not kept. file is the name to use in messages. On failure *network is NULL:
 * LDS_ERR_MALFORMED names the parameter, the field and the byte; LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_network_from_manifest(lds_network **network, const char *json,
                                                            size_t nbytes, const char *file, lds_error *err);

/* Free the network and its parameters; storage that lds_param_storage gave out lives on. */
LDS_API void lds_network_free(lds_network *network);

/* The parameters in their order. i is less than the count. */
LDS_API size_t lds_network_n_params(const lds_network *network);
LDS_API lds_param *lds_network_param(const lds_network *network, size_t i);

/* The parameter of that name, tied ones included, or NULL. */
LDS_API lds_param *lds_network_find(const lds_network *network, const char *name);

/*
 * The class that the network was built from ("T5EncoderModel"), or NULL for one that did not come from a
 * config.
 */
LDS_API const char *lds_network_architecture(const lds_network *network);

/*
 * Give every parameter that has no storage its initial values. Values depend on the seed, the parameter's
 * name and the element's index alone: not on thread count, order, or what else is initialised.
 * Random values are drawn in F32 and rounded to the parameter's dtype. The new values share one storage. Uses all
 * the threads that lds_load would. options may be NULL. On LDS_ERR_MEMORY and LDS_ERR_CANCELLED nothing has changed.
 * Parameters without an init rule are left without storage and make this LDS_ERR_MISMATCH, naming the first;
 * the others are initialised all the same.
 */
LDS_API LDS_MUST_CHECK lds_status lds_network_init(lds_network *network, uint64_t seed,
                                                   const lds_change_options *options, lds_error *err);

/*
 * Make every float parameter dtype, as lds_param_set_dtype does; those that have it already are not touched.
 * All or none: on failure nothing has changed. So the old and the new values of all that change exist at the
 * same time; to keep the peak down, change one parameter after the other instead. The new values share one
 * storage. Uses all the threads that lds_load would. options may be NULL. LDS_ERR_UNSUPPORTED if dtype is not a
 * float, LDS_ERR_MEMORY, LDS_ERR_CANCELLED.
 */
LDS_API LDS_MUST_CHECK lds_status lds_network_to(lds_network *network, lds_dtype dtype,
                                                 const lds_change_options *options, lds_error *err);

LDS_API const char *lds_param_name(const lds_param *param);
LDS_API lds_dtype lds_param_dtype(const lds_param *param);
LDS_API uint32_t lds_param_n_dims(const lds_param *param);
LDS_API const uint64_t *lds_param_shape(const lds_param *param); /* lds_param_n_dims values */
LDS_API uint64_t lds_param_numel(const lds_param *param);
LDS_API uint64_t lds_param_nbytes(const lds_param *param);
LDS_API lds_init lds_param_init(const lds_param *param);

/*
 * The parameter whose storage this one shares, or NULL if it is not tied. All functions that take a tied
 * parameter, those that change it too, speak of the dtype, values and init rule of that one.
 */
LDS_API lds_param *lds_param_tied_to(const lds_param *param);

/*
 * The parameter's elements, row-major, aligned to the element size at least; NULL while it has no storage. The
 * memory may be written to: a mapped file is mapped privately and does not change. The pointer is good until
 * the parameter's dtype or storage is changed, or the network freed; lds_param_storage makes it last.
 */
LDS_API void *lds_param_data(const lds_param *param);

/*
 * A new reference to the storage that lds_param_data points into, or NULL if there is none. Keeps the memory
 * alive after the network has gone, until lds_storage_release.
 */
LDS_API LDS_MUST_CHECK lds_storage *lds_param_storage(const lds_param *param);

/*
 * Change a float parameter's dtype in place: the values are converted into new storage, which takes the place
 * of the old one. The parameter keeps its identity, name and place; parameters tied to it follow. Without
 * storage only the dtype changes; one that lies in the caller's memory moves to the library's. options may be NULL.
 * On failure nothing has changed: LDS_ERR_UNSUPPORTED if one of the dtypes is not a float and they differ,
 * LDS_ERR_MEMORY, LDS_ERR_CANCELLED.
 */
LDS_API LDS_MUST_CHECK lds_status lds_param_set_dtype(lds_param *param, lds_dtype dtype,
                                                      const lds_change_options *options, lds_error *err);

/*
 * Put the parameter into the caller's memory: nbytes must be lds_param_nbytes and data aligned to the element
 * size. The contents count as the parameter's values. A later load writes into this very memory instead of
 * taking new storage; if it fails after it began to write, the parameter is without storage. release, which
 * may be NULL, is called with ctx and data when the last reference has gone, from whichever thread drops it.
 * data = NULL takes the storage away. On failure nothing has changed and release is not called: LDS_ERR_ARGUMENT
 * for another size or alignment, LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_param_bind(lds_param *param, void *data, uint64_t nbytes,
                                                 void (*release)(void *ctx, void *data), void *ctx,
                                                 lds_error *err);

/*
 * Put the parameter into a storage, of which it takes a reference of its own: back into one that it was in, or
 * into that of another parameter, as lds_param_storage, lds_param_data and lds_param_dtype said. Unlike memory
 * that was bound it is left as it is by a later load, which takes new storage. LDS_ERR_UNSUPPORTED if dtype is not
 * the parameter's and one of them is not a float, LDS_ERR_ARGUMENT if the values would not lie in the storage at
 * data, or not be aligned; nothing has changed then.
 */
LDS_API LDS_MUST_CHECK lds_status lds_param_set_storage(lds_param *param, lds_storage *storage, void *data,
                                                        lds_dtype dtype, lds_error *err);

/* ---------------------------------------------------------------------------------------------------------
 *                                       Building a network of one's own
 * --------------------------------------------------------------------------------------------------------- */

/*
 * A builder collects parameters. It carries two things that nest, the name scope and the default dtype, and
 * remembers its first error: after that, calls do nothing, and lds_builder_finish reports it. So code that
 * describes an architecture needs no error checks and reads like the figure of its paper.
 */
typedef struct lds_builder lds_builder;

/* A place in the nesting of scopes and default dtypes, to come back to. */
typedef uint32_t lds_scope;

/*
 * dtype is the default dtype to begin with. On failure *builder is NULL: LDS_ERR_ARGUMENT if it is no dtype,
 * LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_builder_new(lds_builder **builder, lds_dtype dtype, lds_error *err);

/*
 * Open a name scope: until it is left, "<format>." goes before every name. format is printf's; what prints
 * nothing adds nothing to names. Returns what lds_builder_leave takes.
 */
LDS_API lds_scope lds_builder_enter(lds_builder *builder, const char *format, ...)
#if defined(__GNUC__) || defined(__clang__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Make dtype the default until the scope is left. Returns what lds_builder_leave takes. */
LDS_API lds_scope lds_builder_push_dtype(lds_builder *builder, lds_dtype dtype);

/*
 * Go back to the name scope and default dtype that were there when scope was opened, whatever has been opened
 * since and not left, by code that returned early for example. It does so after an error, too. A scope that
 * has been left already becomes the builder's error.
 */
LDS_API void lds_builder_leave(lds_builder *builder, lds_scope scope);

/* The default dtype of the place where the builder is. */
LDS_API lds_dtype lds_builder_dtype(const lds_builder *builder);

/*
 * Add a parameter. name is relative to the scope. dtype LDS_DTYPE_NONE is the default dtype. shape has n_dims
 * values and is copied; n_dims is at most 64. init NULL is LDS_INIT_NONE. An empty name in a scope (outside of
 * scopes it is a name, as in checkpoints), one that is there already, a product of dimensions that overflows, an
 * init rule whose values the dtype cannot have and the like become the builder's error.
 */
LDS_API void lds_builder_add(lds_builder *builder, const char *name, lds_dtype dtype, uint32_t n_dims,
                             const uint64_t *shape, const lds_init *init);

/*
 * Add a name that shares the storage, dtype and shape of another parameter. name is relative to the scope,
 * target is the full name of a parameter added before; if that is tied itself, this one is tied to what it is
 * tied to. Neither has to be in the checkpoint as long as the other is.
 */
LDS_API void lds_builder_tie(lds_builder *builder, const char *name, const char *target);

/* The builder's first error so far, LDS_OK if there is none. */
LDS_API lds_status lds_builder_status(const lds_builder *builder);

/*
 * Make the network and free the builder, also on failure. On failure *network is NULL and the error is the
 * first one that the builder met.
 */
LDS_API LDS_MUST_CHECK lds_status lds_builder_finish(lds_network **network, lds_builder *builder,
                                                     lds_error *err);

/* Free a builder that will not be finished. */
LDS_API void lds_builder_free(lds_builder *builder);

/* ---------------------------------------------------------------------------------------------------------
 *                                                  Key maps
 * --------------------------------------------------------------------------------------------------------- */

/*
 * Rules that turn the names and shapes of tensors into those of parameters. An exact rule that names the
 * tensor decides alone. Otherwise all prefix and pattern rules are applied, in the order in which they were
 * added, each to what the ones before it made; a rule that drops ends it. Immutable while a plan is made.
 */
typedef struct lds_keymap lds_keymap;

typedef enum lds_match {
    LDS_MATCH_EXACT = 0,  /* pattern is the whole name */
    LDS_MATCH_PREFIX = 1, /* pattern begins the name; only the prefix is replaced */
    LDS_MATCH_REGEX = 2   /* pattern is a PCRE2 regular expression, found anywhere in the name */
} lds_match;

typedef struct lds_keymap_rule {
    size_t struct_size;
    lds_match match;
    const char *pattern;
    const char *to;         /* what replaces the name, the prefix or each match of a pattern, where $1 and
                               ${name} are captures and $$ is a dollar sign; NULL keeps the name */
    bool drop;              /* the tensor is not loaded, and not reported as unexpected */
    int32_t add_dim;        /* a dimension of 1 is inserted here, negative from the end; default LDS_NO_DIM */
    const int64_t *reshape; /* new shape of the same number of elements, one dimension may be -1; or NULL */
    uint32_t n_reshape;     /* number of dimensions in reshape */
} lds_keymap_rule;

#define LDS_NO_DIM INT32_MIN

/* Set the defaults. size is sizeof *rule as the caller compiled it. */
LDS_API void lds_keymap_rule_init(lds_keymap_rule *rule, size_t size);

/* An empty key map, which keeps every name. On failure *keymap is NULL. */
LDS_API LDS_MUST_CHECK lds_status lds_keymap_new(lds_keymap **keymap, lds_error *err);

/*
 * Add a rule; it is copied. LDS_ERR_ARGUMENT if the pattern does not compile, with the position in it, if "to"
 * refers to a group that the pattern has not, or if the rule contradicts itself: one that drops does nothing
 * else, and one that reshapes adds no dimension. LDS_ERR_NAME for a second exact rule for a name. On failure
 * the key map is as it was.
 */
LDS_API LDS_MUST_CHECK lds_status lds_keymap_add(lds_keymap *keymap, const lds_keymap_rule *rule,
                                                 lds_error *err);

/*
 * A key map from nbytes of JSON at json: {"rules": [{"prefix": "model.", "to": ""}, ...]}, each rule an object
 * with one of "exact", "prefix", "regex" and any of "to", "drop", "add_dim", "reshape". docs/keymap.md has the
 * whole format. json is only read, and not kept. file is the name to use in messages. On failure *keymap is NULL:
 * LDS_ERR_MALFORMED names the rule, the field and the byte; LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_keymap_from_json(lds_keymap **keymap, const char *json, size_t nbytes,
                                                       const char *file, lds_error *err);

LDS_API void lds_keymap_free(lds_keymap *keymap);

/*
 * Like lds_network_from_checkpoint(), but under the names and with the shapes that keymap makes of the tensors,
 * and without those that it drops: the network that a load with this key map fits. keymap is not kept. Also
 * LDS_ERR_NAME if two tensors lead to one name; LDS_ERR_MISMATCH if a shape cannot become what a rule says.
 */
LDS_API LDS_MUST_CHECK lds_status lds_network_from_keymap(lds_network **network,
                                                          const lds_checkpoint *checkpoint,
                                                          const lds_keymap *keymap, lds_dtype dtype,
                                                          lds_error *err);

/* ---------------------------------------------------------------------------------------------------------
 *                                               Plans and loads
 * --------------------------------------------------------------------------------------------------------- */

/*
 * How the bytes come in. A mapped parameter is the file itself: who writes to the file, or cuts it, after the
 * load changes the weights or makes using them a SIGBUS. Replacing the file by renaming does no harm.
 *
 * Where the system does not offer what was asked for (no io_uring, no direct reads on a file system), the next
 * best is used, and the report says why.
 */
typedef enum lds_io {
    LDS_IO_AUTO = 0, /* map what needs no conversion and lies on a local file system, read the rest in the way
                         that suits its file system, its size and the page cache; with an allocator, read
                         everything into its memory. What is converted and in the page cache is not copied:
                         whoever opens the file for writing waits for a block then, by a lease of fcntl(2),
                         and SIGBUS is handled during the load, should a page be gone; other causes of that
                         signal are passed on to the handler before, and a handler that is put in during
                         a load has to do the same */
    LDS_IO_MAP = 1,  /* map what needs no conversion, on any file system; read the rest as AUTO does */
    LDS_IO_READ = 2, /* read everything into new memory, by pread(2) */
    LDS_IO_URING = 3, /* the same by io_uring, through the page cache, many reads at once */
    LDS_IO_DIRECT = 4 /* the same past the page cache: what is in it is neither used nor pushed out */
} lds_io;

/*
 * When each thread of one or several loads (options->trace) was reading, waiting, converting or getting pages, for
 * chrome://tracing and ui.perfetto.dev. Loads that run at the same time may share one.
 */
typedef struct lds_trace lds_trace;

/* An empty trace. On failure *trace is NULL. */
LDS_API LDS_MUST_CHECK lds_status lds_trace_new(lds_trace **trace, lds_error *err);

/*
 * Write it to a file, in the JSON of the Trace Event Format: a process for each load, a lane for each worker and
 * one for the phases of the load, up to that in which it failed or was cancelled. It replaces nothing but an earlier
 * trace or an empty file, and these only when it is whole: it is written beside them and renamed. A trace of no load
 * replaces nothing, which is no error. A pipe or a terminal is written to as it is. LDS_ERR_ARGUMENT if another file
 * is there, LDS_ERR_IO; both name it.
 */
LDS_API LDS_MUST_CHECK lds_status lds_trace_write(lds_trace *trace, const char *path, lds_error *err);

/*
 * The error that lds_trace_write() would give for that path, as far as it can be told before the loads. What is there
 * stays as it is; a pipe is not opened.
 */
LDS_API LDS_MUST_CHECK lds_status lds_trace_check(const char *path, lds_error *err);

/* No load may be using it. */
LDS_API void lds_trace_free(lds_trace *trace);

typedef struct lds_load_options {
    size_t struct_size;
    lds_dtype dtype;             /* of all float parameters; default LDS_DTYPE_NONE, each parameter's own */
    const char *const *keep_f32; /* globs of names of float parameters that become F32 whatever dtype says */
    size_t n_keep_f32;           /* default 0 */
    const char *const *names;    /* names or globs of the parameters to load; the others are not touched. Each
                                    must match at least one */
    size_t n_names;              /* default 0: all */
    const lds_keymap *keymap;    /* from tensor names to parameter names; default NULL: the same names */
    bool strict;                 /* missing or unexpected names are an error; default true */
    bool ignore_mismatched;      /* a tensor of another shape counts as missing; default false: an error */
    bool init_missing;           /* initialise what is missing, when not strict; default true */
    bool lazy;                   /* leave mapped pages to be read on first use; default false: only where
                                    more is mapped than there is free memory, which the report's fallback says */
    uint64_t seed;               /* of init_missing; default 0 */
    lds_io io;                   /* default LDS_IO_AUTO */
    uint32_t n_threads;          /* 1 to 1024; default 0: the affinity mask, but no more than an even
                                    share, among the local ranks, of all processors and of the cgroup's quota.
                                    Loads that run at once share these threads */
    uint64_t window_nbytes;      /* most memory for what is being read and converted, at least 64 KiB for each
                                    thread; default 0: a quarter of what is read, at least 64 MiB, or 6 MiB a
                                    thread for direct reads from a disk; and at most 128 MiB */
    const lds_allocator *allocator; /* memory for parameters that are not mapped; default NULL: from the
                                       system, in huge pages. The struct is copied, ctx is not */
    /*
     * Called from the thread that called lds_load, about 20 times a second and once at the end, also while
     * reads stall, and while a cache's entry is brought to the disk, which done_nbytes does not count.
     * Anything but 0 cancels: the load returns LDS_ERR_CANCELLED, and does not call again. It returns at
     * once whatever the disk does, but waits for writes to a cache's entry, and for reads that are under way
     * into memory of the caller's (lds_param_bind, allocator). An entry is then whole, or not there; the kernel
     * may go on with what the disk has not taken yet.
     */
    int (*progress)(void *ctx, const lds_progress *progress);
    void *progress_ctx;
    lds_pool *pool; /* memory for parameters that are not mapped comes from there; default NULL. Not with an
                        allocator or hugetlb */
    /*
     * Take that memory from the huge pages of 2 MiB that the system has reserved, or fail with LDS_ERR_MEMORY if
     * too few are free, or left of a control group's limit. Default false: huge pages where the kernel has some
     * at hand.
     */
    bool hugetlb;
    /*
     * Begin even if free memory, or what the control group's limit leaves, has no room for the load. Default
     * false: it is then LDS_ERR_MEMORY before anything is taken, and no case for the kernel's killer. Loads that
     * need less than 16 MiB are not looked at, nor those with an allocator or hugetlb.
     */
    bool overcommit;
    /*
     * A folder where a load that converts keeps its result, which the next load of the same maps instead; "" is
     * loadstone/ in the user's cache folder ($XDG_CACHE_HOME, ~/.cache). Default NULL: none. "The same" means these
     * files, unchanged, into the same parameters of the same dtypes. An entry is a safetensors file; it appears
     * when it is whole and on the disk, and what is wrong with a cache never fails a load: the report says it.
     * The load returns when the entry is on the disk. What is bound to the caller's memory is not kept. Who may
     * write to the folder is trusted with what is in it, but in one that everybody may write to only entries of
     * the user and of root are used. Everybody may read an entry, or the members of a group, who may read all files
     * of the checkpoint; else only the user. Not with an allocator, or an io that forbids mapping.
     */
    const char *cache;
    /*
     * Most that the folder's entries may have together, whoever writes them. When a new one is there, those go
     * that were used least recently; earlier only where the disk is full. Those that are being written may have
     * as much once more. Default 0: 64 GiB.
     */
    uint64_t cache_nbytes;
    lds_trace *trace; /* notes when each thread did what; default NULL */
    /*
     * Leave in the page cache what was read through it, and read through it, unless io is LDS_IO_DIRECT. Default
     * false: what was not there before is let go of, and what was stays.
     */
    bool keep_cache;
    /*
     * First ask the kernel to read everything into the page cache, unless it is larger than the memory that is
     * free, or io is LDS_IO_DIRECT; of use with lazy, and to loads that follow. Implies keep_cache. Default false.
     */
    bool prefetch;
} lds_load_options;

/* Set the defaults. size is sizeof *options as the caller compiled it. */
LDS_API void lds_load_options_init(lds_load_options *options, size_t size);

/*
 * Whether the whole name matches the glob, as in keep_f32 and names: * is any run of characters, dots included,
 * ? any one character, [abc], [a-z] and [!a-z] one of a set; everything else stands for itself, also a [ without
 * a ]. There is no escape but a set of one, [*]. As fnmatch.fnmatchcase in Python. Characters are those of UTF-8.
 */
LDS_API bool lds_glob_match(const char *glob, const char *name);

/* What was loaded, and what did not fit. */
typedef struct lds_report lds_report;

/*
 * A list of transfers from a checkpoint to a network: what lds_load would do, to be looked at first. Making
 * one reads no weights and allocates none. It refers to both, which must outlive it, unchanged.
 */
typedef struct lds_plan lds_plan;

typedef struct lds_plan_stats {
    size_t struct_size;
    size_t n_transfers;
    uint64_t read_nbytes;    /* bytes that will be read from the files into memory */
    uint64_t mapped_nbytes;  /* bytes that will be mapped in place */
    uint64_t written_nbytes; /* bytes of new or the caller's memory that will be filled */
    uint64_t peak_nbytes;    /* most memory that the load takes at once: written + what is on its way */
} lds_plan_stats;

/* One transfer of a plan: a run of elements that lie together on both sides. */
typedef struct lds_transfer {
    size_t struct_size;
    const lds_tensor *tensor;
    const lds_param *param;
    uint64_t file_offset;  /* of the first byte, in lds_tensor_file(tensor) */
    uint64_t param_offset; /* of the first byte, in the parameter */
    uint64_t n_elements;
    lds_dtype src_dtype;
    lds_dtype dst_dtype; /* the dtype that the parameter will have */
    bool mapped;         /* in place: nothing is copied */
} lds_transfer;

/*
 * Plan to load checkpoint into network. options may be NULL for the defaults.
 *
 * *report, unless report is NULL, is the plan's side of a report (what would be missing, unexpected,
 * mismatched, tied and initialised), to be freed by the caller; it is made also when the result is
 * LDS_ERR_MISMATCH, and is NULL after any other failure. On failure *plan is NULL.
 *
 * LDS_ERR_MISMATCH if the two do not fit, by the rules of options->strict and ignore_mismatched, with the
 * counts and the first names; LDS_ERR_UNSUPPORTED for a conversion that does not exist (to or from an
 * integer); LDS_ERR_NAME if two tensors lead to one parameter; LDS_ERR_ARGUMENT, LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_plan_new(lds_plan **plan, lds_network *network,
                                               const lds_checkpoint *checkpoint,
                                               const lds_load_options *options, lds_report **report,
                                               lds_error *err);
LDS_API void lds_plan_free(lds_plan *plan);

/* Fill *stats; stats->struct_size must be set. */
LDS_API void lds_plan_get_stats(const lds_plan *plan, lds_plan_stats *stats);

/* Fill *transfer with transfer i, which is less than n_transfers; transfer->struct_size must be set. */
LDS_API void lds_plan_get_transfer(const lds_plan *plan, size_t i, lds_transfer *transfer);

/*
 * Load: make the plan and carry it out. Either every parameter of the plan has its new storage, dtype and
 * values afterwards, or (on failure) each is as it was before, except that one which lies in the caller's
 * memory (lds_param_bind) may have lost its storage. Never is one half-filled.
 *
 * A file that was changed or cut since the checkpoint was opened makes this LDS_ERR_CHANGED. *report, unless
 * report is NULL, is to be freed by the caller; as with lds_plan_new it is made also on LDS_ERR_MISMATCH.
 * Further errors: those of lds_plan_new, LDS_ERR_IO, LDS_ERR_MEMORY, LDS_ERR_CANCELLED.
 */
LDS_API LDS_MUST_CHECK lds_status lds_load(lds_network *network, const lds_checkpoint *checkpoint,
                                           const lds_load_options *options, lds_report **report,
                                           lds_error *err);

/* ---------------------------------------------------------------------------------------------------------
 *                                                  Reports
 * --------------------------------------------------------------------------------------------------------- */

/* The lists of a report. */
typedef enum lds_report_list {
    LDS_REPORT_MISSING = 0,    /* parameters that no tensor leads to */
    LDS_REPORT_UNEXPECTED = 1, /* tensors that lead to no parameter */
    LDS_REPORT_MISMATCHED = 2, /* parameters whose tensor has another shape */
    LDS_REPORT_TIED = 3,       /* parameters that share the storage of another */
    LDS_REPORT_INITIALISED = 4 /* parameters that were initialised, being missing or mismatched */
} lds_report_list;

typedef struct lds_report_stats {
    size_t struct_size;
    size_t n_tensors;        /* tensors that were loaded */
    uint64_t read_nbytes;    /* bytes read from the files into memory */
    uint64_t mapped_nbytes;  /* bytes mapped in place */
    uint64_t written_nbytes; /* bytes of new or the caller's memory that were filled */
    uint32_t n_threads;      /* most that read and converted at a time; 0 if nothing had to be read */
    /*
     * "map", "read", "uring", "direct", "view" (converted from where the page cache has it), "map+" one of the last
     * four, "cache", "map+cache", "cache+read", or "none" for an empty load; a string constant.
     */
    const char *source;
    const char *reason;        /* why mapped or read, one short phrase; a string constant */
    double seconds;            /* the whole load; the following are parts of it */
    double plan_seconds;       /* matching names and shapes */
    double memory_seconds;     /* getting memory and mapping files, making mapped pages present included */
    double transfer_seconds;   /* reading and converting, from the first read to the last */
    double init_seconds;       /* initialising what was missing */
    double read_seconds;       /* of transfer_seconds, time in reads, summed over the threads */
    double convert_seconds;    /* of transfer_seconds, time converting, summed over the threads */
    const char *source_reason; /* why read in this way, one short phrase, or NULL; a string constant */
    const char *fallback; /* what the system did not offer, one short phrase, or NULL; a string constant */
    double cache_seconds; /* looking into the cache, making room there, and bringing an entry to the disk */
    /*
     * Looking whether the files have changed. The sum of this and of plan, cache, memory, transfer and
     * init_seconds is seconds.
     */
    double check_seconds;
    /*
     * "hit", "stored", "nothing to store", "not stored: " and why, or NULL if none was asked for; lives as long
     * as the report.
     */
    const char *cache;
} lds_report_stats;

/* Fill *stats; stats->struct_size must be set. */
LDS_API void lds_report_get_stats(const lds_report *report, lds_report_stats *stats);

/* The entries of a list. i is less than the count. */
LDS_API size_t lds_report_count(const lds_report *report, lds_report_list list);
LDS_API const char *lds_report_name(const lds_report *report, lds_report_list list, size_t i);

/*
 * More about an entry, or NULL: "expected [2, 3], found [3, 2]" for a mismatch, the other name for a tie.
 */
LDS_API const char *lds_report_detail(const lds_report *report, lds_report_list list, size_t i);

/*
 * The shape that was found for entry i of LDS_REPORT_MISMATCHED, as the key map has made it: *n_dims values, which
 * live as long as the report. What was expected is the parameter's.
 */
LDS_API const uint64_t *lds_report_found_shape(const lds_report *report, size_t i, uint32_t *n_dims);

/*
 * The report as lines of text for people, in English in every locale; control characters in names become '?'. Freed
 * with the report. Never NULL.
 */
LDS_API const char *lds_report_text(const lds_report *report);

LDS_API void lds_report_free(lds_report *report);

/* ---------------------------------------------------------------------------------------------------------
 *                                          The cache of converted weights
 * --------------------------------------------------------------------------------------------------------- */

/* What is in a cache's folder (lds_load_options.cache), the most recently used first. */
typedef struct lds_cache_list lds_cache_list;

typedef struct lds_cache_entry {
    size_t struct_size;
    const char *path;
    const char *source; /* the checkpoint that it was converted from, or "" */
    uint64_t nbytes;
    int64_t used_seconds; /* when it was used last, in seconds since 1970 */
} lds_cache_entry;

/* A file that is to become an entry, and has no header yet. */
typedef struct lds_cache_unfinished {
    size_t struct_size;
    const char *path;
    uint64_t nbytes;       /* that the entry is to have */
    bool is_being_written; /* or the user may not look; else nobody will finish it */
} lds_cache_unfinished;

/*
 * List what is in a folder, NULL or "" for the user's own; no such folder is an empty one. On failure *list
 * is NULL: LDS_ERR_IO, LDS_ERR_NOT_FOUND if the user has none, LDS_ERR_MEMORY.
 */
LDS_API LDS_MUST_CHECK lds_status lds_cache_list_new(lds_cache_list **list, const char *dir, lds_error *err);

/* The entries. i is less than the count; entry->struct_size must be set. */
LDS_API size_t lds_cache_list_n_entries(const lds_cache_list *list);
LDS_API void lds_cache_list_get_entry(const lds_cache_list *list, size_t i, lds_cache_entry *entry);

/* What is unfinished, in no order. i is less than the count; file->struct_size must be set. */
LDS_API size_t lds_cache_list_n_unfinished(const lds_cache_list *list);
LDS_API void lds_cache_list_get_unfinished(const lds_cache_list *list, size_t i, lds_cache_unfinished *file);

LDS_API void lds_cache_list_free(lds_cache_list *list);

/*
 * Remove what was used least recently until at most keep_nbytes are left; 0 removes all. What is unfinished goes if
 * nobody is writing it, whatever keep_nbytes is. dir, and the errors, are those of lds_cache_list_new. Processes that
 * have an entry mapped keep it. *removed_nbytes, unless it is NULL, is how much went of both, on failure 0. Any
 * process may use the folder meanwhile, for other files, too: those stay.
 */
LDS_API LDS_MUST_CHECK lds_status lds_cache_trim(const char *dir, uint64_t keep_nbytes,
                                                 uint64_t *removed_nbytes, lds_error *err);

#ifdef __cplusplus
}
#endif

#endif /* LOADSTONE_H */
