/* What the files about tensors in memory share. */
#ifndef LDS_PYTHON_TENSOR_H
#define LDS_PYTHON_TENSOR_H

#include "core.h"

static inline Py_ssize_t *shape_of(tensor_object *t)
{
    return t->dims;
}

/* In bytes. */
static inline Py_ssize_t *strides_of(tensor_object *t)
{
    return t->dims + t->n_dims;
}

/* In elements. */
static inline Py_ssize_t *steps_of(tensor_object *t)
{
    return t->dims + 2 * t->n_dims;
}

/* tensor.c: a tensor in memory of its own with the same elements. */
PyObject *core_tensor_copy(tensor_object *t);

/* tensor_memory.c */
/* The tensor's memory with one owner more; NULL if there is no memory to say so. */
shared_memory *core_share(tensor_object *t);
/* One owner less, on any thread, with Python or without it; the last one gives the memory back. */
void core_disown(shared_memory *shared);
/* The tensor's own part of that, at its end. */
void core_tensor_let_go(tensor_object *t);

/* tensor_buffer.c: the buffer protocol and __array_interface__. */
int core_tensor_get_buffer(PyObject *self, Py_buffer *view, int flags);
PyObject *core_tensor_array_interface(PyObject *self, void *unused);

/* dlpack.c: the method __dlpack__. */
PyObject *core_tensor_dlpack(PyObject *self, PyObject *args, PyObject *kwargs);

#endif
