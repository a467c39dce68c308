/* Networks from manifests, and what is said about bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loadstone.h"

static lds_network *read_whole(const char *json)
{
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    if (lds_network_from_manifest(&net, json, strlen(json), "net.json", &err))
        fail_msg("%s", err.message);
    return net;
}

static void assert_init(const lds_network *net, const char *name, lds_init_kind kind, double a, double b,
                        double lo, double hi)
{
    lds_init init = lds_param_init(lds_network_find(net, name));
    assert_int_equal(init.kind, kind);
    assert_true(init.a == a && init.b == b && init.lo == lo && init.hi == hi);
}

static void manifest_becomes_a_network(void **state)
{
    (void)state;
    const char *json =
        "[{\"shape\": [2, 0, 3], \"name\": \"w\", \"dtype\": \"BF16\"},\n"
        " {\"name\": \"\\u00e9.\\\"q\\\"\", \"dtype\": \"torch.float32\", \"shape\": [], "
        "\"init\": \"ones\", \"tied_to\": null},\n"
        " {\"name\": \"t\", \"tied_to\": \"w\"}, {\"tied_to\": \"t\", \"name\": \"t2\"},\n"
        " {\"name\": \"\", \"dtype\": \"F4\", \"shape\": [4], \"init\": {\"kind\": \"zeros\"}}]";
    lds_network *net = read_whole(json);
    assert_int_equal(lds_network_n_params(net), 5);
    lds_param *w = lds_network_param(net, 0);
    assert_string_equal(lds_param_name(w), "w");
    assert_int_equal(lds_param_dtype(w), LDS_BF16);
    assert_int_equal(lds_param_n_dims(w), 3);
    assert_int_equal(lds_param_shape(w)[2], 3);
    assert_int_equal(lds_param_numel(w), 0);
    assert_int_equal(lds_param_init(w).kind, LDS_INIT_NONE);
    lds_param *e = lds_network_find(net, "\xC3\xA9.\"q\"");
    assert_ptr_equal(e, lds_network_param(net, 1));
    assert_int_equal(lds_param_n_dims(e), 0);
    assert_int_equal(lds_param_dtype(e), LDS_F32);
    assert_int_equal(lds_param_init(e).kind, LDS_INIT_ONES);
    assert_ptr_equal(lds_param_tied_to(lds_network_find(net, "t")), w);
    assert_ptr_equal(lds_param_tied_to(lds_network_find(net, "t2")), w);
    assert_int_equal(lds_param_nbytes(lds_network_find(net, "")), 2);
    assert_null(lds_network_architecture(net));
    lds_network_free(net);
    net = read_whole(" [ ] ");
    assert_int_equal(lds_network_n_params(net), 0);
    lds_network_free(net);
}

static void init_rules_have_their_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        lds_init init;
    } cases[] = {
        {"\"none\"", {LDS_INIT_NONE, 0, 0, 0, 0}},
        {"\"zeros\"", {LDS_INIT_ZEROS, 0, 0, 0, 0}},
        {"{\"a\": -2.5e0, \"kind\": \"constant\"}", {LDS_INIT_CONSTANT, -2.5, 0, 0, 0}},
        {"\"normal\"", {LDS_INIT_NORMAL, 0, 1, 0, 0}},
        {"{\"kind\": \"normal\", \"b\": 0.02}", {LDS_INIT_NORMAL, 0, 0.02, 0, 0}},
        {"{\"kind\": \"trunc_normal\", \"hi\": 1}", {LDS_INIT_TRUNC_NORMAL, 0, 1, -2, 1}},
        {"\"trunc_normal\"", {LDS_INIT_TRUNC_NORMAL, 0, 1, -2, 2}},
        {"\"uniform\"", {LDS_INIT_UNIFORM, 0, 0, 0, 1}},
        {"{\"kind\": \"uniform\", \"lo\": -3, \"hi\": -1}", {LDS_INIT_UNIFORM, 0, 0, -3, -1}},
        {"\"arange\"", {LDS_INIT_ARANGE, 0, 1, 0, 0}},
        {"\"xavier_uniform\"", {LDS_INIT_XAVIER_UNIFORM, 1, 0, 0, 0}},
        {"\"xavier_normal\"", {LDS_INIT_XAVIER_NORMAL, 1, 0, 0, 0}},
        {"\"kaiming_uniform\"", {LDS_INIT_KAIMING_UNIFORM, 0, 0, 0, 0}},
        {"{\"kind\": \"kaiming_normal\", \"a\": 2.23606797749979}",
         {LDS_INIT_KAIMING_NORMAL, 2.23606797749979, 0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[256];
        snprintf(json, sizeof json,
                 "[{\"name\": \"w\", \"dtype\": \"F32\", \"shape\": [2, 3], \"init\": %s}]", cases[i].json);
        lds_network *net = read_whole(json);
        const lds_init *e = &cases[i].init;
        assert_init(net, "w", e->kind, e->a, e->b, e->lo, e->hi);
        assert_int_equal(lds_network_init(net, 0, NULL, NULL), e->kind ? LDS_OK : LDS_ERR_MISMATCH);
        lds_network_free(net);
    }
}

static void tied_parameters_may_repeat_what_they_are(void **state)
{
    (void)state;
    lds_network *net = read_whole(
        "[{\"name\":\"w\",\"dtype\":\"F32\",\"shape\":[2],\"init\":{\"kind\":\"normal\"}},"
        "{\"name\":\"t\",\"dtype\":\"float32\",\"shape\":[2],\"init\":\"normal\",\"tied_to\":\"w\"}]");
    assert_non_null(lds_param_tied_to(lds_network_find(net, "t")));
    lds_network_free(net);
}

#define W "{\"name\":\"w\",\"dtype\":\"F32\",\"shape\":[2]}"

/* Every rule, broken one at a time. */
static void bad_manifests_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"{}", "expected an array of parameters, found an object (at byte 0)"},
        {"[3]", "expected an object, found 3 (at byte 1)"},
        {"[{}]", "[0]: name: expected one, found none (at byte 1)"},
        {"[" W ",{\"name\":\"x\"}]", "x: dtype: expected one, found none (at byte 40)"},
        {"[{\"dtype\":\"F32\",\"name\":\"x\"}]", "x: shape: expected one, found none (at byte 1)"},
        {"[{\"name\":7}]", "[0]: name: expected a string, found 7 (at byte 9)"},
        {"[{\"name\":\"a\\u0000b\"}]",
         "[0]: name: expected a name without NUL characters, found \"a\" (at byte 9)"},
        {"[{\"name\":\"x\",\"colour\":1}]",
         "x: expected \"name\", \"dtype\", \"shape\", \"init\" or \"tied_to\", found \"colour\" (at byte 13)"},
        {"[{\"name\":\"x\",\"name\":\"y\"}]", "x: expected each field once, found \"name\" (at byte 13)"},
        {"[" W "," W "]", "w: expected a new name, found that of parameter 0 (at byte 40)"},
        {"[{\"name\":\"x\",\"dtype\":\"float3\"}]",
         "x: dtype: expected the name of a dtype, found \"float3\" (at byte 21)"},
        {"[{\"name\":\"x\",\"dtype\":null}]",
         "x: dtype: expected the name of a dtype, found null (at byte 21)"},
        {"[{\"name\":\"x\",\"dtype\":\"F32\\u0000\"}]",
         "x: dtype: expected the name of a dtype, found \"F32\" (at byte 21)"},
        {"[{\"name\":\"x\",\"shape\":2}]", "x: shape: expected an array, found 2 (at byte 21)"},
        {"[{\"name\":\"x\",\"shape\":[2,\"3\"]}]",
         "x: shape: expected a dimension, found \"3\" (at byte 24)"},
        {"[{\"name\":\"x\",\"shape\":[-1]}]",
         "x: shape: expected a dimension, an integer from 0 to 2^64 - 1, found -1 (at byte 22)"},
        {"[{\"name\":\"x\",\"shape\":[2.0]}]",
         "x: shape: expected a dimension, an integer from 0 to 2^64 - 1, found 2.0 (at byte 22)"},
        {"[{\"name\":\"x\",\"shape\":[18446744073709551616]}]",
         "x: shape: expected a dimension, an integer from 0 to 2^64 - 1, found 18446744073709551616 (at byte 22)"},
        {"[{\"name\":\"x\",\"init\":3}]",
         "x: init: expected the name of a kind or an object, found 3 (at byte 20)"},
        {"[{\"name\":\"x\",\"init\":\"gauss\"}]",
         "x: init: expected the name of a kind, found \"gauss\" (at byte 20)"},
        {"[{\"name\":\"x\",\"init\":{}}]", "x: init: expected a \"kind\", found none (at byte 20)"},
        {"[{\"name\":\"x\",\"init\":{\"kind\":1}}]",
         "x: init: kind: expected the name of a kind, found 1 (at byte 28)"},
        {"[{\"name\":\"x\",\"init\":{\"a\":1,\"a\":1}}]",
         "x: init: expected each field once, found \"a\" (at byte 27)"},
        {"[{\"name\":\"x\",\"init\":{\"std\":1}}]",
         "x: init: expected \"kind\", \"a\", \"b\", \"lo\" or \"hi\", found \"std\" (at byte 21)"},
        {"[{\"name\":\"x\",\"init\":{\"a\":\"1\"}}]", "x: init: expected a number, found \"1\" (at byte 25)"},
        {"[{\"name\":\"x\",\"init\":{\"a\":1e999}}]",
         "x: init: expected a number that a double can hold, found 1e999 (at byte 25)"},
        {"[{\"name\":\"x\",\"init\":{\"kind\":\"ones\",\"a\":1}}]",
         "x: init: expected the numbers of ones, found \"a\" (at byte 20)"},
        {"[{\"name\":\"x\",\"init\":\"constant\"}]",
         "x: init: constant: expected a number \"a\", found none (at byte 20)"},
        {"[{\"name\":\"x\",\"dtype\":\"I8\",\"shape\":[2],\"init\":\"normal\"}]",
         "x: init: normal: expected a rule whose values I8 can have (at byte 1)"},
        {"[{\"name\":\"x\",\"dtype\":\"F32\",\"shape\":[2],\"init\":\"xavier_normal\"}]",
         "x: init: xavier_normal: expected at least 2 dimensions, found 1 (at byte 1)"},
        {"[{\"name\":\"x\",\"tied_to\":\"x\"}]",
         "x: tied_to: expected the name of an earlier parameter, found \"x\" (at byte 23)"},
        {"[{\"name\":\"x\",\"tied_to\":\"w\"}," W "]",
         "x: tied_to: expected the name of an earlier parameter, found \"w\" (at byte 23)"},
        {"[{\"name\":\"x\",\"tied_to\":1}]", "x: tied_to: expected a string, found 1 (at byte 23)"},
        {"[" W ",{\"name\":\"w\",\"tied_to\":\"w\"}]",
         "w: expected a new name, found that of parameter 0 (at byte 40)"},
        {"[" W ",{\"name\":\"x\",\"tied_to\":\"w\",\"dtype\":\"F16\"}]",
         "x: dtype: expected that of the parameter it is tied to, found another (at byte 74)"},
        {"[" W ",{\"name\":\"x\",\"tied_to\":\"w\",\"shape\":[3]}]",
         "x: shape: expected that of the parameter it is tied to, found another (at byte 74)"},
        {"[" W ",{\"name\":\"x\",\"tied_to\":\"w\",\"shape\":[]}]",
         "x: shape: expected that of the parameter it is tied to, found another (at byte 74)"},
        {"[" W ",{\"name\":\"x\",\"tied_to\":\"w\",\"init\":\"ones\"}]",
         "x: init: expected that of the parameter it is tied to, found another (at byte 73)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lds_network *net = (lds_network *)&net;
        lds_error err = LDS_ERROR_INIT;
        const char *json = cases[i].json;
        assert_int_equal(lds_network_from_manifest(&net, json, strlen(json), "n.json", &err),
                         LDS_ERR_MALFORMED);
        assert_null(net);
        assert_int_equal(err.code, LDS_ERR_MALFORMED);
        char message[512];
        snprintf(message, sizeof message, "n.json: %s", cases[i].message);
        assert_string_equal(err.message, message);
        assert_int_equal(err.file_nbytes, 6);
        assert_int_equal(lds_network_from_manifest(&net, json, strlen(json), "n.json", NULL),
                         LDS_ERR_MALFORMED);
    }
}

