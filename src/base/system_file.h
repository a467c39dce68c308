/* The small files in which the kernel says how things are, below a folder that tests put in the place of the root. */
#ifndef LDS_BASE_SYSTEM_FILE_H
#define LDS_BASE_SYSTEM_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* folder/name, for reading; NULL if it is not to be had. */
FILE *lds_system_file_open(const char *folder, const char *name);

/* The number that folder/name begins with. False if there is none, as where it says "max", or it is negative. */
bool lds_system_file_number(const char *folder, const char *name, uint64_t *value);

#endif
