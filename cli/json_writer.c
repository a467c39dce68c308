/*
 * Machines read this, so it is exact: every name that is UTF-8 goes through as it is, and every double comes
 * back as the same one.
 */
#include "json_writer.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>

void json_begin(json_writer *json, output *out)
{
    *json = (json_writer){.out = out};
}

/* What goes before a value or a key. */
static void separate(json_writer *json)
{
    if (!json->after_key && json->has_items[json->depth])
        put(json->out, ",", 1);
    json->after_key = false;
    json->has_items[json->depth] = true;
}

static void open_container(json_writer *json, const char *bracket)
{
    separate(json);
    put(json->out, bracket, 1);
    assert(json->depth + 1 < JSON_MAX_DEPTH);
    json->has_items[++json->depth] = false;
}

static void close_container(json_writer *json, const char *bracket)
{
    json->depth--;
    put(json->out, bracket, 1);
}

void json_object(json_writer *json)
{
    open_container(json, "{");
}

void json_object_end(json_writer *json)
{
    close_container(json, "}");
}

void json_array(json_writer *json)
{
    open_container(json, "[");
}

void json_array_end(json_writer *json)
{
    close_container(json, "]");
}

void json_line(json_writer *json)
{
    if (json->has_items[json->depth])
        put(json->out, ",", 1);
    put(json->out, "\n", 1);
    json->has_items[json->depth] = false;
}

static void put_quoted(output *out, const char *text)
{
    put(out, "\"", 1);
    while (*text) {
        const char *begin = text;
        while ((uint8_t)*text >= 0x20 && (uint8_t)*text < 0x7F && *text != '"' && *text != '\\')
            text++;
        put(out, begin, (size_t)(text - begin));
        if (!*text)
            break;
        size_t n = utf8_length(text);
        if (n > 1)
            put(out, text, n);
        else if (!n)
            put_text(out, "\\ufffd");
        else if (*text == '"' || *text == '\\')
            put_format(out, "\\%c", *text);
        else
            put_format(out, "\\u%04x", (uint8_t)*text);
        text += n ? n : 1;
    }
    put(out, "\"", 1);
}

void json_key(json_writer *json, const char *key)
{
    separate(json);
    put_quoted(json->out, key);
    put(json->out, ":", 1);
    json->after_key = true;
}

void json_string(json_writer *json, const char *text)
{
    separate(json);
    put_quoted(json->out, text);
}

static void put_number(json_writer *json, uint64_t value)
{
    separate(json);
    put_u64(json->out, value);
}

static void put_null(json_writer *json)
{
    separate(json);
    put_text(json->out, "null");
}

void json_field_string(json_writer *json, const char *key, const char *text)
{
    json_key(json, key);
    if (text)
        json_string(json, text);
    else
        put_null(json);
}

void json_field_u64(json_writer *json, const char *key, uint64_t value)
{
    json_key(json, key);
    put_number(json, value);
}

void json_field_double(json_writer *json, const char *key, double value)
{
    json_key(json, key);
    if (!isfinite(value)) {
        put_null(json);
        return;
    }
    separate(json);
    /* The shortest form that comes back as the same number. */
    char text[32];
    for (int precision = 6; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    put_text(json->out, text);
}

void json_field_bool(json_writer *json, const char *key, bool value)
{
    json_key(json, key);
    separate(json);
    put_text(json->out, value ? "true" : "false");
}

void json_field_shape(json_writer *json, const char *key, uint32_t n_dims, const uint64_t *shape)
{
    json_key(json, key);
    json_array(json);
    for (uint32_t i = 0; i < n_dims; i++)
        put_number(json, shape[i]);
    json_array_end(json);
}
