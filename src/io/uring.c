/*
 * Reads by io_uring: all that are waiting go to the kernel at once, from one thread, which then sleeps until one
 * of them is over. It is woken for new ones by an eventfd, of which a read is always under way beside the others.
 *
 * One thread does it all, and not each worker for itself, because the kernel ties requests to the thread that
 * made them: a thread cannot end before they have.
 *
 * Buffers that direct reads go to again and again are registered: the kernel then looks up and holds their pages
 * once, and not for each read. The arena is not, since each of its pages is read into once. Nor are files: what that
 * saves cannot be measured, and they stay open until the kernel has taken the ring down, which it does some time
 * after it was closed. A file system could not be unmounted right after a load.
 */
#include "src/io/input.h"

#ifdef LDS_HAVE_URING

#include <errno.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "src/base/memory.h"

/* Entries hold the reads that are under way, the one of the eventfd, and a request to give up each read. */
enum { MAX_UNDER_WAY = 120, N_ENTRIES = 256, MAX_REFUSALS = 100, REFUSED_US = 1000, N_PLACES = 256 };

/* What a completion belongs to, if not to a read. */
enum { OF_EVENT = MAX_UNDER_WAY, OF_CANCEL };

typedef struct lds_ring {
    struct io_uring uring;
    int event_fd;
    uint64_t event;      /* what the read of event_fd writes to */
    bool is_listening;   /* that read is under way */
    bool is_cancelled;   /* the kernel was asked to give up what is under way */
    bool is_asleep;      /* in the kernel: new reads must wake it; guarded by the input's lock */
    uint32_t n_refusals; /* of the kernel to take more, in a row */
    atomic_bool registers_buffers;
    atomic_uint n_places; /* for registered buffers, given away */
    uint32_t n_idle;
    uint8_t idle[MAX_UNDER_WAY];
    lds_read *reads[MAX_UNDER_WAY]; /* NULL where idle */
    lds_range ranges[MAX_UNDER_WAY];
} lds_ring;

static const char *why_not(int os_errno)
{
    switch (os_errno) {
    case ENOSYS: return "this kernel has no io_uring";
    case EPERM:
    case EACCES: return "io_uring is not permitted here";
    case ENOMEM: return "io_uring may not have the memory that it needs";
    default: return "io_uring does not work here";
    }
}

/*
 * What a file system cannot do by itself, as FUSE and most of those of networks, a thread of the kernel's waits for,
 * of which there are four a processor by default: few, for round trips. Kernels before 5.15 leave it at that.
 */
static void allow_workers(struct io_uring *uring)
{
    unsigned of_files_and_others[] = {MAX_UNDER_WAY, 0}; /* 0 changes nothing */
    (void)!io_uring_register_iowq_max_workers(uring, of_files_and_others);
}

static int ring_init(lds_ring *ring)
{
    struct io_uring_params params = {0};
    ring->event_fd = eventfd(0, EFD_CLOEXEC);
    if (ring->event_fd < 0)
        return -errno;
    int failed = io_uring_queue_init_params(N_ENTRIES, &ring->uring, &params);
    if (!failed && !(params.features & IORING_FEAT_RW_CUR_POS)) { /* plain reads came with it, in 5.6 */
        io_uring_queue_exit(&ring->uring);
        failed = -ENOSYS;
    }
    if (failed)
        close(ring->event_fd);
    else
        allow_workers(&ring->uring);
    return failed;
}

uint32_t lds_ring_register(lds_ring *ring, void *data, size_t nbytes)
{
    struct iovec buffer = {data, nbytes};
    if (!ring || !atomic_load(&ring->registers_buffers))
        return LDS_NO_PLACE;
    unsigned place = atomic_fetch_add(&ring->n_places, 1);
    if (place < N_PLACES && io_uring_register_buffers_update_tag(&ring->uring, place, &buffer, NULL, 1) == 1)
        return place;
    atomic_store(&ring->registers_buffers, false);
    return LDS_NO_PLACE;
}

const char *lds_ring_open(lds_input *input)
{
    const struct iovec empty[N_PLACES] = {0}; /* for later: kernels before 5.13 refuse */
    lds_ring *ring;
    if (lds_calloc(&ring, 1, sizeof *ring, NULL))
        return why_not(ENOMEM);
    int failed = ring_init(ring);
    if (failed) {
        free(ring);
        return why_not(-failed);
    }
    while (ring->n_idle < MAX_UNDER_WAY) {
        ring->idle[ring->n_idle] = (uint8_t)ring->n_idle;
        ring->n_idle++;
    }
    atomic_store(&ring->registers_buffers,
                 input->has_direct && !io_uring_register_buffers(&ring->uring, empty, N_PLACES));
    input->ring = ring;
    return NULL;
}

void lds_ring_close(lds_ring *ring)
{
    if (!ring)
        return;
    io_uring_queue_exit(&ring->uring);
    close(ring->event_fd);
    free(ring);
}

static bool is_under_way(const lds_ring *ring)
{
    return ring->n_idle < MAX_UNDER_WAY;
}

static void prepare(lds_input *input, uint32_t index)
{
    lds_ring *ring = input->ring;
    lds_range *range = &ring->ranges[index];
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    const lds_read *read = ring->reads[index];
    *range = lds_read_range(input, read);
    if (read->buffer && read->storage == read->buffer && read->place != LDS_NO_PLACE)
        io_uring_prep_read_fixed(sqe, range->fd, range->data, (unsigned)range->nbytes, range->offset,
                                 (int)read->place);
    else
        io_uring_prep_read(sqe, range->fd, range->data, (unsigned)range->nbytes, range->offset);
    sqe->user_data = index;
}

