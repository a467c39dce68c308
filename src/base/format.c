/*
 * Formatting that does not follow the program's locale: reports and messages are compared, searched and parsed, and
 * Python and most programs with windows set a locale. A locale can be had for one thread, as long as it takes; the
 * program's own is left alone.
 */
#include "src/base/format.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

/* The thread's locale becomes *c; what it was before is returned. */
static locale_t begin(locale_t *c)
{
    *c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* a constant of the C library's: nothing is allocated */
    return uselocale(*c);
}

static void end(locale_t c, locale_t before)
{
    uselocale(before);
    if (c)
        freelocale(c);
}

int lds_vformat(char *text, size_t size, const char *format, va_list args)
{
    locale_t c, before = begin(&c);
    int n = vsnprintf(text, size, format, args);
    end(c, before);
    return n;
}

int lds_format(char *text, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = lds_vformat(text, size, format, args);
    va_end(args);
    return n;
}

const char *lds_strerror(int os_errno, char *text, size_t size)
{
    locale_t c, before = begin(&c);
    const char *found = strerror_r(os_errno, text, size);
    end(c, before);
    return found;
}
