/*
 * Who gives a tensor's memory back. That is the tensor, until it is exported by DLPack: from then on it is one owner of
 * several, of whom any thread may be the last, also one that never saw Python, and after Python has ended.
 */
#include <stdlib.h>

#include "tensor.h"

/* Less than this is given back before another thread would have taken over the interpreter. */
enum { LARGE_NBYTES = 8 << 20 };

/* Whether this thread has the interpreter. One that never saw Python may ask, also when Python has ended. */
static bool has_interpreter(void)
{
    PyThreadState *mine = PyGILState_GetThisThreadState();
#if PY_VERSION_HEX >= 0x030D0000
    return mine && mine == PyThreadState_GetUnchecked();
#else
    return mine && mine == _PyThreadState_UncheckedGet();
#endif
}

/* With the interpreter, others may have it while much is given back. */
static void give_back(lds_storage *storage, void *own, size_t own_nbytes, bool with_interpreter)
{
    uint64_t nbytes = storage ? lds_storage_freed_nbytes(storage) : own_nbytes;
    PyThreadState *thread = with_interpreter && nbytes >= LARGE_NBYTES ? PyEval_SaveThread() : NULL;
    lds_storage_release(storage);
    free(own);
    if (thread)
        PyEval_RestoreThread(thread);
}

shared_memory *core_share(tensor_object *t)
{
    shared_memory *shared = atomic_load(&t->shared);
    if (!shared) {
        shared_memory *made = malloc(sizeof *made);
        if (!made)
            return NULL;
        atomic_init(&made->n_owners, 1);
        made->storage = t->storage;
        made->own = t->own;
        made->own_nbytes = (size_t)t->nbytes;
        if (atomic_compare_exchange_strong(&t->shared, &shared, made))
            shared = made;
        else
            free(made);
    }
    atomic_fetch_add(&shared->n_owners, 1);
    return shared;
}

void core_disown(shared_memory *shared)
{
    if (atomic_fetch_sub(&shared->n_owners, 1) != 1)
        return;
    give_back(shared->storage, shared->own, shared->own_nbytes, has_interpreter());
    free(shared);
}

void core_tensor_let_go(tensor_object *t)
{
    shared_memory *shared = atomic_load(&t->shared);
    if (shared)
        core_disown(shared);
    else
        give_back(t->storage, t->own, (size_t)t->nbytes, !t->keeper);
}
