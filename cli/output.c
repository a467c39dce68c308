/*
 * Output is composed in memory: what is printed is then whole or not there at all, a table knows its widths,
 * and 200,000 lines cost a few writes. The number formats are written out here because printf is too slow for
 * that many, and because they must not depend on the locale.
 */
#include "output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

void *allocate(void *data, size_t n, size_t element_nbytes)
{
    size_t nbytes = 0;
    void *p = __builtin_mul_overflow(n, element_nbytes, &nbytes) ? NULL : realloc(data, nbytes ? nbytes : 1);
    if (!p) {
        static const char message[] = "loadstone: out of memory\n";
        ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
        (void)ignored;
        exit(CLI_MEMORY);
    }
    return p;
}

static char *reserve(output *out, size_t n)
{
    if (n > out->capacity - out->n) {
        size_t room = out->capacity ? out->capacity * 2 : 4096;
        while (room - out->n < n)
            room *= 2;
        out->data = allocate(out->data, room, 1);
        out->capacity = room;
    }
    return out->data + out->n;
}

void put(output *out, const char *text, size_t n)
{
    if (n)
        memcpy(reserve(out, n), text, n);
    out->n += n;
}

void put_text(output *out, const char *text)
{
    put(out, text, strlen(text));
}

void put_repeat(output *out, char c, size_t n)
{
    memset(reserve(out, n + 1), c, n);
    out->n += n;
}

void put_format(output *out, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n > 0) {
        vsnprintf(reserve(out, (size_t)n + 1), (size_t)n + 1, format, again);
        out->n += (size_t)n;
    }
    va_end(again);
}

enum { MAX_DIGITS = 20 };

/* The decimal digits of value at the end of a buffer; returns where they begin. */
static const char *digits_of(char digits[static MAX_DIGITS], uint64_t value)
{
    char *p = digits + MAX_DIGITS;
    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return p;
}

void put_u64(output *out, uint64_t value)
{
    char digits[MAX_DIGITS];
    const char *p = digits_of(digits, value);
    put(out, p, (size_t)(digits + MAX_DIGITS - p));
}

void put_count(output *out, uint64_t value)
{
    char digits[MAX_DIGITS];
    const char *p = digits_of(digits, value), *end = digits + MAX_DIGITS;
    size_t n = (size_t)(end - p - 1) % 3 + 1;
    put(out, p, n);
    for (p += n; p < end; p += 3) {
        put(out, ",", 1);
        put(out, p, 3);
    }
}

void put_size(output *out, uint64_t nbytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    if (nbytes < 1000) {
        put_u64(out, nbytes);
        put_text(out, " B");
        return;
    }
    size_t unit = 0;
    uint64_t tenth = 100, tenths = 0; /* of the unit, rounded: 999.95 of one unit is 1.0 of the next */
    for (;; unit++, tenth *= 1000) {
        tenths = nbytes / tenth + (nbytes % tenth >= tenth / 2);
        if (tenths < 10000 || unit == 5)
            break;
    }
    put_u64(out, tenths / 10);
    char rest[] = {'.', (char)('0' + tenths % 10), ' '};
    put(out, rest, sizeof rest);
    put_text(out, units[unit]);
}

void put_dtype(output *out, lds_dtype dtype)
{
    const char *name = lds_dtype_name(dtype);
    for (const char *p = name ? name : "-"; *p; p++) {
        char c = *p >= 'A' && *p <= 'Z' ? (char)(*p + 'a' - 'A') : *p;
        put(out, &c, 1);
    }
}

void put_shape(output *out, uint32_t n_dims, const uint64_t *shape)
{
    put(out, "[", 1);
    for (uint32_t i = 0; i < n_dims; i++) {
        if (i)
            put(out, ", ", 2);
        put_u64(out, shape[i]);
    }
    put(out, "]", 1);
}

size_t utf8_length(const char *text)
{
    const uint8_t *s = (const uint8_t *)text;
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies beyond U+10FFFF. */
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] >= 0xA0) || (s[0] == 0xF0 && s[1] < 0x90) ||
        (s[0] == 0xF4 && s[1] >= 0x90))
        return 0;
    return n;
}

void put_escaped(output *out, const char *text, size_t n)
{
    for (const char *end = text + n; text < end;) {
        const char *begin = text;
        while (text < end && (uint8_t)*text >= 0x20 && (uint8_t)*text < 0x7F)
            text++;
        put(out, begin, (size_t)(text - begin));
        if (text == end)
            return;
        size_t length = utf8_length(text);
        bool is_c1 = length == 2 && (uint8_t)text[0] == 0xC2 && (uint8_t)text[1] < 0xA0;
        if (length > 1 && !is_c1) {
            put(out, text, length);
            text += length;
            continue;
        }
        for (length = length ? length : 1; length; length--)
            put_format(out, "\\x%02x", (uint8_t)*text++);
    }
}

void put_name(output *out, const char *name)
{
    put_escaped(out, name, strlen(name));
}

int output_write(output *out, int fd)
{
    const char *p = out->data;
    size_t left = out->n;
    out->n = 0;
    while (left) {
        ssize_t n = write(fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        p += n;
        left -= (size_t)n;
    }
    return 0;
}

void output_free(output *out)
{
    free(out->data);
    *out = (output){0};
}
