/*
 * A pool keeps the pages of arenas that nobody uses any more.
 *
 * What costs time about memory is the page: the kernel clears it when it is first touched. So pages are what is
 * kept, and where they lie does not matter: mremap(2) moves them, page tables and all, to where an arena needs
 * them, a huge page at a time, and every page that the pool has is used before a fresh one is asked for. A model
 * of 6 GB that takes the place of one of 5 GB gets all of its pages, and 1 GB of new ones behind them.
 *
 * mremap moves parts of one mapping only, and mappings that were moved side by side stay two. So what is kept is
 * a list of pieces, each within one mapping, and an arena remembers of which pieces it was made. An arena for
 * which neighbours suffice is lent where it lies, without a system call.
 */
#include "src/network/pool.h"

#include <pthread.h>
#include <sys/mman.h>

#include "src/base/memory.h"
#include "src/base/options.h"

/* Pieces are whole huge pages. An arena of too many would wear out the kernel's limit of mappings. */
enum { GRAIN_NBYTES = LDS_HUGE_PAGE_NBYTES, MAX_PIECES = 256 };

typedef struct piece {
    uint8_t *data;
    size_t nbytes;
    uint64_t mapping; /* pieces with the same number are parts of one */
} piece;

/* Sorted by address; what lies side by side in one mapping is one piece. */
typedef struct pieces {
    piece *data;
    size_t n, capacity;
} pieces;

struct lds_pool {
    atomic_uint_fast32_t refs; /* the handle's, and one for each arena that is lent */
    pthread_mutex_t lock;      /* of the rest */
    bool is_closed;
    uint64_t max_nbytes;
    uint64_t n_mappings; /* so far: the next one's number */
    uint64_t idle_nbytes, lent_nbytes;
    pieces idle;
};

/* An arena that is lent. */
typedef struct loan {
    lds_pool *pool;
    pieces pieces;
    uint64_t nbytes;
} loan;

static void lower(pieces *list, size_t at, size_t n)
{
    memmove(&list->data[at], &list->data[at + n], (list->n - at - n) * sizeof *list->data);
    list->n -= n;
}

/* Put a piece into its place. There must be room for it. */
static void insert(pieces *list, piece p)
{
    size_t at = 0;
    while (at < list->n && list->data[at].data < p.data)
        at++;
    piece *before = at ? &list->data[at - 1] : NULL;
    if (before && before->mapping == p.mapping && before->data + before->nbytes == p.data) {
        before->nbytes += p.nbytes;
        at--;
    } else {
        memmove(&list->data[at + 1], &list->data[at], (list->n - at) * sizeof *list->data);
        list->data[at] = p;
        list->n++;
    }
    piece *it = &list->data[at], *next = it + 1;
    if (at + 1 < list->n && it->mapping == next->mapping && it->data + it->nbytes == next->data) {
        it->nbytes += next->nbytes;
        lower(list, at + 1, 1);
    }
}

/* Cut the first nbytes off a piece that is at least as long. */
static piece cut(pieces *list, size_t at, size_t nbytes)
{
    piece *p = &list->data[at], first = {p->data, nbytes, p->mapping};
    if (p->nbytes == nbytes) {
        lower(list, at, 1);
    } else {
        p->data += nbytes;
        p->nbytes -= nbytes;
    }
    return first;
}

static void unmap_all(pieces *list)
{
    for (size_t i = 0; i < list->n; i++)
        munmap(list->data[i].data, list->data[i].nbytes);
    free(list->data);
    *list = (pieces){0};
}

/* The smallest row of neighbours of at least nbytes: the index of its first, or list->n if there is none. */
static size_t find_row(const pieces *list, size_t nbytes)
{
    size_t best = list->n, best_nbytes = SIZE_MAX;
    for (size_t first = 0, end; first < list->n; first = end) {
        size_t sum = list->data[first].nbytes;
        for (end = first + 1; end < list->n; end++) {
            if (list->data[end - 1].data + list->data[end - 1].nbytes != list->data[end].data)
                break;
            sum += list->data[end].nbytes;
        }
        if (sum >= nbytes && sum < best_nbytes && end - first <= MAX_PIECES) {
            best = first;
            best_nbytes = sum;
        }
    }
    return best;
}

