/*
 * The JSON reader: what RFC 8259 makes of a text, where and how errors are reported, and the end of the
 * buffer. Each text is read from memory that ends at a page that cannot be read.
 */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/base/json.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
/* A text with its length, for it may hold NUL bytes. */
#define T(text) text, sizeof(text) - 1

/* A copy of text that ends at the end of a page after which nothing can be read. Valid until the next call. */
static char *at_page_end(const char *text, size_t nbytes)
{
    static char *base;
    enum { CAPACITY = 1 << 20 };
    if (!base) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        base = mmap(NULL, CAPACITY + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(base != MAP_FAILED);
        assert_int_equal(mprotect(base + CAPACITY, page, PROT_NONE), 0);
    }
    assert_true(nbytes <= CAPACITY);
    return memcpy(base + CAPACITY - nbytes, text, nbytes);
}

/* Read all tokens of a text. The last one is END or ERROR. */
static lds_json_token read_all(const char *text, size_t nbytes, lds_error *err)
{
    lds_json json;
    lds_json_init(&json, at_page_end(text, nbytes), nbytes, err);
    lds_json_token token;
    do {
        token = lds_json_next(&json);
    } while (token > LDS_JSON_END);
    assert_int_equal(lds_json_next(&json), token);
    assert_int_equal(json.status, token == LDS_JSON_ERROR ? LDS_ERR_MALFORMED : LDS_OK);
    return token;
}

/* ---- texts that are JSON ---- */

static const struct {
    const char *text;
    size_t nbytes;
} accepted[] = {
    /* any value may stand alone (section 2) */
    {T("null")},
    {T("true")},
    {T("false")},
    {T("0")},
    {T("\"\"")},
    {T("{}")},
    {T("[]")},
    {T(" \t\r\n[ \t\r\n] \t\r\n")},
    {T("\n1\n")},
    /* objects (4) */
    {T("{\"a\":1}")},
    {T("{ \"a\" : 1 , \"b\" : 2 }")},
    {T("{\"a\":{\"a\":{\"a\":{}}}}")},
    {T("{\"\":0}")},
    {T("{\"a\":1,\"a\":1}")},
    {T("{\"a\":1,\"a\":2}")},
    {T("{\"\\u0000a\":1}")},
    {T("{\"a\":[]}")},
    {T("{\"a\":[1,{\"b\":null}],\"c\":\"d\"}")},
    /* arrays (5) */
    {T("[1]")},
    {T("[1,2]")},
    {T("[[]   ]")},
    {T("[[],[[]],[[],[]]]")},
    {T("[\"\"]")},
    {T("[null,1,\"1\",{}]")},
    {T("[1,null,null,null,2]")},
    {T("[false]")},
    {T(" [1]")},
    {T("[1] ")},
    /* numbers (6) */
    {T("[-0]")},
    {T("[0e1]")},
    {T("[0e+1]")},
    {T("[0E-1]")},
    {T("[1E22]")},
    {T("[1E-2]")},
    {T("[1E+2]")},
    {T("[123e45]")},
    {T("[123.456e78]")},
    {T("[1e-2]")},
    {T("[0.0]")},
    {T("[-0.0e-0]")},
    {T("[123.456789]")},
    {T("[-123]")},
    {T("[-1]")},
    {T("[1e00]")},
    {T("[1e1000]")},
    {T("[123123e-10000000]")},
    {T("[100000000000000000000000000000000000]")},
    {T("[-0.000000000000000000000000000000000000000000000000000000000000000000000000000001]")},
    {T("[0.4e00669999999999999999999999999999999999999999999999999999999999999999]")},
    {T("[20e1]")},
    {T("[ 4]")},
    {T("-1")},
    {T("1.5e300")},
    /* strings (7) */
    {T("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]")},
    {T("[\"\\\\u0000\"]")},
    {T("[\"\\\"\"]")},
    {T("[\"a/*b*/c/*d//e\"]")},
    {T("[\"\\\\a\"]")},
    {T("[\"\\\\n\"]")},
    {T("[\"\\u0012\"]")},
    {T("[\"\\uFFFF\"]")},
    {T("[\"\\uFdD0\"]")},
    {T("[\"\\u0060\\u012a\\u12AB\"]")},
    {T("[\"\\uD801\\udc37\"]")},
    {T("[\"\\ud83d\\ude39\\ud83d\\udc8d\"]")},
    {T("[\"\\uDBFF\\uDFFE\"]")},
    {T("[\"\\uD834\\uDd1e\"]")},
    {T("[\"\\u0000\"]")},
    {T("[\"\\u0022\\u005C\"]")},
    {T("[\"\\u200B\\u2064\\uFEFF\"]")},
    {T("[\"new\\u000Aline\"]")},
    {T("[\"asd \"]")},
    {T("[\" \"]")},
    {T("\" \"")},
    {T("[\"\x7F\"]")},
    {T("[\"a\x7F longer than eight\"]")},
    {T("[\"\xC2\x80\"]")},
    {T("[\"\xDF\xBF\"]")},
    {T("[\"\xE0\xA0\x80\"]")},
    {T("[\"\xED\x9F\xBF\"]")},
    {T("[\"\xEE\x80\x80\"]")},
    {T("[\"\xEF\xBB\xBF\"]")},
    {T("[\"\xEF\xBF\xBF\"]")},
    {T("[\"\xF0\x90\x80\x80\"]")},
    {T("[\"\xF0\x9B\xBF\xBF\"]")},
    {T("[\"\xF4\x8F\xBF\xBF\"]")},
    {T("[\"\xE2\x80\xA8\xE2\x80\xA9\"]")},
    {T("[\"\xE3\x81\x82\"]")},
    {T("[\"7 bytes\"]")},
    {T("[\"8  bytes\"]")},
    {T("[\"9   bytes\"]")},
};

