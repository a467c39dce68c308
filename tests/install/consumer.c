/* A program outside of the tree, as C and as C++: the installed header, the installed library, nothing else. */
#include <loadstone.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", LDS_VERSION_MAJOR, LDS_VERSION_MINOR, LDS_VERSION_PATCH);
    if (strcmp(version, lds_version()) != 0) {
        printf("the header is of %s, the library of %s\n", version, lds_version());
        return 1;
    }

    lds_error err = LDS_ERROR_INIT;
    lds_checkpoint *checkpoint = NULL;
    lds_status status = lds_checkpoint_open(&checkpoint, "no/such/file.safetensors", NULL, &err);
    if (status != LDS_ERR_NOT_FOUND || checkpoint || err.code != status) {
        printf("expected LDS_ERR_NOT_FOUND, found %s: %s\n", lds_status_name(status), err.message);
        return 1;
    }

    lds_load_options options;
    lds_load_options_init(&options, sizeof options);
    if (options.struct_size != sizeof options || !options.strict) {
        printf("lds_load_options_init() does not set the defaults\n");
        return 1;
    }

    const float one = 1;
    unsigned char bf16[2];
    if (lds_convert(bf16, LDS_BF16, &one, LDS_F32, 1, &err) || bf16[0] != 0x80 || bf16[1] != 0x3F) {
        printf("1.0 is not 0x3F80 in BF16: %s\n", err.message);
        return 1;
    }
    return 0;
}
