/* Options of a command: a table that both parses them and prints the help. */
#ifndef CLI_COMMAND_LINE_H
#define CLI_COMMAND_LINE_H

#include "output.h"

typedef enum option_kind {
    OPTION_FLAG,    /* bool: becomes true */
    OPTION_TEXT,    /* const char *: the value */
    OPTION_MAYBE,   /* const char *: the value behind an equals sign, "" without one */
    OPTION_LIST,    /* text_list: the values of all uses */
    OPTION_DTYPE,   /* lds_dtype: a float dtype */
    OPTION_NUMBER,  /* uint64_t */
    OPTION_THREADS, /* uint64_t: 1 to 1024 */
    OPTION_SIZE,    /* uint64_t: bytes, with an optional unit */
    OPTION_SOME,    /* the same, but not 0, which the library takes for its default */
    OPTION_CHOICE   /* int: index among the words of value_name, which | separates */
} option_kind;

typedef struct option {
    const char *name; /* without the two dashes */
    char letter;      /* of the short form, or 0 */
    option_kind kind;
    size_t offset;          /* of the field in command_line */
    const char *value_name; /* for the help; NULL for flags */
    const char *help;
} option;

typedef struct text_list {
    const char **items;
    size_t n;
} text_list;

/* The options of all commands; each command's table says which it has beside the common ones. */
typedef struct command_line {
    const char *path;
    const char *variant, *revision;
    const char *map, *network, *cache, *trace;
    text_list keep_f32, names;
    uint64_t seed, threads, window, cache_size;
    int dtype; /* lds_dtype */
    int io;    /* lds_io */
    bool json, tree, quiet, verbose, help;
    bool dry_run, digest, lazy, keep_cache, prefetch, hugetlb, overcommit, no_strict, ignore_mismatched,
        no_init;
} command_line;

struct command;

/* Parse argv[0..argc), which begins after the command's name. CLI_DONE or, after saying why, CLI_USAGE. */
int parse_options(command_line *line, const struct command *command, int argc, char **argv);

void command_line_free(command_line *line);

void text_list_add(text_list *list, const char *text);

/* One line for each option. */
void put_options_help(output *out, const struct command *command);

#endif
