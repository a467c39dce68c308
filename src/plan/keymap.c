/*
 * The rules of a key map. Exact ones are found through an index of names, so that a table of thousands costs
 * a tensor one look-up; the others are tried one after another, in a pair of buffers, each rule writing the
 * name that the next one reads. Everything about a rule that can be wrong is found out when it is added, its
 * replacement taken apart for instance; what depends on the tensor is left to lds_keymap_apply().
 */
#include "src/plan/keymap.h"

#include <inttypes.h>
#include <stdio.h>

#include "src/base/options.h"

enum { MAX_SHOWN = 200 };

/* A part of a replacement: literal text, or a group of the pattern if text is NULL. */
typedef struct to_piece {
    const char *text;
    uint32_t nbytes;
    uint32_t group;
} to_piece;

typedef struct compiled_rule {
    lds_match match;
    int32_t add_dim;
    bool drop;
    bool reshapes;
    uint32_t n_reshape;
    int64_t *reshape;
    char *pattern;
    size_t pattern_nbytes;
    char *to; /* or NULL */
    size_t to_nbytes;
    lds_regex *regex; /* these three for LDS_MATCH_REGEX */
    to_piece *pieces;
    size_t n_pieces;
} compiled_rule;

typedef struct rule_list {
    compiled_rule *rules;
    size_t n, capacity;
} rule_list;

struct lds_keymap {
    lds_names exact_names; /* of the rule in exact with the same index */
    rule_list exact;
    rule_list ordered;
};

/* ---- making one ---- */

void lds_keymap_rule_init(lds_keymap_rule *rule, size_t size)
{
    lds_keymap_rule defaults = {.add_dim = LDS_NO_DIM};
    lds_options_export(rule, size, &defaults, sizeof defaults);
}

lds_status lds_keymap_new(lds_keymap **keymap, lds_error *err)
{
    *keymap = NULL;
    return lds_calloc(keymap, 1, sizeof **keymap, err);
}

static void destroy_rule(compiled_rule *r)
{
    lds_regex_free(r->regex);
    free(r->pieces);
    free(r->reshape);
    free(r->pattern);
    free(r->to);
}

static void destroy_rules(rule_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        destroy_rule(&list->rules[i]);
    free(list->rules);
}

void lds_keymap_free(lds_keymap *keymap)
{
    if (!keymap)
        return;
    lds_names_destroy(&keymap->exact_names);
    destroy_rules(&keymap->exact);
    destroy_rules(&keymap->ordered);
    free(keymap);
}

/* Also refuses shapes that no tensor can have. */
static lds_status check_reshape(const lds_keymap_rule *rule, lds_error *err)
{
    if (rule->n_reshape > LDS_MAX_DIMS)
        return lds_fail(err, LDS_ERR_ARGUMENT, "reshape: expected at most %d dimensions, found %" PRIu32,
                        LDS_MAX_DIMS, rule->n_reshape);
    uint32_t n_inferred = 0;
    for (uint32_t i = 0; i < rule->n_reshape; i++) {
        if (rule->reshape[i] < -1)
            return lds_fail(err, LDS_ERR_ARGUMENT,
                            "reshape: expected dimensions of -1 or more, found %" PRId64, rule->reshape[i]);
        n_inferred += rule->reshape[i] == -1;
    }
    if (n_inferred > 1)
        return lds_fail(err, LDS_ERR_ARGUMENT,
                        "reshape: expected at most one dimension of -1, found %" PRIu32, n_inferred);
    return LDS_OK;
}

