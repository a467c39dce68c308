/*
 * A network from its config, loaded with progress and a report.
 *
 *     from_config DIR DTYPE
 *
 * DIR is a model directory: a config.json and weights beside it. The network is what the config describes, so
 * a weight that the files lack, or have in another shape, is found out and named in the report; here it is
 * then initialised and not an error. Interrupting the program (Ctrl-C) cancels the load.
 */
#include <signal.h>
#include <stdio.h>

#include <loadstone.h>

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static int show(void *ctx, const lds_progress *progress)
{
    (void)ctx;
    if (progress->total_nbytes)
        fprintf(stderr, "\r%5.1f %%  %.2f s",
                100.0 * (double)progress->done_nbytes / (double)progress->total_nbytes, progress->seconds);
    return interrupted;
}

static lds_status load(const char *dir, lds_dtype dtype, lds_network **network, lds_report **report,
                       lds_error *err)
{
    lds_checkpoint *checkpoint = NULL;
    lds_load_options options;
    lds_load_options_init(&options, sizeof options);
    options.strict = false;
    options.ignore_mismatched = true;
    options.seed = 42;
    options.progress = show;

    lds_status status = lds_network_from_config(network, dir, dtype, err);
    if (!status)
        status = lds_checkpoint_open(&checkpoint, dir, NULL, err);
    if (!status)
        status = lds_load(*network, checkpoint, &options, report, err);
    lds_checkpoint_close(checkpoint);
    return status;
}

int main(int argc, char **argv)
{
    lds_dtype dtype = argc == 3 ? lds_dtype_parse(argv[2]) : LDS_DTYPE_NONE;
    if (!dtype) {
        fprintf(stderr, "usage: %s DIR DTYPE\n", argv[0]);
        return 2;
    }
    signal(SIGINT, interrupt);

    lds_error err = LDS_ERROR_INIT;
    lds_network *network = NULL;
    lds_report *report = NULL;
    lds_status status = load(argv[1], dtype, &network, &report, &err);
    fprintf(stderr, "\n");
    if (status)
        fprintf(stderr, "%s: %s\n", lds_status_name(status), err.message);
    if (report)
        fputs(lds_report_text(report), stdout);
    if (!status)
        printf("%s: %zu parameters are ready\n", lds_network_architecture(network),
               lds_network_n_params(network));
    lds_report_free(report);
    lds_network_free(network);
    return status ? 1 : 0;
}
