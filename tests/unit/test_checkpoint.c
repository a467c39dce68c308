/* Opening checkpoints of every kind from a directory made for the purpose, and what is said of damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "src/checkpoint/checkpoint.h"

/* Every test runs in a directory of its own, and names files relative to it. */
static char start[4096];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int enter(void **state)
{
    static char dir[] = "/tmp/lds_checkpoint_XXXXXX";
    memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
    *state = dir;
    return !getcwd(start, sizeof start) || !mkdtemp(dir) || chdir(dir);
}

static int leave(void **state)
{
    return chdir(start) || nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- making files ---- */

static void write_bytes(const char *path, const void *bytes, size_t nbytes)
{
    char dir[256];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
        if (*dir)
            mkdir(dir, 0777);
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, nbytes, file), nbytes);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *path, const char *text)
{
    write_bytes(path, text, strlen(text));
}

/* A file with a tensor of one F32 for each name, and perhaps metadata. */
static void write_weights(const char *path, const char *metadata, size_t n, const char *const *names)
{
    uint8_t bytes[4096] = {0};
    char *text = (char *)bytes + 8, *at = text;
    at += sprintf(at, "{");
    if (metadata)
        at += sprintf(at, "\"__metadata__\":%s%s", metadata, n ? "," : "");
    for (size_t i = 0; i < n; i++)
        at += sprintf(at, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
                      i ? "," : "", names[i], 4 * i, 4 * i + 4);
    at += sprintf(at, "}");
    bytes[0] = (uint8_t)((at - text) & 0xFF);
    bytes[1] = (uint8_t)((at - text) >> 8);
    memset(at, 0, 4 * n);
    write_bytes(path, bytes, (size_t)(at - (char *)bytes) + 4 * n);
}

#define WEIGHTS(path, ...)                                                            \
    write_weights(path, NULL, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), \
                  (const char *[]){__VA_ARGS__})

/* ---- opening ---- */

static lds_checkpoint *open_variant(const char *path, const char *variant)
{
    lds_error err = LDS_ERROR_INIT;
    lds_checkpoint_options options;
    lds_checkpoint_options_init(&options, sizeof options);
    options.variant = variant;
    lds_checkpoint *checkpoint;
    if (lds_checkpoint_open(&checkpoint, path, &options, &err))
        fail_msg("%s", err.message);
    return checkpoint;
}

static void opens(const char *path, const char *variant, const char *expected_path, size_t n_tensors)
{
    lds_checkpoint *checkpoint = open_variant(path, variant);
    assert_string_equal(lds_checkpoint_path(checkpoint), expected_path);
    assert_int_equal(lds_checkpoint_n_tensors(checkpoint), n_tensors);
    lds_checkpoint_close(checkpoint);
}

static lds_error fails_with(const char *path, const lds_checkpoint_options *options, lds_status status,
                            const char *message)
{
    lds_error err = LDS_ERROR_INIT;
    lds_checkpoint *checkpoint = (lds_checkpoint *)&err;
    lds_status found = lds_checkpoint_open(&checkpoint, path, options, &err);
    assert_string_equal(err.message, message);
    assert_int_equal(found, status);
    assert_null(checkpoint);
    assert_int_equal(lds_checkpoint_open(&checkpoint, path, options, NULL), status);
    return err;
}

static void fails_variant(const char *path, const char *variant, lds_status status, const char *message)
{
    lds_checkpoint_options options;
    lds_checkpoint_options_init(&options, sizeof options);
    options.variant = variant;
    fails_with(path, &options, status, message);
}

static void fails(const char *path, lds_status status, const char *message)
{
    fails_with(path, NULL, status, message);
}

/* ---- one file ---- */

