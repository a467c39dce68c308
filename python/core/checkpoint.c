/*
 * Checkpoints. Calls may be reading from one, without the GIL, while another thread closes it: so each call counts
 * as a user, and the last user closes the files.
 */
#include "core.h"

static checkpoint_object *root_of(PyObject *self)
{
    checkpoint_object *c = (checkpoint_object *)self;
    while (c->parent)
        c = (checkpoint_object *)c->parent;
    return c;
}

const lds_checkpoint *core_checkpoint_begin(PyObject *self)
{
    checkpoint_object *root = root_of(self);
    int users = atomic_load(&root->users);
    while (users > 0 && !atomic_load(&root->is_closed))
        if (atomic_compare_exchange_weak(&root->users, &users, users + 1))
            return ((checkpoint_object *)self)->checkpoint;
    PyErr_SetString(PyExc_ValueError, "the checkpoint is closed");
    return NULL;
}

void core_checkpoint_end(PyObject *self)
{
    checkpoint_object *root = root_of(self);
    if (atomic_fetch_sub(&root->users, 1) != 1)
        return;
    Py_BEGIN_ALLOW_THREADS;
    lds_checkpoint_close((lds_checkpoint *)root->checkpoint);
    Py_END_ALLOW_THREADS;
}

static void close_root(PyObject *root)
{
    if (!atomic_exchange(&((checkpoint_object *)root)->is_closed, true))
        core_checkpoint_end(root);
}

/* ---- making ---- */

static PyObject *checkpoint_make(PyObject *type, core_state *state, const lds_checkpoint *checkpoint,
                                 PyObject *parent)
{
    PyTypeObject *t = (PyTypeObject *)type;
    if (!PyType_Check(type) || !PyType_IsSubtype(t, state->checkpoint_type))
        return PyErr_Format(PyExc_TypeError, "expected a type of checkpoint, found %R", type);
    checkpoint_object *self = (checkpoint_object *)t->tp_alloc(t, 0);
    if (!self)
        return NULL;
    self->state = state;
    self->checkpoint = checkpoint;
    self->parent = parent ? new_ref(parent) : NULL;
    atomic_init(&self->users, 1);
    return (PyObject *)self;
}

/* open(type, path, variant, revision) */
PyObject *core_open(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type, *path = NULL;
    core_text variant = {.name = "variant", .or_none = true},
              revision = {.name = "revision", .or_none = true};
    if (!PyArg_ParseTuple(args, "OO&O&O&:open", &type, PyUnicode_FSConverter, &path, core_take_text, &variant,
                          core_take_text, &revision))
        return NULL;
    lds_checkpoint_options options;
    lds_checkpoint_options_init(&options, sizeof options);
    options.variant = variant.value;
    options.revision = revision.value;
    lds_error err = LDS_ERROR_INIT;
    lds_checkpoint *checkpoint;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = lds_checkpoint_open(&checkpoint, PyBytes_AS_STRING(path), &options, &err);
    Py_END_ALLOW_THREADS;
    Py_DECREF(path);
    if (status)
        return core_fail(state, &err);
    PyObject *self = checkpoint_make(type, state, checkpoint, NULL);
    if (!self)
        lds_checkpoint_close(checkpoint);
    return self;
}

static void checkpoint_dealloc(PyObject *self)
{
    checkpoint_object *c = (checkpoint_object *)self;
    if (c->parent)
        Py_DECREF(c->parent);
    else
        close_root(self);
    free_object(self);
}

/* A part is closed with its pipeline. */
static PyObject *checkpoint_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (!((checkpoint_object *)self)->parent)
        close_root(self);
    return new_ref(Py_None);
}

static PyObject *checkpoint_closed(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(atomic_load(&root_of(self)->is_closed));
}

/* ---- its tensors ---- */

