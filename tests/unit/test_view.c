/* Views of the page cache: what is seen, what nobody can do meanwhile, and loads where there can be none. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "src/io/source.h"
#include "tests/unit/faults.h"
#include "tests/unit/loads.h"

/* Some blocks. */
enum { N_ELEMENTS = 6 << 20, VIEW_NBYTES = 1 << 20, N_PAGES = N_ELEMENTS * 2 / 4096 };

/* The pages of a file, large or single, as a clock shows them that stands, or runs fast. */
static atomic_bool is_fast;

uint64_t __wrap_lds_now_ns(void);

uint64_t __wrap_lds_now_ns(void)
{
    static atomic_uint_fast64_t now;
    return atomic_load(&is_fast) ? atomic_fetch_add(&now, 1000000000) : 0;
}

static char *folder;
static char *weights;    /* a file */
static uint16_t *values; /* of "d", BF16, the only tensor */
static bool has_leases;  /* where the tests are run, on files that this user may have leases on */

static void write_weights(void)
{
    write_values(weights, values, N_ELEMENTS);
}

static int set_up(void **state)
{
    (void)state;
    folder = make_folder();
    weights = strdup(in_folder(folder, "w.safetensors"));
    values = make_values(N_ELEMENTS);
    write_weights();
    int fd = open(weights, O_RDONLY);
    has_leases = !fcntl(fd, F_SETLEASE, F_RDLCK);
    close(fd);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(values);
    free(weights);
    remove_folder(folder);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- */

typedef struct viewer {
    lds_file file;
    lds_input *input;
} viewer;

/* The page cache may have lost some of the file since it was written: memory is short while others build. */
static void open_viewer(viewer *v)
{
    const bool needed = true;
    bring_in(weights, N_PAGES);
    assert_int_equal(lds_file_open(&v->file, weights, NULL), LDS_OK);
    const lds_input_options options = {
        .files = &v->file,
        .n_files = 1,
        .is_needed = &needed,
        .kind = LDS_SOURCE_VIEW,
        .depth = 1,
        .is_resident = true,
        .looks_first = true,
    };
    assert_int_equal(lds_input_new(&v->input, &options, NULL), LDS_OK);
}

static void close_viewer(viewer *v)
{
    lds_input_close(v->input);
    lds_file_close(&v->file);
}

static const uint8_t *view_at(const viewer *v, uint64_t offset)
{
    return lds_input_view(v->input, 0, offset, VIEW_NBYTES);
}

static bool end_view_at(const viewer *v, uint64_t offset)
{
    return lds_input_end_view(v->input, 0, offset, VIEW_NBYTES);
}

typedef struct walk {
    const viewer *v;
    const uint8_t *bytes; /* of the file */
    uint64_t begin;
} walk;

static void *look_at_every_other(void *arg)
{
    const walk *w = arg;
    for (uint64_t at = w->begin; at + VIEW_NBYTES <= w->v->file.identity.nbytes; at += 2 * VIEW_NBYTES) {
        const uint8_t *data = view_at(w->v, at);
        assert_non_null(data);
        assert_memory_equal(data, w->bytes + at, VIEW_NBYTES);
        assert_true(end_view_at(w->v, at));
    }
    return NULL;
}

/* Of blocks that begin inside of pages, and two at a time. */
static void a_view_is_what_the_file_has(void **state)
{
    (void)state;
    viewer v;
    pthread_t thread;
    if (!has_leases)
        skip();
    open_viewer(&v);
    uint8_t *bytes = malloc(v.file.identity.nbytes);
    assert_int_equal(lds_file_read(v.file.fd, bytes, v.file.identity.nbytes, 0, NULL), LDS_OK);
    walk walks[2] = {{&v, bytes, 1000}, {&v, bytes, 1000 + VIEW_NBYTES}};
    assert_int_equal(pthread_create(&thread, NULL, look_at_every_other, &walks[0]), 0);
    look_at_every_other(&walks[1]);
    pthread_join(thread, NULL);
    assert_int_equal(lds_input_kind(v.input), LDS_SOURCE_VIEW);
    free(bytes);
    close_viewer(&v);
}

static void what_the_page_cache_lacks_is_not_viewed(void **state)
{
    (void)state;
    viewer v;
    if (!has_leases)
        skip();
    open_viewer(&v);
    evict(weights);
    const bool is_gone =
        lds_file_resident(&v.file, 0, VIEW_NBYTES) < VIEW_NBYTES; /* no such thing in memory */
    assert_true(!is_gone || !view_at(&v, 0));
    assert_null(lds_input_fallback(v.input));
    close_viewer(&v);
    write_weights();
}

static atomic_bool has_begun, has_cut;

static void *cut_off(void *arg)
{
    (void)arg;
    atomic_store(&has_begun, true);
    assert_int_equal(truncate(weights, VIEW_NBYTES), 0);
    atomic_store(&has_cut, true);
    return NULL;
}

/* Views are refused as soon as somebody waits. */
static void *look_until_refused(void *v)
{
    while (view_at(v, 0))
        end_view_at(v, 0);
    return NULL;
}

static void run_in_thread(void *(*function)(void *), void *arg)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, function, arg), 0);
    pthread_join(thread, NULL);
}

