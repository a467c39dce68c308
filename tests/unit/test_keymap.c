/* Key maps: what each kind of rule makes of names and shapes, in which order, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "src/plan/keymap.h"
#include "tests/unit/faults.h"

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
        assert_int_equal(err.tensor_nbytes, 0);
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
                        "expected a shape to which the key map can add dimension 3, found [5, 7]");
    assert_string_equal(shape_after(RULE("\"add_dim\":-4"), 2, shape),
                        "expected a shape to which the key map can add dimension -4, found [5, 7]");
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
                        "expected a shape that the key map can make [5, -1], found [6, 4]");
    assert_string_equal(shape_after(RULE("\"reshape\":[23]"), 2, shape),
                        "expected a shape that the key map can make [23], found [6, 4]");
    assert_string_equal(shape_after(RULE("\"reshape\":[0,-1]"), 2, empty),
                        "expected a shape that the key map can make [0, -1], found [0, 4]");
    assert_string_equal(shape_after(RULE("\"reshape\":[]"), 2, shape),
                        "expected a shape that the key map can make [], found [6, 4]");
    assert_string_equal(
        shape_after(RULE("\"reshape\":[4294967296,4294967296,-1]"), 2, shape),
        "expected a shape that the key map can make [4294967296, 4294967296, -1], found [6, 4]");
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

/* ---- what is refused ---- */

static void names_that_grow_too_long_are_refused(void **state)
{
    (void)state;
#define SIXTEENFOLD "{\"regex\":\"^.+$\",\"to\":\"$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0\"}"
    lds_keymap *keymap =
        keymap_of("{\"rules\":[" SIXTEENFOLD "," SIXTEENFOLD "," SIXTEENFOLD "," SIXTEENFOLD "]}");
    lds_keymap_scratch scratch = {0};
    lds_mapped mapped;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_keymap_apply(keymap, &scratch, lds_name_of("name", 4), 0, NULL, &mapped, &err),
                     LDS_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "expected a name of at most 65536 bytes from the key map, found more");
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
}

static void names_that_are_too_long_are_refused(void **state)
{
    (void)state;
    lds_keymap *keymap = keymap_of("{\"rules\":[{\"regex\":\"\\\\.\",\"to\":\"\"}]}");
    lds_keymap_scratch scratch = {0};
    lds_mapped mapped;
    lds_error err = LDS_ERROR_INIT;
    static char name[LDS_KEYMAP_MAX_NAME_NBYTES + 2];
    memset(name, '.', sizeof name - 1);
    lds_name whole = lds_name_of(name, sizeof name - 1), part = lds_name_of(name, LDS_KEYMAP_MAX_MATCHES);
    assert_int_equal(lds_keymap_apply(keymap, &scratch, whole, 0, NULL, &mapped, &err), LDS_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "expected a name of at most 65536 bytes for a key map, found 65537"));
    assert_int_equal(lds_keymap_apply(NULL, &scratch, whole, 0, NULL, &mapped, &err), LDS_OK);
    assert_int_equal(lds_keymap_apply(keymap, &scratch, part, 0, NULL, &mapped, &err), LDS_OK);
    assert_string_equal(mapped.name, "");
    part.nbytes++;
    assert_int_equal(lds_keymap_apply(keymap, &scratch, part, 0, NULL, &mapped, &err), LDS_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "expected at most 1000 matches of \"\\.\", found more"));
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
}

static void patterns_that_take_too_long_are_refused(void **state)
{
    (void)state;
    lds_keymap *keymap = keymap_of("{\"rules\":[{\"regex\":\"^(a|aa)+$\",\"drop\":true}]}");
    lds_keymap_scratch scratch = {0};
    lds_mapped mapped;
    lds_error err = LDS_ERROR_INIT;
    const char *name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    assert_int_equal(
        lds_keymap_apply(keymap, &scratch, lds_name_of(name, strlen(name)), 0, NULL, &mapped, &err),
        LDS_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "expected a pattern that is matched within 200000 steps, found"));
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
}

static void check_refused_rule(lds_keymap_rule rule, lds_status status, const char *message)
{
    lds_keymap *keymap;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_keymap_new(&keymap, NULL), LDS_OK);
    rule.struct_size = sizeof rule;
    assert_int_equal(lds_keymap_add(keymap, &rule, NULL), status);
    assert_int_equal(lds_keymap_add(keymap, &rule, &err), status);
    assert_string_equal(err.message, message);
    lds_keymap_free(keymap);
}

