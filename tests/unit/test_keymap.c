/* Key maps: what each kind of rule makes of names and shapes, in which order, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "src/plan/keymap.h"

static lds_keymap *keymap_of(const char *json)
{
    lds_keymap *keymap;
    lds_error err = LDS_ERROR_INIT;
    if (lds_keymap_from_json(&keymap, json, strlen(json), "map.json", &err))
        fail_msg("%s", err.message);
    return keymap;
}

/* Check what a key map in JSON makes of names: pairs of a name and the new one, NULL if it is dropped. */
static void check_names(const char *json, const char *const (*pairs)[2], size_t n)
{
    lds_keymap *keymap = keymap_of(json);
    lds_keymap_scratch scratch = {0};
    lds_error err = LDS_ERROR_INIT;
    for (size_t i = 0; i < n; i++) {
        lds_mapped mapped;
        const char *name = pairs[i][0], *expected = pairs[i][1];
        if (lds_keymap_apply(keymap, &scratch, lds_name_of(name, strlen(name)), 0, NULL, &mapped, &err))
            fail_msg("%s", err.message);
        assert_int_equal(mapped.dropped, !expected);
        if (!expected)
            continue;
        assert_string_equal(mapped.name, expected);
        assert_int_equal(mapped.name_nbytes, strlen(expected));
        assert_false(mapped.changed_shape);
    }
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
}

#define CHECK_NAMES(json, ...)                                     \
    do {                                                           \
        static const char *const pairs_[][2] = {__VA_ARGS__};      \
        check_names(json, pairs_, sizeof pairs_ / sizeof *pairs_); \
    } while (0)

static void no_keymap_and_an_empty_one_keep_all(void **state)
{
    (void)state;
    lds_keymap *keymap;
    lds_keymap_scratch scratch = {0};
    lds_mapped mapped;
    uint64_t shape[] = {2, 3};
    const char *name = "a.weight";
    assert_int_equal(lds_keymap_new(&keymap, NULL), LDS_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            lds_keymap_apply(i ? keymap : NULL, &scratch, lds_name_of(name, 8), 2, shape, &mapped, NULL),
            LDS_OK);
        assert_ptr_equal(mapped.name, name);
        assert_int_equal(mapped.n_dims, 2);
        assert_memory_equal(mapped.shape, shape, sizeof shape);
        assert_false(mapped.dropped || mapped.changed_shape);
    }
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
    lds_keymap_free(NULL);
}

static void exact_rules_decide_alone(void **state)
{
    (void)state;
    CHECK_NAMES(
        "{\"rules\":[{\"prefix\":\"m.\",\"to\":\"\"},{\"exact\":\"m.a\",\"to\":\"m.x\"},"
        "{\"exact\":\"m.keep\"},{\"exact\":\"m.gone\",\"drop\":true},{\"exact\":\"\",\"to\":\"$1\"}]}",
        {"m.a", "m.x"}, {"m.b", "b"}, {"m.keep", "m.keep"}, {"m.gone", NULL}, {"a", "a"}, {"", "$1"});
}

static void other_rules_apply_in_order(void **state)
{
    (void)state;
    CHECK_NAMES(
        "{\"rules\":[{\"prefix\":\"a\",\"to\":\"b\"},{\"regex\":\"b+$\",\"to\":\"c\"},"
        "{\"prefix\":\"c\",\"to\":\"aa\"},{\"regex\":\"^q\",\"drop\":true},{\"prefix\":\"q\",\"to\":\"r\"}]}",
        {"a", "aa"}, {"ab", "aa"}, {"ax", "bx"}, {"xa", "xa"}, {"q", NULL}, {"xq", "xq"});
    CHECK_NAMES("{\"rules\":[{\"prefix\":\"\",\"to\":\"model.\"}]}", {"a", "model.a"}, {"", "model."});
}

static void patterns_replace_every_match(void **state)
{
    (void)state;
    CHECK_NAMES("{\"rules\":[{\"regex\":\"(\\\\d)(?<letter>[a-z])?\",\"to\":\"<${letter}$1$$${0}>\"}]}",
                {"1a.2", "<a1$1a>.<2$2>"}, {"none", "none"});
    CHECK_NAMES("{\"rules\":[{\"regex\":\"x*\",\"to\":\"-\"}]}", {"abxd", "-a-b--d-"}, {"", "-"});
    CHECK_NAMES("{\"rules\":[{\"regex\":\"|a\",\"to\":\"-\"}]}", {"a", "---"});
    CHECK_NAMES("{\"rules\":[{\"regex\":\"(?=\\u00e9)\",\"to\":\"\\u20ac\"},{\"regex\":\"^.\",\"to\":\"\"}]}",
                {"\xC3\xA9", "\xC3\xA9"}, {"\xF0\x9D\x84\x9E", ""});
    CHECK_NAMES("{\"rules\":[{\"regex\":\"(?i)KEY$\"}]}", {"a.key", "a.key"});
}

