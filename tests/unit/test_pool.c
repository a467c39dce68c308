/* Pools: pages come back, are used again whatever shape the next arena has, and outlive the handle. */
#include "tests/unit/support.h"

#include "src/network/pool.h"

enum { MIB = 1 << 20 };

static lds_pool *make_pool(uint64_t max_nbytes)
{
    lds_pool *pool;
    assert_int_equal(lds_pool_create(&pool, max_nbytes, NULL), LDS_OK);
    return pool;
}

/* An arena in which each page holds its number; returns how much of it was used before. */
static uint64_t take(lds_storage **storage, lds_pool *pool, uint64_t nbytes)
{
    uint64_t n_used;
    assert_int_equal(lds_pool_take(storage, &n_used, pool, nbytes, NULL), LDS_OK);
    assert_int_equal((uintptr_t)(*storage)->data % 4096, 0);
    for (uint64_t at = 0; at < nbytes; at += 4096)
        memcpy((char *)(*storage)->data + at, &at, sizeof at);
    return n_used;
}

static void check(const lds_storage *storage, uint64_t nbytes)
{
    for (uint64_t at = 0; at < nbytes; at += 4096)
        assert_memory_equal((char *)storage->data + at, &at, sizeof at);
}

static lds_pool_stats stats_of(lds_pool *pool)
{
    lds_pool_stats stats = {.struct_size = sizeof stats};
    lds_pool_get_stats(pool, &stats);
    return stats;
}

static void memory_comes_back_and_is_used_again(void **state)
{
    (void)state;
    lds_pool *pool = make_pool(0);
    lds_storage *a;
    assert_int_equal(take(&a, pool, 7 * MIB), 0);
    void *data = a->data;
    assert_int_equal(stats_of(pool).lent_nbytes, 8 * MIB);
    assert_int_equal(stats_of(pool).idle_nbytes, 0);
    lds_storage_release(a);
    assert_int_equal(stats_of(pool).lent_nbytes, 0);
    assert_int_equal(stats_of(pool).idle_nbytes, 8 * MIB);
    assert_int_equal(take(&a, pool, 8 * MIB), 8 * MIB);
    assert_ptr_equal(a->data, data);
    lds_storage_release(a);
    lds_pool_release(pool);
}

static void a_larger_arena_gets_all_idle_pages_and_fresh_ones(void **state)
{
    (void)state;
    lds_pool *pool = make_pool(0);
    lds_storage *a, *b, *c;
    take(&a, pool, 4 * MIB);
    take(&b, pool, 6 * MIB);
    take(&c, pool, 2 * MIB);
    lds_storage_release(a);
    lds_storage_release(b);
    assert_int_equal(take(&a, pool, 16 * MIB), 10 * MIB);
    check(a, 16 * MIB);
    check(c, 2 * MIB);
    lds_storage_release(a);
    assert_int_equal(stats_of(pool).idle_nbytes, 16 * MIB);
    /* What was put together is taken apart again. */
    assert_int_equal(take(&a, pool, 8 * MIB), 8 * MIB);
    assert_int_equal(take(&b, pool, 8 * MIB), 8 * MIB);
    check(a, 8 * MIB);
    check(b, 8 * MIB);
    assert_int_equal(stats_of(pool).idle_nbytes, 0);
    lds_storage_release(a);
    lds_storage_release(b);
    lds_storage_release(c);
    lds_pool_release(pool);
}

static void it_keeps_no_more_than_it_may(void **state)
{
    (void)state;
    lds_pool *pool = make_pool(4 * MIB);
    lds_storage *a;
    take(&a, pool, 10 * MIB);
    lds_storage_release(a);
    assert_int_equal(stats_of(pool).idle_nbytes, 4 * MIB);
    lds_pool_trim(pool, 3 * MIB);
    assert_int_equal(stats_of(pool).idle_nbytes, 2 * MIB);
    lds_pool_trim(pool, 0);
    assert_int_equal(stats_of(pool).idle_nbytes, 0);
    assert_int_equal(take(&a, pool, 2 * MIB), 0);
    lds_storage_release(a);
    lds_pool_release(pool);
}

static void memory_outlives_the_handle(void **state)
{
    (void)state;
    lds_pool *pool = make_pool(0);
    lds_storage *a, *b;
    take(&a, pool, 2 * MIB);
    take(&b, pool, 2 * MIB);
    lds_storage_release(b);
    lds_pool_release(pool);
    check(a, 2 * MIB);
    lds_storage_release(a);
    lds_pool_release(NULL);
}

/* Arenas of all sizes, taken and released in no order: no two overlap, and no byte is lost. */
static void many_arenas(void **state)
{
    (void)state;
    enum { N = 12 };
    lds_pool *pool = make_pool(0);
    lds_storage *arenas[N] = {0};
    uint64_t nbytes[N] = {0}, random = 12345;
    for (int round = 0; round < 600; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        int i = (int)(random >> 33) % N;
        if (arenas[i])
            check(arenas[i], nbytes[i]);
        lds_storage_release(arenas[i]);
        arenas[i] = NULL;
        if (random >> 60 < 12) {
            nbytes[i] = ((random >> 40) % 9 + 1) * 2 * MIB;
            take(&arenas[i], pool, nbytes[i]);
        }
        uint64_t lent = 0;
        for (int k = 0; k < N; k++)
            lent += arenas[k] ? nbytes[k] : 0;
        assert_int_equal(stats_of(pool).lent_nbytes, lent);
        assert_true(stats_of(pool).idle_nbytes + lent <= N * 18 * MIB);
    }
    for (int i = 0; i < N; i++)
        lds_storage_release(arenas[i]);
    lds_pool_release(pool);
}

static void loads_take_their_memory_from_it(void **state)
{
    (void)state;
    char *folder = make_folder();
    float values[64];
    for (int i = 0; i < 64; i++)
        values[i] = (float)i;
    const char *path = in_folder(folder, "a.safetensors");
    write_safetensors(path, "{\"a\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,256]}}", values,
                      256);
    lds_pool *pool = make_pool(0);
    lds_checkpoint *checkpoint;
    lds_network *network;
    assert_int_equal(lds_checkpoint_open(&checkpoint, path, NULL, NULL), LDS_OK);
    assert_int_equal(lds_network_from_checkpoint(&network, checkpoint, LDS_F64, NULL), LDS_OK);
    lds_load_options options;
    lds_load_options_init(&options, sizeof options);
    options.pool = pool;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(lds_load(network, checkpoint, &options, NULL, NULL), LDS_OK);
        const double *data = lds_param_data(lds_network_param(network, 0));
        for (int i = 0; i < 64; i++)
            assert_true(data[i] == i);
        assert_int_equal(stats_of(pool).lent_nbytes, 2 * MIB);
    }
    options.hugetlb = true;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_load(network, checkpoint, &options, NULL, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "options: memory is either a pool's or hugetlb's");
    lds_pool_release(pool);
    lds_network_free(network);
    lds_checkpoint_close(checkpoint);
    remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_comes_back_and_is_used_again),
        cmocka_unit_test(a_larger_arena_gets_all_idle_pages_and_fresh_ones),
        cmocka_unit_test(it_keeps_no_more_than_it_may),
        cmocka_unit_test(memory_outlives_the_handle),
        cmocka_unit_test(many_arenas),
        cmocka_unit_test(loads_take_their_memory_from_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
