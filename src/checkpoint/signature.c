/*
 * What ends up under the name of a weights file and is none: pointers that git-lfs left, pages that a server
 * sent in its place, files of other formats. Each gets told what it is, since the rule of safetensors that it
 * breaks says nothing to the one who downloaded it.
 */
#include "src/checkpoint/safetensors.h"

#include <strings.h>

typedef enum kind {
    PAGE,    /* text, in any case, perhaps after white space */
    MESSAGE, /* text, just so */
    WEIGHTS, /* weights in another format */
    PACKED
} kind;

static const struct signature {
    const char *bytes; /* none has a NUL in it */
    kind kind;
    const char *what;
} signatures[] = {
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
};

static bool starts_page(const struct signature *s, const char *start, size_t n)
{
    while (n && *start && strchr(" \t\r\n\xEF\xBB\xBF", *start)) {
        start++;
        n--;
    }
    return n >= strlen(s->bytes) && !strncasecmp(start, s->bytes, strlen(s->bytes));
}

static bool starts(const char *bytes, const char *start, size_t n)
{
    return n >= strlen(bytes) && !memcmp(start, bytes, strlen(bytes));
}

/* No length of a header that is allowed is eight of these bytes. */
static bool is_text(const uint8_t *start, size_t n)
{
    if (n < LDS_SAFETENSORS_HEADER_OFFSET)
        return false;
    for (size_t i = 0; i < LDS_SAFETENSORS_HEADER_OFFSET; i++) {
        uint8_t c = start[i];
        if ((c < ' ' && c != '\t' && c != '\n' && c != '\r') || c > '~')
            return false;
    }
    return true;
}

const char *lds_signature(const uint8_t *start, size_t n, const char **advice, bool *is_weights)
{
    const char *text = (const char *)start;
    *is_weights = false;
    *advice = "run `git lfs pull`";
    if (starts("version https://git-lfs.github.com/spec/", text, n))
        return "a git-lfs pointer, not the weights";
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const struct signature *s = &signatures[i];
        if (s->kind == PAGE ? !starts_page(s, text, n) : !starts(s->bytes, text, n))
            continue;
        *is_weights = s->kind == WEIGHTS;
        *advice = s->kind == PACKED ? "unpack it first" : "download it again";
        return s->what;
    }
    *advice = "it holds no weights";
    return is_text(start, n) ? "a text file" : NULL;
}
