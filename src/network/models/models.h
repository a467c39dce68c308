/* The architectures that a network can be built of from a config: one file for each family. */
#ifndef LDS_NETWORK_MODELS_MODELS_H
#define LDS_NETWORK_MODELS_MODELS_H

#include "src/network/config.h"

typedef struct lds_architecture {
    const char *class_name;
    const char *model_type; /* what a transformers config must say; NULL for a diffusers class */
    /* NULL, or lists that end in NULL: */
    const char *const *ignored_tensors; /* PCRE2 patterns of tensors that are not unexpected */
    const char *const *keep_f32_in_f16; /* modules that stay in F32 where the network's dtype is F16 */
    /*
     * Read the config, then add the parameters in the order of the class's state_dict(). The builder's dtype is
     * the one asked for, or F32; asked is LDS_DTYPE_NONE if none was, for what the class then makes otherwise.
     */
    lds_status (*describe)(lds_builder *builder, const lds_config_source *source, lds_dtype asked,
                           lds_error *err);
} lds_architecture;

extern const lds_architecture lds_cogvideox_transformer;
extern const lds_architecture lds_cogvideox_vae;
extern const lds_architecture lds_t5_encoder;
extern const lds_architecture lds_t5_model;
extern const lds_architecture lds_t5_generation;

/* Fields that every diffusers config may have; none matters for the parameters. */
#define LDS_DIFFUSERS_UNUSED "_class_name _diffusers_version _name_or_path _commit_hash"

/* What transformers' PretrainedConfig takes for the run time, tokenizers, heads and generation. */
#define LDS_TRANSFORMERS_UNUSED                                                                      \
    "architectures model_type transformers_version _name_or_path name_or_path _commit_hash "         \
    "_attn_implementation _attn_implementation_autoset attn_implementation dtype torch_dtype "       \
    "use_bfloat16 tf_legacy_loss gradient_checkpointing output_attentions output_hidden_states "     \
    "return_dict use_cache chunk_size_feed_forward finetuning_task problem_type id2label label2id "  \
    "num_labels task_specific_params tokenizer_class prefix bos_token_id pad_token_id eos_token_id " \
    "sep_token_id decoder_start_token_id max_length min_length do_sample early_stopping num_beams "  \
    "temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size "      \
    "encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores "                 \
    "return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values "         \
    "exponential_decay_length_penalty suppress_tokens begin_suppress_tokens num_beam_groups "        \
    "diversity_penalty"

/*
 * Bounds of what configs may ask for. They are far above any model, and low enough that no product of the
 * dimensions of one parameter overflows.
 */
enum {
    LDS_MAX_LAYERS = 4096,
    LDS_MAX_DIM = 1 << 20,
    LDS_MAX_PATCH = 64,
    LDS_MAX_SAMPLE = 8192,
    LDS_MAX_VOCABULARY = 1 << 30
};

/*
 * The network of a config; what lds_network_from_config does once it has read the file. The source's text is
 * left as it was.
 */
lds_status lds_network_from_source(lds_network **network, const lds_config_source *source, lds_dtype dtype,
                                   lds_error *err);

#endif
