/*
 * Parsing by table. getopt_long would not do: it prints its own messages, accepts any unique abbreviation (which
 * a new option then breaks), and its table is not the help.
 */
#include "command_line.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "table.h"

#define FIELD(name) offsetof(command_line, name)

enum { MAX_THREADS = 1024 }; /* as lds_load_options has it */

/* Every command has these; the first are for those that open a checkpoint. */
enum { N_CHECKPOINT_OPTIONS = 2 };

static const option common_options[] = {
    {"variant", 0, OPTION_TEXT, FIELD(variant), "NAME", "of the files: fp16 opens model.fp16.safetensors"},
    {"revision", 0, OPTION_TEXT, FIELD(revision), "REV", "of a hub model: branch, tag or commit (main)"},
    {"json", 0, OPTION_FLAG, FIELD(json), NULL, "print JSON, for machines"},
    {"help", 'h', OPTION_FLAG, FIELD(help), NULL, "show these options"},
};

/* Option i of a command, its own before the common ones; NULL behind the last. */
static const option *option_at(const command *c, size_t i)
{
    if (i < c->n_options)
        return &c->options[i];
    i -= c->n_options;
    i += c->opens_checkpoint ? 0 : N_CHECKPOINT_OPTIONS;
    return i < sizeof common_options / sizeof common_options[0] ? &common_options[i] : NULL;
}

static const option *find_long(const command *c, const char *name, size_t n)
{
    const option *o;
    for (size_t i = 0; (o = option_at(c, i)); i++)
        if (strlen(o->name) == n && !memcmp(o->name, name, n))
            return o;
    return NULL;
}

static const option *find_letter(const command *c, char letter)
{
    const option *o;
    for (size_t i = 0; (o = option_at(c, i)); i++)
        if (o->letter == letter)
            return o;
    return NULL;
}

/* Decimal digits and nothing else, up to where *end then points. */
static bool parse_number(uint64_t *value, const char *text, const char **end)
{
    *value = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(*value, 10, value) || __builtin_add_overflow(*value, *p - '0', value))
            return false;
    *end = p;
    return p > text;
}

static bool parse_threads(uint64_t *n, const char *text)
{
    const char *end;
    return parse_number(n, text, &end) && !*end && *n >= 1 && *n <= MAX_THREADS;
}

/* "65536", "64K", "64KiB" (powers of 1024), "64kB" (powers of 1000). */
static bool parse_size(uint64_t *nbytes, const char *text)
{
    const char *unit;
    if (!parse_number(nbytes, text, &unit))
        return false;
    if (!*unit || !strcmp(unit, "B"))
        return true;
    static const char prefixes[] = "kmgt";
    const char *prefix = strchr(prefixes, *unit | 0x20);
    if (!prefix)
        return false;
    bool is_decimal = !strcmp(unit + 1, "B");
    if (!is_decimal && unit[1] && strcmp(unit + 1, "iB") != 0)
        return false;
    for (ptrdiff_t i = 0; i <= prefix - prefixes; i++)
        if (__builtin_mul_overflow(*nbytes, is_decimal ? 1000 : 1024, nbytes))
            return false;
    return true;
}

static bool parse_choice(int *choice, const char *words, const char *text)
{
    size_t n = strlen(text);
    for (int i = 0;; i++) {
        size_t word_nbytes = strcspn(words, "|");
        if (n == word_nbytes && !memcmp(words, text, n)) {
            *choice = i;
            return true;
        }
        if (!words[word_nbytes])
            return false;
        words += word_nbytes + 1;
    }
}

void text_list_add(text_list *list, const char *text)
{
    list->items = allocate(list->items, list->n + 1, sizeof *list->items);
    list->items[list->n++] = text;
}

/* Put a value where the option's table says. NULL, or what was expected instead. */
static const char *store(command_line *line, const option *o, const char *text)
{
    void *field = (char *)line + o->offset;
    const char *end;
    switch (o->kind) {
    case OPTION_FLAG: *(bool *)field = true; return NULL;
    case OPTION_TEXT: *(const char **)field = text; return *text ? NULL : o->value_name;
    case OPTION_MAYBE: *(const char **)field = text; return NULL;
    case OPTION_LIST: text_list_add(field, text); return NULL;
    case OPTION_DTYPE: {
        lds_dtype dtype = lds_dtype_parse(text);
        *(int *)field = dtype;
        return lds_dtype_is_float(dtype) ? NULL : "a float dtype, as bf16, f16, f32, f64 or f8_e4m3";
    }
    case OPTION_NUMBER: return parse_number(field, text, &end) && !*end ? NULL : "a number";
    case OPTION_THREADS: return parse_threads(field, text) ? NULL : "1 to 1024";
    case OPTION_SIZE: return parse_size(field, text) ? NULL : "a size, as 67108864, 64MiB or 64MB";
    case OPTION_SOME:
        return parse_size(field, text) && *(uint64_t *)field ? NULL
                                                             : "a size, as 67108864, 64MiB or 64MB, not 0";
    case OPTION_CHOICE: return parse_choice(field, o->value_name, text) ? NULL : o->value_name;
    }
    return NULL;
}

