/*
 * A column is as wide as its widest cell, but a name of a megabyte does not make a hundred thousand other lines
 * a megabyte wide: cells beyond a limit stick out of their column.
 */
#include "table.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMN_WIDTH = 96 };

void table_init(table *t, const char *columns)
{
    *t = (table){.columns = columns, .n_columns = (uint32_t)strlen(columns)};
}

void table_end_cell(table *t)
{
    if (t->n_cells == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 256;
        t->ends = allocate(t->ends, t->capacity, sizeof *t->ends);
    }
    t->ends[t->n_cells++] = t->text.n;
}

void table_cell(table *t, const char *text)
{
    put_text(&t->text, text);
    table_end_cell(t);
}

void table_end_row(table *t)
{
    while (t->n_cells % t->n_columns)
        table_end_cell(t);
}

static size_t cell_begin(const table *t, size_t i)
{
    return i ? t->ends[i - 1] : 0;
}

/* Characters, not bytes; every character counts as one place. */
static size_t cell_width(const table *t, size_t i)
{
    size_t width = 0;
    for (size_t at = cell_begin(t, i); at < t->ends[i]; at++)
        width += (t->text.data[at] & 0xC0) != 0x80;
    return width;
}

static void measure(const table *t, size_t widths[TABLE_MAX_COLUMNS])
{
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t width = cell_width(t, i), *widest = &widths[i % t->n_columns];
        if (width > *widest)
            *widest = width < MAX_COLUMN_WIDTH ? width : MAX_COLUMN_WIDTH;
    }
}

void table_put(output *out, table *t, size_t indent)
{
    size_t widths[TABLE_MAX_COLUMNS] = {0};
    measure(t, widths);
    for (size_t row = 0; row + t->n_columns <= t->n_cells; row += t->n_columns) {
        put_repeat(out, ' ', indent);
        size_t owed = 0; /* spaces, put only when something follows them */
        for (uint32_t column = 0; column < t->n_columns; column++) {
            size_t i = row + column, width = cell_width(t, i), begin = cell_begin(t, i);
            size_t padding = widths[column] > width ? widths[column] - width : 0;
            bool is_right = t->columns[column] == 'r';
            owed += is_right ? padding : 0;
            if (width) {
                put_repeat(out, ' ', owed);
                put(out, t->text.data + begin, t->ends[i] - begin);
                owed = 0;
            }
            owed += is_right ? 2 : padding + 2;
        }
        put(out, "\n", 1);
    }
    output_free(&t->text);
    free(t->ends);
    *t = (table){0};
}
