/*
 * The safetensors format: eight bytes of header length, a JSON header, and the bytes of the tensors.
 * https://github.com/huggingface/safetensors#format
 *
 * The header is read once, front to back, in the buffer that it came in: names stay where they are, shapes go
 * to one block for the file, tensors to one array for the checkpoint. A header can hold hundreds of thousands
 * of entries, so nothing is allocated for one of them, and a name is hashed while it is still in the cache.
 *
 * That extents neither overlap nor leave holes can only be seen once they are in the order of their offsets.
 * Writers nearly always list them so; any other order is sorted first.
 *
 * Where the reference implementation accepts more than its specification allows, the specification wins (see
 * docs/formats/safetensors.md for the list).
 */
#include "src/checkpoint/safetensors.h"

#include "src/base/json.h"
#include "src/dtype/dtype.h"

enum { HEADER_OFFSET = LDS_SAFETENSORS_HEADER_OFFSET };

typedef struct parser {
    lds_json json;
    lds_checkpoint *checkpoint;
    lds_file *file;
    uint32_t file_index;
    size_t n_dims, dims_capacity; /* of file->dims */
    const char *current;          /* the entry that is being read, for messages */
    lds_error *err;
} parser;

/* ---- the header ---- */

/* Where the token began that was read last. */
static uint64_t token_offset(const parser *p)
{
    return HEADER_OFFSET + p->json.token_offset;
}

static inline lds_status next_is(parser *p, lds_json_token wanted, const char *expected)
{
    lds_json_token token = lds_json_next(&p->json);
    return token == wanted ? LDS_OK : lds_json_refuse(&p->json, LDS_ERR_MALFORMED, token, expected);
}

/* The string that was read last has to serve as a C string. */
static inline lds_status check_text(parser *p)
{
    if (lds_json_is_c_string(&p->json))
        return LDS_OK;
    return lds_fail_at(p->err, LDS_ERR_UNSUPPORTED, token_offset(p),
                       "expected text, found a NUL character in it");
}

/* The dtype that safetensors spells so; by length, so that most take one or two comparisons. */
static lds_dtype dtype_of(const char *text, size_t nbytes)
{
    static const uint8_t candidates[12][12] = {
        [2] = {LDS_U8, LDS_I8, LDS_F4},
        [3] = {LDS_F32, LDS_F16, LDS_I64, LDS_I32, LDS_F64, LDS_I16, LDS_U16, LDS_U32, LDS_U64, LDS_C64},
        [4] = {LDS_BF16, LDS_BOOL},
        [7] = {LDS_F8_E4M3, LDS_F8_E5M2, LDS_F8_E8M0, LDS_F6_E2M3, LDS_F6_E3M2},
        [11] = {LDS_F8_E4M3FNUZ, LDS_F8_E5M2FNUZ},
    };
    if (nbytes >= sizeof candidates / sizeof *candidates)
        return LDS_DTYPE_NONE;
    for (const uint8_t *c = candidates[nbytes]; *c; c++)
        if (!memcmp(lds_dtype_name(*c), text, nbytes))
            return *c;
    return LDS_DTYPE_NONE;
}

static lds_status read_dtype(parser *p, lds_tensor *tensor)
{
    LDS_TRY(next_is(p, LDS_JSON_STRING, "a dtype"));
    tensor->dtype = (uint8_t)dtype_of(p->json.text, p->json.nbytes);
    if (tensor->dtype)
        return LDS_OK;
    return lds_fail_at(p->err, LDS_ERR_UNSUPPORTED, token_offset(p),
                       "expected a dtype of safetensors, found \"%.40s\", which this version does not know",
                       p->json.text);
}

static lds_status read_shape(parser *p, lds_tensor *tensor)
{
    LDS_TRY(next_is(p, LDS_JSON_ARRAY, "an array of dimensions"));
    uint64_t numel = 1;
    for (tensor->n_dims = 0;; tensor->n_dims++) {
        lds_json_token token = lds_json_next(&p->json);
        if (token == LDS_JSON_ARRAY_END)
            break;
        uint64_t dim;
        if (token != LDS_JSON_NUMBER || !lds_json_u64(&p->json, &dim))
            return lds_json_refuse(&p->json, LDS_ERR_MALFORMED, token, "a dimension");
        if (tensor->n_dims == LDS_MAX_DIMS)
            return lds_fail_at(p->err, LDS_ERR_UNSUPPORTED, token_offset(p), "expected at most %d dimensions",
                               LDS_MAX_DIMS);
        if (!lds_mul(numel, dim, &numel))
            return lds_fail_at(p->err, LDS_ERR_MALFORMED, token_offset(p),
                               "expected fewer than 2^64 elements, found more");
        LDS_TRY(lds_grow(&p->file->dims, &p->dims_capacity, p->n_dims + 1, sizeof dim, p->err));
        p->file->dims[p->n_dims++] = dim;
    }
    tensor->numel = numel;
    return LDS_OK;
}