static void a_file_opens_by_any_name(void **state)
{
    (void)state;
    WEIGHTS("a/x.safetensors", "w", "b");
    WEIGHTS("blob", "w");
    opens("a/x.safetensors", NULL, "a/x.safetensors", 2);
    opens("blob", NULL, "blob", 1);
    lds_checkpoint *checkpoint = open_variant("a/x.safetensors", NULL);
    assert_string_equal(lds_checkpoint_dir(checkpoint), "a");
    assert_int_equal(lds_checkpoint_n_files(checkpoint), 1);
    assert_string_equal(lds_checkpoint_file(checkpoint, 0), "a/x.safetensors");
    assert_int_equal(lds_checkpoint_n_components(checkpoint), 0);
    assert_int_equal(lds_checkpoint_n_metadata(checkpoint), 0);
    assert_int_equal(lds_checkpoint_dtype(checkpoint), LDS_F32);
    lds_checkpoint_close(checkpoint);
    checkpoint = open_variant("blob", NULL);
    assert_string_equal(lds_checkpoint_dir(checkpoint), ".");
    lds_checkpoint_close(checkpoint);
    lds_checkpoint_close(NULL);
}

static void what_is_not_a_file_is_named_and_never_waited_for(void **state)
{
    (void)state;
    assert_int_equal(mkfifo("pipe", 0666), 0);
    fails("pipe", LDS_ERR_IO, "pipe: expected a regular file, found a pipe");
    fails("/dev/null", LDS_ERR_IO, "/dev/null: expected a regular file, found a character device");
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    fails("socket", LDS_ERR_IO, "socket: expected a regular file, found a socket or a device");
    mkdir("m", 0777);
    mkdir("m/model.safetensors", 0777);
    fails("m", LDS_ERR_IO, "m/model.safetensors: expected a regular file, found a directory");
    assert_int_equal(symlink("nowhere", "link"), 0);
    lds_error err = fails_with("link", NULL, LDS_ERR_NOT_FOUND,
                               "link: is a link to a file that is not there: No such file or directory");
    assert_int_equal(err.os_errno, ENOENT);
    fails("./no", LDS_ERR_NOT_FOUND, "./no: cannot be opened: No such file or directory");
    fails("pipe/x/y", LDS_ERR_NOT_FOUND, "pipe/x/y: cannot be opened: Not a directory");
    fails("https://host/x", LDS_ERR_NOT_FOUND,
          "https://host/x: expected a path or org/name, found a URL: nothing is ever downloaded");
    fails("", LDS_ERR_ARGUMENT, "expected a path, found an empty one");
    fails(NULL, LDS_ERR_ARGUMENT, "expected a path, found NULL");
}

static void damaged_files_say_what_to_do(void **state)
{
    (void)state;
    write_text("m/model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
    fails(
        "m", LDS_ERR_NOT_WEIGHTS,
        "m/model.safetensors: expected a safetensors file, found a git-lfs pointer, not the weights: run `git lfs "
        "pull`");
    write_text("m/model.safetensors", "");
    fails("m", LDS_ERR_TRUNCATED,
          "m/model.safetensors: expected a safetensors file, found an empty one: download it "
          "again");
    WEIGHTS("x", "a", "b");
    struct stat st;
    assert_int_equal(stat("x", &st), 0);
    for (off_t n = st.st_size - 1; n >= 0; n--) {
        lds_error err = LDS_ERROR_INIT;
        lds_checkpoint *checkpoint;
        assert_int_equal(truncate("x", n), 0);
        assert_int_equal(lds_checkpoint_open(&checkpoint, "x", NULL, &err), LDS_ERR_TRUNCATED);
        assert_true(n == 0 || err.offset == (uint64_t)n);
        assert_non_null(strstr(err.message, "download it again"));
    }
    WEIGHTS("x", "a", "b");
    assert_int_equal(truncate("x", st.st_size + 1), 0);
    char message[256];
    snprintf(message, sizeof message,
             "x: expected %d bytes, found %d: more than its tensors take (at byte %d)", (int)st.st_size,
             (int)st.st_size + 1, (int)st.st_size);
    fails("x", LDS_ERR_MALFORMED, message);
}

static void a_change_after_opening_is_seen(void **state)
{
    (void)state;
    WEIGHTS("x", "a");
    lds_checkpoint *checkpoint = open_variant("x", NULL);
    const lds_file *file = &checkpoint->files[0];
    lds_error err = LDS_ERROR_INIT;
    uint8_t byte;
    assert_int_equal(lds_file_check_unchanged(file, &err), LDS_OK);
    /* Neither another name nor another file of this name is a change. */
    assert_int_equal(rename("x", "y"), 0);
    WEIGHTS("x", "b");
    assert_int_equal(lds_file_check_unchanged(file, &err), LDS_OK);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, "y", times, 0), 0);
    assert_int_equal(lds_file_check_unchanged(file, &err), LDS_ERR_CHANGED);
    assert_string_equal(err.message, "x: changed since it was opened: it has been written to");
    assert_int_equal(truncate("y", 10), 0);
    assert_int_equal(lds_file_check_unchanged(file, &err), LDS_ERR_CHANGED);
    assert_non_null(strstr(err.message, "found 10"));
    assert_int_equal(lds_file_read(file->fd, &byte, 1, 10, &err), LDS_ERR_CHANGED);
    assert_int_equal(err.offset, 10);
    lds_checkpoint_close(checkpoint);
}

