/*
 * Networks from JSON manifests (docs/manifest.md). The fields of a parameter may come in any order, so one
 * object is read whole before anything is made of it; nothing else is kept. All memory is in proportion to the
 * manifest's size: it names every parameter, and spells every dimension out.
 */
#include <stdio.h>

#include "src/base/json.h"
#include "src/dtype/dtype.h"
#include "src/network/builder.h"
#include "src/network/init.h"

enum field { NAME, DTYPE, SHAPE, INIT, TIED_TO, N_FIELDS };

static const char *const field_names[N_FIELDS] = {"name", "dtype", "shape", "init", "tied_to"};

/* One parameter, as far as it has been read. */
typedef struct entry {
    size_t offset;                 /* of its object */
    size_t field_offset[N_FIELDS]; /* of the values */
    bool has[N_FIELDS];
    lds_name name, tied_to; /* tied_to.text is NULL for null */
    lds_dtype dtype;
    uint32_t n_dims; /* the values are in manifest.shape */
    lds_init init;
} entry;

typedef struct manifest {
    lds_json json;
    lds_builder *builder;
    lds_error *err; /* never NULL */
    bool in_entry;
    size_t n_entries; /* before this one */
    entry entry;
    uint64_t shape[LDS_MAX_DIMS];
} manifest;

/* LDS_ERR_MALFORMED at the token just returned, about a field, or about the whole entry if that is "". */
static lds_status expected(manifest *m, lds_json_token token, const char *field, const char *what)
{
    lds_status status = lds_json_refuse(&m->json, LDS_ERR_MALFORMED, token, what);
    bool is_syntax = token == LDS_JSON_ERROR;
    return is_syntax || !*field ? status : lds_error_context(m->err, status, NULL, field);
}

static lds_status read_name(manifest *m, lds_name *name, const char *field, lds_json_token token)
{
    if (token != LDS_JSON_STRING)
        return expected(m, token, field, "a string");
    if (!lds_json_is_c_string(&m->json) || m->json.nbytes > INT32_MAX)
        return expected(m, token, field, "a name without NUL characters");
    *name = lds_name_of(m->json.text, m->json.nbytes);
    return LDS_OK;
}

static lds_status read_dtype(manifest *m, lds_json_token token)
{
    bool is_name = token == LDS_JSON_STRING && lds_json_is_c_string(&m->json);
    m->entry.dtype = is_name ? lds_dtype_parse(m->json.text) : LDS_DTYPE_NONE;
    return m->entry.dtype ? LDS_OK : expected(m, token, "dtype", "the name of a dtype");
}

static lds_status read_shape(manifest *m, lds_json_token token)
{
    if (token != LDS_JSON_ARRAY)
        return expected(m, token, "shape", "an array");
    entry *e = &m->entry;
    while ((token = lds_json_next(&m->json)) == LDS_JSON_NUMBER) {
        if (e->n_dims == LDS_MAX_DIMS)
            return lds_fail_at(m->err, LDS_ERR_MALFORMED, m->json.token_offset,
                               "shape: expected at most %d dimensions, found more", LDS_MAX_DIMS);
        if (!lds_json_u64(&m->json, &m->shape[e->n_dims++]))
            return expected(m, token, "shape", "a dimension, an integer from 0 to 2^64 - 1");
    }
    return token == LDS_JSON_ARRAY_END ? LDS_OK : expected(m, token, "shape", "a dimension");
}

/* ------------------------------------------------------------------------------------------------------- */

static const char *const number_names[] = {"a", "b", "lo", "hi"};

enum { KIND_BIT = 1 << 4 }; /* beside LDS_INIT_A to LDS_INIT_HI */

static lds_status read_kind(manifest *m, lds_json_token token, const char *field)
{
    bool is_known = token == LDS_JSON_STRING && lds_json_is_c_string(&m->json) &&
                    lds_init_kind_parse(&m->entry.init.kind, m->json.text);
    return is_known ? LDS_OK : expected(m, token, field, "the name of a kind");
}

/* The bit of the field of an init rule that the last key names, or 0. */
static uint32_t init_field(const lds_json *json)
{
    for (uint32_t i = 0; i < 4; i++)
        if (lds_json_is(json, number_names[i]))
            return 1u << i;
    return lds_json_is(json, "kind") ? KIND_BIT : 0;
}

static double *init_number(lds_init *init, uint32_t bit)
{
    return bit == LDS_INIT_A    ? &init->a
           : bit == LDS_INIT_B  ? &init->b
           : bit == LDS_INIT_LO ? &init->lo
                                : &init->hi;
}

