/*
 * The caller's memory that parameters lie in. A network keeps each such memory until its parameter has left it, and
 * so does every tensor of it, which may outlive the network. What keeps it is looked for by parameter, under the
 * network's guard: in an array with a place for each parameter, sorted by address.
 */
#include "network.h"

#include <stdlib.h>

/* ---- buffers as tensors ---- */

static const char HELD[] = "loadstone._core.buffer";

static void drop_buffer(PyObject *capsule)
{
    Py_buffer *view = PyCapsule_GetPointer(capsule, HELD);
    PyBuffer_Release(view);
    PyMem_Free(view);
}

/* memory_of(buffer): a writable, C-contiguous buffer, held, as a tensor of bytes. */
PyObject *core_memory_of(PyObject *module, PyObject *object)
{
    Py_buffer *view = PyMem_Calloc(1, sizeof *view);
    if (!view)
        return PyErr_NoMemory();
    if (PyObject_GetBuffer(object, view, PyBUF_WRITABLE)) {
        PyMem_Free(view);
        return NULL;
    }
    PyObject *keeper = PyCapsule_New(view, HELD, drop_buffer);
    if (!keeper) {
        PyBuffer_Release(view);
        PyMem_Free(view);
        return NULL;
    }
    PyObject *memory = core_bytes_at(PyModule_GetState(module), view->buf, (uint64_t)view->len, keeper);
    Py_DECREF(keeper);
    return memory;
}

/* ---- which parameter lies where ---- */

static const lds_param *root_of(const lds_param *param)
{
    const lds_param *target = lds_param_tied_to(param);
    return target ? target : param;
}

static int compare_places(const void *a, const void *b)
{
    const bound_param *x = a, *y = b;
    return (x->param > y->param) - (x->param < y->param);
}

static bound_param *find_place(const network_object *n, const lds_param *param)
{
    bound_param wanted = {.param = root_of(param)};
    return n->bound ? bsearch(&wanted, n->bound, n->n_bound, sizeof wanted, compare_places) : NULL;
}

/* A place for each parameter, held as a writer; -1 with an exception. */
static int make_places(network_object *n, const lds_network *network)
{
    size_t count = lds_network_n_params(network);
    n->bound = PyMem_Calloc(count, sizeof *n->bound);
    if (!n->bound) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        n->bound[i].param = lds_network_param(network, i);
    n->n_bound = count;
    qsort(n->bound, count, sizeof *n->bound, compare_places);
    return 0;
}

PyObject *core_bound_keeper(const network_object *n, const lds_param *param, const void *data)
{
    const bound_param *place = find_place(n, param);
    return place && place->memory && place->memory->data == data ? place->memory->keeper : NULL;
}

void core_bound_destroy(network_object *n)
{
    for (size_t i = 0; i < n->n_bound; i++)
        Py_XDECREF((PyObject *)n->bound[i].memory);
    PyMem_Free(n->bound);
}

/* What keeps memory that the parameter of a place is no longer in, or NULL. */
static PyObject *take_left(bound_param *place)
{
    tensor_object *memory = place->memory;
    if (!memory || lds_param_data(place->param) == memory->data)
        return NULL;
    place->memory = NULL;
    return (PyObject *)memory;
}

void core_network_end_change(network_object *n, const lds_param *param)
{
    bound_param *places = param ? find_place(n, param) : n->bound;
    size_t count = !places ? 0 : param ? 1 : n->n_bound, n_left = 0;
    /* What a buffer's owner does at its end may be to look at the network: so that waits for the guard's. */
    PyObject **left = count ? PyMem_Calloc(count, sizeof *left) : NULL;
    for (size_t i = 0; left && i < count; i++) {
        left[n_left] = take_left(&places[i]);
        n_left += left[n_left] != NULL;
    }
    guard_end_write(&n->guard);
    for (size_t i = 0; i < n_left; i++)
        Py_DECREF(left[i]);
    PyMem_Free(left);
}

/* ---- binding ---- */

/*
 * Memory of the library's is what the parameter was in before: it goes back there, and loads leave it alone. In
 * memory of the caller's it is bound; the values are given up first, so that they are not converted.
 */
static lds_status place(lds_param *param, const tensor_object *memory, lds_dtype dtype, lds_error *err)
{
    if (memory && memory->storage && !memory->keeper)
        return lds_param_set_storage(param, memory->storage, memory->data, dtype ? dtype : memory->dtype,
                                     err);
    lds_status status = lds_param_bind(param, NULL, 0, NULL, NULL, err);
    if (!status && dtype)
        status = lds_param_set_dtype(param, dtype, NULL, err);
    if (!status && memory)
        status = lds_param_bind(param, memory->data, (uint64_t)memory->nbytes, NULL, NULL, err);
    return status;
}

PyObject *core_bind(network_object *n, lds_network *network, lds_param *param, tensor_object *memory,
                    lds_dtype dtype)
{
    if (!guard_try_write(&n->guard))
        return core_network_busy();
    if (!n->bound && make_places(n, network)) {
        guard_end_write(&n->guard);
        return NULL;
    }
    lds_error err = LDS_ERROR_INIT;
    lds_status status = place(param, memory, dtype, &err);
    PyObject *old = NULL;
    bound_param *bound = find_place(n, param);
    tensor_object *kept = bound->memory;
    /* What it lies in already stays kept as it is: or views of views would pile up. */
    if (!status && memory && memory->keeper &&
        !(kept && kept->data == memory->data && kept->nbytes == memory->nbytes)) {
        old = (PyObject *)kept;
        bound->memory = (tensor_object *)new_ref((PyObject *)memory);
    }
    core_network_end_change(n, param);
    Py_XDECREF(old);
    return status ? core_fail(n->state, &err) : new_ref(Py_None);
}
