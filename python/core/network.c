/*
 * Networks, their parameters, and loading into them. A network that is built by hand is a builder until it is
 * first looked at. Whatever changes parameters holds the guard as a writer, also while it runs without the GIL;
 * a second call is refused then, and does not wait: the progress callback might be the one who makes it.
 */
#include <string.h>

#include "core.h"

/* A buffer that a parameter lies in; held as long as the network and the tensors that were asked of it. */
typedef struct bound_buffer {
    struct bound_buffer *next;
    Py_buffer view;
} bound_buffer;

typedef struct network_object {
    PyObject_HEAD core_state *state;
    _Atomic(lds_network *) network;
    lds_builder *builder; /* until there is a network */
    lds_guard guard;
    bound_buffer *bound;
} network_object;

typedef struct parameter_object {
    PyObject_HEAD network_object *owner;
    lds_param *param;
} parameter_object;

static PyObject *say_busy(void)
{
    PyErr_SetString(PyExc_RuntimeError, "the network is being changed by another call");
    return NULL;
}

/* ---- making ---- */

static PyObject *network_make(PyObject *type, core_state *state, lds_network *network, lds_builder *builder)
{
    PyTypeObject *t = (PyTypeObject *)type;
    network_object *self = NULL;
    if (!PyType_Check(type) || !PyType_IsSubtype(t, state->network_type))
        PyErr_Format(PyExc_TypeError, "expected a type of network, found %R", type);
    else
        self = (network_object *)t->tp_alloc(t, 0);
    if (!self) {
        lds_network_free(network);
        lds_builder_free(builder);
        return NULL;
    }
    self->state = state;
    atomic_init(&self->network, network);
    self->builder = builder;
    return (PyObject *)self;
}

/* _network_new(type, dtype) */
PyObject *core_network_new(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type, *object;
    if (!PyArg_ParseTuple(args, "OO:_network_new", &type, &object))
        return NULL;
    int dtype = core_dtype_of(state, object);
    if (dtype < 0)
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_builder *builder;
    if (lds_builder_new(&builder, (lds_dtype)dtype, &err))
        return core_fail(state, &err);
    return network_make(type, state, NULL, builder);
}

/* _network_from_checkpoint(type, checkpoint, dtype) */
PyObject *core_network_from_checkpoint(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type, *checkpoint, *object;
    if (!PyArg_ParseTuple(args, "OO!O:_network_from_checkpoint", &type, state->checkpoint_type, &checkpoint,
                          &object))
        return NULL;
    int dtype = core_dtype_of(state, object);
    if (dtype < 0)
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_network *network;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = lds_network_from_checkpoint(&network, ((checkpoint_object *)checkpoint)->checkpoint,
                                         (lds_dtype)dtype, &err);
    Py_END_ALLOW_THREADS;
    return status ? core_fail(state, &err) : network_make(type, state, network, NULL);
}

/* _network_from_config(type, path, dtype) */
PyObject *core_network_from_config(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type, *path = NULL, *object;
    if (!PyArg_ParseTuple(args, "OO&O:_network_from_config", &type, PyUnicode_FSConverter, &path, &object))
        return NULL;
    int dtype = core_dtype_of(state, object);
    lds_error err = LDS_ERROR_INIT;
    lds_network *network = NULL;
    lds_status status = LDS_OK;
    if (dtype >= 0) {
        Py_BEGIN_ALLOW_THREADS;
        status = lds_network_from_config(&network, PyBytes_AS_STRING(path), (lds_dtype)dtype, &err);
        Py_END_ALLOW_THREADS;
    }
    Py_DECREF(path);
    if (dtype < 0)
        return NULL;
    return status ? core_fail(state, &err) : network_make(type, state, network, NULL);
}

/* _network_from_manifest(type, json, file) */
PyObject *core_network_from_manifest(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type;
    Py_buffer json;
    const char *file;
    if (!PyArg_ParseTuple(args, "Oy*s:_network_from_manifest", &type, &json, &file))
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_network *network;
    lds_status status = lds_network_from_manifest(&network, json.buf, (size_t)json.len, file, &err);
    PyBuffer_Release(&json);
    return status ? core_fail(state, &err) : network_make(type, state, network, NULL);
}