static lds_status read_offset(parser *p, uint64_t *offset)
{
    lds_json_token token = lds_json_next(&p->json);
    /* More than a file offset can be is refused here, so that sums of them cannot wrap. */
    if (token == LDS_JSON_NUMBER && lds_json_u64(&p->json, offset) && *offset <= INT64_MAX / 2)
        return LDS_OK;
    return lds_json_refuse(&p->json, LDS_ERR_MALFORMED, token, "a data offset");
}

static lds_status read_data_offsets(parser *p, lds_tensor *tensor)
{
    uint64_t begin = 0, end = 0;
    LDS_TRY(next_is(p, LDS_JSON_ARRAY, "an array of two data offsets"));
    LDS_TRY(read_offset(p, &begin));
    LDS_TRY(read_offset(p, &end));
    if (end < begin)
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, token_offset(p),
                           "expected data_offsets that end at %llu or later, found %llu",
                           (unsigned long long)begin, (unsigned long long)end);
    LDS_TRY(next_is(p, LDS_JSON_ARRAY_END, "two data offsets"));
    tensor->offset = begin;
    tensor->nbytes = end - begin;
    return LDS_OK;
}

enum { DTYPE = 1, SHAPE = 2, DATA_OFFSETS = 4, ALL_FIELDS = 7 };

static inline uint32_t field_of(const lds_json *json)
{
    return lds_json_is(json, "dtype")          ? DTYPE
           : lds_json_is(json, "shape")        ? SHAPE
           : lds_json_is(json, "data_offsets") ? DATA_OFFSETS
                                               : 0;
}

static lds_status read_field(parser *p, lds_tensor *tensor, uint32_t *seen)
{
    uint32_t field = field_of(&p->json);
    if (*seen & field)
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, token_offset(p), "expected \"%s\" once, found it twice",
                           p->json.text);
    *seen |= field;
    switch (field) {
    case DTYPE: return read_dtype(p, tensor);
    case SHAPE: return read_shape(p, tensor);
    case DATA_OFFSETS: return read_data_offsets(p, tensor);
    default: return lds_json_skip(&p->json, LDS_JSON_KEY) ? LDS_OK : p->json.status;
    }
}

static lds_status check_extent(parser *p, const lds_tensor *tensor)
{
    uint64_t n_bits;
    if (!lds_mul(tensor->numel, lds_dtype_bits(tensor->dtype), &n_bits))
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, token_offset(p),
                           "expected fewer than 2^64 bits, found more");
    if (n_bits % 8)
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, token_offset(p),
                           "expected whole bytes, found %llu elements of %u bits (%s)",
                           (unsigned long long)tensor->numel, lds_dtype_bits(tensor->dtype),
                           lds_dtype_name(tensor->dtype));
    if (n_bits / 8 == tensor->nbytes)
        return LDS_OK;
    return lds_fail_at(p->err, LDS_ERR_MALFORMED, token_offset(p),
                       "expected %llu bytes for %llu elements of %s, found data_offsets over %llu bytes",
                       (unsigned long long)(n_bits / 8), (unsigned long long)tensor->numel,
                       lds_dtype_name(tensor->dtype), (unsigned long long)tensor->nbytes);
}

/* An entry whose key was just read. Its offset stays relative to the data until the order is checked. */
static lds_status read_tensor(parser *p)
{
    lds_checkpoint *ck = p->checkpoint;
    p->current = p->json.text;
    LDS_TRY(check_text(p));
    LDS_TRY(lds_grow(&ck->tensors, &ck->tensors_capacity, ck->n_tensors + 1, sizeof *ck->tensors, p->err));
    lds_tensor tensor = {.name = lds_name_of(p->json.text, p->json.nbytes), .file = p->file_index};
    LDS_TRY(next_is(p, LDS_JSON_OBJECT, "an object with dtype, shape and data_offsets"));
    uint32_t seen = 0;
    lds_json_token token;
    while ((token = lds_json_next(&p->json)) == LDS_JSON_KEY)
        LDS_TRY(read_field(p, &tensor, &seen));
    if (token == LDS_JSON_ERROR)
        return p->json.status;
    if (seen != ALL_FIELDS)
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, token_offset(p), "expected \"%s\", found none",
                           !(seen & DTYPE)   ? "dtype"
                           : !(seen & SHAPE) ? "shape"
                                             : "data_offsets");
    LDS_TRY(check_extent(p, &tensor));
    ck->tensors[ck->n_tensors++] = tensor;
    return LDS_OK;
}

