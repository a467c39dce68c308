/*
 * The JSON reader. A safetensors header can be tens of megabytes in which a name of fifty bytes and four
 * short numbers come again and again, so what has to be quick is: finding the end of a string (eight bytes at
 * a time), and getting from one token to the next (a switch over few states; no calls through pointers).
 * Everything else, escapes and errors, is kept out of that way.
 *
 * The buffer may end at an unreadable page. So each byte is compared with the end before it is read, and
 * nothing is ever written past the closing quote of a string.
 */
#include "src/base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"

/* What may come next. */
enum {
    VALUE,         /* a value */
    FIRST_ELEMENT, /* a value or ']' */
    FIRST_KEY,     /* a key or '}' */
    AFTER_VALUE,   /* ',' or what closes the container, or the end */
    DONE,
    FAILED
};

#define ONES 0x0101010101010101u
#define UNLIKELY(condition) __builtin_expect(condition, 0)

void lds_json_init(lds_json *json, char *text, size_t nbytes, lds_error *err)
{
    *json = (lds_json){.at = text, .end = text + nbytes, .begin = text, .err = err, .state = VALUE};
}

/* Set the error: at the byte p, something else than what was expected stands. */
static __attribute__((cold, noinline)) void explain(lds_json *json, const char *p, const char *expected)
{
    char byte[16];
    const char *found = byte;
    if (p >= json->end)
        found = "the end of the text";
    else if (json->end - p >= 3 && !memcmp(p, "\xEF\xBB\xBF", 3))
        found = "a byte order mark";
    else if (*p > ' ' && *p < 0x7F)
        snprintf(byte, sizeof byte, "'%c'", *p);
    else
        snprintf(byte, sizeof byte, "byte 0x%02X", (uint8_t)*p);
    json->state = FAILED;
    json->status = lds_fail_at(json->err, LDS_ERR_MALFORMED, json->base_offset + (uint64_t)(p - json->begin),
                               "expected %s, found %s", expected, found);
}

static inline lds_json_token fail(lds_json *json, const char *p, const char *expected)
{
    explain(json, p, expected);
    return LDS_JSON_ERROR;
}

/* Like fail(), for what is only part of a token. */
static inline bool refuse(lds_json *json, const char *p, const char *expected)
{
    explain(json, p, expected);
    return false;
}

static inline char *skip_space(char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* The end of a value, whose last byte is before p. */
static inline lds_json_token end_value(lds_json *json, char *p, lds_json_token token)
{
    json->at = p;
    json->state = AFTER_VALUE;
    return token;
}

/* ---- strings ---- */

/* The first byte of p..end that does not stand for itself in a string, or end. */
static inline char *plain_end(char *p, char *end)
{
    while (end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        /* The lowest bit 7 set is exact in each of these; borrows only spoil bytes above it. */
        uint64_t quote = (word ^ (ONES * '"')) - ONES;
        uint64_t backslash = (word ^ (ONES * '\\')) - ONES;
        uint64_t control = word - ONES * 0x20;
        uint64_t special = (quote | backslash | control | word) & (ONES * 0x80);
        if (special)
            return p + __builtin_ctzll(special) / 8;
        p += 8;
    }
    while (p < end && *p != '"' && *p != '\\' && (uint8_t)*p >= 0x20 && (uint8_t)*p < 0x80)
        p++;
    return p;
}

/* The length of the UTF-8 sequence of two to four bytes at p, 0 if it is none (RFC 3629, section 4). */
static size_t utf8_nbytes(const char *text, const char *end)
{
    const uint8_t *p = (const uint8_t *)text;
    ptrdiff_t left = end - text;
    uint8_t lead = p[0], low = 0x80, high = 0xBF;
    size_t nbytes = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (!nbytes || left < (ptrdiff_t)nbytes)
        return 0;
    if (lead == 0xE0)
        low = 0xA0; /* less would be overlong */
    else if (lead == 0xED)
        high = 0x9F; /* more would be a surrogate */
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F; /* more would be beyond U+10FFFF */
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < nbytes; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return nbytes;
}

static char *put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xC0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *out++ = (char)(0xE0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3F));
        *out++ = (char)(0x80 | (c & 0x3F));
    } else {
        *out++ = (char)(0xF0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3F));
        *out++ = (char)(0x80 | (c >> 6 & 0x3F));
        *out++ = (char)(0x80 | (c & 0x3F));
    }
    return out;
}