/* ---- shards ---- */

#define INDEX(path, map) write_text(path, "{\"metadata\":{\"total_size\":8},\"weight_map\":{" map "}}")

static void shards_come_in_the_order_of_their_names(void **state)
{
    (void)state;
    write_weights("m/model-00001-of-00002.safetensors", "{\"format\":\"pt\",\"one\":\"1\"}", 2,
                  (const char *[]){"a", "c"});
    write_weights("m/model-00002-of-00002.safetensors", "{\"two\":\"2\",\"format\":\"np\"}", 1,
                  (const char *[]){"b"});
    INDEX("m/model.safetensors.index.json", "\"b\":\"model-00002-of-00002.safetensors\","
                                            "\"a\":\"model-00001-of-00002.safetensors\"");
    lds_checkpoint *checkpoint = open_variant("m/", NULL);
    assert_string_equal(lds_checkpoint_path(checkpoint), "m/model.safetensors.index.json");
    assert_string_equal(lds_checkpoint_dir(checkpoint), "m");
    assert_int_equal(lds_checkpoint_n_files(checkpoint), 2);
    assert_string_equal(lds_checkpoint_file(checkpoint, 1), "m/model-00002-of-00002.safetensors");
    /* "c" is in a shard, though the index does not name it. */
    static const char *const names[] = {"a", "c", "b"};
    for (size_t i = 0; i < 3; i++) {
        const lds_tensor *tensor = lds_checkpoint_tensor(checkpoint, i);
        assert_string_equal(lds_tensor_name(tensor), names[i]);
        assert_int_equal(lds_tensor_file(tensor), i / 2);
        assert_ptr_equal(lds_checkpoint_find(checkpoint, names[i]), tensor);
    }
    static const char *const pairs[][2] = {{"format", "pt"}, {"one", "1"}, {"two", "2"}};
    assert_int_equal(lds_checkpoint_n_metadata(checkpoint), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(lds_checkpoint_metadata_key(checkpoint, i), pairs[i][0]);
        assert_string_equal(lds_checkpoint_metadata_value(checkpoint, i), pairs[i][1]);
    }
    lds_checkpoint_close(checkpoint);
    opens("m/model.safetensors.index.json", NULL, "m/model.safetensors.index.json", 3);
}

