/*
 * The extension module loadstone._core: the library's handles as Python objects, and nothing more. Defaults,
 * conversions to and from NumPy and everything to look at are Python, in the package around it.
 *
 * All types are heap types and all state is the module's, so that each interpreter has its own. Objects keep
 * their type, and so the module and its state, alive. Handles that are only read need no lock; a network's
 * parameters change, and are guarded by lds_guard, with or without the GIL.
 */
#ifndef LDS_PYTHON_CORE_H
#define LDS_PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <sched.h>
#include <stdatomic.h>

#include "loadstone.h"

enum { N_DTYPES = 32 };

typedef struct core_state {
    PyTypeObject *checkpoint_type, *checkpoint_tensor_type, *tensor_type, *network_type, *parameter_type,
        *keymap_type;
    PyObject *dtypes[N_DTYPES]; /* loadstone.dtypes.DType, by lds_dtype; NULL where there is none */
    PyObject *make_error;       /* loadstone._errors.make_error */
} core_state;

typedef struct checkpoint_object {
    PyObject_HEAD core_state *state;
    PyObject *parent; /* the pipeline that closes it, or NULL */
    const lds_checkpoint *checkpoint;
} checkpoint_object;

/* Row-major memory: a parameter's storage, or a block of our own. */
typedef struct tensor_object {
    PyObject_VAR_HEAD core_state *state;
    lds_storage *storage; /* or NULL */
    PyObject *keeper;     /* what keeps the caller's memory, or NULL */
    void *own;            /* freed with it, or NULL */
    void *data;
    lds_dtype dtype;
    int n_dims;
    Py_ssize_t nbytes;
    Py_ssize_t numel;
    Py_ssize_t dims[]; /* shape, strides in bytes, strides in elements */
} tensor_object;

typedef struct keymap_object {
    PyObject_HEAD lds_keymap *keymap;
} keymap_object;

/* errors.c. All set an exception and return NULL. */
PyObject *core_fail(core_state *state, const lds_error *err);
PyObject *core_fail_with_report(core_state *state, const lds_error *err, PyObject *report);

/* dtypes.c */
int core_load_dtypes(core_state *state);
/* A new reference. */
PyObject *core_dtype_object(core_state *state, lds_dtype dtype);
/* The dtype that an object means (None: LDS_DTYPE_NONE); -1 with an exception. */
int core_dtype_of(core_state *state, PyObject *object);
PyObject *core_shape(uint32_t n_dims, const uint64_t *shape);
PyObject *core_dtype(PyObject *module, PyObject *object);
PyObject *core_convert(PyObject *module, PyObject *const *args, Py_ssize_t n);

/* tensor.c */
/* n_dims values of shape; memory of its own, if storage is NULL. */
tensor_object *core_tensor_new(core_state *state, lds_dtype dtype, uint32_t n_dims, const uint64_t *shape,
                               uint64_t nbytes, bool has_own_memory);
/* Call a function of one of the package's Python modules; steals nothing. */
PyObject *core_call(const char *module, const char *function, PyObject *arg, PyObject *second);

/* The table of every type that a file defines. */
extern PyType_Spec core_checkpoint_spec, core_checkpoint_tensor_spec, core_tensor_spec, core_network_spec,
    core_parameter_spec, core_keymap_spec;
PyObject *core_cannot_make(PyTypeObject *type, PyObject *args, PyObject *kwargs);

/* Functions of the module, by file. */
PyObject *core_open(PyObject *module, PyObject *args);
PyObject *core_network_from_checkpoint(PyObject *module, PyObject *args);
PyObject *core_network_from_config(PyObject *module, PyObject *args);
PyObject *core_network_from_manifest(PyObject *module, PyObject *args);
PyObject *core_network_new(PyObject *module, PyObject *args);
PyObject *core_keymap_from_json(PyObject *module, PyObject *args);
PyObject *core_report(lds_report *report);

/* -1: one thread changes what is guarded; n: so many look at it, none for longer than a few loads of memory. */
typedef struct lds_guard {
    atomic_int users;
} lds_guard;

static inline bool guard_try_read(lds_guard *guard)
{
    int users = atomic_load(&guard->users);
    while (users >= 0)
        if (atomic_compare_exchange_weak(&guard->users, &users, users + 1))
            return true;
    return false;
}

static inline void guard_end_read(lds_guard *guard)
{
    atomic_fetch_sub(&guard->users, 1);
}

static inline bool guard_try_write(lds_guard *guard)
{
    int users = 0;
    while (!atomic_compare_exchange_weak(&guard->users, &users, -1)) {
        if (users < 0)
            return false;
        sched_yield();
        users = 0;
    }
    return true;
}

static inline void guard_end_write(lds_guard *guard)
{
    atomic_store(&guard->users, 0);
}

static inline PyObject *new_ref(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

/* The end of every dealloc: objects of heap types own a reference to their type. */
static inline void free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

#endif
