/* Manifests of any bytes: refused with a reason, or a network that keeps its promises. */
#include "fuzz/fuzz.h"
#include "loadstone.h"

/* Small ones only: a manifest may well ask for more memory than there is. */
enum { MAX_INIT_NBYTES = 1 << 20 };

static void check_param(const lds_network *net, lds_param *param, size_t i)
{
    const char *name = lds_param_name(param);
    uint64_t numel = 1;
    for (uint32_t d = 0; d < lds_param_n_dims(param); d++)
        numel *= lds_param_shape(param)[d];
    FUZZ_CHECK(lds_network_find(net, name) == param);
    FUZZ_CHECK(lds_param_numel(param) == numel && lds_param_n_dims(param) <= 64);
    FUZZ_CHECK(lds_dtype_name(lds_param_dtype(param)) && lds_init_kind_name(lds_param_init(param).kind));
    FUZZ_CHECK(!lds_param_data(param));
    lds_param *root = lds_param_tied_to(param);
    FUZZ_CHECK(!root || (!lds_param_tied_to(root) && root < lds_network_param(net, i)));
    FUZZ_CHECK(!root || lds_param_nbytes(root) == lds_param_nbytes(param));
}

/* Every rule that was accepted can be carried out. */
static void check_init(lds_network *net)
{
    uint64_t nbytes = 0;
    bool is_small = true;
    for (size_t i = 0; i < lds_network_n_params(net); i++) {
        uint64_t own = lds_param_nbytes(lds_network_param(net, i));
        is_small = is_small && own <= MAX_INIT_NBYTES && (nbytes += own) <= MAX_INIT_NBYTES;
    }
    if (!is_small)
        return;
    lds_status status = lds_network_init(net, 1, NULL, NULL);
    FUZZ_CHECK(!status || status == LDS_ERR_MISMATCH ||
               (status == LDS_ERR_MEMORY && fuzz_allocation_failed()));
    for (size_t i = 0; i < lds_network_n_params(net) && status != LDS_ERR_MEMORY; i++) {
        lds_param *param = lds_network_param(net, i);
        FUZZ_CHECK((lds_param_init(param).kind != LDS_INIT_NONE) == (lds_param_data(param) != NULL));
    }
}

void fuzz_one(uint8_t *data, size_t nbytes)
{
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    lds_status status = lds_network_from_manifest(&net, (const char *)data, nbytes, "m.json", &err);
    if (status) {
        FUZZ_CHECK(!net && err.code == status && !strncmp(err.message, "m.json: ", 8));
        FUZZ_CHECK(status == LDS_ERR_MEMORY ? fuzz_allocation_failed()
                                            : status == LDS_ERR_MALFORMED && err.offset <= nbytes);
        return;
    }
    FUZZ_CHECK(net);
    for (size_t i = 0; i < lds_network_n_params(net); i++)
        check_param(net, lds_network_param(net, i), i);
    check_init(net);
    lds_network_free(net);
}
