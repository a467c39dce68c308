/*
 * Tensors in memory: row-major, writable, and shared without a copy through the buffer protocol and
 * __array_interface__ (tensor_buffer.c) and DLPack (dlpack.c). Whoever looks at the memory holds the tensor, and the
 * tensor holds the memory.
 */
#include <stdlib.h>
#include <string.h>

#include "tensor.h"

/* ---- making ---- */

/*
 * Strides of what is empty are those of extents of one: some readers multiply them all. Its other extents may be so
 * large that they have no product, and that strides mean nothing.
 */
static void set_dims(tensor_object *self, const uint64_t *shape)
{
    size_t step = 1, element_nbytes = lds_dtype_bits(self->dtype) / 8;
    for (int d = self->n_dims; d-- > 0;) {
        shape_of(self)[d] = (Py_ssize_t)shape[d];
        steps_of(self)[d] = (Py_ssize_t)step;
        strides_of(self)[d] = (Py_ssize_t)(step * element_nbytes);
        if (shape[d])
            step *= shape[d];
    }
}

static bool has_large_extent(uint32_t n_dims, const uint64_t *shape)
{
    for (uint32_t d = 0; d < n_dims; d++)
        if (shape[d] > PY_SSIZE_T_MAX)
            return true;
    return false;
}

tensor_object *core_tensor_new(core_state *state, lds_dtype dtype, uint32_t n_dims, const uint64_t *shape,
                               uint64_t nbytes, bool has_own_memory)
{
    enum { ALIGNMENT = 64 };
    if (nbytes > PY_SSIZE_T_MAX - ALIGNMENT || has_large_extent(n_dims, shape)) {
        PyErr_NoMemory();
        return NULL;
    }
    PyTypeObject *type = state->tensor_type;
    tensor_object *self = (tensor_object *)type->tp_alloc(type, 3 * (Py_ssize_t)n_dims);
    if (!self)
        return NULL;
    self->state = state;
    self->dtype = dtype;
    self->n_dims = (int)n_dims;
    self->nbytes = (Py_ssize_t)nbytes;
    set_dims(self, shape);
    if (has_own_memory) {
        size_t n = ((size_t)nbytes + ALIGNMENT) & ~(size_t)(ALIGNMENT - 1);
        self->own = self->data = aligned_alloc(ALIGNMENT, n);
        if (!self->own) {
            Py_DECREF(self);
            PyErr_NoMemory();
            return NULL;
        }
    }
    return self;
}

static void tensor_dealloc(PyObject *self)
{
    tensor_object *t = (tensor_object *)self;
    core_tensor_let_go(t);
    Py_XDECREF(t->keeper);
    free_object(self);
}

PyObject *core_bytes_at(core_state *state, void *data, uint64_t nbytes, PyObject *keeper)
{
    tensor_object *bytes = core_tensor_new(state, LDS_U8, 1, &nbytes, nbytes, false);
    if (bytes) {
        bytes->data = data;
        bytes->keeper = new_ref(keeper);
    }
    return (PyObject *)bytes;
}

/* memory_at(address, nbytes, owner): the memory of an object that has no buffers, as a tensor of bytes. */
PyObject *core_memory_at(PyObject *module, PyObject *args)
{
    unsigned long long address, nbytes;
    PyObject *owner;
    if (!PyArg_ParseTuple(args, "KKO:memory_at", &address, &nbytes, &owner))
        return NULL;
    if (nbytes && !address)
        return PyErr_Format(PyExc_BufferError, "there is no memory at address 0");
    return core_bytes_at(PyModule_GetState(module), (void *)(uintptr_t)address, nbytes, owner);
}

/* A tensor in memory of its own, of the elements at data. */
static PyObject *copy_elements(core_state *state, lds_dtype dtype, uint32_t n_dims, const uint64_t *shape,
                               const void *data, uint64_t nbytes)
{
    tensor_object *tensor = core_tensor_new(state, dtype, n_dims, shape, nbytes, true);
    if (tensor && nbytes) {
        Py_BEGIN_ALLOW_THREADS;
        memcpy(tensor->data, data, (size_t)nbytes);
        Py_END_ALLOW_THREADS;
    }
    return (PyObject *)tensor;
}