/* The four digits after "\u"; p is the first of them. False once an error is set. */
static bool read_hex4(lds_json *json, const char *p, uint32_t *value)
{
    uint32_t v = 0;
    for (const char *last = p + 4; p < last; p++) {
        if (p >= json->end)
            return refuse(json, p, "four hexadecimal digits after \\u");
        char c = *p, lower = c | 0x20;
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            v = v << 4 | (uint32_t)(lower - 'a' + 10);
        else
            return refuse(json, p, "four hexadecimal digits after \\u");
    }
    *value = v;
    return true;
}

/* The escape at *at, which is after "\u", to *out; both are moved on. False once an error is set. */
static bool read_unicode_escape(lds_json *json, char **at, char **out)
{
    char *p = *at;
    uint32_t c, low;
    if (!read_hex4(json, p, &c))
        return false;
    if (c >= 0xDC00 && c < 0xE000)
        return refuse(json, p - 2, "a high surrogate before a low one");
    p += 4;
    if (c >= 0xD800 && c < 0xDC00) {
        if (json->end - p < 2 || p[0] != '\\' || p[1] != 'u')
            return refuse(json, p, "a low surrogate (\\uDC00 to \\uDFFF) after a high one");
        if (!read_hex4(json, p + 2, &low))
            return false;
        if (low < 0xDC00 || low >= 0xE000)
            return refuse(json, p, "a low surrogate (\\uDC00 to \\uDFFF) after a high one");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        p += 6;
    }
    *at = p;
    *out = put_utf8(*out, c); /* never longer than the escape */
    return true;
}

/* The escape at *at, which is after the backslash, to *out; both are moved on. False once an error is set. */
static bool read_escape(lds_json *json, char **at, char **out)
{
    static const char expected[] = "one of \"\\/bfnrtu after a backslash";
    char *p = *at, c;
    if (p == json->end)
        return refuse(json, p, expected);
    switch (*p) {
    case '"':
    case '\\':
    case '/': c = *p; break;
    case 'b': c = '\b'; break;
    case 'f': c = '\f'; break;
    case 'n': c = '\n'; break;
    case 'r': c = '\r'; break;
    case 't': c = '\t'; break;
    case 'u': *at = p + 1; return read_unicode_escape(json, at, out);
    default: return refuse(json, p, expected);
    }
    *(*out)++ = c;
    *at = p + 1;
    return true;
}

/* The rest of a string from p on, where something stands that does not stand for itself. */
static bool read_string_slowly(lds_json *json, char *p)
{
    char *out = p, *const end = json->end;
    while (p < end && *p != '"') {
        char *run = p;
        if (*p == '\\') {
            p++;
            if (!read_escape(json, &p, &out))
                return false;
            continue;
        }
        if ((uint8_t)*p < 0x20)
            return refuse(json, p, "control characters in a string to be escaped");
        if ((uint8_t)*p < 0x80) {
            p = plain_end(p + 1, end);
        } else {
            size_t nbytes = utf8_nbytes(p, end);
            if (!nbytes)
                return refuse(json, p, "text in UTF-8");
            p += nbytes;
        }
        memmove(out, run, (size_t)(p - run));
        out += p - run;
    }
    if (p == end) {
        char expected[96];
        snprintf(expected, sizeof expected, "'\"' to close the string that begins at byte %llu",
                 (unsigned long long)(json->base_offset + (uint64_t)(json->text - 1 - json->begin)));
        return refuse(json, p, expected);
    }
    *out = 0;
    json->nbytes = (size_t)(out - json->text);
    json->at = p + 1;
    return true;
}

