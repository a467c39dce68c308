/* Initial values: the generator, the distributions, and that nothing but seed, name and index matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <math.h>

#include "src/network/init_values.h"
#include "src/network/refill.h"

#define SHAPE(...)                                                     \
    sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), (uint64_t[]) \
    {                                                                  \
        __VA_ARGS__                                                    \
    }

/* A network of one parameter, "w". */
static lds_network *one(lds_dtype dtype, uint32_t n_dims, const uint64_t *shape, lds_init init)
{
    lds_builder *b;
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    assert_int_equal(lds_builder_new(&b, dtype, NULL), LDS_OK);
    lds_builder_add(b, "w", LDS_DTYPE_NONE, n_dims, shape, &init);
    if (lds_builder_finish(&net, b, &err))
        fail_msg("%s", err.message);
    return net;
}

/* The same, with its values. */
static lds_network *filled(lds_dtype dtype, uint32_t n_dims, const uint64_t *shape, lds_init init)
{
    lds_network *net = one(dtype, n_dims, shape, init);
    assert_int_equal(lds_network_init(net, 1, NULL, NULL), LDS_OK);
    return net;
}

static const void *data_of(const lds_network *net)
{
    return lds_param_data(lds_network_param(net, 0));
}

/* The known answers that Random123 publishes for its generators. */
static void philox_gives_the_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], words[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < 3; i++) {
        uint32_t words[4];
        lds_philox(words, cases[i].counter, cases[i].key);
        assert_memory_equal(words, cases[i].words, sizeof words);
    }
}

/* ---------------------------------------- distributions ------------------------------------------------- */

enum { N_VALUES = 1 << 20 };

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double normal_cdf(double x)
{
    return erfc(-x * M_SQRT1_2) / 2;
}

/* The probability of a value below x. */
static double cdf(const lds_init *init, double x)
{
    double z = (x - init->a) / init->b;
    switch (init->kind) {
    case LDS_INIT_UNIFORM: return (x - init->lo) / (init->hi - init->lo);
    case LDS_INIT_NORMAL: return normal_cdf(z);
    default: break;
    }
    double lo = normal_cdf((init->lo - init->a) / init->b), hi = normal_cdf((init->hi - init->a) / init->b);
    return (normal_cdf(z) - lo) / (hi - lo);
}

/* Kolmogorov and Smirnov: values are as far from the distribution as chance lets them be, and neighbours free. */
static void assert_distribution(const lds_init *init, uint32_t n_dims, const uint64_t *shape, lds_init rule)
{
    lds_network *net = filled(LDS_F32, n_dims, shape, rule);
    const float *values = data_of(net);
    size_t n = (size_t)lds_param_numel(lds_network_param(net, 0));
    double sum = 0, squares = 0, lag[4] = {0};
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) {
        squares += (values[i] - mean) * (values[i] - mean);
        for (size_t k = 0; k < 4 && i + k + 1 < n; k++)
            lag[k] += (values[i] - mean) * (values[i + k + 1] - mean);
    }
    for (size_t k = 0; k < 4; k++)
        assert_true(fabs(lag[k] / squares) < 5 / sqrt((double)n));
    float *sorted = malloc(n * sizeof *sorted);
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_floats);
    double distance = 0;
    for (size_t i = 0; i < n; i++) {
        double p = cdf(init, sorted[i]);
        distance =
            fmax(distance, fmax(fabs(p - (double)i / (double)n), fabs((double)(i + 1) / (double)n - p)));
    }
    assert_true(distance < 1.95 / sqrt((double)n)); /* p = 0.001; the seed is fixed, so this is no lottery */
    free(sorted);
    lds_network_free(net);
}

