/* Every rule of the safetensors format, kept and then broken one at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "src/checkpoint/safetensors.h"

/* A checkpoint of one file whose header is text, and which has data_nbytes behind it. */
typedef struct parsed {
    lds_checkpoint checkpoint;
    lds_file file;
    lds_error err;
    lds_status status;
} parsed;

static void parse_bytes(parsed *p, const char *text, size_t nbytes, uint64_t data_nbytes)
{
    static char path[] = "t.safetensors";
    *p = (parsed){.err = LDS_ERROR_INIT};
    p->file =
        (lds_file){.path = path, .fd = -1, .header = malloc(nbytes ? nbytes : 1), .header_nbytes = nbytes};
    p->file.identity.nbytes = 8 + nbytes + data_nbytes;
    memcpy(p->file.header, text, nbytes);
    p->checkpoint = (lds_checkpoint){.files = &p->file, .n_files = 1};
    p->status = lds_safetensors_parse(&p->checkpoint, 0, &p->err);
}

static void destroy(parsed *p)
{
    lds_names_destroy(&p->checkpoint.names);
    lds_names_destroy(&p->checkpoint.metadata_names);
    free(p->checkpoint.tensors);
    free(p->checkpoint.metadata);
    free(p->file.dims);
    free(p->file.header);
}

static void accepted(parsed *p, const char *text, uint64_t data_nbytes)
{
    parse_bytes(p, text, strlen(text), data_nbytes);
    if (p->status)
        fail_msg("%s", p->err.message);
}

/* The message without the file's name; offset is where mark stands in text, after the eight bytes of length. */
static void refused_at(const char *text, uint64_t data_nbytes, lds_status status, uint64_t offset,
                       const char *message)
{
    parsed p;
    char expected[1024];
    parse_bytes(&p, text, strlen(text), data_nbytes);
    int n = snprintf(expected, sizeof expected, "t.safetensors: %s", message);
    if (offset != LDS_NO_OFFSET)
        snprintf(expected + n, sizeof expected - (size_t)n, " (at byte %llu)", (unsigned long long)offset);
    assert_string_equal(p.err.message, expected);
    assert_int_equal(p.status, status);
    assert_int_equal(p.err.code, status);
    assert_int_equal(p.err.offset, offset);
    assert_int_equal(p.err.file_nbytes, strlen("t.safetensors"));
    destroy(&p);
}

static void refused(const char *text, uint64_t data_nbytes, const char *mark, const char *message)
{
    const char *at = strstr(text, mark);
    assert_non_null(at);
    refused_at(text, data_nbytes, LDS_ERR_MALFORMED, 8 + (uint64_t)(at - text), message);
}

#define ENTRY(dtype, shape, begin, end) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

/* ---- what is accepted ---- */

static void tensors_are_what_the_header_says(void **state)
{
    (void)state;
    parsed p;
    const char *text =
        "{\"w\":" ENTRY("F32", "[2,3]", "0", "24") ",\"b\":" ENTRY("BF16", "[4]", "24", "32") "}";
    accepted(&p, text, 32);
    assert_int_equal(lds_checkpoint_n_tensors(&p.checkpoint), 2);
    const lds_tensor *w = lds_checkpoint_find(&p.checkpoint, "w"),
                     *b = lds_checkpoint_find(&p.checkpoint, "b");
    assert_ptr_equal(w, lds_checkpoint_tensor(&p.checkpoint, 0));
    assert_ptr_equal(b, lds_checkpoint_tensor(&p.checkpoint, 1));
    assert_string_equal(lds_tensor_name(w), "w");
    assert_int_equal(lds_tensor_dtype(w), LDS_F32);
    assert_int_equal(lds_tensor_n_dims(w), 2);
    assert_int_equal(lds_tensor_shape(w)[0], 2);
    assert_int_equal(lds_tensor_shape(w)[1], 3);
    assert_int_equal(lds_tensor_nbytes(w), 24);
    assert_int_equal(lds_tensor_file(w), 0);
    assert_int_equal(lds_tensor_offset(w), 8 + strlen(text));
    assert_int_equal(lds_tensor_offset(b), 8 + strlen(text) + 24);
    assert_int_equal(w->numel, 6);
    assert_int_equal(lds_tensor_shape(b)[0], 4);
    assert_null(lds_checkpoint_find(&p.checkpoint, "x"));
    assert_int_equal(lds_checkpoint_dtype(&p.checkpoint), LDS_F32);
    destroy(&p);
}

