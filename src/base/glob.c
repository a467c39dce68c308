/*
 * Globs over names. Only the last star has ever to be tried again, so the time is at most the product of both
 * lengths.
 */
#include <string.h>

#include "loadstone.h"

/* The character at *p, which is moved past it. A byte that begins no UTF-8 sequence is a character itself. */
static uint32_t next_character(const char **text)
{
    const uint8_t *p = (const uint8_t *)*text;
    uint32_t n = *p < 0xC2 ? 1 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 1;
    uint32_t c = n == 1 ? *p : *p & (0xFFu >> (n + 1));
    for (uint32_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            *text += 1;
            return *p;
        }
        c = c << 6 | (p[i] & 0x3F);
    }
    *text += n;
    return c;
}

/* The ']' of the set that begins after the '[' before p, or NULL. One that comes first is in the set. */
static const char *set_end(const char *p)
{
    if (*p == '!')
        p++;
    return *p ? strchr(p + 1, ']') : NULL;
}

static bool is_in_set(const char *p, const char *end, uint32_t c)
{
    bool negated = *p == '!', found = false;
    for (p += negated; p < end;) {
        uint32_t low = next_character(&p), high = low;
        if (*p == '-' && p + 1 < end) {
            p++;
            high = next_character(&p);
        }
        found |= c >= low && c <= high;
    }
    return found != negated;
}

/* Whether one item of the glob, which is not '*', matches the character at *name. Both are moved on. */
static bool match_one(const char **glob, const char **name)
{
    uint32_t c = next_character(name);
    const char *end;
    if (**glob == '?') {
        ++*glob;
        return true;
    }
    if (**glob == '[' && (end = set_end(*glob + 1))) {
        bool found = is_in_set(*glob + 1, end, c);
        *glob = end + 1;
        return found;
    }
    return **glob && next_character(glob) == c;
}

bool lds_glob_match(const char *glob, const char *name)
{
    const char *star = NULL, *retry = NULL; /* what follows the last star, and the name where it was tried */
    while (*name) {
        if (*glob == '*') {
            star = ++glob;
            retry = name;
        } else if (!match_one(&glob, &name)) {
            if (!star)
                return false;
            next_character(&retry);
            glob = star;
            name = retry;
        }
    }
    while (*glob == '*')
        glob++;
    return !*glob;
}
