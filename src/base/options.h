/* Options structs that begin with their own size: callers may be older or newer than the library. */
#ifndef LDS_BASE_OPTIONS_H
#define LDS_BASE_OPTIONS_H

#include "src/base/error.h"

/* Set the first size bytes of a caller's options from the defaults, and its struct_size, the first field. */
void lds_options_export(void *options, size_t size, const void *defaults, size_t known_size);

/*
 * Copy a caller's options, if it gave any, over the defaults that are in *taken. LDS_ERR_UNSUPPORTED if the
 * caller's struct is longer than known_size and sets something there. what they are begins the message.
 */
lds_status lds_options_import(void *taken, size_t known_size, const char *what, const void *options,
                              lds_error *err);

#endif
