/*
 * T5 of transformers (T5, T5 v1.1 and Flan-T5; the multilingual UMT5 is a class of its own): T5EncoderModel,
 * which is the text encoder of CogVideoX and many other pipelines, and the whole model with and without the
 * head that predicts tokens.
 *
 *     shared -+-> encoder: block x n -> final_layer_norm
 *             +-> decoder: block x n -> final_layer_norm -> lm_head
 *
 * The embedding has a name in each stack, too. The "wo" projections overflow in F16, and stay in F32 there. The
 * encoder alone loads from a checkpoint of the whole: what belongs to decoder and head is passed over.
 */
#include <math.h>
#include <stddef.h>

#include "src/network/layers.h"
#include "src/network/models/models.h"

typedef struct config {
    uint64_t vocab_size, d_model, d_kv, d_ff, num_heads;
    uint64_t num_layers, num_decoder_layers; /* none: as many as in the encoder */
    uint64_t relative_attention_num_buckets;
    uint64_t feed_forward_proj, dense_act_fn;
    int is_gated_act; /* -1: as feed_forward_proj says */
    int tie_word_embeddings;
    double initializer_factor;
} config;

/* The activations that have no parameters of their own. */
#define ACTIVATIONS(prefix)                                                                              \
    prefix "gelu", prefix "gelu_10", prefix "gelu_fast", prefix "gelu_new", prefix "gelu_python",        \
        prefix "gelu_pytorch_tanh", prefix "gelu_python_tanh", prefix "gelu_accurate", prefix "laplace", \
        prefix "leaky_relu", prefix "linear", prefix "mish", prefix "quick_gelu", prefix "relu",         \
        prefix "relu2", prefix "relu6", prefix "sigmoid", prefix "silu", prefix "swish", prefix "tanh"

static const char *const activations[] = {ACTIVATIONS(""), NULL};
static const char *const feed_forwards[] = {ACTIVATIONS(""), ACTIVATIONS("gated-"), NULL};
enum { FIRST_GATED = sizeof activations / sizeof *activations - 1 };

static const lds_config_field fields[] = {
    LDS_CONFIG_COUNT(config, vocab_size, 32128, 1, LDS_MAX_VOCABULARY),
    LDS_CONFIG_COUNT(config, d_model, 512, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, d_kv, 64, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, d_ff, 2048, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, num_heads, 8, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, num_layers, 6, 1, LDS_MAX_LAYERS),
    LDS_CONFIG_OPTIONAL(config, num_decoder_layers, 1, LDS_MAX_LAYERS),
    LDS_CONFIG_COUNT(config, relative_attention_num_buckets, 32, 1, LDS_MAX_DIM),
    LDS_CONFIG_CHOICE(config, feed_forward_proj, "relu", feed_forwards),
    LDS_CONFIG_CHOICE(config, dense_act_fn, "relu", activations),
    LDS_CONFIG_FLAG(config, is_gated_act, -1),
    LDS_CONFIG_FLAG(config, tie_word_embeddings, true),
    LDS_CONFIG_NUMBER(config, initializer_factor, 1, 1000),
    LDS_CONFIG_ABSENT("is_decoder"),
    LDS_CONFIG_ABSENT("pruned_heads"),
    LDS_CONFIG_ABSENT("tie_encoder_decoder"),
    LDS_CONFIG_ABSENT("torchscript"), /* which unties the head */
};

static const lds_config_table table = {
    .fields = fields,
    .n_fields = sizeof fields / sizeof *fields,
    .unused = {LDS_TRANSFORMERS_UNUSED,
               "relative_attention_max_distance dropout_rate classifier_dropout layer_norm_epsilon "
               "layer_norm_eps n_positions output_past is_encoder_decoder add_cross_attention "
               "cross_attention_hidden_size"},
};

/* Standard deviation for weights whose inputs number fan_in, times the config's factor. */
static double deviation(const config *c, double fan_in)
{
    return c->initializer_factor / sqrt(fan_in);
}

static void attention(lds_builder *b, const config *c, const char *name, bool has_position_bias)
{
    uint64_t inner = c->num_heads * c->d_kv;
    double d_model = (double)c->d_model;
    lds_scope scope = lds_builder_enter(b, "%s", name);
    lds_linear_normal(b, "q", c->d_model, inner, deviation(c, d_model * (double)c->d_kv));
    lds_linear_normal(b, "k", c->d_model, inner, deviation(c, d_model));
    lds_linear_normal(b, "v", c->d_model, inner, deviation(c, d_model));
    lds_linear_normal(b, "o", inner, c->d_model, deviation(c, (double)inner));
    if (has_position_bias)
        lds_embedding(b, "relative_attention_bias", c->relative_attention_num_buckets, c->num_heads,
                      deviation(c, d_model));
    lds_builder_leave(b, scope);
}

