/*
 * A model's directory: which of the files in it are the weights, by the names that transformers, diffusers and
 * peft give them, and what to say when none is there.
 */
#include "src/checkpoint/resolve.h"

#include <dirent.h>
#include <errno.h>

/* A name is <stem><before>[.<variant>]<after>. */
typedef struct form {
    const char *before, *after;
    bool is_index;
} form;

static const form whole = {"", ".safetensors", false};
static const form index_of = {".safetensors.index", ".json", true};
/* What diffusers wrote for a while; without a variant it is the same as the one above. */
static const form older_index = {".safetensors", ".index.json", true};

/*
 * Where both a whole file and an index are there, one of them is left over from an earlier save. Each framework
 * has its own preference, and so its own order here.
 */
enum { N_FORMS = 3 };

static const struct family {
    const char *stem;
    const form *forms[N_FORMS];
} families[] = {
    {"model", {&whole, &index_of, &older_index}},
    {"diffusion_pytorch_model", {&index_of, &older_index, &whole}},
    {"adapter_model", {&whole, &index_of, &older_index}},
};

enum { N_FAMILIES = sizeof families / sizeof *families, ADAPTER = N_FAMILIES - 1 };

static lds_status find_family(lds_location *location, const struct family *family, const char *dir,
                              const char *variant, lds_error *err)
{
    for (size_t i = 0; i < N_FORMS; i++) {
        const form *f = family->forms[i];
        char *name, *path;
        LDS_TRY(lds_format_string(&name, err, "%s%s%s%s%s", family->stem, f->before, variant ? "." : "",
                                  variant ? variant : "", f->after));
        lds_status status = lds_join_path(&path, dir, name, err);
        free(name);
        LDS_TRY(status);
        if (lds_path_exists(path)) {
            *location = (lds_location){f->is_index ? LDS_LOCATION_INDEX : LDS_LOCATION_FILE, path};
            return LDS_OK;
        }
        free(path);
    }
    return LDS_OK;
}

/* An adapter often lies beside the model that it adapts; the others never share a directory. */
lds_status lds_find_model(lds_location *location, const char *dir, const char *variant, lds_error *err)
{
    *location = (lds_location){0};
    for (size_t i = 0; i < N_FAMILIES; i++) {
        lds_location found = {0};
        if (location->path && i == ADAPTER)
            break;
        lds_status status = find_family(&found, &families[i], dir, variant, err);
        if (!status && found.path && location->path) {
            status = lds_fail(err, LDS_ERR_MALFORMED,
                              "expected the weights of one model, found %s and %s: name one",
                              strrchr(location->path, '/') + 1, strrchr(found.path, '/') + 1);
            lds_error_context(err, status, dir, NULL);
        }
        if (status) {
            free(found.path);
            free(location->path);
            location->path = NULL;
            return status;
        }
        if (found.path)
            *location = found;
    }
    return LDS_OK;
}

/* ---- what to say when there is none ---- */

static bool begins(const char *text, const char *start)
{
    return !strncmp(text, start, strlen(start));
}

/* The length of the variant in a file's name; *variant begins there. 0 if the name has none. */
static size_t variant_in(const char *name, const char **variant)
{
    static const form *const forms[N_FORMS] = {&index_of, &older_index, &whole};
    for (size_t i = 0; i < N_FAMILIES; i++) {
        const char *rest = name + strlen(families[i].stem);
        if (!begins(name, families[i].stem))
            continue;
        for (size_t j = 0; j < N_FORMS; j++) {
            const char *start = rest + strlen(forms[j]->before);
            if (!begins(rest, forms[j]->before) || *start != '.' || !lds_path_ends_in(start, forms[j]->after))
                continue;
            size_t n = strlen(start), m = strlen(forms[j]->after);
            if (n <= m + 1)
                continue;
            *variant = start + 1;
            return n - m - 1;
        }
    }
    return 0;
}

