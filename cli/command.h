/* What every command of the command line has, and how all of them end. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "command_line.h"
#include "output.h"
#include "loadstone.h"

/* Exit codes; they are documented and do not change. */
enum {
    CLI_DONE = 0,
    CLI_MISMATCH = 1, /* checkpoint and network do not fit */
    CLI_USAGE = 2,    /* the command line is wrong */
    CLI_FORMAT = 3,   /* a file is malformed, truncated, not weights, or not supported */
    CLI_IO = 4,       /* the operating system refused, or there is no such thing */
    CLI_MEMORY = 5,
    CLI_CANCELLED = 130 /* by SIGINT, as a shell would say it */
};

typedef struct command {
    const char *name;
    const char *operand; /* what the one operand is, for the usage line; words that | separates, or a name */
    bool opens_checkpoint; /* has the options that say which */
    const char *summary;
    const option *options;
    size_t n_options;
    /* Puts its output there, whole or not at all; says on stderr what went wrong; returns the exit code. */
    int (*run)(const command_line *line, output *out);
} command;

extern const command cache_command;
extern const command inspect_command;
extern const command load_command;
extern const command manifest_command;

/* Print "loadstone: <message>" on stderr, in one line. */
void complain(const char *format, ...) CLI_PRINTF(1, 2);

/* Print the error and return the exit code for it. */
int fail(lds_status status, const lds_error *err);

/* Print a complaint about the command line, with the place where help is, and return CLI_USAGE. */
int fail_usage(const char *command_name, const char *format, ...) CLI_PRINTF(2, 3);

/* Write the output to stdout and empty it; CLI_DONE, or CLI_IO after saying why not. */
int print_output(output *out);

/* A whole file that was named on the command line, NUL-terminated, for free(). CLI_DONE, or an exit code. */
int read_file(char **text, size_t *nbytes, const char *path);

#endif