static PyObject *copy_bytes(core_state *state, lds_dtype dtype, Py_ssize_t n_dims, const uint64_t *shape,
                            const Py_buffer *bytes)
{
    uint64_t n_bits = lds_dtype_bits(dtype);
    bool fits = n_dims <= MAX_DIMS;
    for (Py_ssize_t d = 0; fits && d < n_dims; d++)
        fits = !__builtin_mul_overflow(n_bits, shape[d], &n_bits);
    if (!fits || n_bits % 8 || n_bits / 8 != (uint64_t)bytes->len)
        return PyErr_Format(PyExc_ValueError, "the shape and the dtype are not those of %zd bytes",
                            bytes->len);
    return copy_elements(state, dtype, (uint32_t)n_dims, shape, bytes->buf, n_bits / 8);
}

/* tensor_of(dtype, shape, bytes): what a pickle is made into. */
PyObject *core_tensor_of(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *dtype_object, *shape_object, *tensor = NULL;
    Py_buffer bytes;
    if (!PyArg_ParseTuple(args, "OOy*:tensor_of", &dtype_object, &shape_object, &bytes))
        return NULL;
    int dtype = core_dtype_of(state, dtype_object);
    Py_ssize_t n_dims;
    uint64_t *shape = dtype > 0 ? core_take_shape(state, shape_object, &n_dims) : NULL;
    if (shape)
        tensor = copy_bytes(state, (lds_dtype)dtype, n_dims, shape, &bytes);
    else if (!dtype)
        PyErr_SetString(PyExc_TypeError, "expected a dtype, found None");
    PyMem_Free(shape);
    PyBuffer_Release(&bytes);
    return tensor;
}

PyObject *core_tensor_copy(tensor_object *t)
{
    uint64_t shape[MAX_DIMS] = {0}; /* no tensor has more */
    for (int d = 0; d < t->n_dims && d < MAX_DIMS; d++)
        shape[d] = (uint64_t)shape_of(t)[d];
    return copy_elements(t->state, t->dtype, (uint32_t)t->n_dims, shape, t->data, (uint64_t)t->nbytes);
}

/* ---- attributes ---- */

static PyObject *get_dtype(PyObject *self, void *unused)
{
    (void)unused;
    return core_dtype_object(((tensor_object *)self)->state, ((tensor_object *)self)->dtype);
}

static PyObject *get_shape(PyObject *self, void *unused)
{
    (void)unused;
    tensor_object *t = (tensor_object *)self;
    PyObject *tuple = PyTuple_New(t->n_dims);
    for (int d = 0; tuple && d < t->n_dims; d++) {
        PyObject *extent = PyLong_FromSsize_t(shape_of(t)[d]);
        if (!extent)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, d, extent);
    }
    return tuple;
}

static PyObject *get_ndim(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(((tensor_object *)self)->n_dims);
}

static PyObject *get_nbytes(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((tensor_object *)self)->nbytes);
}

static PyObject *get_data_ptr(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromVoidPtr(((tensor_object *)self)->data);
}

/* Through a tensor of bytes, whose letter every reader knows. */
static PyObject *get_raw(PyObject *self, void *unused)
{
    (void)unused;
    tensor_object *t = (tensor_object *)self;
    PyObject *bytes = core_bytes_at(t->state, t->data, (uint64_t)t->nbytes, self);
    if (!bytes)
        return NULL;
    PyObject *memory = PyMemoryView_FromObject(bytes);
    Py_DECREF(bytes);
    return memory;
}

static PyObject *tensor_numpy(PyObject *self, PyObject *unused)
{
    (void)unused;
    return core_call("loadstone._numpy", "as_array", self);
}

static PyObject *tensor_array(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *dtype = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:__array__", (char *[]){"dtype", "copy", NULL}, &dtype,
                                     &copy))
        return NULL;
    PyObject *module = PyImport_ImportModule("loadstone._numpy");
    PyObject *array = module ? PyObject_CallMethod(module, "array_protocol", "OOO", self, dtype, copy) : NULL;
    Py_XDECREF(module);
    return array;
}

static PyObject *tensor_copy(PyObject *self, PyObject *unused)
{
    (void)unused;
    return core_tensor_copy((tensor_object *)self);
}

static PyObject *tensor_reduce(PyObject *self, PyObject *protocol)
{
    PyObject *args = PyTuple_Pack(2, self, protocol);
    PyObject *reduced = args ? core_call("loadstone._value", "reduced", args) : NULL;
    Py_XDECREF(args);
    return reduced;
}

static PyObject *tensor_item(PyObject *self, PyObject *unused)
{
    (void)unused;
    return core_call("loadstone._value", "item", self);
}