static void texts_that_are_json_are_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(accepted); i++) {
        lds_error err = LDS_ERROR_INIT;
        if (read_all(accepted[i].text, accepted[i].nbytes, &err) != LDS_JSON_END)
            fail_msg("%s: %s", accepted[i].text, err.message);
    }
}

/* ---- texts that are not ---- */

#define VALUE "a value"
#define KEY "a field's name in double quotes"
#define FIRST_KEY KEY " or '}'"
#define COLON "':' after a field's name"
#define IN_ARRAY "',' or ']'"
#define IN_OBJECT "',' or '}'"
#define NOTHING "nothing after the value"
#define END "the end of the text"
#define HEX "four hexadecimal digits after \\u"
#define LOW "a low surrogate (\\uDC00 to \\uDFFF) after a high one"
#define HIGH "a high surrogate before a low one"
#define ESCAPE "one of \"\\/bfnrtu after a backslash"
#define CONTROL "control characters in a string to be escaped"
#define UTF8 "text in UTF-8"
#define CLOSED(at) "'\"' to close the string that begins at byte " #at
#define ZERO "no digit after a leading zero"
#define FRACTION "a digit after the decimal point"
#define EXPONENT "a digit in the exponent"

static const struct {
    const char *text;
    size_t nbytes;
    uint64_t offset; /* where the error is */
    const char *expected, *found;
} refused[] = {
    /* nothing, or more than one */
    {T(""), 0, VALUE, END},
    {T(" "), 1, VALUE, END},
    {T("\xEF\xBB\xBF"), 0, VALUE, "a byte order mark"},
    {T("\xEF\xBB\xBF{}"), 0, VALUE, "a byte order mark"},
    {T("\xFF\xFE[\0]\0"), 0, VALUE, "byte 0xFF"},
    {T("\0[\0]"), 0, VALUE, "byte 0x00"},
    {T("1 2"), 2, NOTHING, "'2'"},
    {T("[][]"), 2, NOTHING, "'['"},
    {T("{}}"), 2, NOTHING, "'}'"},
    {T("[1]]"), 3, NOTHING, "']'"},
    {T("[1]x"), 3, NOTHING, "'x'"},
    {T("{\"a\":1}#"), 7, NOTHING, "'#'"},
    {T("{\"a\":1}//"), 7, NOTHING, "'/'"},
    {T("[]\0"), 2, NOTHING, "byte 0x00"},
    {T("\"a\" \"b\""), 4, NOTHING, "'\"'"},
    {T("truefalse"), 4, NOTHING, "'f'"},
    {T("2@"), 1, NOTHING, "'@'"},
    /* values that are none */
    {T("*"), 0, VALUE, "'*'"},
    {T("<null>"), 0, VALUE, "'<'"},
    {T("abc"), 0, VALUE, "'a'"},
    {T("'a'"), 0, VALUE, "'''"},
    {T("[NaN]"), 1, VALUE, "'N'"},
    {T("[Infinity]"), 1, VALUE, "'I'"},
    {T("[Inf]"), 1, VALUE, "'I'"},
    {T("[-Infinity]"), 2, "a digit", "'I'"},
    {T("[-NaN]"), 2, "a digit", "'N'"},
    {T("[nul"), 4, "null", END},
    {T("[nulL]"), 4, "null", "'L'"},
    {T("[tru]"), 4, "true", "']'"},
    {T("[fals"), 5, "false", END},
    {T("[n"), 2, "null", END},
    {T("not json"), 0, VALUE, "'n'"},
    {T("[nil]"), 1, VALUE, "'n'"},
    {T("[trie]"), 1, VALUE, "'t'"},
    {T("[True]"), 1, VALUE, "'T'"},
    {T("[\xC3\xA9]"), 1, VALUE, "byte 0xC3"},
    {T("[\xFF]"), 1, VALUE, "byte 0xFF"},
    {T("[\v]"), 1, VALUE, "byte 0x0B"},
    {T("[\f]"), 1, VALUE, "byte 0x0C"},
    {T("[\xC2\xA0]"), 1, VALUE, "byte 0xC2"},
    {T("\xE2\x81\xA0"), 0, VALUE, "byte 0xE2"},
    {T("[\\u0061]"), 1, VALUE, "'\\'"},
    {T("/**/1"), 0, VALUE, "'/'"},
    /* arrays */
    {T("["), 1, VALUE, END},
    {T("[1"), 2, IN_ARRAY, END},
    {T("[1,"), 3, VALUE, END},
    {T("[1,]"), 3, VALUE, "']'"},
    {T("[,]"), 1, VALUE, "','"},
    {T("[,1]"), 1, VALUE, "','"},
    {T("[1,,2]"), 3, VALUE, "','"},
    {T("[1,\n,2]"), 4, VALUE, "','"},
    {T("[1 true]"), 3, IN_ARRAY, "'t'"},
    {T("[\"\" 1]"), 4, IN_ARRAY, "'1'"},
    {T("[\"a\":1]"), 4, IN_ARRAY, "':'"},
    {T("[1:2]"), 2, IN_ARRAY, "':'"},
    {T("[1}"), 2, IN_ARRAY, "'}'"},
    {T("[3[4]]"), 2, IN_ARRAY, "'['"},
    {T("[1;2]"), 2, IN_ARRAY, "';'"},
    {T("[\"a\",\n4\n,1,"), 11, VALUE, END},
    {T("]"), 0, VALUE, "']'"},
    {T("[{}"), 3, IN_ARRAY, END},
    {T("[[]"), 3, IN_ARRAY, END},
    /* objects */
    {T("{"), 1, FIRST_KEY, END},
    {T("{]"), 1, FIRST_KEY, "']'"},
    {T("{,\"a\":1}"), 1, FIRST_KEY, "','"},
    {T("{a:1}"), 1, FIRST_KEY, "'a'"},
    {T("{'a':1}"), 1, FIRST_KEY, "'''"},
    {T("{1:1}"), 1, FIRST_KEY, "'1'"},
    {T("{null:1}"), 1, FIRST_KEY, "'n'"},
    {T("{[:\"x\"}"), 1, FIRST_KEY, "'['"},
    {T("{\"a\"}"), 4, COLON, "'}'"},
    {T("{\"a\""), 4, COLON, END},
    {T("{\"a\" \"b\"}"), 5, COLON, "'\"'"},
    {T("{\"a\",1}"), 4, COLON, "','"},
    {T("{\"a\"::1}"), 5, VALUE, "':'"},
    {T("{\"a\":}"), 5, VALUE, "'}'"},
    {T("{\"a\":"), 5, VALUE, END},
    {T("{\"a\":1"), 6, IN_OBJECT, END},
    {T("{\"a\":1]"), 6, IN_OBJECT, "']'"},
    {T("{\"a\":1 \"b\":2}"), 7, IN_OBJECT, "'\"'"},
    {T("{\"a\":1 1}"), 7, IN_OBJECT, "'1'"},
    {T("{\"a\":1:2}"), 6, IN_OBJECT, "':'"},
    {T("{\"a\":1,}"), 7, KEY, "'}'"},
    {T("{\"a\":1,"), 7, KEY, END},
    {T("{\"a\":1,,\"b\":2}"), 7, KEY, "','"},
    {T("{\"a\":1,b:2}"), 7, KEY, "'b'"},
    {T("{\"a\":/*c*/1}"), 5, VALUE, "'/'"},
    {T("}"), 0, VALUE, "'}'"},
    {T("{}\xF0"), 2, NOTHING, "byte 0xF0"},
    /* numbers */
    {T("[-]"), 2, "a digit", "']'"},
    {T("-"), 1, "a digit", END},
    {T("[--1]"), 2, "a digit", "'-'"},
    {T("[+1]"), 1, VALUE, "'+'"},
    {T("[.1]"), 1, VALUE, "'.'"},
    {T("[-.1]"), 2, "a digit", "'.'"},
    {T("[01]"), 2, ZERO, "'1'"},
    {T("[-01]"), 3, ZERO, "'1'"},
    {T("[00]"), 2, ZERO, "'0'"},
    {T("[1.]"), 3, FRACTION, "']'"},
    {T("[1."), 3, FRACTION, END},
    {T("[0.e1]"), 3, FRACTION, "'e'"},
    {T("[1.-1]"), 3, FRACTION, "'-'"},
    {T("[1e]"), 3, EXPONENT, "']'"},
    {T("[1e"), 3, EXPONENT, END},
    {T("[1E+]"), 4, EXPONENT, "']'"},
    {T("[1e-"), 4, EXPONENT, END},
    {T("[1ea]"), 3, EXPONENT, "'a'"},
    {T("[1e+-1]"), 4, EXPONENT, "'-'"},
    {T("[1eE2]"), 3, EXPONENT, "'E'"},
    {T("[0.1.2]"), 4, IN_ARRAY, "'.'"},
    {T("[1e1.5]"), 4, IN_ARRAY, "'.'"},
    {T("[1 000]"), 3, IN_ARRAY, "'0'"},
    {T("[0x42]"), 2, IN_ARRAY, "'x'"},
    {T("[1_000]"), 2, IN_ARRAY, "'_'"},
    {T("[1+2]"), 2, IN_ARRAY, "'+'"},
    {T("[1.8011670033376514H-308]"), 19, IN_ARRAY, "'H'"},
    {T("[-1x]"), 3, IN_ARRAY, "'x'"},
    {T("[1\xEF\xBC\x91]"), 2, IN_ARRAY, "byte 0xEF"},
    {T("[- 1]"), 2, "a digit", "byte 0x20"},
    /* strings */
    {T("\""), 1, CLOSED(0), END},
    {T("[\"a"), 3, CLOSED(1), END},
    {T("[\"a long string that is not closed"), 34, CLOSED(1), END},
    {T("[\"\\"), 3, ESCAPE, END},
    {T("[\"\\x00\"]"), 3, ESCAPE, "'x'"},
    {T("[\"\\a\"]"), 3, ESCAPE, "'a'"},
    {T("[\"\\'\"]"), 3, ESCAPE, "'''"},
    {T("[\"\\\t\"]"), 3, ESCAPE, "byte 0x09"},
    {T("[\"\\U0041\"]"), 3, ESCAPE, "'U'"},
    {T("[\"\\\xC3\xA9\"]"), 3, ESCAPE, "byte 0xC3"},
    {T("[\"\\\0\"]"), 3, ESCAPE, "byte 0x00"},
    {T("[\"\\\\\\\"]"), 7, CLOSED(1), END},
    {T("[\"\\u"), 4, HEX, END},
    {T("[\"\\u\"]"), 4, HEX, "'\"'"},
    {T("[\"\\u00A\"]"), 7, HEX, "'\"'"},
    {T("[\"\\u00AG\"]"), 7, HEX, "'G'"},
    {T("[\"\\u+123\"]"), 4, HEX, "'+'"},
    {T("[\"\\uD800\"]"), 8, LOW, "'\"'"},
    {T("[\"\\uD800"), 8, LOW, END},
    {T("[\"\\uD800\\"), 8, LOW, "'\\'"},
    {T("[\"\\uD800\\n\"]"), 8, LOW, "'\\'"},
    {T("[\"\\uD800\\u\"]"), 10, HEX, "'\"'"},
    {T("[\"\\uD800\\u1\"]"), 11, HEX, "'\"'"},
    {T("[\"\\uD800\\uD800\"]"), 8, LOW, "'\\'"},
    {T("[\"\\uD800\\u0041\"]"), 8, LOW, "'\\'"},
    {T("[\"\\uD888\\u1234\"]"), 8, LOW, "'\\'"},
    {T("[\"\\uDC00\"]"), 2, HIGH, "'\\'"},
    {T("[\"\\uDd1e\\uD834\"]"), 2, HIGH, "'\\'"},
    {T("[\"a\0b\"]"), 3, CONTROL, "byte 0x00"},
    {T("[\"new\nline\"]"), 5, CONTROL, "byte 0x0A"},
    {T("[\"\t\"]"), 2, CONTROL, "byte 0x09"},
    {T("[\"after eight bytes \x1F\"]"), 20, CONTROL, "byte 0x1F"},
    {T("{\"a\nb\":1}"), 3, CONTROL, "byte 0x0A"},
    /* UTF-8 (8.1) */
    {T("[\"\x80\"]"), 2, UTF8, "byte 0x80"},
    {T("[\"\xBF\"]"), 2, UTF8, "byte 0xBF"},
    {T("[\"\xC0\x80\"]"), 2, UTF8, "byte 0xC0"},
    {T("[\"\xC0\xAF\"]"), 2, UTF8, "byte 0xC0"},
    {T("[\"\xC1\xBF\"]"), 2, UTF8, "byte 0xC1"},
    {T("[\"\xC3\"]"), 2, UTF8, "byte 0xC3"},
    {T("[\"\xC3"), 2, UTF8, "byte 0xC3"},
    {T("[\"\xE0\x9F\xBF\"]"), 2, UTF8, "byte 0xE0"},
    {T("[\"\xE0\xFF\"]"), 2, UTF8, "byte 0xE0"},
    {T("[\"\xE2\x82"), 2, UTF8, "byte 0xE2"},
    {T("[\"\xE2\x82\"]"), 2, UTF8, "byte 0xE2"},
    {T("[\"\xED\xA0\x80\"]"), 2, UTF8, "byte 0xED"},
    {T("[\"\xED\xBF\xBF\"]"), 2, UTF8, "byte 0xED"},
    {T("[\"\xF0\x8F\xBF\xBF\"]"), 2, UTF8, "byte 0xF0"},
    {T("[\"\xF0\x9D\x84"), 2, UTF8, "byte 0xF0"},
    {T("[\"\xF0\x9D\x84\xC0\"]"), 2, UTF8, "byte 0xF0"},
    {T("[\"\xF4\x90\x80\x80\"]"), 2, UTF8, "byte 0xF4"},
    {T("[\"\xF5\x80\x80\x80\"]"), 2, UTF8, "byte 0xF5"},
    {T("[\"\xF8\x88\x80\x80\x80\"]"), 2, UTF8, "byte 0xF8"},
    {T("[\"\xFC\x83\xBF\xBF\xBF\xBF\"]"), 2, UTF8, "byte 0xFC"},
    {T("[\"\xFE\"]"), 2, UTF8, "byte 0xFE"},
    {T("[\"nineteen good bytes\xFF\"]"), 21, UTF8, "byte 0xFF"},
    {T("[\"\\n\xC3\xA9\xE9\"]"), 6, UTF8, "byte 0xE9"},
    {T("{\"\xE9\":1}"), 2, UTF8, "byte 0xE9"},
};

