/*
 * Error messages: composed once, in the caller's struct, without allocation, so that running out of memory
 * can be reported like everything else.
 */
#include "src/base/error.h"

#include <stdarg.h>
#include <string.h>

#include "src/base/format.h"

/* A path longer than this is shortened at its left, where it tells least. */
enum { MAX_PATH_SHOWN = 320, MAX_TENSOR_SHOWN = 256 };

const char *lds_version(void)
{
    return "0.1.0";
}

const char *lds_status_name(lds_status status)
{
    switch (status) {
    case LDS_OK: return "LDS_OK";
    case LDS_ERR_ARGUMENT: return "LDS_ERR_ARGUMENT";
    case LDS_ERR_NAME: return "LDS_ERR_NAME";
    case LDS_ERR_IO: return "LDS_ERR_IO";
    case LDS_ERR_NOT_FOUND: return "LDS_ERR_NOT_FOUND";
    case LDS_ERR_CHANGED: return "LDS_ERR_CHANGED";
    case LDS_ERR_MALFORMED: return "LDS_ERR_MALFORMED";
    case LDS_ERR_TRUNCATED: return "LDS_ERR_TRUNCATED";
    case LDS_ERR_NOT_WEIGHTS: return "LDS_ERR_NOT_WEIGHTS";
    case LDS_ERR_UNSUPPORTED: return "LDS_ERR_UNSUPPORTED";
    case LDS_ERR_ARCHITECTURE: return "LDS_ERR_ARCHITECTURE";
    case LDS_ERR_MISMATCH: return "LDS_ERR_MISMATCH";
    case LDS_ERR_MEMORY: return "LDS_ERR_MEMORY";
    case LDS_ERR_CANCELLED: return "LDS_ERR_CANCELLED";
    default: return "unknown status";
    }
}

/*
 * Names are cut to size, in messages and at the end of one, without a look at their characters: what is left of
 * one that was cut goes. Bytes that were never UTF-8, as a path may have them, stay.
 */
static void drop_cut_characters(char *text)
{
    char *out = text;
    for (const char *p = text; *p;) {
        uint8_t lead = (uint8_t)*p;
        size_t n = 1, whole = lead < 0xC2 || lead > 0xF4 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        while (n < whole && (p[n] & 0xC0) == 0x80)
            n++;
        if (n == whole) {
            memmove(out, p, n);
            out += n;
        }
        p += n;
    }
    *out = 0;
}

void lds_keep_to_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7F)
            *text = '?';
}

static void fill(lds_error *err, lds_status status, const char *format, va_list args)
{
    err->code = status;
    err->os_errno = 0;
    err->offset = LDS_NO_OFFSET;
    err->file_nbytes = 0;
    err->tensor_nbytes = 0;
    lds_vformat(err->message, sizeof err->message, format, args);
    drop_cut_characters(err->message);
    lds_keep_to_one_line(err->message);
}

static void append(lds_error *err, const char *format, ...) LDS_PRINTF(2, 3);
static void append(lds_error *err, const char *format, ...)
{
    size_t n = strlen(err->message);
    va_list args;
    va_start(args, format);
    lds_vformat(err->message + n, sizeof err->message - n, format, args);
    va_end(args);
    lds_keep_to_one_line(err->message + n);
}

/* The beginning of a function that fails: *err, which may be NULL, with its variable arguments as its message. */
#define FILL(err, status, format)         \
    do {                                  \
        if (!(err))                       \
            return status;                \
        va_list args_;                    \
        va_start(args_, format);          \
        fill(err, status, format, args_); \
        va_end(args_);                    \
    } while (0)

lds_status lds_fail(lds_error *err, lds_status status, const char *format, ...)
{
    FILL(err, status, format);
    return status;
}

lds_status lds_fail_at(lds_error *err, lds_status status, uint64_t offset, const char *format, ...)
{
    FILL(err, status, format);
    err->offset = offset;
    append(err, " (at byte %llu)", (unsigned long long)offset);
    return status;
}

lds_status lds_fail_errno(lds_error *err, lds_status status, int os_errno, const char *format, ...)
{
    FILL(err, status, format);
    err->os_errno = os_errno;
    char text[128];
    append(err, ": %s", lds_strerror(os_errno, text, sizeof text));
    return status;
}

lds_status lds_fail_memory(lds_error *err, uint64_t nbytes)
{
    return lds_fail(err, LDS_ERR_MEMORY, "out of memory: %llu bytes could not be had",
                    (unsigned long long)nbytes);
}

lds_status lds_fail_cancelled(lds_error *err)
{
    return lds_fail(err, LDS_ERR_CANCELLED, "cancelled by the progress callback");
}

/* The end of text that is at most max bytes long and begins at a character. */
static const char *tail(const char *text, size_t max)
{
    size_t n = strlen(text);
    if (n <= max)
        return text;
    text += n - max;
    while ((*text & 0xC0) == 0x80)
        text++;
    return text;
}

lds_status lds_error_context(lds_error *err, lds_status status, const char *file, const char *tensor)
{
    if (!err)
        return status;
    char message[sizeof err->message];
    memcpy(message, err->message, sizeof message);
    err->message[0] = 0;
    if (file) {
        const char *shown = tail(file, MAX_PATH_SHOWN);
        append(err, "%s%s", shown == file ? "" : "...", shown);
        err->file_nbytes = (uint32_t)strlen(err->message);
        append(err, ": ");
    }
    if (tensor) {
        const char *shown = tail(tensor, MAX_TENSOR_SHOWN);
        append(err, "%s%s", shown == tensor ? "" : "...", shown);
        err->tensor_nbytes = (uint32_t)strlen(err->message) - (file ? err->file_nbytes + 2 : 0);
        append(err, ": ");
    }
    size_t n = strlen(err->message);
    append(err, "%s", message);
    drop_cut_characters(err->message + n);
    return err->code;
}

lds_status lds_error_take(lds_error *err, lds_status status, const lds_error *from)
{
    if (err) {
        size_t struct_size = err->struct_size;
        *err = *from;
        err->struct_size = struct_size;
    }
    return status;
}
