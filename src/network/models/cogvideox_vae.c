/*
 * AutoencoderKLCogVideoX of diffusers: the causal 3D autoencoder of the CogVideoX pipelines.
 *
 *     video -> encoder: conv_in -> down_blocks -> mid_block -> norm_out -> conv_out -> (quant_conv) -> latents
 *     latents -> (post_quant_conv) -> decoder: conv_in -> mid_block -> up_blocks -> norm_out -> conv_out -> video
 *
 * The decoder's norms are spatial ones: they take scale and shift from the latents.
 */
#include <stddef.h>

#include "src/network/layers.h"
#include "src/network/models/models.h"

typedef struct config {
    uint64_t in_channels, out_channels, latent_channels, layers_per_block, norm_num_groups;
    uint64_t act_fn;
    lds_config_list down_block_types, up_block_types, block_out_channels;
    int use_quant_conv, use_post_quant_conv;
} config;

static const char *const activations[] = {"silu", "swish", "mish", "gelu", "relu", NULL};
static const char *const down_blocks[] = {"CogVideoXDownBlock3D", NULL};
static const char *const up_blocks[] = {"CogVideoXUpBlock3D", NULL};

static const lds_config_field fields[] = {
    LDS_CONFIG_COUNT(config, in_channels, 3, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, out_channels, 3, 1, LDS_MAX_DIM),
    LDS_CONFIG_CHOICES(config, down_block_types, down_blocks, {.n = 4}),
    LDS_CONFIG_CHOICES(config, up_block_types, up_blocks, {.n = 4}),
    LDS_CONFIG_COUNTS(config, block_out_channels, 1, LDS_MAX_DIM, {4, {128, 256, 256, 512}}),
    LDS_CONFIG_COUNT(config, latent_channels, 16, 1, LDS_MAX_DIM),
    LDS_CONFIG_COUNT(config, layers_per_block, 3, 0, 256),
    LDS_CONFIG_CHOICE(config, act_fn, "silu", activations),
    LDS_CONFIG_COUNT(config, norm_num_groups, 32, 1, LDS_MAX_DIM),
    LDS_CONFIG_FLAG(config, use_quant_conv, false),
    LDS_CONFIG_FLAG(config, use_post_quant_conv, false),
};

static const lds_config_table table = {
    .fields = fields,
    .n_fields = sizeof fields / sizeof *fields,
    .unused = {LDS_DIFFUSERS_UNUSED,
               "norm_eps temporal_compression_ratio sample_height sample_width sample_size "
               "scaling_factor shift_factor latents_mean latents_std force_upcast "
               "invert_scale_latents"},
};

/* A causal convolution is a module around the convolution itself. */
static void causal_conv(lds_builder *b, const char *name, uint64_t in, uint64_t out, uint64_t kernel)
{
    lds_scope scope = lds_builder_enter(b, "%s", name);
    lds_conv(b, "conv", 3, in, out, kernel, true);
    lds_builder_leave(b, scope);
}

/* A group norm, or a spatial one if there are latent channels for it to look at. */
static void norm(lds_builder *b, const char *name, uint64_t n_channels, uint64_t latent_channels)
{
    if (!latent_channels) {
        lds_group_norm(b, name, n_channels);
        return;
    }
    lds_scope scope = lds_builder_enter(b, "%s", name);
    lds_group_norm(b, "norm_layer", n_channels);
    causal_conv(b, "conv_y", latent_channels, n_channels, 1);
    causal_conv(b, "conv_b", latent_channels, n_channels, 1);
    lds_builder_leave(b, scope);
}

static void resnets(lds_builder *b, uint64_t n, uint64_t in, uint64_t out, uint64_t latent_channels)
{
    for (uint64_t i = 0; i < n; i++, in = out) {
        lds_scope scope = lds_builder_enter(b, "resnets.%u", (unsigned)i);
        norm(b, "norm1", in, latent_channels);
        norm(b, "norm2", out, latent_channels);
        causal_conv(b, "conv1", in, out, 3);
        causal_conv(b, "conv2", out, out, 3);
        if (in != out)
            lds_conv(b, "conv_shortcut", 3, in, out, 1, true);
        lds_builder_leave(b, scope);
    }
}

