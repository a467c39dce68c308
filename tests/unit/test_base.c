/* Errors, memory and the index of names. */
#include <locale.h>

#include "src/base/names.h"
#include "tests/unit/support.h"

static void error_names_file_tensor_and_byte(void **state)
{
    (void)state;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_fail_at(&err, LDS_ERR_MALFORMED, 17, "expected %d, found %d", 2, 3),
                     LDS_ERR_MALFORMED);
    assert_int_equal(lds_error_context(&err, LDS_ERR_MALFORMED, "a/b.safetensors", "w.weight"),
                     LDS_ERR_MALFORMED);
    assert_string_equal(err.message, "a/b.safetensors: w.weight: expected 2, found 3 (at byte 17)");
    assert_int_equal(err.offset, 17);
    assert_int_equal(err.file_nbytes, strlen("a/b.safetensors"));
    assert_int_equal(err.tensor_nbytes, strlen("w.weight"));
}

static void error_shortens_long_paths_at_a_character(void **state)
{
    (void)state;
    char path[2001] = {0};
    for (size_t i = 0; i < 2000; i += 2)
        memcpy(path + i, "\xC3\xA9", 2);
    lds_error err = LDS_ERROR_INIT;
    lds_fail_errno(&err, LDS_ERR_IO, 2, "cannot be opened");
    lds_error_context(&err, LDS_ERR_IO, path, NULL);
    assert_memory_equal(err.message, "...\xC3\xA9", 5);
    assert_non_null(strstr(err.message, ": cannot be opened: No such file or directory"));
    assert_int_equal(err.os_errno, 2);
}

static void a_message_is_one_line(void **state)
{
    (void)state;
    lds_error err = LDS_ERROR_INIT;
    lds_fail(&err, LDS_ERR_NAME, "no \"%s\"", "a\nb\x7F");
    lds_error_context(&err, LDS_ERR_NAME, "x\ty", "\x1B[31m");
    assert_string_equal(err.message, "x?y: ?[31m: no \"a?b?\"");
    assert_int_equal(err.tensor_nbytes, 5);
}

