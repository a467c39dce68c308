/*
 * Changes of a network's values (init, to, set_dtype) while somebody watches: what progress is told, that one
 * which is cancelled, in the middle or at the very end, has changed nothing, and that few values cost no thread.
 *
 * The middle is made by standing in for the kernel that both ways to write values end in: it waits until the callback
 * has been called, and the callback until somebody waits.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "loadstone.h"
#include "src/dtype/convert.h"

enum { N_LARGE = 3 << 20, N_FEW = 1000, N_SMALL = 3, SEED = 7 };

typedef enum change { INIT, TO, SET_DTYPE, N_CHANGES } change;

static lds_convert_fn real_kernel; /* NULL: nobody waits */
static atomic_int n_waiting;
static atomic_bool is_over;

static void wait_until(bool (*is_so)(void))
{
    while (!is_so())
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static bool somebody_waits(void)
{
    return atomic_load(&n_waiting) > 0;
}

static bool callback_was_called(void)
{
    return atomic_load(&is_over);
}

static void waiting_kernel(void *dst, const void *src, size_t n)
{
    atomic_fetch_add(&n_waiting, 1);
    wait_until(callback_was_called);
    real_kernel(dst, src, n);
}

lds_convert_fn __real_lds_convert_kernel(lds_dtype dst, lds_dtype src);
lds_convert_fn __wrap_lds_convert_kernel(lds_dtype dst, lds_dtype src);

lds_convert_fn __wrap_lds_convert_kernel(lds_dtype dst, lds_dtype src)
{
    return real_kernel && src == LDS_F32 ? waiting_kernel : __real_lds_convert_kernel(dst, src);
}

static int n_started; /* threads */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    n_started++;
    return __real_pthread_create(thread, attr, run, arg);
}

/* ------------------------------------------------------------------------------------------------------- */

typedef struct watcher {
    int n_calls;
    bool waits, cancels;
    lds_progress last;
} watcher;

static int watch(void *ctx, const lds_progress *progress)
{
    watcher *w = ctx;
    w->n_calls++;
    assert_int_equal(progress->struct_size, sizeof *progress);
    assert_true(progress->done_nbytes >= w->last.done_nbytes && progress->seconds >= w->last.seconds);
    w->last = *progress;
    if (w->waits)
        wait_until(somebody_waits);
    atomic_store(&is_over, true);
    return w->cancels;
}

static lds_change_options watched_by(watcher *w)
{
    lds_change_options options;
    lds_change_options_init(&options, sizeof options);
    options.progress = watch;
    options.progress_ctx = w;
    return options;
}

static lds_network *make_network(uint64_t n_large)
{
    lds_builder *b;
    lds_network *net;
    const lds_init normal = {.kind = LDS_INIT_NORMAL, .b = 1}, ones = {.kind = LDS_INIT_ONES};
    assert_int_equal(lds_builder_new(&b, LDS_F32, NULL), LDS_OK);
    lds_builder_add(b, "small", LDS_F32, 1, (const uint64_t[]){N_SMALL}, &ones);
    lds_builder_add(b, "large", LDS_F32, 1, &n_large, &normal);
    lds_builder_tie(b, "tied", "large");
    assert_int_equal(lds_builder_finish(&net, b, NULL), LDS_OK);
    return net;
}

/* A network that is about to be changed. */
static lds_network *ready_for(change what, uint64_t n_large)
{
    lds_network *net = make_network(n_large);
    if (what != INIT)
        assert_int_equal(lds_network_init(net, SEED, NULL, NULL), LDS_OK);
    return net;
}

static lds_status make(change what, lds_network *net, const lds_change_options *options, lds_error *err)
{
    switch (what) {
    case INIT: return lds_network_init(net, SEED, options, err);
    case TO: return lds_network_to(net, LDS_BF16, options, err);
    default: return lds_param_set_dtype(lds_network_find(net, "tied"), LDS_BF16, options, err);
    }
}

static void assert_same_values(const lds_network *a, const lds_network *b)
{
    for (size_t i = 0; i < lds_network_n_params(a); i++) {
        lds_param *x = lds_network_param(a, i), *y = lds_network_param(b, i);
        assert_int_equal(lds_param_dtype(x), lds_param_dtype(y));
        assert_memory_equal(lds_param_data(x), lds_param_data(y), (size_t)lds_param_nbytes(x));
    }
}