static void every_dtype_is_known_and_no_other(void **state)
{
    (void)state;
    size_t n_known = 0;
    for (int dtype = 0; dtype < 64; dtype++) {
        char text[256];
        uint32_t bits = lds_dtype_bits((lds_dtype)dtype);
        if (!bits)
            continue;
        snprintf(text, sizeof text, "{\"t\":{\"dtype\":\"%s\",\"shape\":[4],\"data_offsets\":[0,%u]}}",
                 lds_dtype_name((lds_dtype)dtype), bits / 2);
        parsed p;
        accepted(&p, text, bits / 2);
        assert_int_equal(p.checkpoint.tensors[0].dtype, dtype);
        destroy(&p);
        n_known++;
    }
    assert_int_equal(n_known, 22);
    static const char *const others[] = {
        "",    "f32",     "F32 ",        "float32", "F8",
        "BF1", "F8_E4M4", "F8_E4M3FNUX", "I128",    "a dtype with a name as long as a sentence"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char text[256], message[256];
        snprintf(text, sizeof text, "{\"t\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[0,4]}}",
                 others[i]);
        snprintf(message, sizeof message,
                 "t: expected a dtype of safetensors, found \"%.40s\", which this version does not know",
                 others[i]);
        refused_at(text, 4, LDS_ERR_UNSUPPORTED, 8 + strlen("{\"t\":{\"dtype\":"), message);
    }
}

static void entries_may_have_any_order(void **state)
{
    (void)state;
    enum { N = 3000 };
    char *text = malloc(N * 80), *at = text;
    for (uint32_t i = 0; i < N; i++) {
        /* A permutation; every third tensor is empty and lies where its successor does. */
        uint32_t k = (uint32_t)((uint64_t)i * 1009 % N), begin = (k - k / 3 - (k % 3 == 2)) * 2;
        at += sprintf(at, "%c\"%u\":{\"data_offsets\":[%u,%u],\"shape\":[%d],\"dtype\":\"F16\"}",
                      i ? ',' : '{', k, begin, begin + (k % 3 == 2 ? 0 : 2), k % 3 != 2);
    }
    strcpy(at, "}");
    parsed p;
    accepted(&p, text, N * 2 / 3 * 2);
    uint64_t end = p.file.identity.nbytes - N * 2 / 3 * 2;
    for (uint32_t i = 0; i < N; i++) {
        const lds_tensor *tensor = &p.checkpoint.tensors[i];
        assert_int_equal(tensor->offset, end);
        assert_int_equal(tensor->shape[0] * 2, tensor->nbytes);
        assert_int_equal(lds_names_find(&p.checkpoint.names, tensor->name), i);
        assert_int_equal(atoi(tensor->name.text) % 3 == 2, tensor->nbytes == 0);
        end += tensor->nbytes;
    }
    destroy(&p);
    free(text);
}

