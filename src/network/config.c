/*
 * The config reader: one pass over the JSON tokens, each value stored where the table of the architecture
 * says. It refuses what it does not understand, because a config field that is skipped is a network that
 * loads without a complaint and computes something else; so tables also list what is known not to matter.
 */
#include "src/network/config.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "src/base/format.h"
#include "src/base/json.h"

enum { MAX_NAMES = 256, MAX_CHOICES_SHOWN = 200 };

typedef struct reader {
    lds_json json;
    const lds_config_table *table;
    char *config;
    const char *key;               /* the last that was read */
    uint64_t seen[MAX_NAMES / 64]; /* by index: the fields, then the unused names */
    lds_error *err;
} reader;

/* ------------------------------------------------ values ------------------------------------------------ */

static lds_status read_count(reader *r, const lds_config_field *field, lds_json_token token, uint64_t *value)
{
    if (token == LDS_JSON_NULL && field->is_optional) {
        *value = 0;
        return LDS_OK;
    }
    if (token == LDS_JSON_NUMBER && lds_json_u64(&r->json, value) && *value >= field->min &&
        *value <= field->max)
        return LDS_OK;
    char expected[80];
    snprintf(expected, sizeof expected, "a whole number from %llu to %llu%s", (unsigned long long)field->min,
             (unsigned long long)field->max, field->is_optional ? ", or null" : "");
    return lds_json_refuse(&r->json, LDS_ERR_MALFORMED, token, expected);
}

static lds_status read_choice(reader *r, const lds_config_field *field, lds_json_token token, uint64_t *value)
{
    if (token != LDS_JSON_STRING)
        return lds_json_refuse(&r->json, LDS_ERR_MALFORMED, token, "a string");
    for (*value = 0; field->choices[*value]; ++*value)
        if (lds_json_is(&r->json, field->choices[*value]))
            return LDS_OK;

    char expected[300] = "one of ";
    size_t n = strlen(expected);
    for (size_t i = 0; field->choices[i] && n < MAX_CHOICES_SHOWN; i++)
        n += (size_t)snprintf(expected + n, sizeof expected - n, "%s%s", i ? ", " : "", field->choices[i]);
    if (n >= MAX_CHOICES_SHOWN)
        snprintf(expected + n, sizeof expected - n, ", ...");
    return lds_json_refuse(&r->json, LDS_ERR_UNSUPPORTED, token, expected);
}

static lds_status read_flag(reader *r, lds_json_token token, int *value)
{
    if (token != LDS_JSON_TRUE && token != LDS_JSON_FALSE)
        return lds_json_refuse(&r->json, LDS_ERR_MALFORMED, token, "true or false");
    *value = token == LDS_JSON_TRUE;
    return LDS_OK;
}

static lds_status read_number(reader *r, const lds_config_field *field, lds_json_token token, double *value)
{
    double max = (double)field->max;
    if (token == LDS_JSON_NUMBER && lds_json_double(&r->json, value) && *value >= 0 && *value <= max)
        return LDS_OK;
    char expected[40];
    lds_format(expected, sizeof expected, "a number from 0 to %g", max);
    return lds_json_refuse(&r->json, LDS_ERR_MALFORMED, token, expected);
}

static lds_status read_list(reader *r, const lds_config_field *field, lds_json_token token,
                            lds_config_list *list)
{
    if (token != LDS_JSON_ARRAY)
        return lds_json_refuse(&r->json, LDS_ERR_MALFORMED, token, "an array");
    for (list->n = 0; (token = lds_json_next(&r->json)) != LDS_JSON_ARRAY_END; list->n++) {
        if (list->n == LDS_CONFIG_MAX_LIST)
            return lds_fail_at(r->err, LDS_ERR_MALFORMED, r->json.token_offset,
                               "expected at most %d entries, found more", LDS_CONFIG_MAX_LIST);
        uint64_t *value = &list->at[list->n];
        LDS_TRY(field->type == LDS_CONFIG_TYPE_COUNTS ? read_count(r, field, token, value)
                                                      : read_choice(r, field, token, value));
    }
    return LDS_OK;
}