/* The string whose opening quote is at p. False once an error is set. */
static inline bool read_string(lds_json *json, char *p)
{
    json->text = ++p;
    char *q = plain_end(p, json->end);
    if (UNLIKELY(q == json->end || *q != '"'))
        return read_string_slowly(json, q);
    *q = 0;
    json->nbytes = (size_t)(q - p);
    json->at = q + 1;
    return true;
}

/* ---- numbers ---- */

static inline bool is_digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

static inline char *skip_digits(char *p, const char *end)
{
    while (is_digit(p, end))
        p++;
    return p;
}

/*
 * The word of a literal at *at, which is moved past it. False once an error is set: that the word was meant is
 * clear if no more than its end is wrong, or the text ends in it; else any text may begin with its letters.
 */
static bool read_word(lds_json *json, char **at, const char *word)
{
    char *p = *at;
    for (const char *w = word; *w; w++, p++) {
        if (p < json->end && *p == *w)
            continue;
        bool is_meant = p == json->end || !w[1];
        return refuse(json, is_meant ? p : *at, is_meant ? word : "a value");
    }
    *at = p;
    return true;
}

/* NaN, Infinity or -Infinity; p is the letter that it begins with, which json->text may precede by a minus. */
static lds_json_token read_nonfinite(lds_json *json, char *p)
{
    if (!read_word(json, &p, *p == 'N' ? "NaN" : "Infinity"))
        return LDS_JSON_ERROR;
    json->nbytes = (size_t)(p - json->text);
    return end_value(json, p, LDS_JSON_NUMBER);
}

static inline lds_json_token read_number(lds_json *json, char *p)
{
    char *const end = json->end;
    json->text = p;
    if (*p == '-')
        p++;
    if (UNLIKELY(json->allows_nonfinite) && p < end && (*p == 'I' || (*p == 'N' && p == json->text)))
        return read_nonfinite(json, p);
    if (!is_digit(p, end))
        return fail(json, p, "a digit");
    if (*p == '0' && is_digit(p + 1, end))
        return fail(json, p + 1, "no digit after a leading zero");
    p = skip_digits(p, end);
    if (p < end && *p == '.') {
        if (!is_digit(++p, end))
            return fail(json, p, "a digit after the decimal point");
        p = skip_digits(p, end);
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        if (!is_digit(p, end))
            return fail(json, p, "a digit in the exponent");
        p = skip_digits(p, end);
    }
    json->nbytes = (size_t)(p - json->text);
    return end_value(json, p, LDS_JSON_NUMBER);
}

bool lds_json_u64(const lds_json *json, uint64_t *value)
{
    uint64_t v = 0;
    for (size_t i = 0; i < json->nbytes; i++) {
        uint8_t digit = (uint8_t)(json->text[i] - '0');
        if (digit > 9)
            return false;
        /* Nineteen digits always fit. */
        if (i < 19)
            v = v * 10 + digit;
        else if (!lds_mul(v, 10, &v) || !lds_add(v, digit, &v))
            return false;
    }
    *value = v;
    return true;
}