/* Apply the rules to a tensor of the name "t"; the resulting shape as text, or the error's message. */
static const char *shape_after(const char *json, uint32_t n_dims, const uint64_t *shape)
{
    static char text[1024];
    lds_keymap *keymap = keymap_of(json);
    lds_keymap_scratch scratch = {0};
    lds_mapped mapped;
    lds_error err = LDS_ERROR_INIT;
    lds_status status = lds_keymap_apply(keymap, &scratch, lds_name_of("t", 1), n_dims, shape, &mapped, &err);
    if (status) {
        assert_int_equal(status, LDS_ERR_MISMATCH);
        assert_int_equal(err.tensor_nbytes, 1);
        snprintf(text, sizeof text, "%s", err.message);
    } else {
        assert_true(mapped.changed_shape);
        size_t n = 0;
        for (uint32_t i = 0; i < mapped.n_dims; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, " %llu", (unsigned long long)mapped.shape[i]);
        text[n] = 0;
    }
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
    return text;
}

#define RULE(fields) "{\"rules\":[{\"prefix\":\"\"," fields "}]}"

static void shapes_gain_dimensions(void **state)
{
    (void)state;
    static const uint64_t shape[] = {5, 7};
    assert_string_equal(shape_after(RULE("\"add_dim\":0"), 2, shape), " 1 5 7");
    assert_string_equal(shape_after(RULE("\"add_dim\":2"), 2, shape), " 5 7 1");
    assert_string_equal(shape_after(RULE("\"add_dim\":-1"), 2, shape), " 5 7 1");
    assert_string_equal(shape_after(RULE("\"add_dim\":-2"), 2, shape), " 5 1 7");
    assert_string_equal(shape_after(RULE("\"add_dim\":-3"), 2, shape), " 1 5 7");
    assert_string_equal(shape_after(RULE("\"add_dim\":0"), 0, NULL), " 1");
    assert_string_equal(shape_after(RULE("\"add_dim\":3"), 2, shape),
                        "t: expected a shape to which the key map can add dimension 3, found [5, 7]");
    assert_string_equal(shape_after(RULE("\"add_dim\":-4"), 2, shape),
                        "t: expected a shape to which the key map can add dimension -4, found [5, 7]");
    uint64_t many[LDS_MAX_DIMS];
    for (int i = 0; i < LDS_MAX_DIMS; i++)
        many[i] = 1;
    assert_non_null(strstr(shape_after(RULE("\"add_dim\":0"), LDS_MAX_DIMS, many), "can add dimension 0"));
}

static void shapes_are_reshaped(void **state)
{
    (void)state;
    static const uint64_t shape[] = {6, 4}, empty[] = {0, 4};
    assert_string_equal(shape_after(RULE("\"reshape\":[2,12]"), 2, shape), " 2 12");
    assert_string_equal(shape_after(RULE("\"reshape\":[-1]"), 2, shape), " 24");
    assert_string_equal(shape_after(RULE("\"reshape\":[3,-1,2]"), 2, shape), " 3 4 2");
    assert_string_equal(shape_after(RULE("\"reshape\":[-1,4]"), 2, empty), " 0 4");
    assert_string_equal(shape_after(RULE("\"reshape\":[]"), 0, NULL), "");
    assert_string_equal(shape_after(RULE("\"reshape\":[5,-1]"), 2, shape),
                        "t: expected a shape that the key map can make [5, -1], found [6, 4]");
    assert_string_equal(shape_after(RULE("\"reshape\":[23]"), 2, shape),
                        "t: expected a shape that the key map can make [23], found [6, 4]");
    assert_string_equal(shape_after(RULE("\"reshape\":[0,-1]"), 2, empty),
                        "t: expected a shape that the key map can make [0, -1], found [0, 4]");
    assert_string_equal(shape_after(RULE("\"reshape\":[]"), 2, shape),
                        "t: expected a shape that the key map can make [], found [6, 4]");
    assert_string_equal(
        shape_after(RULE("\"reshape\":[4294967296,4294967296,-1]"), 2, shape),
        "t: expected a shape that the key map can make [4294967296, 4294967296, -1], found [6, 4]");
    assert_string_equal(
        shape_after("{\"rules\":[{\"prefix\":\"\",\"reshape\":[-1]},{\"regex\":\"t\",\"add_dim\":1}]}", 2,
                    shape),
        " 24 1");
}

static void thousands_of_exact_rules_are_found(void **state)
{
    (void)state;
    enum { N = 20000 };
    lds_keymap *keymap;
    assert_int_equal(lds_keymap_new(&keymap, NULL), LDS_OK);
    char from[32], to[32];
    for (int i = 0; i < N; i++) {
        snprintf(from, sizeof from, "from.%d", i);
        snprintf(to, sizeof to, "to.%d", i);
        lds_keymap_rule rule;
        lds_keymap_rule_init(&rule, sizeof rule);
        rule.pattern = from;
        rule.to = to;
        assert_int_equal(lds_keymap_add(keymap, &rule, NULL), LDS_OK);
    }
    lds_keymap_scratch scratch = {0};
    for (int i = 0; i < N; i++) {
        lds_mapped mapped;
        snprintf(from, sizeof from, "from.%d", i);
        snprintf(to, sizeof to, "to.%d", i);
        assert_int_equal(
            lds_keymap_apply(keymap, &scratch, lds_name_of(from, strlen(from)), 0, NULL, &mapped, NULL),
            LDS_OK);
        assert_string_equal(mapped.name, to);
    }
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_keymap_and_an_empty_one_keep_all),
        cmocka_unit_test(exact_rules_decide_alone),
        cmocka_unit_test(other_rules_apply_in_order),
        cmocka_unit_test(patterns_replace_every_match),
        cmocka_unit_test(shapes_gain_dimensions),
        cmocka_unit_test(shapes_are_reshaped),
        cmocka_unit_test(thousands_of_exact_rules_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