/* One member of an init rule, whose key has just been read. */
static lds_status read_init_member(manifest *m, uint32_t *seen)
{
    uint32_t bit = init_field(&m->json);
    if (!bit || *seen & bit)
        return expected(m, LDS_JSON_KEY, "init",
                        bit ? "each field once" : "\"kind\", \"a\", \"b\", \"lo\" or \"hi\"");
    *seen |= bit;
    lds_json_token token = lds_json_next(&m->json);
    if (bit == KIND_BIT)
        return read_kind(m, token, "init: kind");
    if (token != LDS_JSON_NUMBER)
        return expected(m, token, "init", "a number");
    if (!lds_json_double(&m->json, init_number(&m->entry.init, bit)))
        return expected(m, token, "init", "a number that a double can hold");
    return LDS_OK;
}

/* The numbers of a kind where the manifest says nothing: torch.nn.init's. */
static double default_number(lds_init_kind kind, uint32_t bit)
{
    switch (kind) {
    case LDS_INIT_TRUNC_NORMAL: return bit == LDS_INIT_LO ? -2 : bit == LDS_INIT_HI ? 2 : bit == LDS_INIT_B;
    case LDS_INIT_UNIFORM: return bit == LDS_INIT_HI;
    case LDS_INIT_XAVIER_UNIFORM:
    case LDS_INIT_XAVIER_NORMAL: return 1;
    default: return bit == LDS_INIT_B;
    }
}

/* Check that the numbers that were seen are the kind's, and set the others. */
static lds_status complete_init(manifest *m, uint32_t seen)
{
    lds_init *init = &m->entry.init;
    const char *kind = lds_init_kind_name(init->kind);
    uint32_t fields = lds_init_kind_fields(init->kind);
    size_t offset = m->entry.field_offset[INIT];
    if (init->kind == LDS_INIT_CONSTANT && !(seen & LDS_INIT_A))
        return lds_fail_at(m->err, LDS_ERR_MALFORMED, offset,
                           "init: constant: expected a number \"a\", found none");
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t bit = 1u << i;
        if (seen & ~fields & bit)
            return lds_fail_at(m->err, LDS_ERR_MALFORMED, offset,
                               "init: expected the numbers of %s, found \"%s\"", kind, number_names[i]);
        if (fields & ~seen & bit)
            *init_number(init, bit) = default_number(init->kind, bit);
    }
    return LDS_OK;
}

static lds_status read_init(manifest *m, lds_json_token token)
{
    uint32_t seen = 0;
    if (token != LDS_JSON_STRING && token != LDS_JSON_OBJECT)
        return expected(m, token, "init", "the name of a kind or an object");
    if (token == LDS_JSON_STRING) {
        LDS_TRY(read_kind(m, token, "init"));
        return complete_init(m, seen);
    }
    while ((token = lds_json_next(&m->json)) == LDS_JSON_KEY)
        LDS_TRY(read_init_member(m, &seen));
    if (token != LDS_JSON_OBJECT_END)
        return expected(m, token, "init", "a field");
    if (!(seen & KIND_BIT))
        return lds_fail_at(m->err, LDS_ERR_MALFORMED, m->entry.field_offset[INIT],
                           "init: expected a \"kind\", found none");
    return complete_init(m, seen);
}

/* ------------------------------------------------------------------------------------------------------- */

static lds_status read_tied_to(manifest *m, lds_json_token token)
{
    return token == LDS_JSON_NULL ? LDS_OK : read_name(m, &m->entry.tied_to, "tied_to", token);
}

/* One member of a parameter, whose key has just been read. */
static lds_status read_member(manifest *m)
{
    entry *e = &m->entry;
    int field = 0;
    while (field < N_FIELDS && !lds_json_is(&m->json, field_names[field]))
        field++;
    if (field == N_FIELDS)
        return expected(m, LDS_JSON_KEY, "", "\"name\", \"dtype\", \"shape\", \"init\" or \"tied_to\"");
    if (e->has[field])
        return expected(m, LDS_JSON_KEY, "", "each field once");
    e->has[field] = true;
    lds_json_token token = lds_json_next(&m->json);
    e->field_offset[field] = m->json.token_offset;
    switch (field) {
    case NAME: return read_name(m, &e->name, "name", token);
    case DTYPE: return read_dtype(m, token);
    case SHAPE: return read_shape(m, token);
    case INIT: return read_init(m, token);
    default: return read_tied_to(m, token);
    }
}

/* What the builder refuses is a fault of the manifest, at this parameter's object. */
static lds_status explain(manifest *m, lds_status status, const lds_error *why)
{
    if (!status)
        return LDS_OK;
    if (status == LDS_ERR_MEMORY)
        return lds_fail(m->err, status, "%s", why->message);
    return lds_fail_at(m->err, LDS_ERR_MALFORMED, m->entry.offset, "%s", why->message);
}

