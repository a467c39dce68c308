/*
 * Reads that the kernel does by itself: each worker sends off its own and takes what has come of them, so that no
 * thread of the load's runs beside its workers. What is under way when a worker must not wait any more is seen to its
 * end by a thread that the input starts for that.
 */
#include "src/io/async.h"

void lds_async_close(lds_async *async)
{
    if (async)
        async->kind->close(async);
}

bool lds_async_send(lds_async *async, lds_read *read, const lds_range *range)
{
    return async->kind->send(async, read, range);
}

void lds_async_cancel(lds_async *async, lds_read *read)
{
    if (async->kind->cancel)
        async->kind->cancel(async, read);
}

lds_read *lds_async_receive(lds_async *async, int wait_ms, long *result)
{
    return async->kind->receive(async, wait_ms, result);
}

void lds_async_hold(lds_async *async, const lds_storage *buffers)
{
    if (async->kind->hold)
        async->kind->hold(async, buffers);
}