static void odd_but_valid_headers_are_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t data_nbytes;
        size_t n_tensors;
    } headers[] = {
        {"{}", 0, 0},
        {"{}        \n\t", 0, 0},
        {"{\"__metadata__\":{}}", 0, 0},
        {"{\"__metadata__\":null}", 0, 0},
        {"{\"\":" ENTRY("U8", "[]", "0", "1") "}", 1, 1},
        {"{ \"a\" : {\"dtype\":\"\\u00468_E5M2\", \"sh\\u0061pe\":[1] ,\n\"data_offsets\":[0, 1] } }   ", 1,
         1},
        {"{\"a\":{\"new\":{\"x\":[1,{}]},\"new\":0,\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         0, 1},
        {"{\"a\":" ENTRY("F64", "[0,4294967296,4294967296]", "0", "0") "}", 0, 1},
        {"{\"a\":" ENTRY("F4", "[2,1]", "0", "1") ",\"b\":" ENTRY("F6_E3M2", "[4]", "1", "4") "}", 4, 2},
        {"{\"a\":" ENTRY("U8", "[1,1,1,1,1,1,1,1,1,1]", "0", "1") "}", 1, 1},
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        parsed p;
        accepted(&p, headers[i].text, headers[i].data_nbytes);
        assert_int_equal(lds_checkpoint_n_tensors(&p.checkpoint), headers[i].n_tensors);
        if (headers[i].n_tensors)
            assert_non_null(lds_tensor_shape(lds_checkpoint_tensor(&p.checkpoint, 0)));
        destroy(&p);
    }
}

static void metadata_keeps_its_order(void **state)
{
    (void)state;
    parsed p;
    accepted(&p, "{\"__metadata__\":{\"z\":\"1\",\"a\":\"\\u00e9\",\"\":\"\"}}", 0);
    assert_int_equal(lds_checkpoint_n_metadata(&p.checkpoint), 3);
    assert_string_equal(lds_checkpoint_metadata_key(&p.checkpoint, 0), "z");
    assert_string_equal(lds_checkpoint_metadata_value(&p.checkpoint, 0), "1");
    assert_string_equal(lds_checkpoint_metadata_key(&p.checkpoint, 1), "a");
    assert_string_equal(lds_checkpoint_metadata_value(&p.checkpoint, 1), "\xC3\xA9");
    assert_string_equal(lds_checkpoint_metadata_key(&p.checkpoint, 2), "");
    destroy(&p);
}

/* ---- what is refused ---- */

static void json_errors_name_the_entry_and_the_byte(void **state)
{
    (void)state;
    parsed p;
    const char *text = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,],\"data_offsets\":[0,1]}}";
    parse_bytes(&p, text, strlen(text), 1);
    assert_int_equal(p.status, LDS_ERR_MALFORMED);
    assert_int_equal(p.err.offset, 8 + (strstr(text, "],") - text));
    assert_memory_equal(p.err.message, "t.safetensors: a: expected ", 27);
    destroy(&p);
    text = "{} x";
    parse_bytes(&p, text, strlen(text), 0);
    assert_int_equal(p.status, LDS_ERR_MALFORMED);
    assert_int_equal(p.err.offset, 8 + 3);
    destroy(&p);
    parse_bytes(&p, "{\"\xFF\":0}", 7, 0);
    assert_int_equal(p.status, LDS_ERR_MALFORMED);
    assert_int_equal(p.err.offset, 8 + 2);
    destroy(&p);
    for (size_t n = 0; n < 20; n++) {
        parse_bytes(&p, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]", n, 0);
        assert_int_equal(p.status, LDS_ERR_MALFORMED);
        assert_int_equal(p.err.offset, 8 + n);
        destroy(&p);
    }
}

static void entries_need_their_fields(void **state)
{
    (void)state;
    refused("{\"a\":{\"shape\":[],\"data_offsets\":[0,1]}}", 1, "}}", "a: expected \"dtype\", found none");
    refused("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "}}",
            "a: expected \"shape\", found none");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 1, "}}", "a: expected \"data_offsets\", found none");
    refused("{\"a\":{\"dtype\":\"U8\",\"dtype\" :\"U8\"}}", 1, "\"dtype\" ",
            "a: expected \"dtype\" once, found it twice");
    refused("{\"a\":{\"shape\":[],\"shape\" :[]}}", 1, "\"shape\" ",
            "a: expected \"shape\" once, found it twice");
    refused("{\"a\":{\"data_offsets\":[0,1],\"data_offsets\" :[0,1]}}", 1, "\"data_offsets\" ",
            "a: expected \"data_offsets\" once, found it twice");
}