static void values_have_their_distributions(void **state)
{
    (void)state;
    const lds_init rules[] = {
        {LDS_INIT_NORMAL, 0, 1, 0, 0},           {LDS_INIT_NORMAL, -3, 0.02, 0, 0},
        {LDS_INIT_UNIFORM, 0, 0, 0, 1},          {LDS_INIT_UNIFORM, 0, 0, -7.5, -7},
        {LDS_INIT_TRUNC_NORMAL, 0, 1, -2, 2},    {LDS_INIT_TRUNC_NORMAL, 1, 2, 0, 9},
        {LDS_INIT_TRUNC_NORMAL, 0, 1, 3, 4},     {LDS_INIT_TRUNC_NORMAL, 0, 1, 9, 30},
        {LDS_INIT_TRUNC_NORMAL, 0, 1, -6, -5.5},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        lds_init expected = rules[i];
        if (expected.lo == 9) { /* cdf() is not exact far above the mean: look at it from the other side */
            expected = (lds_init){LDS_INIT_TRUNC_NORMAL, 0, 1, -30, -9};
            assert_distribution(&expected, SHAPE(N_VALUES), expected);
            continue;
        }
        assert_distribution(&expected, SHAPE(N_VALUES), rules[i]);
    }
}

static void tails_mirror_each_other(void **state)
{
    (void)state;
    lds_network *low = filled(LDS_F32, SHAPE(1000), (lds_init){LDS_INIT_TRUNC_NORMAL, 0, 1, -30, -9});
    lds_network *high = filled(LDS_F32, SHAPE(1000), (lds_init){LDS_INIT_TRUNC_NORMAL, 0, 1, 9, 30});
    const float *a = data_of(low), *b = data_of(high);
    for (size_t i = 0; i < 1000; i++)
        assert_true(a[i] == -b[i] && a[i] <= -9 && a[i] > -12);
    lds_network_free(low);
    lds_network_free(high);
}

static void assert_range(lds_init rule, float least, float greatest)
{
    lds_network *net = filled(LDS_F32, SHAPE(100000), rule);
    const float *values = data_of(net);
    for (size_t i = 0; i < 100000; i++)
        assert_true(values[i] >= least && values[i] <= greatest);
    lds_network_free(net);
}

static void ranges_are_kept_even_where_floats_are_sparse(void **state)
{
    (void)state;
    float one_up = nextafterf(1, 2), two_up = nextafterf(one_up, 2);
    assert_range((lds_init){LDS_INIT_UNIFORM, 0, 0, 1, (double)two_up}, 1, one_up);
    assert_range((lds_init){LDS_INIT_UNIFORM, 0, 0, 1, 1}, 1, 1);
    assert_range((lds_init){LDS_INIT_UNIFORM, 0, 0, 0.1, 0.1}, 0.1f, 0.1f); /* no F32 is */
    assert_range((lds_init){LDS_INIT_UNIFORM, 0, 0, -3e38, 3e38}, -3e38f, 3e38f);
    assert_range((lds_init){LDS_INIT_TRUNC_NORMAL, 0, 1, -2, 2}, -2, 2);
    assert_range((lds_init){LDS_INIT_TRUNC_NORMAL, 0, 0, -2, 2}, 0, 0);
    assert_range((lds_init){LDS_INIT_TRUNC_NORMAL, 5, 0, -2, 2}, 2, 2);
    assert_range((lds_init){LDS_INIT_TRUNC_NORMAL, 0, 1, 100, 101}, 100, 101); /* beyond all probability */
    assert_range((lds_init){LDS_INIT_TRUNC_NORMAL, 0, 1e-30, 1, 2}, 1, 2);
    assert_range((lds_init){LDS_INIT_NORMAL, 3, 0, 0, 0}, 3, 3);
    assert_range((lds_init){LDS_INIT_NORMAL, 0, 1, 0, 0}, -6.7f, 6.7f);
}