static void rules_that_are_none_are_refused(void **state)
{
    (void)state;
    static const int64_t two[] = {-1, -1}, low[] = {-2}, many[65] = {1};
    const lds_keymap_rule base = {.pattern = "a", .add_dim = LDS_NO_DIM};
    lds_keymap_rule rule = base;
    rule.pattern = NULL;
    check_refused_rule(rule, LDS_ERR_ARGUMENT, "pattern: expected a string, found none");
    rule = base;
    rule.match = (lds_match)7;
    check_refused_rule(rule, LDS_ERR_ARGUMENT, "match: expected a value of lds_match, found 7");
    rule = base;
    rule.drop = true;
    rule.to = "b";
    check_refused_rule(rule, LDS_ERR_ARGUMENT, "drop: expected a rule that does nothing else, found \"to\"");
    rule = base;
    rule.add_dim = 0;
    rule.reshape = two;
    rule.n_reshape = 1;
    check_refused_rule(rule, LDS_ERR_ARGUMENT, "expected \"add_dim\" or \"reshape\", found both");
    rule = base;
    rule.add_dim = 64;
    check_refused_rule(rule, LDS_ERR_ARGUMENT, "add_dim: expected a dimension from -64 to 63, found 64");
    rule = base;
    rule.n_reshape = 1;
    check_refused_rule(rule, LDS_ERR_ARGUMENT, "reshape: expected 1 dimensions, found NULL");
    rule.reshape = low;
    check_refused_rule(rule, LDS_ERR_ARGUMENT, "reshape: expected dimensions of -1 or more, found -2");
    rule.reshape = two;
    rule.n_reshape = 2;
    check_refused_rule(rule, LDS_ERR_ARGUMENT, "reshape: expected at most one dimension of -1, found 2");
    rule.reshape = many;
    rule.n_reshape = 65;
    check_refused_rule(rule, LDS_ERR_ARGUMENT, "reshape: expected at most 64 dimensions, found 65");
}