static void texts_that_are_not_are_refused_with_the_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        lds_error err = LDS_ERROR_INIT;
        char message[256];
        if (read_all(refused[i].text, refused[i].nbytes, &err) != LDS_JSON_ERROR)
            fail_msg("%s is accepted", refused[i].text);
        snprintf(message, sizeof message, "expected %s, found %s (at byte %llu)", refused[i].expected,
                 refused[i].found, (unsigned long long)refused[i].offset);
        assert_string_equal(err.message, message);
        assert_int_equal(err.offset, refused[i].offset);
        assert_int_equal(err.code, LDS_ERR_MALFORMED);
        assert_int_equal(read_all(refused[i].text, refused[i].nbytes, NULL), LDS_JSON_ERROR);
    }
}

/* Cut anywhere, a text that is an array or object is none any more, and nothing past the cut is read. */
static void texts_that_are_cut_are_refused(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model.layers.0.weight\":{\"dtype\":\"BF16\",\"shape\":[2048,7168],\"\\u00e9\xC3\xA9\":"
        "[true,false,null,-1.5e+10,\"\\ud834\\udd1e\"]},\"\":[[],{}]}";
    for (size_t nbytes = 0; nbytes < sizeof text - 1; nbytes++) {
        lds_error err = LDS_ERROR_INIT;
        assert_int_equal(read_all(text, nbytes, &err), LDS_JSON_ERROR);
        assert_true(err.offset <= nbytes);
    }
    assert_int_equal(read_all(text, sizeof text - 1, NULL), LDS_JSON_END);
}