static int store_or_fail(command_line *line, const command *c, const option *o, const char *text)
{
    const char *expected = store(line, o, text);
    if (expected)
        return fail_usage(c->name, "--%s: expected %s, found '%s'", o->name, expected, text);
    return CLI_DONE;
}

/* argv[*i] is "--name" or "--name=value". */
static int parse_long(command_line *line, const command *c, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const option *o = find_long(c, name, n);
    if (!o)
        return fail_usage(c->name, "unknown option '--%.*s'", (int)n, name);
    if (o->kind == OPTION_FLAG && equals)
        return fail_usage(c->name, "--%s takes no value", o->name);
    if (o->kind == OPTION_FLAG || o->kind == OPTION_MAYBE || equals)
        return store_or_fail(line, c, o, equals ? equals + 1 : "");
    if (++*i == argc)
        return fail_usage(c->name, "--%s: expected %s after it", o->name, o->value_name);
    return store_or_fail(line, c, o, argv[*i]);
}

/* argv[*i] is "-v", or "-vd bf16" or "-vdbf16": a value is what follows its letter, or the next argument. */
static int parse_letters(command_line *line, const command *c, int argc, char **argv, int *i)
{
    for (const char *letters = argv[*i] + 1; *letters; letters++) {
        const option *o = find_letter(c, *letters);
        if (!o)
            return fail_usage(c->name, "unknown option '-%c'", *letters);
        if (o->kind == OPTION_FLAG) {
            store(line, o, "");
            continue;
        }
        if (letters[1])
            return store_or_fail(line, c, o, letters + 1);
        if (++*i == argc)
            return fail_usage(c->name, "-%c: expected %s after it", *letters, o->value_name);
        return store_or_fail(line, c, o, argv[*i]);
    }
    return CLI_DONE;
}

/* An option whose value has to follow an equals sign, if an operand too many may have been meant as that. */
static const option *find_meant(const command_line *line, const command *c)
{
    const option *o;
    for (size_t i = 0; (o = option_at(c, i)); i++) {
        if (o->kind != OPTION_MAYBE)
            continue;
        const char *value = *(const char *const *)((const char *)line + o->offset);
        if (value ? !*value : strchr(c->operand, '|') != NULL)
            return o;
    }
    return NULL;
}

static int fail_operand(const command_line *line, const command *c, const char *arg)
{
    const option *meant = find_meant(line, c);
    if (!meant)
        return fail_usage(c->name, "expected one %s, found '%s' as well", c->operand, arg);
    return fail_usage(c->name, "expected one %s, found '%s' as well: %s is given as --%s=%s", c->operand, arg,
                      meant->value_name, meant->name, meant->value_name);
}

int parse_options(command_line *line, const command *c, int argc, char **argv)
{
    *line = (command_line){0};
    bool only_operands = false;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        int exit_code = CLI_DONE;
        if (!only_operands && !strcmp(arg, "--"))
            only_operands = true;
        else if (!only_operands && !strncmp(arg, "--", 2))
            exit_code = parse_long(line, c, argc, argv, &i);
        else if (!only_operands && arg[0] == '-' && arg[1])
            exit_code = parse_letters(line, c, argc, argv, &i);
        else if (line->path)
            exit_code = fail_operand(line, c, arg);
        else
            line->path = arg;
        if (exit_code)
            return exit_code;
    }
    if (!line->path && !line->help)
        return fail_usage(c->name, "expected %s%s", strchr(c->operand, '|') ? "" : "a ", c->operand);
    return CLI_DONE;
}

void command_line_free(command_line *line)
{
    free(line->keep_f32.items);
    free(line->names.items);
}

void put_options_help(output *out, const command *c)
{
    table t;
    table_init(&t, "ll");
    const option *o;
    for (size_t i = 0; (o = option_at(c, i)); i++) {
        if (o->letter)
            put_format(&t.text, "-%c, ", o->letter);
        put_format(&t.text, "--%s", o->name);
        if (o->value_name)
            put_format(&t.text, o->kind == OPTION_MAYBE ? "[=%s]" : " %s", o->value_name);
        table_end_cell(&t);
        table_cell(&t, o->help);
    }
    table_put(out, &t, 2);
}
