/*
 * Loading while the system fails it: every allocation, mapping, read and status call in turn, reads that come in
 * pieces, and a kernel that cannot make pages present. Whatever fails, parameters are as they were.
 */
#include "loadstone.h"
#include "tests/unit/faults.h"
#include "tests/unit/support.h"

enum { N = 1 << 21 };

static char *folder;
static lds_checkpoint *checkpoint;
static uint16_t *values;

/* half: F16 [N], converted to F32; same: F32 [4], mapped; and the network wants one more, which is missing. */
static int set_up(void **state)
{
    (void)state;
    folder = make_folder();
    values = calloc(N + 8, sizeof *values);
    for (int i = 0; i < N; i++)
        values[i] = (uint16_t)(0x3C00 + i % 1024); /* 1 + k / 1024 */
    char header[256];
    snprintf(header, sizeof header,
             "{\"half\":{\"dtype\":\"F16\",\"shape\":[%d],\"data_offsets\":[0,%d]},"
             "\"same\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[%d,%d]}}        ",
             N, 2 * N, 2 * N, 2 * N + 16);
    header[strlen(header) / 8 * 8] = 0;
    write_safetensors(in_folder(folder, "f.safetensors"), header, values, 2 * N + 16);
    return lds_checkpoint_open(&checkpoint, in_folder(folder, "f.safetensors"), NULL, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    lds_checkpoint_close(checkpoint);
    free(values);
    remove_folder(folder);
    return 0;
}

static lds_network *make_network(void)
{
    const uint64_t half[] = {N}, same[] = {4}, more[] = {1000};
    const lds_init init = {.kind = LDS_INIT_NORMAL, .b = 1};
    lds_builder *b;
    lds_network *net;
    assert_int_equal(lds_builder_new(&b, LDS_F32, NULL), LDS_OK);
    lds_builder_add(b, "half", LDS_DTYPE_NONE, 1, half, NULL);
    lds_builder_add(b, "same", LDS_DTYPE_NONE, 1, same, NULL);
    lds_builder_add(b, "more", LDS_DTYPE_NONE, 1, more, &init);
    assert_int_equal(lds_builder_finish(&net, b, NULL), LDS_OK);
    return net;
}

static bool is_right(const lds_network *net)
{
    const float *half = lds_param_data(lds_network_find(net, "half"));
    for (int i = 0; i < N; i++)
        if (half[i] != 1 + (float)(i % 1024) / 1024)
            return false;
    const float *more = lds_param_data(lds_network_find(net, "more"));
    return more && lds_param_data(lds_network_find(net, "same"));
}

/* Of the loads. */
static lds_io io;
static lds_trace *trace;
static int (*progress)(void *ctx, const lds_progress *progress);

static lds_status load_into(lds_network *net, lds_error *err)
{
    lds_load_options o;
    lds_load_options_init(&o, sizeof o);
    o.io = io;
    o.strict = false;
    o.n_threads = 2;
    o.trace = trace;
    o.progress = progress;
    lds_report *report = NULL;
    lds_status status = lds_load(net, checkpoint, &o, &report, err);
    if (!status)
        assert_int_equal(lds_report_count(report, LDS_REPORT_INITIALISED), 1);
    lds_report_free(report);
    return status;
}

/* Let call n of a kind fail for n = 1, 2, ... until a load needs fewer calls; return how many failed. */
static uint64_t fail_each(fault kind, lds_status expected)
{
    for (uint64_t n = 1;; n++) {
        lds_network *net = make_network();
        lds_error err = LDS_ERROR_INIT;
        faults_inject(kind, n);
        lds_status status = load_into(net, &err);
        bool failed = faults_disarm();
        if (failed && status) {
            assert_int_equal(status, expected);
            for (size_t i = 0; i < lds_network_n_params(net); i++)
                assert_null(lds_param_data(lds_network_param(net, i)));
            const char *said = expected == LDS_ERR_MEMORY ? "out of memory: " : "f.safetensors: ";
            assert_true(kind == FAULT_MAP || strstr(err.message, said));
        } else {
            assert_int_equal(status, LDS_OK);
            assert_true(is_right(net));
        }
        lds_network_free(net);
        if (!failed)
            return n - 1;
    }
}

static void every_read_fails_once(void **state)
{
    (void)state;
    io = LDS_IO_READ;
    assert_true(fail_each(FAULT_READ, LDS_ERR_IO) >= 4);
    assert_true(fail_each(FAULT_END, LDS_ERR_CHANGED) >= 4);
    io = LDS_IO_AUTO;
}

static void every_mapping_fails_once(void **state)
{
    (void)state;
    assert_true(fail_each(FAULT_MAP, LDS_ERR_MEMORY) >= 2);
}

static void every_status_call_fails_once(void **state)
{
    (void)state;
    assert_true(fail_each(FAULT_STAT, LDS_ERR_IO) >= 1);
}

static void reads_come_in_pieces(void **state)
{
    (void)state;
    lds_network *net = make_network();
    faults_inject(FAULT_PIECES, 10007);
    io = LDS_IO_READ;
    assert_int_equal(load_into(net, NULL), LDS_OK);
    io = LDS_IO_AUTO;
    assert_true(faults_disarm());
    assert_true(is_right(net));
    lds_network_free(net);
}

static void old_kernels_read_through_what_is_mapped(void **state)
{
    (void)state;
    lds_network *net = make_network();
    faults_inject(FAULT_ADVICE, 0);
    assert_int_equal(load_into(net, NULL), LDS_OK);
    assert_true(faults_disarm());
    assert_true(is_right(net));
    lds_network_free(net);
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    assert_true(fail_each(FAULT_MEMORY, LDS_ERR_MEMORY) >= 15);
}

static int stop(void *ctx, const lds_progress *p)
{
    (void)ctx, (void)p;
    return 1;
}

static void a_trace_has_the_phase_in_which_a_load_ended(void **state)
{
    (void)state;
    const char *path = in_folder(folder, "trace.json");
    io = LDS_IO_READ;
    for (int is_cancelled = 0; is_cancelled < 2; is_cancelled++) {
        lds_network *net = make_network();
        assert_int_equal(lds_trace_new(&trace, NULL), LDS_OK);
        progress = is_cancelled ? stop : NULL;
        faults_inject(is_cancelled ? FAULT_NONE : FAULT_READ, 1);
        assert_int_equal(load_into(net, NULL), is_cancelled ? LDS_ERR_CANCELLED : LDS_ERR_IO);
        faults_disarm();
        assert_int_equal(lds_trace_write(trace, path, NULL), LDS_OK);
        char text[8192];
        FILE *f = fopen(path, "r");
        text[fread(text, 1, sizeof text - 1, f)] = 0;
        fclose(f);
        assert_non_null(strstr(text, "\"memory\""));
        assert_non_null(strstr(text, "\"transfer\""));
        assert_null(strstr(text, "\"init\""));
        lds_trace_free(trace);
        lds_network_free(net);
    }
    io = LDS_IO_AUTO;
    trace = NULL;
    progress = NULL;
}

static void making_a_network_by_a_key_map_survives_each_failed_allocation(void **state)
{
    (void)state;
    static const char rules[] = "{\"rules\":[{\"regex\":\"^(.)\",\"to\":\"net.$1\"}]}";
    lds_keymap *keymap;
    assert_int_equal(lds_keymap_from_json(&keymap, rules, sizeof rules - 1, "k", NULL), LDS_OK);
    uint64_t n = 1;
    for (bool failed = true; failed; n++) {
        lds_network *net;
        faults_arm(n);
        lds_status status = lds_network_from_keymap(&net, checkpoint, keymap, LDS_F32, NULL);
        failed = faults_disarm();
        assert_int_equal(status, failed ? LDS_ERR_MEMORY : LDS_OK);
        assert_true(!net == failed);
        lds_network_free(net);
    }
    assert_true(n > 5);
    lds_keymap_free(keymap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_read_fails_once),
        cmocka_unit_test(every_mapping_fails_once),
        cmocka_unit_test(every_status_call_fails_once),
        cmocka_unit_test(reads_come_in_pieces),
        cmocka_unit_test(old_kernels_read_through_what_is_mapped),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(a_trace_has_the_phase_in_which_a_load_ended),
        cmocka_unit_test(making_a_network_by_a_key_map_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
