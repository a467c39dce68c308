/* Networks from any config: what is built is whole, what is not says why, and no size is believed blindly. */
#include "fuzz/fuzz.h"
#include "src/network/models/models.h"

static void check_network(const lds_network *net)
{
    size_t n = lds_network_n_params(net);
    FUZZ_CHECK(n > 0 && lds_network_architecture(net));
    for (size_t i = 0; i < n; i++) {
        const lds_param *param = lds_network_param(net, i);
        FUZZ_CHECK(lds_param_n_dims(param) > 0 && !lds_param_data(param));
        FUZZ_CHECK(lds_network_find(net, lds_param_name(param)) == param);
    }
}

void fuzz_one(uint8_t *data, size_t nbytes)
{
    lds_config_source source = {.path = "config.json", .text = (char *)data, .nbytes = nbytes};
    lds_dtype dtype = nbytes % 2 ? LDS_F16 : LDS_F64;
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    lds_status status = lds_network_from_source(&net, &source, dtype, &err);
    if (!status) {
        check_network(net);
        lds_network_free(net);
        return;
    }
    FUZZ_CHECK(!net && err.code == status);
    FUZZ_CHECK(status == LDS_ERR_MALFORMED || status == LDS_ERR_UNSUPPORTED ||
               status == LDS_ERR_ARCHITECTURE || (status == LDS_ERR_MEMORY && fuzz_allocation_failed()));
    FUZZ_CHECK(status == LDS_ERR_MEMORY || !strncmp(err.message, "config.json: ", 13));
    FUZZ_CHECK(err.offset <= nbytes || err.offset == LDS_NO_OFFSET);
}