static void values_need_their_kind(void **state)
{
    (void)state;
    refused("{\"a\":7}", 0, "7", "a: expected an object with dtype, shape and data_offsets, found 7");
    refused("{\"a\":[\"U8\",[],[0,1]]}", 1, "[",
            "a: expected an object with dtype, shape and data_offsets, found an array");
    refused("{\"a\":{\"dtype\":null}}", 0, "null", "a: expected a dtype, found null");
    refused("{\"a\":{\"shape\":\"2\"}}", 0, "\"2\"", "a: expected an array of dimensions, found \"2\"");
    refused("{\"a\":{\"shape\":[-1]}}", 0, "-1", "a: expected a dimension, found -1");
    refused("{\"a\":{\"shape\":[2.0]}}", 0, "2.0", "a: expected a dimension, found 2.0");
    refused("{\"a\":{\"shape\":[1e3]}}", 0, "1e3", "a: expected a dimension, found 1e3");
    refused("{\"a\":{\"shape\":[true]}}", 0, "true", "a: expected a dimension, found true");
    refused("{\"a\":{\"shape\":[18446744073709551616]}}", 0, "1844",
            "a: expected a dimension, found 18446744073709551616");
    refused("{\"a\":{\"data_offsets\":{}}}", 0, "{}",
            "a: expected an array of two data offsets, found an object");
    refused("{\"a\":{\"data_offsets\":[0]}}", 0, "]", "a: expected a data offset, found the end of an array");
    refused("{\"a\":{\"data_offsets\":[0,1,2]}}", 0, "2", "a: expected two data offsets, found 2");
    refused("{\"a\":{\"data_offsets\":[0,-1]}}", 0, "-1", "a: expected a data offset, found -1");
    refused("{\"a\":{\"data_offsets\":[0,9223372036854775807]}}", 0, "9223",
            "a: expected a data offset, found 9223372036854775807");
    refused("{\"a\":{\"data_offsets\":[3,2]}}", 0, "2]",
            "a: expected data_offsets that end at 3 or later, found 2");
    refused_at("[]", 0, LDS_ERR_MALFORMED, 8, "expected an object, found an array");
}

static void names_are_unique_and_text(void **state)
{
    (void)state;
    refused("{\"a\":" ENTRY("U8", "[]", "0", "1") ",\"\\u0061\":" ENTRY("U8", "[]", "1", "2") "}", 2,
            "\"\\u0061", "a: expected each name once, found it twice");
    /* The later of the two is the one that is wrong, whatever the order of their data. */
    refused("{\"a\":" ENTRY("U8", "[]", "1", "2") ",\"a\" :" ENTRY("U8", "[]", "0", "1") "}", 2, "\"a\" ",
            "a: expected each name once, found it twice");
    refused_at("{\"a\\u0000b\":" ENTRY("U8", "[]", "0", "1") "}", 1, LDS_ERR_UNSUPPORTED, 9,
               "a: expected text, found a NUL character in it");
}

static void metadata_is_a_map_of_strings(void **state)
{
    (void)state;
    refused("{\"__metadata__\":{\"a\":1}}", 0, "1}", "__metadata__: expected a string, found 1");
    refused("{\"__metadata__\":{\"a\":{}}}", 0, "{}", "__metadata__: expected a string, found an object");
    refused("{\"__metadata__\":{\"a\":null}}", 0, "null", "__metadata__: expected a string, found null");
    refused("{\"__metadata__\":[]}", 0, "[]", "__metadata__: expected an object of strings, found an array");
    refused("{\"__metadata__\":{\"a\":\"\",\"a\" :\"\"}}", 0, "\"a\" ",
            "__metadata__: expected each key once, found \"a\" twice");
    refused("{\"__metadata__\":{},\"__metadata__\" :{}}", 0, "\"__metadata__\" ",
            "__metadata__: expected it once, found it twice");
    refused_at("{\"__metadata__\":{\"a\":\"\\u0000\"}}", 0, LDS_ERR_UNSUPPORTED, 8 + 21,
               "__metadata__: expected text, found a NUL character in it");
}

