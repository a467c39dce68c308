/*
 * What the JSON reader makes of texts, for comparison with another reader. Standard input is texts, each after
 * its length as four bytes, lowest first; standard output is one line for each:
 *
 *     error BYTE MESSAGE
 *     ok TOKEN...     { } [ ] true false null, k:HEX and s:HEX for keys and strings,
 *                     n:TEXT:U64:I64:DOUBLE for numbers, "-" where that form does not fit
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/base/json.h"

/* A token's line can be longer than its text: output only once the text is known to be good. */
static FILE *out;

static void put_text(char kind, const lds_json *json)
{
    fprintf(out, " %c:", kind);
    for (size_t i = 0; i < json->nbytes; i++)
        fprintf(out, "%02x", (unsigned char)json->text[i]);
}

static void put_number(const lds_json *json)
{
    uint64_t u;
    int64_t i;
    double d;
    fprintf(out, " n:%.*s:", (int)json->nbytes, json->text);
    if (lds_json_u64(json, &u))
        fprintf(out, "%" PRIu64 ":", u);
    else
        fprintf(out, "-:");
    if (lds_json_i64(json, &i))
        fprintf(out, "%" PRId64 ":", i);
    else
        fprintf(out, "-:");
    if (lds_json_double(json, &d))
        fprintf(out, "%.17g", d);
    else
        fprintf(out, "-");
}

static void put_token(const lds_json *json, lds_json_token token)
{
    switch (token) {
    case LDS_JSON_OBJECT: fprintf(out, " {"); break;
    case LDS_JSON_OBJECT_END: fprintf(out, " }"); break;
    case LDS_JSON_ARRAY: fprintf(out, " ["); break;
    case LDS_JSON_ARRAY_END: fprintf(out, " ]"); break;
    case LDS_JSON_KEY: put_text('k', json); break;
    case LDS_JSON_STRING: put_text('s', json); break;
    case LDS_JSON_NUMBER: put_number(json); break;
    default: fprintf(out, " %s", lds_json_describe(token));
    }
}

static void echo(char *text, size_t nbytes)
{
    lds_error err = LDS_ERROR_INIT;
    lds_json json;
    lds_json_token token;
    char *line = NULL;
    size_t line_nbytes;
    out = open_memstream(&line, &line_nbytes);
    if (!out)
        exit(1);
    lds_json_init(&json, text, nbytes, &err);
    while ((token = lds_json_next(&json)) > LDS_JSON_END)
        put_token(&json, token);
    fclose(out);
    if (token == LDS_JSON_END)
        printf("ok%s\n", line);
    else
        printf("error %" PRIu64 " %s\n", err.offset, err.message);
    free(line);
}

int main(void)
{
    unsigned char head[4];
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        size_t nbytes = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        char *text = malloc(nbytes ? nbytes : 1);
        if (!text || fread(text, 1, nbytes, stdin) != nbytes)
            return 1;
        echo(text, nbytes);
        free(text);
        fflush(stdout);
    }
    return 0;
}
