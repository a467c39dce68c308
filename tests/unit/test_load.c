/* Plans and loads: right values in the right place, and nothing half-done when something goes wrong. */
#include "loadstone.h"
#include "tests/unit/support.h"

/* Header of exactly the length that puts the data at a multiple of 8, as most writers do. */
#define PAD "      "

static char *folder;

static int set_up(void **state)
{
    (void)state;
    folder = make_folder();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

/* a: BF16 [2, 3] = 0.5 .. 5.5; b: F32 [4] = 1 .. 4; n: I64 [2]; e: BF16 [0, 7]; s: F16 scalar 1.5 */
static const char header[] = "{\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                             "\"s\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[12,14]},"
                             "\"e\":{\"dtype\":\"BF16\",\"shape\":[0,7],\"data_offsets\":[14,14]},"
                             "\"pad\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[14,16]},"
                             "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,32]},"
                             "\"n\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[32,48]}}";

static const struct __attribute__((packed)) {
    uint16_t a[6], s;
    uint8_t pad[2];
    float b[4];
    int64_t n[2];
} data = {{0x3F00, 0x3FC0, 0x4020, 0x4060, 0x4090, 0x40B0}, 0x3E00, {7, 8}, {1, 2, 3, 4}, {-5, 6}};
static const float a_values[6] = {0.5f, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f};

static const char *sample(void)
{
    /* Spaces so that the data begins at a multiple of 8. */
    char padded[sizeof header + 8];
    size_t n = sizeof header - 1;
    memcpy(padded, header, n);
    while (n % 8)
        padded[n++] = ' ';
    padded[n] = 0;
    const char *path = in_folder(folder, "sample.safetensors");
    write_safetensors(path, padded, &data, sizeof data);
    return path;
}

static lds_checkpoint *open_checkpoint(const char *path)
{
    lds_checkpoint *ck;
    lds_error err = LDS_ERROR_INIT;
    if (lds_checkpoint_open(&ck, path, NULL, &err))
        fail_msg("%s", err.message);
    return ck;
}

static lds_network *own_network(const lds_checkpoint *ck, lds_dtype dtype)
{
    lds_network *net;
    assert_int_equal(lds_network_from_checkpoint(&net, ck, dtype, NULL), LDS_OK);
    return net;
}

static lds_load_options options_init(void)
{
    lds_load_options o;
    lds_load_options_init(&o, sizeof o);
    return o;
}

static void load_ok(lds_network *net, const lds_checkpoint *ck, const lds_load_options *o,
                    lds_report **report)
{
    lds_error err = LDS_ERROR_INIT;
    if (lds_load(net, ck, o, report, &err))
        fail_msg("%s", err.message);
}

static lds_report_stats stats_of(const lds_report *report)
{
    lds_report_stats s = {.struct_size = sizeof s};
    lds_report_get_stats(report, &s);
    return s;
}

static lds_param *param(const lds_network *net, const char *name)
{
    lds_param *p = lds_network_find(net, name);
    assert_non_null(p);
    return p;
}

static void assert_no_storage(const lds_network *net)
{
    for (size_t i = 0; i < lds_network_n_params(net); i++)
        assert_null(lds_param_data(lds_network_param(net, i)));
}

/* ------------------------------------------------------------------------------------------------------- */

static void same_dtypes_are_mapped(void **state)
{
    (void)state;
    const char *path = sample();
    lds_checkpoint *ck = open_checkpoint(path);
    lds_network *net = own_network(ck, LDS_DTYPE_NONE);
    lds_report *report;
    load_ok(net, ck, NULL, &report);
    lds_checkpoint_close(ck);
    assert_int_equal(unlink(path), 0);
    assert_memory_equal(lds_param_data(param(net, "a")), data.a, sizeof data.a);
    assert_memory_equal(lds_param_data(param(net, "b")), data.b, sizeof data.b);
    assert_memory_equal(lds_param_data(param(net, "n")), data.n, sizeof data.n);
    assert_memory_equal(lds_param_data(param(net, "s")), &data.s, 2);
    assert_non_null(lds_param_data(param(net, "e")));
    lds_report_stats s = stats_of(report);
    assert_string_equal(s.source, "map");
    assert_string_equal(s.reason, "same dtype, local file system");
    assert_int_equal(s.n_tensors, 6);
    assert_int_equal(s.mapped_nbytes, sizeof data);
    assert_int_equal(s.read_nbytes, 0);
    assert_int_equal(s.written_nbytes, 0);
    double phases = s.plan_seconds + s.cache_seconds + s.memory_seconds + s.transfer_seconds +
                    s.init_seconds + s.check_seconds;
    assert_true(phases > s.seconds - 1e-9 && phases < s.seconds + 1e-9); /* but for rounding */
    assert_non_null(strstr(lds_report_text(report), "6 tensors"));
    lds_report_free(report);
    lds_network_free(net);
}

static void writing_to_a_mapped_weight_leaves_the_file_alone(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = own_network(ck, LDS_DTYPE_NONE), *again = own_network(ck, LDS_DTYPE_NONE);
    load_ok(net, ck, NULL, NULL);
    memset(lds_param_data(param(net, "b")), 0xEE, sizeof data.b);
    load_ok(again, ck, NULL, NULL);
    assert_memory_equal(lds_param_data(param(again, "b")), data.b, sizeof data.b);
    lds_storage *kept = lds_param_storage(param(net, "b"));
    const uint8_t *bytes = lds_param_data(param(net, "b"));
    lds_network_free(net);
    assert_int_equal(bytes[0], 0xEE);
    lds_storage_release(kept);
    lds_network_free(again);
    lds_checkpoint_close(ck);
}

static void floats_are_converted_and_others_kept(void **state)
{
    (void)state;
    for (int io = LDS_IO_AUTO; io <= LDS_IO_READ; io++) {
        lds_checkpoint *ck = open_checkpoint(sample());
        lds_network *net = own_network(ck, LDS_F32);
        lds_load_options o = options_init();
        o.io = (lds_io)io;
        lds_report *report;
        load_ok(net, ck, &o, &report);
        assert_memory_equal(lds_param_data(param(net, "a")), a_values, sizeof a_values);
        assert_memory_equal(lds_param_data(param(net, "b")), data.b, sizeof data.b);
        assert_memory_equal(lds_param_data(param(net, "n")), data.n, sizeof data.n);
        const float scalar = 1.5f;
        assert_memory_equal(lds_param_data(param(net, "s")), &scalar, 4);
        assert_int_equal(lds_param_nbytes(param(net, "a")), 24);
        const lds_report_stats stats = stats_of(report);
        const char *unless_read = stats.fallback ? "map+read" : "map+view";
        assert_string_equal(stats.source, io == LDS_IO_READ ? "read" : unless_read);
        assert_string_equal(stats_of(report).reason, io == LDS_IO_READ ? "as asked" : "dtypes differ");
        lds_report_free(report);
        lds_network_free(net);
        lds_checkpoint_close(ck);
    }
}

static void one_dtype_for_all_but_what_is_kept(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = own_network(ck, LDS_DTYPE_NONE);
    const char *const keep[] = {"[ab]"};
    lds_load_options o = options_init();
    o.dtype = LDS_F16;
    o.keep_f32 = keep;
    o.n_keep_f32 = 1;
    load_ok(net, ck, &o, NULL);
    assert_int_equal(lds_param_dtype(param(net, "a")), LDS_F32);
    assert_int_equal(lds_param_dtype(param(net, "b")), LDS_F32);
    assert_int_equal(lds_param_dtype(param(net, "s")), LDS_F16);
    assert_int_equal(lds_param_dtype(param(net, "n")), LDS_I64);
    assert_memory_equal(lds_param_data(param(net, "a")), a_values, sizeof a_values);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void integers_are_not_converted(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    static const char manifest[] = "[{\"name\":\"n\",\"dtype\":\"F32\",\"shape\":[2]}]";
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_network_from_manifest(&net, manifest, sizeof manifest - 1, "m", &err), LDS_OK);
    lds_load_options o = options_init();
    o.strict = false;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "sample.safetensors: n: expected F32, found I64"));
    assert_no_storage(net);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void what_is_not_aligned_is_copied(void **state)
{
    (void)state;
    const char *path = in_folder(folder, "odd.safetensors");
    char odd[sizeof header + 8];
    snprintf(odd, sizeof odd, "%s%s", header, (sizeof header - 1) % 2 ? "" : " ");
    write_safetensors(path, odd, &data, sizeof data);
    lds_checkpoint *ck = open_checkpoint(path);
    lds_network *net = own_network(ck, LDS_DTYPE_NONE);
    lds_report *report;
    load_ok(net, ck, NULL, &report);
    assert_memory_equal(lds_param_data(param(net, "b")), data.b, sizeof data.b);
    assert_int_equal((uintptr_t)lds_param_data(param(net, "b")) % 4, 0);
    assert_string_equal(stats_of(report).reason, "unaligned in the file");
    assert_int_equal(stats_of(report).mapped_nbytes, 2); /* the bytes of "pad" */
    lds_report_free(report);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

/* ------------------------------------------------------------------------------------------------------- */

static lds_network *misfit(void)
{
    static const char manifest[] = "[{\"name\":\"a\",\"dtype\":\"BF16\",\"shape\":[3,2],\"init\":\"zeros\"},"
                                   "{\"name\":\"b\",\"dtype\":\"F32\",\"shape\":[4]},"
                                   "{\"name\":\"s\",\"dtype\":\"F16\",\"shape\":[]},"
                                   "{\"name\":\"extra\",\"dtype\":\"F32\",\"shape\":[3],\"init\":\"ones\"},"
                                   "{\"name\":\"bare\",\"dtype\":\"F32\",\"shape\":[3]}]";
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    if (lds_network_from_manifest(&net, manifest, sizeof manifest - 1, "m", &err))
        fail_msg("%s", err.message);
    return net;
}

static void an_empty_name_is_seen_in_messages(void **state)
{
    (void)state;
    static const char manifest[] = "[{\"name\":\"\",\"dtype\":\"BF16\",\"shape\":[2]}]";
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_network_from_manifest(&net, manifest, sizeof manifest - 1, "m", NULL), LDS_OK);
    assert_int_equal(lds_load(net, ck, NULL, NULL, &err), LDS_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "does not fit the network: 1 missing (first \"\"), "));
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void a_misfit_is_reported_whole_and_nothing_is_loaded(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = misfit();
    lds_report *report;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_load(net, ck, NULL, &report, &err), LDS_ERR_MISMATCH);
    assert_non_null(strstr(err.message,
                           "sample.safetensors: does not fit the network: 2 missing (first extra), "
                           "3 unexpected (first e), "
                           "1 of another shape (first a: expected [3, 2], found [2, 3])"));
    assert_int_equal(lds_report_count(report, LDS_REPORT_MISSING), 2);
    assert_string_equal(lds_report_name(report, LDS_REPORT_MISSING, 1), "bare");
    assert_int_equal(lds_report_count(report, LDS_REPORT_UNEXPECTED), 3);
    assert_string_equal(lds_report_detail(report, LDS_REPORT_MISMATCHED, 0), "expected [3, 2], found [2, 3]");
    uint32_t n_dims;
    const uint64_t *found = lds_report_found_shape(report, 0, &n_dims);
    assert_int_equal(n_dims, 2);
    assert_true(found[0] == 2 && found[1] == 3);
    assert_no_storage(net);
    lds_report_free(report);

    lds_load_options o = options_init();
    o.strict = false;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_MISMATCH);
    assert_null(strstr(err.message, "missing"));
    assert_no_storage(net);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void what_is_missing_is_initialised_if_allowed(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = misfit();
    lds_load_options o = options_init();
    o.strict = false;
    o.ignore_mismatched = true;
    lds_report *report;
    load_ok(net, ck, &o, &report);
    const float ones[3] = {1, 1, 1};
    const uint8_t zeros[12] = {0};
    assert_memory_equal(lds_param_data(param(net, "extra")), ones, sizeof ones);
    assert_memory_equal(lds_param_data(param(net, "a")), zeros, sizeof zeros);
    assert_memory_equal(lds_param_data(param(net, "b")), data.b, sizeof data.b);
    assert_null(lds_param_data(param(net, "bare")));
    assert_int_equal(lds_report_count(report, LDS_REPORT_INITIALISED), 2);
    assert_int_equal(lds_report_count(report, LDS_REPORT_MISSING), 2);
    lds_report_free(report);
    lds_network_free(net);

    net = misfit();
    o.init_missing = false;
    load_ok(net, ck, &o, NULL);
    assert_null(lds_param_data(param(net, "extra")));
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void only_the_names_asked_for_are_loaded(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = own_network(ck, LDS_DTYPE_NONE);
    const char *names[] = {"b", "[n]*"};
    lds_load_options o = options_init();
    o.names = names;
    o.n_names = 2;
    lds_report *report;
    load_ok(net, ck, &o, &report);
    assert_int_equal(stats_of(report).n_tensors, 2);
    assert_null(lds_param_data(param(net, "a")));
    assert_memory_equal(lds_param_data(param(net, "n")), data.n, sizeof data.n);
    lds_report_free(report);
    names[1] = "none.*";
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_NAME);
    assert_string_equal(err.message, "no parameter of the network matches 'none.*'");
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static lds_network *tied_network(void)
{
    static const char manifest[] = "[{\"name\":\"shared\",\"dtype\":\"F32\",\"shape\":[4]},"
                                   "{\"name\":\"alias\",\"tied_to\":\"shared\"}]";
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    if (lds_network_from_manifest(&net, manifest, sizeof manifest - 1, "m", &err))
        fail_msg("%s", err.message);
    return net;
}

static void either_name_of_a_tie_will_do(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{\"shared\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}" PAD,
        "{\"alias\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}" PAD,
        "{\"alias\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
        "\"shared\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,32]}}" PAD,
    };
    const float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (size_t i = 0; i < 3; i++) {
        const char *path = in_folder(folder, "tied.safetensors");
        write_safetensors(path, headers[i], values, i == 2 ? 32 : 16);
        lds_checkpoint *ck = open_checkpoint(path);
        lds_network *net = tied_network();
        lds_report *report;
        load_ok(net, ck, NULL, &report);
        assert_memory_equal(lds_param_data(param(net, "shared")), values + (i == 2 ? 4 : 0), 16);
        assert_ptr_equal(lds_param_data(param(net, "alias")), lds_param_data(param(net, "shared")));
        assert_int_equal(lds_report_count(report, LDS_REPORT_TIED), 1);
        assert_string_equal(lds_report_detail(report, LDS_REPORT_TIED, 0), "shared");
        lds_report_free(report);
        lds_network_free(net);
        lds_checkpoint_close(ck);
    }
}

static void names_and_shapes_go_through_the_key_map(void **state)
{
    (void)state;
    static const char rules[] = "{\"rules\":[{\"exact\":\"b\",\"to\":\"net.weight\",\"reshape\":[2,-1]},"
                                "{\"regex\":\"^[aens]$|pad\",\"drop\":true}]}";
    static const char manifest[] = "[{\"name\":\"net.weight\",\"dtype\":\"F32\",\"shape\":[2,2]}]";
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_keymap *keymap;
    lds_network *net;
    assert_int_equal(lds_keymap_from_json(&keymap, rules, sizeof rules - 1, "k", NULL), LDS_OK);
    assert_int_equal(lds_network_from_manifest(&net, manifest, sizeof manifest - 1, "m", NULL), LDS_OK);
    lds_load_options o = options_init();
    o.keymap = keymap;
    load_ok(net, ck, &o, NULL);
    assert_memory_equal(lds_param_data(param(net, "net.weight")), data.b, sizeof data.b);
    lds_network_free(net);

    static const char both[] = "{\"rules\":[{\"regex\":\"^[bn]$\",\"to\":\"x\"}]}";
    static const char one[] = "[{\"name\":\"x\",\"dtype\":\"F32\",\"shape\":[4]}]";
    lds_keymap_free(keymap);
    assert_int_equal(lds_keymap_from_json(&keymap, both, sizeof both - 1, "k", NULL), LDS_OK);
    assert_int_equal(lds_network_from_manifest(&net, one, sizeof one - 1, "m", NULL), LDS_OK);
    o.keymap = keymap;
    o.strict = false;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_NAME);
    assert_non_null(strstr(err.message, "n: leads to parameter x, and so does tensor b"));
    lds_keymap_free(keymap);

    static const char reshape[] = "{\"rules\":[{\"exact\":\"b\",\"reshape\":[7]}]}";
    assert_int_equal(lds_keymap_from_json(&keymap, reshape, sizeof reshape - 1, "k", NULL), LDS_OK);
    o.keymap = keymap;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_MISMATCH);
    assert_non_null(strstr(err.message, ": b: expected a shape that the key map can make [7], found ["));
    assert_null(strstr(err.message, ": b: b: "));
    lds_keymap_free(keymap);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static lds_keymap *keymap_of(const char *json)
{
    lds_keymap *keymap;
    assert_int_equal(lds_keymap_from_json(&keymap, json, strlen(json), "k", NULL), LDS_OK);
    return keymap;
}