static void extents_have_the_size_of_dtype_and_shape(void **state)
{
    (void)state;
    refused("{\"a\":" ENTRY("F32", "[2,3]", "0", "20") "}", 20, "}}",
            "a: expected 24 bytes for 6 elements of F32, found data_offsets over 20 bytes");
    refused("{\"a\":" ENTRY("F32", "[]", "0", "0") "}", 0, "}}",
            "a: expected 4 bytes for 1 elements of F32, found data_offsets over 0 bytes");
    refused("{\"a\":" ENTRY("F4", "[3]", "0", "2") "}", 2, "}}",
            "a: expected whole bytes, found 3 elements of 4 bits (F4)");
    refused("{\"a\":" ENTRY("F6_E2M3", "[2]", "0", "2") "}", 2, "}}",
            "a: expected whole bytes, found 2 elements of 6 bits (F6_E2M3)");
    refused("{\"a\":" ENTRY("U8", "[4294967296,4294967297]", "0", "2") "}", 2, "4294967297",
            "a: expected fewer than 2^64 elements, found more");
    refused("{\"a\":" ENTRY("U64", "[288230376151711744]", "0", "0") "}", 0, "}}",
            "a: expected fewer than 2^64 bits, found more");
    char dims[3 * 65 + 1] = "", text[512];
    for (size_t i = 0; i < 65; i++)
        strcat(dims, i ? ",1" : "1");
    snprintf(text, sizeof text, "{\"a\":{\"shape\":[%s]}}", dims);
    refused_at(text, 1, LDS_ERR_UNSUPPORTED, 8 + strlen("{\"a\":{\"shape\":[") + 2 * 64,
               "a: expected at most 64 dimensions");
}

static void extents_leave_no_holes_and_do_not_overlap(void **state)
{
    (void)state;
    const char *hole = "{\"a\":" ENTRY("U8", "[2]", "0", "2") ",\"b\":" ENTRY("U8", "[2]", "5", "7") "}";
    refused_at(hole, 7, LDS_ERR_MALFORMED, 8 + strlen(hole) + 2,
               "b: expected data_offsets to begin at 2, found 5: a hole of 3 bytes");
    const char *late = "{\"a\":" ENTRY("U8", "[2]", "1", "3") "}";
    refused_at(late, 3, LDS_ERR_MALFORMED, 8 + strlen(late),
               "a: expected data_offsets to begin at 0, found 1: a hole of 1 bytes");
    const char *overlap = "{\"a\":" ENTRY("U8", "[4]", "0", "4") ",\"b\":" ENTRY("U8", "[2]", "3", "5") "}";
    refused_at(overlap, 5, LDS_ERR_MALFORMED, 8 + strlen(overlap) + 3,
               "b: expected data_offsets to begin at 4, found 3: an overlap of 1 bytes");
    const char *same = "{\"a\":" ENTRY("U8", "[4]", "0", "4") ",\"b\":" ENTRY("U8", "[4]", "0", "4") "}";
    refused_at(same, 4, LDS_ERR_MALFORMED, 8 + strlen(same),
               "b: expected data_offsets to begin at 4, found 0: an overlap of 4 bytes");
    const char *empty = "{\"a\":" ENTRY("U8", "[4]", "0", "4") ",\"b\":" ENTRY("U8", "[0]", "2", "2") "}";
    refused_at(empty, 4, LDS_ERR_MALFORMED, 8 + strlen(empty) + 2,
               "b: expected data_offsets to begin at 4, found 2: an overlap of 2 bytes");
}