static void network_dealloc(PyObject *self)
{
    network_object *n = (network_object *)self;
    lds_network_free(atomic_load(&n->network));
    lds_builder_free(n->builder);
    while (n->bound) {
        bound_buffer *bound = n->bound;
        n->bound = bound->next;
        PyBuffer_Release(&bound->view);
        PyMem_Free(bound);
    }
    free_object(self);
}

/* ---- building by hand ---- */

/* The builder, held as a writer, or NULL with an exception. */
static lds_builder *begin_building(network_object *self)
{
    if (!guard_try_write(&self->guard))
        return (lds_builder *)say_busy();
    if (self->builder)
        return self->builder;
    guard_end_write(&self->guard);
    PyErr_SetString(PyExc_ValueError,
                    "the network is complete: parameters are added before it is first used");
    return NULL;
}

/* The builder's error comes with the end of the builder. */
static PyObject *end_building(network_object *self, PyObject *result)
{
    lds_error err = LDS_ERROR_INIT;
    lds_network *network;
    lds_status status = lds_builder_status(self->builder);
    if (status) {
        status = lds_builder_finish(&network, self->builder, &err);
        self->builder = NULL;
    }
    guard_end_write(&self->guard);
    if (!status)
        return result;
    Py_XDECREF(result);
    return core_fail(self->state, &err);
}

/* The network, completed if it was being built; NULL with an exception. */
static lds_network *network_of(network_object *self)
{
    lds_network *network = atomic_load(&self->network);
    if (network)
        return network;
    if (!guard_try_write(&self->guard))
        return (lds_network *)say_busy();
    lds_error err = LDS_ERROR_INIT;
    lds_status status = LDS_OK;
    network = atomic_load(&self->network);
    if (!network && self->builder) {
        status = lds_builder_finish(&network, self->builder, &err);
        self->builder = NULL;
        atomic_store(&self->network, network);
    }
    guard_end_write(&self->guard);
    if (status)
        return (lds_network *)core_fail(self->state, &err);
    if (!network)
        PyErr_SetString(PyExc_ValueError, "the network could not be built: see the first error");
    return network;
}

/* The caller's shape as numbers, to be freed with PyMem_Free(). */
static uint64_t *take_shape(PyObject *object, Py_ssize_t *n_dims)
{
    PyObject *items = PySequence_Fast(object, "expected a shape: a sequence of integers");
    if (!items)
        return NULL;
    *n_dims = PySequence_Fast_GET_SIZE(items);
    uint64_t *shape = PyMem_Calloc((size_t)*n_dims + 1, sizeof *shape);
    if (!shape)
        PyErr_NoMemory();
    for (Py_ssize_t d = 0; shape && d < *n_dims; d++) {
        PyObject *extent = PyNumber_Index(PySequence_Fast_GET_ITEM(items, d));
        shape[d] = extent ? PyLong_AsUnsignedLongLong(extent) : 0;
        Py_XDECREF(extent);
        if (PyErr_Occurred()) {
            PyMem_Free(shape);
            shape = NULL;
        }
    }
    Py_DECREF(items);
    return shape;
}

/* _add(name, shape, dtype, kind, a, b, lo, hi) */
static PyObject *network_add(PyObject *self, PyObject *args)
{
    network_object *n = (network_object *)self;
    const char *name;
    PyObject *shape_object, *dtype_object;
    int kind;
    lds_init init = {0};
    if (!PyArg_ParseTuple(args, "sOOidddd:_add", &name, &shape_object, &dtype_object, &kind, &init.a, &init.b,
                          &init.lo, &init.hi))
        return NULL;
    init.kind = (lds_init_kind)kind;
    int dtype = core_dtype_of(n->state, dtype_object);
    Py_ssize_t n_dims;
    uint64_t *shape = dtype < 0 ? NULL : take_shape(shape_object, &n_dims);
    lds_builder *builder = shape ? begin_building(n) : NULL;
    PyObject *result = NULL;
    if (builder) {
        lds_builder_add(builder, name, (lds_dtype)dtype, (uint32_t)n_dims, shape, &init);
        result = end_building(n, new_ref(Py_None));
    }
    PyMem_Free(shape);
    return result;
}