static void patterns_that_are_none_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *to, *message;
    } cases[] = {
        {"a(", NULL,
         "expected a regular expression, found \"a(\": missing closing parenthesis, at byte 2 of the pattern"},
        {"[z-a]", NULL,
         "expected a regular expression, found \"[z-a]\": range out of order in character class, at byte 3 of the "
         "pattern"},
        {"a", "x$1",
         "to: expected $1 or ${name} with a group of the pattern, or $$, found \"$1\" at byte 1 of the replacement"},
        {"(a)", "$10",
         "to: expected $1 or ${name} with a group of the pattern, or $$, found \"$10\" at byte 0 of the replacement"},
        {"(a)", "${b}",
         "to: expected $1 or ${name} with a group of the pattern, or $$, found \"${b}\" at byte 0 of the "
         "replacement"},
        {"(a)", "$1${1",
         "to: expected $1 or ${name} with a group of the pattern, or $$, found \"${1\" at byte 2 of "
         "the replacement"},
        {"(a)", "a$",
         "to: expected $1 or ${name} with a group of the pattern, or $$, found \"$\" at byte 1 of the replacement"},
        {"(a)", "$99999999999999999999",
         "to: expected $1 or ${name} with a group of the pattern, or $$, found \"$99999999999999999999\" at byte 0 of "
         "the replacement"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused_rule((lds_keymap_rule){.match = LDS_MATCH_REGEX,
                                             .pattern = cases[i].pattern,
                                             .to = cases[i].to,
                                             .add_dim = LDS_NO_DIM},
                           LDS_ERR_ARGUMENT, cases[i].message);
}

static void second_exact_rule_for_a_name_is_refused(void **state)
{
    (void)state;
    lds_keymap *keymap = keymap_of("{\"rules\":[{\"exact\":\"a\",\"to\":\"b\"}]}");
    lds_keymap_rule rule;
    lds_error err = LDS_ERROR_INIT;
    lds_keymap_rule_init(&rule, sizeof rule);
    rule.pattern = "a";
    assert_int_equal(lds_keymap_add(keymap, &rule, &err), LDS_ERR_NAME);
    assert_string_equal(err.message, "expected one exact rule for a name, found another for \"a\"");
    lds_keymap_scratch scratch = {0};
    lds_mapped mapped;
    assert_int_equal(lds_keymap_apply(keymap, &scratch, lds_name_of("a", 1), 0, NULL, &mapped, NULL), LDS_OK);
    assert_string_equal(mapped.name, "b");
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
}

static void json_that_is_no_keymap_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message;
    } cases[] = {
        {NULL, "m: expected a value, found the end of the text (at byte 0)"},
        {"", "m: expected a value, found the end of the text (at byte 0)"},
        {"[]", "m: expected an object with the field \"rules\", found an array (at byte 0)"},
        {"{}", "m: expected the field \"rules\", found the end of an object (at byte 1)"},
        {"{\"rule\":[]}", "m: expected the field \"rules\", found \"rule\" (at byte 1)"},
        {"{\"rules\":{}}", "m: rules: expected an array, found an object (at byte 9)"},
        {"{\"rules\":[],\"x\":1}", "m: expected no field but \"rules\", found \"x\" (at byte 12)"},
        {"{\"rules\":[1]}", "m: rules[0]: expected an object, found 1 (at byte 10)"},
        {"{\"rules\":[]} x", "m: expected nothing after the value, found 'x' (at byte 13)"},
        {"{\"rules\":[{}]}", "m: rules[0]: expected one of exact, prefix, regex, found none (at byte 10)"},
        {"{\"rules\":[{\"exact\":\"a\"},{\"too\":\"a\"}]}",
         "m: rules[1]: expected one of exact, prefix, regex, to, drop, add_dim, reshape, found \"too\" (at byte 25)"},
        {"{\"rules\":[{\"exact\":1}]}", "m: rules[0].exact: expected a string, found 1 (at byte 19)"},
        {"{\"rules\":[{\"to\":null}]}", "m: rules[0].to: expected a string, found null (at byte 16)"},
        {"{\"rules\":[{\"exact\":\"a\\u0000\"}]}",
         "m: rules[0].exact: expected a string without NUL, found one with \\u0000 (at byte 19)"},
        {"{\"rules\":[{\"exact\":\"a\",\"exact\":\"b\"}]}",
         "m: rules[0].exact: expected the field once, found it again (at byte 23)"},
        {"{\"rules\":[{\"exact\":\"a\",\"regex\":\"b\"}]}",
         "m: rules[0].regex: expected one of exact, prefix, regex, found a second (at byte 23)"},
        {"{\"rules\":[{\"drop\":1}]}", "m: rules[0].drop: expected true or false, found 1 (at byte 18)"},
        {"{\"rules\":[{\"add_dim\":1.0}]}",
         "m: rules[0].add_dim: expected an integer from -64 to 63, found 1.0 (at byte 21)"},
        {"{\"rules\":[{\"add_dim\":-65}]}",
         "m: rules[0].add_dim: expected an integer from -64 to 63, found -65 (at byte 21)"},
        {"{\"rules\":[{\"add_dim\":\"1\"}]}",
         "m: rules[0].add_dim: expected an integer, found \"1\" (at byte 21)"},
        {"{\"rules\":[{\"reshape\":1}]}",
         "m: rules[0].reshape: expected an array of integers, found 1 (at byte 21)"},
        {"{\"rules\":[{\"reshape\":[[]]}]}",
         "m: rules[0].reshape: expected an integer, found an array (at byte 22)"},
        {"{\"rules\":[{\"reshape\":[1e3]}]}",
         "m: rules[0].reshape: expected an integer, found 1e3 (at byte 22)"},
        {"{\"rules\":[{\"reshape\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"
         "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}]}",
         "m: rules[0].reshape: expected at most 64 dimensions, found more (at byte 150)"},
        {"{\"rules\":[{\"exact\":\"a\",\"reshape\":[-2]}]}",
         "m: rules[0]: reshape: expected dimensions of -1 or more, found -2 (at byte 10)"},
        {"{\"rules\":[{\"regex\":\"(\"}]}",
         "m: rules[0]: expected a regular expression, found \"(\": missing closing parenthesis, at byte 1 of the "
         "pattern (at byte 10)"},
        {"{\"rules\":[{\"exact\":\"a\"},{\"exact\":\"a\"}]}",
         "m: rules[1]: expected one exact rule for a name, found another for \"a\" (at byte 24)"},
        {"{\"rules\":[{\"exact\":\"a\" \"to\":\"b\"}]}", "m: expected ',' or '}', found '\"' (at byte 23)"},
        {"{\"rules\":[{\"exact\":\"\xFF\"}]}", "m: expected text in UTF-8, found byte 0xFF (at byte 20)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lds_keymap *keymap = (void *)1;
        lds_error err = LDS_ERROR_INIT;
        size_t n = cases[i].json ? strlen(cases[i].json) : 0;
        assert_int_equal(lds_keymap_from_json(&keymap, cases[i].json, n, "m", &err), LDS_ERR_MALFORMED);
        assert_null(keymap);
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(lds_keymap_from_json(&keymap, cases[i].json, n, "m", NULL), LDS_ERR_MALFORMED);
    }
}