/* Fans and gains as torch.nn.init has them; the same is compared with torch itself in tests/python. */
static void fans_make_the_bounds(void **state)
{
    (void)state;
    double linear = sqrt(6.0 / (1024 + 512)), slope = sqrt(5);
    lds_init expected = {LDS_INIT_UNIFORM, 0, 0, -linear, linear};
    assert_distribution(&expected, SHAPE(1024, 512), (lds_init){LDS_INIT_XAVIER_UNIFORM, 1, 0, 0, 0});
    double bound = 1 / sqrt(16 * 27); /* what nn.Conv3d does: a = sqrt(5) makes 1 / sqrt(fan in) */
    expected = (lds_init){LDS_INIT_UNIFORM, 0, 0, -bound, bound};
    assert_distribution(&expected, SHAPE(64, 16, 3, 3, 3),
                        (lds_init){LDS_INIT_KAIMING_UNIFORM, slope, 0, 0, 0});
    expected = (lds_init){LDS_INIT_NORMAL, 0, 0.5 * sqrt(2.0 / ((64 + 16) * 27)), 0, 0};
    assert_distribution(&expected, SHAPE(64, 16, 3, 3, 3), (lds_init){LDS_INIT_XAVIER_NORMAL, 0.5, 0, 0, 0});
    expected = (lds_init){LDS_INIT_NORMAL, 0, sqrt(2.0 / 512), 0, 0};
    assert_distribution(&expected, SHAPE(1024, 512), (lds_init){LDS_INIT_KAIMING_NORMAL, 0, 0, 0, 0});
    lds_network *net = filled(LDS_F32, SHAPE(0, 7), (lds_init){LDS_INIT_KAIMING_NORMAL, 0, 0, 0, 0});
    assert_non_null(data_of(net));
    lds_network_free(net);
}

/* ------------------------------------- what values depend on -------------------------------------------- */

static const lds_init random_rules[] = {
    {LDS_INIT_NORMAL, 0.5, 2, 0, 0},
    {LDS_INIT_UNIFORM, 0, 0, -1, 3},
    {LDS_INIT_TRUNC_NORMAL, 0, 1, -1, 2},
    {LDS_INIT_ARANGE, 1, 0.5, 0, 0},
};

static void cuts_do_not_matter(void **state)
{
    (void)state;
    enum { N = 5003 };
    for (size_t rule = 0; rule < 4; rule++) {
        lds_network *net = one(LDS_BF16, SHAPE(N), random_rules[rule]);
        const lds_param *param = lds_network_param(net, 0);
        uint16_t whole[N], part[N];
        lds_init_fill(param, LDS_BF16, whole, 7, 0, N);
        for (size_t step = 1; step < 3000; step = step * 3 + 1) {
            for (size_t first = 0; first < N; first += step) {
                size_t n = first + step < N ? step : N - first;
                lds_init_fill(param, LDS_BF16, part + first, 7, first, n);
            }
            assert_memory_equal(part, whole, sizeof whole);
        }
        lds_network_free(net);
    }
}

/* Elements far beyond 2^32 have values of their own. */
static void large_indices_count_whole(void **state)
{
    (void)state;
    lds_network *net = one(LDS_F32, SHAPE(UINT64_C(1) << 40), random_rules[0]);
    float low[8], high[8];
    lds_init_fill(lds_network_param(net, 0), LDS_F32, low, 0, 0, 8);
    lds_init_fill(lds_network_param(net, 0), LDS_F32, high, 0, UINT64_C(1) << 35, 8);
    for (size_t i = 0; i < 8; i++)
        assert_true(low[i] != high[i]);
    lds_network_free(net);
}

static lds_network *three(const char *first, const char *second, const char *third)
{
    lds_builder *b;
    lds_network *net;
    assert_int_equal(lds_builder_new(&b, LDS_F32, NULL), LDS_OK);
    const char *names[] = {first, second, third};
    for (size_t i = 0; i < 3; i++)
        if (names[i])
            lds_builder_add(b, names[i], LDS_DTYPE_NONE, SHAPE(300001), &random_rules[0]);
    assert_int_equal(lds_builder_finish(&net, b, NULL), LDS_OK);
    return net;
}

