/* How the library fills in the caller's lds_error. */
#ifndef LDS_BASE_ERROR_H
#define LDS_BASE_ERROR_H

#include "loadstone.h"

/* Return the status of a failed call to the caller. */
#define LDS_TRY(call)                    \
    do {                                 \
        lds_status try_status_ = (call); \
        if (try_status_)                 \
            return try_status_;          \
    } while (0)

#define LDS_PRINTF(string, first) __attribute__((format(printf, string, first)))

/* Fill *err, which may be NULL, and return status. The message is without file and tensor: see below. */
lds_status lds_fail(lds_error *err, lds_status status, const char *format, ...) LDS_PRINTF(3, 4);

/* Like lds_fail(), but " (at byte <offset>)" is appended and the offset kept. */
lds_status lds_fail_at(lds_error *err, lds_status status, uint64_t offset, const char *format, ...)
    LDS_PRINTF(4, 5);

/* Like lds_fail(), but ": <text of os_errno>" is appended and the number kept. */
lds_status lds_fail_errno(lds_error *err, lds_status status, int os_errno, const char *format, ...)
    LDS_PRINTF(4, 5);

/* LDS_ERR_MEMORY for nbytes that could not be had. */
lds_status lds_fail_memory(lds_error *err, uint64_t nbytes);

/* LDS_ERR_CANCELLED: a progress callback has asked for it. */
lds_status lds_fail_cancelled(lds_error *err);

/*
 * Put "<file>: <tensor>: " before the message of an error that has been filled; either may be NULL. Called
 * once, at the level that knows the names. Returns err->code, or status if err is NULL, so that it can end
 * a function: return lds_error_context(err, status, path, name).
 */
lds_status lds_error_context(lds_error *err, lds_status status, const char *file, const char *tensor);

/* Put into *err, which may be NULL, what another call filled *from with, its size aside. Returns status. */
lds_status lds_error_take(lds_error *err, lds_status status, const lds_error *from);

/* How many bytes of text to show in a message: what fits, to the end of a character. */
static inline int lds_text_shown(const char *text, size_t nbytes)
{
    size_t n = nbytes < 200 ? nbytes : 200;
    while (n && n < nbytes && (text[n] & 0xC0) == 0x80)
        n--;
    return (int)n;
}

/* Control characters, which a file's names may have, become '?'. */
void lds_keep_to_one_line(char *text);

#endif