static lds_status check_rule(const lds_keymap_rule *rule, lds_error *err)
{
    bool adds = rule->add_dim != LDS_NO_DIM, reshapes = rule->reshape;
    if (!rule->pattern)
        return lds_fail(err, LDS_ERR_ARGUMENT, "pattern: expected a string, found none");
    if (rule->match != LDS_MATCH_EXACT && rule->match != LDS_MATCH_PREFIX && rule->match != LDS_MATCH_REGEX)
        return lds_fail(err, LDS_ERR_ARGUMENT, "match: expected a value of lds_match, found %d",
                        (int)rule->match);
    if (rule->drop && (rule->to || adds || reshapes))
        return lds_fail(err, LDS_ERR_ARGUMENT, "drop: expected a rule that does nothing else, found \"%s\"",
                        rule->to ? "to"
                        : adds   ? "add_dim"
                                 : "reshape");
    if (adds && reshapes)
        return lds_fail(err, LDS_ERR_ARGUMENT, "expected \"add_dim\" or \"reshape\", found both");
    if (adds && (rule->add_dim > LDS_MAX_DIMS - 1 || rule->add_dim < -LDS_MAX_DIMS))
        return lds_fail(err, LDS_ERR_ARGUMENT, "add_dim: expected a dimension from %d to %d, found %" PRId32,
                        -LDS_MAX_DIMS, LDS_MAX_DIMS - 1, rule->add_dim);
    if (!reshapes && rule->n_reshape)
        return lds_fail(err, LDS_ERR_ARGUMENT, "reshape: expected %" PRIu32 " dimensions, found NULL",
                        rule->n_reshape);
    return reshapes ? check_reshape(rule, err) : LDS_OK;
}

/*
 * The group that "$" at p refers to; *end is behind it. False if what follows is none, or not of the pattern:
 * "$1", "${1}" or "${name}". All the digits that there are belong to the number.
 */
static bool read_group(const lds_regex *regex, const char *p, uint32_t *group, const char **end)
{
    char name[64];
    bool braces = p[1] == '{';
    p += braces ? 2 : 1;
    size_t n_digits = strspn(p, "0123456789"), n = braces ? strcspn(p, "}") : n_digits;
    if (!n || n >= sizeof name || (braces && p[n] != '}'))
        return false;
    *end = p + n + braces;
    if (n_digits == n) {
        unsigned long number = strtoul(p, NULL, 10);
        *group = (uint32_t)number;
        return n < 10 && number <= lds_regex_n_groups(regex);
    }
    memcpy(name, p, n);
    name[n] = 0;
    *group = lds_regex_group(regex, name);
    return *group > 0;
}

/* Take the replacement apart. */
static lds_status read_replacement(compiled_rule *r, lds_error *err)
{
    size_t capacity = 0;
    for (const char *p = r->to; *p;) {
        to_piece next = {.text = p, .nbytes = (uint32_t)strcspn(p, "$")};
        const char *end = p + next.nbytes;
        if (*p == '$' && p[1] == '$') {
            next.nbytes = 1;
            end = p + 2;
        } else if (*p == '$') {
            next.text = NULL;
            if (!read_group(r->regex, p, &next.group, &end))
                return lds_fail(
                    err, LDS_ERR_ARGUMENT,
                    "to: expected $1 or ${name} with a group of the pattern, or $$, found \"%.*s\" at byte "
                    "%zu of the replacement",
                    MAX_SHOWN, p, (size_t)(p - r->to));
        }
        LDS_TRY(lds_grow(&r->pieces, &capacity, r->n_pieces + 1, sizeof *r->pieces, err));
        r->pieces[r->n_pieces++] = next;
        p = end;
    }
    return LDS_OK;
}