static void an_index_and_its_shards_agree(void **state)
{
    (void)state;
    WEIGHTS("1.safetensors", "a");
    WEIGHTS("2.safetensors", "b");
    WEIGHTS("again.safetensors", "a");
    WEIGHTS("sub/3.safetensors", "c");
    INDEX("x.json", "\"a\":\"1.safetensors\",\"c\":\"sub/3.safetensors\"");
    opens("x.json", NULL, "x.json", 2);
    INDEX("x.json", "\"a\":\"1.safetensors\",\"d\":\"2.safetensors\"");
    fails("x.json", LDS_ERR_MALFORMED, "x.json: d: expected it in 2.safetensors, found it in no shard");
    INDEX("x.json", "\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"");
    fails("x.json", LDS_ERR_MALFORMED, "x.json: a: expected it in 2.safetensors, found it in 1.safetensors");
    INDEX("x.json", "\"a\":\"1.safetensors\",\"z\":\"again.safetensors\"");
    fails("x.json", LDS_ERR_MALFORMED,
          "./again.safetensors: a: expected it in one file, found it in ./1.safetensors too");
    INDEX("x.json", "\"a\":\"1.safetensors\",\"z\":\"gone.safetensors\"");
    fails("x.json", LDS_ERR_NOT_FOUND,
          "x.json: expected the shard gone.safetensors beside the index, found none: download it");
    write_text("2.safetensors", "<!doctype html>");
    INDEX("x.json", "\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"");
    fails(
        "x.json", LDS_ERR_NOT_WEIGHTS,
        "./2.safetensors: expected a safetensors file, found a web page saved in place of the weights: download it "
        "again");
}

static void an_index_stays_in_its_directory(void **state)
{
    (void)state;
    WEIGHTS("a.safetensors", "a");
    mkdir("m", 0777);
    static const char *const outside[] = {"../a.safetensors",      "/etc/passwd", "",   ".",  "..",
                                          "x/../../a.safetensors", "x//a",        "x/", "./a"};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        char text[256], message[256];
        snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", outside[i]);
        write_text("m/x.json", text);
        snprintf(message, sizeof message,
                 "m/x.json: a: expected a file beside the index, found \"%s\" (at byte 19)", outside[i]);
        fails("m/x.json", LDS_ERR_MALFORMED, message);
    }
}

static void an_index_keeps_its_rules(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[]", "expected an object with a \"weight_map\", found an array (at byte 0)"},
        {"{}", "expected an index with a \"weight_map\", found none"},
        {"{\"weight_map\":{}}", "expected a \"weight_map\" with tensors, found an empty one"},
        {"{\"weight_map\":[]}", "expected \"weight_map\" to be an object, found an array (at byte 14)"},
        {"{\"weight_map\":{\"a\":1}}", "a: expected the name of a file, found 1 (at byte 19)"},
        {"{\"weight_map\":{\"a\":\"x\",\"a\":\"x\"}}",
         "a: expected each name once, found it twice (at byte 23)"},
        {"{\"weight_map\":{\"a\\u0000\":\"x\"}}",
         "a: expected a name, found a NUL character in it (at byte 15)"},
        {"{\"weight_map\":{\"a\":\"x\"},\"weight_map\":{}}",
         "expected one \"weight_map\", found two (at byte 24)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char message[256];
        write_text("x.json", cases[i][0]);
        snprintf(message, sizeof message, "x.json: %s", cases[i][1]);
        fails("x.json", LDS_ERR_MALFORMED, message);
    }
    write_text("x.json", "{\"weight_map\":{\"a\":\"x\"}");
    lds_error err = LDS_ERROR_INIT;
    lds_checkpoint *checkpoint;
    assert_int_equal(lds_checkpoint_open(&checkpoint, "x.json", NULL, &err), LDS_ERR_MALFORMED);
    assert_int_equal(err.offset, 23);
    assert_memory_equal(err.message, "x.json: expected ", 17);
}

/* ---- model directories ---- */

#define WANTED "expected model, diffusion_pytorch_model or adapter_model .safetensors, whole or with an index"

static void the_frameworks_names_are_found(void **state)
{
    (void)state;
    static const char *const stems[] = {"model", "diffusion_pytorch_model", "adapter_model"};
    for (size_t i = 0; i < 3; i++) {
        char path[64], other[80];
        snprintf(path, sizeof path, "m/%s.safetensors", stems[i]);
        WEIGHTS(path, "a");
        opens("m", NULL, path, 1);
        fails_variant("m", "fp16", LDS_ERR_NOT_FOUND, "m: " WANTED ", of the variant fp16, found none");
        remove(path);
        snprintf(path, sizeof path, "m/%s.fp16.safetensors", stems[i]);
        WEIGHTS(path, "a");
        opens("m", "fp16", path, 1);
        fails("m", LDS_ERR_NOT_FOUND, "m: " WANTED ", found only the variant fp16: ask for variant fp16");
        fails_variant("m", "bf16", LDS_ERR_NOT_FOUND,
                      "m: " WANTED ", of the variant bf16, found none, but the variant fp16");
        remove(path);
        WEIGHTS("m/s.safetensors", "a");
        static const char *const index_of[] = {".index.", ".index.fp16.", ".fp16.index."};
        for (size_t k = 0; k < 3; k++) {
            snprintf(other, sizeof other, "m/%s.safetensors%sjson", stems[i], index_of[k]);
            INDEX(other, "\"a\":\"s.safetensors\"");
            opens("m", k ? "fp16" : NULL, other, 1);
            remove(other);
        }
    }
}

