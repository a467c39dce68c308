/* How a command says that something went wrong: one line on stderr, and an exit code. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

enum { MAX_LINE = 4096 };

/* One write, so that lines of several processes do not mix; nothing can be done if it fails. */
static void print_line(const char *text)
{
    output line = {0};
    put_text(&line, "loadstone: ");
    put_name(&line, text);
    put(&line, "\n", 1);
    output_write(&line, STDERR_FILENO);
    output_free(&line);
}

void complain(const char *format, ...)
{
    char text[MAX_LINE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_line(text);
}

int fail_usage(const char *command_name, const char *format, ...)
{
    char text[MAX_LINE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (command_name)
        complain("%s: %s (see 'loadstone help %s')", command_name, text, command_name);
    else
        complain("%s (see 'loadstone help')", text);
    return CLI_USAGE;
}

static int exit_code_of(lds_status status)
{
    switch (status) {
    case LDS_OK: return CLI_DONE;
    case LDS_ERR_ARGUMENT: return CLI_USAGE;
    case LDS_ERR_NAME:
    case LDS_ERR_MISMATCH: return CLI_MISMATCH;
    case LDS_ERR_IO:
    case LDS_ERR_NOT_FOUND:
    case LDS_ERR_CHANGED: return CLI_IO;
    case LDS_ERR_MEMORY: return CLI_MEMORY;
    case LDS_ERR_CANCELLED: return CLI_CANCELLED;
    default: return CLI_FORMAT;
    }
}

int fail(lds_status status, const lds_error *err)
{
    if (status == LDS_ERR_CANCELLED) /* by our own progress callback, which stops for a signal alone */
        print_line("interrupted");
    else
        print_line(err->message[0] ? err->message : lds_status_name(status));
    return exit_code_of(status);
}

int print_output(output *out)
{
    int os_errno = output_write(out, STDOUT_FILENO);
    if (!os_errno)
        return CLI_DONE;
    /* Whoever closed the pipe has seen enough, and does not need to be told. */
    if (os_errno != EPIPE)
        complain("standard output: %s", strerror(os_errno));
    return CLI_IO;
}