static void files_end_where_their_tensors_do(void **state)
{
    (void)state;
    const char *text = "{\"a\":" ENTRY("U8", "[100]", "0", "100") "}";
    uint64_t n = 8 + strlen(text);
    char message[256];
    snprintf(message, sizeof message,
             "expected %llu bytes, found %llu: the file is cut short, download it again",
             (unsigned long long)n + 100, (unsigned long long)n + 99);
    refused_at(text, 99, LDS_ERR_TRUNCATED, n + 99, message);
    snprintf(message, sizeof message, "expected %llu bytes, found %llu: more than its tensors take",
             (unsigned long long)n + 100, (unsigned long long)n + 101);
    refused_at(text, 101, LDS_ERR_MALFORMED, n + 100, message);
    refused_at("{}", 1, LDS_ERR_MALFORMED, 10, "expected 10 bytes, found 11: more than its tensors take");
}

/* ---- the beginning of the file ---- */

static void starts(const void *bytes, size_t n, uint64_t file_nbytes, const char *path, lds_status status,
                   uint64_t offset, const char *message)
{
    lds_error err = LDS_ERROR_INIT;
    uint64_t header_nbytes = 0;
    assert_int_equal(lds_safetensors_start(&header_nbytes, bytes, n, file_nbytes, path, &err), status);
    assert_string_equal(err.message, message);
    assert_int_equal(err.offset, offset);
}

static void the_length_of_the_header_is_checked(void **state)
{
    (void)state;
    const char *name = "x.safetensors";
    uint64_t n;
    assert_int_equal(lds_safetensors_start(&n, (const uint8_t *)"\2\0\0\0\0\0\0\0{}", 10, 10, name, NULL),
                     LDS_OK);
    assert_int_equal(n, 2);
    starts("", 0, 0, name, LDS_ERR_TRUNCATED, LDS_NO_OFFSET,
           "expected a safetensors file, found an empty one: download it again");
    starts("\2\0\0\0\0\0\0", 7, 7, name, LDS_ERR_TRUNCATED, 7,
           "expected 8 bytes of header length, found 7: download it again (at byte 7)");
    starts("\2\0\0\0\0\0\0\0", 8, 8, name, LDS_ERR_TRUNCATED, 8,
           "expected a header of 2 bytes, found 0: the file is cut short, download it again (at byte 8)");
    starts("\3\0\0\0\0\0\0\0{}", 10, 10, name, LDS_ERR_TRUNCATED, 10,
           "expected a header of 3 bytes, found 2: the file is cut short, download it again (at byte 10)");
    starts("\0\0\0\0\0\0\0\0", 8, 8, name, LDS_ERR_MALFORMED, 0,
           "expected a header, found a header length of 0 (at byte 0)");
    starts("\0\0\0\0\0\0\0\0{}", 10, 10, name, LDS_ERR_MALFORMED, 0,
           "expected a header, found a header length of 0 (at byte 0)");
    starts("\2\0\0\0\0\0\0\0 {", 10, 10, name, LDS_ERR_MALFORMED, 8,
           "expected a header that begins with '{', found byte 0x20 (at byte 8)");
    starts("\1\xE1\xF5\5\0\0\0\0{", 9, UINT64_MAX, name, LDS_ERR_MALFORMED, 0,
           "expected a header of at most 100000000 bytes, found a length of 100000001 (at byte 0)");
    starts(
        "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{", 9, 1000, name, LDS_ERR_MALFORMED, 0,
        "expected a header of at most 100000000 bytes, found a length of 18446744073709551615 (at byte 0)");
    /* The cap itself is allowed. */
    assert_int_equal(
        lds_safetensors_start(&n, (const uint8_t *)"\0\xE1\xF5\5\0\0\0\0{", 9, 200000000, name, NULL),
        LDS_OK);
    assert_int_equal(n, 100000000);
}

#define STARTS(bytes, path, status, message) \
    starts(bytes, sizeof(bytes) - 1, sizeof(bytes) - 1, path, status, LDS_NO_OFFSET, message)

