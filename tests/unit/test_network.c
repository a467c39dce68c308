/* Networks, their parameters, and the builder that makes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "src/checkpoint/checkpoint.h"
#include "src/network/builder.h"
#include "tests/unit/faults.h"

static lds_builder *new_builder(lds_dtype dtype)
{
    lds_builder *b;
    assert_int_equal(lds_builder_new(&b, dtype, NULL), LDS_OK);
    return b;
}

static lds_network *finish(lds_builder *b)
{
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    if (lds_builder_finish(&net, b, &err))
        fail_msg("%s", err.message);
    return net;
}

/* The builder's error has this status and text; frees the builder. */
static void assert_refused(lds_builder *b, lds_status status, const char *message)
{
    lds_network *net = (lds_network *)b;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_builder_status(b), status);
    assert_int_equal(lds_builder_finish(&net, b, &err), status);
    assert_null(net);
    assert_int_equal(err.code, status);
    assert_string_equal(err.message, message);
}

#define SHAPE(...)                                                     \
    sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), (uint64_t[]) \
    {                                                                  \
        __VA_ARGS__                                                    \
    }

static const lds_init ones = {.kind = LDS_INIT_ONES};
static const lds_init zeros = {.kind = LDS_INIT_ZEROS};

/* ------------------------------------------- the builder ------------------------------------------------ */

static void builder_keeps_order_names_and_shapes(void **state)
{
    (void)state;
    lds_builder *b = new_builder(LDS_BF16);
    lds_scope block = lds_builder_enter(b, "block.%d", 3);
    lds_builder_add(b, "weight", LDS_DTYPE_NONE, SHAPE(4, 5), &ones);
    lds_scope norm = lds_builder_enter(b, "norm");
    lds_builder_add(b, "scale", LDS_F32, 0, NULL, NULL);
    lds_builder_leave(b, norm);
    lds_builder_add(b, "bias", LDS_I64, SHAPE(0, 7), NULL);
    lds_builder_leave(b, block);
    lds_builder_add(b, "last", LDS_F4, SHAPE(6), NULL);
    lds_network *net = finish(b);

    assert_int_equal(lds_network_n_params(net), 4);
    const char *names[] = {"block.3.weight", "block.3.norm.scale", "block.3.bias", "last"};
    const lds_dtype dtypes[] = {LDS_BF16, LDS_F32, LDS_I64, LDS_F4};
    const uint64_t numels[] = {20, 1, 0, 6}, nbytes[] = {40, 4, 0, 3};
    for (size_t i = 0; i < 4; i++) {
        lds_param *p = lds_network_param(net, i);
        assert_string_equal(lds_param_name(p), names[i]);
        assert_ptr_equal(lds_network_find(net, names[i]), p);
        assert_int_equal(lds_param_dtype(p), dtypes[i]);
        assert_int_equal(lds_param_numel(p), numels[i]);
        assert_int_equal(lds_param_nbytes(p), nbytes[i]);
        assert_null(lds_param_data(p));
        assert_null(lds_param_storage(p));
        assert_null(lds_param_tied_to(p));
    }
    lds_param *weight = lds_network_param(net, 0);
    assert_int_equal(lds_param_n_dims(weight), 2);
    assert_int_equal(lds_param_shape(weight)[0], 4);
    assert_int_equal(lds_param_shape(weight)[1], 5);
    assert_int_equal(lds_param_init(weight).kind, LDS_INIT_ONES);
    assert_int_equal(lds_param_init(lds_network_param(net, 1)).kind, LDS_INIT_NONE);
    assert_null(lds_network_find(net, "block.3"));
    assert_null(lds_network_find(net, ""));
    assert_null(lds_network_architecture(net));
    lds_network_free(net);
    lds_network_free(NULL);
    lds_builder_free(NULL);
}

static void empty_network_is_a_network(void **state)
{
    (void)state;
    lds_network *net = finish(new_builder(LDS_F32));
    assert_int_equal(lds_network_n_params(net), 0);
    assert_null(lds_network_find(net, "x"));
    assert_int_equal(lds_network_init(net, 0, NULL, NULL), LDS_OK);
    assert_int_equal(lds_network_to(net, LDS_F16, NULL, NULL), LDS_OK);
    lds_network_free(net);
}

