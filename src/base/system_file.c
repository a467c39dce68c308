/* Opening and reading the kernel's small files. What cannot be read is not known, which is no error. */
#include "src/base/system_file.h"

FILE *lds_system_file_open(const char *folder, const char *name)
{
    char path[4096 + 64];
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path ? fopen(path, "re") : NULL;
}

bool lds_system_file_number(const char *folder, const char *name, uint64_t *value)
{
    FILE *f = lds_system_file_open(folder, name);
    long long number;
    bool found = f && fscanf(f, "%lld", &number) == 1 && number >= 0;
    if (f)
        fclose(f);
    if (found)
        *value = (uint64_t)number;
    return found;
}