static size_t find_largest(const pieces *list)
{
    size_t largest = 0;
    for (size_t i = 1; i < list->n; i++)
        if (list->data[i].nbytes > list->data[largest].nbytes)
            largest = i;
    return largest;
}

/* Lend a row of neighbours where it lies. */
static void *take_row(lds_pool *pool, pieces *taken, size_t nbytes)
{
    size_t at = find_row(&pool->idle, nbytes);
    if (at == pool->idle.n)
        return NULL;
    void *data = pool->idle.data[at].data;
    for (size_t left = nbytes; left;) {
        size_t n = pool->idle.data[at].nbytes < left ? pool->idle.data[at].nbytes : left;
        insert(taken, cut(&pool->idle, at, n));
        left -= n;
    }
    return data;
}

/*
 * Fresh pages for the whole of it, of which the first are then replaced by idle ones. A piece that cannot be moved
 * leaves a hole, which is filled with fresh pages again; if that fails too, there is no memory.
 */
static void *assemble(lds_pool *pool, pieces *taken, uint64_t *n_used, size_t nbytes)
{
    uint8_t *data = lds_pages_map(nbytes);
    size_t done = 0;
    if (data == MAP_FAILED)
        return NULL;
    while (done < nbytes && pool->idle.n && taken->n < MAX_PIECES - 1) {
        size_t at = find_largest(&pool->idle), left = nbytes - done;
        piece p = cut(&pool->idle, at, pool->idle.data[at].nbytes < left ? pool->idle.data[at].nbytes : left);
        if (mremap(p.data, p.nbytes, p.nbytes, MREMAP_MAYMOVE | MREMAP_FIXED, data + done) == MAP_FAILED) {
            munmap(p.data, p.nbytes);
            pool->idle_nbytes -= p.nbytes;
            if (mmap(data + done, p.nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                     -1, 0) == MAP_FAILED) {
                munmap(data, nbytes);
                pool->idle_nbytes -= done;
                taken->n = 0;
                return NULL;
            }
            break;
        }
        insert(taken, (piece){data + done, p.nbytes, pool->n_mappings++});
        done += p.nbytes;
    }
    *n_used = done;
    if (done < nbytes)
        insert(taken, (piece){data + done, nbytes - done, pool->n_mappings++});
    return data;
}

static lds_status take(loan *l, void **data, uint64_t *n_used, lds_error *err)
{
    lds_pool *pool = l->pool;
    size_t nbytes = (size_t)l->nbytes;
    /* What is lent and what is left over from one piece: no list grows by more. */
    LDS_TRY(lds_grow(&pool->idle.data, &pool->idle.capacity, pool->idle.n + 1, sizeof(piece), err));
    LDS_TRY(lds_grow(&l->pieces.data, &l->pieces.capacity, MAX_PIECES, sizeof(piece), err));
    *n_used = nbytes;
    *data = take_row(pool, &l->pieces, nbytes);
    if (!*data)
        *data = assemble(pool, &l->pieces, n_used, nbytes);
    if (!*data)
        return lds_fail_memory(err, nbytes);
    pool->idle_nbytes -= *n_used;
    pool->lent_nbytes += nbytes;
    return LDS_OK;
}

static void trim(lds_pool *pool, uint64_t keep_nbytes)
{
    while (pool->idle_nbytes > keep_nbytes && pool->idle.n) {
        uint64_t excess = pool->idle_nbytes - keep_nbytes;
        piece *last = &pool->idle.data[pool->idle.n - 1];
        size_t n = last->nbytes < excess ? last->nbytes : (size_t)lds_align_up(excess, GRAIN_NBYTES);
        munmap(last->data + last->nbytes - n, n);
        pool->idle_nbytes -= n;
        last->nbytes -= n;
        pool->idle.n -= !last->nbytes;
    }
}

