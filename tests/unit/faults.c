/*
 * The linker's --wrap leads what is linked statically here for the allocating functions and for the system calls
 * that the library makes; with 64-bit offsets glibc's names of these end in 64.
 */
#include "tests/unit/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "src/io/async.h"

static _Atomic fault injected;
static atomic_uint_fast64_t left;    /* calls until the one that fails; 0 for none */
static atomic_uint_fast64_t n_bytes; /* of a piece */
static atomic_bool failed;
static atomic_int nowait_errno;

void faults_nowait(int os_errno)
{
    atomic_store(&nowait_errno, os_errno);
}

static atomic_bool lacks_uring, lacks_aio;

void faults_leave(bool uring, bool aio)
{
    atomic_store(&lacks_uring, !uring);
    atomic_store(&lacks_aio, !aio);
}

void faults_inject(fault kind, uint64_t n)
{
    atomic_store(&failed, false);
    atomic_store(&left, n);
    atomic_store(&n_bytes, n);
    atomic_store(&injected, kind);
}

bool faults_disarm(void)
{
    atomic_store(&injected, FAULT_NONE);
    return atomic_load(&failed);
}

static bool fails_always(fault kind)
{
    if (atomic_load(&injected) != kind)
        return false;
    atomic_store(&failed, true);
    return true;
}

static bool fails_now(fault kind)
{
    if (atomic_load(&injected) != kind)
        return false;
    uint_fast64_t n = atomic_load(&left);
    while (n && !atomic_compare_exchange_weak(&left, &n, n - 1))
        continue;
    return n == 1 && fails_always(kind);
}

/* The same, with the reason. */
static bool fails_with(int os_errno, fault kind)
{
    bool fails = fails_now(kind);
    if (fails)
        errno = os_errno;
    return fails;
}

/* ---- allocations ---- */

void *__real_malloc(size_t nbytes);
void *__real_calloc(size_t n, size_t nbytes);
void *__real_realloc(void *data, size_t nbytes);
void *__real_aligned_alloc(size_t alignment, size_t nbytes);
void *__wrap_malloc(size_t nbytes);
void *__wrap_calloc(size_t n, size_t nbytes);
void *__wrap_realloc(void *data, size_t nbytes);
void *__wrap_aligned_alloc(size_t alignment, size_t nbytes);

void *__wrap_malloc(size_t nbytes)
{
    return fails_now(FAULT_MEMORY) ? NULL : __real_malloc(nbytes);
}

void *__wrap_calloc(size_t n, size_t nbytes)
{
    return fails_now(FAULT_MEMORY) ? NULL : __real_calloc(n, nbytes);
}

void *__wrap_realloc(void *data, size_t nbytes)
{
    return fails_now(FAULT_MEMORY) ? NULL : __real_realloc(data, nbytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t nbytes)
{
    return fails_now(FAULT_MEMORY) ? NULL : __real_aligned_alloc(alignment, nbytes);
}

/* ---- system calls ---- */

void *__real_mmap64(void *at, size_t nbytes, int protection, int flags, int fd, off_t offset);
int __real_madvise(void *data, size_t nbytes, int advice);
int __real_fcntl64(int fd, int command, ...);
int __real_open64(const char *path, int flags, ...);
int __real_fstat64(int fd, struct stat *st);
long __real_syscall(long number, ...);
ssize_t __real_pread64(int fd, void *data, size_t nbytes, off_t offset);
void *__wrap_mmap64(void *at, size_t nbytes, int protection, int flags, int fd, off_t offset);
int __wrap_madvise(void *data, size_t nbytes, int advice);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_fstat64(int fd, struct stat *st);
long __wrap_syscall(long number, ...);
ssize_t __real_preadv64v2(int fd, const struct iovec *pieces, int n_pieces, off_t offset, int flags);
ssize_t __wrap_pread64(int fd, void *data, size_t nbytes, off_t offset);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *pieces, int n_pieces, off_t offset, int flags);