/* Copy what was checked. On failure, what is there already is left to destroy_rule(). */
static lds_status fill_rule(compiled_rule *r, const lds_keymap_rule *from, lds_error *err)
{
    *r = (compiled_rule){.match = from->match,
                         .add_dim = from->add_dim,
                         .drop = from->drop,
                         .reshapes = from->reshape,
                         .n_reshape = from->n_reshape};
    r->pattern_nbytes = strlen(from->pattern);
    LDS_TRY(lds_copy_string(&r->pattern, from->pattern, r->pattern_nbytes, err));
    if (from->reshape) {
        LDS_TRY(lds_calloc(&r->reshape, from->n_reshape, sizeof *r->reshape, err));
        memcpy(r->reshape, from->reshape, from->n_reshape * sizeof *r->reshape);
    }
    if (from->to) {
        r->to_nbytes = strlen(from->to);
        LDS_TRY(lds_copy_string(&r->to, from->to, r->to_nbytes, err));
    }
    if (r->to_nbytes > LDS_KEYMAP_MAX_NAME_NBYTES)
        return lds_fail(err, LDS_ERR_UNSUPPORTED, "to: expected at most %d bytes, found %zu",
                        LDS_KEYMAP_MAX_NAME_NBYTES, r->to_nbytes);
    if (from->match != LDS_MATCH_REGEX)
        return LDS_OK;
    LDS_TRY(lds_regex_compile(&r->regex, from->pattern, err));
    return from->to ? read_replacement(r, err) : LDS_OK;
}

/* Move the rule to the end of its list. Cannot fail halfway: the names' index is what comes last. */
static lds_status append_rule(lds_keymap *keymap, const compiled_rule *r, lds_error *err)
{
    rule_list *list = r->match == LDS_MATCH_EXACT ? &keymap->exact : &keymap->ordered;
    LDS_TRY(lds_grow(&list->rules, &list->capacity, list->n + 1, sizeof *list->rules, err));
    if (r->match == LDS_MATCH_EXACT) {
        uint32_t found;
        lds_name name = lds_name_of(r->pattern, r->pattern_nbytes);
        LDS_TRY(lds_names_add(&keymap->exact_names, name, &found, err));
        if (found != LDS_NO_INDEX)
            return lds_fail(err, LDS_ERR_NAME,
                            "expected one exact rule for a name, found another for \"%.*s\"", MAX_SHOWN,
                            r->pattern);
    }
    list->rules[list->n++] = *r;
    return LDS_OK;
}

lds_status lds_keymap_add(lds_keymap *keymap, const lds_keymap_rule *rule, lds_error *err)
{
    lds_keymap_rule taken;
    lds_keymap_rule_init(&taken, sizeof taken);
    LDS_TRY(lds_options_import(&taken, sizeof taken, "rule", rule, err));
    LDS_TRY(check_rule(&taken, err));
    compiled_rule r;
    lds_status status = fill_rule(&r, &taken, err);
    if (!status)
        status = append_rule(keymap, &r, err);
    if (status)
        destroy_rule(&r);
    return status;
}

/* ---- applying it ---- */

/* One tensor on its way through the rules. */
typedef struct work {
    lds_keymap_scratch *scratch;
    lds_mapped *mapped;
    lds_error *err;
    uint32_t side; /* the buffer that the next name goes to */
    size_t n;      /* bytes of it so far */
} work;

static void begin_name(work *w)
{
    w->side = w->mapped->name == w->scratch->text[0];
    w->n = 0;
}

static lds_status append(work *w, const char *text, size_t nbytes)
{
    lds_keymap_scratch *scratch = w->scratch;
    if (w->n + nbytes > LDS_KEYMAP_MAX_NAME_NBYTES)
        return lds_fail(w->err, LDS_ERR_UNSUPPORTED,
                        "expected a name of at most %d bytes from the key map, found more",
                        LDS_KEYMAP_MAX_NAME_NBYTES);
    LDS_TRY(lds_grow(&scratch->text[w->side], &scratch->capacity[w->side], w->n + nbytes + 1, 1, w->err));
    if (nbytes)
        memcpy(scratch->text[w->side] + w->n, text, nbytes);
    w->n += nbytes;
    scratch->text[w->side][w->n] = 0;
    return LDS_OK;
}

static void end_name(work *w)
{
    w->mapped->name = w->scratch->text[w->side];
    w->mapped->name_nbytes = (uint32_t)w->n;
}

/* The name with its first n_replaced bytes replaced by the rule's text. */
static lds_status replace_front(work *w, const compiled_rule *r, size_t n_replaced)
{
    begin_name(w);
    LDS_TRY(append(w, r->to, r->to_nbytes));
    LDS_TRY(append(w, w->mapped->name + n_replaced, w->mapped->name_nbytes - n_replaced));
    end_name(w);
    return LDS_OK;
}