static void leftovers_do_not_change_what_is_opened(void **state)
{
    (void)state;
    WEIGHTS("m/model.safetensors", "a", "b");
    WEIGHTS("m/s.safetensors", "a");
    WEIGHTS("m/adapter_model.safetensors", "a", "b", "c");
    INDEX("m/model.safetensors.index.json", "\"a\":\"s.safetensors\"");
    opens("m", NULL, "m/model.safetensors", 2);
    WEIGHTS("d/diffusion_pytorch_model.safetensors", "a", "b");
    WEIGHTS("d/s.safetensors", "a");
    INDEX("d/diffusion_pytorch_model.safetensors.index.json", "\"a\":\"s.safetensors\"");
    opens("d", NULL, "d/diffusion_pytorch_model.safetensors.index.json", 1);
    WEIGHTS("d/model.safetensors", "a");
    fails("d", LDS_ERR_MALFORMED,
          "d: expected the weights of one model, found model.safetensors and "
          "diffusion_pytorch_model.safetensors.index.json: name one");
}

static void a_directory_without_weights_is_explained(void **state)
{
    (void)state;
    mkdir("m", 0777);
    fails("m", LDS_ERR_NOT_FOUND, "m: " WANTED ", or a model_index.json, found none");
    mkdir("models--org--name", 0777);
    mkdir("models--org--name/snapshots", 0777);
    fails("models--org--name", LDS_ERR_NOT_FOUND,
          "models--org--name: " WANTED
          ", found a model's folder of the hub cache: name org/name, or a folder in snapshots");
    write_text("m/model.safetensors.part", "");
    write_text("m/0a1b.incomplete", "");
    fails("m", LDS_ERR_NOT_FOUND,
          "m: " WANTED ", found 0a1b.incomplete, a download that did not finish: start it again");
    write_text("m/pytorch_model.bin", "PK\3\4");
    fails("m", LDS_ERR_UNSUPPORTED,
          "m: " WANTED ", found pytorch_model.bin: that format is not supported yet");
    WEIGHTS("m/flux.safetensors", "a");
    WEIGHTS("m/zlux.safetensors", "a");
    fails("m", LDS_ERR_NOT_FOUND, "m: " WANTED ", found flux.safetensors: name that file itself");
    WEIGHTS("m/model-00001-of-00002.safetensors", "a");
    fails("m", LDS_ERR_NOT_FOUND,
          "m: " WANTED ", found model-00001-of-00002.safetensors without its .safetensors.index.json");
    fails_variant("m", "", LDS_ERR_ARGUMENT, "expected a variant like \"fp16\", found \"\"");
    fails_variant("m", "../x", LDS_ERR_ARGUMENT, "expected a variant like \"fp16\", found \"../x\"");
}

/* ---- pipelines ---- */

