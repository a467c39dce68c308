/*
 * CogVideoXTransformer3DModel of diffusers: the denoiser of the CogVideoX pipelines, text to video and image
 * to video, 1.0 and 1.5 (which has patches in time as well).
 *
 *     video latents -> patch_embed.proj --+-> transformer_blocks x n -> norm_final -> norm_out -> proj_out
 *     text states -> patch_embed.text_proj+          |
 *     timestep -> time_embedding (+ ofs_embedding) --+
 */
#include <stddef.h>

#include "src/network/layers.h"
#include "src/network/models/models.h"

typedef struct config {
    uint64_t num_attention_heads, attention_head_dim, num_layers;
    uint64_t in_channels, out_channels, patch_size, patch_size_t;
    uint64_t time_embed_dim, ofs_embed_dim, text_embed_dim, max_text_seq_length;
    uint64_t sample_width, sample_height, sample_frames, temporal_compression_ratio;
    uint64_t activation_fn, timestep_activation_fn;
    int attention_bias, patch_bias, norm_elementwise_affine;
    int use_rotary_positional_embeddings, use_learned_positional_embeddings;
    uint64_t inner_dim;
    lds_dtype position_dtype;
} config;

/* The first two halve what the projection makes: it is twice as wide. */
static const char *const activations[] = {
    "geglu", "swiglu", "gelu", "gelu-approximate", "geglu-approximate", "linear-silu", NULL};
enum { N_GATED_ACTIVATIONS = 2 };

static const char *const timestep_activations[] = {"silu", "swish", "mish", "gelu", "relu", NULL};

static const lds_config_field fields[] = {
    LDS_CONFIG_COUNT(config, num_attention_heads, 30, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, attention_head_dim, 64, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, num_layers, 30, 0, LDS_MAX_LAYERS),
    LDS_CONFIG_COUNT(config, in_channels, 16, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, out_channels, 16, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, patch_size, 2, 1, LDS_MAX_PATCH),
    LDS_CONFIG_OPTIONAL(config, patch_size_t, 1, LDS_MAX_PATCH),
    LDS_CONFIG_COUNT(config, time_embed_dim, 512, 1, LDS_MAX_DIM),
    LDS_CONFIG_OPTIONAL(config, ofs_embed_dim, 0, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, text_embed_dim, 4096, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, max_text_seq_length, 226, 0, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, sample_width, 90, 1, LDS_MAX_SAMPLE),
    LDS_CONFIG_COUNT(config, sample_height, 60, 1, LDS_MAX_SAMPLE),
    LDS_CONFIG_COUNT(config, sample_frames, 49, 1, LDS_MAX_SAMPLE),
    LDS_CONFIG_COUNT(config, temporal_compression_ratio, 4, 1, LDS_MAX_SAMPLE),
    LDS_CONFIG_CHOICE(config, activation_fn, "gelu-approximate", activations),
    LDS_CONFIG_CHOICE(config, timestep_activation_fn, "silu", timestep_activations),
    LDS_CONFIG_FLAG(config, attention_bias, true),
    LDS_CONFIG_FLAG(config, patch_bias, true),
    LDS_CONFIG_FLAG(config, norm_elementwise_affine, true),
    LDS_CONFIG_FLAG(config, use_rotary_positional_embeddings, false),
    LDS_CONFIG_FLAG(config, use_learned_positional_embeddings, false),
};

static const lds_config_table table = {
    .fields = fields,
    .n_fields = sizeof fields / sizeof *fields,
    .unused = {LDS_DIFFUSERS_UNUSED,
               "dropout flip_sin_to_cos freq_shift norm_eps spatial_interpolation_scale "
               "temporal_interpolation_scale"},
};

/* The table of learned positions: the text's first, then those of the patches. diffusers computes it in F64. */
static void position_embedding(lds_builder *b, const config *c)
{
    uint64_t frames = (c->sample_frames - 1) / c->temporal_compression_ratio + 1;
    uint64_t patches = (c->sample_height / c->patch_size) * (c->sample_width / c->patch_size) * frames;
    uint64_t shape[] = {1, c->max_text_seq_length + patches, c->inner_dim};
    lds_builder_add(b, "pos_embedding", c->position_dtype, 3, shape, NULL);
}

static void patch_embed(lds_builder *b, const config *c)
{
    lds_scope scope = lds_builder_enter(b, "patch_embed");
    if (c->use_learned_positional_embeddings)
        position_embedding(b, c);
    if (c->patch_size_t)
        lds_linear(b, "proj", c->in_channels * c->patch_size * c->patch_size * c->patch_size_t, c->inner_dim,
                   true);
    else
        lds_conv(b, "proj", 2, c->in_channels, c->inner_dim, c->patch_size, c->patch_bias);
    lds_linear(b, "text_proj", c->text_embed_dim, c->inner_dim, true);
    lds_builder_leave(b, scope);
}