static lds_status read_metadata_pair(parser *p, size_t first)
{
    lds_checkpoint *ck = p->checkpoint;
    LDS_TRY(check_text(p));
    lds_metadata pair = {.key = p->json.text};
    lds_name key = lds_name_of(p->json.text, p->json.nbytes);
    uint64_t key_offset = token_offset(p);
    LDS_TRY(next_is(p, LDS_JSON_STRING, "a string"));
    LDS_TRY(check_text(p));
    pair.value = p->json.text;
    uint32_t found;
    LDS_TRY(lds_names_add(&ck->metadata_names, key, &found, p->err));
    if (found != LDS_NO_INDEX) {
        if (found >= first)
            return lds_fail_at(p->err, LDS_ERR_MALFORMED, key_offset,
                               "expected each key once, found \"%.100s\" twice", pair.key);
        return LDS_OK;
    }
    LDS_TRY(lds_grow(&ck->metadata, &ck->metadata_capacity, ck->n_metadata + 1, sizeof pair, p->err));
    ck->metadata[ck->n_metadata++] = pair;
    return LDS_OK;
}

static lds_status read_metadata(parser *p)
{
    size_t first = p->checkpoint->n_metadata;
    lds_json_token token = lds_json_next(&p->json);
    if (token == LDS_JSON_NULL)
        return LDS_OK;
    if (token != LDS_JSON_OBJECT)
        return lds_json_refuse(&p->json, LDS_ERR_MALFORMED, token, "an object of strings");
    while ((token = lds_json_next(&p->json)) == LDS_JSON_KEY)
        LDS_TRY(read_metadata_pair(p, first));
    return token == LDS_JSON_ERROR ? p->json.status : LDS_OK;
}

static lds_status read_header(parser *p)
{
    static const char metadata[] = "__metadata__";
    bool has_metadata = false;
    LDS_TRY(next_is(p, LDS_JSON_OBJECT, "an object"));
    while (lds_json_next(&p->json) == LDS_JSON_KEY) {
        if (lds_json_is(&p->json, metadata)) {
            p->current = metadata;
            if (has_metadata)
                return lds_fail_at(p->err, LDS_ERR_MALFORMED, token_offset(p),
                                   "expected it once, found it twice");
            has_metadata = true;
            LDS_TRY(read_metadata(p));
        } else {
            LDS_TRY(read_tensor(p));
        }
        p->current = NULL;
    }
    return lds_json_finish(&p->json);
}

/* ---- all entries together ---- */

/* What tensors are ordered by: offset, and at the same offset those without bytes first. */
static inline uint64_t order_of(const lds_tensor *tensor)
{
    return tensor->offset << 1 | (tensor->nbytes != 0);
}

typedef struct sort_key {
    uint64_t order;
    size_t index;
} sort_key;

/* Sort by radix, least digit first. Either array may be the one returned. */
static sort_key *sort_keys(sort_key *keys, sort_key *spare, size_t n, uint64_t max_order)
{
    enum { DIGIT_BITS = 11, N_DIGITS = 1 << DIGIT_BITS };
    for (uint32_t shift = 0; shift < 64 && max_order >> shift; shift += DIGIT_BITS) {
        size_t starts[N_DIGITS] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++)
            starts[keys[i].order >> shift & (N_DIGITS - 1)]++;
        for (size_t i = 0; i < N_DIGITS; i++) {
            size_t count = starts[i];
            starts[i] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++)
            spare[starts[keys[i].order >> shift & (N_DIGITS - 1)]++] = keys[i];
        sort_key *sorted = spare;
        spare = keys;
        keys = sorted;
    }
    return keys;
}

/* Tensor i becomes the one at keys[i].index, cycle after cycle. The keys are used up. */
static void permute(lds_tensor *tensors, sort_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lds_tensor first = tensors[i];
        size_t to = i;
        while (keys[to].index != i) {
            size_t from = keys[to].index;
            tensors[to] = tensors[from];
            keys[to].index = to;
            to = from;
        }
        tensors[to] = first;
        keys[to].index = to;
    }
}

static lds_status sort_tensors(lds_tensor *tensors, size_t n, lds_error *err)
{
    sort_key *keys;
    uint64_t max_order = 0;
    LDS_TRY(lds_calloc(&keys, n, 2 * sizeof *keys, err));
    for (size_t i = 0; i < n; i++) {
        keys[i] = (sort_key){order_of(&tensors[i]), i};
        if (keys[i].order > max_order)
            max_order = keys[i].order;
    }
    permute(tensors, sort_keys(keys, keys + n, n, max_order), n);
    free(keys);
    return LDS_OK;
}

