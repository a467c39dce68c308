/*
 * The tensors are sorted by the parts of their names, numbers as numbers, so that a module's tensors stand
 * together and the tree is built by comparing each name with the path of the one before. Two modules are the
 * same if hashes over everything below them are; a run of such modules under consecutive numbers is shown as
 * one, "blocks.[0-29]", with what one of them holds below it.
 */
#include "tree.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "table.h"

/* Deeper modules stay joined in one name, so that no name can make the tree deep or its lines long. */
enum { MAX_DEPTH = 32 };

#define NO_NODE UINT32_MAX
#define NO_NUMBER UINT32_MAX

/* A module or, if it has a tensor, a leaf. Node 0 is the root. */
typedef struct node {
    const char *text; /* part of a tensor's name */
    size_t nbytes;
    const lds_tensor *tensor;
    uint32_t parent, first_child, last_child, next;
    uint32_t number; /* that text is, or NO_NUMBER */
    uint64_t hash;   /* of what is below, without the node's own name */
    uint64_t n_tensors;
    uint64_t tensors_nbytes;
} node;

typedef struct tree {
    node *nodes;
    size_t n;
    size_t capacity;
} tree;

/* The number that a part of a name is, written without leading zeros; NO_NUMBER if it is none. */
static uint32_t number_of(const char *text, size_t n)
{
    if (!n || n > 9 || (text[0] == '0' && n > 1))
        return NO_NUMBER;
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return NO_NUMBER;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    return value;
}

/* Numbers come first, by value; then the other parts, by their bytes. */
static int compare_parts(const char *a, size_t a_nbytes, const char *b, size_t b_nbytes)
{
    uint32_t a_number = number_of(a, a_nbytes), b_number = number_of(b, b_nbytes);
    if (a_number != b_number)
        return a_number < b_number ? -1 : 1;
    int order = memcmp(a, b, a_nbytes < b_nbytes ? a_nbytes : b_nbytes);
    return order ? order : (a_nbytes > b_nbytes) - (a_nbytes < b_nbytes);
}

static int compare_names(const char *a, const char *b)
{
    for (;;) {
        size_t a_nbytes = strcspn(a, "."), b_nbytes = strcspn(b, ".");
        int order = compare_parts(a, a_nbytes, b, b_nbytes);
        if (order)
            return order;
        if (!a[a_nbytes] || !b[b_nbytes])
            return (a[a_nbytes] != 0) - (b[b_nbytes] != 0);
        a += a_nbytes + 1;
        b += b_nbytes + 1;
    }
}

static int compare_tensors(const void *a, const void *b)
{
    return compare_names(lds_tensor_name(*(const lds_tensor *const *)a),
                         lds_tensor_name(*(const lds_tensor *const *)b));
}

static uint32_t add_node(tree *t, uint32_t parent, const char *text, size_t nbytes, const lds_tensor *tensor)
{
    if (t->n == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 256;
        t->nodes = allocate(t->nodes, t->capacity, sizeof *t->nodes);
    }
    uint32_t i = (uint32_t)t->n++;
    t->nodes[i] = (node){.text = text,
                         .nbytes = nbytes,
                         .tensor = tensor,
                         .parent = parent,
                         .first_child = NO_NODE,
                         .last_child = NO_NODE,
                         .next = NO_NODE,
                         .number = number_of(text, nbytes)};
    if (parent == NO_NODE)
        return i;
    node *p = &t->nodes[parent];
    if (p->first_child == NO_NODE)
        p->first_child = i;
    else
        t->nodes[p->last_child].next = i;
    p->last_child = i;
    return i;
}

/* The names come sorted: a module that is there already is the last child of its parent. */
static void add_tensor(tree *t, const lds_tensor *tensor)
{
    const char *text = lds_tensor_name(tensor);
    uint32_t at = 0;
    for (int depth = 1; depth < MAX_DEPTH; depth++) {
        size_t nbytes = strcspn(text, ".");
        if (!text[nbytes])
            break;
        uint32_t last = t->nodes[at].last_child;
        const node *module = last == NO_NODE ? NULL : &t->nodes[last];
        if (module && !module->tensor && module->nbytes == nbytes && !memcmp(module->text, text, nbytes))
            at = last;
        else
            at = add_node(t, at, text, nbytes, NULL);
        text += nbytes + 1;
    }
    add_node(t, at, text, strlen(text), tensor);
}

static uint64_t hash_tensor(const lds_tensor *tensor)
{
    return XXH3_64bits_withSeed(lds_tensor_shape(tensor), lds_tensor_n_dims(tensor) * sizeof(uint64_t),
                                1 + (uint64_t)lds_tensor_dtype(tensor));
}

