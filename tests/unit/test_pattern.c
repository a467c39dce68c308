/* Globs and regular expressions over names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/base/memory.h"
#include "src/base/regex.h"

static void globs_match_whole_names(void **state)
{
    (void)state;
    static const struct {
        const char *glob, *name;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"*", "a.b.c", true},
        {"a.*.c", "a.b.b.c", true},
        {"a.*.c", "a.b.b.d", false},
        {"*.weight", "x.weight.weight", true},
        {"*a*b*c*", "xxaxxbxxcxx", true},
        {"*a*b*c*", "xxaxxcxxbxx", false},
        {"?", "\xC3\xA9", true},
        {"??", "\xC3\xA9", false},
        {"[a-c]?", "bz", true},
        {"[!a-c]?", "bz", false},
        {"[]]", "]", true},
        {"[!]]", "]", false},
        {"[\xC3\xA0-\xC3\xBF]", "\xC3\xA9", true},
        {"[a-]", "-", true},
        {"[a-]", "b", false},
        {"[z-a]", "m", false},
        {"[!z-a]", "m", true},
        {"[abc", "[abc", true},
        {"[!", "[!", true},
        {"[", "[", true},
        {"[*]", "*", true},
        {"[*]", "x", false},
        {"**", "x", true},
        {"a\\b", "a\\b", true},
        {"A", "a", false},
        {"\xFF*", "\xFFx", true},
        {"?", "\xC3", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (lds_glob_match(cases[i].glob, cases[i].name) != cases[i].matches)
            fail_msg("'%s' on '%s'", cases[i].glob, cases[i].name);
}

static void glob_with_many_stars_takes_no_exponential_time(void **state)
{
    (void)state;
    enum { N = 4000 };
    char *name = malloc(N + 1), *glob = malloc(N + 2);
    memset(name, 'a', N);
    name[N] = 0;
    for (size_t i = 0; i < N; i += 2)
        memcpy(glob + i, "*a", 2);
    memcpy(glob + N, "b", 2);
    assert_false(lds_glob_match(glob, name));
    free(name);
    free(glob);
}

static void regex_finds_groups(void **state)
{
    (void)state;
    lds_regex *regex;
    lds_regex_scratch scratch = {0};
    bool found;
    assert_int_equal(lds_regex_compile(&regex, "\\.(?<kind>gamma|beta)$|(x)", NULL), LDS_OK);
    assert_int_equal(lds_regex_n_groups(regex), 2);
    assert_int_equal(lds_regex_group(regex, "kind"), 1);
    assert_int_equal(lds_regex_group(regex, "none"), 0);
    assert_int_equal(lds_regex_match(regex, &scratch, "norm.beta", 9, 0, 0, &found, NULL), LDS_OK);
    assert_true(found);
    assert_int_equal(scratch.spans[0], 4);
    assert_int_equal(scratch.spans[2], 5);
    assert_int_equal(scratch.spans[3], 9);
    assert_true(scratch.spans[4] == LDS_NO_SPAN);
    assert_int_equal(lds_regex_match(regex, &scratch, "norm.beta", 9, 5, 0, &found, NULL), LDS_OK);
    assert_false(found);
    lds_regex_scratch_destroy(&scratch);
    lds_regex_free(regex);
}

static void regex_that_is_none_says_where(void **state)
{
    (void)state;
    lds_regex *regex = (void *)1;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_regex_compile(&regex, "ab(c", &err), LDS_ERR_ARGUMENT);
    assert_null(regex);
    assert_int_equal(err.offset, 4);
    assert_string_equal(err.message,
                        "expected a regular expression, found \"ab(c\": missing closing parenthesis, "
                        "at byte 4 of the pattern");
}

static void regex_is_bounded(void **state)
{
    (void)state;
    lds_regex *regex;
    lds_regex_scratch scratch = {0};
    lds_error err = LDS_ERROR_INIT;
    bool found;
    char name[64];
    memset(name, 'a', sizeof name);
    assert_int_equal(lds_regex_compile(&regex, "(a+)+b$", NULL), LDS_OK);
    name[sizeof name - 1] = 'b';
    assert_int_equal(lds_regex_match(regex, &scratch, name, sizeof name, 0, 0, &found, NULL), LDS_OK);
    assert_true(found);
    lds_regex_free(regex);
    assert_int_equal(lds_regex_compile(&regex, "^(a|aa|aaa)+$", NULL), LDS_OK);
    assert_int_equal(lds_regex_match(regex, &scratch, name, sizeof name, 0, 0, &found, &err),
                     LDS_ERR_UNSUPPORTED);
    assert_string_equal(err.message,
                        "expected a pattern that is matched within 200000 steps, found one that is "
                        "not (match limit exceeded)");
    lds_regex_free(regex);
    lds_regex_scratch_destroy(&scratch);
}

static void regex_refuses_what_is_not_utf8(void **state)
{
    (void)state;
    lds_regex *regex;
    lds_regex_scratch scratch = {0};
    lds_error err = LDS_ERROR_INIT;
    bool found;
    assert_int_equal(lds_regex_compile(&regex, "\xFF", &err), LDS_ERR_ARGUMENT);
    assert_int_equal(lds_regex_compile(&regex, "a", NULL), LDS_OK);
    assert_int_equal(lds_regex_match(regex, &scratch, "a\xFF", 2, 0, 0, &found, &err), LDS_ERR_ARGUMENT);
    lds_regex_free(regex);
    lds_regex_scratch_destroy(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(globs_match_whole_names),
        cmocka_unit_test(glob_with_many_stars_takes_no_exponential_time),
        cmocka_unit_test(regex_finds_groups),
        cmocka_unit_test(regex_that_is_none_says_where),
        cmocka_unit_test(regex_is_bounded),
        cmocka_unit_test(regex_refuses_what_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