static void drop_reference(lds_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_acq_rel) != 1)
        return;
    unmap_all(&pool->idle);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static void end_loan(loan *l)
{
    lds_pool *pool = l->pool;
    free(l->pieces.data);
    free(l);
    drop_reference(pool);
}

/* The end of an arena: its pages go back, unless the pool is closed, full, or cannot note them. */
static void give_back(void *ctx, void *data, size_t nbytes)
{
    (void)data, (void)nbytes;
    loan *l = ctx;
    lds_pool *pool = l->pool;
    pthread_mutex_lock(&pool->lock);
    pool->lent_nbytes -= l->nbytes;
    if (pool->is_closed ||
        lds_grow(&pool->idle.data, &pool->idle.capacity, pool->idle.n + l->pieces.n, sizeof(piece), NULL)) {
        unmap_all(&l->pieces);
    } else {
        for (size_t i = 0; i < l->pieces.n; i++)
            insert(&pool->idle, l->pieces.data[i]);
        pool->idle_nbytes += l->nbytes;
        trim(pool, pool->max_nbytes);
    }
    pthread_mutex_unlock(&pool->lock);
    end_loan(l);
}

lds_status lds_pool_take(lds_storage **storage, uint64_t *n_used, lds_pool *pool, uint64_t nbytes,
                         lds_error *err)
{
    if (nbytes > SIZE_MAX / 2)
        return lds_fail_memory(err, nbytes);
    loan *l;
    void *data;
    LDS_TRY(lds_calloc(&l, 1, sizeof *l, err));
    l->pool = pool;
    l->nbytes = lds_align_up(nbytes ? nbytes : 1, GRAIN_NBYTES);
    atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
    pthread_mutex_lock(&pool->lock);
    lds_status status = take(l, &data, n_used, err);
    pthread_mutex_unlock(&pool->lock);
    if (status) {
        end_loan(l);
        return status;
    }
    status = lds_storage_wrap(storage, data, nbytes, give_back, l, err);
    if (status)
        give_back(l, data, (size_t)nbytes);
    return status;
}

uint64_t lds_pool_idle_nbytes(lds_pool *pool)
{
    lds_pool_stats stats = {.struct_size = sizeof stats};
    lds_pool_get_stats(pool, &stats);
    return stats.idle_nbytes;
}

/* ------------------------------------------------------------------------------------------------------- */

lds_status lds_pool_create(lds_pool **pool, uint64_t max_nbytes, lds_error *err)
{
    *pool = NULL;
    lds_pool *p;
    LDS_TRY(lds_calloc(&p, 1, sizeof *p, err));
    atomic_init(&p->refs, 1);
    pthread_mutex_init(&p->lock, NULL);
    p->max_nbytes = max_nbytes ? max_nbytes : UINT64_MAX;
    *pool = p;
    return LDS_OK;
}

void lds_pool_trim(lds_pool *pool, uint64_t keep_nbytes)
{
    pthread_mutex_lock(&pool->lock);
    trim(pool, keep_nbytes);
    pthread_mutex_unlock(&pool->lock);
}

void lds_pool_get_stats(lds_pool *pool, lds_pool_stats *stats)
{
    pthread_mutex_lock(&pool->lock);
    lds_pool_stats s = {sizeof s, pool->idle_nbytes, pool->lent_nbytes};
    pthread_mutex_unlock(&pool->lock);
    lds_options_export(stats, stats->struct_size, &s, sizeof s);
}

void lds_pool_release(lds_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->is_closed = true;
    trim(pool, 0);
    pthread_mutex_unlock(&pool->lock);
    drop_reference(pool);
}
