/*
 * Load a file and use a weight.
 *
 *     load_file FILE NAME
 *
 * Every float arrives as F32, whatever the file has: what was BF16 is converted while it is read, what was
 * F32 is mapped, not copied. The program then prints the mean and the largest magnitude of one weight.
 */
#include <stdio.h>

#include <loadstone.h>

static void print_summary(const lds_param *weight)
{
    const float *values = lds_param_data(weight);
    uint64_t n = lds_param_numel(weight);
    double sum = 0, largest = 0;
    for (uint64_t i = 0; i < n; i++) {
        double magnitude = values[i] < 0 ? -values[i] : values[i];
        largest = magnitude > largest ? magnitude : largest;
        sum += values[i];
    }
    printf("%s: %llu elements, mean %g, largest magnitude %g\n", lds_param_name(weight),
           (unsigned long long)n, n ? sum / (double)n : 0, largest);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s FILE NAME\n", argv[0]);
        return 2;
    }
    lds_error err = LDS_ERROR_INIT;
    lds_checkpoint *checkpoint = NULL;
    lds_network *network = NULL;

    int failed = lds_checkpoint_open(&checkpoint, argv[1], NULL, &err) ||
                 lds_network_from_checkpoint(&network, checkpoint, LDS_F32, &err) ||
                 lds_load(network, checkpoint, NULL, NULL, &err);
    lds_checkpoint_close(checkpoint); /* the weights stay */

    if (failed) {
        fprintf(stderr, "%s\n", err.message);
    } else {
        const lds_param *weight = lds_network_find(network, argv[2]);
        failed = !weight || lds_param_dtype(weight) != LDS_F32;
        if (failed)
            fprintf(stderr, "%s: no float weight is called %s\n", argv[1], argv[2]);
        else
            print_summary(weight);
    }
    lds_network_free(network);
    return failed ? 1 : 0;
}