static void a_key_map_makes_the_network_that_it_fits(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_keymap *keymap =
        keymap_of("{\"rules\":[{\"exact\":\"b\",\"to\":\"net.b\",\"reshape\":[2,-1]},"
                  "{\"exact\":\"a\",\"to\":\"b\",\"add_dim\":0},{\"regex\":\"e|pad\",\"drop\":true}]}");
    lds_network *net;
    assert_int_equal(lds_network_from_keymap(&net, ck, keymap, LDS_F32, NULL), LDS_OK);
    assert_int_equal(lds_network_n_params(net), 4);
    assert_string_equal(lds_param_name(lds_network_param(net, 0)), "b");
    assert_int_equal(lds_param_n_dims(param(net, "b")), 3);
    assert_int_equal(lds_param_dtype(param(net, "s")), LDS_F32);
    assert_int_equal(lds_param_dtype(param(net, "n")), LDS_I64);
    assert_int_equal(lds_param_shape(param(net, "net.b"))[1], 2);
    lds_load_options o = options_init();
    o.keymap = keymap;
    load_ok(net, ck, &o, NULL);
    assert_memory_equal(lds_param_data(param(net, "b")), a_values, sizeof a_values);
    assert_memory_equal(lds_param_data(param(net, "net.b")), data.b, sizeof data.b);
    lds_network_free(net);
    lds_keymap_free(keymap);
    lds_checkpoint_close(ck);
}

