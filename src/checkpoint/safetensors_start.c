/*
 * The beginning of a safetensors file, and what ends up under the name of a weights file and is none: pointers that
 * git-lfs left, pages that a server sent in its place, files of other formats. Each is told what it is, since the
 * rule of safetensors that it breaks says nothing to the one who downloaded it.
 */
#include "src/checkpoint/safetensors.h"

#include <strings.h>

enum { HEADER_OFFSET = LDS_SAFETENSORS_HEADER_OFFSET };

typedef enum kind {
    POINTER, /* text, just so, in place of the file */
    PAGE,    /* text, in any case, perhaps after white space */
    MESSAGE, /* text, just so */
    WEIGHTS, /* weights in another format */
    PACKED,
    ZEROS, /* which a download that takes the room of its file first leaves when it ends early */
    TEXT   /* any */
} kind;

static const char *const advice[] = {
    [POINTER] = "run `git lfs pull`",    [PAGE] = "download it again", [MESSAGE] = "download it again",
    [WEIGHTS] = "it has the wrong name", [PACKED] = "unpack it first", [ZEROS] = "download it again",
    [TEXT] = "it holds no weights",
};

static const struct signature {
    const char *bytes; /* none has a NUL in it */
    kind kind;
    const char *what;
} signatures[] = {
    {"version https://git-lfs.github.com/spec/", POINTER, "a git-lfs pointer, not the weights"},
    {"<!doctype", PAGE, "a web page saved in place of the weights"},
    {"<html", PAGE, "a web page saved in place of the weights"},
    {"<?xml", PAGE, "a server's answer in XML, saved in place of the weights"},
    {"{\"error\"", MESSAGE, "a server's error message saved in place of the weights"},
    {"Entry not found", MESSAGE, "a server's error message saved in place of the weights"},
    {"Repository not found", MESSAGE, "a server's error message saved in place of the weights"},
    {"Invalid username or password", MESSAGE, "a server's error message saved in place of the weights"},
    {"Access to model ", MESSAGE, "a server's error message saved in place of the weights"},
    {"GGUF", WEIGHTS, "a GGUF file"},
    {"PK\3\4", WEIGHTS, "a zip archive, as PyTorch's .bin and .pt and NumPy's .npz are"},
    {"\x80\2", WEIGHTS, "a Python pickle, as PyTorch's older .bin and .pt are"},
    {"\x80\3", WEIGHTS, "a Python pickle"},
    {"\x80\4", WEIGHTS, "a Python pickle"},
    {"\x80\5", WEIGHTS, "a Python pickle"},
    {"\x93NUMPY", WEIGHTS, "a NumPy array"},
    {"\x89HDF\r\n\x1A\n", WEIGHTS, "an HDF5 file"},
    {"\x1F\x8B\x08", PACKED, "a file compressed with gzip"},
    {"\x28\xB5\x2F\xFD", PACKED, "a file compressed with zstd"},
    {"", ZEROS, "zeros where a header should be, as in a download that did not finish"},
    {"", TEXT, "a text file"},
};

static bool starts_page(const char *bytes, const char *start, size_t n)
{
    while (n && *start && strchr(" \t\r\n\xEF\xBB\xBF", *start)) {
        start++;
        n--;
    }
    return n >= strlen(bytes) && !strncasecmp(start, bytes, strlen(bytes));
}

/* No length of a header that is allowed is eight of these bytes. */
static bool is_text(const char *start, size_t n)
{
    for (size_t i = 0; i < HEADER_OFFSET && i < n; i++)
        if ((start[i] < ' ' && !strchr("\t\n\r", start[i])) || start[i] > '~' || !start[i])
            return false;
    return n >= HEADER_OFFSET;
}

static bool is_zeros(const char *start, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (start[i])
            return false;
    return n > HEADER_OFFSET;
}

/* What it is that begins with these n bytes, or NULL. */
static const struct signature *find_signature(const char *start, size_t n)
{
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const struct signature *s = &signatures[i];
        size_t nbytes = strlen(s->bytes);
        if (s->kind == PAGE    ? starts_page(s->bytes, start, n)
            : s->kind == ZEROS ? is_zeros(start, n)
            : s->kind == TEXT  ? is_text(start, n)
                               : n >= nbytes && !memcmp(s->bytes, start, nbytes))
            return s;
    }
    return NULL;
}

static bool ends_in_safetensors(const char *path)
{
    static const char end[] = ".safetensors";
    size_t n = strlen(path);
    return n >= sizeof end - 1 && !strcasecmp(path + n - (sizeof end - 1), end);
}

static lds_status refuse_signature(const struct signature *s, const char *path, lds_error *err)
{
    bool is_supposed = s->kind != WEIGHTS || ends_in_safetensors(path);
    return lds_fail(err, is_supposed ? LDS_ERR_NOT_WEIGHTS : LDS_ERR_UNSUPPORTED,
                    "expected a safetensors file, found %s: %s", s->what,
                    is_supposed ? advice[s->kind] : "that format is not supported yet");
}

/* What is wrong with a beginning that says that the header has header_nbytes. */
static lds_status explain(uint64_t header_nbytes, const uint8_t *start, size_t n, uint64_t file_nbytes,
                          lds_error *err)
{
    if (!file_nbytes)
        return lds_fail(err, LDS_ERR_TRUNCATED,
                        "expected a safetensors file, found an empty one: download it again");
    if (n < HEADER_OFFSET)
        return lds_fail_at(err, LDS_ERR_TRUNCATED, file_nbytes,
                           "expected 8 bytes of header length, found %zu: download it again", n);
    if (header_nbytes > LDS_SAFETENSORS_MAX_HEADER_NBYTES)
        return lds_fail_at(err, LDS_ERR_MALFORMED, 0,
                           "expected a header of at most %d bytes, found a length of %llu",
                           LDS_SAFETENSORS_MAX_HEADER_NBYTES, (unsigned long long)header_nbytes);
    if (!header_nbytes)
        return lds_fail_at(err, LDS_ERR_MALFORMED, 0, "expected a header, found a header length of 0");
    if (n > HEADER_OFFSET && start[HEADER_OFFSET] != '{')
        return lds_fail_at(err, LDS_ERR_MALFORMED, HEADER_OFFSET,
                           "expected a header that begins with '{', found byte 0x%02X", start[HEADER_OFFSET]);
    return lds_fail_at(
        err, LDS_ERR_TRUNCATED, file_nbytes,
        "expected a header of %llu bytes, found %llu: the file is cut short, download it again",
        (unsigned long long)header_nbytes, (unsigned long long)(file_nbytes - HEADER_OFFSET));
}

lds_status lds_safetensors_start(uint64_t *header_nbytes, const uint8_t *start, size_t n,
                                 uint64_t file_nbytes, const char *path, lds_error *err)
{
    uint64_t nbytes = 0;
    for (size_t i = 0; i < HEADER_OFFSET && i < n; i++)
        nbytes |= (uint64_t)start[i] << 8 * i;
    if (n > HEADER_OFFSET && nbytes && nbytes <= LDS_SAFETENSORS_MAX_HEADER_NBYTES &&
        nbytes <= file_nbytes - HEADER_OFFSET && start[HEADER_OFFSET] == '{') {
        *header_nbytes = nbytes;
        return LDS_OK;
    }
    const struct signature *s = find_signature((const char *)start, n);
    return s ? refuse_signature(s, path, err) : explain(nbytes, start, n, file_nbytes, err);
}