static void rules_of_other_versions_are_taken(void **state)
{
    (void)state;
    struct {
        lds_keymap_rule rule;
        uint64_t newer;
    } larger = {.newer = 1};
    lds_keymap *keymap;
    assert_int_equal(lds_keymap_new(&keymap, NULL), LDS_OK);
    /* what a caller knows whose struct ends after "drop" */
    lds_keymap_rule rule;
    memset(&rule, 0xEE, sizeof rule);
    lds_keymap_rule_init(&rule, offsetof(lds_keymap_rule, add_dim));
    rule.pattern = "a";
    assert_int_equal(lds_keymap_add(keymap, &rule, NULL), LDS_OK);
    lds_keymap_rule_init(&larger.rule, sizeof larger);
    assert_int_equal(larger.newer, 0);
    larger.rule.pattern = "b";
    assert_int_equal(lds_keymap_add(keymap, &larger.rule, NULL), LDS_OK);
    larger.rule.pattern = "c";
    larger.newer = 1;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_keymap_add(keymap, &larger.rule, &err), LDS_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "rule: this version of the library is too old for what is set");
    rule = (lds_keymap_rule){.pattern = "d"};
    assert_int_equal(lds_keymap_add(keymap, &rule, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "rule: struct_size is 0: initialise the struct first");
    lds_keymap_free(keymap);
}

/* ---- memory that cannot be had ---- */

static int calls_left; /* to PCRE2 until the one that fails; 0 for none */

static bool may_succeed(void)
{
    return !calls_left || --calls_left;
}

pcre2_code *__real_pcre2_compile_8(PCRE2_SPTR pattern, size_t nbytes, uint32_t options, int *code,
                                   size_t *offset, pcre2_compile_context *context);
pcre2_code *__wrap_pcre2_compile_8(PCRE2_SPTR pattern, size_t nbytes, uint32_t options, int *code,
                                   size_t *offset, pcre2_compile_context *context);
pcre2_code *__wrap_pcre2_compile_8(PCRE2_SPTR pattern, size_t nbytes, uint32_t options, int *code,
                                   size_t *offset, pcre2_compile_context *context)
{
    if (may_succeed())
        return __real_pcre2_compile_8(pattern, nbytes, options, code, offset, context);
    *code = PCRE2_ERROR_HEAP_FAILED;
    *offset = 0;
    return NULL;
}

pcre2_match_context *__real_pcre2_match_context_create_8(pcre2_general_context *context);
pcre2_match_context *__wrap_pcre2_match_context_create_8(pcre2_general_context *context);
pcre2_match_context *__wrap_pcre2_match_context_create_8(pcre2_general_context *context)
{
    return may_succeed() ? __real_pcre2_match_context_create_8(context) : NULL;
}

pcre2_match_data *__real_pcre2_match_data_create_8(uint32_t n_pairs, pcre2_general_context *context);
pcre2_match_data *__wrap_pcre2_match_data_create_8(uint32_t n_pairs, pcre2_general_context *context);
pcre2_match_data *__wrap_pcre2_match_data_create_8(uint32_t n_pairs, pcre2_general_context *context)
{
    return may_succeed() ? __real_pcre2_match_data_create_8(n_pairs, context) : NULL;
}

/* Read a key map and apply it. */
static lds_status read_and_apply(lds_error *err)
{
    static const char json[] = "{\"rules\":[{\"exact\":\"a\",\"to\":\"b\"},{\"prefix\":\"m.\",\"to\":\"\"},"
                               "{\"regex\":\"(x)\",\"to\":\"<$1>\"},{\"regex\":\"(y)(z)\",\"to\":\"$2$1\"},"
                               "{\"prefix\":\"\",\"reshape\":[-1]}]}";
    lds_keymap *keymap;
    LDS_TRY(lds_keymap_from_json(&keymap, json, sizeof json - 1, "m", err));
    lds_keymap_scratch scratch = {0};
    lds_mapped mapped;
    uint64_t shape[] = {2, 3};
    lds_status status = lds_keymap_apply(keymap, &scratch, lds_name_of("m.xyz", 5), 2, shape, &mapped, err);
    if (!status) {
        assert_string_equal(mapped.name, "<x>zy");
        assert_int_equal(mapped.shape[0], 6);
    }
    lds_keymap_scratch_destroy(&scratch);
    lds_keymap_free(keymap);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        lds_error err = LDS_ERROR_INIT;
        faults_arm(n);
        lds_status status = read_and_apply(&err);
        failed = faults_disarm();
        assert_int_equal(status, failed ? LDS_ERR_MEMORY : LDS_OK);
        assert_true(!failed || strstr(err.message, "out of memory: "));
        assert_true(failed || n > 20);
    }
}