static void leaving_restores_whatever_was_left_open(void **state)
{
    (void)state;
    lds_builder *b = new_builder(LDS_F32);
    lds_scope outer = lds_builder_enter(b, "a");
    lds_scope half = lds_builder_push_dtype(b, LDS_F16);
    assert_int_equal(lds_builder_dtype(b), LDS_F16);
    lds_builder_enter(b, "b");
    lds_builder_push_dtype(b, LDS_BF16);
    lds_builder_enter(b, "%s", "c");
    lds_builder_add(b, "x", LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_builder_leave(b, half);
    assert_int_equal(lds_builder_dtype(b), LDS_F32);
    lds_builder_add(b, "x", LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_builder_leave(b, outer);
    lds_builder_add(b, "x", LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_network *net = finish(b);
    assert_int_equal(lds_param_dtype(lds_network_find(net, "a.b.c.x")), LDS_BF16);
    assert_int_equal(lds_param_dtype(lds_network_find(net, "a.x")), LDS_F32);
    assert_non_null(lds_network_find(net, "x"));
    lds_network_free(net);
}

static void empty_scope_adds_nothing_to_names(void **state)
{
    (void)state;
    lds_builder *b = new_builder(LDS_F32);
    lds_scope scope = lds_builder_enter(b, "%s", "");
    lds_builder_enter(b, "a");
    lds_builder_enter(b, "%s", "");
    lds_builder_add(b, "x", LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_builder_leave(b, scope);
    lds_builder_add(b, "x", LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_network *net = finish(b);
    assert_non_null(lds_network_find(net, "a.x"));
    assert_non_null(lds_network_find(net, "x"));
    lds_network_free(net);
}

/* A checkpoint may have a tensor of that name, and so may a manifest. */
static void a_name_may_be_empty_outside_of_scopes(void **state)
{
    (void)state;
    lds_builder *b = new_builder(LDS_F32);
    lds_builder_add(b, "", LDS_BF16, 0, NULL, NULL);
    lds_builder_tie(b, "x", "");
    lds_network *net = finish(b);
    assert_int_equal(lds_param_dtype(lds_network_find(net, "")), LDS_BF16);
    assert_ptr_equal(lds_param_tied_to(lds_network_find(net, "x")), lds_network_find(net, ""));
    lds_network_free(net);
}

static void scope_left_twice_is_an_error_and_harmless(void **state)
{
    (void)state;
    const char *message = "expected a scope that is open, found one that was left before";
    lds_builder *b = new_builder(LDS_F32);
    lds_scope first = lds_builder_enter(b, "a");
    lds_builder_leave(b, first);
    lds_builder_push_dtype(b, LDS_F16); /* in the place of the first */
    lds_builder_leave(b, first);
    assert_int_equal(lds_builder_dtype(b), LDS_F16);
    assert_refused(b, LDS_ERR_ARGUMENT, message);

    b = new_builder(LDS_F32);
    lds_scope outer = lds_builder_enter(b, "a"), inner = lds_builder_enter(b, "b");
    lds_builder_leave(b, outer);
    lds_builder_leave(b, inner);
    assert_refused(b, LDS_ERR_ARGUMENT, message);

    const lds_scope wrong[] = {0, 77, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        b = new_builder(LDS_F32);
        lds_builder_leave(b, wrong[i]);
        assert_refused(b, LDS_ERR_ARGUMENT, message);
    }
}

static void dtype_is_restored_after_an_error_too(void **state)
{
    (void)state;
    lds_builder *b = new_builder(LDS_F32);
    lds_scope scope = lds_builder_push_dtype(b, LDS_F16);
    lds_builder_add(b, "w", 99, 0, NULL, NULL);
    assert_int_equal(lds_builder_status(b), LDS_ERR_ARGUMENT);
    lds_scope none = lds_builder_enter(b, "a");
    lds_builder_leave(b, none);
    lds_builder_leave(b, scope);
    assert_int_equal(lds_builder_dtype(b), LDS_F32);
    assert_refused(b, LDS_ERR_ARGUMENT, "w: expected a dtype, found 99");
}

static void first_error_stays(void **state)
{
    (void)state;
    lds_builder *b = new_builder(LDS_F32);
    lds_builder_enter(b, "a");
    lds_builder_add(b, "w", LDS_F32, SHAPE(2), NULL);
    lds_builder_enter(b, "b");
    lds_builder_add(b, "w", LDS_F32, SHAPE(2), NULL);
    lds_builder_add(b, "w", LDS_F32, SHAPE(3), NULL);
    lds_builder_tie(b, "v", "nothing");
    lds_builder_push_dtype(b, LDS_DTYPE_NONE);
    assert_refused(b, LDS_ERR_NAME, "a.b.w: expected a new name, found that of parameter 1");
}

static void parameters_that_cannot_be_are_refused(void **state)
{
    (void)state;
    uint64_t large[65] = {0};
    struct {
        lds_dtype dtype;
        uint32_t n_dims;
        const uint64_t *shape;
        lds_status status;
        const char *message;
    } cases[] = {
        {99, 0, NULL, LDS_ERR_ARGUMENT, "expected a dtype, found 99"},
        {LDS_U8, 65, large, LDS_ERR_ARGUMENT, "expected a shape of at most 64 dimensions, found 65"},
        {LDS_U8, 3, NULL, LDS_ERR_ARGUMENT, "expected a shape of 3 dimensions, found none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char message[256];
        snprintf(message, sizeof message, "s.w: %s", cases[i].message);
        lds_builder *b = new_builder(LDS_F32);
        lds_builder_enter(b, "s");
        lds_builder_add(b, "w", cases[i].dtype, cases[i].n_dims, cases[i].shape, NULL);
        assert_refused(b, cases[i].status, message);
    }
    lds_builder *b;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_builder_new(&b, LDS_DTYPE_NONE, &err), LDS_ERR_ARGUMENT);
    assert_null(b);
    assert_string_equal(err.message, "expected a default dtype, found 0");
    b = new_builder(LDS_F32);
    lds_builder_push_dtype(b, 15);
    assert_refused(b, LDS_ERR_ARGUMENT, "expected a default dtype, found 15");
    b = new_builder(LDS_F32);
    lds_builder_enter(b, "scope");
    lds_builder_add(b, "", LDS_F32, 0, NULL, NULL);
    assert_refused(b, LDS_ERR_ARGUMENT, "scope.: expected a name, found an empty one");
    b = new_builder(LDS_F32);
    lds_builder_add(b, NULL, LDS_F32, 0, NULL, NULL);
    assert_refused(b, LDS_ERR_ARGUMENT, "expected a name, found NULL");
    b = new_builder(LDS_F32);
    lds_builder_tie(b, NULL, "a");
    assert_refused(b, LDS_ERR_ARGUMENT, "expected a name, found NULL");
    b = new_builder(LDS_F32);
    lds_builder_tie(b, "a", NULL);
    assert_refused(b, LDS_ERR_ARGUMENT, "a: expected the name of a parameter to tie it to, found NULL");
}

static void shapes_that_overflow_are_refused(void **state)
{
    (void)state;
    const uint64_t cases[][2] = {
        {UINT64_MAX, 2}, {UINT64_C(1) << 32, UINT64_C(1) << 32}, {1, UINT64_MAX / 4 + 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lds_error err = LDS_ERROR_INIT;
        lds_network *net;
        lds_builder *b = new_builder(LDS_F32);
        lds_builder_add(b, "w", LDS_DTYPE_NONE, 2, cases[i], NULL);
        assert_int_equal(lds_builder_finish(&net, b, &err), LDS_ERR_ARGUMENT);
        assert_int_equal(err.code, LDS_ERR_ARGUMENT);
        assert_memory_equal(err.message, "w: ", 3);
    }
    lds_builder *b = new_builder(LDS_F32);
    lds_builder_add(b, "w", LDS_F4, SHAPE(3), NULL); /* one and a half bytes */
    lds_network *net;
    assert_int_equal(lds_builder_finish(&net, b, NULL), LDS_ERR_ARGUMENT);
}

/* Many parameters, long names: everything that moves while it grows has moved many times. */
static void large_networks_hold_together(void **state)
{
    (void)state;
    enum { N = 20000 };
    lds_builder *b = new_builder(LDS_F16);
    for (int i = 0; i < N; i++) {
        lds_scope scope = lds_builder_enter(b, "layer.%d.%0*d", i, i % 300, 0);
        lds_builder_add(b, "weight", LDS_DTYPE_NONE, SHAPE((uint64_t)i, 2, 3), i % 3 ? &ones : &zeros);
        lds_builder_leave(b, scope);
        char target[400], name[32];
        snprintf(target, sizeof target, "layer.%d.%0*d.weight", i / 2, i / 2 % 300, 0);
        snprintf(name, sizeof name, "tied.%d", i);
        lds_builder_tie(b, name, target);
    }
    lds_network *net = finish(b);
    assert_int_equal(lds_network_n_params(net), 2 * N);
    for (size_t i = 0; i < N; i++) {
        lds_param *p = lds_network_param(net, 2 * i), *tied = lds_network_param(net, 2 * i + 1);
        assert_ptr_equal(lds_network_find(net, lds_param_name(p)), p);
        assert_ptr_equal(lds_network_find(net, lds_param_name(tied)), tied);
        assert_int_equal(lds_param_shape(p)[0], i);
        assert_int_equal(lds_param_init(p).kind, i % 3 ? LDS_INIT_ONES : LDS_INIT_ZEROS);
        assert_ptr_equal(lds_param_tied_to(tied), lds_network_param(net, i / 2 * 2));
        assert_int_equal(lds_param_numel(tied), i / 2 * 6);
    }
    lds_network_free(net);
}

static void makers_inside_the_library_have_their_say(void **state)
{
    (void)state;
    static const char *const ignored[] = {"decoder\\..*", NULL};
    static const char *const modules[] = {"wo", "a.b", NULL};
    lds_builder *b = new_builder(LDS_F16);
    lds_builder_set_architecture(b, "T5EncoderModel");
    lds_builder_ignore(b, ignored);
    lds_builder_add(b, "wo.before", LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_builder_keep_f32(b, modules);
    const char *kept[] = {"x.wo.weight", "wo.bias", "x.wo", "x.a.b.c", "awo.wo.x"};
    const char *cast[] = {"x.wox.weight", "x.two.weight", "a.xb", "a.b2"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        lds_builder_add(b, kept[i], LDS_DTYPE_NONE, 0, NULL, NULL);
    for (size_t i = 0; i < sizeof cast / sizeof *cast; i++)
        lds_builder_add(b, cast[i], LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_builder_add(b, "said.wo", LDS_BF16, 0, NULL, NULL);
    lds_builder_push_dtype(b, LDS_I64);
    lds_builder_add(b, "ints.wo", LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_network *net = finish(b);
    assert_string_equal(lds_network_architecture(net), "T5EncoderModel");
    assert_ptr_equal(net->ignored, ignored);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        assert_int_equal(lds_param_dtype(lds_network_find(net, kept[i])), LDS_F32);
    for (size_t i = 0; i < sizeof cast / sizeof *cast; i++)
        assert_int_equal(lds_param_dtype(lds_network_find(net, cast[i])), LDS_F16);
    assert_int_equal(lds_param_dtype(lds_network_find(net, "wo.before")), LDS_F16);
    assert_int_equal(lds_param_dtype(lds_network_find(net, "said.wo")), LDS_BF16);
    assert_int_equal(lds_param_dtype(lds_network_find(net, "ints.wo")), LDS_I64);
    lds_network_free(net);
}

/* ---------------------------------------------- ties ---------------------------------------------------- */

static void ties_share_everything_but_the_name(void **state)
{
    (void)state;
    lds_builder *b = new_builder(LDS_F32);
    lds_scope scope = lds_builder_enter(b, "m");
    lds_builder_add(b, "a", LDS_DTYPE_NONE, SHAPE(2, 3), &ones);
    lds_builder_tie(b, "b", "m.a");
    lds_builder_leave(b, scope);
    lds_builder_tie(b, "c", "m.b"); /* to what that is tied to */
    lds_network *net = finish(b);
    lds_param *a = lds_network_find(net, "m.a"), *tied = lds_network_find(net, "m.b"),
              *c = lds_network_find(net, "c");
    assert_ptr_equal(lds_param_tied_to(tied), a);
    assert_ptr_equal(lds_param_tied_to(c), a);
    assert_string_equal(lds_param_name(c), "c");
    assert_int_equal(lds_param_n_dims(c), 2);
    assert_int_equal(lds_param_shape(c)[1], 3);
    assert_int_equal(lds_param_init(c).kind, LDS_INIT_ONES);

    assert_int_equal(lds_network_init(net, 0, NULL, NULL), LDS_OK);
    assert_non_null(lds_param_data(c));
    assert_ptr_equal(lds_param_data(c), lds_param_data(a));
    assert_int_equal(lds_param_set_dtype(c, LDS_BF16, NULL, NULL), LDS_OK);
    assert_int_equal(lds_param_dtype(a), LDS_BF16);
    assert_int_equal(lds_param_dtype(tied), LDS_BF16);
    assert_int_equal(lds_param_nbytes(tied), 12);
    assert_int_equal(((uint16_t *)lds_param_data(tied))[5], 0x3F80);

    uint16_t mine[6] = {0};
    assert_int_equal(lds_param_bind(tied, mine, sizeof mine, NULL, NULL, NULL), LDS_OK);
    assert_ptr_equal(lds_param_data(a), mine);
    assert_ptr_equal(lds_param_data(c), mine);
    assert_int_equal(lds_param_bind(c, NULL, 0, NULL, NULL, NULL), LDS_OK);
    assert_null(lds_param_data(a));
    lds_network_free(net);
}

static void ties_to_nothing_are_refused(void **state)
{
    (void)state;
    lds_builder *b = new_builder(LDS_F32);
    lds_builder_enter(b, "m");
    lds_builder_add(b, "a", LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_builder_tie(b, "b", "a"); /* the full name is m.a */
    assert_refused(b, LDS_ERR_NAME,
                   "m.b: expected the name of an earlier parameter to tie it to, found \"a\"");
    b = new_builder(LDS_F32);
    lds_builder_tie(b, "b", "b");
    assert_refused(b, LDS_ERR_NAME, "b: expected the name of an earlier parameter to tie it to, found \"b\"");
    b = new_builder(LDS_F32);
    lds_builder_add(b, "a", LDS_DTYPE_NONE, 0, NULL, NULL);
    lds_builder_tie(b, "a", "a");
    assert_refused(b, LDS_ERR_NAME, "a: expected a new name, found that of parameter 0");
}

/* --------------------------------------- dtypes and storage --------------------------------------------- */

/* a: F32 of 3, b: BF16 of 2, i: I32 of 2, t: tied to a. */
static lds_network *small_network(void)
{
    lds_builder *b = new_builder(LDS_F32);
    const lds_init count = {.kind = LDS_INIT_ARANGE, .a = 1, .b = 1};
    lds_builder_add(b, "a", LDS_DTYPE_NONE, SHAPE(3), &count);
    lds_builder_add(b, "b", LDS_BF16, SHAPE(2), &count);
    lds_builder_add(b, "i", LDS_I32, SHAPE(2), &count);
    lds_builder_tie(b, "t", "a");
    return finish(b);
}

static void dtype_changes_in_place(void **state)
{
    (void)state;
    lds_network *net = small_network();
    lds_param *a = lds_network_find(net, "a");
    assert_int_equal(lds_param_set_dtype(a, LDS_F16, NULL, NULL),
                     LDS_OK); /* without storage: the dtype alone */
    assert_int_equal(lds_param_dtype(a), LDS_F16);
    assert_null(lds_param_data(a));
    assert_int_equal(lds_network_init(net, 0, NULL, NULL), LDS_OK);
    assert_int_equal(((uint16_t *)lds_param_data(a))[2], 0x4200); /* 3 */
    void *before = lds_param_data(a);
    assert_int_equal(lds_param_set_dtype(a, LDS_F16, NULL, NULL), LDS_OK);
    assert_ptr_equal(lds_param_data(a), before);
    assert_int_equal(lds_param_set_dtype(a, LDS_F64, NULL, NULL), LDS_OK);
    assert_ptr_equal(lds_network_find(net, "a"), a);
    const double *values = lds_param_data(a);
    assert_true(values[0] == 1 && values[1] == 2 && values[2] == 3);
    assert_int_equal(lds_param_nbytes(a), 24);
    lds_network_free(net);
}

static void dtypes_that_do_not_convert_are_refused(void **state)
{
    (void)state;
    lds_network *net = small_network();
    lds_error err = LDS_ERROR_INIT;
    lds_param *a = lds_network_find(net, "a"), *i = lds_network_find(net, "i");
    assert_int_equal(lds_param_set_dtype(a, LDS_I32, NULL, &err), LDS_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "a: expected a float dtype to convert to, found I32");
    assert_int_equal(lds_param_set_dtype(i, LDS_F32, NULL, &err), LDS_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "i: expected a float dtype to convert from, found I32");
    assert_int_equal(lds_param_set_dtype(lds_network_find(net, "t"), LDS_DTYPE_NONE, NULL, &err),
                     LDS_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "t: expected a float dtype to convert to, found none");
    assert_int_equal(lds_param_set_dtype(i, LDS_I32, NULL, NULL), LDS_OK);
    assert_int_equal(lds_param_dtype(a), LDS_F32);
    assert_int_equal(lds_network_to(net, LDS_I8, NULL, &err), LDS_ERR_UNSUPPORTED);
    assert_int_equal(lds_network_to(net, LDS_DTYPE_NONE, NULL, &err), LDS_ERR_UNSUPPORTED);
    lds_network_free(net);

    lds_builder *b = new_builder(LDS_F8_E4M3);
    lds_builder_add(b, "w", LDS_DTYPE_NONE, SHAPE(UINT64_C(1) << 62), NULL);
    net = finish(b);
    assert_int_not_equal(lds_param_set_dtype(lds_network_param(net, 0), LDS_F64, NULL, &err), LDS_OK);
    assert_int_equal(lds_param_dtype(lds_network_param(net, 0)), LDS_F8_E4M3);
    lds_network_free(net);
}

static void network_to_changes_only_what_differs(void **state)
{
    (void)state;
    lds_network *net = small_network();
    assert_int_equal(lds_network_init(net, 0, NULL, NULL), LDS_OK);
    lds_param *a = lds_network_find(net, "a"), *b = lds_network_find(net, "b"),
              *i = lds_network_find(net, "i");
    void *b_data = lds_param_data(b), *i_data = lds_param_data(i);
    assert_int_equal(lds_network_to(net, LDS_BF16, NULL, NULL), LDS_OK);
    assert_ptr_equal(lds_param_data(b), b_data);
    assert_ptr_equal(lds_param_data(i), i_data);
    assert_int_equal(lds_param_dtype(i), LDS_I32);
    assert_int_equal(lds_param_dtype(a), LDS_BF16);
    assert_int_equal(lds_param_dtype(lds_network_find(net, "t")), LDS_BF16);
    const uint16_t *values = lds_param_data(a);
    assert_true(values[0] == 0x3F80 && values[1] == 0x4000 && values[2] == 0x4040);
    lds_network_free(net);
}

/* Several blocks and a rest, for several threads. */
static void large_parameters_convert_whole(void **state)
{
    (void)state;
    enum { N = (1 << 17) * 3 + 5 };
    lds_builder *b = new_builder(LDS_F32);
    const lds_init count = {.kind = LDS_INIT_ARANGE, .a = 0, .b = 1};
    lds_builder_add(b, "small", LDS_DTYPE_NONE, SHAPE(3), &count);
    lds_builder_add(b, "empty", LDS_DTYPE_NONE, SHAPE(0), &count);
    lds_builder_add(b, "large", LDS_DTYPE_NONE, SHAPE(N), &count);
    lds_builder_add(b, "end", LDS_DTYPE_NONE, SHAPE(0), &count);
    lds_network *net = finish(b);
    assert_int_equal(lds_network_init(net, 0, NULL, NULL), LDS_OK);
    assert_int_equal(lds_network_to(net, LDS_F64, NULL, NULL), LDS_OK);
    const double *values = lds_param_data(lds_network_find(net, "large"));
    for (size_t i = 0; i < N; i++)
        assert_true(values[i] == (double)i);
    assert_non_null(lds_param_data(lds_network_find(net, "empty")));
    lds_network_free(net);
}

static void count_release(void *ctx, void *data)
{
    ++*(int *)ctx;
    *(float *)data = -1;
}

static void bound_memory_is_checked_and_given_back(void **state)
{
    (void)state;
    lds_network *net = small_network();
    lds_error err = LDS_ERROR_INIT;
    lds_param *a = lds_network_find(net, "a");
    float mine[4] = {5, 6, 7, 8}, other[3];
    int n_releases = 0;
    assert_int_equal(lds_param_bind(a, mine, 16, count_release, &n_releases, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "a: expected 12 bytes of memory, found 16");
    assert_int_equal(lds_param_bind(a, (char *)mine + 2, 12, count_release, &n_releases, &err),
                     LDS_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "a: expected memory aligned to 4 bytes, found it at 0x"));
    assert_null(lds_param_data(a));
    assert_int_equal(n_releases, 0);

    assert_int_equal(lds_param_bind(a, mine, 12, count_release, &n_releases, &err), LDS_OK);
    assert_ptr_equal(lds_param_data(a), mine);
    assert_true(a->is_callers);
    assert_int_equal(lds_network_init(net, 0, NULL, NULL), LDS_OK); /* it has its values */
    assert_true(mine[0] == 5);
    assert_int_equal(lds_param_bind(a, other, 12, NULL, NULL, &err), LDS_OK);
    assert_int_equal(n_releases, 1);
    assert_int_equal(lds_param_bind(a, mine, 12, count_release, &n_releases, &err), LDS_OK);
    assert_int_equal(lds_param_bind(a, NULL, 12345, NULL, NULL, &err), LDS_OK);
    assert_int_equal(n_releases, 2);
    assert_null(lds_param_data(a));
    assert_false(a->is_callers);

    mine[1] = 6;
    assert_int_equal(lds_param_bind(a, mine, 12, count_release, &n_releases, &err), LDS_OK);
    assert_int_equal(lds_param_set_dtype(a, LDS_BF16, NULL, NULL), LDS_OK); /* into the library's memory */
    assert_int_equal(n_releases, 3);
    assert_false(a->is_callers);
    assert_int_equal(((uint16_t *)lds_param_data(a))[1], 0x40C0);
    lds_network_free(net);
}

static void storage_outlives_the_network(void **state)
{
    (void)state;
    lds_network *net = small_network();
    assert_int_equal(lds_network_init(net, 0, NULL, NULL), LDS_OK);
    lds_storage *storage = lds_param_storage(lds_network_find(net, "t"));
    const float *values = lds_param_data(lds_network_find(net, "t"));
    lds_network_free(net);
    assert_true(values[0] == 1 && values[2] == 3);
    lds_storage_release(storage);

    net = small_network();
    float mine[3] = {1, 2, 3};
    int n_releases = 0;
    assert_int_equal(lds_param_bind(lds_network_find(net, "a"), mine, 12, count_release, &n_releases, NULL),
                     LDS_OK);
    storage = lds_param_storage(lds_network_find(net, "a"));
    assert_int_equal(lds_storage_freed_nbytes(storage), 0);
    lds_network_free(net);
    assert_int_equal(n_releases, 0);
    assert_int_equal(lds_storage_freed_nbytes(storage), 12);
    assert_int_equal(lds_storage_freed_nbytes(NULL), 0);
    lds_storage_release(storage);
    assert_int_equal(n_releases, 1);
}

static void a_storage_can_be_put_back(void **state)
{
    (void)state;
    lds_network *net = small_network();
    lds_param *a = lds_network_find(net, "a");
    lds_error err = LDS_ERROR_INIT;
    float mine[3] = {5, 6, 7};
    assert_int_equal(lds_network_init(net, 0, NULL, NULL), LDS_OK);
    lds_storage *storage = lds_param_storage(a);
    float *data = lds_param_data(a);
    assert_int_equal(lds_param_bind(a, mine, 12, NULL, NULL, NULL), LDS_OK);
    assert_int_equal(lds_param_set_dtype(a, LDS_F16, NULL, NULL), LDS_OK);
    assert_int_equal(lds_param_bind(a, mine, 6, NULL, NULL, NULL), LDS_OK);
    assert_int_equal(lds_param_set_storage(a, storage, (char *)data + 2, LDS_F32, &err), LDS_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "a: expected memory aligned to 4 bytes, found it at 0x"));
    assert_int_equal(lds_param_set_storage(a, storage, data + (1 << 20), LDS_F32, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "a: expected 12 bytes in the storage, found 0");
    assert_int_equal(lds_param_set_storage(a, storage, (char *)storage->data - 4, LDS_F32, &err),
                     LDS_ERR_ARGUMENT);
    char *end = (char *)storage->data + storage->nbytes;
    assert_int_equal(lds_param_set_storage(a, storage, end - 8, LDS_F32, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "a: expected 12 bytes in the storage, found 8");
    assert_int_equal(lds_param_set_storage(a, storage, data, LDS_I32, &err), LDS_ERR_UNSUPPORTED);
    assert_ptr_equal(lds_param_data(a), mine);
    assert_true(a->is_callers);

    assert_int_equal(lds_param_set_storage(a, storage, data, LDS_F32, &err), LDS_OK);
    assert_ptr_equal(lds_param_data(a), data);
    assert_int_equal(lds_param_dtype(a), LDS_F32);
    assert_false(a->is_callers);
    lds_storage_release(storage);
    assert_int_equal(lds_param_bind(a, mine, 12, NULL, NULL, NULL), LDS_OK);
    storage = lds_param_storage(a);
    assert_int_equal(lds_param_set_storage(a, storage, mine, LDS_F32, &err), LDS_OK);
    assert_false(a->is_callers); /* a load leaves it alone, too */
    lds_storage_release(storage);
    lds_network_free(net);
}

static void placing_keeps_the_callers_memory_the_callers(void **state)
{
    (void)state;
    lds_network *net = small_network();
    lds_param *a = lds_network_find(net, "a");
    float mine[3];
    assert_int_equal(lds_param_bind(a, mine, 12, NULL, NULL, NULL), LDS_OK);
    lds_param_place(a, lds_storage_retain(a->storage), a->data, a->dtype);
    assert_true(a->is_callers);
    assert_int_equal(atomic_load(&a->storage->refs), 1);
    lds_storage *storage;
    assert_int_equal(lds_storage_new(&storage, 12, NULL, NULL), LDS_OK);
    lds_param_place(a, storage, storage->data, LDS_F32);
    assert_false(a->is_callers);
    lds_network_free(net);
}

/* --------------------------------------- from a checkpoint ---------------------------------------------- */

/* A checkpoint as open would make it, without files. The names lie in one buffer, without NUL bytes. */
static void fake_checkpoint(lds_checkpoint *checkpoint, lds_tensor *tensors, size_t n, char *buffer)
{
    static const uint64_t dims[] = {2, 3};
    static const lds_dtype dtypes[] = {LDS_F32, LDS_I64, LDS_BF16, LDS_F8_E4M3, LDS_F8_E8M0};
    char path[] = "dir/model.safetensors";
    *checkpoint = (lds_checkpoint){.path = strdup(path), .tensors = tensors};
    for (size_t i = 0; i < n; i++) {
        uint32_t found;
        int nbytes = sprintf(buffer, "model.layers.%zu.mlp.experts.%zu.down_proj.weight", i / 100, i % 100);
        tensors[i] = (lds_tensor){.name = lds_name_of(buffer, (size_t)nbytes),
                                  .shape = dims,
                                  .numel = 6,
                                  .dtype = (uint8_t)dtypes[i % 5],
                                  .n_dims = 2};
        assert_int_equal(lds_names_add(&checkpoint->names, tensors[i].name, &found, NULL), LDS_OK);
        buffer += nbytes;
    }
}

static void free_fake(lds_checkpoint *checkpoint)
{
    free(checkpoint->path);
    lds_names_destroy(&checkpoint->names);
}

static void checkpoint_becomes_a_network(void **state)
{
    (void)state;
    enum { N = 5000 };
    lds_checkpoint checkpoint;
    lds_tensor *tensors = calloc(N, sizeof *tensors);
    char *buffer = malloc(N * 100);
    fake_checkpoint(&checkpoint, tensors, N, buffer);
    lds_network *own, *half;
    assert_int_equal(lds_network_from_checkpoint(&own, &checkpoint, LDS_DTYPE_NONE, NULL), LDS_OK);
    assert_int_equal(lds_network_from_checkpoint(&half, &checkpoint, LDS_F16, NULL), LDS_OK);
    const lds_dtype owns[] = {LDS_F32, LDS_I64, LDS_BF16, LDS_F8_E4M3, LDS_F8_E8M0};
    const lds_dtype halves[] = {LDS_F16, LDS_I64, LDS_F16, LDS_F16, LDS_F8_E8M0};
    for (size_t i = 0; i < N; i++)
        tensors[i].name.hash ^= 1; /* the networks have their own */
    memset(buffer, 'x', N * 100);
    free(buffer);
    free(tensors);
    free_fake(&checkpoint);
    assert_int_equal(lds_network_n_params(own), N);
    for (size_t i = 0; i < N; i++) {
        char name[100];
        sprintf(name, "model.layers.%zu.mlp.experts.%zu.down_proj.weight", i / 100, i % 100);
        assert_string_equal(lds_param_name(lds_network_param(own, i)), name);
        assert_ptr_equal(lds_network_find(half, name), lds_network_param(half, i));
        assert_int_equal(lds_param_dtype(lds_network_param(own, i)), owns[i % 5]);
        assert_int_equal(lds_param_dtype(lds_network_param(half, i)), halves[i % 5]);
        assert_int_equal(lds_param_shape(lds_network_param(own, i))[1], 3);
    }
    lds_network_free(own);
    lds_network_free(half);
}

static void pipelines_and_integer_dtypes_are_refused(void **state)
{
    (void)state;
    lds_checkpoint checkpoint;
    fake_checkpoint(&checkpoint, NULL, 0, NULL);
    lds_network *net = (lds_network *)&checkpoint;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_network_from_checkpoint(&net, &checkpoint, LDS_I8, &err), LDS_ERR_ARGUMENT);
    assert_string_equal(err.message, "expected a float dtype or none, found I8");
    assert_null(net);
    checkpoint.n_components = 3;
    assert_int_equal(lds_network_from_checkpoint(&net, &checkpoint, LDS_F16, &err), LDS_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "dir/model.safetensors: expected one checkpoint, found a pipeline of 3: "
                                     "open its components");
    assert_null(net);
    free_fake(&checkpoint);
}

/* ------------------------------------- allocations that fail -------------------------------------------- */

/* Fails as the allocation that fails says; *net is then NULL, and whatever was taken is given back. */
static lds_status build(lds_network **net, lds_error *err)
{
    lds_builder *b;
    *net = NULL;
    lds_status status = lds_builder_new(&b, LDS_F32, err);
    if (status)
        return status;
    lds_builder_set_architecture(b, "Some");
    for (int i = 0; i < 40; i++) {
        lds_scope scope = lds_builder_enter(b, "layer.%d.%0*d", i, i * 10, 0);
        lds_builder_push_dtype(b, i % 2 ? LDS_F16 : LDS_F32);
        lds_builder_add(b, "w", LDS_DTYPE_NONE, SHAPE(3, 2), i % 3 ? &ones : &zeros);
        lds_builder_leave(b, scope);
    }
    lds_builder_add(b, "x", LDS_F32, SHAPE(2), &ones);
    lds_builder_tie(b, "y", "x");
    return lds_builder_finish(net, b, err);
}

static void building_survives_each_failed_allocation(void **state)
{
    (void)state;
    uint64_t n = 1;
    for (bool failed = true; failed; n++) {
        lds_network *net;
        lds_error err = LDS_ERROR_INIT;
        faults_arm(n);
        lds_status status = build(&net, &err);
        failed = faults_disarm();
        assert_int_equal(status, failed ? LDS_ERR_MEMORY : LDS_OK);
        assert_true(!net == failed);
        assert_true(!failed || strstr(err.message, "out of memory"));
        lds_network_free(net);
    }
    assert_true(n > 10);
}

/* The operation that fails has changed nothing; then it is done without a failure. */
static void changes_are_whole_or_none(void **state)
{
    (void)state;
    enum { INIT, TO, SET_DTYPE, BIND, N_CHANGES };
    lds_network *net;
    assert_int_equal(build(&net, NULL), LDS_OK);
    lds_param *x = lds_network_find(net, "x"), *first = lds_network_param(net, 0);
    float mine[2] = {4, 5};
    int n_releases = 0;
    for (int change = 0; change < N_CHANGES; change++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            void *x_data = lds_param_data(x), *first_data = lds_param_data(first);
            lds_dtype x_dtype = lds_param_dtype(x), first_dtype = lds_param_dtype(first);
            faults_arm(n);
            lds_status status = change == INIT ? lds_network_init(net, 0, NULL, NULL)
                                : change == TO ? lds_network_to(net, LDS_BF16, NULL, NULL)
                                : change == SET_DTYPE
                                    ? lds_param_set_dtype(x, LDS_F32, NULL, NULL)
                                    : lds_param_bind(x, mine, 8, count_release, &n_releases, NULL);
            failed = faults_disarm();
            assert_true(!failed || n < 100);
            if (!status) /* threads may fail to start: those that there are do the work */
                break;
            assert_int_equal(status, LDS_ERR_MEMORY);
            assert_ptr_equal(lds_param_data(x), x_data);
            assert_ptr_equal(lds_param_data(first), first_data);
            assert_int_equal(lds_param_dtype(x), x_dtype);
            assert_int_equal(lds_param_dtype(first), first_dtype);
            assert_int_equal(n_releases, 0);
        }
    }
    assert_ptr_equal(lds_param_data(x), mine);
    assert_int_equal(lds_param_dtype(first), LDS_BF16);
    lds_network_free(net);
    assert_int_equal(n_releases, 1);
}

static void copying_a_checkpoint_survives_each_failed_allocation(void **state)
{
    (void)state;
    enum { N = 500 };
    static lds_tensor tensors[N];
    static char buffer[N * 100];
    lds_checkpoint checkpoint;
    fake_checkpoint(&checkpoint, tensors, N, buffer);
    bool failed = true;
    uint64_t n = 1;
    for (; failed; n++) {
        lds_network *net;
        faults_arm(n);
        lds_status status = lds_network_from_checkpoint(&net, &checkpoint, LDS_F16, NULL);
        failed = faults_disarm();
        assert_int_equal(status, failed ? LDS_ERR_MEMORY : LDS_OK);
        assert_true(!net == failed);
        lds_network_free(net);
    }
    assert_true(n > 5);
    free_fake(&checkpoint);
}

static void manifests_survive_each_failed_allocation(void **state)
{
    (void)state;
    const char *json = "[{\"name\":\"w\",\"dtype\":\"F32\",\"shape\":[2],\"init\":\"normal\"},"
                       "{\"name\":\"t\",\"tied_to\":\"w\"}]";
    bool failed = true;
    uint64_t n = 1;
    for (; failed; n++) {
        lds_network *net;
        lds_error err = LDS_ERROR_INIT;
        faults_arm(n);
        lds_status status = lds_network_from_manifest(&net, json, strlen(json), "n.json", &err);
        failed = faults_disarm();
        assert_int_equal(status, failed ? LDS_ERR_MEMORY : LDS_OK);
        assert_true(!net == failed);
        assert_true(!failed || (strstr(err.message, "n.json: ") && strstr(err.message, "out of memory")));
        lds_network_free(net);
    }
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builder_keeps_order_names_and_shapes),
        cmocka_unit_test(empty_network_is_a_network),
        cmocka_unit_test(leaving_restores_whatever_was_left_open),
        cmocka_unit_test(empty_scope_adds_nothing_to_names),
        cmocka_unit_test(a_name_may_be_empty_outside_of_scopes),
        cmocka_unit_test(scope_left_twice_is_an_error_and_harmless),
        cmocka_unit_test(dtype_is_restored_after_an_error_too),
        cmocka_unit_test(first_error_stays),
        cmocka_unit_test(parameters_that_cannot_be_are_refused),
        cmocka_unit_test(shapes_that_overflow_are_refused),
        cmocka_unit_test(large_networks_hold_together),
        cmocka_unit_test(makers_inside_the_library_have_their_say),
        cmocka_unit_test(ties_share_everything_but_the_name),
        cmocka_unit_test(ties_to_nothing_are_refused),
        cmocka_unit_test(dtype_changes_in_place),
        cmocka_unit_test(dtypes_that_do_not_convert_are_refused),
        cmocka_unit_test(network_to_changes_only_what_differs),
        cmocka_unit_test(large_parameters_convert_whole),
        cmocka_unit_test(bound_memory_is_checked_and_given_back),
        cmocka_unit_test(storage_outlives_the_network),
        cmocka_unit_test(a_storage_can_be_put_back),
        cmocka_unit_test(placing_keeps_the_callers_memory_the_callers),
        cmocka_unit_test(checkpoint_becomes_a_network),
        cmocka_unit_test(pipelines_and_integer_dtypes_are_refused),
        cmocka_unit_test(building_survives_each_failed_allocation),
        cmocka_unit_test(changes_are_whole_or_none),
        cmocka_unit_test(copying_a_checkpoint_survives_each_failed_allocation),
        cmocka_unit_test(manifests_survive_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
