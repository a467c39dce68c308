/*
 * A handler of SIGBUS. It does nothing but to put zeros where a page is gone, and to note that: the thread goes on, and
 * whoever looks at the note throws away what came of it. A library has no business in handling signals for longer than
 * it must, or those of others; so it does for the time of a load that looks at a mapping, and passes the rest on.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "src/base/memory.h"
#include "src/io/guard.h"

typedef struct guard {
    uintptr_t begin, end; /* of whole pages; both 0 where there is none */
    atomic_bool *is_lost;
    sigset_t mask; /* what the thread blocked before */
} guard;

static _Thread_local guard mine;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t n_users;
static struct sigaction before;
static bool is_put; /* by the first of these users */
/*
 * Somebody else has handled the signal since this handler was there first, and may pass on to it, now and later. To put
 * it before theirs would be a circle: from here on it is where they have it, or before nobody.
 */
static bool is_theirs;

static bool replace_by_zeros(void)
{
    atomic_store(mine.is_lost, true);
    int saved = errno;
    void *pages = mmap((void *)mine.begin, mine.end - mine.begin, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    errno = saved;
    return pages != MAP_FAILED;
}

static bool is_nobodys(const struct sigaction *action)
{
    return action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN;
}

/* To the handler before. Where there was none, the signal comes again, as an access does, and ends the process. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    const bool is_sent = info->si_code <= 0;
    if (before.sa_handler == SIG_IGN && is_sent)
        return;
    if (is_nobodys(&before)) {
        signal(number, SIG_DFL);
        if (is_sent)
            raise(number);
    } else if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else {
        before.sa_handler(number);
    }
}

static void handle(int number, siginfo_t *info, void *context)
{
    const uintptr_t at = (uintptr_t)info->si_addr;
    if (info->si_code <= 0 || at < mine.begin || at >= mine.end || !replace_by_zeros())
        pass_on(number, info, context);
}

void lds_guard_open(void)
{
    struct sigaction ours = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK}, now;
    sigemptyset(&ours.sa_mask);
    pthread_mutex_lock(&lock);
    if (!n_users++) {
        sigaction(SIGBUS, NULL, &now);
        is_put = now.sa_sigaction != handle && (!is_theirs || is_nobodys(&now));
        if (is_put)
            sigaction(SIGBUS, &ours, &before);
    }
    pthread_mutex_unlock(&lock);
}

void lds_guard_close(void)
{
    struct sigaction now;
    pthread_mutex_lock(&lock);
    if (!--n_users && is_put) {
        sigaction(SIGBUS, NULL, &now);
        if (now.sa_sigaction == handle)
            sigaction(SIGBUS, &before, NULL);
        else
            is_theirs = true;
    }
    pthread_mutex_unlock(&lock);
}

void lds_guard_begin(const void *data, size_t nbytes, atomic_bool *is_lost)
{
    const uintptr_t page = lds_page_nbytes();
    mine = (guard){
        .begin = (uintptr_t)data / page * page,
        .end = lds_align_up((uintptr_t)data + nbytes, page),
        .is_lost = is_lost,
    };
    sigset_t bus;
    sigemptyset(&bus);
    sigaddset(&bus, SIGBUS); /* blocked, it would end the process */
    pthread_sigmask(SIG_UNBLOCK, &bus, &mine.mask);
}

void lds_guard_end(void)
{
    pthread_sigmask(SIG_SETMASK, &mine.mask, NULL);
    mine = (guard){0};
}
