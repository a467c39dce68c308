/* Teams: everyone works, the first failure wins, a tick can stop it, and many at once share the processors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/base/machine.h"
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
            lds_team team = {count_to_thousand, &j, ticking ? tick : NULL, &j, NULL};
            assert_int_equal(lds_team_run(&team, 1000, n, NULL), LDS_OK);
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
    lds_team team = {count_to_thousand, &j, NULL, NULL, NULL};
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_team_run(&team, 1000, 4, &err), LDS_ERR_IO);
    assert_string_equal(err.message, "failed at 10");
}

static void a_tick_cancels(void **state)
{
    (void)state;
    job j = {.cancel_at = 2};
    lds_team team = {wait_for_stop, &j, tick, &j, NULL};
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_team_run(&team, 1000, 3, &err), LDS_ERR_CANCELLED);
    assert_string_equal(err.message, "cancelled by the progress callback");
    assert_int_equal(j.n_ticks, 2); /* it is not asked again while the workers end */
}

/* Work that ends while a tick is under way. */
typedef struct meeting {
    atomic_bool is_ticking, is_done;
    bool last_saw_it_done;
} meeting;

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){0, ms * 1000000}, NULL);
}

static lds_status end_in_a_tick(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker, (void)stop, (void)err;
    meeting *m = ctx;
    while (!atomic_load(&m->is_ticking))
        sleep_ms(1);
    atomic_store(&m->is_done, true);
    return LDS_OK;
}

static int tick_until_done(void *ctx)
{
    meeting *m = ctx;
    m->last_saw_it_done = atomic_load(&m->is_done);
    atomic_store(&m->is_ticking, true);
    while (!atomic_load(&m->is_done))
        sleep_ms(1);
    sleep_ms(100); /* until the worker is gone */
    return 0;
}

static void the_last_tick_comes_after_the_work(void **state)
{
    (void)state;
    meeting m = {0};
    lds_team team = {end_in_a_tick, &m, tick_until_done, &m, NULL};
    assert_int_equal(lds_team_run(&team, 1, 1, NULL), LDS_OK);
    assert_true(m.last_saw_it_done);
}

static void no_more_workers_than_tasks(void **state)
{
    (void)state;
    job j = {.fail_at = -1};
    lds_team team = {count_to_thousand, &j, NULL, NULL, NULL};
    assert_int_equal(lds_team_run(&team, 2, 7, NULL), LDS_OK);
    assert_int_equal(atomic_load(&j.n_calls), 2);
    assert_int_equal(lds_team_run(&team, 0, 7, NULL), LDS_OK);
    assert_int_equal(atomic_load(&j.n_calls), 3);
}

/* ------------------------------------------------------------------------------------------------------- */

/* Many teams at once, and the most workers that there were at any time. */
typedef struct crowd {
    atomic_int n_now, n_most;
} crowd;

typedef struct sharing {
    crowd *crowd;
    atomic_int n_left;
    atomic_bool give_way;
    int n_ticks;
    bool ticks;
    lds_status status;
    int step_us;
} sharing;

static void spin(int us)
{
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000000 + (now.tv_nsec - begin.tv_nsec) / 1000 < us);
}

static lds_status share_out(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)worker, (void)err;
    sharing *s = ctx;
    int n = atomic_fetch_add(&s->crowd->n_now, 1) + 1, most = atomic_load(&s->crowd->n_most);
    while (n > most && !atomic_compare_exchange_weak(&s->crowd->n_most, &most, n))
        continue;
    while (!atomic_load(stop) && !lds_team_gives_way(&s->give_way) && atomic_fetch_sub(&s->n_left, 1) > 0)
        spin(s->step_us);
    atomic_fetch_sub(&s->crowd->n_now, 1);
    return LDS_OK;
}

static int count_tick(void *ctx)
{
    ((sharing *)ctx)->n_ticks++;
    return 0;
}

static void *run_sharing(void *arg)
{
    sharing *s = arg;
    lds_team team = {share_out, s, s->ticks ? count_tick : NULL, s, &s->give_way};
    s->status = lds_team_run(&team, 1000, lds_threads_available(), NULL);
    return NULL;
}