static void a_key_map_that_makes_no_network_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        lds_status status;
        const char *message;
    } cases[] = {
        {"{\"rules\":[{\"regex\":\"^[bn]$\",\"to\":\"x\"}]}", LDS_ERR_NAME,
         "sample.safetensors: n: leads to parameter x, and so does tensor b"},
        {"{\"rules\":[{\"exact\":\"b\",\"reshape\":[7]}]}", LDS_ERR_MISMATCH,
         "sample.safetensors: b: expected a shape that the key map can make [7], found [4]"},
    };
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = (lds_network *)&net;
    lds_error err = LDS_ERROR_INIT;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lds_keymap *keymap = keymap_of(cases[i].json);
        assert_int_equal(lds_network_from_keymap(&net, ck, keymap, LDS_DTYPE_NONE, &err), cases[i].status);
        assert_non_null(strstr(err.message, cases[i].message));
        assert_null(net);
        assert_int_equal(lds_network_from_keymap(&net, ck, keymap, LDS_I8, &err), LDS_ERR_ARGUMENT);
        assert_string_equal(err.message, "expected a float dtype or none, found I8");
        lds_keymap_free(keymap);
    }
    lds_checkpoint_close(ck);
}

static void two_tensors_for_one_parameter_are_refused(void **state)
{
    (void)state;
    static const char two[] = "{\"p.x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                              "\"q.x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}";
    static const char rules[] = "{\"rules\":[{\"regex\":\"^[pq]\\\\.\",\"to\":\"\"}]}";
    static const char manifest[] = "[{\"name\":\"x\",\"dtype\":\"F32\",\"shape\":[2]}]";
    const char *path = in_folder(folder, "two.safetensors");
    write_safetensors(path, two, data.b, 16);
    lds_checkpoint *ck = open_checkpoint(path);
    lds_keymap *keymap;
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_keymap_from_json(&keymap, rules, sizeof rules - 1, "k", &err), LDS_OK);
    assert_int_equal(lds_network_from_manifest(&net, manifest, sizeof manifest - 1, "m", &err), LDS_OK);
    lds_load_options o = options_init();
    o.keymap = keymap;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_NAME);
    assert_non_null(
        strstr(err.message, "two.safetensors: q.x: leads to parameter x, and so does tensor p.x"));
    lds_keymap_free(keymap);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

