/* The bar is one line on stderr, drawn over itself. A load that takes no time never shows one. */
#include "progress_bar.h"

#include <signal.h>
#include <unistd.h>

#include "output.h"

enum { BAR_WIDTH = 30 };
static const double first_shown_seconds = 0.2;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

void catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool was_interrupted(void)
{
    return interrupted;
}

static void draw(const progress_bar *bar, const lds_progress *progress)
{
    double share =
        progress->total_nbytes ? (double)progress->done_nbytes / (double)progress->total_nbytes : 1;
    size_t filled = (size_t)(share * BAR_WIDTH);
    output line = {0};
    put_text(&line,
             "\r\033[?7l"); /* what a narrow terminal has no room for is cut, not put on a line of its own */
    put_name(&line, bar->title);
    put_text(&line, " [");
    put_repeat(&line, '#', filled);
    put_repeat(&line, ' ', BAR_WIDTH - filled);
    put_text(&line, "] ");
    put_size(&line, progress->done_nbytes);
    put_text(&line, " of ");
    put_size(&line, progress->total_nbytes);
    put_text(&line, ", ");
    double rate = (double)progress->done_nbytes / progress->seconds;
    put_size(&line, (uint64_t)rate);
    put_text(&line, "/s");
    if (rate > 0)
        put_format(&line, ", %.0f s left", (double)(progress->total_nbytes - progress->done_nbytes) / rate);
    put_text(&line, "\033[K\033[?7h");
    output_write(&line, STDERR_FILENO);
    output_free(&line);
}

int show_progress(void *ctx, const lds_progress *progress)
{
    progress_bar *bar = ctx;
    if (bar->is_shown && progress->seconds > first_shown_seconds) {
        bar->is_drawn = true;
        draw(bar, progress);
    }
    return interrupted;
}

void clear_progress(progress_bar *bar)
{
    if (bar->is_drawn)
        output_write(&(output){.data = (char[]){"\r\033[K"}, .n = 4}, STDERR_FILENO);
    bar->is_drawn = false;
}
