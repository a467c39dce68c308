/*
 * What ends up under the name of a weights file and is none: pointers that git-lfs left, pages that a server
 * sent in its place, files of other formats. Each gets told what it is, since the rule of safetensors that it
 * breaks says nothing to the one who downloaded it.
 */
#include "src/checkpoint/safetensors.h"

#include <strings.h>

typedef struct signature {
    const char *bytes;
    uint8_t nbytes;
    bool any_case;
    bool is_weights;
    const char *what;
    const char *advice;
} signature;

#define STARTS(text) .bytes = text, .nbytes = sizeof(text) - 1

static const char download_again[] = "download it again";

static const signature signatures[] = {
    {STARTS("version https://git-lfs.github.com/spec/"), .what = "a git-lfs pointer, not the weights",
     .advice = "run `git lfs pull`"},
    {STARTS("<!doctype"), .any_case = true, .what = "a web page saved in place of the weights", download_again},
    {STARTS("<html"), .any_case = true, .what = "a web page saved in place of the weights", download_again},
    {STARTS("<?xml"), .any_case = true, .what = "a server's answer (XML) saved in place of the weights",
     download_again},
    {STARTS("{\"error\""), .what = "a server's error message saved in place of the weights", download_again},
    {STARTS("Entry not found"), .what = "a server's error message saved in place of the weights", download_again},
    {STARTS("Repository not found"), .what = "a server's error message saved in place of the weights",
     download_again},
    {STARTS("Invalid username or password"), .what = "a server's error message saved in place of the weights",
     download_again},
    {STARTS("Access to model "), .what = "a server's error message saved in place of the weights", download_again},
    {STARTS("GGUF"), .is_weights = true, .what = "a GGUF file"},
    {STARTS("PK\3\4"), .is_weights = true, .what = "a zip archive, as PyTorch's .bin and .pt and NumPy's .npz are"},
    {STARTS("\x80\2"), .is_weights = true, .what = "a Python pickle, as PyTorch's older .bin and .pt are"},
    {STARTS("\x80\3"), .is_weights = true, .what = "a Python pickle"},
    {STARTS("\x80\4"), .is_weights = true, .what = "a Python pickle"},
    {STARTS("\x80\5"), .is_weights = true, .what = "a Python pickle"},
    {STARTS("\x93NUMPY"), .is_weights = true, .what = "a NumPy array"},
    {STARTS("\x89HDF\r\n\x1A\n"), .is_weights = true, .what = "an HDF5 file"},
    {STARTS("\x1F\x8B\x08"), .what = "a file compressed with gzip", .advice = "unpack it first"},
    {STARTS("\x28\xB5\x2F\xFD"), .what = "a file compressed with zstd", .advice = "unpack it first"},
};

static size_t skip_blanks(const uint8_t *start, size_t n)
{
    size_t i = 0;
    if (n >= 3 && !memcmp(start, "\xEF\xBB\xBF", 3))
        i = 3;
    while (i < n && (start[i] == ' ' || start[i] == '\t' || start[i] == '\n' || start[i] == '\r'))
        i++;
    return i;
}

const char *lds_signature(const uint8_t *start, size_t n, const char **advice, bool *is_weights)
{
    size_t blanks = skip_blanks(start, n);
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const signature *s = &signatures[i];
        size_t skip = s->any_case ? blanks : 0;
        if (n - skip < s->nbytes)
            continue;
        const char *at = (const char *)start + skip;
        if (s->any_case ? strncasecmp(at, s->bytes, s->nbytes) : memcmp(at, s->bytes, s->nbytes))
            continue;
        *advice = s->advice;
        *is_weights = s->is_weights;
        return s->what;
    }
    return NULL;
}
