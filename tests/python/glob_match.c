/*
 * Whether names match globs, for comparison with Python's fnmatch. Standard input is globs and names in turn,
 * each ending in a NUL byte; standard output is a line for each pair, 0 or 1.
 */
#include <stdio.h>
#include <stdlib.h>

#include "loadstone.h"

int main(void)
{
    char *glob = NULL, *name = NULL;
    size_t glob_room = 0, name_room = 0;
    while (getdelim(&glob, &glob_room, 0, stdin) > 0 && getdelim(&name, &name_room, 0, stdin) > 0) {
        printf("%d\n", lds_glob_match(glob, name));
        fflush(stdout);
    }
    free(glob);
    free(name);
    return 0;
}