static PyObject *network_tie(PyObject *self, PyObject *args)
{
    const char *name, *target;
    if (!PyArg_ParseTuple(args, "ss:tie", &name, &target))
        return NULL;
    lds_builder *builder = begin_building((network_object *)self);
    if (!builder)
        return NULL;
    lds_builder_tie(builder, name, target);
    return end_building((network_object *)self, new_ref(Py_None));
}

static PyObject *network_enter(PyObject *self, PyObject *arg)
{
    const char *name = PyUnicode_AsUTF8(arg);
    lds_builder *builder = name ? begin_building((network_object *)self) : NULL;
    if (!builder)
        return NULL;
    lds_scope scope = lds_builder_enter(builder, "%s", name);
    return end_building((network_object *)self, PyLong_FromUnsignedLong(scope));
}

static PyObject *network_push_dtype(PyObject *self, PyObject *arg)
{
    int dtype = core_dtype_of(((network_object *)self)->state, arg);
    lds_builder *builder = dtype < 0 ? NULL : begin_building((network_object *)self);
    if (!builder)
        return NULL;
    lds_scope scope = lds_builder_push_dtype(builder, (lds_dtype)dtype);
    return end_building((network_object *)self, PyLong_FromUnsignedLong(scope));
}

/* Leaving is no error when the network is complete, or could not be built: a with statement does it always. */
static PyObject *network_leave(PyObject *self, PyObject *arg)
{
    network_object *n = (network_object *)self;
    unsigned long scope = PyLong_AsUnsignedLong(arg);
    if (scope == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (!guard_try_write(&n->guard))
        return say_busy();
    if (n->builder) {
        lds_builder_leave(n->builder, (lds_scope)scope);
        return end_building(n, new_ref(Py_None));
    }
    guard_end_write(&n->guard);
    return new_ref(Py_None);
}

/* ---- looking ---- */

static Py_ssize_t network_length(PyObject *self)
{
    lds_network *network = network_of((network_object *)self);
    return network ? (Py_ssize_t)lds_network_n_params(network) : -1;
}

/* NULL, with an exception only if the network could not be completed. */
static lds_param *find(network_object *self, PyObject *name)
{
    lds_network *network = network_of(self);
    if (!network)
        return NULL;
    Py_ssize_t nbytes;
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, &nbytes) : NULL;
    if (!text)
        PyErr_Clear();
    return text && strlen(text) == (size_t)nbytes ? lds_network_find(network, text) : NULL;
}

static lds_param *find_or_fail(network_object *self, PyObject *name)
{
    lds_param *param = find(self, name);
    if (!param && !PyErr_Occurred())
        PyErr_SetObject(PyExc_KeyError, name);
    return param;
}

static int network_contains(PyObject *self, PyObject *name)
{
    lds_param *param = find((network_object *)self, name);
    return param ? 1 : PyErr_Occurred() ? -1 : 0;
}