/* Without these, Python would take the bytes for digits. */
static PyObject *tensor_float(PyObject *self)
{
    PyObject *value = tensor_item(self, NULL);
    PyObject *number = value ? PyNumber_Float(value) : NULL;
    Py_XDECREF(value);
    return number;
}

static PyObject *tensor_int(PyObject *self)
{
    PyObject *value = tensor_item(self, NULL);
    PyObject *number = value ? PyNumber_Long(value) : NULL;
    Py_XDECREF(value);
    return number;
}

/* As NumPy and PyTorch have it: not whether there is something, which the length would say. */
static int tensor_bool(PyObject *self)
{
    PyObject *value = tensor_item(self, NULL);
    int is_true = value ? PyObject_IsTrue(value) : -1;
    Py_XDECREF(value);
    return is_true;
}

static Py_ssize_t tensor_length(PyObject *self)
{
    tensor_object *t = (tensor_object *)self;
    if (t->n_dims)
        return shape_of(t)[0];
    PyErr_SetString(PyExc_TypeError, "a tensor without dimensions has no length");
    return -1;
}

static PyObject *tensor_repr(PyObject *self)
{
    return core_call("loadstone._show", "tensor", self);
}

static PyMethodDef tensor_methods[] = {
    {"numpy", tensor_numpy, METH_NOARGS,
     "numpy($self, /)\n--\n\nA NumPy array of the same memory; bfloat16 and the narrow floats by ml_dtypes.\n\n"
     "Raises UnsupportedError for packed types, and ImportError without NumPy or ml_dtypes."},
    {"__array__", (PyCFunction)(void (*)(void))tensor_array, METH_VARARGS | METH_KEYWORDS,
     "__array__($self, /, dtype=None, copy=None)\n--\n\nWhat numpy.asarray() calls."},
    {"__dlpack__", (PyCFunction)(void (*)(void))core_tensor_dlpack, METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "What from_dlpack() of NumPy, PyTorch and JAX calls."},
    {"__dlpack_device__", core_dlpack_device, METH_NOARGS,
     "__dlpack_device__($self, /)\n--\n\nThe CPU: (1, 0)."},
    {"item", tensor_item, METH_NOARGS,
     "item($self, /)\n--\n\nThe value of a tensor of one element: a bool, an int, a float or a complex.\n\n"
     "Raises ValueError if it has another number of elements, and UnsupportedError for dtypes that are only "
     "carried."},
    {"__copy__", tensor_copy, METH_NOARGS, "__copy__($self, /)\n--\n\nA tensor in memory of its own."},
    {"__deepcopy__", tensor_copy, METH_O,
     "__deepcopy__($self, memo, /)\n--\n\nA tensor in memory of its own."},
    {"__reduce_ex__", tensor_reduce, METH_O, "__reduce_ex__($self, protocol, /)\n--\n\nWhat pickle calls."},
    {NULL},
};

static PyGetSetDef tensor_getset[] = {
    {"dtype", get_dtype, NULL, "A loadstone.dtypes.DType.", NULL},
    {"shape", get_shape, NULL, "Extents in elements, outermost dimension first.", NULL},
    {"ndim", get_ndim, NULL, "Number of dimensions.", NULL},
    {"nbytes", get_nbytes, NULL, "Bytes in memory.", NULL},
    {"data_ptr", get_data_ptr, NULL, "Address of the first byte.", NULL},
    {"raw", get_raw, NULL, "The bytes, in a writable memoryview.", NULL},
    {"__array_interface__", core_tensor_array_interface, NULL, "What NumPy reads, where it has the dtype.",
     NULL},
    {NULL},
};

static PyType_Slot tensor_slots[] = {
    {Py_tp_doc,
     "A tensor in memory, row-major and writable. numpy(), numpy.asarray(), and from_dlpack() of NumPy, PyTorch and JAX\n"
     "share the memory without a copy, and have the index and the arithmetic that it has not."},
    {Py_tp_new, core_cannot_make},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_repr, tensor_repr},
    {Py_tp_methods, tensor_methods},
    {Py_tp_getset, tensor_getset},
    {Py_nb_float, tensor_float},
    {Py_nb_int, tensor_int},
    {Py_nb_bool, tensor_bool},
    {Py_mp_length, tensor_length},
    {Py_bf_getbuffer, core_tensor_get_buffer},
    {0, NULL},
};

PyType_Spec core_tensor_spec = {
    .name = "loadstone._core.Tensor",
    .basicsize = offsetof(tensor_object, dims),
    .itemsize = sizeof(Py_ssize_t),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = tensor_slots,
};