static void mid_block(lds_builder *b, uint64_t n_channels, uint64_t latent_channels)
{
    lds_scope scope = lds_builder_enter(b, "mid_block");
    resnets(b, 2, n_channels, n_channels, latent_channels);
    lds_builder_leave(b, scope);
}

static void encoder(lds_builder *b, const config *c)
{
    const lds_config_list *channels = &c->block_out_channels;
    uint64_t n = channels->at[0], last = channels->at[channels->n - 1];
    lds_scope scope = lds_builder_enter(b, "encoder");
    causal_conv(b, "conv_in", c->in_channels, n, 3);
    for (uint64_t i = 0; i < c->down_block_types.n; n = channels->at[i++]) {
        lds_scope block = lds_builder_enter(b, "down_blocks.%u", (unsigned)i);
        resnets(b, c->layers_per_block, n, channels->at[i], 0);
        if (i + 1 < channels->n)
            lds_conv(b, "downsamplers.0.conv", 2, channels->at[i], channels->at[i], 3, true);
        lds_builder_leave(b, block);
    }
    mid_block(b, last, 0);
    lds_group_norm(b, "norm_out", last);
    causal_conv(b, "conv_out", last, 2 * c->latent_channels, 3);
    lds_builder_leave(b, scope);
}

static void decoder(lds_builder *b, const config *c)
{
    const lds_config_list *channels = &c->block_out_channels;
    uint64_t n = channels->at[channels->n - 1], last = channels->at[0];
    lds_scope scope = lds_builder_enter(b, "decoder");
    causal_conv(b, "conv_in", c->latent_channels, n, 3);
    mid_block(b, n, c->latent_channels);
    for (uint64_t i = 0; i < c->up_block_types.n; i++) {
        uint64_t out = channels->at[channels->n - 1 - i];
        lds_scope block = lds_builder_enter(b, "up_blocks.%u", (unsigned)i);
        resnets(b, c->layers_per_block + 1, n, out, c->latent_channels);
        if (i + 1 < channels->n)
            lds_conv(b, "upsamplers.0.conv", 2, out, out, 3, true);
        lds_builder_leave(b, block);
        n = out;
    }
    norm(b, "norm_out", last, c->latent_channels);
    causal_conv(b, "conv_out", last, c->out_channels, 3);
    lds_builder_leave(b, scope);
}

static void autoencoder(lds_builder *b, const config *c)
{
    encoder(b, c);
    decoder(b, c);
    if (c->use_quant_conv)
        lds_conv(b, "quant_conv", 3, 2 * c->out_channels, 2 * c->out_channels, 1, true);
    if (c->use_post_quant_conv)
        lds_conv(b, "post_quant_conv", 3, c->out_channels, c->out_channels, 1, true);
}

static lds_status check_blocks(const config *c, const lds_config_source *source, lds_error *err)
{
    const lds_config_list *channels = &c->block_out_channels;
    uint64_t n_blocks =
        c->down_block_types.n > c->up_block_types.n ? c->down_block_types.n : c->up_block_types.n;
    if (!channels->n || channels->n < n_blocks)
        return lds_config_fail(err, source, "block_out_channels",
                               "expected an entry for each block, found %u", (unsigned)channels->n);
    for (uint64_t i = 0; i < channels->n; i++)
        if (channels->at[i] % c->norm_num_groups)
            return lds_config_fail(err, source, "block_out_channels",
                                   "expected multiples of norm_num_groups, which is %u, found %u",
                                   (unsigned)c->norm_num_groups, (unsigned)channels->at[i]);
    return LDS_OK;
}

static lds_status describe(lds_builder *builder, const lds_config_source *source, lds_dtype asked,
                           lds_error *err)
{
    (void)asked;
    config c;
    LDS_TRY(lds_config_read(&c, &table, source, err));
    LDS_TRY(check_blocks(&c, source, err));
    autoencoder(builder, &c);
    return LDS_OK;
}

const lds_architecture lds_cogvideox_vae = {
    .class_name = "AutoencoderKLCogVideoX",
    .describe = describe,
};