static void a_message_has_no_parts_of_characters(void **state)
{
    (void)state;
    lds_error err = LDS_ERROR_INIT;
    lds_fail_at(&err, LDS_ERR_NAME, 3, "expected x, found \"%.7s\"", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82");
    assert_string_equal(err.message, "expected x, found \"\xC3\xA9\xE2\x82\xAC\" (at byte 3)");

    char text[1200] = {0};
    for (size_t i = 0; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xC3\xA9", 2);
    for (size_t shift = 0; shift < 2; shift++) {
        lds_fail(&err, LDS_ERR_NAME, "%.*s%s", (int)shift, "x", text);
        assert_int_equal(strlen(err.message), 1022 + shift);
        lds_error_context(&err, LDS_ERR_NAME, "f", NULL);
        assert_int_equal(strlen(err.message), 1023 - shift);
    }

    /* A path of no encoding is told as it is. */
    lds_fail(&err, LDS_ERR_NAME, "no");
    lds_error_context(&err, LDS_ERR_NAME, "a\xFF\xC3", NULL);
    assert_string_equal(err.message, "a\xFF\xC3: no");
}

static void assert_comma(const char *expected)
{
    char text[8];
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, expected);
}

/* The program's locale, and another of this thread's, which stay what they are. */
static void messages_do_not_follow_the_locale(void **state)
{
    (void)state;
    char *folder = make_folder(), command[512];
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' >/dev/null 2>&1", folder);
    bool is_there = !system(command) && !setenv("LOCPATH", folder, 1) && setlocale(LC_ALL, "de_DE.UTF-8");
    remove_folder(folder);
    if (!is_there)
        skip(); /* no sources of locales */
    lds_error err = LDS_ERROR_INIT;
    lds_fail(&err, LDS_ERR_MEMORY, "needs %.2f GB, found %g", 1.25, 0.5);
    assert_string_equal(err.message, "needs 1.25 GB, found 0.5");
    assert_comma("0,5");
    lds_fail_errno(&err, LDS_ERR_IO, 28, "has no room for %.2f GB", 1.25);
    assert_string_equal(err.message, "has no room for 1.25 GB: No space left on device");
    char *text;
    assert_int_equal(lds_format_string(&text, NULL, "%.3f s", 0.028), LDS_OK);
    assert_string_equal(text, "0.028 s");
    free(text);

    locale_t own = duplocale(LC_GLOBAL_LOCALE);
    setlocale(LC_ALL, "C");
    assert_comma("0.5");
    locale_t before = uselocale(own);
    lds_fail(&err, LDS_ERR_MEMORY, "needs %.2f GB", 1.25);
    assert_string_equal(err.message, "needs 1.25 GB");
    assert_comma("0,5");
    uselocale(before);
    freelocale(own);
}

static void error_may_be_null(void **state)
{
    (void)state;
    assert_int_equal(lds_fail(NULL, LDS_ERR_NAME, "x"), LDS_ERR_NAME);
    assert_int_equal(lds_error_context(NULL, LDS_ERR_NAME, "f", "t"), LDS_ERR_NAME);
}

static void every_status_has_its_name(void **state)
{
    (void)state;
#define CHECK_NAME(code) assert_string_equal(lds_status_name(code), #code)
    CHECK_NAME(LDS_OK);
    CHECK_NAME(LDS_ERR_ARGUMENT);
    CHECK_NAME(LDS_ERR_NAME);
    CHECK_NAME(LDS_ERR_IO);
    CHECK_NAME(LDS_ERR_NOT_FOUND);
    CHECK_NAME(LDS_ERR_CHANGED);
    CHECK_NAME(LDS_ERR_MALFORMED);
    CHECK_NAME(LDS_ERR_TRUNCATED);
    CHECK_NAME(LDS_ERR_NOT_WEIGHTS);
    CHECK_NAME(LDS_ERR_UNSUPPORTED);
    CHECK_NAME(LDS_ERR_ARCHITECTURE);
    CHECK_NAME(LDS_ERR_MISMATCH);
    CHECK_NAME(LDS_ERR_MEMORY);
    CHECK_NAME(LDS_ERR_CANCELLED);
#undef CHECK_NAME
    assert_int_equal(LDS_ERR_ARCHITECTURE, -41);
    assert_int_equal(LDS_ERR_ARCHITECTURE / 10, LDS_ERR_UNSUPPORTED / 10);
    assert_string_equal(lds_status_name(-49), "unknown status");
}

static void names_find_what_was_added(void **state)
{
    (void)state;
    enum { N = 100000 };
    char(*texts)[16] = calloc(N, sizeof *texts);
    lds_names names = {0};
    uint32_t found;
    for (uint32_t i = 0; i < N; i++) {
        int n = snprintf(texts[i], sizeof texts[i], "layer.%u", i);
        assert_int_equal(lds_names_add(&names, lds_name_of(texts[i], (size_t)n), &found, NULL), LDS_OK);
        assert_int_equal(found, LDS_NO_INDEX);
    }
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(lds_names_find(&names, lds_name_of(texts[i], strlen(texts[i]))), i);
    assert_int_equal(lds_names_add(&names, lds_name_of("layer.7", 7), &found, NULL), LDS_OK);
    assert_int_equal(found, 7);
    assert_int_equal(names.n, N);
    assert_int_equal(lds_names_find(&names, lds_name_of("layer", 5)), LDS_NO_INDEX);
    lds_names_destroy(&names);
    assert_int_equal(lds_names_find(&names, lds_name_of("layer", 5)), LDS_NO_INDEX);
    free(texts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_names_file_tensor_and_byte),
        cmocka_unit_test(error_shortens_long_paths_at_a_character),
        cmocka_unit_test(a_message_is_one_line),
        cmocka_unit_test(a_message_has_no_parts_of_characters),
        cmocka_unit_test(messages_do_not_follow_the_locale),
        cmocka_unit_test(error_may_be_null),
        cmocka_unit_test(every_status_has_its_name),
        cmocka_unit_test(names_find_what_was_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