/* ---- tokens ---- */

static void tokens_come_in_order_with_their_text(void **state)
{
    (void)state;
    static const struct {
        lds_json_token token;
        size_t offset;
        const char *text;
    } expected[] = {
        {LDS_JSON_OBJECT, 1, NULL},
        {LDS_JSON_KEY, 2, "a b"},
        {LDS_JSON_ARRAY, 10, NULL},
        {LDS_JSON_NUMBER, 11, "1"},
        {LDS_JSON_STRING, 14, "\xC3\xA9\n"},
        {LDS_JSON_ARRAY_END, 24, NULL},
        {LDS_JSON_KEY, 27, ""},
        {LDS_JSON_TRUE, 30, NULL},
        {LDS_JSON_KEY, 35, "n"},
        {LDS_JSON_NULL, 39, NULL},
        {LDS_JSON_OBJECT_END, 43, NULL},
        {LDS_JSON_END, 45, NULL},
        {LDS_JSON_END, 45, NULL},
    };
    static const char text[] = " {\"a b\" : [1, \"\\u00e9\\n\"], \"\":true,\"n\":null}\n";
    lds_json json;
    lds_json_init(&json, at_page_end(text, sizeof text - 1), sizeof text - 1, NULL);
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_int_equal(lds_json_next(&json), expected[i].token);
        assert_int_equal(json.token_offset, expected[i].offset);
        if (!expected[i].text)
            continue;
        assert_int_equal(json.nbytes, strlen(expected[i].text));
        assert_memory_equal(json.text, expected[i].text, json.nbytes);
    }
}

