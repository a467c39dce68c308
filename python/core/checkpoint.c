/* Checkpoints, and their tensors, which are read when they are asked for. */
#include <string.h>

#include "core.h"

typedef struct checkpoint_tensor {
    PyObject_HEAD checkpoint_object *owner;
    const lds_tensor *tensor;
} checkpoint_tensor;

/* ---- checkpoints ---- */

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
    return (PyObject *)self;
}

/* open(type, path, variant, revision) */
PyObject *core_open(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type, *path = NULL;
    lds_checkpoint_options options;
    lds_checkpoint_options_init(&options, sizeof options);
    if (!PyArg_ParseTuple(args, "OO&zz:open", &type, PyUnicode_FSConverter, &path, &options.variant,
                          &options.revision))
        return NULL;
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
        lds_checkpoint_close((lds_checkpoint *)c->checkpoint);
    free_object(self);
}

static Py_ssize_t checkpoint_length(PyObject *self)
{
    return (Py_ssize_t)lds_checkpoint_n_tensors(((checkpoint_object *)self)->checkpoint);
}

/* NULL without an exception if there is none: also for what is no string, or a string that is not UTF-8. */
static const lds_tensor *find(checkpoint_object *self, PyObject *name)
{
    Py_ssize_t nbytes;
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, &nbytes) : NULL;
    if (!text)
        PyErr_Clear();
    return text && strlen(text) == (size_t)nbytes ? lds_checkpoint_find(self->checkpoint, text) : NULL;
}

static PyObject *checkpoint_subscript(PyObject *self, PyObject *name)
{
    checkpoint_object *c = (checkpoint_object *)self;
    const lds_tensor *tensor = find(c, name);
    if (!tensor) {
        PyErr_SetObject(PyExc_KeyError, name);
        return NULL;
    }
    PyTypeObject *type = c->state->checkpoint_tensor_type;
    checkpoint_tensor *result = (checkpoint_tensor *)type->tp_alloc(type, 0);
    if (!result)
        return NULL;
    result->owner = (checkpoint_object *)new_ref(self);
    result->tensor = tensor;
    return (PyObject *)result;
}

static int checkpoint_contains(PyObject *self, PyObject *name)
{
    return find((checkpoint_object *)self, name) != NULL;
}

static PyObject *checkpoint_names(PyObject *self, PyObject *unused)
{
    (void)unused;
    const lds_checkpoint *checkpoint = ((checkpoint_object *)self)->checkpoint;
    size_t n = lds_checkpoint_n_tensors(checkpoint);
    PyObject *names = PyTuple_New((Py_ssize_t)n);
    for (size_t i = 0; names && i < n; i++) {
        PyObject *name = PyUnicode_FromString(lds_tensor_name(lds_checkpoint_tensor(checkpoint, i)));
        if (!name)
            Py_CLEAR(names);
        else
            PyTuple_SET_ITEM(names, (Py_ssize_t)i, name);
    }
    return names;
}

static PyObject *checkpoint_iter(PyObject *self)
{
    PyObject *names = checkpoint_names(self, NULL);
    PyObject *iterator = names ? PyObject_GetIter(names) : NULL;
    Py_XDECREF(names);
    return iterator;
}