static PyObject *parameter_make(network_object *owner, lds_param *param)
{
    PyTypeObject *type = owner->state->parameter_type;
    parameter_object *self = (parameter_object *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->owner = (network_object *)new_ref((PyObject *)owner);
    self->param = param;
    return (PyObject *)self;
}

static PyObject *network_subscript(PyObject *self, PyObject *name)
{
    lds_param *param = find_or_fail((network_object *)self, name);
    return param ? parameter_make((network_object *)self, param) : NULL;
}

static bool has_values(network_object *self, const lds_param *param)
{
    bool can_read = guard_try_read(&self->guard), result = can_read && lds_param_data(param);
    if (can_read)
        guard_end_read(&self->guard);
    return result;
}

/* _names(only_with_values) */
static PyObject *network_names(PyObject *self, PyObject *arg)
{
    network_object *n = (network_object *)self;
    lds_network *network = network_of(n);
    int only_with_values = PyObject_IsTrue(arg);
    PyObject *list = network && only_with_values >= 0 ? PyList_New(0) : NULL;
    for (size_t i = 0; list && i < lds_network_n_params(network); i++) {
        const lds_param *param = lds_network_param(network, i);
        if (only_with_values && !has_values(n, param))
            continue;
        PyObject *name = PyUnicode_FromString(lds_param_name(param));
        if (!name || PyList_Append(list, name))
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

/* A tensor of the parameter's memory; NULL without an exception if there is none. */
static PyObject *tensor_of(network_object *self, const lds_param *param)
{
    if (!guard_try_read(&self->guard))
        return say_busy();
    lds_dtype dtype = lds_param_dtype(param);
    uint64_t nbytes = lds_param_nbytes(param);
    void *data = lds_param_data(param);
    lds_storage *storage = lds_param_storage(param);
    bool has_bound = self->bound;
    guard_end_read(&self->guard);
    if (!storage)
        return NULL;
    tensor_object *tensor =
        core_tensor_new(self->state, dtype, lds_param_n_dims(param), lds_param_shape(param), nbytes, false);
    if (!tensor) {
        lds_storage_release(storage);
        return NULL;
    }
    tensor->storage = storage;
    tensor->data = data;
    tensor->keeper = has_bound ? new_ref((PyObject *)self) : NULL;
    return (PyObject *)tensor;
}

static PyObject *network_tensor(PyObject *self, PyObject *name)
{
    lds_param *param = find_or_fail((network_object *)self, name);
    PyObject *tensor = param ? tensor_of((network_object *)self, param) : NULL;
    if (!tensor && !PyErr_Occurred())
        PyErr_SetObject(PyExc_KeyError, name);
    return tensor;
}

static PyObject *network_architecture(PyObject *self, void *unused)
{
    (void)unused;
    lds_network *network = network_of((network_object *)self);
    const char *name = network ? lds_network_architecture(network) : NULL;
    if (!network)
        return NULL;
    return name ? PyUnicode_FromString(name) : new_ref(Py_None);
}

/* ---- changing ---- */

/* The network, held as a writer; NULL with an exception. */
static lds_network *begin_change(network_object *self)
{
    lds_network *network = network_of(self);
    if (!network || guard_try_write(&self->guard))
        return network;
    return (lds_network *)say_busy();
}

static PyObject *network_to(PyObject *self, PyObject *arg)
{
    network_object *n = (network_object *)self;
    int dtype = core_dtype_of(n->state, arg);
    lds_network *network = dtype < 0 ? NULL : begin_change(n);
    if (!network)
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = lds_network_to(network, (lds_dtype)dtype, &err);
    guard_end_write(&n->guard);
    Py_END_ALLOW_THREADS;
    return status ? core_fail(n->state, &err) : new_ref(Py_None);
}

static PyObject *network_init_missing(PyObject *self, PyObject *args, PyObject *kwargs)
{
    network_object *n = (network_object *)self;
    unsigned long long seed = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|K:init_missing", (char *[]){"seed", NULL}, &seed))
        return NULL;
    lds_network *network = begin_change(n);
    if (!network)
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = lds_network_init(network, seed, &err);
    guard_end_write(&n->guard);
    Py_END_ALLOW_THREADS;
    return status ? core_fail(n->state, &err) : new_ref(Py_None);
}

static PyObject *bind_view(network_object *n, lds_param *param, lds_dtype dtype, bound_buffer *bound)
{
    if (!guard_try_write(&n->guard))
        return say_busy();
    lds_error err = LDS_ERROR_INIT;
    lds_status status = dtype ? lds_param_set_dtype(param, dtype, &err) : LDS_OK;
    if (!status)
        status = lds_param_bind(param, bound->view.buf, (uint64_t)bound->view.len, NULL, NULL, &err);
    if (!status) {
        bound->next = n->bound;
        n->bound = bound;
    }
    guard_end_write(&n->guard);
    return status ? core_fail(n->state, &err) : new_ref(Py_None);
}

/* _bind(name, buffer, dtype): the buffer is the parameter's memory from now on, as dtype unless that is None. */
static PyObject *network_bind(PyObject *self, PyObject *args)
{
    network_object *n = (network_object *)self;
    PyObject *name, *buffer, *dtype_object;
    if (!PyArg_ParseTuple(args, "OOO:_bind", &name, &buffer, &dtype_object))
        return NULL;
    int dtype = core_dtype_of(n->state, dtype_object);
    lds_param *param = dtype < 0 ? NULL : find_or_fail(n, name);
    bound_buffer *bound = param ? PyMem_Calloc(1, sizeof *bound) : NULL;
    if (!bound)
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    if (PyObject_GetBuffer(buffer, &bound->view, PyBUF_WRITABLE)) {
        PyMem_Free(bound);
        return NULL;
    }
    PyObject *result = bind_view(n, param, (lds_dtype)dtype, bound);
    if (!result) {
        PyBuffer_Release(&bound->view);
        PyMem_Free(bound);
    }
    return result;
}

/* ---- loading ---- */

/* What the progress callback needs; the thread state is that of the thread that called the load. */
typedef struct load_call {
    PyThreadState *thread;
    PyObject *progress; /* or NULL */
} load_call;

/* Signals are looked at here, so that an interrupt ends a load within a twentieth of a second. */
static int report_progress(void *ctx, const lds_progress *progress)
{
    load_call *call = ctx;
    PyEval_RestoreThread(call->thread);
    int failed = PyErr_CheckSignals();
    if (!failed && call->progress) {
        PyObject *result =
            PyObject_CallFunction(call->progress, "KKd", (unsigned long long)progress->done_nbytes,
                                  (unsigned long long)progress->total_nbytes, progress->seconds);
        failed = !result;
        Py_XDECREF(result);
    }
    call->thread = PyEval_SaveThread();
    return failed;
}

/* The texts of a tuple, which stay its own; to be freed with PyMem_Free(). */
static const char **take_texts(PyObject *tuple)
{
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    const char **texts = PyMem_Calloc((size_t)n + 1, sizeof *texts);
    if (!texts)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; texts && i < n; i++) {
        texts[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(tuple, i));
        if (!texts[i]) {
            PyMem_Free(texts);
            return NULL;
        }
    }
    return texts;
}

static PyObject *load(network_object *n, const lds_checkpoint *checkpoint, lds_load_options *options,
                      PyObject *progress)
{
    lds_network *network = begin_change(n);
    if (!network)
        return NULL;
    load_call call = {.progress = progress == Py_None ? NULL : progress};
    options->progress = report_progress;
    options->progress_ctx = &call;
    lds_error err = LDS_ERROR_INIT;
    lds_report *report;
    call.thread = PyEval_SaveThread();
    lds_status status = lds_load(network, checkpoint, options, &report, &err);
    guard_end_write(&n->guard);
    PyEval_RestoreThread(call.thread);
    PyObject *object = report ? core_report(report) : NULL;
    /* What the callback raised, or the interrupt. */
    if (PyErr_Occurred()) {
        Py_XDECREF(object);
        return NULL;
    }
    if (!status)
        return object;
    core_fail_with_report(n->state, &err, object);
    Py_XDECREF(object);
    return NULL;
}

/*
 * _load(checkpoint, dtype, keep_in_fp32, names, key_map, strict, ignore_mismatched, init_missing, lazy, seed, io,
 * threads, window, progress): a report as a dict. Defaults are the caller's business.
 */
static PyObject *network_load(PyObject *self, PyObject *args)
{
    network_object *n = (network_object *)self;
    core_state *state = n->state;
    PyObject *checkpoint, *dtype_object, *keep, *names, *key_map, *progress;
    int strict, ignore_mismatched, init_missing, lazy, io;
    unsigned long long seed, window;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "O!OO!O!OppppKiIKO:_load", state->checkpoint_type, &checkpoint, &dtype_object,
                          &PyTuple_Type, &keep, &PyTuple_Type, &names, &key_map, &strict, &ignore_mismatched,
                          &init_missing, &lazy, &seed, &io, &threads, &window, &progress))
        return NULL;
    if (key_map != Py_None && !PyObject_TypeCheck(key_map, state->keymap_type))
        return PyErr_Format(PyExc_TypeError, "expected a KeyMap, found %R", key_map);
    int dtype = core_dtype_of(state, dtype_object);
    if (dtype < 0)
        return NULL;
    const char **keep_texts = take_texts(keep), **name_texts = keep_texts ? take_texts(names) : NULL;
    PyObject *report = NULL;
    if (name_texts) {
        lds_load_options options;
        lds_load_options_init(&options, sizeof options);
        options.dtype = (lds_dtype)dtype;
        options.keep_f32 = keep_texts;
        options.n_keep_f32 = (size_t)PyTuple_GET_SIZE(keep);
        options.names = name_texts;
        options.n_names = (size_t)PyTuple_GET_SIZE(names);
        options.keymap = key_map == Py_None ? NULL : ((keymap_object *)key_map)->keymap;
        options.strict = strict;
        options.ignore_mismatched = ignore_mismatched;
        options.init_missing = init_missing;
        options.lazy = lazy;
        options.seed = seed;
        options.io = (lds_io)io;
        options.n_threads = threads;
        options.window_nbytes = window;
        report = load(n, ((checkpoint_object *)checkpoint)->checkpoint, &options, progress);
    }
    PyMem_Free(keep_texts);
    PyMem_Free(name_texts);
    return report;
}