static void only_seed_and_name_matter(void **state)
{
    (void)state;
    lds_network *all = three("a", "b", "c"), *turned = three("c", "a", NULL), *other = three("a", NULL, NULL);
    assert_int_equal(lds_network_init(all, 42, NULL, NULL), LDS_OK);
    assert_int_equal(lds_network_init(turned, 42, NULL, NULL), LDS_OK);
    assert_int_equal(lds_network_init(other, 43, NULL, NULL), LDS_OK);
    size_t nbytes = 300001 * sizeof(float);
    const void *a = lds_param_data(lds_network_find(all, "a")),
               *c = lds_param_data(lds_network_find(all, "c"));
    assert_memory_equal(a, lds_param_data(lds_network_find(turned, "a")), nbytes);
    assert_memory_equal(c, lds_param_data(lds_network_find(turned, "c")), nbytes);
    assert_memory_not_equal(a, c, nbytes);
    assert_memory_not_equal(a, lds_param_data(lds_network_find(other, "a")), nbytes);
    lds_network_free(all);
    lds_network_free(turned);
    lds_network_free(other);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    enum { N = 1000003 };
    lds_network *net = one(LDS_F32, SHAPE(N), random_rules[0]);
    float *values = malloc(N * sizeof *values), *again = malloc(N * sizeof *again);
    const uint32_t threads[] = {1, 7};
    for (size_t i = 0; i < 2; i++) {
        lds_fill fill = {.param = lds_network_param(net, 0), .dtype = LDS_F32};
        const lds_storage to = {.data = i ? again : values};
        const lds_fill_how how = {.seed = 5, .n_threads = threads[i]};
        assert_int_equal(lds_fill_initial(&fill, 1, &to, &how, NULL), LDS_OK);
    }
    assert_memory_equal(values, again, N * sizeof *values);
    free(values);
    free(again);
    lds_network_free(net);
}

/* The values are pinned: who initialised a model once gets the same one again. */
static void values_are_pinned(void **state)
{
    (void)state;
    static const uint32_t expected[3][5] = {
        {0xc0978382, 0xbf2e1056, 0x403fcf16, 0x3f711490, 0xc0419e3b},
        {0xbf640128, 0x3f9210c6, 0x3f4a6118, 0xbf637714, 0xbe519450},
        {0xbf69534e, 0x3e7b0cca, 0x3d80dfed, 0xbf68e815, 0xbeed6e96},
    };
    for (size_t rule = 0; rule < 3; rule++) {
        lds_network *net = filled(LDS_F32, SHAPE(5), random_rules[rule]);
        uint32_t bits[5];
        memcpy(bits, data_of(net), sizeof bits);
        for (size_t i = 0; i < 5; i++) /* the last goes through libm, whose last bit is its own */
            assert_true(rule < 2 ? bits[i] == expected[rule][i] : bits[i] - expected[rule][i] + 1 <= 2);
        lds_network_free(net);
    }
}

static void rounding_is_the_only_difference_between_dtypes(void **state)
{
    (void)state;
    const lds_dtype dtypes[] = {LDS_F64,     LDS_F16,         LDS_BF16,       LDS_F8_E4M3,
                                LDS_F8_E5M2, LDS_F8_E4M3FNUZ, LDS_F8_E5M2FNUZ};
    lds_network *net = filled(LDS_F32, SHAPE(999), random_rules[0]);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        lds_network *other = filled(dtypes[i], SHAPE(999), random_rules[0]);
        uint8_t rounded[999 * 8];
        size_t nbytes = (size_t)lds_param_nbytes(lds_network_param(other, 0));
        assert_int_equal(lds_convert(rounded, dtypes[i], data_of(net), LDS_F32, 999, NULL), LDS_OK);
        assert_memory_equal(rounded, data_of(other), nbytes);
        lds_network_free(other);
    }
    lds_network_free(net);
}

/* ---------------------------------------- regular values ------------------------------------------------ */

static void assert_bytes(lds_dtype dtype, uint32_t n_dims, const uint64_t *shape, lds_init rule,
                         const void *expected, size_t nbytes)
{
    lds_network *net = filled(dtype, n_dims, shape, rule);
    assert_int_equal(lds_param_nbytes(lds_network_param(net, 0)), nbytes);
    assert_memory_equal(data_of(net), expected, nbytes);
    lds_network_free(net);
}