static void timestep_embedding(lds_builder *b, const char *name, uint64_t in, uint64_t dim)
{
    lds_scope scope = lds_builder_enter(b, "%s", name);
    lds_linear(b, "linear_1", in, dim, true);
    lds_linear(b, "linear_2", dim, dim, true);
    lds_builder_leave(b, scope);
}

/* A norm with scale and shift from the timestep: n_outputs of them, for the video and for the text. */
static void adaptive_norm(lds_builder *b, const config *c, const char *name, uint64_t n_outputs)
{
    lds_scope scope = lds_builder_enter(b, "%s", name);
    lds_linear(b, "linear", c->time_embed_dim, n_outputs * c->inner_dim, true);
    lds_layer_norm(b, "norm", c->inner_dim, c->norm_elementwise_affine);
    lds_builder_leave(b, scope);
}

static void attention(lds_builder *b, const config *c)
{
    lds_scope scope = lds_builder_enter(b, "attn1");
    lds_layer_norm(b, "norm_q", c->attention_head_dim, true);
    lds_layer_norm(b, "norm_k", c->attention_head_dim, true);
    lds_linear(b, "to_q", c->inner_dim, c->inner_dim, c->attention_bias);
    lds_linear(b, "to_k", c->inner_dim, c->inner_dim, c->attention_bias);
    lds_linear(b, "to_v", c->inner_dim, c->inner_dim, c->attention_bias);
    lds_linear(b, "to_out.0", c->inner_dim, c->inner_dim, true);
    lds_builder_leave(b, scope);
}

static void feed_forward(lds_builder *b, const config *c)
{
    uint64_t hidden = 4 * c->inner_dim;
    uint64_t n_halves = c->activation_fn < N_GATED_ACTIVATIONS ? 2 : 1;
    lds_scope scope = lds_builder_enter(b, "ff.net");
    lds_linear(b, "0.proj", c->inner_dim, n_halves * hidden, true);
    lds_linear(b, "2", hidden, c->inner_dim, true);
    lds_builder_leave(b, scope);
}

static void block(lds_builder *b, const config *c, uint64_t i)
{
    lds_scope scope = lds_builder_enter(b, "transformer_blocks.%u", (unsigned)i);
    adaptive_norm(b, c, "norm1", 6);
    attention(b, c);
    adaptive_norm(b, c, "norm2", 6);
    feed_forward(b, c);
    lds_builder_leave(b, scope);
}

static void transformer(lds_builder *b, const config *c)
{
    patch_embed(b, c);
    timestep_embedding(b, "time_embedding", c->inner_dim, c->time_embed_dim);
    if (c->ofs_embed_dim)
        timestep_embedding(b, "ofs_embedding", c->ofs_embed_dim, c->ofs_embed_dim);
    for (uint64_t i = 0; i < c->num_layers; i++)
        block(b, c, i);
    lds_layer_norm(b, "norm_final", c->inner_dim, c->norm_elementwise_affine);
    adaptive_norm(b, c, "norm_out", 2);
    uint64_t patch_volume = c->patch_size * c->patch_size * (c->patch_size_t ? c->patch_size_t : 1);
    lds_linear(b, "proj_out", c->inner_dim, patch_volume * c->out_channels, true);
}

static lds_status describe(lds_builder *builder, const lds_config_source *source, lds_dtype asked,
                           lds_error *err)
{
    config c;
    LDS_TRY(lds_config_read(&c, &table, source, err));
    c.position_dtype = asked ? asked : LDS_F64;
    c.inner_dim = c.num_attention_heads * c.attention_head_dim;
    if (c.inner_dim > LDS_MAX_DIM)
        return lds_config_fail(err, source, "num_attention_heads * attention_head_dim",
                               "expected at most %d, found %llu", LDS_MAX_DIM,
                               (unsigned long long)c.inner_dim);
    if (c.use_learned_positional_embeddings && !c.use_rotary_positional_embeddings)
        return lds_config_fail(err, source, "use_learned_positional_embeddings",
                               "expected false without use_rotary_positional_embeddings, found true");
    transformer(builder, &c);
    return LDS_OK;
}

const lds_architecture lds_cogvideox_transformer = {
    .class_name = "CogVideoXTransformer3DModel",
    .describe = describe,
};