static void listen_for_wake(lds_ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    io_uring_prep_read(sqe, ring->event_fd, &ring->event, sizeof ring->event, 0);
    sqe->user_data = OF_EVENT;
    ring->is_listening = true;
}

/* Ask for an end of what is under way; some file systems can, and what has not begun always can. */
static void cancel_all(lds_ring *ring)
{
    for (uint32_t i = 0; i < MAX_UNDER_WAY; i++) {
        if (!ring->reads[i])
            continue;
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
        io_uring_prep_rw(IORING_OP_ASYNC_CANCEL, sqe, -1, NULL, 0, 0);
        sqe->addr = i;
        sqe->user_data = OF_CANCEL;
    }
    ring->is_cancelled = true;
}

static void release(lds_input *input, uint32_t index)
{
    lds_ring *ring = input->ring;
    ring->reads[index] = NULL;
    ring->idle[ring->n_idle++] = (uint8_t)index;
}

/* Deal with all completions that there are. Called with the lock, as is what follows. */
static void reap(lds_input *input)
{
    lds_ring *ring = input->ring;
    struct io_uring_cqe *cqe;
    while (!io_uring_peek_cqe(&ring->uring, &cqe) && cqe) {
        uint64_t what = cqe->user_data;
        int result = cqe->res;
        io_uring_cqe_seen(&ring->uring, cqe);
        ring->is_listening &= what != OF_EVENT;
        if (what >= MAX_UNDER_WAY)
            continue;
        lds_read *read = ring->reads[what];
        if (lds_read_advance(input, read, &ring->ranges[what], result)) {
            release(input, (uint32_t)what);
            lds_input_finish(input, read);
        } else {
            prepare(input, (uint32_t)what);
        }
    }
}

/* Put back what was prepared and not taken by the kernel: others will read it. */
static void put_back(lds_input *input)
{
    lds_ring *ring = input->ring;
    unsigned n = io_uring_sq_ready(&ring->uring);
    for (unsigned i = 1; i <= n; i++) {
        const struct io_uring_sq *sq = &ring->uring.sq;
        uint64_t what = sq->sqes[(sq->sqe_tail - i) & *sq->kring_mask].user_data;
        lds_read *read = what < MAX_UNDER_WAY ? ring->reads[what] : NULL;
        if (!read) /* or it was put back before */
            continue;
        release(input, (uint32_t)what);
        lds_input_put_back(input, read);
    }
}

/* Send what was prepared, and wait until something is over. False if the kernel takes no more. */
static bool send_and_wait(lds_input *input)
{
    lds_ring *ring = input->ring;
    ring->is_asleep = true;
    pthread_mutex_unlock(&input->lock);
    int n = io_uring_submit_and_wait(&ring->uring, 1);
    bool is_refusal = n == -EAGAIN || n == -EBUSY || n == -ENOMEM;
    ring->n_refusals = is_refusal ? ring->n_refusals + 1 : 0;
    if (is_refusal)
        usleep(REFUSED_US);
    pthread_mutex_lock(&input->lock);
    ring->is_asleep = false;
    return n >= 0 || n == -EINTR || (is_refusal && ring->n_refusals < MAX_REFUSALS);
}

/* The kernel takes no more: wait for what it has, and leave the rest to pread. */
static void give_up(lds_input *input)
{
    lds_ring *ring = input->ring;
    struct io_uring_cqe *cqe;
    put_back(input);
    lds_input_lose_ring(input, "io_uring stopped working");
    while (is_under_way(ring)) {
        pthread_mutex_unlock(&input->lock);
        int failed = io_uring_wait_cqe(&ring->uring, &cqe);
        pthread_mutex_lock(&input->lock);
        if (!failed)
            reap(input);
        put_back(input); /* reads that need another call */
    }
}

/* Until the end, or until the ring is lost: false then. */
static bool serve(lds_input *input)
{
    lds_ring *ring = input->ring;
    for (lds_read *read;;) {
        while (ring->n_idle && (read = lds_input_take(input))) {
            uint32_t index = ring->idle[--ring->n_idle];
            ring->reads[index] = read;
            prepare(input, index);
        }
        if (!is_under_way(ring) && input->is_ending)
            return true;
        if (!is_under_way(ring)) {
            input->n_idle++;
            pthread_cond_wait(&input->work, &input->lock);
            input->n_idle--;
            continue;
        }
        if (input->is_ending && !ring->is_cancelled)
            cancel_all(ring);
        if (!ring->is_listening)
            listen_for_wake(ring);
        if (!send_and_wait(input))
            return false;
        reap(input);
    }
}

static void uring_run(lds_input *input)
{
    pthread_mutex_lock(&input->lock);
    bool is_lost = !serve(input);
    if (is_lost)
        give_up(input);
    pthread_mutex_unlock(&input->lock);
    if (is_lost)
        lds_source_pread.run(input);
}

static void uring_wake(lds_input *input)
{
    const uint64_t one = 1;
    if (!input->ring->is_asleep)
        pthread_cond_signal(&input->work);
    else if (write(input->ring->event_fd, &one, sizeof one) < 0)
        return; /* it has been woken as often as the counter can count */
}

#else

const char *lds_ring_open(lds_input *input)
{
    (void)input;
    return "built without io_uring";
}

void lds_ring_close(struct lds_ring *ring)
{
    (void)ring;
}

uint32_t lds_ring_register(struct lds_ring *ring, void *data, size_t nbytes)
{
    (void)ring, (void)data, (void)nbytes;
    return LDS_NO_PLACE;
}

static void uring_run(lds_input *input)
{
    (void)input;
}

static void uring_wake(lds_input *input)
{
    (void)input;
}

#endif

const lds_source lds_source_uring = {.has_one_thread = true, .run = uring_run, .wake = uring_wake};