static void feed_forward(lds_builder *b, const config *c)
{
    double d_model = (double)c->d_model, d_ff = (double)c->d_ff;
    lds_scope scope = lds_builder_enter(b, "DenseReluDense");
    if (c->is_gated_act) {
        lds_linear_normal(b, "wi_0", c->d_model, c->d_ff, deviation(c, d_model));
        lds_linear_normal(b, "wi_1", c->d_model, c->d_ff, deviation(c, d_model));
    } else {
        lds_linear_normal(b, "wi", c->d_model, c->d_ff, deviation(c, d_model));
    }
    lds_linear_normal(b, "wo", c->d_ff, c->d_model, deviation(c, d_ff));
    lds_builder_leave(b, scope);
}

static void norm(lds_builder *b, const config *c, const char *name)
{
    lds_rms_norm(b, name, c->d_model, c->initializer_factor);
}

/* Only the first block of a stack has the position bias; the others are given what it computes. */
static void block(lds_builder *b, const config *c, uint64_t i, bool is_decoder)
{
    lds_scope scope = lds_builder_enter(b, "block.%u.layer", (unsigned)i);

    lds_scope layer = lds_builder_enter(b, "0");
    attention(b, c, "SelfAttention", i == 0);
    norm(b, c, "layer_norm");
    lds_builder_leave(b, layer);

    if (is_decoder) {
        layer = lds_builder_enter(b, "1");
        attention(b, c, "EncDecAttention", false);
        norm(b, c, "layer_norm");
        lds_builder_leave(b, layer);
    }

    lds_builder_enter(b, is_decoder ? "2" : "1");
    feed_forward(b, c);
    norm(b, c, "layer_norm");
    lds_builder_leave(b, scope);
}

static void stack(lds_builder *b, const config *c, const char *name, uint64_t n_layers, bool is_decoder)
{
    lds_scope scope = lds_builder_enter(b, "%s", name);
    lds_builder_tie(b, "embed_tokens.weight", "shared.weight");
    for (uint64_t i = 0; i < n_layers; i++)
        block(b, c, i, is_decoder);
    norm(b, c, "final_layer_norm");
    lds_builder_leave(b, scope);
}

static void encoder_model(lds_builder *b, const config *c)
{
    lds_embedding(b, "shared", c->vocab_size, c->d_model, c->initializer_factor);
    stack(b, c, "encoder", c->num_layers, false);
}

static void whole_model(lds_builder *b, const config *c)
{
    encoder_model(b, c);
    stack(b, c, "decoder", c->num_decoder_layers ? c->num_decoder_layers : c->num_layers, true);
}

static void generation_model(lds_builder *b, const config *c)
{
    whole_model(b, c);
    if (c->tie_word_embeddings)
        lds_builder_tie(b, "lm_head.weight", "shared.weight");
    else
        lds_linear_normal(b, "lm_head", c->d_model, c->vocab_size, c->initializer_factor);
}

static lds_status describe(lds_builder *builder, const lds_config_source *source,
                           void (*model)(lds_builder *b, const config *c), lds_error *err)
{
    config c;
    LDS_TRY(lds_config_read(&c, &table, source, err));
    if (c.is_gated_act < 0)
        c.is_gated_act = c.feed_forward_proj >= FIRST_GATED;
    model(builder, &c);
    return LDS_OK;
}

static lds_status describe_encoder(lds_builder *builder, const lds_config_source *source, lds_dtype asked,
                                   lds_error *err)
{
    (void)asked;
    return describe(builder, source, encoder_model, err);
}

static lds_status describe_whole(lds_builder *builder, const lds_config_source *source, lds_dtype asked,
                                 lds_error *err)
{
    (void)asked;
    return describe(builder, source, whole_model, err);
}

static lds_status describe_generation(lds_builder *builder, const lds_config_source *source, lds_dtype asked,
                                      lds_error *err)
{
    (void)asked;
    return describe(builder, source, generation_model, err);
}

/* What checkpoints of the whole have besides; the bias of the first T5s was never used. */
#define UNUSED_BIAS "^decoder\\.block\\.0\\.layer\\.1\\.EncDecAttention\\.relative_attention_bias\\.weight$"
static const char *const not_encoder[] = {"decoder", "^lm_head\\.", NULL};
static const char *const not_model[] = {UNUSED_BIAS, "^lm_head\\.", NULL};
static const char *const not_generation[] = {UNUSED_BIAS, NULL};

static const char *const kept_f32[] = {"wo", NULL};

const lds_architecture lds_t5_encoder = {
    .class_name = "T5EncoderModel",
    .model_type = "t5",
    .ignored_tensors = not_encoder,
    .keep_f32_in_f16 = kept_f32,
    .describe = describe_encoder,
};

const lds_architecture lds_t5_model = {
    .class_name = "T5Model",
    .model_type = "t5",
    .ignored_tensors = not_model,
    .keep_f32_in_f16 = kept_f32,
    .describe = describe_whole,
};

const lds_architecture lds_t5_generation = {
    .class_name = "T5ForConditionalGeneration",
    .model_type = "t5",
    .ignored_tensors = not_generation,
    .keep_f32_in_f16 = kept_f32,
    .describe = describe_generation,
};