/* Whatever is cut off, it is malformed, and the byte is in the text. */
static void every_prefix_is_malformed(void **state)
{
    (void)state;
    const char *json =
        "[" W ",{\"name\":\"x\",\"tied_to\":\"w\",\"init\":{\"kind\":\"none\"}}, {\"name\":\"y\",\"dtype\":"
        "\"F8_E4M3\",\"shape\":[1,2],\"init\":{\"kind\":\"uniform\",\"lo\":-1e3}}]";
    lds_network *net = read_whole(json);
    lds_network_free(net);
    for (size_t n = 0; n < strlen(json); n++) {
        char *copy = malloc(n + 1); /* exactly as long, so that a sanitizer sees what goes beyond */
        memcpy(copy, json, n);
        lds_error err = LDS_ERROR_INIT;
        assert_int_equal(lds_network_from_manifest(&net, copy, n, "n.json", &err), LDS_ERR_MALFORMED);
        assert_true(err.offset <= n);
        assert_memory_equal(err.message, "n.json: ", 8);
        free(copy);
    }
}

static void shapes_have_a_limit(void **state)
{
    (void)state;
    char json[512] = "[{\"name\":\"x\",\"dtype\":\"F64\",\"shape\":[1";
    for (int i = 1; i < 64; i++)
        strcat(json, ",1");
    size_t n = strlen(json);
    strcpy(json + n, "]}]");
    lds_network *net = read_whole(json);
    assert_int_equal(lds_param_n_dims(lds_network_param(net, 0)), 64);
    lds_network_free(net);
    strcpy(json + n, ",1]}]");
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_network_from_manifest(&net, json, strlen(json), NULL, &err), LDS_ERR_MALFORMED);
    assert_string_equal(err.message, "x: shape: expected at most 64 dimensions, found more (at byte 164)");

    const char *overflow = "[{\"name\":\"x\",\"dtype\":\"F64\",\"shape\":[4294967296,4294967296]}]";
    assert_int_equal(lds_network_from_manifest(&net, overflow, strlen(overflow), NULL, &err),
                     LDS_ERR_MALFORMED);
    assert_memory_equal(err.message, "x: ", 3);
    overflow = "[{\"name\":\"x\",\"dtype\":\"F4\",\"shape\":[3]}]";
    assert_int_equal(lds_network_from_manifest(&net, overflow, strlen(overflow), NULL, &err),
                     LDS_ERR_MALFORMED);
}

