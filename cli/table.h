/* Rows of text in aligned columns. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "output.h"

enum { TABLE_MAX_COLUMNS = 8 };

typedef struct table {
    output text;  /* of all cells, one after the other: what is put here becomes the next cell */
    size_t *ends; /* where each cell ends in text */
    size_t n_cells;
    size_t capacity;
    const char *columns; /* one letter a column: l or r, the side that it is aligned to */
    uint32_t n_columns;
} table;

void table_init(table *t, const char *columns);

/* What has been put into t->text since the last cell becomes a cell. */
void table_end_cell(table *t);

/* A cell of this text. */
void table_cell(table *t, const char *text);

/* Fill the row up with empty cells. */
void table_end_row(table *t);

/* Put the whole table, every line indented, and free it. */
void table_put(output *out, table *t, size_t indent);

#endif