void *__wrap_mmap64(void *at, size_t nbytes, int protection, int flags, int fd, off_t offset)
{
    if (fails_with(ENOMEM, FAULT_MAP))
        return MAP_FAILED;
    return __real_mmap64(at, nbytes, protection, flags, fd, offset);
}

static void stall(void)
{
    if (fails_now(FAULT_STALL))
        while (atomic_load(&injected) == FAULT_STALL)
            usleep(1000);
}

/* As of a file that was cut off. */
static void lose_second_half(uint8_t *pages, size_t nbytes)
{
    const size_t n = nbytes / 8192 * 4096;
    int empty = memfd_create("empty", MFD_CLOEXEC);
    if (__real_mmap64(pages + n, nbytes - n, PROT_READ, MAP_SHARED | MAP_FIXED, empty, 0) == MAP_FAILED)
        abort();
    close(empty);
}

int __wrap_madvise(void *data, size_t nbytes, int advice)
{
    enum { POPULATE_READ = 22 };
    if (fails_always(FAULT_ADVICE)) {
        errno = EINVAL;
        return -1;
    }
    if (advice != POPULATE_READ)
        return __real_madvise(data, nbytes, advice);
    stall();
    int result = __real_madvise(data, nbytes, advice);
    if (!result && fails_now(FAULT_LOSS))
        lose_second_half(data, nbytes);
    return result;
}

/* A third argument that is not there is not looked at. */
int __wrap_fcntl64(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if (command != F_SETLEASE || argument != F_RDLCK || !fails_always(FAULT_LEASE))
        return __real_fcntl64(fd, command, argument);
    errno = (int)atomic_load(&n_bytes);
    return -1;
}

/* The library never creates a file, so there is no mode to pass on. */
int __wrap_open64(const char *path, int flags, ...)
{
    if (flags & O_DIRECT && fails_always(FAULT_DIRECT)) {
        errno = EINVAL;
        return -1;
    }
    return fails_with(EMFILE, FAULT_OPEN) ? -1 : __real_open64(path, flags);
}

int __wrap_fstat64(int fd, struct stat *st)
{
    return fails_with(EIO, FAULT_STAT) ? -1 : __real_fstat64(fd, st);
}

/* The library makes one call by its number, cachestat(2); of others the arguments that are not there do no harm. */
enum { NR_CACHESTAT = 451 };

/* As many arguments as the library's calls have at most; others are not looked at. */
long __wrap_syscall(long number, ...)
{
    long arguments[5];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 5; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == NR_CACHESTAT && fails_always(FAULT_COUNT)) {
        errno = ENOSYS;
        return -1;
    }
    return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]);
}