static void constants_have_every_dtype(void **state)
{
    (void)state;
    const lds_init zeros = {.kind = LDS_INIT_ZEROS}, ones = {.kind = LDS_INIT_ONES};
    const lds_init two = {.kind = LDS_INIT_CONSTANT, .a = 2}, minus = {.kind = LDS_INIT_CONSTANT, .a = -5};
    static const uint8_t none[32] = {0};
    for (int dtype = LDS_BOOL; dtype <= LDS_F4; dtype++)
        if (lds_dtype_name(dtype) && dtype != LDS_F8_E8M0)
            assert_bytes(dtype, SHAPE(4), zeros, none, lds_dtype_bits(dtype) / 2);
    assert_bytes(LDS_BOOL, SHAPE(3), ones, "\1\1\1", 3);
    assert_bytes(LDS_U8, SHAPE(3), two, "\2\2\2", 3);
    assert_bytes(LDS_I8, SHAPE(2), minus, "\xFB\xFB", 2);
    assert_bytes(LDS_I16, SHAPE(2), minus, "\xFB\xFF\xFB\xFF", 4);
    assert_bytes(LDS_U16, SHAPE(1), ones, "\1\0", 2);
    assert_bytes(LDS_I32, SHAPE(1), minus, "\xFB\xFF\xFF\xFF", 4);
    assert_bytes(LDS_U32, SHAPE(1), two, "\2\0\0\0", 4);
    assert_bytes(LDS_I64, SHAPE(1), minus, (const int64_t[]){-5}, 8);
    assert_bytes(LDS_U64, SHAPE(1), (lds_init){.kind = LDS_INIT_CONSTANT, .a = 0x1p63},
                 (const uint64_t[]){UINT64_C(1) << 63}, 8);
    assert_bytes(LDS_F16, SHAPE(1), ones, "\0\x3C", 2);
    assert_bytes(LDS_BF16, SHAPE(3), two, "\0\x40\0\x40\0\x40", 6);
    assert_bytes(LDS_F32, SHAPE(2), minus, (const float[]){-5, -5}, 8);
    assert_bytes(LDS_F64, 0, NULL, (lds_init){.kind = LDS_INIT_CONSTANT, .a = 0.1}, (const double[]){0.1}, 8);
    assert_bytes(LDS_C64, SHAPE(2), two, (const float[]){2, 0, 2, 0}, 16);
    assert_bytes(LDS_F8_E4M3, SHAPE(1), ones, "\x38", 1);
    assert_bytes(LDS_F8_E5M2, SHAPE(1), ones, "\x3C", 1);
    assert_bytes(LDS_F8_E4M3FNUZ, SHAPE(1), ones, "\x40", 1);
    assert_bytes(LDS_F8_E5M2FNUZ, SHAPE(1), ones, "\x40", 1);
    assert_bytes(LDS_F8_E8M0, SHAPE(2), ones, "\x7F\x7F", 2);
}

static void arange_counts_along_the_last_dimension(void **state)
{
    (void)state;
    const lds_init count = {.kind = LDS_INIT_ARANGE, .a = 3, .b = -2},
                   half = {.kind = LDS_INIT_ARANGE, .a = 0, .b = 0.5};
    assert_bytes(LDS_I64, SHAPE(2, 3), count, (const int64_t[]){3, 1, -1, 3, 1, -1}, 48);
    assert_bytes(LDS_I8, SHAPE(1, 3), count, (const int8_t[]){3, 1, -1}, 3);
    assert_bytes(LDS_F32, SHAPE(2, 2), half, (const float[]){0, 0.5, 0, 0.5}, 16);
    assert_bytes(LDS_F64, SHAPE(3), (lds_init){.kind = LDS_INIT_ARANGE, .a = 0.1, .b = 0.1},
                 (const double[]){0.1, 0.1 + 0.1, 0.1 + 0.1 * 2}, 24);
    assert_bytes(LDS_I32, 0, NULL, count, (const int32_t[]){3}, 4);
    assert_bytes(LDS_U8, SHAPE(0), (lds_init){.kind = LDS_INIT_ARANGE, .a = 200, .b = 100}, "", 0);
}

/* ------------------------------------- rules that do not fit -------------------------------------------- */

