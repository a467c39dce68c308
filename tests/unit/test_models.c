/*
 * Networks from configs, as far as C sees more than the comparison with the frameworks in
 * tests/python/test_models.py: init rules, patterns of ignored tensors, and running out of memory.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "src/base/regex.h"
#include "src/network/models/models.h"
#include "src/network/network.h"
#include "tests/unit/faults.h"

static const char transformer[] = "{\"_class_name\": \"CogVideoXTransformer3DModel\", \"num_layers\": 1,"
                                  " \"num_attention_heads\": 2, \"attention_head_dim\": 8,"
                                  " \"time_embed_dim\": 4, \"text_embed_dim\": 25, \"in_channels\": 9,"
                                  " \"use_rotary_positional_embeddings\": true,"
                                  " \"use_learned_positional_embeddings\": true}";
static const char vae[] = "{\"_class_name\": \"AutoencoderKLCogVideoX\", \"block_out_channels\": [4, 8],"
                          " \"down_block_types\": [\"CogVideoXDownBlock3D\", \"CogVideoXDownBlock3D\"],"
                          " \"up_block_types\": [\"CogVideoXUpBlock3D\", \"CogVideoXUpBlock3D\"],"
                          " \"norm_num_groups\": 2, \"layers_per_block\": 1}";
static const char t5[] = "{\"architectures\": [\"T5EncoderModel\"], \"model_type\": \"t5\", \"d_model\": 16,"
                         " \"d_kv\": 4, \"num_heads\": 9, \"d_ff\": 64, \"num_layers\": 1,"
                         " \"initializer_factor\": 2, \"feed_forward_proj\": \"gated-gelu\"}";

static lds_status from_text(lds_network **net, const char *text, lds_error *err)
{
    char copy[1024];
    lds_config_source source = {.path = "model/config.json", .text = copy, .nbytes = strlen(text)};
    assert_true(source.nbytes < sizeof copy);
    memcpy(copy, text, source.nbytes);
    lds_status status = lds_network_from_source(net, &source, LDS_BF16, err);
    assert_memory_equal(copy, text, source.nbytes);
    return status;
}

static lds_network *network(const char *text)
{
    lds_network *net;
    lds_error err = LDS_ERROR_INIT;
    if (from_text(&net, text, &err))
        fail_msg("%s", err.message);
    return net;
}

/* ------------------------------------------- initial values --------------------------------------------- */

typedef struct expected_init {
    const char *name;
    lds_init init;
} expected_init;

static void assert_inits(const char *text, const expected_init *expected, size_t n)
{
    lds_network *net = network(text);
    for (size_t i = 0; i < n; i++) {
        const lds_param *param = lds_network_find(net, expected[i].name);
        if (!param)
            fail_msg("no %s", expected[i].name);
        lds_init found = lds_param_init(param), wanted = expected[i].init;
        if (found.kind != wanted.kind || fabs(found.a - wanted.a) > 1e-12 ||
            fabs(found.b - wanted.b) > 1e-12 || fabs(found.lo - wanted.lo) > 1e-12 ||
            fabs(found.hi - wanted.hi) > 1e-12)
            fail_msg("%s: found kind %d, a %g, b %g, lo %g, hi %g", expected[i].name, (int)found.kind,
                     found.a, found.b, found.lo, found.hi);
    }
    lds_network_free(net);
}

#define KAIMING                                         \
    {                                                   \
        LDS_INIT_KAIMING_UNIFORM, .a = 2.23606797749979 \
    }
#define WITHIN(bound)                                   \
    {                                                   \
        LDS_INIT_UNIFORM, .lo = -(bound), .hi = (bound) \
    }
#define NORMAL(deviation)                 \
    {                                     \
        LDS_INIT_NORMAL, .b = (deviation) \
    }
#define ASSERT_INITS(text, ...)                              \
    assert_inits(text, (const expected_init[]){__VA_ARGS__}, \
                 sizeof((const expected_init[]){__VA_ARGS__}) / sizeof(expected_init))

static void layers_start_as_torch_has_them(void **state)
{
    (void)state;
    ASSERT_INITS(transformer, {"patch_embed.pos_embedding", {.kind = LDS_INIT_NONE}},
                 {"patch_embed.proj.weight", KAIMING}, {"patch_embed.proj.bias", WITHIN(1. / 6)},
                 {"patch_embed.text_proj.weight", KAIMING}, {"patch_embed.text_proj.bias", WITHIN(1. / 5)},
                 {"norm_final.weight", {.kind = LDS_INIT_ONES}},
                 {"norm_final.bias", {.kind = LDS_INIT_ZEROS}},
                 {"transformer_blocks.0.attn1.to_out.0.bias", WITHIN(1. / 4)});
    ASSERT_INITS(vae, {"encoder.conv_in.conv.weight", KAIMING}, {"encoder.conv_in.conv.bias", WITHIN(1. / 9)},
                 {"encoder.norm_out.weight", {.kind = LDS_INIT_ONES}},
                 {"decoder.norm_out.norm_layer.bias", {.kind = LDS_INIT_ZEROS}},
                 {"decoder.norm_out.conv_y.conv.bias", WITHIN(1. / 4)},
                 {"encoder.down_blocks.0.downsamplers.0.conv.bias", WITHIN(1. / 6)});
}

