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

enum {
    N_DTYPES = 32,
    MAX_THREADS = 1024,
    MAX_DIMS = 64 /* what NumPy and DLPack's readers take */
};

typedef struct core_state {
    PyTypeObject *checkpoint_type, *checkpoint_tensor_type, *tensor_type, *network_type, *parameter_type,
        *keymap_type, *pool_type;
    PyObject *dtypes[N_DTYPES]; /* loadstone.dtypes.DType, by lds_dtype; NULL where there is none */
    PyObject *make_error;       /* loadstone._errors.make_error */
} core_state;

typedef struct checkpoint_object {
    PyObject_HEAD core_state *state;
    PyObject *parent;                 /* the pipeline that closes it, or NULL */
    const lds_checkpoint *checkpoint; /* between core_checkpoint_begin() and core_checkpoint_end() */
    atomic_int users; /* calls that use it, and one until it is closed; a part's are its parent's */
    atomic_bool is_closed;
} checkpoint_object;

/* What an index asks for. */
typedef struct core_selection {
    uint32_t n_dims, n_taken, n_kept;
    const uint64_t *extents; /* n_dims */
    lds_slice *slices;       /* n_dims */
    uint64_t *shape;         /* n_kept: of the result */
} core_selection;

/* A number that is an argument. None, if it may be that, leaves the value as it is. */
typedef struct core_number {
    core_state *state;
    const char *name;
    uint64_t least, most, value;
    bool or_none;
} core_number;

/* A text that is an argument: UTF-8 without a NUL, as long as its str. None, if it may be that, leaves it NULL. */
typedef struct core_text {
    const char *name, *value;
    bool or_none;
} core_text;

/* Memory with several owners, of whom any thread may be the last, with Python or without it. */
typedef struct shared_memory {
    atomic_size_t n_owners;
    lds_storage *storage; /* or NULL */
    void *own;            /* or NULL */
    size_t own_nbytes;
} shared_memory;

/* Row-major memory: a parameter's storage, or a block of our own. */
typedef struct tensor_object {
    PyObject_VAR_HEAD core_state *state;
    lds_storage *storage;            /* or NULL */
    PyObject *keeper;                /* what keeps the caller's memory, or NULL */
    void *own;                       /* freed with it, or NULL */
    _Atomic(shared_memory *) shared; /* owns the two in the tensor's place; NULL until it is exported */
    void *data;
    lds_dtype dtype;
    int n_dims;
    Py_ssize_t nbytes;
    Py_ssize_t dims[]; /* shape, strides in bytes, strides in elements */
} tensor_object;

/* errors.c. All set an exception and return NULL. */
PyObject *core_fail(core_state *state, const lds_error *err);
PyObject *core_fail_with_report(core_state *state, const lds_error *err, PyObject *report);
/* A KeyError. */
PyObject *core_fail_key(PyObject *key);
/* An ArgumentError of the extension's own. */
PyObject *core_fail_argument(core_state *state, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* arguments.c */
/* An O& converter; ctx is a core_number without its value. An ArgumentError unless that is least to most. */
int core_take_number(PyObject *object, void *ctx);
/* An O& converter; ctx is a core_text without its value. A TypeError for what is no str, a ValueError for a NUL. */
int core_take_text(PyObject *object, void *ctx);
/* The text of a name that is looked up, or NULL for anything that is in no file; no exception. */
const char *core_name_of(PyObject *object);
/* A shape as n_dims numbers, to be freed with PyMem_Free(); NULL with an exception. */
uint64_t *core_take_shape(core_state *state, PyObject *object, Py_ssize_t *n_dims);

/* dtypes.c */
int core_load_dtypes(core_state *state);
/* A new reference. */
PyObject *core_dtype_object(core_state *state, lds_dtype dtype);
/* The dtype that an object means (None: LDS_DTYPE_NONE); -1 with an exception. */
int core_dtype_of(core_state *state, PyObject *object);
PyObject *core_shape(uint32_t n_dims, const uint64_t *shape);
PyObject *core_dtype(PyObject *module, PyObject *object);
PyObject *core_convert(PyObject *module, PyObject *args);

/* tensor.c */
/* n_dims values of shape; memory of its own, or none yet. */
tensor_object *core_tensor_new(core_state *state, lds_dtype dtype, uint32_t n_dims, const uint64_t *shape,
                               uint64_t nbytes, bool has_own_memory);
/* A tensor of bytes in memory that keeper keeps. */
PyObject *core_bytes_at(core_state *state, void *data, uint64_t nbytes, PyObject *keeper);

/* dlpack.c: the method __dlpack_device__ of all tensors. */
PyObject *core_dlpack_device(PyObject *self, PyObject *unused);

/* checkpoint.c: NULL with an exception if it is closed; else it stays open until the end. */
const lds_checkpoint *core_checkpoint_begin(PyObject *self);
void core_checkpoint_end(PyObject *self);

/* checkpoint_tensor.c */
PyObject *core_checkpoint_tensor_new(checkpoint_object *owner, const lds_tensor *tensor);

/* selection.c: index NULL takes all. -1 with an exception, and nothing to destroy. */
int core_selection_init(core_selection *s, uint32_t n_dims, const uint64_t *extents, PyObject *index);
void core_selection_destroy(core_selection *s);

/* keymap.c: *keymap is that of a KeyMap, or NULL for None; -1 with an exception for anything else. */
int core_keymap_of(core_state *state, PyObject *object, const lds_keymap **keymap);

/* pool.c: *pool is that of a Pool, or NULL for None; -1 with an exception for anything else. */
int core_pool_of(core_state *state, PyObject *object, lds_pool **pool);

/* The table of every type that a file defines. */
extern PyType_Spec core_checkpoint_spec, core_checkpoint_tensor_spec, core_tensor_spec, core_network_spec,
    core_parameter_spec, core_keymap_spec, core_pool_spec;

/* module.c */
PyObject *core_cannot_make(PyTypeObject *type, PyObject *args, PyObject *kwargs);
/* Call a function of one of the package's Python modules; steals nothing. */
PyObject *core_call(const char *module, const char *function, PyObject *arg);

/* Functions of the module, by file. */
PyObject *core_open(PyObject *module, PyObject *args);
PyObject *core_network_from_checkpoint(PyObject *module, PyObject *args);
PyObject *core_network_from_config(PyObject *module, PyObject *args);
PyObject *core_network_from_manifest(PyObject *module, PyObject *args);
PyObject *core_network_new(PyObject *module, PyObject *args);
PyObject *core_memory_at(PyObject *module, PyObject *args);
PyObject *core_memory_of(PyObject *module, PyObject *object);
PyObject *core_tensor_of(PyObject *module, PyObject *args);
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
