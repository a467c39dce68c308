/*
 * Reads by pread(2), one at a time on each of a number of threads: what is left where there is no io_uring. The
 * threads sleep in the kernel nearly all of the time, so there may be more of them than processors.
 */
#include "src/io/input.h"

static void pread_run(lds_input *input)
{
    pthread_mutex_lock(&input->lock);
    for (;;) {
        lds_read *read = lds_input_take(input);
        if (read) {
            pthread_mutex_unlock(&input->lock);
            lds_read_blocking(input, read);
            pthread_mutex_lock(&input->lock);
            lds_input_finish(input, read);
        } else if (input->is_ending) {
            break;
        } else {
            input->n_idle++;
            pthread_cond_wait(&input->work, &input->lock);
            input->n_idle--;
        }
    }
    pthread_mutex_unlock(&input->lock);
}

static void pread_wake(lds_input *input)
{
    pthread_cond_signal(&input->work);
}

const lds_source lds_source_pread = {.run = pread_run, .wake = pread_wake};
