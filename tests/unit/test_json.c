/* The JSON reader: what RFC 8259 makes of a text, where and how errors are reported, and the end of the buffer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "src/base/json.h"
#include "src/base/memory.h"

/* All tokens of text, which is copied into a block of just its size; the last one is END or ERROR. */
static lds_json_token read_all(const char *text, size_t nbytes, lds_error *err)
{
    char *copy = malloc(nbytes ? nbytes : 1);
    memcpy(copy, text, nbytes);
    lds_json json;
    lds_json_init(&json, copy, nbytes, err);
    lds_json_token token;
    while ((token = lds_json_next(&json)) > LDS_JSON_END)
        continue;
    assert_int_equal(lds_json_next(&json), token);
    free(copy);
    return token;
}

static void tokens_come_in_order_with_their_text(void **state)
{
    (void)state;
    static const struct {
        lds_json_token token;
        const char *text;
    } expected[] = {{LDS_JSON_OBJECT, NULL}, {LDS_JSON_KEY, "a b"},           {LDS_JSON_ARRAY, NULL},
                    {LDS_JSON_NUMBER, "1"},  {LDS_JSON_STRING, "\xC3\xA9\n"}, {LDS_JSON_ARRAY_END, NULL},
                    {LDS_JSON_KEY, ""},      {LDS_JSON_TRUE, NULL},           {LDS_JSON_KEY, "n"},
                    {LDS_JSON_NULL, NULL},   {LDS_JSON_OBJECT_END, NULL},     {LDS_JSON_END, NULL},
                    {LDS_JSON_END, NULL}};
    char text[] = " {\"a b\" : [1, \"\\u00e9\\n\"], \"\":true,\"n\":null}\n";
    lds_json json;
    lds_json_init(&json, text, sizeof text - 1, NULL);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_int_equal(lds_json_next(&json), expected[i].token);
        if (!expected[i].text)
            continue;
        assert_int_equal(json.nbytes, strlen(expected[i].text));
        assert_memory_equal(json.text, expected[i].text, json.nbytes);
    }
}

static void errors_say_where_and_what(void **state)
{
    (void)state;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(read_all("[1,]", 4, &err), LDS_JSON_ERROR);
    assert_string_equal(err.message, "expected a value, found ']' (at byte 3)");
    assert_int_equal(err.offset, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_come_in_order_with_their_text),
        cmocka_unit_test(errors_say_where_and_what),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