static void rules_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        lds_dtype dtype;
        lds_init init;
        uint32_t n_dims;
        const char *message;
    } cases[] = {
        {LDS_F32, {8, 0, 0, 0, 0}, 1, "init: expected a kind, found 8"},
        {LDS_F32,
         {LDS_INIT_NORMAL, 0, -1, 0, 0},
         1,
         "init: normal: expected a standard deviation b of at least 0, found -1"},
        {LDS_F32, {LDS_INIT_NORMAL, NAN, 1, 0, 0}, 1, "init: normal: expected a finite a, found nan"},
        {LDS_F32, {LDS_INIT_NORMAL, 0, 1e39, 0, 0}, 1, "init: normal: expected a finite b, found 1e+39"},
        {LDS_F32,
         {LDS_INIT_CONSTANT, INFINITY, 0, 0, 0},
         1,
         "init: constant: expected a finite a, found inf"},
        {LDS_F32,
         {LDS_INIT_UNIFORM, 0, 0, 2, 1},
         1,
         "init: uniform: expected lo to be at most hi, found 2 and 1"},
        {LDS_F32,
         {LDS_INIT_XAVIER_NORMAL, -1, 0, 0, 0},
         2,
         "init: xavier_normal: expected a gain a of at least 0, found -1"},
        {LDS_F32,
         {LDS_INIT_XAVIER_UNIFORM, 1, 0, 0, 0},
         1,
         "init: xavier_uniform: expected at least 2 dimensions, found 1"},
        {LDS_F32,
         {LDS_INIT_KAIMING_NORMAL, 0, 0, 0, 0},
         0,
         "init: kaiming_normal: expected at least 2 dimensions, found 0"},
        {LDS_I32,
         {LDS_INIT_NORMAL, 0, 1, 0, 0},
         1,
         "init: normal: expected a rule whose values I32 can have"},
        {LDS_C64,
         {LDS_INIT_UNIFORM, 0, 0, 0, 1},
         1,
         "init: uniform: expected a rule whose values C64 can have"},
        {LDS_BOOL,
         {LDS_INIT_CONSTANT, 2, 0, 0, 0},
         1,
         "init: constant: expected a rule whose values BOOL can have"},
        {LDS_BOOL,
         {LDS_INIT_ARANGE, 0, 1, 0, 0},
         1,
         "init: arange: expected a rule whose values BOOL can have"},
        {LDS_U8,
         {LDS_INIT_CONSTANT, -1, 0, 0, 0},
         1,
         "init: constant: expected a rule whose values U8 can have"},
        {LDS_U8,
         {LDS_INIT_CONSTANT, 0.5, 0, 0, 0},
         1,
         "init: constant: expected a rule whose values U8 can have"},
        {LDS_I8,
         {LDS_INIT_CONSTANT, 128, 0, 0, 0},
         1,
         "init: constant: expected a rule whose values I8 can have"},
        {LDS_I64,
         {LDS_INIT_CONSTANT, 0x1p63, 0, 0, 0},
         1,
         "init: constant: expected a rule whose values I64 can have"},
        {LDS_I8,
         {LDS_INIT_ARANGE, 126, 1, 0, 0},
         1,
         "init: arange: expected a rule whose values I8 can have"},
        {LDS_U16,
         {LDS_INIT_ARANGE, 1, -1, 0, 0},
         1,
         "init: arange: expected a rule whose values U16 can have"},
        {LDS_I64,
         {LDS_INIT_ARANGE, 0, 0x1p62, 0, 0},
         1,
         "init: arange: expected a rule whose values I64 can have"},
        {LDS_I64,
         {LDS_INIT_ARANGE, 0, 0x1p70, 0, 0},
         1,
         "init: arange: expected a rule whose values I64 can have"},
        {LDS_I64,
         {LDS_INIT_ARANGE, 0, 0.5, 0, 0},
         1,
         "init: arange: expected a rule whose values I64 can have"},
        {LDS_C64,
         {LDS_INIT_ARANGE, 0, 1, 0, 0},
         1,
         "init: arange: expected a rule whose values C64 can have"},
        {LDS_F8_E8M0,
         {LDS_INIT_ZEROS, 0, 0, 0, 0},
         1,
         "init: zeros: expected a rule whose values F8_E8M0 can have"},
        {LDS_F4, {LDS_INIT_ONES, 0, 0, 0, 0}, 1, "init: ones: expected a rule whose values F4 can have"},
        {LDS_F6_E2M3,
         {LDS_INIT_CONSTANT, 0, 0, 0, 0},
         1,
         "init: constant: expected a rule whose values F6_E2M3 can have"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lds_builder *b;
        lds_network *net;
        lds_error err = LDS_ERROR_INIT;
        const uint64_t shape[] = {4, 4};
        char message[256];
        snprintf(message, sizeof message, "w: %s", cases[i].message);
        assert_int_equal(lds_builder_new(&b, cases[i].dtype, NULL), LDS_OK);
        lds_builder_add(b, "w", LDS_DTYPE_NONE, cases[i].n_dims, shape, &cases[i].init);
        assert_int_equal(lds_builder_finish(&net, b, &err), LDS_ERR_ARGUMENT);
        assert_string_equal(err.message, message);
    }
}