/* What becomes of a read of so many bytes: how many it may give, 0 for the end of the file, -1 for errno. */
static ssize_t fate(size_t nbytes)
{
    static atomic_uint n_calls;
    if (fails_with(EIO, FAULT_READ))
        return -1;
    if (fails_now(FAULT_END))
        return 0;
    stall();
    if (!fails_always(FAULT_PIECES))
        return (ssize_t)nbytes;
    if (atomic_fetch_add(&n_calls, 1) % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    size_t most = (size_t)atomic_load(&n_bytes);
    return (ssize_t)(nbytes < most ? nbytes : most);
}

ssize_t __wrap_pread64(int fd, void *data, size_t nbytes, off_t offset)
{
    if (__real_fcntl64(fd, F_GETFL) & O_DIRECT && fails_with(EINVAL, FAULT_REFUSED))
        return -1;
    ssize_t n = fate(nbytes);
    return n <= 0 ? n : __real_pread64(fd, data, (size_t)n, offset);
}

ssize_t __wrap_preadv64v2(int fd, const struct iovec *pieces, int n_pieces, off_t offset, int flags)
{
    int refusal = atomic_load(&nowait_errno);
    if (refusal) {
        errno = refusal;
        return -1;
    }
    ssize_t n = n_pieces == 1 ? fate(pieces->iov_len) : 0;
    struct iovec piece = {pieces->iov_base, (size_t)n};
    return n <= 0 ? n : __real_preadv64v2(fd, &piece, 1, offset, flags);
}

/* ---- reads that the kernel does by itself ---- */

const char *__real_lds_uring_open(lds_async **async, uint32_t depth, bool is_remote);
const char *__wrap_lds_uring_open(lds_async **async, uint32_t depth, bool is_remote);
bool __real_lds_aio_open(lds_async **async);
bool __wrap_lds_aio_open(lds_async **async);
lds_read *__real_lds_async_receive(lds_async *async, int wait_ms, long *result);
lds_read *__wrap_lds_async_receive(lds_async *async, int wait_ms, long *result);

const char *__wrap_lds_uring_open(lds_async **async, uint32_t depth, bool is_remote)
{
    return atomic_load(&lacks_uring) ? "no io_uring" : __real_lds_uring_open(async, depth, is_remote);
}

bool __wrap_lds_aio_open(lds_async **async)
{
    return !atomic_load(&lacks_aio) && __real_lds_aio_open(async);
}

/* Another result for a read that has come back. */
lds_read *__wrap_lds_async_receive(lds_async *async, int wait_ms, long *result)
{
    static atomic_uint n_seen;
    while (fails_always(FAULT_SILENCE)) {
        usleep(1000 * (useconds_t)(wait_ms < 0 ? 1 : wait_ms));
        if (wait_ms >= 0)
            return NULL;
    }
    lds_read *read = __real_lds_async_receive(async, wait_ms, result);
    long os_errno = (long)atomic_load(&n_bytes);
    if (!read)
        return NULL;
    if (fails_now(FAULT_RESULT))
        *result = -EIO;
    else if (fails_now(FAULT_REFUSED))
        *result = -EINVAL;
    else if (atomic_fetch_add(&n_seen, 1) % 2 == 0 && fails_always(FAULT_RESULTS))
        *result = os_errno ? -os_errno : *result / 3;
    return read;
}

#ifdef LDS_HAVE_URING
#include <liburing.h>
#include <pthread.h>

/*
 * liburing maps rings by system calls of its own, which ThreadSanitizer does not see. Where one lies in the place of
 * another whose load was cancelled, whose thread ends by itself, it is told by this that the first is over.
 */
static pthread_mutex_t ring_ends = PTHREAD_MUTEX_INITIALIZER;

static void pass_ring_end(void)
{
    pthread_mutex_lock(&ring_ends);
    pthread_mutex_unlock(&ring_ends);
}

void __real_io_uring_queue_exit(struct io_uring *ring);
void __wrap_io_uring_queue_exit(struct io_uring *ring);

void __wrap_io_uring_queue_exit(struct io_uring *ring)
{
    pass_ring_end();
    __real_io_uring_queue_exit(ring);
}

int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_submit(struct io_uring *ring);
int __real_io_uring_register_buffers(struct io_uring *ring, const struct iovec *buffers, unsigned n);
int __wrap_io_uring_register_buffers(struct io_uring *ring, const struct iovec *buffers, unsigned n);

int __wrap_io_uring_register_buffers(struct io_uring *ring, const struct iovec *buffers, unsigned n)
{
    return fails_now(FAULT_BUFFERS) ? -ENOMEM : __real_io_uring_register_buffers(ring, buffers, n);
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    if (fails_always(FAULT_RING))
        return -(int)atomic_load(&n_bytes);
    if (params->flags >= 1U << 8 && fails_always(FAULT_RING_FLAG))
        return -EINVAL;
    int status = __real_io_uring_queue_init_params(entries, ring, params);
    pass_ring_end();
    if (fails_always(FAULT_OLD_RING))
        params->features = IORING_FEAT_SINGLE_MMAP; /* Linux 5.4 */
    return status;
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
    bool fails = fails_now(FAULT_SUBMIT) || fails_always(FAULT_SUBMITS);
    return fails ? -ENOMEM : __real_io_uring_submit(ring);
}
#endif