static void a_pipeline_has_components(void **state)
{
    (void)state;
    write_text(
        "p/model_index.json",
        "{\"_class_name\":\"P\",\"_x\":[\"a\",\"B\"],\"vae\":[\"diffusers\",\"AutoencoderKL\"],"
        "\"scheduler\":[\"diffusers\",\"DDIMScheduler\"],\"tokenizer\":[\"transformers\",\"T5Tokenizer\"],"
        "\"safety_checker\":[null,null],\"ratio\":-Infinity,\"sizes\":[1,2],\"flags\":{\"a\":[\"b\",\"C\"]},"
        "\"text_encoder\":[\"transformers\",\"T5EncoderModel\"],\"helper\":[\"custom\",\"Helper\"]}");
    WEIGHTS("p/vae/diffusion_pytorch_model.safetensors", "v");
    WEIGHTS("p/text_encoder/model.safetensors", "t", "u");
    WEIGHTS("p/text_encoder/model.fp16.safetensors", "t");
    write_text("p/scheduler/scheduler_config.json", "{}");
    mkdir("p/helper", 0777);
    lds_checkpoint *checkpoint = open_variant("p", NULL);
    assert_string_equal(lds_checkpoint_path(checkpoint), "p");
    assert_string_equal(lds_checkpoint_dir(checkpoint), "p");
    assert_int_equal(lds_checkpoint_n_tensors(checkpoint), 0);
    assert_int_equal(lds_checkpoint_dtype(checkpoint), LDS_DTYPE_NONE);
    assert_null(lds_checkpoint_find(checkpoint, "v"));
    assert_int_equal(lds_checkpoint_n_components(checkpoint), 2);
    assert_string_equal(lds_checkpoint_component_name(checkpoint, 0), "vae");
    assert_string_equal(lds_checkpoint_component_name(checkpoint, 1), "text_encoder");
    assert_int_equal(lds_checkpoint_n_tensors(lds_checkpoint_component(checkpoint, 1)), 2);
    assert_string_equal(lds_checkpoint_dir(lds_checkpoint_component(checkpoint, 0)), "p/vae");
    lds_checkpoint_close(checkpoint);
    /* The variant where there is one, the plain files elsewhere. */
    checkpoint = open_variant("p/model_index.json", "fp16");
    assert_int_equal(lds_checkpoint_n_tensors(lds_checkpoint_component(checkpoint, 1)), 1);
    assert_int_equal(lds_checkpoint_n_tensors(lds_checkpoint_component(checkpoint, 0)), 1);
    lds_checkpoint_close(checkpoint);
    fails_variant("p", "int8", LDS_ERR_NOT_FOUND,
                  "p: expected a component with files of the variant int8, found none");
}

static void a_pipeline_lacks_no_model(void **state)
{
    (void)state;
    write_text("p/model_index.json", "{\"vae\":[\"diffusers\",\"AutoencoderKL\"]}");
    fails("p", LDS_ERR_NOT_FOUND, "p/vae: expected the folder of the component vae, found none");
    mkdir("p/vae", 0777);
    fails("p", LDS_ERR_NOT_FOUND, "p: expected components with weights, found none");
    write_text("p/vae/config.json", "{}");
    fails("p", LDS_ERR_NOT_FOUND, "p/vae: " WANTED ", or a model_index.json, found none");
    write_text("p/vae/diffusion_pytorch_model.safetensors", "GGUF....");
    fails(
        "p", LDS_ERR_NOT_WEIGHTS,
        "p/vae/diffusion_pytorch_model.safetensors: expected a safetensors file, found a GGUF file: it has the wrong "
        "name");
}

static void a_pipeline_leaves_no_weights_out(void **state)
{
    (void)state;
    write_text("p/model_index.json", "{\"a\":[\"x\",\"Model\"],\"b\":[\"x\",\"Model\"]}");
    WEIGHTS("p/a/model.safetensors", "w");
    write_text("p/b/README.md", "no weights");
    lds_checkpoint *checkpoint = open_variant("p", NULL);
    assert_int_equal(lds_checkpoint_n_components(checkpoint), 1);
    lds_checkpoint_close(checkpoint);
    write_text("p/b/pytorch_model.bin", "PK");
#define NO_BIN "p/b: " WANTED ", found pytorch_model.bin: that format is not supported yet"
    fails("p", LDS_ERR_UNSUPPORTED, NO_BIN);
    WEIGHTS("p/a/model.fp16.safetensors", "w");
    fails_variant("p", "fp16", LDS_ERR_UNSUPPORTED, NO_BIN);
    WEIGHTS("p/b/model.int8.safetensors", "w");
    fails("p", LDS_ERR_NOT_FOUND, "p/b: " WANTED ", found only the variant int8: ask for variant int8");
    fails_variant("p", "fp16", LDS_ERR_NOT_FOUND,
                  "p/b: " WANTED ", of the variant fp16, found none, but the variant int8");
}

