/*
 * Leaving the page cache as it was. A load passes over its files once: what it brought into the page cache on the
 * way is of no use to it afterwards, and pushes out what others have there. So pages that were not there before a
 * read are let go of after it. The kernel's own reading ahead would blur what was there, and with this many reads
 * under way nobody needs it: it is switched off for the time.
 */
#include <fcntl.h>

#include "src/base/memory.h"
#include "src/io/input.h"

void lds_input_read_ahead(lds_input *input, bool is_on)
{
    for (size_t i = 0; i < input->n_files; i++)
        if (input->files[i].fd >= 0)
            posix_fadvise(input->files[i].fd, 0, 0, is_on ? POSIX_FADV_NORMAL : POSIX_FADV_RANDOM);
}

/* The pages of a read, from the first to the last that it touches. */
static void pages_of(const lds_read *read, uint64_t *begin, size_t *n)
{
    uint64_t page_nbytes = lds_page_nbytes();
    *begin = read->offset & ~(page_nbytes - 1);
    *n = (size_t)((lds_align_up(read->offset + read->nbytes, page_nbytes) - *begin) / page_nbytes);
}

void lds_page_cache_note(const lds_input *input, lds_read *read)
{
    const lds_input_file *file = &input->files[read->file];
    uint64_t begin, page_nbytes = lds_page_nbytes();
    size_t n;
    pages_of(read, &begin, &n);
    read->has_note = n <= LDS_MAX_PAGES && begin + n * page_nbytes <= SIZE_MAX / 2;
    if (!read->has_note)
        return;
    if (!file->hides_cache) {
        read->has_note = lds_file_look_at_pages(file->fd, begin, n * page_nbytes, read->was_cached);
        return;
    }
    size_t n_copied = (size_t)((read->at - begin) / page_nbytes);
    memset(read->was_cached, 1, n_copied);
    memset(read->was_cached + n_copied, 0, n - n_copied);
}

void lds_page_cache_let_go(const lds_input *input, lds_read *read)
{
    uint64_t begin, page_nbytes = lds_page_nbytes();
    size_t n;
    if (!read->has_note)
        return;
    pages_of(read, &begin, &n);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && (read->was_cached[end] & 1) == (read->was_cached[i] & 1);)
            end++;
        if (!(read->was_cached[i] & 1))
            posix_fadvise(input->files[read->file].fd, (off_t)(begin + i * page_nbytes),
                          (off_t)((end - i) * page_nbytes), POSIX_FADV_DONTNEED);
    }
    read->has_note = false;
}