/* Cancel it; the network is then what it was, and the change can still be made. */
static void cancel(change what, uint64_t n_large, watcher *w)
{
    lds_network *net = ready_for(what, n_large), *other = ready_for(what, n_large);
    lds_param *large = lds_network_find(net, "large"), *small = lds_network_find(net, "small");
    void *large_data = lds_param_data(large), *small_data = lds_param_data(small);
    lds_change_options options = watched_by(w);
    lds_error err = LDS_ERROR_INIT;
    real_kernel = w->waits ? __real_lds_convert_kernel(what == INIT ? LDS_F32 : LDS_BF16, LDS_F32) : NULL;
    lds_status status = make(what, net, &options, &err);
    real_kernel = NULL;
    assert_int_equal(status, LDS_ERR_CANCELLED);
    assert_string_equal(err.message, "cancelled by the progress callback");
    assert_ptr_equal(lds_param_data(large), large_data);
    assert_ptr_equal(lds_param_data(small), small_data);
    assert_true(!large_data == (what == INIT));
    if (what != INIT)
        assert_same_values(net, other);
    assert_int_equal(lds_param_dtype(large), LDS_F32);
    assert_int_equal(make(what, net, NULL, NULL), LDS_OK);
    assert_int_equal(make(what, other, NULL, NULL), LDS_OK);
    assert_same_values(net, other);
    lds_network_free(net);
    lds_network_free(other);
}

static void a_change_can_be_cancelled_in_the_middle(void **state)
{
    (void)state;
    for (change what = INIT; what < N_CHANGES; what++) {
        watcher w = {.waits = true, .cancels = true};
        atomic_store(&n_waiting, 0);
        atomic_store(&is_over, false);
        cancel(what, N_LARGE, &w);
        assert_int_equal(w.n_calls, 1);
        assert_true(w.last.done_nbytes < w.last.total_nbytes);
    }
}

static void a_change_can_be_cancelled_at_the_end(void **state)
{
    (void)state;
    for (change what = INIT; what < N_CHANGES; what++) {
        watcher w = {.cancels = true};
        cancel(what, N_FEW, &w);
        assert_int_equal(w.n_calls, 1);
        assert_int_equal(w.last.done_nbytes, w.last.total_nbytes);
    }
}

/* The network, changed; *w has been told of all new values, and n_started counts threads. */
static lds_network *change_watched(change what, uint64_t n_large, watcher *w)
{
    const uint64_t expected[] = {4 * (n_large + N_SMALL), 2 * (n_large + N_SMALL), 2 * n_large};
    lds_network *net = ready_for(what, n_large);
    const lds_change_options options = watched_by(w);
    n_started = 0;
    assert_int_equal(make(what, net, &options, NULL), LDS_OK);
    assert_int_equal(w->last.done_nbytes, expected[what]);
    assert_int_equal(w->last.total_nbytes, expected[what]);
    return net;
}

static void progress_is_told_of_all_new_values(void **state)
{
    (void)state;
    for (change what = INIT; what < N_CHANGES; what++) {
        watcher w = {0};
        lds_network *net = change_watched(what, N_LARGE, &w);
        assert_true(w.n_calls > 0);
        w = (watcher){0};
        const lds_change_options options = watched_by(&w);
        assert_int_equal(make(what, net, &options, NULL), LDS_OK); /* there is nothing left to change */
        assert_int_equal(w.n_calls, 0);
        lds_network_free(net);
    }
}

static void few_values_are_written_without_a_thread(void **state)
{
    (void)state;
    for (change what = INIT; what < N_CHANGES; what++) {
        watcher w = {0};
        lds_network *net = change_watched(what, N_FEW, &w);
        assert_int_equal(n_started, 0);
        assert_int_equal(w.n_calls, 1);
        lds_network_free(net);
    }
}

static void options_have_a_size(void **state)
{
    (void)state;
    struct {
        lds_change_options known;
        int later;
    } newer;
    lds_network *net = make_network(1);
    lds_error err = LDS_ERROR_INIT;
    lds_change_options_init(&newer.known, sizeof newer);
    assert_int_equal(newer.known.struct_size, sizeof newer);
    assert_null(newer.known.progress);
    assert_int_equal(lds_network_init(net, SEED, &newer.known, NULL), LDS_OK);
    newer.later = 1;
    assert_int_equal(lds_network_to(net, LDS_F16, &newer.known, &err), LDS_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "options: this version of the library is too old for what is set");
    newer.known.struct_size = 0;
    assert_int_equal(lds_network_to(net, LDS_F16, &newer.known, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "options: struct_size is 0: initialise the struct first");
    assert_int_equal(lds_param_dtype(lds_network_param(net, 0)), LDS_F32);
    lds_network_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_can_be_cancelled_in_the_middle),
        cmocka_unit_test(a_change_can_be_cancelled_at_the_end),
        cmocka_unit_test(progress_is_told_of_all_new_values),
        cmocka_unit_test(few_values_are_written_without_a_thread),
        cmocka_unit_test(options_have_a_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