/* ------------------------------------------------------------------------------------------------------- */

static void the_callers_memory_is_filled_in_place(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = own_network(ck, LDS_F32);
    float a[6] = {0}, b[4] = {0};
    assert_int_equal(lds_param_bind(param(net, "a"), a, sizeof a, NULL, NULL, NULL), LDS_OK);
    assert_int_equal(lds_param_bind(param(net, "b"), b, sizeof b, NULL, NULL, NULL), LDS_OK);
    for (int round = 0; round < 2; round++) {
        memset(a, 0, sizeof a);
        load_ok(net, ck, NULL, NULL);
        assert_ptr_equal(lds_param_data(param(net, "a")), a);
        assert_memory_equal(a, a_values, sizeof a);
        assert_memory_equal(b, data.b, sizeof b);
    }
    lds_load_options o = options_init();
    o.dtype = LDS_F16;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "a: lies in the caller's memory as F32 and cannot become F16 there");
    assert_ptr_equal(lds_param_data(param(net, "a")), a);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void *count_alloc(void *ctx, size_t nbytes, size_t alignment)
{
    ++*(int *)ctx;
    return aligned_alloc(alignment, (nbytes + alignment - 1) & ~(alignment - 1));
}

static void count_free(void *ctx, void *p, size_t nbytes)
{
    (void)nbytes;
    --*(int *)ctx;
    free(p);
}