static PyMethodDef network_methods[] = {
    {"_add", network_add, METH_VARARGS, NULL},
    {"_enter", network_enter, METH_O, NULL},
    {"_push_dtype", network_push_dtype, METH_O, NULL},
    {"_leave", network_leave, METH_O, NULL},
    {"_names", network_names, METH_O, NULL},
    {"_bind", network_bind, METH_VARARGS, NULL},
    {"_load", network_load, METH_VARARGS, NULL},
    {"_to", network_to, METH_O, NULL},
    {"tie", network_tie, METH_VARARGS,
     "tie($self, name, target, /)\n--\n\nAdd a name that shares the memory of another parameter."},
    {"tensor", network_tensor, METH_O,
     "tensor($self, name, /)\n--\n\nThe values of a parameter; KeyError if it has none."},
    {"init_missing", (PyCFunction)(void (*)(void))network_init_missing, METH_VARARGS | METH_KEYWORDS,
     "init_missing($self, /, seed=0)\n--\n\nGive every parameter that has no values its initial ones."},
    {NULL},
};

static PyGetSetDef network_getset[] = {
    {"architecture", network_architecture, NULL, "The class whose config it was made from, or None.", NULL},
    {NULL},
};

static PyType_Slot network_slots[] = {
    {Py_tp_doc, "An ordered set of parameters."},
    {Py_tp_new, core_cannot_make},
    {Py_tp_dealloc, network_dealloc},
    {Py_tp_methods, network_methods},
    {Py_tp_getset, network_getset},
    {Py_mp_length, network_length},
    {Py_mp_subscript, network_subscript},
    {Py_sq_contains, network_contains},
    {0, NULL},
};

