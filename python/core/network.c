/*
 * Networks: looking at them, and loading into them. Whatever changes parameters holds the guard as a writer, also
 * while it runs without the GIL; a second call is refused then, and does not wait: the progress callback might be
 * the one who makes it.
 */
#include "network.h"

PyObject *core_network_busy(void)
{
    PyErr_SetString(PyExc_RuntimeError, "the network is being changed by another call");
    return NULL;
}

static void network_dealloc(PyObject *self)
{
    network_object *n = (network_object *)self;
    Py_BEGIN_ALLOW_THREADS;
    lds_network_free(atomic_load(&n->network));
    Py_END_ALLOW_THREADS;
    lds_builder_free(n->builder);
    core_bound_destroy(n);
    free_object(self);
}

/* ---- looking ---- */

static Py_ssize_t network_length(PyObject *self)
{
    lds_network *network = core_network_of((network_object *)self);
    return network ? (Py_ssize_t)lds_network_n_params(network) : -1;
}

/* NULL, with an exception only if the network could not be completed. */
static lds_param *find(network_object *self, PyObject *name)
{
    lds_network *network = core_network_of(self);
    if (!network)
        return NULL;
    const char *text = core_name_of(name);
    return text ? lds_network_find(network, text) : NULL;
}

static lds_param *find_or_fail(network_object *self, PyObject *name)
{
    lds_param *param = find(self, name);
    if (!param && !PyErr_Occurred())
        core_fail_key(name);
    return param;
}

static int network_contains(PyObject *self, PyObject *name)
{
    lds_param *param = find((network_object *)self, name);
    return param ? 1 : PyErr_Occurred() ? -1 : 0;
}

static PyObject *network_subscript(PyObject *self, PyObject *name)
{
    lds_param *param = find_or_fail((network_object *)self, name);
    return param ? core_parameter_new((network_object *)self, param) : NULL;
}

/* Those that have values, if only these are wanted: as many as n says; to be freed with PyMem_Free(). */
static const lds_param **take_params(network_object *self, lds_network *network, bool only_with_values,
                                     size_t *n)
{
    size_t n_all = lds_network_n_params(network);
    const lds_param **params = PyMem_Calloc(n_all + 1, sizeof *params);
    if (!params)
        return (const lds_param **)PyErr_NoMemory();
    if (!guard_try_read(&self->guard)) {
        PyMem_Free(params);
        return (const lds_param **)core_network_busy();
    }
    for (size_t i = 0; i < n_all; i++) {
        const lds_param *param = lds_network_param(network, i);
        if (!only_with_values || lds_param_data(param))
            params[(*n)++] = param;
    }
    guard_end_read(&self->guard);
    return params;
}

/* _names(only_with_values) */
static PyObject *network_names(PyObject *self, PyObject *arg)
{
    network_object *owner = (network_object *)self;
    lds_network *network = core_network_of(owner);
    int only_with_values = PyObject_IsTrue(arg);
    if (!network || only_with_values < 0)
        return NULL;
    size_t n = 0;
    const lds_param **params = take_params(owner, network, only_with_values, &n);
    PyObject *list = params ? PyList_New((Py_ssize_t)n) : NULL;
    for (size_t i = 0; list && i < n; i++) {
        PyObject *name = PyUnicode_FromString(lds_param_name(params[i]));
        if (!name)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, name);
    }
    PyMem_Free(params);
    return list;
}

PyObject *core_network_tensor(network_object *self, const lds_param *param)
{
    if (!guard_try_read(&self->guard))
        return core_network_busy();
    lds_dtype dtype = lds_param_dtype(param);
    uint64_t nbytes = lds_param_nbytes(param);
    void *data = lds_param_data(param);
    lds_storage *storage = lds_param_storage(param);
    PyObject *keeper = core_bound_keeper(self, param, data);
    Py_XINCREF(keeper);
    guard_end_read(&self->guard);
    tensor_object *tensor = NULL;
    if (storage)
        tensor = core_tensor_new(self->state, dtype, lds_param_n_dims(param), lds_param_shape(param), nbytes,
                                 false);
    if (!tensor) {
        lds_storage_release(storage);
        Py_XDECREF(keeper);
        return NULL;
    }
    tensor->storage = storage;
    tensor->data = data;
    tensor->keeper = keeper;
    return (PyObject *)tensor;
}