static void a_model_index_keeps_its_rules(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[]", "expected an object of components, found an array (at byte 0)"},
        {"{\"..\":[\"a\",\"B\"]}", "expected the name of a folder, found \"..\" (at byte 1)"},
        {"{\"a/b\":[\"a\",\"B\"]}", "expected the name of a folder, found \"a/b\" (at byte 1)"},
        {"{\"\":[\"a\",\"B\"]}", "expected the name of a folder, found \"\" (at byte 1)"},
        {"{\"a\":[\"a\",\"B\"],\"a\":[\"a\",\"B\"]}",
         "expected the component a once, found it twice (at byte 15)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char message[256];
        write_text("p/model_index.json", cases[i][0]);
        snprintf(message, sizeof message, "p/model_index.json: %s", cases[i][1]);
        fails("p", LDS_ERR_MALFORMED, message);
    }
}

/* ---- the hub cache ---- */

static void clear_hub_variables(void)
{
    static const char *const names[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    setenv("HOME", "nobody", 1);
}

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static void the_hub_cache_is_where_the_environment_says(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"HF_HUB_CACHE", "c1", "c1"},
        {"HUGGINGFACE_HUB_CACHE", "c2", "c2"},
        {"HF_HOME", "c3", "c3/hub"},
        {"HF_HOME", "~/c4", "nobody/c4/hub"},
        {"XDG_CACHE_HOME", "c5", "c5/huggingface/hub"},
        {"HOME", "nobody", "nobody/.cache/huggingface/hub"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        clear_hub_variables();
        setenv(cases[i][0], cases[i][1], 1);
        const char *cache = cases[i][2];
        snprintf(path, sizeof path, "%s/models--org--name/snapshots/" COMMIT "/model.safetensors", cache);
        WEIGHTS(path, "a");
        char ref[256];
        snprintf(ref, sizeof ref, "%s/models--org--name/refs/main", cache);
        write_text(ref, COMMIT "\n");
        opens("org/name", NULL, path, 1);
        snprintf(path, sizeof path, "%s/models--org--name", cache);
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        snprintf(ref, sizeof ref,
                 "org/name: expected a file or directory, or a model in the hub cache, found neither it nor "
                 "%s/models--org--name",
                 cache);
        fails("org/name", LDS_ERR_NOT_FOUND, ref);
    }
}

