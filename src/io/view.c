/*
 * Views of the page cache: bytes where the kernel has them, through a mapping, which saves the copy that any read is.
 * To touch a mapping is safe only while the file stays as long as it is. So a view is had under a read lease
 * (F_SETLEASE of fcntl(2)), which nobody gets for a file that somebody has open for writing. Whoever opens it for
 * writing then, or cuts it, waits in the kernel until the lease has ended, which it does with the last view; and there
 * is no further one while somebody waits. And only what the page cache has all of is made present, by a call that
 * reports what it cannot do. A page can be gone all the same: the kernel does not wait for a lease forever, which a
 * process that is stopped may have; and it may take a page away, and then not be able to read it again. For these
 * there is a guard, after which the block is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/io/guard.h"
#include "src/io/input.h"

/*
 * Making pages present and letting go of them takes time for each, or for as many as the page cache has in one piece, as
 * newer file systems have them: of single ones it takes longer than the copy. The kernel tells nobody which they are.
 * But to count them, in calls for 1 MiB each, takes 35 ns for a single one, and 1 to 4 for one of many.
 */
enum { MOST_NS_A_PAGE = 12, MOST_NS_BESIDES = 2000 };

/* After so many of single pages only one block in some is looked at: to count them takes a tenth of a copy's time. */
enum { MAX_SINGLE = 8, ONE_IN = 16 };

struct lds_view {
    lds_storage *mapping; /* of the whole file, or NULL if there can be no view */
    atomic_bool is_lost;  /* some of it is not the file's any more */
    pthread_mutex_t lock;
    uint32_t n_users; /* with one, there is a lease */
};

static const char *why_no_lease(int os_errno)
{
    return os_errno == EAGAIN   ? "a file is open for writing: copied from the page cache"
           : os_errno == EACCES ? "a file is another user's: copied from the page cache"
                                : "no leases on this file system: copied from the page cache";
}

lds_status lds_views_open(lds_input *input, lds_error *err)
{
    const lds_input_options *o = &input->options;
    LDS_TRY(lds_calloc(&input->views, input->n_files, sizeof *input->views, err));
    lds_guard_open();
    for (size_t i = 0; i < input->n_files; i++) {
        lds_view *view = &input->views[i];
        const lds_input_file *file = &input->files[i];
        pthread_mutex_init(&view->lock, NULL);
        if (file->fd < 0)
            continue;
        if (file->hides_cache)
            lds_input_fall_back(input, why_no_lease(EACCES));
        else if (file->is_overlay) /* nothing tells how large its pages are */
            lds_input_fall_back(input, "a file is in an overlay: copied from the page cache");
        else if (file->is_shared ||
                 lds_storage_map(&view->mapping, file->fd, 0, o->files[i].identity.nbytes, NULL))
            lds_input_fall_back(input, "a file cannot be mapped once more: copied from the page cache");
    }
    return LDS_OK;
}

void lds_views_close(lds_input *input)
{
    if (!input->views)
        return;
    lds_guard_close();
    for (size_t i = 0; i < input->n_files; i++) {
        lds_storage_release(input->views[i].mapping);
        pthread_mutex_destroy(&input->views[i].lock);
    }
    free(input->views);
}

/* A lease is over when somebody waits for its end, too. */
static bool holds(int fd)
{
    return fcntl(fd, F_GETLEASE) == F_RDLCK;
}

/* That it is to end nobody is told by a signal: each block looks. Until that is arranged, it is one that is ignored. */
static bool take_lease(int fd)
{
    if (fcntl(fd, F_SETSIG, SIGURG) || fcntl(fd, F_SETLEASE, F_RDLCK))
        return false;
    (void)!fcntl(fd, F_SETOWN, 0);
    return true;
}

static bool enter(lds_input *input, lds_view *view, int fd)
{
    pthread_mutex_lock(&view->lock);
    bool ok = view->n_users ? holds(fd) : take_lease(fd);
    if (!ok && !view->n_users)
        lds_input_fall_back(input, why_no_lease(errno));
    view->n_users += ok;
    pthread_mutex_unlock(&view->lock);
    return ok;
}

static bool leave(lds_view *view, int fd)
{
    pthread_mutex_lock(&view->lock);
    bool ok = holds(fd);
    if (!--view->n_users)
        (void)!fcntl(fd, F_SETLEASE, F_UNLCK);
    pthread_mutex_unlock(&view->lock);
    return ok;
}

static uint8_t *data_at(const lds_view *view, uint64_t offset)
{
    return (uint8_t *)view->mapping->data + offset;
}

/*
 * Unmap what a view had mapped, in whole huge pages, which it came in by where the page cache has such. A neighbour's
 * beginning or end that goes with it comes back when it is touched.
 */
static void let_go(const lds_view *view, uint64_t offset, size_t nbytes)
{
    uintptr_t base = (uintptr_t)view->mapping->data, begin = base + offset, end = begin + nbytes;
    begin &= ~(uintptr_t)(LDS_HUGE_PAGE_NBYTES - 1);
    begin = begin < base ? base : begin;
    end = lds_align_up(end, LDS_HUGE_PAGE_NBYTES);
    uintptr_t last = lds_align_up(base + view->mapping->nbytes, lds_page_nbytes());
    madvise((void *)begin, (end < last ? end : last) - begin, MADV_DONTNEED);
}

static bool is_passed(lds_input *input)
{
    bool is_hopeless = atomic_load(&input->n_single) > atomic_load(&input->n_viewed) + MAX_SINGLE;
    return is_hopeless && atomic_fetch_add(&input->n_passed, 1) % ONE_IN;
}

/* Whether the page cache has all of a block, in pieces of several pages. */
static bool is_worth_it(lds_input *input, uint32_t file, uint64_t offset, size_t nbytes)
{
    if (is_passed(input))
        return false;
    uint64_t began = lds_now_ns();
    if (lds_input_resident(input, file, offset, nbytes) < nbytes)
        return false;
    bool is_single = lds_now_ns() - began > MOST_NS_BESIDES + MOST_NS_A_PAGE * (nbytes / lds_page_nbytes());
    if (is_single)
        atomic_fetch_add(&input->n_single, 1);
    return !is_single;
}

const uint8_t *lds_input_view(lds_input *input, uint32_t file, uint64_t offset, size_t nbytes)
{
    lds_view *view = input->views ? &input->views[file] : NULL;
    if (!view || !view->mapping || atomic_load(&view->is_lost))
        return NULL;
    int fd = input->files[file].fd;
    if (!is_worth_it(input, file, offset, nbytes) || !enter(input, view, fd))
        return NULL;
    if (lds_map_make_present(data_at(view, offset), nbytes)) {
        atomic_fetch_add(&input->n_viewed, 1);
        lds_guard_begin(data_at(view, offset), nbytes, &view->is_lost);
        return data_at(view, offset);
    }
    lds_input_fall_back(input, "no pages can be made present: copied from the page cache");
    leave(view, fd);
    return NULL;
}

bool lds_input_end_view(lds_input *input, uint32_t file, uint64_t offset, size_t nbytes)
{
    lds_view *view = &input->views[file];
    lds_guard_end();
    let_go(view, offset, nbytes);
    bool ok = !atomic_load(&view->is_lost);
    if (!ok)
        lds_input_fall_back(input, "a page was gone while it was looked at: read instead");
    return leave(view, input->files[file].fd) && ok;
}