static atomic_int n_signals;

static void count_signal(int number)
{
    (void)number;
    atomic_fetch_add(&n_signals, 1);
}

static void nobody_cuts_a_file_off_that_is_being_viewed(void **state)
{
    (void)state;
    viewer v;
    pthread_t thread;
    if (!has_leases)
        skip();
    signal(SIGIO, count_signal);
    signal(SIGURG, count_signal);
    open_viewer(&v);
    const uint8_t *bytes = view_at(&v, 5 * VIEW_NBYTES);
    assert_non_null(bytes);
    assert_int_equal(pthread_create(&thread, NULL, cut_off, NULL), 0);
    run_in_thread(look_until_refused, &v);
    assert_true(atomic_load(&has_begun));
    usleep(50000);
    assert_false(atomic_load(&has_cut));
    const uint64_t header_nbytes = v.file.identity.nbytes - N_ELEMENTS * sizeof *values;
    assert_memory_equal(bytes, (const uint8_t *)values + 5 * VIEW_NBYTES - header_nbytes, VIEW_NBYTES);
    assert_false(end_view_at(&v, 5 * VIEW_NBYTES));
    pthread_join(thread, NULL);
    assert_true(atomic_load(&has_cut));
    assert_null(view_at(&v, 5 * VIEW_NBYTES)); /* there is nothing any more */
    assert_int_equal(atomic_load(&n_signals), 0);
    close_viewer(&v);
    write_weights();
}

/* ------------------------------------------------------------------------------------------------------- */

static uint8_t look_at_all(const uint8_t *bytes)
{
    uint8_t all = 0;
    for (size_t i = 0; i < VIEW_NBYTES; i++)
        all |= ((const volatile uint8_t *)bytes)[i];
    return all;
}

/* In a thread that blocks all signals, as some programs' do. */
static void *look_at_pages_that_are_gone(void *arg)
{
    viewer *v = arg;
    sigset_t all, now;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    faults_inject(FAULT_LOSS, 1);
    const uint8_t *bytes = view_at(v, 1000);
    assert_non_null(bytes);
    assert_true(faults_disarm());
    assert_true(look_at_all(bytes));
    assert_false(end_view_at(v, 1000));
    assert_null(view_at(v, 1000)); /* no more of that mapping */
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    assert_true(sigismember(&now, SIGBUS));
    return NULL;
}

static void pages_that_are_gone_are_no_signal(void **state)
{
    (void)state;
    viewer v;
    if (!has_leases)
        skip();
    open_viewer(&v);
    run_in_thread(look_at_pages_that_are_gone, &v);
    close_viewer(&v);
}

/* What follows is done by a process of its own, which looks at the file meanwhile. */
static void have_a_view(void)
{
    static viewer v;
    open_viewer(&v);
    if (!view_at(&v, 0))
        _exit(11);
}