static void an_allocator_gets_everything(void **state)
{
    (void)state;
    int n_blocks = 0;
    const lds_allocator allocator = {&n_blocks, count_alloc, count_free};
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = own_network(ck, LDS_DTYPE_NONE);
    lds_load_options o = options_init();
    o.allocator = &allocator;
    lds_report *report;
    load_ok(net, ck, &o, &report);
    assert_int_equal(n_blocks, 1);
    assert_string_equal(stats_of(report).reason, "into the caller's allocator");
    assert_memory_equal(lds_param_data(param(net, "b")), data.b, sizeof data.b);
    lds_report_free(report);
    lds_network_free(net);
    assert_int_equal(n_blocks, 0);
    lds_checkpoint_close(ck);
}

/* ------------------------------------------------------------------------------------------------------- */

enum { BIG = 3 << 20 };

/* One BF16 tensor of BIG elements, the numbers 0, 1, 2, ... of 16 bits. */
static const char *big_sample(void)
{
    const char *path = in_folder(folder, "big.safetensors");
    char text[200];
    snprintf(text, sizeof text, "{\"w\":{\"dtype\":\"BF16\",\"shape\":[%d],\"data_offsets\":[0,%d]}}        ",
             BIG, 2 * BIG);
    text[strlen(text) / 8 * 8] = 0;
    uint16_t *values = malloc(2 * BIG);
    for (size_t i = 0; i < BIG; i++)
        values[i] = (uint16_t)i;
    write_safetensors(path, text, values, 2 * BIG);
    free(values);
    return path;
}

static bool is_widened(const uint32_t *values)
{
    for (size_t i = 0; i < BIG; i++)
        if (values[i] != (uint32_t)(uint16_t)i << 16 && ((uint16_t)i & 0x7FFF) <= 0x7F80)
            return false;
    return true;
}

