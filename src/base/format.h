/* Formatting that does not follow the program's locale. */
#ifndef LDS_BASE_FORMAT_H
#define LDS_BASE_FORMAT_H

#include <stdarg.h>

#include "src/base/error.h"

/* As vsnprintf(3), in the "C" locale: with decimal points, whatever the program or this thread has set. */
int lds_vformat(char *text, size_t size, const char *format, va_list args) LDS_PRINTF(3, 0);
int lds_format(char *text, size_t size, const char *format, ...) LDS_PRINTF(3, 4);

/* The same of strerror_r(3): text, or a constant. */
const char *lds_strerror(int os_errno, char *text, size_t size);

#endif