static PyObject *network_tensor(PyObject *self, PyObject *name)
{
    lds_param *param = find_or_fail((network_object *)self, name);
    PyObject *tensor = param ? core_network_tensor((network_object *)self, param) : NULL;
    if (!tensor && !PyErr_Occurred())
        core_fail_key(name);
    return tensor;
}

/* None of these two completes a network that is being built: prompts and debuggers ask for them unasked. */
static PyObject *network_is_built(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(atomic_load(&((network_object *)self)->network) != NULL);
}

static PyObject *network_architecture(PyObject *self, void *unused)
{
    (void)unused;
    lds_network *network = atomic_load(&((network_object *)self)->network);
    const char *name = network ? lds_network_architecture(network) : NULL;
    return name ? PyUnicode_FromString(name) : new_ref(Py_None);
}

/* ---- changing ---- */

/* Signals are looked at here, so that an interrupt ends a call within a twentieth of a second. */
int core_watch(void *ctx, const lds_progress *progress)
{
    watched_call *call = ctx;
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

lds_change_options core_change_options(watched_call *call)
{
    lds_change_options options;
    lds_change_options_init(&options, sizeof options);
    options.progress = core_watch;
    options.progress_ctx = call;
    return options;
}

PyObject *core_changed(core_state *state, lds_status status, const lds_error *err)
{
    if (PyErr_Occurred())
        return NULL;
    return status ? core_fail(state, err) : new_ref(Py_None);
}

/* The network, held as a writer; NULL with an exception. */
static lds_network *begin_change(network_object *self)
{
    lds_network *network = core_network_of(self);
    if (!network || guard_try_write(&self->guard))
        return network;
    return (lds_network *)core_network_busy();
}

static PyObject *network_to(PyObject *self, PyObject *arg)
{
    network_object *n = (network_object *)self;
    int dtype = core_dtype_of(n->state, arg);
    lds_network *network = dtype < 0 ? NULL : begin_change(n);
    if (!network)
        return NULL;
    watched_call call = {.thread = PyEval_SaveThread()};
    lds_change_options options = core_change_options(&call);
    lds_error err = LDS_ERROR_INIT;
    lds_status status = lds_network_to(network, (lds_dtype)dtype, &options, &err);
    PyEval_RestoreThread(call.thread);
    core_network_end_change(n, NULL);
    return core_changed(n->state, status, &err);
}

static PyObject *network_init_missing(PyObject *self, PyObject *args, PyObject *kwargs)
{
    network_object *n = (network_object *)self;
    core_number seed = {.state = n->state, .name = "seed", .most = UINT64_MAX};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:init_missing", (char *[]){"seed", NULL},
                                     core_take_number, &seed))
        return NULL;
    lds_network *network = begin_change(n);
    if (!network)
        return NULL;
    watched_call call = {.thread = PyEval_SaveThread()};
    lds_change_options options = core_change_options(&call);
    lds_error err = LDS_ERROR_INIT;
    lds_status status = lds_network_init(network, seed.value, &options, &err);
    guard_end_write(&n->guard);
    PyEval_RestoreThread(call.thread);
    return core_changed(n->state, status, &err);
}

/* _bind(name, memory, dtype): its memory from now on is that of a Tensor, or none, as dtype unless that is None. */
static PyObject *network_bind(PyObject *self, PyObject *args)
{
    network_object *n = (network_object *)self;
    PyObject *name, *memory, *dtype_object;
    if (!PyArg_ParseTuple(args, "OOO:_bind", &name, &memory, &dtype_object))
        return NULL;
    if (memory != Py_None && !PyObject_TypeCheck(memory, n->state->tensor_type))
        return PyErr_Format(PyExc_TypeError, "expected a Tensor, found %R", memory);
    int dtype = core_dtype_of(n->state, dtype_object);
    lds_param *param = dtype < 0 ? NULL : find_or_fail(n, name);
    if (!param)
        return NULL;
    return core_bind(n, atomic_load(&n->network), param, memory == Py_None ? NULL : (tensor_object *)memory,
                     (lds_dtype)dtype);
}