/* An access behind the end of a file, which nobody guards. */
static void touch_nothing(void)
{
    have_a_view();
    int empty = memfd_create("empty", MFD_CLOEXEC);
    volatile uint8_t *byte = mmap(NULL, 1, PROT_READ, MAP_SHARED, empty, 0);
    _exit(*byte);
}

static void send_to_itself(void)
{
    have_a_view();
    raise(SIGBUS);
    _exit(7);
}

static struct sigaction was_there;

static void pass_on(int number, siginfo_t *info, void *context)
{
    was_there.sa_sigaction(number, info, context);
}

/* Somebody begins to handle it during a load, and stays. */
static void let_others_handle_it(void)
{
    viewer v;
    open_viewer(&v);
    sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = pass_on, .sa_flags = SA_SIGINFO}, &was_there);
    close_viewer(&v);
}

static void touch_nothing_later(void)
{
    let_others_handle_it();
    touch_nothing();
}

static void look_at_pages_that_are_gone_later(void)
{
    viewer v;
    let_others_handle_it();
    open_viewer(&v);
    look_at_pages_that_are_gone(&v);
    _exit(14);
}

/* Their handler goes, and comes back: with nobody's in front, a load puts its own there. */
static void look_behind_nobodys_handler(void)
{
    struct sigaction theirs, now;
    viewer v;
    let_others_handle_it();
    for (int i = 0; i < 2; i++) {
        sigaction(SIGBUS, &(struct sigaction){.sa_handler = SIG_DFL}, &theirs);
        open_viewer(&v);
        look_at_pages_that_are_gone(&v);
        close_viewer(&v);
        sigaction(SIGBUS, &theirs, &now);
        assert_true(now.sa_handler == SIG_DFL);
    }
}

static void look_behind_it_and_leave(void)
{
    look_behind_nobodys_handler();
    _exit(15);
}

static void look_behind_it_and_touch_nothing(void)
{
    look_behind_nobodys_handler();
    touch_nothing();
}

/* They put back what they have found, when the load is over. */
static void put_back_what_was_found(void)
{
    viewer v;
    open_viewer(&v);
    sigaction(SIGBUS, NULL, &was_there);
    close_viewer(&v);
    sigaction(SIGBUS, &was_there, NULL);
    touch_nothing();
}

/* The same, with one of their own in between. */
static void touch_nothing_at_last(void)
{
    viewer v;
    open_viewer(&v);
    sigaction(SIGBUS, &(struct sigaction){.sa_handler = SIG_IGN}, &was_there);
    close_viewer(&v);
    sigaction(SIGBUS, &was_there, NULL);
    touch_nothing();
}

static void leave_by_handler(int number)
{
    (void)number;
    _exit(8);
}

static void leave_by_long_handler(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    _exit(info->si_code > 0 && info->si_addr ? 9 : 10);
}

