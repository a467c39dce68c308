/*
 * Reading a config.json into a struct by a table of fields. Whatever is in the file must be in the table: a
 * field that nobody here has heard of might change the structure, and is an error.
 */
#ifndef LDS_NETWORK_CONFIG_H
#define LDS_NETWORK_CONFIG_H

#include "src/base/error.h"

enum { LDS_CONFIG_MAX_LIST = 32 };

/* A config.json that was read. Reading the config changes the text. */
typedef struct lds_config_source {
    const char *path; /* for messages */
    char *text;
    size_t nbytes;
} lds_config_source;

typedef struct lds_config_list {
    uint64_t n;
    uint64_t at[LDS_CONFIG_MAX_LIST];
} lds_config_list;

typedef enum lds_config_type {
    LDS_CONFIG_TYPE_COUNT,   /* uint64_t, from min to max */
    LDS_CONFIG_TYPE_CHOICE,  /* uint64_t, the index in choices */
    LDS_CONFIG_TYPE_FLAG,    /* int, 0 or 1; so a default of -1 can stand for "not given" */
    LDS_CONFIG_TYPE_NUMBER,  /* double, from 0 to max */
    LDS_CONFIG_TYPE_COUNTS,  /* lds_config_list of counts */
    LDS_CONFIG_TYPE_CHOICES, /* lds_config_list of choices */
    LDS_CONFIG_TYPE_ABSENT   /* null, false or empty; anything else asks for what is not supported */
} lds_config_type;

typedef struct lds_config_field {
    const char *name;
    lds_config_type type;
    uint32_t offset;  /* of the member */
    bool is_optional; /* may be null, which makes it 0 */
    double number;    /* default of a count, flag or number */
    uint64_t min, max;
    const char *const *choices; /* ends in NULL */
    const char *choice;         /* default of a choice */
    const lds_config_list *list;
} lds_config_field;

typedef struct lds_config_table {
    const lds_config_field *fields;
    size_t n_fields;
    const char *unused[2]; /* names, parted by spaces, of fields that do not matter for the parameters */
} lds_config_table;

/* Rows of a table. The member has the name of the field; type is the struct. */
#define LDS_CONFIG_FIELD(type_, member, kind, ...)                                                    \
    {                                                                                                 \
        .name = #member, .type = LDS_CONFIG_TYPE_##kind, .offset = (uint32_t)offsetof(type_, member), \
        __VA_ARGS__                                                                                   \
    }
#define LDS_CONFIG_COUNT(type_, member, default_, min_, max_) \
    LDS_CONFIG_FIELD(type_, member, COUNT, .number = (default_), .min = (min_), .max = (max_))
#define LDS_CONFIG_FLAG(type_, member, default_) LDS_CONFIG_FIELD(type_, member, FLAG, .number = (default_))
#define LDS_CONFIG_NUMBER(type_, member, default_, max_) \
    LDS_CONFIG_FIELD(type_, member, NUMBER, .number = (default_), .max = (max_))
#define LDS_CONFIG_CHOICE(type_, member, default_, choices_) \
    LDS_CONFIG_FIELD(type_, member, CHOICE, .choice = (default_), .choices = (choices_))

/* A count that may be null, which is its default. */
#define LDS_CONFIG_OPTIONAL(type_, member, min_, max_) \
    LDS_CONFIG_FIELD(type_, member, COUNT, .is_optional = true, .min = (min_), .max = (max_))

/* Lists: the last argument is the default, as the initialiser of an lds_config_list. */
#define LDS_CONFIG_COUNTS(type_, member, min_, max_, ...)                 \
    LDS_CONFIG_FIELD(type_, member, COUNTS, .min = (min_), .max = (max_), \
                     .list = &(const lds_config_list)__VA_ARGS__)
#define LDS_CONFIG_CHOICES(type_, member, choices_, ...)            \
    LDS_CONFIG_FIELD(type_, member, CHOICES, .choices = (choices_), \
                     .list = &(const lds_config_list)__VA_ARGS__)

#define LDS_CONFIG_ABSENT(name_)                        \
    {                                                   \
        .name = (name_), .type = LDS_CONFIG_TYPE_ABSENT \
    }

/*
 * Set every member of the struct at config that the table names: to its default, then to what the source
 * says. LDS_ERR_UNSUPPORTED for an unknown field or an unknown choice, LDS_ERR_MALFORMED for anything that is
 * wrong JSON, a wrong type, out of range, or given twice. The error has path, field and byte.
 */
lds_status lds_config_read(void *config, const lds_config_table *table, const lds_config_source *source,
                           lds_error *err);

/* Which class a config is of: the strings lie in the source's text. */
typedef struct lds_config_class {
    const char *class_name;   /* diffusers' "_class_name", or NULL */
    const char *architecture; /* the first of transformers' "architectures", or NULL */
    const char *model_type;   /* transformers' "model_type", or NULL */
} lds_config_class;

lds_status lds_config_read_class(lds_config_class *class, const lds_config_source *source, lds_error *err);

/* LDS_ERR_MALFORMED for a rule that concerns several fields: "<path>: <fields>: <format>". */
lds_status lds_config_fail(lds_error *err, const lds_config_source *source, const char *fields,
                           const char *format, ...) LDS_PRINTF(4, 5);

#endif