static lds_status read_absent(reader *r, lds_json_token token)
{
    if (token == LDS_JSON_NULL || token == LDS_JSON_FALSE)
        return LDS_OK;
    if (token != LDS_JSON_ARRAY && token != LDS_JSON_OBJECT)
        return lds_json_refuse(&r->json, LDS_ERR_UNSUPPORTED, token,
                               "null or false, which is all that is supported");

    uint64_t offset = r->json.token_offset;
    lds_json_token first = lds_json_next(&r->json);
    if (first == LDS_JSON_ARRAY_END || first == LDS_JSON_OBJECT_END)
        return LDS_OK;
    if (first == LDS_JSON_ERROR)
        return r->json.status;
    return lds_fail_at(r->err, LDS_ERR_UNSUPPORTED, offset,
                       "expected nothing in it, which is all that is supported, found something");
}

static lds_status read_field(reader *r, const lds_config_field *field, lds_json_token token)
{
    void *member = r->config + field->offset;
    switch (field->type) {
    case LDS_CONFIG_TYPE_COUNT: return read_count(r, field, token, member);
    case LDS_CONFIG_TYPE_CHOICE: return read_choice(r, field, token, member);
    case LDS_CONFIG_TYPE_FLAG: return read_flag(r, token, member);
    case LDS_CONFIG_TYPE_NUMBER: return read_number(r, field, token, member);
    case LDS_CONFIG_TYPE_COUNTS:
    case LDS_CONFIG_TYPE_CHOICES: return read_list(r, field, token, member);
    case LDS_CONFIG_TYPE_ABSENT: break;
    }
    return read_absent(r, token);
}

static void set_default(char *config, const lds_config_field *field)
{
    void *member = config + field->offset;
    switch (field->type) {
    case LDS_CONFIG_TYPE_COUNT: *(uint64_t *)member = (uint64_t)field->number; break;
    case LDS_CONFIG_TYPE_FLAG: *(int *)member = (int)field->number; break;
    case LDS_CONFIG_TYPE_NUMBER: *(double *)member = field->number; break;
    case LDS_CONFIG_TYPE_COUNTS:
    case LDS_CONFIG_TYPE_CHOICES: *(lds_config_list *)member = *field->list; break;
    case LDS_CONFIG_TYPE_CHOICE:
        *(uint64_t *)member = 0;
        while (strcmp(field->choices[*(uint64_t *)member], field->choice) != 0)
            ++*(uint64_t *)member;
        break;
    case LDS_CONFIG_TYPE_ABSENT: break;
    }
}

/* ------------------------------------------------ fields ------------------------------------------------ */

/* The index of a name: of a field, or n_fields and more for one that is not used; SIZE_MAX if it is neither. */
static size_t find_name(const reader *r)
{
    const lds_config_table *table = r->table;
    size_t index = 0;
    for (; index < table->n_fields; index++)
        if (lds_json_is(&r->json, table->fields[index].name))
            return index;
    for (size_t list = 0; list < sizeof table->unused / sizeof *table->unused; list++)
        for (const char *at = table->unused[list]; *at; index++) {
            size_t nbytes = strcspn(at, " ");
            if (nbytes == r->json.nbytes && !memcmp(at, r->json.text, nbytes))
                return index;
            at += nbytes + (at[nbytes] == ' ');
        }
    return SIZE_MAX;
}

/* Mark the name as seen; false if it was already. */
static bool mark_seen(reader *r, size_t name)
{
    assert(name < MAX_NAMES);
    uint64_t bit = UINT64_C(1) << name % 64;
    bool is_new = !(r->seen[name / 64] & bit);
    r->seen[name / 64] |= bit;
    return is_new;
}

