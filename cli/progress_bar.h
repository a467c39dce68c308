/* What happens while a load runs: a bar on a terminal, and SIGINT stops it. */
#ifndef CLI_PROGRESS_BAR_H
#define CLI_PROGRESS_BAR_H

#include <stdbool.h>

#include "loadstone.h"

typedef struct progress_bar {
    const char *title;
    bool is_shown; /* on this terminal, at all */
    bool is_drawn; /* and is on the screen now */
} progress_bar;

/* From here on, SIGINT makes was_interrupted() true instead of ending the program; a second one ends it. */
void catch_interrupt(void);
bool was_interrupted(void);

/* For lds_load_options.progress; ctx is the progress_bar. */
int show_progress(void *ctx, const lds_progress *progress);

/* Take the bar off the screen. */
void clear_progress(progress_bar *bar);

#endif