static void long_texts_are_cut_at_a_character(void **state)
{
    (void)state;
    char json[2100];
    int n = sprintf(json, "[{\"name\":\"x\",\"tied_to\":\"a");
    for (int i = 0; i < 500; i++)
        n += sprintf(json + n, "\xC3\xA9");
    n += sprintf(json + n, "\"}]");
    lds_error err = LDS_ERROR_INIT;
    lds_network *net;
    assert_int_equal(lds_network_from_manifest(&net, json, (size_t)n, NULL, &err), LDS_ERR_MALFORMED);
    assert_non_null(strstr(err.message, "\xC3\xA9\" (at byte 23)"));
}

static void kinds_have_names(void **state)
{
    (void)state;
    assert_string_equal(lds_init_kind_name(LDS_INIT_NONE), "none");
    assert_string_equal(lds_init_kind_name(LDS_INIT_KAIMING_NORMAL), "kaiming_normal");
    assert_null(lds_init_kind_name(8));
    assert_null(lds_init_kind_name(14));
    assert_null(lds_init_kind_name((lds_init_kind)-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifest_becomes_a_network),
        cmocka_unit_test(init_rules_have_their_numbers),
        cmocka_unit_test(tied_parameters_may_repeat_what_they_are),
        cmocka_unit_test(bad_manifests_are_explained),
        cmocka_unit_test(every_prefix_is_malformed),
        cmocka_unit_test(shapes_have_a_limit),
        cmocka_unit_test(long_texts_are_cut_at_a_character),
        cmocka_unit_test(kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
