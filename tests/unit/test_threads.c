/* Teams: everyone works, the first failure wins, a tick can stop it, and the count follows the environment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "src/base/threads.h"

typedef struct job {
    atomic_int n_done;
    atomic_int n_calls;
    int fail_at;
    int n_ticks;
    int cancel_at;
} job;

static lds_status count_to_thousand(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker;
    job *j = ctx;
    atomic_fetch_add(&j->n_calls, 1);
    while (!atomic_load(stop)) {
        int i = atomic_fetch_add(&j->n_done, 1);
        if (i >= 1000)
            return LDS_OK;
        if (i == j->fail_at)
            return lds_fail(err, LDS_ERR_IO, "failed at %d", i);
    }
    return LDS_OK;
}

static lds_status wait_for_stop(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)ctx, (void)worker, (void)err;
    while (!atomic_load(stop))
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return LDS_OK;
}

static int tick(void *ctx)
{
    job *j = ctx;
    return ++j->n_ticks == j->cancel_at;
}

static void all_the_work_is_done(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 9; n++) {
        for (int ticking = 0; ticking < 2; ticking++) {
            job j = {.fail_at = -1};
            lds_team team = {count_to_thousand, &j, ticking ? tick : NULL, &j};
            assert_int_equal(lds_team_run(&team, n, NULL), LDS_OK);
            assert_true(atomic_load(&j.n_done) >= 1000);
            assert_int_equal(atomic_load(&j.n_calls), n);
            assert_true(ticking ? j.n_ticks >= 1 : j.n_ticks == 0);
        }
    }
}

static void the_first_failure_wins_and_stops_the_rest(void **state)
{
    (void)state;
    job j = {.fail_at = 10};
    lds_team team = {count_to_thousand, &j, NULL, NULL};
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_team_run(&team, 4, &err), LDS_ERR_IO);
    assert_string_equal(err.message, "failed at 10");
}

static void a_tick_cancels(void **state)
{
    (void)state;
    job j = {.cancel_at = 2};
    lds_team team = {wait_for_stop, &j, tick, &j};
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_team_run(&team, 3, &err), LDS_ERR_CANCELLED);
    assert_string_equal(err.message, "cancelled by the progress callback");
}

static void ranks_share_the_processors(void **state)
{
    (void)state;
    unsetenv("LOCAL_WORLD_SIZE");
    uint32_t all = lds_threads_available();
    assert_true(all >= 1);
    setenv("LOCAL_WORLD_SIZE", "2", 1);
    uint32_t half = lds_threads_available();
    assert_true(half >= 1 && half <= all);
    setenv("LOCAL_WORLD_SIZE", "60000", 1);
    assert_true(lds_threads_available() <= half);
    setenv("LOCAL_WORLD_SIZE", "-3 nonsense", 1);
    assert_int_equal(lds_threads_available(), all);
    unsetenv("LOCAL_WORLD_SIZE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_the_work_is_done),
        cmocka_unit_test(the_first_failure_wins_and_stops_the_rest),
        cmocka_unit_test(a_tick_cancels),
        cmocka_unit_test(ranks_share_the_processors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