/* ---- loading ---- */

/* The texts of a tuple that is an argument, which stay its own; to be freed with PyMem_Free(). */
static const char **take_texts(PyObject *tuple, const char *name)
{
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    const char **texts = PyMem_Calloc((size_t)n + 1, sizeof *texts);
    if (!texts)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; texts && i < n; i++) {
        core_text text = {.name = name};
        if (!core_take_text(PyTuple_GET_ITEM(tuple, i), &text)) {
            PyMem_Free(texts);
            return NULL;
        }
        texts[i] = text.value;
    }
    return texts;
}

static PyObject *load(network_object *n, const lds_checkpoint *checkpoint, lds_load_options *options,
                      PyObject *progress)
{
    lds_network *network = begin_change(n);
    if (!network)
        return NULL;
    watched_call call = {.progress = progress == Py_None ? NULL : progress};
    options->progress = core_watch;
    options->progress_ctx = &call;
    lds_error err = LDS_ERROR_INIT;
    lds_report *report;
    call.thread = PyEval_SaveThread();
    lds_status status = lds_load(network, checkpoint, options, &report, &err);
    PyEval_RestoreThread(call.thread);
    core_network_end_change(n, NULL);
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

/* The same with a trace that is written to a file, whose path is bytes, or NULL for none. */
static PyObject *load_traced(network_object *n, const lds_checkpoint *checkpoint, lds_load_options *options,
                             PyObject *progress, PyObject *path)
{
    if (!path)
        return load(n, checkpoint, options, progress);
    lds_error err = LDS_ERROR_INIT;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = lds_trace_check(PyBytes_AS_STRING(path), &err);
    Py_END_ALLOW_THREADS;
    if (status || lds_trace_new(&options->trace, &err))
        return core_fail(n->state, &err);
    PyObject *report = load(n, checkpoint, options, progress);
    Py_BEGIN_ALLOW_THREADS;
    status = lds_trace_write(options->trace, PyBytes_AS_STRING(path), &err);
    Py_END_ALLOW_THREADS;
    lds_trace_free(options->trace);
    if (!status || !report) /* of two errors the load's */
        return report;
    Py_DECREF(report);
    return core_fail(n->state, &err);
}

/*
 * _load(checkpoint, dtype, keep_in_fp32, names, key_map, strict, ignore_mismatched, init_missing, lazy, seed, io,
 * threads, progress, pool, hugetlb, overcommit, cache, cache_nbytes, trace, keep_cache, prefetch, window_nbytes): a
 * report as a dict. Defaults are the caller's business; threads, pool, cache and trace may be None.
 */
static PyObject *network_load(PyObject *self, PyObject *args)
{
    network_object *n = (network_object *)self;
    core_state *state = n->state;
    PyObject *checkpoint, *dtype_object, *keep, *names, *key_map, *progress, *pool_object, *cache_object,
        *trace_object;
    int strict, ignore_mismatched, init_missing, lazy, io, hugetlb, overcommit, keep_cache, prefetch;
    core_number seed = {.state = state, .name = "seed", .most = UINT64_MAX};
    core_number threads = {
        .state = state, .name = "threads", .least = 1, .most = MAX_THREADS, .or_none = true};
    core_number cache_nbytes = {.state = state, .name = "cache_nbytes", .most = UINT64_MAX};
    core_number window_nbytes = {.state = state, .name = "window_nbytes", .most = UINT64_MAX};
    if (!PyArg_ParseTuple(args, "O!OO!O!OppppO&iO&OOppOO&OppO&:_load", state->checkpoint_type, &checkpoint,
                          &dtype_object, &PyTuple_Type, &keep, &PyTuple_Type, &names, &key_map, &strict,
                          &ignore_mismatched, &init_missing, &lazy, core_take_number, &seed, &io,
                          core_take_number, &threads, &progress, &pool_object, &hugetlb, &overcommit,
                          &cache_object, core_take_number, &cache_nbytes, &trace_object, &keep_cache,
                          &prefetch, core_take_number, &window_nbytes))
        return NULL;
    int dtype = core_dtype_of(state, dtype_object);
    const lds_keymap *keymap;
    lds_pool *pool;
    if (dtype < 0 || core_keymap_of(state, key_map, &keymap) || core_pool_of(state, pool_object, &pool))
        return NULL;
    PyObject *cache = NULL, *trace = NULL; /* the bytes of paths */
    if ((cache_object != Py_None && !PyUnicode_FSConverter(cache_object, &cache)) ||
        (trace_object != Py_None && !PyUnicode_FSConverter(trace_object, &trace))) {
        Py_XDECREF(cache);
        return NULL;
    }
    const char **keep_texts = take_texts(keep, "keep_in_fp32"),
               **name_texts = keep_texts ? take_texts(names, "names") : NULL;
    PyObject *report = NULL;
    if (name_texts) {
        lds_load_options options;
        lds_load_options_init(&options, sizeof options);
        options.dtype = (lds_dtype)dtype;
        options.keep_f32 = keep_texts;
        options.n_keep_f32 = (size_t)PyTuple_GET_SIZE(keep);
        options.names = name_texts;
        options.n_names = (size_t)PyTuple_GET_SIZE(names);
        options.keymap = keymap;
        options.strict = strict;
        options.ignore_mismatched = ignore_mismatched;
        options.init_missing = init_missing;
        options.lazy = lazy;
        options.seed = seed.value;
        options.io = (lds_io)io;
        options.n_threads = (uint32_t)threads.value;
        options.pool = pool;
        options.hugetlb = hugetlb;
        options.overcommit = overcommit;
        options.cache = cache ? PyBytes_AS_STRING(cache) : NULL;
        options.cache_nbytes = cache_nbytes.value;
        options.keep_cache = keep_cache;
        options.prefetch = prefetch;
        options.window_nbytes = window_nbytes.value;
        const lds_checkpoint *source = core_checkpoint_begin(checkpoint);
        if (source) {
            report = load_traced(n, source, &options, progress, trace);
            core_checkpoint_end(checkpoint);
        }
    }
    PyMem_Free(keep_texts);
    PyMem_Free(name_texts);
    Py_XDECREF(cache);
    Py_XDECREF(trace);
    return report;
}

static PyMethodDef network_methods[] = {
    {"_add", core_network_add, METH_VARARGS, NULL},
    {"_enter", core_network_enter, METH_O, NULL},
    {"_push_dtype", core_network_push_dtype, METH_O, NULL},
    {"_leave", core_network_leave, METH_O, NULL},
    {"_names", network_names, METH_O, NULL},
    {"_bind", network_bind, METH_VARARGS, NULL},
    {"_load", network_load, METH_VARARGS, NULL},
    {"_to", network_to, METH_O, NULL},
    {"tie", core_network_tie, METH_VARARGS,
     "tie($self, name, target, /)\n--\n\nAdd a name, relative to the scope, that shares the memory of another "
     "parameter, by its full name.\n\n"
     "Raises NameNotFoundError for a name that is there already, or a target that is not."},
    {"tensor", network_tensor, METH_O,
     "tensor($self, name, /)\n--\n\nThe values of a parameter, a Tensor of the same memory.\n\n"
     "Raises KeyError if there is no such parameter, or it has no values."},
    {"init_missing", (PyCFunction)(void (*)(void))network_init_missing, METH_VARARGS | METH_KEYWORDS,
     "init_missing($self, /, seed=0)\n--\n\nGive every parameter that has no values its initial ones. They "
     "depend on the seed, 0 to 2^64 - 1,\nthe parameter's name and the index alone.\n\n"
     "Raises MismatchError for the first that has no init rule; the others have values then."},
    {NULL},
};

static PyGetSetDef network_getset[] = {
    {"_is_built", network_is_built, NULL, NULL, NULL},
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