static void teams_share_the_processors(void **state)
{
    (void)state;
    enum { N = 8 };
    crowd all = {0};
    sharing jobs[N];
    pthread_t threads[N];
    for (int i = 0; i < N; i++) {
        jobs[i] = (sharing){.crowd = &all, .n_left = 400, .ticks = i % 2, .step_us = 1000};
        assert_int_equal(pthread_create(&threads[i], NULL, run_sharing, &jobs[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].status, LDS_OK);
        assert_true(atomic_load(&jobs[i].n_left) <= 0);
    }
    assert_int_equal(atomic_load(&all.n_now), 0);
    assert_true((uint32_t)atomic_load(&all.n_most) <= lds_threads_available());
}

/* A long team gives a seat to a short one that comes later, and does not end before it. */
static void a_late_team_need_not_wait_for_an_early_one(void **state)
{
    (void)state;
    crowd all = {0};
    sharing first = {.crowd = &all, .n_left = 1 << 30, .step_us = 100};
    sharing second = {.crowd = &all, .n_left = 50, .step_us = 100, .ticks = true};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_sharing, &first), 0);
    while (!atomic_load(&all.n_now))
        spin(100);
    run_sharing(&second);
    assert_int_equal(second.status, LDS_OK);
    assert_true(atomic_load(&first.n_left) > 0);
    atomic_store(&first.n_left, 0);
    pthread_join(thread, NULL);
    assert_int_equal(first.status, LDS_OK);
}

static lds_status sleep_until_stopped(void *ctx, uint32_t worker, const atomic_bool *stop, lds_error *err)
{
    (void)ctx, (void)worker, (void)err;
    while (!atomic_load(stop))
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    return LDS_OK;
}

static int is_told_to_stop(void *ctx)
{
    return atomic_load((atomic_bool *)ctx);
}

static void *run_stalled(void *arg)
{
    atomic_bool give_way = false;
    lds_team team = {sleep_until_stopped, NULL, is_told_to_stop, arg, &give_way};
    lds_status status = lds_team_run(&team, 1000, lds_threads_available(), NULL);
    return (void *)(intptr_t)status;
}

/* Seats are for threads that run: a team whose workers all wait for something holds up no other. */
static void a_stalled_team_is_overtaken(void **state)
{
    (void)state;
    atomic_bool stop = false;
    crowd all = {0};
    sharing other = {.crowd = &all, .n_left = 10, .step_us = 10};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_stalled, &stop), 0);
    nanosleep(&(struct timespec){0, 100000000}, NULL);
    run_sharing(&other);
    assert_int_equal(other.status, LDS_OK);
    atomic_store(&stop, true);
    void *status;
    pthread_join(thread, &status);
    assert_int_equal((intptr_t)status, LDS_ERR_CANCELLED);
}

#if !defined(__SANITIZE_THREAD__)
/* A child that is forked while teams run has none of their threads, and all the processors. */
static void a_forked_child_begins_anew(void **state)
{
    (void)state;
    crowd all = {0};
    sharing first = {.crowd = &all, .n_left = 1 << 30, .step_us = 100};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_sharing, &first), 0);
    while (!atomic_load(&all.n_now))
        spin(100);
    pid_t child = fork();
    if (!child) {
        crowd own = {0};
        sharing second = {.crowd = &own, .n_left = 50, .step_us = 100};
        run_sharing(&second);
        _exit(second.status == LDS_OK && atomic_load(&second.n_left) <= 0 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    atomic_store(&first.n_left, 0);
    pthread_join(thread, NULL);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_the_work_is_done),
        cmocka_unit_test(the_first_failure_wins_and_stops_the_rest),
        cmocka_unit_test(a_tick_cancels),
        cmocka_unit_test(the_last_tick_comes_after_the_work),
        cmocka_unit_test(no_more_workers_than_tasks),
        cmocka_unit_test(teams_share_the_processors),
        cmocka_unit_test(a_late_team_need_not_wait_for_an_early_one),
        cmocka_unit_test(a_stalled_team_is_overtaken),
#if !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(a_forked_child_begins_anew),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