/* How a process ends that handles the signal in some way, and then does something. */
static int status_of_child(const struct sigaction *action, void (*function)(void))
{
    int status;
    pid_t child = fork();
    if (!child) {
        sigaction(SIGBUS, action, NULL);
        function();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void signals_of_others_reach_them(void **state)
{
    (void)state;
    static const struct sigaction by_default = {.sa_handler = SIG_DFL}, ignored = {.sa_handler = SIG_IGN},
                                  handled = {.sa_handler = leave_by_handler},
                                  long_handled = {.sa_sigaction = leave_by_long_handler,
                                                  .sa_flags = SA_SIGINFO};
    if (!has_leases)
        skip();
    assert_int_equal(WTERMSIG(status_of_child(&by_default, touch_nothing)), SIGBUS);
    assert_int_equal(WTERMSIG(status_of_child(&by_default, send_to_itself)), SIGBUS);
    assert_int_equal(WTERMSIG(status_of_child(&ignored, touch_nothing)), SIGBUS);
    assert_int_equal(WEXITSTATUS(status_of_child(&ignored, send_to_itself)), 7);
    assert_int_equal(WEXITSTATUS(status_of_child(&handled, touch_nothing)), 8);
    assert_int_equal(WEXITSTATUS(status_of_child(&handled, send_to_itself)), 8);
    assert_int_equal(WEXITSTATUS(status_of_child(&handled, touch_nothing_later)), 8);
    assert_int_equal(WEXITSTATUS(status_of_child(&handled, touch_nothing_at_last)), 8);
    assert_int_equal(WEXITSTATUS(status_of_child(&handled, put_back_what_was_found)), 8);
    assert_int_equal(WEXITSTATUS(status_of_child(&long_handled, touch_nothing)), 9);
}

static void a_handler_is_not_left_behind(void **state)
{
    (void)state;
    struct sigaction before, now;
    viewer v;
    sigaction(SIGBUS, NULL, &before);
    for (int i = 0; i < 2; i++) {
        open_viewer(&v);
        sigaction(SIGBUS, NULL, &now);
        assert_true(now.sa_handler != before.sa_handler);
        close_viewer(&v);
        sigaction(SIGBUS, NULL, &now);
        assert_true(now.sa_handler == before.sa_handler);
    }
}

static void leave_if_still_handled(void)
{
    struct sigaction now;
    let_others_handle_it();
    sigaction(SIGBUS, NULL, &now);
    _exit(now.sa_sigaction == pass_on ? 12 : 13);
}

static void who_handles_it_since_then_stays(void **state)
{
    (void)state;
    const struct sigaction by_default = {.sa_handler = SIG_DFL};
    assert_int_equal(WEXITSTATUS(status_of_child(&by_default, leave_if_still_handled)), 12);
    if (!has_leases)
        return;
    assert_int_equal(WEXITSTATUS(status_of_child(&by_default, look_at_pages_that_are_gone_later)), 14);
    assert_int_equal(WEXITSTATUS(status_of_child(&by_default, look_behind_it_and_leave)), 15);
    assert_int_equal(WTERMSIG(status_of_child(&by_default, look_behind_it_and_touch_nothing)), SIGBUS);
}

/* ------------------------------------------------------------------------------------------------------- */

static const how converting = {.dtype = LDS_F32, .n_threads = 2};

static void check_load_by(const how *h, const char *source, const char *fallback)
{
    outcome o;
    assert_int_equal(load(&o, weights, h, NULL), LDS_OK);
    check_values(&o, values, N_ELEMENTS);
    assert_string_equal(o.stats.source, source);
    assert_int_equal(!o.stats.fallback, !fallback);
    assert_true(!fallback || strstr(o.text, fallback));
    forget(&o);
}

static void check_load(const char *source, const char *fallback)
{
    check_load_by(&converting, source, fallback);
}

static void a_load_converts_what_it_views(void **state)
{
    (void)state;
    if (!has_leases)
        skip();
    check_load("view", NULL);
}

/* Into new memory what is to be as it is goes by itself: the kernel copies it there. */
static void a_load_copies_what_it_views_into_memory_that_was_used(void **state)
{
    (void)state;
    outcome o;
    if (!has_leases)
        skip();
    const how as_it_is = {.dtype = LDS_BF16, .n_threads = 2, .is_bound = true};
    assert_int_equal(load(&o, weights, &as_it_is, NULL), LDS_OK);
    check_values(&o, values, N_ELEMENTS);
    assert_string_equal(o.stats.source, "view");
    forget(&o);
}

static void where_there_is_no_lease_bytes_are_copied(void **state)
{
    (void)state;
    static const struct {
        int os_errno;
        const char *reason;
    } cases[] = {
        {EACCES, "a file is another user's: copied from the page cache"},
        {EAGAIN, "a file is open for writing: copied from the page cache"},
        {EINVAL, "no leases on this file system: copied from the page cache"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        faults_inject(FAULT_LEASE, (uint64_t)cases[i].os_errno);
        check_load("read", cases[i].reason);
        assert_true(faults_disarm());
    }
    if (!has_leases)
        return;
    int fd = open(weights, O_WRONLY);
    check_load("read", cases[1].reason);
    close(fd);
    check_load("view", NULL);
}

static void single_pages_are_copied(void **state)
{
    (void)state;
    atomic_store(&is_fast, true);
    check_load("read", "no large pages seen in the page cache: copied from there");
    atomic_store(&is_fast, false);
}

static void where_nothing_can_be_made_present_bytes_are_copied(void **state)
{
    (void)state;
    if (!has_leases)
        skip();
    faults_inject(FAULT_ADVICE, 0);
    check_load("read", "no pages can be made present: copied from the page cache");
    assert_true(faults_disarm());
}

static void large_pages_behind_single_ones_are_found(void **state)
{
    (void)state;
    enum { N_SINGLE = 20, N_MORE = 16 };
    viewer v;
    if (!has_leases)
        skip();
    open_viewer(&v);
    atomic_store(&is_fast, true);
    for (int i = 0; i < N_SINGLE; i++)
        assert_null(view_at(&v, 0));
    atomic_store(&is_fast, false);
    const uint8_t *found = NULL;
    for (int i = 0; i < N_MORE && !found; i++)
        found = view_at(&v, 0);
    assert_non_null(found);
    assert_true(end_view_at(&v, 0));
    close_viewer(&v);
}

static void what_was_gone_is_read(void **state)
{
    (void)state;
    if (!has_leases)
        skip();
    /* Nobody else finds that a page is gone. */
    const how alone = {.dtype = LDS_F32, .n_threads = 1, .n_brought = N_PAGES};
    for (uint64_t block = 1; block <= 3; block++) {
        faults_inject(FAULT_LOSS, block);
        check_load_by(&alone, "read", "a page was gone while it was looked at: read instead");
        assert_true(faults_disarm());
    }
}

static void *cut_off_after(void *us)
{
    usleep(*(useconds_t *)us);
    return cut_off(NULL);
}

/* At any moment: either it came too late, or it is told. */
static void a_file_that_is_cut_off_in_the_middle_is_no_signal(void **state)
{
    (void)state;
    lds_checkpoint *checkpoint;
    for (useconds_t us = 0; us < 8000; us += 200) {
        pthread_t thread;
        lds_error err = LDS_ERROR_INIT;
        outcome o = {0};
        assert_int_equal(lds_checkpoint_open(&checkpoint, weights, NULL, NULL), LDS_OK);
        assert_int_equal(lds_network_from_checkpoint(&o.network, checkpoint, LDS_F32, NULL), LDS_OK);
        assert_int_equal(pthread_create(&thread, NULL, cut_off_after, &us), 0);
        lds_status status = lds_load(o.network, checkpoint, NULL, NULL, &err);
        assert_true(status == LDS_OK || status == LDS_ERR_CHANGED);
        if (status)
            assert_non_null(strstr(err.message, "w.safetensors: "));
        else
            check_values(&o, values, N_ELEMENTS);
        pthread_join(thread, NULL);
        lds_checkpoint_close(checkpoint);
        forget(&o);
        write_weights();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_is_what_the_file_has),
        cmocka_unit_test(what_the_page_cache_lacks_is_not_viewed),
        cmocka_unit_test(nobody_cuts_a_file_off_that_is_being_viewed),
        cmocka_unit_test(pages_that_are_gone_are_no_signal),
        cmocka_unit_test(signals_of_others_reach_them),
        cmocka_unit_test(a_handler_is_not_left_behind),
        cmocka_unit_test(who_handles_it_since_then_stays),
        cmocka_unit_test(a_load_converts_what_it_views),
        cmocka_unit_test(a_load_copies_what_it_views_into_memory_that_was_used),
        cmocka_unit_test(where_there_is_no_lease_bytes_are_copied),
        cmocka_unit_test(single_pages_are_copied),
        cmocka_unit_test(large_pages_behind_single_ones_are_found),
        cmocka_unit_test(where_nothing_can_be_made_present_bytes_are_copied),
        cmocka_unit_test(what_was_gone_is_read),
        cmocka_unit_test(a_file_that_is_cut_off_in_the_middle_is_no_signal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