bool lds_json_i64(const lds_json *json, int64_t *value)
{
    bool negative = json->text[0] == '-';
    lds_json digits = {.text = json->text + negative, .nbytes = json->nbytes - negative};
    uint64_t v;
    if (!lds_json_u64(&digits, &v) || v > (uint64_t)INT64_MAX + negative)
        return false;
    *value = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/*
 * The number is written anew for strtod, as digits and an exponent: without a decimal point there is nothing
 * in it that depends on the locale. No double needs more than 767 significant digits to be told from its
 * neighbours' midpoints, so of what follows only matters whether it is zero.
 */
bool lds_json_double(const lds_json *json, double *value)
{
    enum { MAX_DIGITS = 770, MAX_EXPONENT = 1 << 30 };
    char text[MAX_DIGITS + 32];
    const char *p = json->text, *const end = p + json->nbytes;
    size_t n = 0;
    int64_t exponent = 0, written = 0;
    bool fraction = false, rest = false, negative = *p == '-';
    p += negative;
    if (*p == 'N' || *p == 'I') {
        *value = *p == 'N' ? (double)NAN : negative ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    for (; p < end && (*p | 0x20) != 'e'; p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        bool kept = n < MAX_DIGITS;
        if (kept && (n || *p != '0'))
            text[n++] = *p;
        rest |= !kept && *p != '0';
        exponent += !kept - fraction;
    }
    if (rest) {
        text[n++] = '1';
        exponent--;
    }
    if (p < end) {
        bool minus = *++p == '-';
        p += minus || *p == '+';
        for (; p < end && written < MAX_EXPONENT; p++)
            written = written * 10 + (*p - '0');
        exponent += minus ? -written : written;
    }
    snprintf(text + n, sizeof text - n, "%se%lld", n ? "" : "0", (long long)exponent);
    double v = strtod(text, NULL);
    *value = negative ? -v : v;
    return isfinite(v);
}

/* ---- tokens ---- */

static inline bool is_in_object(const lds_json *json)
{
    uint32_t level = json->depth - 1;
    return json->in_object[level / 64] >> level % 64 & 1;
}

static lds_json_token open_container(lds_json *json, char *p, bool object)
{
    uint32_t level = json->depth;
    if (level == LDS_JSON_MAX_DEPTH) {
        char expected[64];
        snprintf(expected, sizeof expected, "at most %d levels of nesting", LDS_JSON_MAX_DEPTH);
        return fail(json, p, expected);
    }
    uint64_t bit = (uint64_t)1 << level % 64, *bits = &json->in_object[level / 64];
    *bits = object ? *bits | bit : *bits & ~bit;
    json->depth++;
    json->at = p + 1;
    json->state = object ? FIRST_KEY : FIRST_ELEMENT;
    return object ? LDS_JSON_OBJECT : LDS_JSON_ARRAY;
}

static inline lds_json_token close_container(lds_json *json, char *p, lds_json_token token)
{
    json->depth--;
    return end_value(json, p + 1, token);
}

static lds_json_token read_literal(lds_json *json, char *p, const char *word, lds_json_token token)
{
    return read_word(json, &p, word) ? end_value(json, p, token) : LDS_JSON_ERROR;
}

static inline lds_json_token read_value(lds_json *json, char *p)
{
    if (p == json->end)
        return fail(json, p, "a value");
    switch (*p) {
    case '"': return read_string(json, p) ? end_value(json, json->at, LDS_JSON_STRING) : LDS_JSON_ERROR;
    case '{': return open_container(json, p, true);
    case '[': return open_container(json, p, false);
    case 't': return read_literal(json, p, "true", LDS_JSON_TRUE);
    case 'f': return read_literal(json, p, "false", LDS_JSON_FALSE);
    case 'n': return read_literal(json, p, "null", LDS_JSON_NULL);
    default:
        if (*p == '-' || is_digit(p, json->end) || (json->allows_nonfinite && (*p == 'N' || *p == 'I')))
            return read_number(json, p);
        return fail(json, p, "a value");
    }
}

/* A key and the colon after it. */
static inline lds_json_token read_key(lds_json *json, char *p, const char *expected)
{
    if (p == json->end || *p != '"')
        return fail(json, p, expected);
    if (!read_string(json, p))
        return LDS_JSON_ERROR;
    p = skip_space(json->at, json->end);
    if (p == json->end || *p != ':')
        return fail(json, p, "':' after a field's name");
    json->at = p + 1;
    json->state = VALUE;
    return LDS_JSON_KEY;
}

static inline lds_json_token read_after_value(lds_json *json, char *p)
{
    if (!json->depth) {
        if (p < json->end)
            return fail(json, p, "nothing after the value");
        json->at = p;
        json->state = DONE;
        return LDS_JSON_END;
    }
    bool object = is_in_object(json);
    if (p == json->end)
        return fail(json, p, object ? "',' or '}'" : "',' or ']'");
    if (*p == ',') {
        p = skip_space(p + 1, json->end);
        json->token_offset = (size_t)(p - json->begin);
        return object ? read_key(json, p, "a field's name in double quotes") : read_value(json, p);
    }
    if (*p != (object ? '}' : ']'))
        return fail(json, p, object ? "',' or '}'" : "',' or ']'");
    return close_container(json, p, object ? LDS_JSON_OBJECT_END : LDS_JSON_ARRAY_END);
}

lds_json_token lds_json_next(lds_json *json)
{
    char *p = skip_space(json->at, json->end);
    json->token_offset = (size_t)(p - json->begin);
    switch (json->state) {
    case AFTER_VALUE: return read_after_value(json, p);
    case VALUE: return read_value(json, p);
    case FIRST_KEY:
        if (p < json->end && *p == '}')
            return close_container(json, p, LDS_JSON_OBJECT_END);
        return read_key(json, p, "a field's name in double quotes or '}'");
    case FIRST_ELEMENT:
        if (p < json->end && *p == ']')
            return close_container(json, p, LDS_JSON_ARRAY_END);
        return read_value(json, p);
    case DONE: return LDS_JSON_END;
    default: return LDS_JSON_ERROR;
    }
}

const char *lds_json_describe(lds_json_token token)
{
    switch (token) {
    case LDS_JSON_END: return "the end of the text";
    case LDS_JSON_OBJECT: return "an object";
    case LDS_JSON_OBJECT_END: return "the end of an object";
    case LDS_JSON_ARRAY: return "an array";
    case LDS_JSON_ARRAY_END: return "the end of an array";
    case LDS_JSON_KEY: return "a field";
    case LDS_JSON_STRING: return "a string";
    case LDS_JSON_NUMBER: return "a number";
    case LDS_JSON_TRUE: return "true";
    case LDS_JSON_FALSE: return "false";
    case LDS_JSON_NULL: return "null";
    default: return "a syntax error";
    }
}

lds_status lds_json_refuse(lds_json *json, lds_status status, lds_json_token token, const char *expected)
{
    if (token == LDS_JSON_ERROR)
        return json->status;
    bool has_text = token == LDS_JSON_KEY || token == LDS_JSON_STRING || token == LDS_JSON_NUMBER;
    const char *quote = has_text && token != LDS_JSON_NUMBER ? "\"" : "";
    const char *found = has_text ? json->text : lds_json_describe(token);
    return lds_fail_at(json->err, status, json->base_offset + json->token_offset,
                       "expected %s, found %s%.*s%s", expected, quote,
                       lds_text_shown(found, has_text ? json->nbytes : strlen(found)), found, quote);
}

lds_status lds_json_finish(lds_json *json)
{
    return lds_json_next(json) == LDS_JSON_ERROR ? json->status : LDS_OK;
}

bool lds_json_skip(lds_json *json, lds_json_token token)
{
    if (token == LDS_JSON_KEY)
        token = lds_json_next(json);
    if (token == LDS_JSON_OBJECT || token == LDS_JSON_ARRAY) {
        uint32_t outside = json->depth - 1;
        do {
            token = lds_json_next(json);
        } while (token != LDS_JSON_ERROR && json->depth > outside);
    }
    return token != LDS_JSON_ERROR;
}

/* The next character of text, which is moved past it. */
static void put_character(FILE *f, const char **text)
{
    uint8_t c = (uint8_t) * *text;
    size_t nbytes = c < 0x80 ? 1 : utf8_nbytes(*text, *text + strnlen(*text, 4));
    if (c < 0x20)
        fprintf(f, "\\u%04x", c);
    else if (c == '"' || c == '\\')
        fprintf(f, "\\%c", c);
    else if (nbytes)
        fwrite(*text, 1, nbytes, f);
    else
        fputs("\\ufffd", f);
    *text += nbytes ? nbytes : 1;
}

void lds_json_put_string(FILE *f, const char *text)
{
    fputc('"', f);
    while (*text)
        put_character(f, &text);
    fputc('"', f);
}
