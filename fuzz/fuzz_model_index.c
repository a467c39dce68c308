/* The list of a pipeline's components over any bytes: what is accepted names folders beside it, each once. */
#include "fuzz/fuzz.h"
#include "src/checkpoint/model_index.h"

static bool is_beside(const char *name)
{
    return *name && *name != '_' && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

void fuzz_one(uint8_t *data, size_t nbytes)
{
    lds_error err = LDS_ERROR_INIT;
    lds_model_index index;
    lds_status status = lds_model_index_parse(&index, (char *)data, nbytes, "fuzz.json", &err);
    if (status) {
        FUZZ_CHECK(status == LDS_ERR_MALFORMED || (status == LDS_ERR_MEMORY && fuzz_allocation_failed()));
        FUZZ_CHECK(err.code == status && !strncmp(err.message, "fuzz.json: ", 11));
    } else {
        FUZZ_CHECK(index.names.n == index.n);
        for (uint32_t i = 0; i < index.n; i++) {
            const char *name = index.components[i].name;
            FUZZ_CHECK(is_beside(name) && index.components[i].class_name);
            FUZZ_CHECK(lds_names_find(&index.names, lds_name_of(name, strlen(name))) == i);
        }
    }
    lds_model_index_destroy(&index);
}