static lds_status append_replacement(work *w, const compiled_rule *r)
{
    const size_t *spans = w->scratch->regex.spans;
    for (size_t i = 0; i < r->n_pieces; i++) {
        const to_piece *piece = &r->pieces[i];
        const size_t *span = &spans[2 * piece->group];
        if (piece->text)
            LDS_TRY(append(w, piece->text, piece->nbytes));
        else if (span[0] != LDS_NO_SPAN)
            LDS_TRY(append(w, w->mapped->name + span[0], span[1] - span[0]));
    }
    return LDS_OK;
}

/*
 * Replace every match of the pattern, beginning with the one just found. As re.sub does: matches do not
 * overlap, and where an empty one was found, the next may begin at the same place if it is not empty.
 */
static lds_status replace_matches(work *w, const compiled_rule *r)
{
    const char *name = w->mapped->name;
    size_t nbytes = w->mapped->name_nbytes, at = 0;
    const size_t *spans = w->scratch->regex.spans;
    bool found = true;
    begin_name(w);
    for (uint32_t n = 0; found; n++) {
        size_t begin = spans[0], end = spans[1];
        if (begin < at || end < begin)
            return lds_fail(w->err, LDS_ERR_UNSUPPORTED,
                            "expected matches of \"%.*s\" in order, found \\K before one", MAX_SHOWN,
                            r->pattern);
        if (n == LDS_KEYMAP_MAX_MATCHES)
            return lds_fail(w->err, LDS_ERR_UNSUPPORTED,
                            "expected at most %d matches of \"%.*s\", found more", LDS_KEYMAP_MAX_MATCHES,
                            MAX_SHOWN, r->pattern);
        LDS_TRY(append(w, name + at, begin - at));
        LDS_TRY(append_replacement(w, r));
        at = end;
        uint32_t flags = LDS_REGEX_IS_UTF8 | (begin == end ? LDS_REGEX_NOT_EMPTY_AT_START : 0);
        LDS_TRY(lds_regex_match(r->regex, &w->scratch->regex, name, nbytes, at, flags, &found, w->err));
    }
    LDS_TRY(append(w, name + at, nbytes - at));
    end_name(w);
    return LDS_OK;
}