static void hub_models_have_revisions(void **state)
{
    (void)state;
    clear_hub_variables();
    setenv("HF_HUB_CACHE", "hub", 1);
    write_text("hub/models--gpt2/refs/main", COMMIT);
    write_text("hub/models--gpt2/refs/refs/pr/1", "cafe");
    WEIGHTS("hub/models--gpt2/blobs/1", "a");
    WEIGHTS("hub/models--gpt2/snapshots/cafe/model.safetensors", "a", "b");
    mkdir("hub/models--gpt2/snapshots/" COMMIT, 0777);
    assert_int_equal(symlink("../../blobs/1", "hub/models--gpt2/snapshots/" COMMIT "/model.safetensors"), 0);
    lds_checkpoint_options options;
    lds_checkpoint_options_init(&options, sizeof options);
    static const struct {
        const char *revision;
        size_t n_tensors;
    } cases[] = {{NULL, 1}, {"main", 1}, {COMMIT, 1}, {"cafe", 2}, {"refs/pr/1", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lds_checkpoint *checkpoint;
        char *dir;
        options.revision = cases[i].revision;
        assert_int_equal(lds_checkpoint_open(&checkpoint, "gpt2", &options, NULL), LDS_OK);
        assert_int_equal(lds_checkpoint_n_tensors(checkpoint), cases[i].n_tensors);
        assert_int_equal(lds_resolve_dir(&dir, "gpt2", options.revision, NULL), LDS_OK);
        assert_string_equal(lds_checkpoint_dir(checkpoint), dir);
        lds_checkpoint_close(checkpoint);
        free(dir);
    }
    remove("hub/models--gpt2/refs/refs/pr/1");
    remove("hub/models--gpt2/refs/refs/pr");
    remove("hub/models--gpt2/refs/refs");
    remove("hub/models--gpt2/snapshots/cafe/model.safetensors");
    remove("hub/models--gpt2/snapshots/cafe");
    options.revision = "v2";
    fails_with(
        "gpt2", &options, LDS_ERR_NOT_FOUND,
        "hub/models--gpt2: expected the revision v2, found the branches and tags [main] and the commits [" COMMIT
        "]");
    mkdir("hub/models--gpt2/snapshots/aa", 0777);
    write_text("hub/models--gpt2/refs/x", "aa");
    write_text("hub/models--gpt2/refs/a", "aa");
    fails_with("gpt2", &options, LDS_ERR_NOT_FOUND,
               "hub/models--gpt2: expected the revision v2, found the branches and tags [a, main, x] and the "
               "commits [" COMMIT ", aa]");
    write_text("hub/models--gpt2/refs/gone", "ffff");
    options.revision = "gone";
    fails_with("gpt2", &options, LDS_ERR_NOT_FOUND,
               "hub/models--gpt2: expected the commit ffff of gone, found only [" COMMIT
               ", aa]: download it first");
    options.revision = "../../x";
    fails_with("gpt2", &options, LDS_ERR_ARGUMENT, "expected a branch, tag or commit, found \"../../x\"");
    write_text("hub/models--gpt2/refs/evil", "../../../..");
    options.revision = "evil";
    lds_checkpoint *checkpoint;
    assert_int_equal(lds_checkpoint_open(&checkpoint, "gpt2", &options, NULL), LDS_ERR_NOT_FOUND);
    assert_int_equal(unlink("hub/models--gpt2/blobs/1"), 0);
    fails("gpt2", LDS_ERR_NOT_FOUND,
          "hub/models--gpt2/snapshots/" COMMIT
          "/model.safetensors: is a link to a file that is not there: No such file or directory");
    /* What is here comes first. */
    WEIGHTS("gpt2/model.safetensors", "a", "b", "c");
    opens("gpt2", NULL, "gpt2/model.safetensors", 3);
}

static void directories_are_resolved(void **state)
{
    (void)state;
    char *dir = NULL;
    lds_error err = LDS_ERROR_INIT;
    mkdir("m", 0777);
    write_text("f", "");
    assert_int_equal(lds_resolve_dir(&dir, "m", NULL, &err), LDS_OK);
    assert_string_equal(dir, "m");
    free(dir);
    assert_int_equal(lds_resolve_dir(&dir, "f", NULL, &err), LDS_ERR_NOT_FOUND);
    assert_string_equal(err.message, "f: expected a directory, found a file");
    assert_int_equal(lds_resolve_dir(&dir, "a/b/c", NULL, &err), LDS_ERR_NOT_FOUND);
    assert_string_equal(err.message, "a/b/c: cannot be opened: No such file or directory");
}

static void text_is_read_whole_and_bounded(void **state)
{
    (void)state;
    char *text;
    size_t n;
    lds_error err = LDS_ERROR_INIT;
    write_text("t", "seven..");
    assert_int_equal(lds_read_text(&text, &n, "t", 7, &err), LDS_OK);
    assert_string_equal(text, "seven..");
    assert_int_equal(n, 7);
    free(text);
    assert_int_equal(lds_read_text(&text, &n, "t", 6, &err), LDS_ERR_MALFORMED);
    assert_string_equal(err.message, "t: expected at most 6 bytes of text, found 7");
    assert_int_equal(lds_read_text(&text, &n, "u", 6, &err), LDS_ERR_NOT_FOUND);
    assert_string_equal(err.message, "u: cannot be opened: No such file or directory");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, enter, leave)
    const struct CMUnitTest tests[] = {
        TEST(a_file_opens_by_any_name),
        TEST(what_is_not_a_file_is_named_and_never_waited_for),
        TEST(damaged_files_say_what_to_do),
        TEST(a_change_after_opening_is_seen),
        TEST(shards_come_in_the_order_of_their_names),
        TEST(an_index_and_its_shards_agree),
        TEST(an_index_stays_in_its_directory),
        TEST(an_index_keeps_its_rules),
        TEST(the_frameworks_names_are_found),
        TEST(leftovers_do_not_change_what_is_opened),
        TEST(a_directory_without_weights_is_explained),
        TEST(a_pipeline_has_components),
        TEST(a_pipeline_lacks_no_model),
        TEST(a_pipeline_leaves_no_weights_out),
        TEST(a_model_index_keeps_its_rules),
        TEST(the_hub_cache_is_where_the_environment_says),
        TEST(hub_models_have_revisions),
        TEST(directories_are_resolved),
        TEST(text_is_read_whole_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