PyType_Spec core_network_spec = {
    .name = "loadstone._core.Network",
    .basicsize = sizeof(network_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = network_slots,
};

/* ---- parameters ---- */

static void parameter_dealloc(PyObject *self)
{
    Py_XDECREF(((parameter_object *)self)->owner);
    free_object(self);
}

#define PARAM(self) (((parameter_object *)(self))->param)

static PyObject *get_name(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(lds_param_name(PARAM(self)));
}

static PyObject *get_shape(PyObject *self, void *unused)
{
    (void)unused;
    return core_shape(lds_param_n_dims(PARAM(self)), lds_param_shape(PARAM(self)));
}

/* What a load may change. */
typedef struct snapshot {
    lds_dtype dtype;
    uint64_t nbytes;
    void *data;
} snapshot;

static bool take_snapshot(snapshot *s, PyObject *self)
{
    network_object *owner = ((parameter_object *)self)->owner;
    if (!guard_try_read(&owner->guard))
        return say_busy();
    *s = (snapshot){lds_param_dtype(PARAM(self)), lds_param_nbytes(PARAM(self)), lds_param_data(PARAM(self))};
    guard_end_read(&owner->guard);
    return true;
}

static PyObject *get_dtype(PyObject *self, void *unused)
{
    (void)unused;
    snapshot s;
    return take_snapshot(&s, self) ? core_dtype_object(((parameter_object *)self)->owner->state, s.dtype)
                                   : NULL;
}

static PyObject *get_nbytes(PyObject *self, void *unused)
{
    (void)unused;
    snapshot s;
    return take_snapshot(&s, self) ? PyLong_FromUnsignedLongLong(s.nbytes) : NULL;
}

static PyObject *get_data_ptr(PyObject *self, void *unused)
{
    (void)unused;
    snapshot s;
    if (!take_snapshot(&s, self))
        return NULL;
    return s.data ? PyLong_FromVoidPtr(s.data) : new_ref(Py_None);
}

static PyObject *get_tied_to(PyObject *self, void *unused)
{
    (void)unused;
    const lds_param *target = lds_param_tied_to(PARAM(self));
    return target ? PyUnicode_FromString(lds_param_name(target)) : new_ref(Py_None);
}

static PyObject *get_init(PyObject *self, void *unused)
{
    (void)unused;
    lds_init init = lds_param_init(PARAM(self));
    if (init.kind == LDS_INIT_NONE)
        return new_ref(Py_None);
    return Py_BuildValue("{s:s,s:d,s:d,s:d,s:d}", "kind", lds_init_kind_name(init.kind), "a", init.a, "b",
                         init.b, "lo", init.lo, "hi", init.hi);
}

static PyObject *get_tensor(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *tensor = tensor_of(((parameter_object *)self)->owner, PARAM(self));
    return tensor || PyErr_Occurred() ? tensor : new_ref(Py_None);
}

static PyObject *parameter_set_dtype(PyObject *self, PyObject *arg)
{
    network_object *owner = ((parameter_object *)self)->owner;
    int dtype = core_dtype_of(owner->state, arg);
    if (dtype < 0)
        return NULL;
    if (!guard_try_write(&owner->guard))
        return say_busy();
    lds_error err = LDS_ERROR_INIT;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = lds_param_set_dtype(PARAM(self), (lds_dtype)dtype, &err);
    guard_end_write(&owner->guard);
    Py_END_ALLOW_THREADS;
    return status ? core_fail(owner->state, &err) : new_ref(Py_None);
}

static PyObject *parameter_repr(PyObject *self)
{
    return core_call("loadstone._show", "parameter", self, NULL);
}

static PyMethodDef parameter_methods[] = {
    {"set_dtype", parameter_set_dtype, METH_O,
     "set_dtype($self, dtype, /)\n--\n\nConvert the values in place; tensors asked for before keep the old ones."},
    {NULL},
};

static PyGetSetDef parameter_getset[] = {
    {"name", get_name, NULL, "Its name in the network.", NULL},
    {"dtype", get_dtype, NULL, "A loadstone.dtypes.DType.", NULL},
    {"shape", get_shape, NULL, "Extents in elements, outermost dimension first.", NULL},
    {"nbytes", get_nbytes, NULL, "Bytes that its values take.", NULL},
    {"data_ptr", get_data_ptr, NULL, "Address of its values, or None while it has none.", NULL},
    {"tied_to", get_tied_to, NULL, "Name of the parameter whose memory it shares, or None.", NULL},
    {"init", get_init, NULL, "Its init rule as a dict, or None.", NULL},
    {"tensor", get_tensor, NULL, "Its values, or None while it has none.", NULL},
    {NULL},
};

static PyType_Slot parameter_slots[] = {
    {Py_tp_doc, "One parameter of a network."},
    {Py_tp_new, core_cannot_make},
    {Py_tp_dealloc, parameter_dealloc},
    {Py_tp_repr, parameter_repr},
    {Py_tp_methods, parameter_methods},
    {Py_tp_getset, parameter_getset},
    {0, NULL},
};

PyType_Spec core_parameter_spec = {
    .name = "loadstone._core.Parameter",
    .basicsize = sizeof(parameter_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = parameter_slots,
};
