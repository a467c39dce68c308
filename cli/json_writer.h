/* Writing JSON (RFC 8259) onto an output. Commas and escapes are its matter; nesting is the caller's. */
#ifndef CLI_JSON_WRITER_H
#define CLI_JSON_WRITER_H

#include "output.h"

enum { JSON_MAX_DEPTH = 16 };

typedef struct json_writer {
    output *out;
    uint32_t depth;
    bool after_key;
    bool has_items[JSON_MAX_DEPTH]; /* by depth */
} json_writer;

void json_begin(json_writer *json, output *out);

void json_object(json_writer *json);
void json_object_end(json_writer *json);
void json_array(json_writer *json);
void json_array_end(json_writer *json);

/* The next element begins on a line of its own. */
void json_line(json_writer *json);

/* Bytes that are not UTF-8 become U+FFFD. */
void json_key(json_writer *json, const char *key);
void json_string(json_writer *json, const char *text);

/* A key and its value. A string that is NULL is null, and so is a double that is not finite. */
void json_field_string(json_writer *json, const char *key, const char *text);
void json_field_u64(json_writer *json, const char *key, uint64_t value);
void json_field_double(json_writer *json, const char *key, double value);
void json_field_bool(json_writer *json, const char *key, bool value);

/* A key and an array of numbers. */
void json_field_shape(json_writer *json, const char *key, uint32_t n_dims, const uint64_t *shape);

#endif