static void t5_starts_as_transformers_has_it(void **state)
{
    (void)state;
    ASSERT_INITS(t5, {"shared.weight", NORMAL(2)},
                 {"encoder.block.0.layer.0.SelfAttention.q.weight", NORMAL(2. / 8)},
                 {"encoder.block.0.layer.0.SelfAttention.k.weight", NORMAL(2. / 4)},
                 {"encoder.block.0.layer.0.SelfAttention.v.weight", NORMAL(2. / 4)},
                 {"encoder.block.0.layer.0.SelfAttention.o.weight", NORMAL(2. / 6)},
                 {"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", NORMAL(2. / 4)},
                 {"encoder.block.0.layer.1.DenseReluDense.wi_0.weight", NORMAL(2. / 4)},
                 {"encoder.block.0.layer.1.DenseReluDense.wi_1.weight", NORMAL(2. / 4)},
                 {"encoder.block.0.layer.1.DenseReluDense.wo.weight", NORMAL(2. / 8)},
                 {"encoder.final_layer_norm.weight", {.kind = LDS_INIT_CONSTANT, .a = 2}});
}

/* --------------------------------------------- the network ---------------------------------------------- */

static bool is_ignored(const lds_network *net, const char *name)
{
    bool is_found = false;
    for (const char *const *pattern = net->ignored; pattern && *pattern && !is_found; pattern++) {
        lds_regex *regex;
        lds_regex_scratch scratch = {0};
        assert_int_equal(lds_regex_compile(&regex, *pattern, NULL), LDS_OK);
        assert_int_equal(lds_regex_match(regex, &scratch, name, strlen(name), 0, 0, &is_found, NULL), LDS_OK);
        lds_regex_scratch_destroy(&scratch);
        lds_regex_free(regex);
    }
    return is_found;
}

static void encoder_passes_over_the_decoder(void **state)
{
    (void)state;
    lds_network *net = network(t5);
    assert_true(is_ignored(net, "decoder.block.0.layer.0.SelfAttention.q.weight"));
    assert_true(is_ignored(net, "lm_head.weight"));
    assert_false(is_ignored(net, "encoder.block.0.layer.0.SelfAttention.q.weight"));
    assert_false(is_ignored(net, "shared.weight"));
    assert_string_equal(lds_network_architecture(net), "T5EncoderModel");
    lds_network_free(net);

    net = network(vae);
    assert_false(is_ignored(net, "decoder.conv_in.conv.weight"));
    lds_network_free(net);
}

static void embedding_is_one_parameter_of_two_names(void **state)
{
    (void)state;
    lds_network *net = network(t5);
    const lds_param *tied = lds_network_find(net, "encoder.embed_tokens.weight");
    assert_ptr_equal(lds_param_tied_to(tied), lds_network_find(net, "shared.weight"));
    assert_int_equal(lds_param_shape(tied)[0], 32128);
    lds_network_free(net);
}

static void nothing_has_storage(void **state)
{
    (void)state;
    lds_network *net = network(transformer);
    for (size_t i = 0; i < lds_network_n_params(net); i++)
        assert_null(lds_param_data(lds_network_param(net, i)));
    lds_network_free(net);
}

static void error_may_be_left_out(void **state)
{
    (void)state;
    lds_network *net = (lds_network *)state;
    assert_int_equal(from_text(&net, "{\"_class_name\": \"UNet2DModel\"}", NULL), LDS_ERR_ARCHITECTURE);
    assert_null(net);
    assert_int_equal(from_text(&net, "{\"_class_name\": 5}", NULL), LDS_ERR_ARCHITECTURE);
    assert_int_equal(from_text(&net, "[1, 2]", NULL), LDS_ERR_MALFORMED);
    assert_int_equal(from_text(&net, "{\"_class_name\": \"AutoencoderKLCogVideoX\", \"x\": 1}", NULL),
                     LDS_ERR_UNSUPPORTED);
    assert_int_equal(
        from_text(&net, "{\"_class_name\": \"AutoencoderKLCogVideoX\", \"latents_mean\": [1,}", NULL),
        LDS_ERR_MALFORMED);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *const configs[] = {transformer, vae, t5};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++)
        for (uint64_t n = 1;; n++) {
            lds_network *net = (lds_network *)state;
            lds_error err = LDS_ERROR_INIT;
            faults_arm(n);
            lds_status status = from_text(&net, configs[i], &err);
            bool has_failed = faults_disarm();
            assert_int_equal(status, has_failed ? LDS_ERR_MEMORY : LDS_OK);
            if (!has_failed) {
                assert_true(n > 5);
                lds_network_free(net);
                break;
            }
            assert_null(net);
            assert_non_null(strstr(err.message, "out of memory"));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_start_as_torch_has_them),
        cmocka_unit_test(t5_starts_as_transformers_has_it),
        cmocka_unit_test(encoder_passes_over_the_decoder),
        cmocka_unit_test(embedding_is_one_parameter_of_two_names),
        cmocka_unit_test(nothing_has_storage),
        cmocka_unit_test(error_may_be_left_out),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