/* Read the value of the key just returned. */
static lds_status read_pair(reader *r)
{
    uint64_t offset = r->json.token_offset;
    size_t name = find_name(r);
    if (name == SIZE_MAX)
        return lds_fail_at(r->err, LDS_ERR_UNSUPPORTED, offset,
                           "expected a field that is understood, found one that may change the structure");
    if (!mark_seen(r, name))
        return lds_fail_at(r->err, LDS_ERR_MALFORMED, offset, "expected once, found twice");

    lds_json_token token = lds_json_next(&r->json);
    if (name >= r->table->n_fields)
        return lds_json_skip(&r->json, token) ? LDS_OK : r->json.status;
    return read_field(r, &r->table->fields[name], token);
}

/*
 * Begin the object that a config is. Python writes these files, and puts NaN and Infinity into them where a class's
 * defaults have such values.
 */
static lds_status begin(lds_json *json, const lds_config_source *source, lds_error *err)
{
    lds_json_init(json, source->text, source->nbytes, err);
    json->allows_nonfinite = true;
    lds_json_token token = lds_json_next(json);
    return token == LDS_JSON_OBJECT ? LDS_OK
                                    : lds_json_refuse(json, LDS_ERR_MALFORMED, token, "a JSON object");
}

static lds_status read_fields(reader *r, const lds_config_source *source)
{
    LDS_TRY(begin(&r->json, source, r->err));
    while (lds_json_next(&r->json) == LDS_JSON_KEY) {
        r->key = r->json.text;
        LDS_TRY(read_pair(r));
    }
    return lds_json_finish(&r->json);
}

lds_status lds_config_read(void *config, const lds_config_table *table, const lds_config_source *source,
                           lds_error *err)
{
    reader r = {.table = table, .config = config, .err = err};
    for (size_t i = 0; i < table->n_fields; i++)
        set_default(config, &table->fields[i]);
    lds_status status = read_fields(&r, source);
    /* A syntax error is about the file, not about the field that it is in. */
    return status ? lds_error_context(err, status, source->path, r.json.status ? NULL : r.key) : LDS_OK;
}

/* ------------------------------------------------ class ------------------------------------------------- */

/* *text becomes the string that the value is or begins with, and is left alone by any other value. */
static bool read_first_string(lds_json *json, lds_json_token token, const char **text)
{
    bool is_array = token == LDS_JSON_ARRAY;
    if (is_array)
        token = lds_json_next(json);
    if (token == LDS_JSON_STRING && lds_json_is_c_string(json))
        *text = json->text;
    if (!is_array)
        return lds_json_skip(json, token);
    while (token != LDS_JSON_ARRAY_END) {
        if (!lds_json_skip(json, token))
            return false;
        token = lds_json_next(json);
    }
    return true;
}

static lds_status read_class(lds_config_class *class, const lds_config_source *source, lds_error *err)
{
    const struct {
        const char *name;
        const char **text;
    } wanted[] = {{"_class_name", &class->class_name},
                  {"architectures", &class->architecture},
                  {"model_type", &class->model_type}};
    lds_json json;
    LDS_TRY(begin(&json, source, err));
    while (lds_json_next(&json) == LDS_JSON_KEY) {
        const char *other, **text = &other;
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (lds_json_is(&json, wanted[i].name))
                text = wanted[i].text;
        if (!read_first_string(&json, lds_json_next(&json), text))
            return json.status;
    }
    return lds_json_finish(&json);
}

lds_status lds_config_read_class(lds_config_class *class, const lds_config_source *source, lds_error *err)
{
    *class = (lds_config_class){0};
    lds_status status = read_class(class, source, err);
    return status ? lds_error_context(err, status, source->path, NULL) : LDS_OK;
}

lds_status lds_config_fail(lds_error *err, const lds_config_source *source, const char *fields,
                           const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    lds_vformat(text, sizeof text, format, args);
    va_end(args);
    lds_status status = lds_fail(err, LDS_ERR_MALFORMED, "%s", text);
    return lds_error_context(err, status, source->path, fields);
}