static void other_files_are_named(void **state)
{
    (void)state;
    const char *name = "x.SafeTensors";
    STARTS("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", name, LDS_ERR_NOT_WEIGHTS,
           "expected a safetensors file, found a git-lfs pointer, not the weights: run `git lfs pull`");
    STARTS("\n <!DOCTYPE html>\n<html>", name, LDS_ERR_NOT_WEIGHTS,
           "expected a safetensors file, found a web page saved in place of the weights: download it again");
    STARTS("<HTML lang=en>", name, LDS_ERR_NOT_WEIGHTS,
           "expected a safetensors file, found a web page saved in place of the weights: download it again");
    STARTS(
        "{\"error\":\"Repository not found\"}", name, LDS_ERR_NOT_WEIGHTS,
        "expected a safetensors file, found a server's error message saved in place of the weights: download it "
        "again");
    STARTS(
        "Entry not found", name, LDS_ERR_NOT_WEIGHTS,
        "expected a safetensors file, found a server's error message saved in place of the weights: download it "
        "again");
    STARTS("GGUF\3\0\0\0", name, LDS_ERR_NOT_WEIGHTS,
           "expected a safetensors file, found a GGUF file: it has the wrong name");
    STARTS("GGUF\3\0\0\0", "x.gguf", LDS_ERR_UNSUPPORTED,
           "expected a safetensors file, found a GGUF file: that format is not supported yet");
    STARTS(
        "PK\3\4\0\0\0\0\0\0", "pytorch_model.bin", LDS_ERR_UNSUPPORTED,
        "expected a safetensors file, found a zip archive, as PyTorch's .bin and .pt and NumPy's .npz are: that "
        "format is not supported yet");
    STARTS(
        "\x80\2\x8A\nl\xFC\x9C"
        "F\xF9",
        name, LDS_ERR_NOT_WEIGHTS,
        "expected a safetensors file, found a Python pickle, as PyTorch's older .bin and .pt are: it has the wrong name");
    STARTS("\x1F\x8B\x08\0\0\0\0\0\0", name, LDS_ERR_NOT_WEIGHTS,
           "expected a safetensors file, found a file compressed with gzip: unpack it first");
    STARTS(
        "\0\0\0\0\0\0\0\0\0\0\0\0", name, LDS_ERR_NOT_WEIGHTS,
        "expected a safetensors file, found zeros where a header should be, as in a download that did not finish: "
        "download it again");
    STARTS("root:x:0:0:root:/root:/bin/sh\n", "passwd", LDS_ERR_NOT_WEIGHTS,
           "expected a safetensors file, found a text file: it holds no weights");
    STARTS("a\tb\r\nc\td", name, LDS_ERR_NOT_WEIGHTS,
           "expected a safetensors file, found a text file: it holds no weights");
    starts(
        "notatex\xE9", 8, 8, name, LDS_ERR_MALFORMED, 0,
        "expected a header of at most 100000000 bytes, found a length of 16823307958568120174 (at byte 0)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_what_the_header_says),
        cmocka_unit_test(every_dtype_is_known_and_no_other),
        cmocka_unit_test(entries_may_have_any_order),
        cmocka_unit_test(odd_but_valid_headers_are_accepted),
        cmocka_unit_test(metadata_keeps_its_order),
        cmocka_unit_test(json_errors_name_the_entry_and_the_byte),
        cmocka_unit_test(entries_need_their_fields),
        cmocka_unit_test(values_need_their_kind),
        cmocka_unit_test(names_are_unique_and_text),
        cmocka_unit_test(metadata_is_a_map_of_strings),
        cmocka_unit_test(extents_have_the_size_of_dtype_and_shape),
        cmocka_unit_test(extents_leave_no_holes_and_do_not_overlap),
        cmocka_unit_test(files_end_where_their_tensors_do),
        cmocka_unit_test(the_length_of_the_header_is_checked),
        cmocka_unit_test(other_files_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