static void strings_are_unescaped_where_they_stand(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t nbytes;
        const char *value;
        size_t value_nbytes;
    } cases[] = {
        {T("\"\""), T("")},
        {T("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), T("\"\\/\b\f\n\r\t")},
        {T("\"\\u0000\""), T("\0")},
        {T("\"a\\u0000b\""), T("a\0b")},
        {T("\"\\u007f\\u0080\\u07ff\\u0800\""), T("\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80")},
        {T("\"\\ud7ff\\ue000\\uffff\""), T("\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF")},
        {T("\"\\ud800\\udc00\\udbff\\udfff\""), T("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF")},
        {T("\"\\ud834\\uDD1E\xF0\x9D\x84\x9E\""), T("\xF0\x9D\x84\x9E\xF0\x9D\x84\x9E")},
        {T("\"eight by\\tand then more than eight\""), T("eight by\tand then more than eight")},
        {T("\"\xC3\xA9 plain bytes after it \\n\xC3\xA9\""), T("\xC3\xA9 plain bytes after it \n\xC3\xA9")},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        lds_json json;
        lds_json_init(&json, at_page_end(cases[i].text, cases[i].nbytes), cases[i].nbytes, NULL);
        assert_int_equal(lds_json_next(&json), LDS_JSON_STRING);
        assert_int_equal(json.nbytes, cases[i].value_nbytes);
        assert_memory_equal(json.text, cases[i].value, json.nbytes + 1); /* with its NUL */
        assert_int_equal(lds_json_next(&json), LDS_JSON_END);
    }
}

