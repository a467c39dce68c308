/*
 * Key maps from any JSON, applied to any names: the input is the key map up to the first NUL byte, and after it
 * the names, each ended by another. A name's length stands for its shape.
 */
#include "fuzz/fuzz.h"
#include "src/plan/keymap.h"

static void check_status(lds_status status, const lds_error *err, lds_status expected, lds_status or_else)
{
    if (!status)
        return;
    FUZZ_CHECK(err->code == status && err->message[0]);
    if (status == LDS_ERR_MEMORY)
        FUZZ_CHECK(fuzz_allocation_failed());
    else
        FUZZ_CHECK(status == expected || status == or_else || status == LDS_ERR_ARGUMENT);
}

static uint64_t numel_of(uint32_t n_dims, const uint64_t *shape)
{
    uint64_t numel = 1;
    for (uint32_t i = 0; i < n_dims; i++)
        numel *= shape[i];
    return numel;
}

static void apply(const lds_keymap *keymap, lds_keymap_scratch *scratch, const char *text)
{
    lds_error err = LDS_ERROR_INIT;
    size_t nbytes = strlen(text);
    uint64_t shape[4] = {nbytes, 2, 3, 4};
    uint32_t n_dims = nbytes % 5;
    lds_mapped mapped;
    lds_status status =
        lds_keymap_apply(keymap, scratch, lds_name_of(text, nbytes), n_dims, shape, &mapped, &err);
    check_status(status, &err, LDS_ERR_UNSUPPORTED, LDS_ERR_MISMATCH);
    if (status || mapped.dropped)
        return;
    FUZZ_CHECK(strlen(mapped.name) == mapped.name_nbytes && mapped.n_dims <= LDS_MAX_DIMS);
    FUZZ_CHECK(mapped.name == text || mapped.name_nbytes <= LDS_KEYMAP_MAX_NAME_NBYTES);
    FUZZ_CHECK(numel_of(mapped.n_dims, mapped.shape) == numel_of(n_dims, shape));
}

void fuzz_one(uint8_t *data, size_t nbytes)
{
    lds_error err = LDS_ERROR_INIT;
    lds_keymap *keymap;
    size_t json_nbytes = strnlen((const char *)data, nbytes);
    lds_status status = lds_keymap_from_json(&keymap, (const char *)data, json_nbytes, "map.json", &err);
    check_status(status, &err, LDS_ERR_MALFORMED, LDS_ERR_MALFORMED);
    FUZZ_CHECK(!keymap == !!status);
    if (status)
        return;
    lds_keymap_scratch scratch = {0};
    size_t at = json_nbytes + 1;
    while (at < nbytes && memchr(data + at, 0, nbytes - at)) {
        apply(keymap, &scratch, (const char *)data + at);
        at += strlen((const char *)data + at) + 1;
    }
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
}
