/* Tensors of a checkpoint, which are read when they are asked for. */
#include "core.h"

typedef struct checkpoint_tensor {
    PyObject_HEAD checkpoint_object *owner;
    const lds_tensor *tensor; /* as long as the owner is open */
} checkpoint_tensor;

PyObject *core_checkpoint_tensor_new(checkpoint_object *owner, const lds_tensor *tensor)
{
    PyTypeObject *type = owner->state->checkpoint_tensor_type;
    checkpoint_tensor *self = (checkpoint_tensor *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->owner = (checkpoint_object *)new_ref((PyObject *)owner);
    self->tensor = tensor;
    return (PyObject *)self;
}

static void tensor_dealloc(PyObject *self)
{
    Py_XDECREF(((checkpoint_tensor *)self)->owner);
    free_object(self);
}

/* ---- attributes ---- */

static PyObject *owner_of(PyObject *self)
{
    return (PyObject *)((checkpoint_tensor *)self)->owner;
}

/* NULL with an exception if the checkpoint is closed; else it stays open until end(). */
static const lds_tensor *begin(PyObject *self)
{
    return core_checkpoint_begin(owner_of(self)) ? ((checkpoint_tensor *)self)->tensor : NULL;
}

static PyObject *end(PyObject *self, PyObject *result)
{
    core_checkpoint_end(owner_of(self));
    return result;
}

static PyObject *get_name(PyObject *self, void *unused)
{
    (void)unused;
    const lds_tensor *tensor = begin(self);
    return tensor ? end(self, PyUnicode_FromString(lds_tensor_name(tensor))) : NULL;
}

static PyObject *get_dtype(PyObject *self, void *unused)
{
    (void)unused;
    core_state *state = ((checkpoint_tensor *)self)->owner->state;
    const lds_tensor *tensor = begin(self);
    return tensor ? end(self, core_dtype_object(state, lds_tensor_dtype(tensor))) : NULL;
}

static PyObject *get_shape(PyObject *self, void *unused)
{
    (void)unused;
    const lds_tensor *tensor = begin(self);
    return tensor ? end(self, core_shape(lds_tensor_n_dims(tensor), lds_tensor_shape(tensor))) : NULL;
}

static PyObject *get_ndim(PyObject *self, void *unused)
{
    (void)unused;
    const lds_tensor *tensor = begin(self);
    return tensor ? end(self, PyLong_FromUnsignedLong(lds_tensor_n_dims(tensor))) : NULL;
}

static PyObject *get_nbytes(PyObject *self, void *unused)
{
    (void)unused;
    const lds_tensor *tensor = begin(self);
    return tensor ? end(self, PyLong_FromUnsignedLongLong(lds_tensor_nbytes(tensor))) : NULL;
}

static PyObject *get_offset(PyObject *self, void *unused)
{
    (void)unused;
    const lds_tensor *tensor = begin(self);
    return tensor ? end(self, PyLong_FromUnsignedLongLong(lds_tensor_offset(tensor))) : NULL;
}

static PyObject *get_file(PyObject *self, void *unused)
{
    (void)unused;
    const lds_tensor *tensor = begin(self);
    if (!tensor)
        return NULL;
    const lds_checkpoint *checkpoint = ((checkpoint_tensor *)self)->owner->checkpoint;
    return end(self, PyUnicode_DecodeFSDefault(lds_checkpoint_file(checkpoint, lds_tensor_file(tensor))));
}

static Py_ssize_t tensor_length(PyObject *self)
{
    const lds_tensor *tensor = begin(self);
    if (!tensor)
        return -1;
    Py_ssize_t n = lds_tensor_n_dims(tensor) ? (Py_ssize_t)lds_tensor_shape(tensor)[0] : -1;
    core_checkpoint_end(owner_of(self));
    if (n < 0)
        PyErr_SetString(PyExc_TypeError, "a tensor without dimensions has no length");
    return n;
}

/* It is there, whatever its length. */
static int tensor_bool(PyObject *self)
{
    (void)self;
    return 1;
}

/* ---- reading ---- */

static bool is_whole(const core_selection *s)
{
    for (uint32_t d = 0; d < s->n_dims; d++)
        if (s->slices[d].count != s->extents[d] || s->slices[d].step != 1)
            return false;
    return true;
}

/* Bytes of a selection; a packed tensor has no bytes of single elements, and is taken whole or not at all. */
static int count_nbytes(uint64_t *nbytes, const core_selection *s, const lds_tensor *tensor, lds_dtype dtype)
{
    *nbytes = lds_tensor_nbytes(tensor);
    if (lds_dtype_bits(lds_tensor_dtype(tensor)) % 8)
        return 0;
    uint64_t numel = 1;
    for (uint32_t d = 0; d < s->n_dims; d++)
        numel *= s->slices[d].count; /* at most the tensor's dimensions, whose product fits */
    if (!__builtin_mul_overflow(numel, lds_dtype_bits(dtype) / 8, nbytes))
        return 0;
    PyErr_NoMemory();
    return -1;
}

static PyObject *read_selection(checkpoint_tensor *self, const core_selection *s, lds_dtype dtype)
{
    core_state *state = self->owner->state;
    uint64_t nbytes;
    dtype = dtype ? dtype : lds_tensor_dtype(self->tensor);
    if (count_nbytes(&nbytes, s, self->tensor, dtype))
        return NULL;
    tensor_object *result = core_tensor_new(state, dtype, s->n_kept, s->shape, nbytes, true);
    if (!result)
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = lds_tensor_read(self->owner->checkpoint, self->tensor, is_whole(s) ? NULL : s->slices, dtype,
                             result->data, nbytes, &err);
    Py_END_ALLOW_THREADS;
    if (!status)
        return (PyObject *)result;
    Py_DECREF(result);
    return core_fail(state, &err);
}

/* index NULL is all of it. */
static PyObject *read_index(PyObject *self, PyObject *index, lds_dtype dtype)
{
    const lds_tensor *tensor = begin(self);
    if (!tensor)
        return NULL;
    core_selection s;
    if (core_selection_init(&s, lds_tensor_n_dims(tensor), lds_tensor_shape(tensor), index))
        return end(self, NULL);
    PyObject *result = read_selection((checkpoint_tensor *)self, &s, dtype);
    core_selection_destroy(&s);
    return end(self, result);
}

static PyObject *tensor_subscript(PyObject *self, PyObject *index)
{
    return read_index(self, index, LDS_DTYPE_NONE);
}

static PyObject *tensor_read(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *object = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:read", (char *[]){"dtype", NULL}, &object))
        return NULL;
    int dtype = core_dtype_of(((checkpoint_tensor *)self)->owner->state, object);
    return dtype < 0 ? NULL : read_index(self, NULL, (lds_dtype)dtype);
}

static PyObject *tensor_numpy(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *tensor = read_index(self, NULL, LDS_DTYPE_NONE);
    PyObject *array = tensor ? core_call("loadstone._numpy", "as_array", tensor) : NULL;
    Py_XDECREF(tensor);
    return array;
}

/* Read all of it, and call a method of what was read. */
static PyObject *read_and_call(PyObject *self, const char *name, PyObject *args, PyObject *kwargs)
{
    PyObject *tensor = read_index(self, NULL, LDS_DTYPE_NONE);
    PyObject *method = tensor ? PyObject_GetAttrString(tensor, name) : NULL;
    PyObject *result = method ? PyObject_Call(method, args, kwargs) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(tensor);
    return result;
}

static PyObject *tensor_array(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return read_and_call(self, "__array__", args, kwargs);
}

static PyObject *tensor_dlpack(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return read_and_call(self, "__dlpack__", args, kwargs);
}

static PyObject *tensor_repr(PyObject *self)
{
    return core_call("loadstone._show", "checkpoint_tensor", self);
}

static PyMethodDef tensor_methods[] = {
    {"read", (PyCFunction)(void (*)(void))tensor_read, METH_VARARGS | METH_KEYWORDS,
     "read($self, /, dtype=None)\n--\n\nRead all of it into a new Tensor, as dtype; None: its own.\n\n"
     "Raises UnsupportedError for a conversion that does not exist, ChangedError if the file was changed since "
     "it was\nopened, FileError, and ValueError once the checkpoint is closed."},
    {"numpy", tensor_numpy, METH_NOARGS,
     "numpy($self, /)\n--\n\nRead all of it into a NumPy array; bfloat16 and the narrow floats by ml_dtypes.\n\n"
     "Raises what read() raises, UnsupportedError for packed types, and ImportError without NumPy or ml_dtypes."},
    {"__array__", (PyCFunction)(void (*)(void))tensor_array, METH_VARARGS | METH_KEYWORDS,
     "__array__($self, /, dtype=None, copy=None)\n--\n\nRead all of it into a NumPy array."},
    {"__dlpack__", (PyCFunction)(void (*)(void))tensor_dlpack, METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "Read all of it, for from_dlpack()."},
    {"__dlpack_device__", core_dlpack_device, METH_NOARGS,
     "__dlpack_device__($self, /)\n--\n\nThe CPU: (1, 0)."},
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
    {Py_tp_doc,
     "A tensor of a checkpoint. Indexing it, by integers, slices, ... and None, reads what is asked for, and no "
     "more, into a\nTensor. An index that is out of range is an IndexError."},
    {Py_tp_new, core_cannot_make},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_repr, tensor_repr},
    {Py_tp_methods, tensor_methods},
    {Py_tp_getset, tensor_getset},
    {Py_nb_bool, tensor_bool},
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
