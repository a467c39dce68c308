/*
 * A network of what a key map makes of a checkpoint: the one that fits it. It is made here and not beside
 * lds_network_from_checkpoint(), because networks know nothing of key maps.
 */
#include "src/checkpoint/checkpoint.h"
#include "src/dtype/dtype.h"
#include "src/network/builder.h"
#include "src/plan/keymap.h"

typedef struct mapping {
    const lds_checkpoint *checkpoint;
    const lds_keymap *keymap;
    lds_keymap_scratch scratch;
    lds_builder *builder;
    lds_dtype dtype; /* of the floats, or LDS_DTYPE_NONE */
} mapping;

static lds_status apply(mapping *m, lds_mapped *mapped, const lds_tensor *t, lds_error *err)
{
    return lds_keymap_apply(m->keymap, &m->scratch, t->name, t->n_dims, t->shape, mapped, err);
}

/* Which tensor led to a name before is not kept: for the message it is found again. */
static lds_status fail_taken(mapping *m, const lds_tensor *second, lds_name taken, lds_error *err)
{
    lds_mapped mapped;
    for (const lds_tensor *t = m->checkpoint->tensors; t < second; t++) {
        LDS_TRY(apply(m, &mapped, t, err));
        if (!mapped.dropped && mapped.name_nbytes == taken.nbytes &&
            !memcmp(mapped.name, taken.text, taken.nbytes))
            return lds_fail(err, LDS_ERR_NAME, "leads to parameter %s, and so does tensor %s", taken.text,
                            t->name.text);
    }
    return LDS_ERR_NAME;
}

static lds_status add_tensor(mapping *m, const lds_tensor *t, lds_error *err)
{
    lds_mapped mapped;
    LDS_TRY(apply(m, &mapped, t, err));
    if (mapped.dropped)
        return LDS_OK;
    lds_name name = lds_name_of(mapped.name, mapped.name_nbytes);
    const lds_param *taken = lds_builder_find(m->builder, name);
    if (taken)
        return fail_taken(m, t, taken->name, err);
    lds_dtype dtype = m->dtype && lds_dtype_is_float(t->dtype) ? m->dtype : (lds_dtype)t->dtype;
    uint32_t n_dims = mapped.changed_shape ? mapped.n_dims : t->n_dims;
    const uint64_t *shape = mapped.changed_shape ? mapped.shape : t->shape;
    return lds_builder_insert(m->builder, name, dtype, n_dims, shape, NULL, err);
}

static lds_status add_tensors(mapping *m, lds_error *err)
{
    for (size_t i = 0; i < m->checkpoint->names.n; i++) {
        const lds_tensor *t = &m->checkpoint->tensors[i];
        lds_status status = add_tensor(m, t, err);
        if (status == LDS_ERR_MEMORY)
            return status;
        if (status)
            return lds_error_context(err, status, m->checkpoint->files[t->file].path, t->name.text);
    }
    return LDS_OK;
}

lds_status lds_network_from_keymap(lds_network **network, const lds_checkpoint *checkpoint,
                                   const lds_keymap *keymap, lds_dtype dtype, lds_error *err)
{
    *network = NULL;
    LDS_TRY(lds_network_check_source(checkpoint, dtype, err));
    mapping m = {.checkpoint = checkpoint, .keymap = keymap, .dtype = dtype};
    LDS_TRY(lds_builder_new(&m.builder, LDS_F32, err));
    lds_status status = add_tensors(&m, err);
    lds_keymap_scratch_destroy(&m.scratch);
    if (!status)
        return lds_builder_finish(network, m.builder, err);
    lds_builder_free(m.builder);
    return status;
}