static void blocks_of_every_size_make_one_parameter(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(big_sample());
    for (uint32_t n_threads = 1; n_threads <= 5; n_threads += 2) {
        for (uint64_t window = 64 << 10; window <= 16 << 20; window *= 16) {
            lds_network *net = own_network(ck, LDS_F32);
            lds_load_options o = options_init();
            o.n_threads = n_threads;
            o.window_nbytes = window * n_threads + 40;
            load_ok(net, ck, &o, NULL);
            assert_true(is_widened(lds_param_data(param(net, "w"))));
            lds_network_free(net);
        }
    }
    lds_checkpoint_close(ck);
}

typedef struct watcher {
    int n_calls, cancel_at;
    uint64_t last, total;
} watcher;

static int watch(void *ctx, const lds_progress *progress)
{
    watcher *w = ctx;
    assert_true(progress->done_nbytes >= w->last && progress->done_nbytes <= progress->total_nbytes);
    w->last = progress->done_nbytes;
    w->total = progress->total_nbytes;
    return ++w->n_calls == w->cancel_at;
}

static void progress_is_told_and_can_cancel(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(big_sample());
    for (int mapped = 0; mapped < 2; mapped++) {
        lds_network *net = own_network(ck, mapped ? LDS_BF16 : LDS_F16);
        watcher w = {0};
        lds_load_options o = options_init();
        o.progress = watch;
        o.progress_ctx = &w;
        load_ok(net, ck, &o, NULL);
        assert_true(w.n_calls >= 1);
        assert_int_equal(w.last, 2 * BIG);
        assert_int_equal(w.total, 2 * BIG);
        lds_network_free(net);

        net = own_network(ck, mapped ? LDS_BF16 : LDS_F16);
        w = (watcher){.cancel_at = 1};
        lds_error err = LDS_ERROR_INIT;
        assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_CANCELLED);
        assert_no_storage(net);
        lds_network_free(net);
    }
    lds_checkpoint_close(ck);
}

/* A network of what the sample has and much that it lacks: drawing that takes more than the 50 ms of a tick. */
static lds_network *mostly_missing(void)
{
    lds_builder *b;
    lds_network *net;
    const uint64_t much = 80 << 20;
    const lds_init normal = {.kind = LDS_INIT_NORMAL, .b = 1};
    assert_int_equal(lds_builder_new(&b, LDS_F32, NULL), LDS_OK);
    lds_builder_add(b, "b", LDS_F32, 1, (const uint64_t[]){4}, NULL);
    lds_builder_add(b, "much", LDS_F32, 1, &much, &normal);
    assert_int_equal(lds_builder_finish(&net, b, NULL), LDS_OK);
    return net;
}