static const char *reshape_text(char *text, size_t size, const compiled_rule *r)
{
    size_t at = 0;
    for (uint32_t i = 0; i < r->n_reshape && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%" PRId64, i ? ", " : "[", r->reshape[i]);
    if (at < size)
        snprintf(text + at, size - at, r->n_reshape ? "]" : "[]");
    return text;
}

/* Whether the rule's shape has numel elements; -1 stands for what is missing. */
static bool fits(const compiled_rule *r, uint64_t numel, uint64_t *shape)
{
    uint64_t product = 1;
    uint32_t inferred = UINT32_MAX;
    for (uint32_t i = 0; i < r->n_reshape; i++) {
        if (r->reshape[i] < 0)
            inferred = i;
        else if (!lds_mul(product, (uint64_t)r->reshape[i], &product))
            return false;
        shape[i] = (uint64_t)r->reshape[i];
    }
    if (inferred == UINT32_MAX)
        return product == numel;
    if (!product || numel % product)
        return false; /* with no elements, -1 could be anything */
    shape[inferred] = numel / product;
    return true;
}

static lds_status reshape(work *w, const compiled_rule *r)
{
    lds_mapped *mapped = w->mapped;
    char old[256], new[256];
    uint64_t numel, shape[LDS_MAX_DIMS];
    LDS_TRY(lds_shape_numel(&numel, mapped->n_dims, mapped->shape, w->err));
    if (!fits(r, numel, shape))
        return lds_fail(w->err, LDS_ERR_MISMATCH, "expected a shape that the key map can make %s, found %s",
                        reshape_text(new, sizeof new, r),
                        lds_shape_text(old, sizeof old, mapped->n_dims, mapped->shape));
    mapped->n_dims = r->n_reshape;
    memcpy(mapped->shape, shape, r->n_reshape * sizeof *shape);
    mapped->changed_shape = true;
    return LDS_OK;
}

/* As torch.unsqueeze: from -(n + 1) to n, where n is the number of dimensions before. */
static lds_status add_dim(work *w, const compiled_rule *r)
{
    lds_mapped *mapped = w->mapped;
    int64_t n = mapped->n_dims, at = r->add_dim < 0 ? r->add_dim + n + 1 : r->add_dim;
    char text[256];
    if (at < 0 || at > n || n == LDS_MAX_DIMS)
        return lds_fail(w->err, LDS_ERR_MISMATCH,
                        "expected a shape to which the key map can add dimension %" PRId32 ", found %s",
                        r->add_dim, lds_shape_text(text, sizeof text, mapped->n_dims, mapped->shape));
    memmove(mapped->shape + at + 1, mapped->shape + at, (size_t)(n - at) * sizeof *mapped->shape);
    mapped->shape[at] = 1;
    mapped->n_dims++;
    mapped->changed_shape = true;
    return LDS_OK;
}

/* A rule whose pattern was found. */
static lds_status apply_rule(work *w, const compiled_rule *r)
{
    if (r->drop) {
        w->mapped->dropped = true;
        return LDS_OK;
    }
    if (r->to) {
        if (r->match == LDS_MATCH_REGEX)
            LDS_TRY(replace_matches(w, r));
        else
            LDS_TRY(replace_front(w, r, r->pattern_nbytes));
    }
    if (r->reshapes)
        return reshape(w, r);
    return r->add_dim == LDS_NO_DIM ? LDS_OK : add_dim(w, r);
}

static lds_status apply_ordered(work *w, const rule_list *list)
{
    for (size_t i = 0; i < list->n && !w->mapped->dropped; i++) {
        const compiled_rule *r = &list->rules[i];
        const lds_mapped *mapped = w->mapped;
        bool found =
            mapped->name_nbytes >= r->pattern_nbytes && !memcmp(mapped->name, r->pattern, r->pattern_nbytes);
        if (r->match == LDS_MATCH_REGEX)
            LDS_TRY(lds_regex_match(r->regex, &w->scratch->regex, mapped->name, mapped->name_nbytes, 0, 0,
                                    &found, w->err));
        if (found)
            LDS_TRY(apply_rule(w, r));
    }
    return LDS_OK;
}

lds_status lds_keymap_apply(const lds_keymap *keymap, lds_keymap_scratch *scratch, lds_name name,
                            uint32_t n_dims, const uint64_t *shape, lds_mapped *mapped, lds_error *err)
{
    mapped->name = name.text;
    mapped->name_nbytes = name.nbytes;
    mapped->dropped = mapped->changed_shape = false;
    mapped->n_dims = n_dims;
    if (n_dims)
        memcpy(mapped->shape, shape, n_dims * sizeof *shape);
    if (!keymap)
        return LDS_OK;
    if (name.nbytes > LDS_KEYMAP_MAX_NAME_NBYTES)
        return lds_fail(err, LDS_ERR_UNSUPPORTED,
                        "expected a name of at most %d bytes for a key map, found %" PRIu32,
                        LDS_KEYMAP_MAX_NAME_NBYTES, name.nbytes);
    work w = {.scratch = scratch, .mapped = mapped, .err = err};
    uint32_t exact = lds_names_find(&keymap->exact_names, name);
    return exact == LDS_NO_INDEX ? apply_ordered(&w, &keymap->ordered)
                                 : apply_rule(&w, &keymap->exact.rules[exact]);
}

void lds_keymap_scratch_destroy(lds_keymap_scratch *scratch)
{
    lds_regex_scratch_destroy(&scratch->regex);
    free(scratch->text[0]);
    free(scratch->text[1]);
    *scratch = (lds_keymap_scratch){0};
}
