/* The one place that knows how options structs of different versions meet. */
#include "src/base/options.h"

#include <string.h>

void lds_options_export(void *options, size_t size, const void *defaults, size_t known_size)
{
    memset(options, 0, size);
    memcpy(options, defaults, size < known_size ? size : known_size);
    memcpy(options, &size, sizeof size);
}

lds_status lds_options_import(void *taken, size_t known_size, const char *what, const void *options,
                              lds_error *err)
{
    if (!options)
        return LDS_OK;
    size_t size;
    memcpy(&size, options, sizeof size);
    if (size < sizeof size)
        return lds_fail(err, LDS_ERR_ARGUMENT, "%s: struct_size is %zu: initialise the struct first", what,
                        size);
    for (size_t i = known_size; i < size; i++)
        if (((const unsigned char *)options)[i])
            return lds_fail(err, LDS_ERR_UNSUPPORTED,
                            "%s: this version of the library is too old for what is set", what);
    memcpy(taken, options, size < known_size ? size : known_size);
    return LDS_OK;
}
