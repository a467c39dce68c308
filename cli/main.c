/*
 * loadstone: the command line over the library. It uses the public header alone, so that whatever can be done
 * here can be done by any program.
 */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "command.h"
#include "table.h"

static const command *const commands[] = {&inspect_command, &load_command, &manifest_command, &cache_command};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

static void put_help(output *out)
{
    put_text(out, "Usage: loadstone COMMAND [options] PATH\n"
                  "\n"
                  "Loads the weights of a checkpoint into a network, each in the network's own dtype.\n"
                  "PATH is a .safetensors file, an index, a model directory, a pipeline directory\n"
                  "(model_index.json), or org/name in the local hub cache.\n"
                  "\n"
                  "Commands:\n");
    table t;
    table_init(&t, "ll");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        table_cell(&t, commands[i]->name);
        table_cell(&t, commands[i]->summary);
    }
    table_cell(&t, "help [COMMAND]");
    table_cell(&t, "show this, or a command's options");
    table_put(out, &t, 2);
    put_text(out,
             "\n"
             "Exit codes: 0 done, 1 checkpoint and network do not fit, 2 usage, 3 malformed or unsupported\n"
             "file, 4 input/output, 5 out of memory, 130 interrupted.\n");
}

static void put_command_help(output *out, const command *c)
{
    put_format(out, "Usage: loadstone %s [options] %s\n\n%c%s.\n\nOptions:\n", c->name, c->operand,
               c->summary[0] & ~0x20, c->summary + 1);
    put_options_help(out, c);
}

static int run_help(int argc, char **argv, output *out)
{
    if (argc > 1)
        return fail_usage(NULL, "help: expected one command, found '%s' as well", argv[1]);
    if (argc == 0 || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h")) {
        put_help(out);
        return CLI_DONE;
    }
    const command *c = find_command(argv[0]);
    if (!c)
        return fail_usage(NULL, "'%s' is not a command", argv[0]);
    put_command_help(out, c);
    return CLI_DONE;
}

static int run_command(const command *c, int argc, char **argv, output *out)
{
    command_line line;
    int exit_code = parse_options(&line, c, argc, argv);
    if (!exit_code && line.help)
        put_command_help(out, c);
    else if (!exit_code)
        exit_code = c->run(&line, out);
    command_line_free(&line);
    return exit_code;
}

static int run(int argc, char **argv, output *out)
{
    if (argc < 2)
        return fail_usage(NULL, "expected a command");
    const char *name = argv[1];
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        put_format(out, "loadstone %s\n", lds_version());
        return CLI_DONE;
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))
        return run_help(argc - 2, argv + 2, out);
    const command *c = find_command(name);
    if (!c)
        return fail_usage(NULL, "'%s' is not a command", name);
    return run_command(c, argc - 2, argv + 2, out);
}

/* All the shards of a checkpoint are open at once, and the soft limit is often for programs that use select(). */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)!setrlimit(RLIMIT_NOFILE, &limit); /* what cannot be opened then is reported with its cause */
}

int main(int argc, char **argv)
{
    raise_file_limit();
    /* A closed pipe and the limit of file sizes (ulimit -f) are then failed writes like any other. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    output out = {0};
    int exit_code = run(argc, argv, &out);
    int print_code = print_output(&out);
    output_free(&out);
    return exit_code ? exit_code : print_code;
}