static Py_ssize_t checkpoint_length(PyObject *self)
{
    const lds_checkpoint *checkpoint = core_checkpoint_begin(self);
    if (!checkpoint)
        return -1;
    size_t n = lds_checkpoint_n_tensors(checkpoint);
    core_checkpoint_end(self);
    return (Py_ssize_t)n;
}

/* 0 if there is none, also for what is no string, or a string that is not UTF-8; -1 with an exception. */
static int find(PyObject *self, PyObject *name, const lds_tensor **tensor)
{
    const char *text = core_name_of(name);
    const lds_checkpoint *checkpoint = core_checkpoint_begin(self);
    if (!checkpoint)
        return -1;
    *tensor = text ? lds_checkpoint_find(checkpoint, text) : NULL;
    core_checkpoint_end(self);
    return *tensor != NULL;
}

static PyObject *checkpoint_subscript(PyObject *self, PyObject *name)
{
    const lds_tensor *tensor;
    int found = find(self, name, &tensor);
    if (!found)
        core_fail_key(name);
    return found > 0 ? core_checkpoint_tensor_new((checkpoint_object *)self, tensor) : NULL;
}

static int checkpoint_contains(PyObject *self, PyObject *name)
{
    const lds_tensor *tensor;
    return find(self, name, &tensor);
}

/* ---- lists ---- */

/* A tuple of what a checkpoint has several of. */
static PyObject *collect(PyObject *self, size_t (*count)(const lds_checkpoint *),
                         PyObject *(*get)(checkpoint_object *, size_t))
{
    const lds_checkpoint *checkpoint = core_checkpoint_begin(self);
    if (!checkpoint)
        return NULL;
    size_t n = count(checkpoint);
    PyObject *items = PyTuple_New((Py_ssize_t)n);
    for (size_t i = 0; items && i < n; i++) {
        PyObject *item = get((checkpoint_object *)self, i);
        if (!item)
            Py_CLEAR(items);
        else
            PyTuple_SET_ITEM(items, (Py_ssize_t)i, item);
    }
    core_checkpoint_end(self);
    return items;
}

static PyObject *name_at(checkpoint_object *self, size_t i)
{
    return PyUnicode_FromString(lds_tensor_name(lds_checkpoint_tensor(self->checkpoint, i)));
}

static PyObject *tensor_at(checkpoint_object *self, size_t i)
{
    return core_checkpoint_tensor_new(self, lds_checkpoint_tensor(self->checkpoint, i));
}

static PyObject *path_at(checkpoint_object *self, size_t i)
{
    return PyUnicode_DecodeFSDefault(lds_checkpoint_file(self->checkpoint, i));
}

static PyObject *checkpoint_iter(PyObject *self)
{
    PyObject *names = collect(self, lds_checkpoint_n_tensors, name_at);
    PyObject *iterator = names ? PyObject_GetIter(names) : NULL;
    Py_XDECREF(names);
    return iterator;
}

/* _tensors(): in the order of the names, which need not be looked up then. */
static PyObject *checkpoint_tensors(PyObject *self, PyObject *unused)
{
    (void)unused;
    return collect(self, lds_checkpoint_n_tensors, tensor_at);
}

static PyObject *checkpoint_files(PyObject *self, void *unused)
{
    (void)unused;
    return collect(self, lds_checkpoint_n_files, path_at);
}

