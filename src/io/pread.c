/*
 * Reads by pread(2), one at a time on each of a number of threads of the input's own. The threads sleep in the kernel
 * nearly all of the time, so there may be more of them than processors.
 */
#include <errno.h>
#include <signal.h>

#include "src/base/clock.h"
#include "src/io/input.h"

enum { STACK_NBYTES = 256 << 10 };

/* The read that has waited longest, or NULL. Called with the lock. */
static lds_read *take(lds_input *input)
{
    lds_read *read = input->is_ending ? NULL : lds_read_queue_take(&input->waiting);
    if (!read)
        return NULL;
    input->n_waiting--;
    input->n_taken++;
    input->n_taken_foreign += !read->storage;
    return read;
}

/* A read that was taken is over. Called with the lock. */
static void finish(lds_input *input, lds_read *read)
{
    lds_reader *reader = read->reader;
    lds_read_queue_put(&reader->done, read);
    input->n_taken_foreign -= !read->storage;
    input->n_taken--;
    if (input->is_ending)
        pthread_cond_signal(&input->quiet);
    pthread_cond_signal(&reader->done_cond);
}

static void *thread_main(void *arg)
{
    lds_input *input = arg;
    pthread_mutex_lock(&input->lock);
    for (;;) {
        lds_read *read = take(input);
        if (read) {
            pthread_mutex_unlock(&input->lock);
            lds_read_blocking(input, read);
            pthread_mutex_lock(&input->lock);
            finish(input, read);
        } else if (input->is_ending) {
            break;
        } else {
            input->n_idle++;
            pthread_cond_wait(&input->work, &input->lock);
            input->n_idle--;
        }
    }
    pthread_mutex_unlock(&input->lock);
    lds_input_leave(input);
    return NULL;
}

/* Signals are the program's. */
bool lds_input_start_thread(lds_input *input, pthread_t *thread, void *(*run)(void *input))
{
    sigset_t all, before;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_NBYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = !pthread_create(thread, &attr, run, input);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    input->n_running += ok;
    return ok;
}

void lds_input_leave(lds_input *input)
{
    pthread_mutex_lock(&input->lock);
    bool is_last = !--input->n_running && atomic_load(&input->is_orphaned);
    pthread_cond_broadcast(&input->quiet);
    pthread_mutex_unlock(&input->lock);
    if (is_last)
        lds_input_free(input);
}

static bool start_one(lds_input *input)
{
    bool ok = lds_input_start_thread(input, &input->threads[input->n_started], thread_main);
    input->n_started += ok;
    return ok;
}

bool lds_input_hand_over(lds_input *input, lds_read *read)
{
    pthread_mutex_lock(&input->lock);
    bool wants_more = input->n_waiting >= input->n_idle && input->n_started < input->options.max_threads;
    bool ok = (wants_more && start_one(input)) || input->n_started;
    if (ok) {
        lds_read_queue_put(&input->waiting, read);
        input->n_waiting++;
        pthread_cond_signal(&input->work);
    }
    pthread_mutex_unlock(&input->lock);
    return ok;
}

void lds_input_end_threads(lds_input *input)
{
    struct timespec until = lds_after_ms(LDS_END_MS);
    bool is_late = false;
    input->is_ending = true;
    pthread_cond_broadcast(&input->work);
    while (input->n_taken && !(is_late && !input->n_taken_foreign)) {
        if (is_late)
            pthread_cond_wait(&input->quiet, &input->lock);
        else
            is_late = pthread_cond_timedwait(&input->quiet, &input->lock, &until) == ETIMEDOUT;
    }
}