/* Every byte at every place of a word that is looked at eight bytes at a time. */
static void every_byte_of_a_word_is_looked_at(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        for (size_t at = 1; at <= 17; at++) {
            char text[24] = "\"0123456789abcdefgh\"";
            text[at] = (char)byte;
            lds_error err = LDS_ERROR_INIT;
            bool fine = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
            lds_json_token token = read_all(text, 20, &err);
            /* what follows a backslash here is an escape only where it is 'b' or 'f' */
            if (byte == '\\' && (text[at + 1] == 'b' || text[at + 1] == 'f'))
                fine = true;
            assert_int_equal(token, fine ? LDS_JSON_END : LDS_JSON_ERROR);
            if (!fine)
                assert_int_equal(err.offset, byte == '"' || byte == '\\' ? at + 1 : at);
        }
    }
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[2 * LDS_JSON_MAX_DEPTH + 2];
    memset(text, '[', LDS_JSON_MAX_DEPTH + 1);
    memset(text + LDS_JSON_MAX_DEPTH, ']', LDS_JSON_MAX_DEPTH);
    assert_int_equal(read_all(text, sizeof text - 2, NULL), LDS_JSON_END);
    lds_error err = LDS_ERROR_INIT;
    memset(text, '[', sizeof text);
    assert_int_equal(read_all(text, sizeof text, &err), LDS_JSON_ERROR);
    assert_string_equal(err.message, "expected at most 256 levels of nesting, found '[' (at byte 256)");
}

/* Objects and arrays in turn, so that closing one has to remember what is around it. */
static void nesting_is_remembered(void **state)
{
    (void)state;
    enum { N = LDS_JSON_MAX_DEPTH / 2 };
    char text[N * 7 + 2], *p = text;
    for (int i = 0; i < N; i++)
        p += sprintf(p, "[{\"\":");
    *p++ = '0';
    for (int i = 0; i < N; i++)
        p += sprintf(p, "}]");
    size_t nbytes = (size_t)(p - text);
    assert_int_equal(read_all(text, nbytes, NULL), LDS_JSON_END);
    for (size_t i = nbytes - (size_t)2 * N; i < nbytes; i++) {
        lds_error err = LDS_ERROR_INIT;
        char right = text[i];
        text[i] = right == ']' ? '}' : ']';
        assert_int_equal(read_all(text, nbytes, &err), LDS_JSON_ERROR);
        assert_int_equal(err.offset, i);
        text[i] = right;
    }
}

static void values_are_skipped(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":{\"b\":[1,[2],{}]},\"c\":[],\"d\":1,\"e\":\"}\",\"f\":[}";
    lds_error err = LDS_ERROR_INIT;
    lds_json json;
    lds_json_init(&json, at_page_end(text, sizeof text - 1), sizeof text - 1, &err);
    assert_int_equal(lds_json_next(&json), LDS_JSON_OBJECT);
    for (const char *key = "acde"; *key; key++) {
        assert_int_equal(lds_json_next(&json), LDS_JSON_KEY);
        assert_int_equal(json.text[0], *key);
        /* from the key, or from its value's first token */
        assert_true(lds_json_skip(&json, *key == 'c' ? LDS_JSON_KEY : lds_json_next(&json)));
        assert_int_equal(json.depth, 1);
    }
    assert_int_equal(lds_json_next(&json), LDS_JSON_KEY);
    assert_false(lds_json_skip(&json, LDS_JSON_KEY));
    assert_string_equal(err.message, "expected a value, found '}' (at byte 48)");
}