/* What a tied parameter says of itself is what the other is. */
static lds_status check_agrees(manifest *m, const lds_param *target)
{
    const entry *e = &m->entry;
    const lds_init init = lds_param_init(target);
    int field = N_FIELDS;
    if (e->has[DTYPE] && e->dtype != (lds_dtype)target->dtype)
        field = DTYPE;
    else if (e->has[SHAPE] &&
             (e->n_dims != target->n_dims || memcmp(m->shape, target->shape, e->n_dims * sizeof *m->shape)))
        field = SHAPE;
    else if (e->has[INIT] && !lds_init_equal(&init, &e->init))
        field = INIT;
    if (field == N_FIELDS)
        return LDS_OK;
    return lds_fail_at(m->err, LDS_ERR_MALFORMED, e->field_offset[field],
                       "%s: expected that of the parameter it is tied to, found another", field_names[field]);
}

static lds_status add_tied(manifest *m)
{
    const entry *e = &m->entry;
    const lds_param *target = lds_builder_find(m->builder, e->tied_to);
    if (!target)
        return lds_fail_at(m->err, LDS_ERR_MALFORMED, e->field_offset[TIED_TO],
                           "tied_to: expected the name of an earlier parameter, found \"%.*s\"",
                           lds_text_shown(e->tied_to.text, e->tied_to.nbytes), e->tied_to.text);
    LDS_TRY(check_agrees(m, target));
    lds_error why = LDS_ERROR_INIT;
    return explain(m, lds_builder_insert_tied(m->builder, e->name, e->tied_to, &why), &why);
}

static lds_status add_entry(manifest *m)
{
    const entry *e = &m->entry;
    bool is_tied = e->tied_to.text;
    for (int field = NAME; field <= (is_tied ? NAME : SHAPE); field++)
        if (!e->has[field])
            return lds_fail_at(m->err, LDS_ERR_MALFORMED, e->offset, "%s: expected one, found none",
                               field_names[field]);
    if (is_tied)
        return add_tied(m);
    lds_error why = LDS_ERROR_INIT;
    return explain(m, lds_builder_insert(m->builder, e->name, e->dtype, e->n_dims, m->shape, &e->init, &why),
                   &why);
}

static lds_status read_entry(manifest *m)
{
    lds_json_token token;
    while ((token = lds_json_next(&m->json)) == LDS_JSON_KEY)
        LDS_TRY(read_member(m));
    if (token != LDS_JSON_OBJECT_END)
        return expected(m, token, "", "a field");
    return add_entry(m);
}

static lds_status read_entries(manifest *m)
{
    lds_json_token token;
    while ((token = lds_json_next(&m->json)) == LDS_JSON_OBJECT) {
        m->entry = (entry){.offset = m->json.token_offset};
        m->in_entry = true;
        LDS_TRY(read_entry(m));
        m->in_entry = false;
        m->n_entries++;
    }
    return token == LDS_JSON_ARRAY_END ? LDS_OK : expected(m, token, "", "an object");
}

static lds_status read_manifest(manifest *m)
{
    lds_json_token token = lds_json_next(&m->json);
    if (token != LDS_JSON_ARRAY)
        return expected(m, token, "", "an array of parameters");
    LDS_TRY(read_entries(m));
    return lds_json_finish(&m->json);
}

/* Say which file and parameter an error is about; one without a name yet by its place, "[3]". */
static lds_status add_context(manifest *m, lds_status status, const char *file)
{
    char place[32];
    snprintf(place, sizeof place, "[%zu]", m->n_entries);
    const char *name = m->entry.name.text && *m->entry.name.text ? m->entry.name.text : place;
    return lds_error_context(m->err, status, file, m->in_entry ? name : NULL);
}

lds_status lds_network_from_manifest(lds_network **network, const char *json, size_t nbytes, const char *file,
                                     lds_error *err)
{
    *network = NULL;
    lds_error unread = LDS_ERROR_INIT;
    manifest m = {.err = err ? err : &unread};
    char *text = NULL; /* the reader changes what it reads */
    lds_status status = lds_copy_string(&text, json, nbytes, m.err);
    if (!status)
        status = lds_builder_new(&m.builder, LDS_F32, m.err);
    if (!status) {
        lds_json_init(&m.json, text, nbytes, m.err);
        status = read_manifest(&m);
    }
    if (status) {
        status = add_context(&m, status, file);
        lds_builder_free(m.builder);
    } else {
        status = lds_builder_finish(network, m.builder, m.err);
    }
    free(text);
    return status;
}