static void initial_values_can_be_cancelled(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = mostly_missing();
    watcher w = {.cancel_at = 3}; /* the first may be that of mapping */
    lds_load_options o = options_init();
    o.strict = false;
    o.progress = watch;
    o.progress_ctx = &w;
    assert_int_equal(lds_load(net, ck, &o, NULL, NULL), LDS_ERR_CANCELLED);
    assert_int_equal(w.n_calls, 3);
    assert_no_storage(net);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void the_report_counts_threads_that_worked(void **state)
{
    (void)state;
    lds_checkpoint *small = open_checkpoint(sample()), *big = open_checkpoint(big_sample());
    lds_load_options o = options_init();
    o.n_threads = 8;
    for (int is_big = 0; is_big < 2; is_big++) {
        lds_network *net = own_network(is_big ? big : small, LDS_F64);
        lds_report *report;
        load_ok(net, is_big ? big : small, &o, &report);
        assert_in_range(stats_of(report).n_threads, 1, is_big ? 6 : 1); /* blocks of 1 MiB */
        lds_report_free(report);
        lds_network_free(net);
    }
    lds_checkpoint_close(small);
    lds_checkpoint_close(big);
}

static void a_file_that_shrinks_is_noticed(void **state)
{
    (void)state;
    for (int mapped = 0; mapped < 2; mapped++) {
        for (off_t left = 0; left < 2 * BIG; left += 2 * BIG / 3) {
            const char *path = big_sample();
            lds_checkpoint *ck = open_checkpoint(path);
            assert_int_equal(truncate(path, left), 0);
            lds_network *net = own_network(ck, mapped ? LDS_BF16 : LDS_F32);
            lds_error err = LDS_ERROR_INIT;
            assert_int_equal(lds_load(net, ck, NULL, NULL, &err), LDS_ERR_CHANGED);
            assert_non_null(strstr(err.message, "big.safetensors"));
            assert_no_storage(net);
            lds_network_free(net);
            lds_checkpoint_close(ck);
        }
    }
}

static void a_file_that_changes_is_noticed_and_a_replaced_one_is_not(void **state)
{
    (void)state;
    const char *path = sample();
    lds_checkpoint *ck = open_checkpoint(path);
    lds_network *net = own_network(ck, LDS_F32);
    const char *other = in_folder(folder, "other");
    write_file(other, "x", 1);
    assert_int_equal(rename(other, path), 0); /* the open file is the old one, whole */
    load_ok(net, ck, NULL, NULL);
    lds_checkpoint_close(ck);
    lds_network_free(net);

    path = sample();
    ck = open_checkpoint(path);
    net = own_network(ck, LDS_F32);
    usleep(20000); /* so that the file's time differs */
    FILE *f = fopen(path, "r+b");
    fseek(f, -1, SEEK_END);
    fputc(1, f);
    fclose(f);
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_load(net, ck, NULL, NULL, &err), LDS_ERR_CHANGED);
    assert_no_storage(net);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void failure_takes_the_callers_memory_away(void **state)
{
    (void)state;
    const char *path = big_sample();
    lds_checkpoint *ck = open_checkpoint(path);
    lds_network *net = own_network(ck, LDS_F32);
    void *memory = malloc(4 * BIG);
    assert_int_equal(lds_param_bind(param(net, "w"), memory, 4 * BIG, NULL, NULL, NULL), LDS_OK);
    assert_int_equal(truncate(path, BIG), 0);
    assert_int_equal(lds_load(net, ck, NULL, NULL, NULL), LDS_ERR_CHANGED);
    assert_no_storage(net);
    lds_network_free(net);
    lds_checkpoint_close(ck);
    free(memory);
}

/* ------------------------------------------------------------------------------------------------------- */

static void more_than_free_memory_is_mapped_lazily(void **state)
{
    (void)state;
    static const uint64_t nbytes = 1ULL << 40; /* in a sparse file */
    char text[128];
    snprintf(text, sizeof text, "{\"w\":{\"dtype\":\"U8\",\"shape\":[%llu],\"data_offsets\":[0,%llu]}}",
             (unsigned long long)nbytes, (unsigned long long)nbytes);
    const char *path = in_folder(folder, "large.safetensors");
    write_safetensors(path, text, NULL, nbytes);
    lds_checkpoint *ck = open_checkpoint(path);
    lds_network *net = own_network(ck, LDS_DTYPE_NONE);
    lds_load_options o = options_init();
    o.io = LDS_IO_MAP;
    for (int lazy = 0; lazy < 2; lazy++) {
        lds_plan *plan;
        lds_report *report;
        o.lazy = lazy;
        assert_int_equal(lds_plan_new(&plan, net, ck, &o, &report, NULL), LDS_OK);
        const char *fallback = stats_of(report).fallback;
        if (lazy)
            assert_null(fallback);
        else
            assert_string_equal(fallback, "larger than free memory: pages are read on first use");
        lds_report_free(report);
        lds_plan_free(plan);
    }
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void a_plan_can_be_looked_at(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = own_network(ck, LDS_F32);
    lds_plan *plan;
    lds_report *report;
    assert_int_equal(lds_plan_new(&plan, net, ck, NULL, &report, NULL), LDS_OK);
    lds_plan_stats s = {.struct_size = sizeof s};
    lds_plan_get_stats(plan, &s);
    assert_int_equal(s.n_transfers, 6);
    assert_int_equal(s.read_nbytes, 14);
    assert_int_equal(s.mapped_nbytes, 34);
    assert_int_equal(s.written_nbytes, 28);
    assert_true(s.peak_nbytes >= 28);
    lds_transfer t = {.struct_size = sizeof t};
    lds_plan_get_transfer(plan, 0, &t);
    assert_string_equal(lds_tensor_name(t.tensor), "a");
    assert_string_equal(lds_param_name(t.param), "a");
    assert_int_equal(t.n_elements, 6);
    assert_int_equal(t.src_dtype, LDS_BF16);
    assert_int_equal(t.dst_dtype, LDS_F32);
    assert_int_equal(t.file_offset, lds_tensor_offset(t.tensor));
    assert_false(t.mapped);
    assert_no_storage(net);
    lds_report_free(report);
    lds_plan_free(plan);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void a_report_has_no_control_characters(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_builder *b;
    lds_network *net;
    assert_int_equal(lds_builder_new(&b, LDS_F32, NULL), LDS_OK);
    lds_builder_add(b, "x\n\033[1m", LDS_DTYPE_NONE, 0, NULL, NULL);
    assert_int_equal(lds_builder_finish(&net, b, NULL), LDS_OK);
    lds_report *report;
    assert_int_equal(lds_load(net, ck, NULL, &report, NULL), LDS_ERR_MISMATCH);
    assert_non_null(strstr(lds_report_text(report), "missing from the checkpoint (1):\n  x??[1m\n"));
    assert_string_equal(lds_report_name(report, LDS_REPORT_MISSING, 0), "x\n\033[1m");
    lds_report_free(report);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    lds_checkpoint *ck = open_checkpoint(sample());
    lds_network *net = own_network(ck, LDS_DTYPE_NONE);
    lds_error err = LDS_ERROR_INIT;
    lds_load_options o = options_init();
    o.dtype = LDS_I8;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "options: expected a float dtype, found I8");
    o = options_init();
    o.io = (lds_io)9;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_ARGUMENT);
    o = options_init();
    o.n_threads = 1025;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_ARGUMENT);
    o = options_init();
    o.n_threads = 2;
    o.window_nbytes = 1000;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(
        err.message, "options: expected a window of at least 65536 bytes for each of 2 threads, found 1000");
    o = options_init();
    o.n_names = 2;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "options: names: expected an array of 2, found NULL");
    o = options_init();
    o.keep_f32 = (const char *const[]){"*", NULL};
    o.n_keep_f32 = 2;
    assert_int_equal(lds_load(net, ck, &o, NULL, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "options: keep_f32[1]: expected a string, found NULL");
    struct {
        lds_load_options known;
        uint64_t unknown;
    } newer;
    memset(&newer, 0, sizeof newer);
    lds_load_options_init(&newer.known, sizeof newer);
    newer.unknown = 1;
    assert_int_equal(lds_load(net, ck, &newer.known, NULL, &err), LDS_ERR_UNSUPPORTED);
    newer.unknown = 0;
    load_ok(net, ck, &newer.known, NULL);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

static void a_hundred_thousand_tensors(void **state)
{
    (void)state;
    enum { N = 100000 };
    char *text = malloc(N * 90 + 16), *at = text;
    float *values = malloc(N * sizeof *values);
    *at++ = '{';
    for (int i = 0; i < N; i++) {
        values[i] = (float)i;
        at += sprintf(at, "%s\"layer.%d.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                      i ? "," : "", i, 4 * i, 4 * i + 4);
    }
    strcpy(at, "}");
    const char *path = in_folder(folder, "many.safetensors");
    write_safetensors(path, text, values, N * sizeof *values);
    lds_checkpoint *ck = open_checkpoint(path);
    lds_network *net = own_network(ck, LDS_F64);
    load_ok(net, ck, NULL, NULL);
    for (size_t i = 0; i < N; i++) {
        double value;
        memcpy(&value, lds_param_data(lds_network_param(net, i)), sizeof value);
        assert_true(value == (double)i);
    }
    lds_network_free(net);
    lds_checkpoint_close(ck);
    free(text);
    free(values);
}

static void no_tensors_at_all(void **state)
{
    (void)state;
    const char *path = in_folder(folder, "none.safetensors");
    write_safetensors(path, "{}      ", NULL, 0);
    lds_checkpoint *ck = open_checkpoint(path);
    lds_network *net = own_network(ck, LDS_F32);
    lds_report *report;
    load_ok(net, ck, NULL, &report);
    assert_string_equal(stats_of(report).source, "none");
    lds_report_free(report);
    lds_network_free(net);
    lds_checkpoint_close(ck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_dtypes_are_mapped),
        cmocka_unit_test(writing_to_a_mapped_weight_leaves_the_file_alone),
        cmocka_unit_test(floats_are_converted_and_others_kept),
        cmocka_unit_test(one_dtype_for_all_but_what_is_kept),
        cmocka_unit_test(integers_are_not_converted),
        cmocka_unit_test(what_is_not_aligned_is_copied),
        cmocka_unit_test(an_empty_name_is_seen_in_messages),
        cmocka_unit_test(a_misfit_is_reported_whole_and_nothing_is_loaded),
        cmocka_unit_test(what_is_missing_is_initialised_if_allowed),
        cmocka_unit_test(only_the_names_asked_for_are_loaded),
        cmocka_unit_test(either_name_of_a_tie_will_do),
        cmocka_unit_test(names_and_shapes_go_through_the_key_map),
        cmocka_unit_test(a_key_map_makes_the_network_that_it_fits),
        cmocka_unit_test(a_key_map_that_makes_no_network_is_refused),
        cmocka_unit_test(two_tensors_for_one_parameter_are_refused),
        cmocka_unit_test(the_callers_memory_is_filled_in_place),
        cmocka_unit_test(an_allocator_gets_everything),
        cmocka_unit_test(blocks_of_every_size_make_one_parameter),
        cmocka_unit_test(progress_is_told_and_can_cancel),
        cmocka_unit_test(initial_values_can_be_cancelled),
        cmocka_unit_test(the_report_counts_threads_that_worked),
        cmocka_unit_test(a_file_that_shrinks_is_noticed),
        cmocka_unit_test(a_file_that_changes_is_noticed_and_a_replaced_one_is_not),
        cmocka_unit_test(failure_takes_the_callers_memory_away),
        cmocka_unit_test(more_than_free_memory_is_mapped_lazily),
        cmocka_unit_test(a_plan_can_be_looked_at),
        cmocka_unit_test(a_report_has_no_control_characters),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(a_hundred_thousand_tensors),
        cmocka_unit_test(no_tensors_at_all),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
