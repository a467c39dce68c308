/*
 * A network of one's own, loaded into memory of one's own.
 *
 *     own_network FILE
 *
 * FILE has the weights of a small perceptron: hidden takes 4 features to 8, output takes 8 to 2. The program
 * describes it with a builder, binds one of its parameters to an array of its own, and has the others placed
 * by an allocator of its own: the way in for pinned, shared or device-visible memory. Then it runs it once.
 */
#include <stdio.h>
#include <stdlib.h>

#include <loadstone.h>

enum { FEATURES = 4, HIDDEN = 8, CLASSES = 2 };

static void linear(lds_builder *b, const char *name, uint64_t in, uint64_t out)
{
    const lds_init weight = {.kind = LDS_INIT_KAIMING_UNIFORM};
    const lds_init bias = {.kind = LDS_INIT_ZEROS};

    lds_scope scope = lds_builder_enter(b, "%s", name);
    lds_builder_add(b, "weight", LDS_DTYPE_NONE, 2, (uint64_t[]){out, in}, &weight);
    lds_builder_add(b, "bias", LDS_DTYPE_NONE, 1, (uint64_t[]){out}, &bias);
    lds_builder_leave(b, scope);
}

static lds_status describe(lds_network **network, lds_error *err)
{
    lds_builder *b;
    lds_status status = lds_builder_new(&b, LDS_F32, err);
    if (status)
        return status;
    linear(b, "hidden", FEATURES, HIDDEN);
    linear(b, "output", HIDDEN, CLASSES);
    return lds_builder_finish(network, b, err);
}

/* An allocator that counts what it has given out. */
static void *pool_alloc(void *ctx, size_t nbytes, size_t alignment)
{
    size_t *in_use = ctx;
    void *data = NULL;
    if (posix_memalign(&data, alignment < sizeof(void *) ? sizeof(void *) : alignment, nbytes))
        return NULL;
    *in_use += nbytes;
    return data;
}

static void pool_free(void *ctx, void *data, size_t nbytes)
{
    size_t *in_use = ctx;
    *in_use -= nbytes;
    free(data);
}

/* y = max(0, W x + b), or without the max for the last layer. */
static void run(const lds_network *network, const char *weight_name, const char *bias_name, const float *x,
                float *y, int is_last)
{
    const lds_param *weight = lds_network_find(network, weight_name);
    const float *w = lds_param_data(weight);
    const float *b = lds_param_data(lds_network_find(network, bias_name));
    uint64_t n_out = lds_param_shape(weight)[0], n_in = lds_param_shape(weight)[1];
    for (uint64_t i = 0; i < n_out; i++) {
        float sum = b[i];
        for (uint64_t j = 0; j < n_in; j++)
            sum += w[i * n_in + j] * x[j];
        y[i] = sum > 0 || is_last ? sum : 0;
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    static float bias[CLASSES];
    size_t in_use = 0;
    lds_allocator pool = {.ctx = &in_use, .alloc = pool_alloc, .free = pool_free};
    lds_load_options options;
    lds_load_options_init(&options, sizeof options);
    options.allocator = &pool;
    options.io = LDS_IO_READ; /* what is mapped would not come from the allocator */

    lds_error err = LDS_ERROR_INIT;
    lds_network *network = NULL;
    lds_checkpoint *checkpoint = NULL;
    int failed =
        describe(&network, &err) ||
        lds_param_bind(lds_network_find(network, "output.bias"), bias, sizeof bias, NULL, NULL, &err) ||
        lds_checkpoint_open(&checkpoint, argv[1], NULL, &err) ||
        lds_load(network, checkpoint, &options, NULL, &err);
    lds_checkpoint_close(checkpoint);
    if (failed) {
        fprintf(stderr, "%s\n", err.message);
    } else {
        float x[FEATURES] = {1, 2, 3, 4}, h[HIDDEN] = {0}, y[CLASSES] = {0};
        run(network, "hidden.weight", "hidden.bias", x, h, 0);
        run(network, "output.weight", "output.bias", h, y, 1);
        size_t needed = sizeof(float) * (HIDDEN * FEATURES + HIDDEN + CLASSES * HIDDEN);
        printf("the pool holds the weights: %s\n", in_use >= needed ? "yes" : "no");
        printf("output.bias is in our array: %g %g\n", (double)bias[0], (double)bias[1]);
        printf("output: %g %g\n", (double)y[0], (double)y[1]);
    }
    lds_network_free(network);
    return failed || in_use ? 1 : 0;
}