static void numbers_that_a_kind_has_not_are_ignored(void **state)
{
    (void)state;
    lds_network *net = one(LDS_I8, SHAPE(2), (lds_init){LDS_INIT_ONES, NAN, INFINITY, 3, 2});
    lds_init init = lds_param_init(lds_network_param(net, 0));
    assert_true(init.kind == LDS_INIT_ONES && init.a == 0 && init.b == 0 && init.lo == 0 && init.hi == 0);
    lds_network_free(net);
}

static void what_has_no_rule_is_named_and_the_rest_initialised(void **state)
{
    (void)state;
    lds_builder *b;
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    const lds_init ones = {.kind = LDS_INIT_ONES};
    assert_int_equal(lds_builder_new(&b, LDS_F32, NULL), LDS_OK);
    lds_builder_add(b, "before", LDS_DTYPE_NONE, SHAPE(2), &ones);
    lds_builder_add(b, "bare", LDS_DTYPE_NONE, SHAPE(2), NULL);
    lds_builder_tie(b, "tied", "bare");
    lds_builder_add(b, "after", LDS_DTYPE_NONE, SHAPE(2), &ones);
    assert_int_equal(lds_builder_finish(&net, b, NULL), LDS_OK);
    assert_int_equal(lds_network_init(net, 0, NULL, &err), LDS_ERR_MISMATCH);
    assert_string_equal(err.message,
                        "bare: expected an init rule, found none: it has to come from a checkpoint");
    const float *after = lds_param_data(lds_network_find(net, "after"));
    assert_true(after && after[1] == 1);
    assert_null(lds_param_data(lds_network_find(net, "tied")));
    float mine[2] = {0};
    assert_int_equal(lds_param_bind(lds_network_find(net, "tied"), mine, sizeof mine, NULL, NULL, NULL),
                     LDS_OK);
    assert_int_equal(lds_network_init(net, 0, NULL, NULL), LDS_OK);
    assert_ptr_equal(lds_param_data(lds_network_find(net, "after")), after);
    lds_network_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_known_answers),
        cmocka_unit_test(values_have_their_distributions),
        cmocka_unit_test(tails_mirror_each_other),
        cmocka_unit_test(ranges_are_kept_even_where_floats_are_sparse),
        cmocka_unit_test(fans_make_the_bounds),
        cmocka_unit_test(cuts_do_not_matter),
        cmocka_unit_test(large_indices_count_whole),
        cmocka_unit_test(only_seed_and_name_matter),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(values_are_pinned),
        cmocka_unit_test(rounding_is_the_only_difference_between_dtypes),
        cmocka_unit_test(constants_have_every_dtype),
        cmocka_unit_test(arange_counts_along_the_last_dimension),
        cmocka_unit_test(rules_that_do_not_fit_are_refused),
        cmocka_unit_test(numbers_that_a_kind_has_not_are_ignored),
        cmocka_unit_test(what_has_no_rule_is_named_and_the_rest_initialised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