/* components(type): [(name, checkpoint), ...] */
static PyObject *checkpoint_components(PyObject *self, PyObject *type)
{
    checkpoint_object *c = (checkpoint_object *)self;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < lds_checkpoint_n_components(c->checkpoint); i++) {
        PyObject *component =
            checkpoint_make(type, c->state, lds_checkpoint_component(c->checkpoint, i), self);
        PyObject *pair = component
                             ? Py_BuildValue("sN", lds_checkpoint_component_name(c->checkpoint, i), component)
                             : NULL;
        if (!pair || PyList_Append(list, pair))
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

static PyObject *checkpoint_metadata(PyObject *self, void *unused)
{
    (void)unused;
    const lds_checkpoint *checkpoint = ((checkpoint_object *)self)->checkpoint;
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < lds_checkpoint_n_metadata(checkpoint); i++) {
        PyObject *value = PyUnicode_FromString(lds_checkpoint_metadata_value(checkpoint, i));
        if (!value || PyDict_SetItemString(dict, lds_checkpoint_metadata_key(checkpoint, i), value))
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *checkpoint_files(PyObject *self, void *unused)
{
    (void)unused;
    const lds_checkpoint *checkpoint = ((checkpoint_object *)self)->checkpoint;
    size_t n = lds_checkpoint_n_files(checkpoint);
    PyObject *files = PyTuple_New((Py_ssize_t)n);
    for (size_t i = 0; files && i < n; i++) {
        PyObject *file = PyUnicode_DecodeFSDefault(lds_checkpoint_file(checkpoint, i));
        if (!file)
            Py_CLEAR(files);
        else
            PyTuple_SET_ITEM(files, (Py_ssize_t)i, file);
    }
    return files;
}

static PyObject *checkpoint_path(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_DecodeFSDefault(lds_checkpoint_path(((checkpoint_object *)self)->checkpoint));
}

static PyObject *checkpoint_directory(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_DecodeFSDefault(lds_checkpoint_dir(((checkpoint_object *)self)->checkpoint));
}

static PyObject *checkpoint_dtype(PyObject *self, void *unused)
{
    (void)unused;
    checkpoint_object *c = (checkpoint_object *)self;
    lds_dtype dtype = lds_checkpoint_dtype(c->checkpoint);
    return dtype ? core_dtype_object(c->state, dtype) : new_ref(Py_None);
}

static PyMethodDef checkpoint_methods[] = {
    {"_names", checkpoint_names, METH_NOARGS, NULL},
    {"_components", checkpoint_components, METH_O, NULL},
    {NULL},
};

static PyGetSetDef checkpoint_getset[] = {
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

/* ---- their tensors ---- */

static void tensor_dealloc(PyObject *self)
{
    Py_XDECREF(((checkpoint_tensor *)self)->owner);
    free_object(self);
}

#define TENSOR(self) (((checkpoint_tensor *)(self))->tensor)

static PyObject *get_name(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(lds_tensor_name(TENSOR(self)));
}

static PyObject *get_dtype(PyObject *self, void *unused)
{
    (void)unused;
    return core_dtype_object(((checkpoint_tensor *)self)->owner->state, lds_tensor_dtype(TENSOR(self)));
}

static PyObject *get_shape(PyObject *self, void *unused)
{
    (void)unused;
    return core_shape(lds_tensor_n_dims(TENSOR(self)), lds_tensor_shape(TENSOR(self)));
}

static PyObject *get_ndim(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(lds_tensor_n_dims(TENSOR(self)));
}

static PyObject *get_nbytes(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(lds_tensor_nbytes(TENSOR(self)));
}

static PyObject *get_offset(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(lds_tensor_offset(TENSOR(self)));
}

static PyObject *get_file(PyObject *self, void *unused)
{
    (void)unused;
    const lds_checkpoint *checkpoint = ((checkpoint_tensor *)self)->owner->checkpoint;
    return PyUnicode_DecodeFSDefault(lds_checkpoint_file(checkpoint, lds_tensor_file(TENSOR(self))));
}

/* What an index asks for: slices of all dimensions, and which of them stay in the result's shape. */
typedef struct selection {
    uint32_t n_dims, n_kept;
    lds_slice *slices; /* n_dims, then as many again for the two below */
    uint64_t *shape;   /* n_kept */
    uint64_t numel;
} selection;

static int take_slice(lds_slice *slice, PyObject *item, uint64_t extent)
{
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(item, &start, &stop, &step))
        return -1;
    Py_ssize_t count = PySlice_AdjustIndices((Py_ssize_t)extent, &start, &stop, step);
    *slice = count ? (lds_slice){(uint64_t)start, (uint64_t)count, step} : (lds_slice){0, 0, 1};
    return 0;
}

static int take_index(lds_slice *slice, PyObject *item, uint64_t extent, uint32_t dim)
{
    Py_ssize_t i = PyNumber_AsSsize_t(item, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred())
        return -1;
    Py_ssize_t n = (Py_ssize_t)extent;
    if (i < -n || i >= n) {
        PyErr_Format(PyExc_IndexError, "index %zd is out of range for dimension %u of %zd elements", i,
                     (unsigned)dim, n);
        return -1;
    }
    *slice = (lds_slice){(uint64_t)(i < 0 ? i + n : i), 1, 1};
    return 0;
}

static int take_item(selection *s, PyObject *item, uint32_t dim, uint64_t extent)
{
    lds_slice *slice = &s->slices[dim];
    bool is_index = PyIndex_Check(item) && !PyBool_Check(item);
    if (!is_index && !PySlice_Check(item)) {
        PyErr_Format(PyExc_TypeError, "expected an integer, a slice or an ellipsis, found %R", item);
        return -1;
    }
    if (is_index ? take_index(slice, item, extent, dim) : take_slice(slice, item, extent))
        return -1;
    if (!is_index)
        s->shape[s->n_kept++] = slice->count;
    s->numel *= slice->count;
    return 0;
}

/* Items of an index, where an ellipsis, or the end, stands for all dimensions that have none. */
static int take_items(selection *s, PyObject *const *items, Py_ssize_t n, const uint64_t *shape)
{
    Py_ssize_t n_ellipses = 0;
    for (Py_ssize_t i = 0; i < n; i++)
        n_ellipses += items[i] == Py_Ellipsis;
    if (n_ellipses > 1 || n - n_ellipses > (Py_ssize_t)s->n_dims) {
        PyErr_Format(PyExc_IndexError,
                     n_ellipses > 1 ? "expected one ellipsis, found %zd"
                                    : "expected at most %2$u indices, found %1$zd",
                     n_ellipses > 1 ? n_ellipses : n, (unsigned)s->n_dims);
        return -1;
    }
    uint32_t dim = 0;
    for (Py_ssize_t i = 0; i <= n; i++) {
        if (i == n || items[i] == Py_Ellipsis) {
            uint32_t end = s->n_dims - (uint32_t)(i == n ? 0 : n - i - 1);
            for (; dim < end; dim++) {
                s->slices[dim] = (lds_slice){0, shape[dim], 1};
                s->shape[s->n_kept++] = shape[dim];
                s->numel *= shape[dim];
            }
        } else if (take_item(s, items[i], dim, shape[dim])) {
            return -1;
        } else {
            dim++;
        }
    }
    return 0;
}

static PyObject *read_into_tensor(checkpoint_tensor *self, const selection *s, lds_dtype dtype)
{
    core_state *state = self->owner->state;
    const lds_tensor *tensor = self->tensor;
    lds_dtype src = lds_tensor_dtype(tensor);
    bool is_packed = lds_dtype_bits(src) % 8;
    if (!dtype)
        dtype = src;
    uint64_t nbytes;
    /* A packed tensor has no bytes of single elements, and is taken whole or not at all. */
    if (is_packed)
        nbytes = lds_tensor_nbytes(tensor);
    else if (__builtin_mul_overflow(s->numel, lds_dtype_bits(dtype) / 8, &nbytes))
        return PyErr_NoMemory();
    bool is_whole = true;
    for (uint32_t d = 0; d < s->n_dims; d++)
        is_whole &= s->slices[d].count == lds_tensor_shape(tensor)[d] && s->slices[d].step == 1;
    tensor_object *result = core_tensor_new(state, dtype, s->n_kept, s->shape, nbytes, true);
    if (!result)
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = lds_tensor_read(self->owner->checkpoint, tensor, is_whole ? NULL : s->slices, dtype,
                             result->data, nbytes, &err);
    Py_END_ALLOW_THREADS;
    if (!status)
        return (PyObject *)result;
    Py_DECREF(result);
    return core_fail(state, &err);
}

static PyObject *read_items(checkpoint_tensor *self, PyObject *const *items, Py_ssize_t n, lds_dtype dtype)
{
    selection s = {.n_dims = lds_tensor_n_dims(self->tensor), .numel = 1};
    s.slices = PyMem_Calloc((size_t)s.n_dims + 1, sizeof *s.slices);
    s.shape = PyMem_Calloc((size_t)s.n_dims + 1, sizeof *s.shape);
    PyObject *result = NULL;
    if (!s.slices || !s.shape)
        PyErr_NoMemory();
    else if (!take_items(&s, items, n, lds_tensor_shape(self->tensor)))
        result = read_into_tensor(self, &s, dtype);
    PyMem_Free(s.slices);
    PyMem_Free(s.shape);
    return result;
}

static PyObject *tensor_subscript(PyObject *self, PyObject *index)
{
    if (!PyTuple_Check(index))
        return read_items((checkpoint_tensor *)self, &index, 1, LDS_DTYPE_NONE);
    Py_ssize_t n = PyTuple_GET_SIZE(index);
    return read_items((checkpoint_tensor *)self, n ? &PyTuple_GET_ITEM(index, 0) : NULL, n, LDS_DTYPE_NONE);
}

static PyObject *tensor_read(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *object = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:read", (char *[]){"dtype", NULL}, &object))
        return NULL;
    int dtype = core_dtype_of(((checkpoint_tensor *)self)->owner->state, object);
    return dtype < 0 ? NULL : read_items((checkpoint_tensor *)self, NULL, 0, (lds_dtype)dtype);
}

static PyObject *tensor_numpy(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *tensor = read_items((checkpoint_tensor *)self, NULL, 0, LDS_DTYPE_NONE);
    PyObject *array = tensor ? core_call("loadstone._numpy", "as_array", tensor, NULL) : NULL;
    Py_XDECREF(tensor);
    return array;
}

static PyObject *tensor_array(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *tensor = read_items((checkpoint_tensor *)self, NULL, 0, LDS_DTYPE_NONE);
    PyObject *method = tensor ? PyObject_GetAttrString(tensor, "__array__") : NULL;
    PyObject *array = method ? PyObject_Call(method, args, kwargs) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(tensor);
    return array;
}

static Py_ssize_t tensor_length(PyObject *self)
{
    if (lds_tensor_n_dims(TENSOR(self)))
        return (Py_ssize_t)lds_tensor_shape(TENSOR(self))[0];
    PyErr_SetString(PyExc_TypeError, "a tensor without dimensions has no length");
    return -1;
}

static PyObject *tensor_repr(PyObject *self)
{
    return core_call("loadstone._show", "checkpoint_tensor", self, NULL);
}

static PyMethodDef tensor_methods[] = {
    {"read", (PyCFunction)(void (*)(void))tensor_read, METH_VARARGS | METH_KEYWORDS,
     "read($self, /, dtype=None)\n--\n\nRead all of it into a new Tensor, as dtype."},
    {"numpy", tensor_numpy, METH_NOARGS, "numpy($self, /)\n--\n\nRead all of it into a NumPy array."},
    {"__array__", (PyCFunction)(void (*)(void))tensor_array, METH_VARARGS | METH_KEYWORDS,
     "__array__($self, /, dtype=None, copy=None)\n--\n\nRead all of it into a NumPy array."},
    {NULL},
};

static PyGetSetDef tensor_getset[] = {
    {"name", get_name, NULL, "Its name in the checkpoint.", NULL},
    {"dtype", get_dtype, NULL, "A loadstone.dtypes.DType.", NULL},
    {"shape", get_shape, NULL, "Extents in elements, outermost dimension first.", NULL},
    {"ndim", get_ndim, NULL, "Number of dimensions.", NULL},
    {"nbytes", get_nbytes, NULL, "Bytes in the file.", NULL},
    {"offset", get_offset, NULL, "Of its first byte, from the beginning of the file.", NULL},
    {"file", get_file, NULL, "Path of the file that it is in.", NULL},
    {NULL},
};

static PyType_Slot tensor_slots[] = {
    {Py_tp_doc, "A tensor of a checkpoint. Indexing it reads what is asked for, and no more, into a Tensor."},
    {Py_tp_new, core_cannot_make},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_repr, tensor_repr},
    {Py_tp_methods, tensor_methods},
    {Py_tp_getset, tensor_getset},
    {Py_mp_length, tensor_length},
    {Py_mp_subscript, tensor_subscript},
    {0, NULL},
};

PyType_Spec core_checkpoint_tensor_spec = {
    .name = "loadstone._core.CheckpointTensor",
    .basicsize = sizeof(checkpoint_tensor),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = tensor_slots,
};