static bool is_other_format(const char *name)
{
    static const char *const endings[] = {".bin", ".pt",      ".pth",  ".ckpt", ".gguf",
                                          ".h5",  ".msgpack", ".onnx", ".npz"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (lds_path_ends_in(name, endings[i]))
            return true;
    return false;
}

/* What programs that download call a file until it is whole: huggingface_hub, curl and browsers, aria2. */
static bool is_unfinished(const char *name)
{
    static const char *const endings[] = {".incomplete", ".part", ".crdownload", ".aria2"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (lds_path_ends_in(name, endings[i]))
            return true;
    return false;
}

/* The first of each kind, by name, so that the message does not depend on the directory's order. */
typedef struct finds {
    char variant[256], shard[256], safetensors[256], other[256], unfinished[256];
    bool snapshots; /* the hub cache's folder of a model has them one level further down */
} finds;

static void keep_first(char *kept, const char *text, size_t n)
{
    char fresh[256];
    if (n >= sizeof fresh)
        return;
    memcpy(fresh, text, n);
    fresh[n] = 0;
    if (!*kept || strcmp(fresh, kept) < 0)
        memcpy(kept, fresh, n + 1);
}

static void look_at(finds *f, const char *name)
{
    const char *variant;
    size_t n = variant_in(name, &variant);
    if (!strcmp(name, "snapshots"))
        f->snapshots = true;
    else if (n)
        keep_first(f->variant, variant, n);
    else if (lds_path_ends_in(name, ".safetensors") && strstr(name, "-of-"))
        keep_first(f->shard, name, strlen(name));
    else if (lds_path_ends_in(name, ".safetensors"))
        keep_first(f->safetensors, name, strlen(name));
    else if (is_other_format(name))
        keep_first(f->other, name, strlen(name));
    else if (is_unfinished(name))
        keep_first(f->unfinished, name, strlen(name));
}

static bool found_safetensors(const finds *f)
{
    return *f->variant || *f->shard || *f->safetensors;
}

static lds_status explain(const finds *f, const char *variant, lds_error *err)
{
    static const char expected[] =
        "expected model, diffusion_pytorch_model or adapter_model .safetensors, whole or "
        "with an index";
    if (*f->other && !found_safetensors(f))
        return lds_fail(err, LDS_ERR_UNSUPPORTED, "%s, found %s: that format is not supported yet", expected,
                        f->other);
    if (variant && !f->snapshots)
        return lds_fail(err, LDS_ERR_NOT_FOUND, "%s, of the variant %s, found none%s%s", expected, variant,
                        *f->variant ? ", but the variant " : "", f->variant);
    if (*f->variant)
        return lds_fail(err, LDS_ERR_NOT_FOUND, "%s, found only the variant %s: ask for variant %s", expected,
                        f->variant, f->variant);
    if (*f->shard)
        return lds_fail(err, LDS_ERR_NOT_FOUND, "%s, found %s without its .safetensors.index.json", expected,
                        f->shard);
    if (*f->safetensors)
        return lds_fail(err, LDS_ERR_NOT_FOUND, "%s, found %s: name that file itself", expected,
                        f->safetensors);
    if (*f->unfinished)
        return lds_fail(err, LDS_ERR_NOT_FOUND,
                        "%s, found %s, a download that did not finish: start it again", expected,
                        f->unfinished);
    if (f->snapshots)
        return lds_fail(
            err, LDS_ERR_NOT_FOUND,
            "%s, found a model's folder of the hub cache: name org/name, or a folder in snapshots", expected);
    return lds_fail(err, LDS_ERR_NOT_FOUND, "%s, or a model_index.json, found none", expected);
}

static lds_status look_into(finds *f, const char *dir, lds_error *err)
{
    *f = (finds){0};
    DIR *entries = opendir(dir);
    if (!entries)
        return lds_fail_errno(err, errno == ENOENT ? LDS_ERR_NOT_FOUND : LDS_ERR_IO, errno,
                              "cannot be listed");
    for (struct dirent *entry; (entry = readdir(entries));)
        look_at(f, entry->d_name);
    closedir(entries);
    return LDS_OK;
}

lds_status lds_explain_no_model(const char *dir, const char *variant, lds_error *err)
{
    finds f;
    lds_status status = look_into(&f, dir, err);
    if (!status)
        status = explain(&f, variant, err);
    return lds_error_context(err, status, dir, NULL);
}

lds_status lds_check_no_weights(const char *dir, const char *variant, lds_error *err)
{
    finds f;
    lds_status status = look_into(&f, dir, err);
    if (!status && (*f.other || found_safetensors(&f)))
        status = explain(&f, variant, err);
    return status ? lds_error_context(err, status, dir, NULL) : LDS_OK;
}
