/*
 * Change a dtype in place.
 *
 *     set_dtype FILE NAME
 *
 * The weight is loaded as the file has it, made F32, and the whole network then F16. Who held the parameter
 * holds it still: its identity stays, its storage is another. A reference to the old storage keeps the old
 * values alive for as long as they are wanted.
 */
#include <stdio.h>

#include <loadstone.h>

static void show(const char *when, const lds_param *param)
{
    printf("%-12s %-4s %llu bytes\n", when, lds_dtype_name(lds_param_dtype(param)),
           (unsigned long long)lds_param_nbytes(param));
}

static lds_status change(lds_network *network, lds_param *param, lds_error *err)
{
    show("loaded", param);
    lds_storage *old = lds_param_storage(param);
    const unsigned char *old_bytes = lds_param_data(param);

    lds_status status = lds_param_set_dtype(param, LDS_F32, NULL, err);
    if (!status) {
        show("set_dtype", param);
        printf("%-12s first byte 0x%02x\n", "old values", old_bytes[0]);
    }
    lds_storage_release(old); /* from here on old_bytes points nowhere */

    if (!status)
        status = lds_network_to(network, LDS_F16, NULL, err);
    if (!status)
        show("network_to", param);
    return status;
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
                 lds_network_from_checkpoint(&network, checkpoint, LDS_DTYPE_NONE, &err) ||
                 lds_load(network, checkpoint, NULL, NULL, &err);
    if (!failed) {
        lds_param *param = lds_network_find(network, argv[2]);
        if (param && lds_param_numel(param))
            failed = change(network, param, &err);
        else
            failed =
                snprintf(err.message, sizeof err.message, "%s: no such weight, or an empty one", argv[2]);
    }
    if (failed)
        fprintf(stderr, "%s\n", err.message);
    lds_checkpoint_close(checkpoint);
    lds_network_free(network);
    return failed ? 1 : 0;
}