/* _components(type): [(name, checkpoint), ...] */
static PyObject *checkpoint_components(PyObject *self, PyObject *type)
{
    core_state *state = ((checkpoint_object *)self)->state;
    const lds_checkpoint *checkpoint = core_checkpoint_begin(self);
    PyObject *list = checkpoint ? PyList_New(0) : NULL;
    for (size_t i = 0; list && i < lds_checkpoint_n_components(checkpoint); i++) {
        PyObject *part = checkpoint_make(type, state, lds_checkpoint_component(checkpoint, i), self);
        PyObject *pair =
            part ? Py_BuildValue("sN", lds_checkpoint_component_name(checkpoint, i), part) : NULL;
        if (!pair || PyList_Append(list, pair))
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    if (checkpoint)
        core_checkpoint_end(self);
    return list;
}

static PyObject *checkpoint_metadata(PyObject *self, void *unused)
{
    (void)unused;
    const lds_checkpoint *checkpoint = core_checkpoint_begin(self);
    PyObject *dict = checkpoint ? PyDict_New() : NULL;
    for (size_t i = 0; dict && i < lds_checkpoint_n_metadata(checkpoint); i++) {
        PyObject *value = PyUnicode_FromString(lds_checkpoint_metadata_value(checkpoint, i));
        if (!value || PyDict_SetItemString(dict, lds_checkpoint_metadata_key(checkpoint, i), value))
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    if (checkpoint)
        core_checkpoint_end(self);
    return dict;
}

/* ---- attributes ---- */

static PyObject *path_of(PyObject *self, const char *(*path)(const lds_checkpoint *))
{
    const lds_checkpoint *checkpoint = core_checkpoint_begin(self);
    if (!checkpoint)
        return NULL;
    PyObject *text = PyUnicode_DecodeFSDefault(path(checkpoint));
    core_checkpoint_end(self);
    return text;
}

static PyObject *checkpoint_path(PyObject *self, void *unused)
{
    (void)unused;
    return path_of(self, lds_checkpoint_path);
}

static PyObject *checkpoint_directory(PyObject *self, void *unused)
{
    (void)unused;
    return path_of(self, lds_checkpoint_dir);
}

static PyObject *checkpoint_dtype(PyObject *self, void *unused)
{
    (void)unused;
    const lds_checkpoint *checkpoint = core_checkpoint_begin(self);
    if (!checkpoint)
        return NULL;
    lds_dtype dtype = lds_checkpoint_dtype(checkpoint);
    core_checkpoint_end(self);
    return dtype ? core_dtype_object(((checkpoint_object *)self)->state, dtype) : new_ref(Py_None);
}

static PyMethodDef checkpoint_methods[] = {
    {"_components", checkpoint_components, METH_O, NULL},
    {"_tensors", checkpoint_tensors, METH_NOARGS, NULL},
    {"close", checkpoint_close, METH_NOARGS,
     "close($self, /)\n--\n\nClose the files, once calls that are reading from them have ended. What was read "
     "or loaded stays; what is asked\nof the checkpoint or its tensors afterwards raises ValueError."},
    {NULL},
};

static PyGetSetDef checkpoint_getset[] = {
    {"closed", checkpoint_closed, NULL, "True once it has been closed.", NULL},
    {"metadata", checkpoint_metadata, NULL, "The __metadata__ of the files: a new dict of strings.", NULL},
    {"files", checkpoint_files, NULL, "Paths of the weight files.", NULL},
    {"path", checkpoint_path, NULL, "Where it was found: a file, an index or a directory.", NULL},
    {"directory", checkpoint_directory, NULL, "The directory that its files are in.", NULL},
    {"dtype", checkpoint_dtype, NULL, "The float dtype of most of its bytes, or None.", NULL},
    {NULL},
};

static PyType_Slot checkpoint_slots[] = {
    {Py_tp_doc, "An open checkpoint."},    {Py_tp_new, core_cannot_make},
    {Py_tp_dealloc, checkpoint_dealloc},   {Py_tp_methods, checkpoint_methods},
    {Py_tp_getset, checkpoint_getset},     {Py_tp_iter, checkpoint_iter},
    {Py_mp_length, checkpoint_length},     {Py_mp_subscript, checkpoint_subscript},
    {Py_sq_contains, checkpoint_contains}, {0, NULL},
};

PyType_Spec core_checkpoint_spec = {
    .name = "loadstone._core.Checkpoint",
    .basicsize = sizeof(checkpoint_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = checkpoint_slots,
};