/* PCRE2 allocates by itself: two patterns with their limits, and what they match with. */
static void every_allocation_of_patterns_may_fail(void **state)
{
    (void)state;
    for (int n = 1; n <= 7; n++) {
        lds_error err = LDS_ERROR_INIT;
        calls_left = n;
        lds_status status = read_and_apply(&err);
        assert_int_equal(status, n < 7 ? LDS_ERR_MEMORY : LDS_OK);
        assert_int_equal(calls_left, n < 7 ? 0 : 1);
        calls_left = 0;
    }
}

/* ---- the document ---- */

static char *read_document(void)
{
    const char *root = getenv("LDS_SOURCE_DIR");
    char path[1024];
    snprintf(path, sizeof path, "%s/docs/keymap.md", root ? root : ".");
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be opened: run in the source directory, or set LDS_SOURCE_DIR", path);
    static char text[65536];
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    return text;
}

/* The next cell of a line of a table, without its quotes; *line moves on to the bar after it. */
static char *next_cell(char **line)
{
    static char cells[4][256];
    static unsigned turn;
    char *cell = cells[turn++ % 4], *bar = strchr(*line, '|');
    assert_non_null(bar);
    size_t skip = strspn(*line, " `"), n = (size_t)(bar - *line);
    assert_true(n < sizeof cells[0]);
    snprintf(cell, sizeof cells[0], "%.*s", (int)(n > skip ? n - skip : 0), *line + skip);
    for (n = strlen(cell); n && strchr(" `", cell[n - 1]); n--)
        cell[n - 1] = 0;
    *line = bar + 1;
    return cell;
}

static uint32_t read_shape(char *text, uint64_t *shape)
{
    uint32_t n = 0;
    for (char *number = strtok(text, ", "); number; number = strtok(NULL, ", "))
        shape[n++] = strtoull(number, NULL, 10);
    return n;
}

/* One line of the example's table. */
static void check_example(const lds_keymap *keymap, char *line)
{
    lds_keymap_scratch scratch = {0};
    lds_mapped mapped;
    lds_error err = LDS_ERROR_INIT;
    uint64_t shape[8], new_shape[8];
    line++;
    const char *name = next_cell(&line);
    uint32_t n_dims = read_shape(next_cell(&line), shape);
    const char *new_name = next_cell(&line);
    uint32_t new_n_dims = read_shape(next_cell(&line), new_shape);
    if (lds_keymap_apply(keymap, &scratch, lds_name_of(name, strlen(name)), n_dims, shape, &mapped, &err))
        fail_msg("%s", err.message);
    assert_int_equal(mapped.dropped, !strcmp(new_name, "dropped"));
    if (!mapped.dropped) {
        assert_string_equal(mapped.name, new_name);
        assert_int_equal(mapped.n_dims, new_n_dims);
        assert_memory_equal(mapped.shape, new_shape, new_n_dims * sizeof *shape);
    }
    lds_keymap_scratch_destroy(&scratch);
}

static void example_of_the_document_does_what_it_says(void **state)
{
    (void)state;
    char *text = read_document(), *json = strstr(text, "```json\n"), *end, *line;
    assert_non_null(json);
    json += strlen("```json\n");
    end = strstr(json, "```");
    assert_non_null(end);
    line = strstr(end, "|---|---|---|---|\n");
    assert_non_null(line);
    *end = 0;
    lds_keymap *keymap = keymap_of(json);
    int n = 0;
    for (line = strchr(line, '\n') + 1; *line == '|'; line = strchr(line, '\n') + 1, n++)
        check_example(keymap, line);
    assert_true(n >= 15);
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
        cmocka_unit_test(names_that_grow_too_long_are_refused),
        cmocka_unit_test(names_that_are_too_long_are_refused),
        cmocka_unit_test(patterns_that_take_too_long_are_refused),
        cmocka_unit_test(rules_that_are_none_are_refused),
        cmocka_unit_test(patterns_that_are_none_are_refused),
        cmocka_unit_test(second_exact_rule_for_a_name_is_refused),
        cmocka_unit_test(json_that_is_no_keymap_is_refused),
        cmocka_unit_test(rules_of_other_versions_are_taken),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_allocation_of_patterns_may_fail),
        cmocka_unit_test(example_of_the_document_does_what_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