static void errors_name_the_byte_of_the_file(void **state)
{
    (void)state;
    lds_error err = LDS_ERROR_INIT;
    lds_json json;
    lds_json_init(&json, at_page_end(T("[\"abc")), 5, &err);
    json.base_offset = 8;
    assert_int_equal(lds_json_next(&json), LDS_JSON_ARRAY);
    assert_int_equal(lds_json_next(&json), LDS_JSON_ERROR);
    assert_string_equal(err.message,
                        "expected '\"' to close the string that begins at byte 9, found the end of the text "
                        "(at byte 13)");
    assert_int_equal(err.offset, 13);
}

static void tokens_have_names(void **state)
{
    (void)state;
    for (lds_json_token token = LDS_JSON_ERROR; token <= LDS_JSON_NULL; token++)
        assert_non_null(lds_json_describe(token));
    assert_string_equal(lds_json_describe(LDS_JSON_OBJECT), "an object");
}

/* ---- numbers ---- */

static lds_json number_of(const char *text)
{
    lds_json json;
    size_t nbytes = strlen(text);
    lds_json_init(&json, at_page_end(text, nbytes), nbytes, NULL);
    assert_int_equal(lds_json_next(&json), LDS_JSON_NUMBER);
    return json;
}

static void integers_are_taken_if_they_fit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_u64, is_i64;
        uint64_t u;
        int64_t i;
    } cases[] = {
        {"0", true, true, 0, 0},
        {"-0", false, true, 0, 0},
        {"7", true, true, 7, 7},
        {"-7", false, true, 0, -7},
        {"9223372036854775807", true, true, INT64_MAX, INT64_MAX},
        {"9223372036854775808", true, false, (uint64_t)INT64_MAX + 1, 0},
        {"-9223372036854775808", false, true, 0, INT64_MIN},
        {"-9223372036854775809", false, false, 0, 0},
        {"18446744073709551615", true, false, UINT64_MAX, 0},
        {"18446744073709551616", false, false, 0, 0},
        {"99999999999999999999", false, false, 0, 0},
        {"100000000000000000000", false, false, 0, 0},
        {"1.0", false, false, 0, 0},
        {"1e2", false, false, 0, 0},
        {"0E0", false, false, 0, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        lds_json json = number_of(cases[i].text);
        uint64_t u = 0;
        int64_t s = 0;
        assert_int_equal(lds_json_u64(&json, &u), cases[i].is_u64);
        assert_int_equal(lds_json_i64(&json, &s), cases[i].is_i64);
        assert_true(!cases[i].is_u64 || u == cases[i].u);
        assert_true(!cases[i].is_i64 || s == cases[i].i);
    }
}

static void check_doubles(void)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"0", 0.0},
        {"1.5", 1.5},
        {"-1.5e3", -1500.0},
        {"0.1", 0.1},
        {"1e-05", 1e-05},
        {"123456789.123456789", 123456789.123456789},
        {"9007199254740993", 9007199254740992.0},
        {"9007199254740993.0000000000000000000000001", 9007199254740994.0},
        {"5e-324", 5e-324},
        {"2e-324", 0.0},
        {"1e-400", 0.0},
        {"1e-99999999999999999999", 0.0},
        {"0e99999999999999999999", 0.0},
        {"0.000000000000000000000000000001E30", 1.0},
        {"1.7976931348623157e308", 1.7976931348623157e308},
        {"17976931348623157e292", 1.7976931348623157e308},
        {"2.2250738585072011e-308", 2.2250738585072011e-308},
    };
    double v;
    for (size_t i = 0; i < COUNT(cases); i++) {
        lds_json json = number_of(cases[i].text);
        assert_true(lds_json_double(&json, &v));
        assert_true(v == cases[i].value);
    }
    lds_json json = number_of("-0.0");
    assert_true(lds_json_double(&json, &v) && v == 0 && signbit(v));
    json = number_of("1e309");
    assert_false(lds_json_double(&json, &v));
    json = number_of("-1e99999999999999999999");
    assert_false(lds_json_double(&json, &v));
}