static bool is_sorted(const lds_tensor *tensors, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (order_of(&tensors[i - 1]) > order_of(&tensors[i]))
            return false;
    return true;
}

static lds_status refuse_repeated(parser *p, const lds_tensor *first, const lds_tensor *again)
{
    p->current = again->name.text;
    if (first->file != again->file)
        return lds_fail(p->err, LDS_ERR_MALFORMED, "expected it in one file, found it in %s too",
                        p->checkpoint->files[first->file].path);
    const char *later = first->name.text > again->name.text ? first->name.text : again->name.text;
    return lds_fail_at(p->err, LDS_ERR_MALFORMED, HEADER_OFFSET + (uint64_t)(later - 1 - p->file->header),
                       "expected each name once, found it twice");
}

static lds_status index_names(parser *p, size_t first)
{
    lds_checkpoint *ck = p->checkpoint;
    LDS_TRY(lds_names_reserve(&ck->names, ck->n_tensors, p->err));
    for (size_t i = first; i < ck->n_tensors; i++) {
        uint32_t found;
        LDS_TRY(lds_names_add(&ck->names, ck->tensors[i].name, &found, p->err));
        if (found != LDS_NO_INDEX)
            return refuse_repeated(p, &ck->tensors[found], &ck->tensors[i]);
    }
    return LDS_OK;
}

static lds_status refuse_gap(parser *p, const lds_tensor *tensor, uint64_t end, uint64_t data_offset)
{
    bool hole = tensor->offset > end;
    uint64_t nbytes = hole ? tensor->offset - end : end - tensor->offset;
    p->current = tensor->name.text;
    return lds_fail_at(p->err, LDS_ERR_MALFORMED, data_offset + (hole ? end : tensor->offset),
                       "expected data_offsets to begin at %llu, found %llu: %s of %llu bytes",
                       (unsigned long long)end, (unsigned long long)tensor->offset,
                       hole ? "a hole" : "an overlap", (unsigned long long)nbytes);
}

static lds_status check_length(parser *p, uint64_t expected)
{
    uint64_t found = p->file->identity.nbytes;
    if (found < expected)
        return lds_fail_at(p->err, LDS_ERR_TRUNCATED, found,
                           "expected %llu bytes, found %llu: the file is cut short, download it again",
                           (unsigned long long)expected, (unsigned long long)found);
    if (found > expected)
        return lds_fail_at(p->err, LDS_ERR_MALFORMED, expected,
                           "expected %llu bytes, found %llu: more than its tensors take",
                           (unsigned long long)expected, (unsigned long long)found);
    return LDS_OK;
}

/* From here on offsets count from the beginning of the file. */
static lds_status check_order(parser *p, size_t first)
{
    lds_checkpoint *ck = p->checkpoint;
    uint64_t data_offset = HEADER_OFFSET + p->file->header_nbytes, end = 0;
    for (size_t i = first; i < ck->n_tensors; i++) {
        lds_tensor *tensor = &ck->tensors[i];
        if (tensor->offset != end)
            return refuse_gap(p, tensor, end, data_offset);
        end += tensor->nbytes;
        tensor->offset += data_offset;
    }
    return check_length(p, data_offset + end);
}

static lds_status parse(parser *p)
{
    lds_checkpoint *ck = p->checkpoint;
    size_t first = ck->n_tensors;
    LDS_TRY(lds_grow(&p->file->dims, &p->dims_capacity, 1, sizeof *p->file->dims, p->err));
    LDS_TRY(read_header(p));
    const uint64_t *shape = p->file->dims;
    for (size_t i = first; i < ck->n_tensors; i++) {
        ck->tensors[i].shape = shape;
        shape += ck->tensors[i].n_dims;
    }
    size_t n = ck->n_tensors - first;
    if (n && !is_sorted(ck->tensors + first, n))
        LDS_TRY(sort_tensors(ck->tensors + first, n, p->err));
    LDS_TRY(index_names(p, first));
    return check_order(p, first);
}

lds_status lds_safetensors_parse(lds_checkpoint *checkpoint, uint32_t file, lds_error *err)
{
    parser p = {.checkpoint = checkpoint, .file = &checkpoint->files[file], .file_index = file, .err = err};
    lds_json_init(&p.json, p.file->header, p.file->header_nbytes, err);
    p.json.base_offset = HEADER_OFFSET;
    lds_status status = parse(&p);
    return status ? lds_error_context(err, status, p.file->path, p.current) : LDS_OK;
}