/* Children stand behind their parents: from the last node to the first, each is whole when it is added. */
static void sum_up(tree *t)
{
    for (size_t i = t->n; i-- > 1;) {
        node *n = &t->nodes[i], *parent = &t->nodes[n->parent];
        if (n->tensor) {
            n->hash = hash_tensor(n->tensor);
            n->n_tensors = 1;
            n->tensors_nbytes = lds_tensor_nbytes(n->tensor);
        }
        uint64_t pair[2] = {parent->hash, n->hash};
        parent->hash = XXH3_64bits_withSeed(n->text, n->nbytes, XXH3_64bits(pair, sizeof pair));
        parent->n_tensors += n->n_tensors;
        parent->tensors_nbytes += n->tensors_nbytes;
    }
}

/* The last of the siblings that are shown together with node i. */
static uint32_t run_end(const tree *t, uint32_t i)
{
    while (t->nodes[i].next != NO_NODE) {
        const node *n = &t->nodes[i], *next = &t->nodes[n->next];
        if (n->number == NO_NUMBER || next->number != n->number + 1 || n->hash != next->hash ||
            !n->tensor != !next->tensor)
            break;
        i = n->next;
    }
    return i;
}

static void put_times(output *out, uint64_t times)
{
    if (times > 1) {
        put_count(out, times);
        put_text(out, " x ");
    }
}

/* A row of the table for the siblings i to end, whose names have been put; i stands for all of them. */
static void end_row(table *rows, const node *n, uint64_t times)
{
    table_end_cell(rows);
    put_times(&rows->text, times);
    put_count(&rows->text, n->n_tensors);
    table_end_cell(rows);
    put_times(&rows->text, times);
    put_size(&rows->text, n->tensors_nbytes);
    table_end_cell(rows);
    if (n->tensor) {
        put_dtype(&rows->text, lds_tensor_dtype(n->tensor));
        table_end_cell(rows);
        put_shape(&rows->text, lds_tensor_n_dims(n->tensor), lds_tensor_shape(n->tensor));
        table_end_cell(rows);
    }
    table_end_row(rows);
}

static void put_label(output *out, const tree *t, uint32_t i, uint32_t end)
{
    const node *n = &t->nodes[i];
    if (i == end)
        put_escaped(out, n->text, n->nbytes);
    else
        put_format(out, "[%u-%u]", n->number, t->nodes[end].number);
}

/* The rows below node i; the recursion is as deep as the tree, which MAX_DEPTH bounds. */
static void add_rows(table *rows, const tree *t, uint32_t i, size_t depth)
{
    for (uint32_t child = t->nodes[i].first_child; child != NO_NODE;) {
        uint32_t at = child, end = run_end(t, child);
        uint32_t next = t->nodes[end].next;
        uint64_t times = 1;
        put_repeat(&rows->text, ' ', 2 * depth);
        /* A module with nothing beside it is put on the line of its parent. */
        for (;;) {
            put_label(&rows->text, t, at, end);
            if (end != at)
                times *= t->nodes[end].number - t->nodes[at].number + 1;
            uint32_t below = t->nodes[at].first_child;
            if (below == NO_NODE)
                break;
            uint32_t below_end = run_end(t, below);
            if (t->nodes[below_end].next != NO_NODE)
                break;
            put_text(&rows->text, ".");
            at = below;
            end = below_end;
        }
        end_row(rows, &t->nodes[at], times);
        add_rows(rows, t, at, depth + 1);
        child = next;
    }
}

void put_tree(output *out, const lds_checkpoint *checkpoint)
{
    size_t n = lds_checkpoint_n_tensors(checkpoint);
    const lds_tensor **tensors = allocate(NULL, n, sizeof(const lds_tensor *));
    for (size_t i = 0; i < n; i++)
        tensors[i] = lds_checkpoint_tensor(checkpoint, i);
    qsort(tensors, n, sizeof(const lds_tensor *), compare_tensors);

    tree t = {0};
    add_node(&t, NO_NODE, "", 0, NULL);
    for (size_t i = 0; i < n; i++)
        add_tensor(&t, tensors[i]);
    sum_up(&t);

    table rows;
    table_init(&rows, "lrrll");
    table_cell(&rows, "module");
    table_cell(&rows, "tensors");
    table_cell(&rows, "size");
    table_cell(&rows, "dtype");
    table_cell(&rows, "shape");
    add_rows(&rows, &t, 0, 0);
    table_put(out, &rows, 0);
    free(t.nodes);
    free(tensors);
}