/* What Python's json writes beyond the grammar, where that is asked for. */
static void nonfinite_numbers_are_taken_if_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t nbytes;
        uint64_t error_offset; /* where they are allowed, or LDS_NO_OFFSET */
        double value;          /* of the number in the array */
    } cases[] = {
        {T("[NaN]"), LDS_NO_OFFSET, (double)NAN},
        {T("[Infinity]"), LDS_NO_OFFSET, (double)INFINITY},
        {T("[-Infinity]"), LDS_NO_OFFSET, -(double)INFINITY},
        {T("[-NaN]"), 2, 0},
        {T("[nan]"), 1, 0},
        {T("[Nan]"), 3, 0},
        {T("[NaN"), 4, 0},
        {T("[Inf]"), 1, 0},
        {T("[Infinity1]"), 9, 0},
        {T("[+Infinity]"), 1, 0},
        {T("[- Infinity]"), 2, 0},
        {T("[-"), 2, 0},
        {T("[-Infinit"), 9, 0},
        {T("{NaN:1}"), 1, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(read_all(cases[i].text, cases[i].nbytes, NULL), LDS_JSON_ERROR);
        lds_error err = LDS_ERROR_INIT;
        lds_json json;
        lds_json_token token;
        double v = 0;
        uint64_t u;
        int64_t s;
        lds_json_init(&json, at_page_end(cases[i].text, cases[i].nbytes), cases[i].nbytes, &err);
        json.allows_nonfinite = true;
        while ((token = lds_json_next(&json)) > LDS_JSON_END)
            if (token == LDS_JSON_NUMBER && cases[i].error_offset == LDS_NO_OFFSET) {
                assert_true(lds_json_double(&json, &v));
                assert_false(lds_json_u64(&json, &u) || lds_json_i64(&json, &s));
            }
        assert_int_equal(token == LDS_JSON_ERROR, cases[i].error_offset != LDS_NO_OFFSET);
        assert_int_equal(err.offset, cases[i].error_offset);
        assert_true(isnan(cases[i].value) ? isnan(v) : v == cases[i].value);
    }
}

static void doubles_are_the_nearest(void **state)
{
    (void)state;
    check_doubles();
}

/* Where the decimal point is a comma. */
static void doubles_do_not_depend_on_the_locale(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "fr_FR"};
    size_t i = 0;
    while (i < COUNT(names) && !setlocale(LC_ALL, names[i]))
        i++;
    if (i == COUNT(names))
        skip();
    check_doubles();
    setlocale(LC_ALL, "C");
}

/* Halfway between two doubles, and off it by a digit that stands far behind: rounding has to look at it. */
static void doubles_of_many_digits_are_the_nearest(void **state)
{
    (void)state;
    enum { N = 3000 };
    static char text[N + 2];
    static const char half[] = "9007199254740993.";
    double v;
    memset(text, '0', N);
    memcpy(text, half, sizeof half - 1);
    lds_json json = number_of(text);
    assert_true(lds_json_double(&json, &v) && v == 9007199254740992.0);
    text[N - 1] = '1';
    json = number_of(text);
    assert_true(lds_json_double(&json, &v) && v == 9007199254740994.0);
    /* as an integer of that many digits, brought down by its exponent */
    memset(text, '0', N);
    memcpy(text, half, sizeof half - 2);
    memcpy(text + N - 7, "1e-2978", 7);
    json = number_of(text);
    assert_true(lds_json_double(&json, &v) && v == 9007199254740994.0);
}

static void strings_are_escaped(void **state)
{
    (void)state;
    static const char text[] =
        "a\"b\\c\n\x7F\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82\xFF\xE2\x82x\xC0\x80\xED\xA0\x80\xF0\x9F";
    static const char expected[] =
        "\"a\\\"b\\\\c\\u000a\x7F\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82\\ufffd\\ufffd\\ufffdx\\ufffd\\ufffd"
        "\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\"";
    char found[256];
    FILE *f = fmemopen(found, sizeof found, "w");
    assert_non_null(f);
    lds_json_put_string(f, text);
    assert_int_equal(fclose(f), 0);
    assert_string_equal(found, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_are_json_are_accepted),
        cmocka_unit_test(texts_that_are_not_are_refused_with_the_place),
        cmocka_unit_test(texts_that_are_cut_are_refused),
        cmocka_unit_test(tokens_come_in_order_with_their_text),
        cmocka_unit_test(strings_are_unescaped_where_they_stand),
        cmocka_unit_test(every_byte_of_a_word_is_looked_at),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(nesting_is_remembered),
        cmocka_unit_test(values_are_skipped),
        cmocka_unit_test(errors_name_the_byte_of_the_file),
        cmocka_unit_test(tokens_have_names),
        cmocka_unit_test(strings_are_escaped),
        cmocka_unit_test(integers_are_taken_if_they_fit),
        cmocka_unit_test(nonfinite_numbers_are_taken_if_asked_for),
        cmocka_unit_test(doubles_are_the_nearest),
        cmocka_unit_test(doubles_do_not_depend_on_the_locale),
        cmocka_unit_test(doubles_of_many_digits_are_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
