/* The index of shards over any bytes: what is accepted names only files below its own directory. */
#include "fuzz/fuzz.h"
#include "src/checkpoint/index.h"

static void check_shard(const char *shard)
{
    FUZZ_CHECK(*shard && *shard != '/' && !strstr(shard, "//") && shard[strlen(shard) - 1] != '/');
    FUZZ_CHECK(strcmp(shard, "..") && strncmp(shard, "../", 3) && !strstr(shard, "/../"));
    size_t n = strlen(shard);
    FUZZ_CHECK(n < 3 || strcmp(shard + n - 3, "/.."));
}

void fuzz_one(uint8_t *data, size_t nbytes)
{
    lds_error err = LDS_ERROR_INIT;
    lds_index index;
    lds_status status = lds_index_parse(&index, (char *)data, nbytes, "fuzz.json", &err);
    if (status) {
        FUZZ_CHECK(status == LDS_ERR_MALFORMED || (status == LDS_ERR_MEMORY && fuzz_allocation_failed()));
        FUZZ_CHECK(err.code == status && !strncmp(err.message, "fuzz.json: ", 11));
    } else {
        FUZZ_CHECK(index.names.n && index.n_shards && index.n_shards <= index.names.n);
        for (size_t i = 0; i < index.names.n; i++)
            FUZZ_CHECK(index.shard_of[i] < index.n_shards);
        for (size_t i = 0; i < index.n_shards; i++) {
            check_shard(index.shards[i]);
            FUZZ_CHECK(!i || strcmp(index.shards[i - 1], index.shards[i]) < 0);
        }
    }
    lds_index_destroy(&index);
}
