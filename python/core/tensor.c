/*
 * Tensors in memory: row-major, writable, and shared without a copy through the buffer protocol,
 * __array_interface__ and DLPack. Whoever looks at the memory holds the tensor, and the tensor holds the memory.
 */
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "dlpack.h"

/* How others write a dtype down; 0 where they cannot. */
typedef struct foreign_dtype {
    const char *buffer; /* struct and PEP 3118 */
    const char *array;  /* __array_interface__, after the byte order */
    uint8_t dlpack_code;
} foreign_dtype;

/* Less than this is given back before another thread would have taken over the interpreter. */
enum { LARGE_NBYTES = 8 << 20 };

static const foreign_dtype foreign[N_DTYPES] = {
    [LDS_BOOL] = {"?", "|b1", DLPACK_BOOL},
    [LDS_U8] = {"B", "|u1", DLPACK_UINT},
    [LDS_I8] = {"b", "|i1", DLPACK_INT},
    [LDS_U16] = {"H", "<u2", DLPACK_UINT},
    [LDS_I16] = {"h", "<i2", DLPACK_INT},
    [LDS_U32] = {"I", "<u4", DLPACK_UINT},
    [LDS_I32] = {"i", "<i4", DLPACK_INT},
    [LDS_U64] = {"Q", "<u8", DLPACK_UINT},
    [LDS_I64] = {"q", "<i8", DLPACK_INT},
    [LDS_F16] = {"e", "<f2", DLPACK_FLOAT},
    [LDS_BF16] = {NULL, NULL, DLPACK_BFLOAT},
    [LDS_F32] = {"f", "<f4", DLPACK_FLOAT},
    [LDS_F64] = {"d", "<f8", DLPACK_FLOAT},
    [LDS_C64] = {"Zf", "<c8", DLPACK_COMPLEX},
    [LDS_F8_E4M3] = {NULL, NULL, DLPACK_FLOAT8_E4M3FN},
    [LDS_F8_E5M2] = {NULL, NULL, DLPACK_FLOAT8_E5M2},
    [LDS_F8_E4M3FNUZ] = {NULL, NULL, DLPACK_FLOAT8_E4M3FNUZ},
    [LDS_F8_E5M2FNUZ] = {NULL, NULL, DLPACK_FLOAT8_E5M2FNUZ},
    [LDS_F8_E8M0] = {NULL, NULL, DLPACK_FLOAT8_E8M0FNU},
};

static bool is_packed(const tensor_object *self)
{
    return lds_dtype_bits(self->dtype) % 8;
}

static Py_ssize_t *shape_of(tensor_object *self)
{
    return self->dims;
}

static Py_ssize_t *strides_of(tensor_object *self)
{
    return self->dims + self->n_dims;
}

static Py_ssize_t *steps_of(tensor_object *self)
{
    return self->dims + 2 * self->n_dims;
}

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

/* Whether this thread has the interpreter. One that never saw Python may ask, also when Python has ended. */
static bool has_interpreter(void)
{
    PyThreadState *mine = PyGILState_GetThisThreadState();
#if PY_VERSION_HEX >= 0x030D0000
    return mine && mine == PyThreadState_GetUnchecked();
#else
    return mine && mine == _PyThreadState_UncheckedGet();
#endif
}

/* With the interpreter, others may have it while much is given back. */
static void give_back(lds_storage *storage, void *own, size_t own_nbytes, bool with_interpreter)
{
    uint64_t nbytes = storage ? lds_storage_freed_nbytes(storage) : own_nbytes;
    PyThreadState *thread = with_interpreter && nbytes >= LARGE_NBYTES ? PyEval_SaveThread() : NULL;
    lds_storage_release(storage);
    free(own);
    if (thread)
        PyEval_RestoreThread(thread);
}

static void disown(shared_memory *shared, bool with_interpreter)
{
    if (atomic_fetch_sub(&shared->n_owners, 1) != 1)
        return;
    give_back(shared->storage, shared->own, shared->own_nbytes, with_interpreter);
    free(shared);
}

/* The tensor's memory with one owner more; NULL if there is no memory to say so. */
static shared_memory *share(tensor_object *t)
{
    shared_memory *shared = atomic_load(&t->shared);
    if (!shared) {
        shared_memory *made = malloc(sizeof *made);
        if (!made)
            return NULL;
        atomic_init(&made->n_owners, 1);
        made->storage = t->storage;
        made->own = t->own;
        made->own_nbytes = (size_t)t->nbytes;
        if (atomic_compare_exchange_strong(&t->shared, &shared, made))
            shared = made;
        else
            free(made);
    }
    atomic_fetch_add(&shared->n_owners, 1);
    return shared;
}

static void tensor_dealloc(PyObject *self)
{
    tensor_object *t = (tensor_object *)self;
    shared_memory *shared = atomic_load(&t->shared);
    if (shared)
        disown(shared, true);
    else
        give_back(t->storage, t->own, (size_t)t->nbytes, !t->keeper);
    Py_XDECREF(t->keeper);
    free_object(self);
}

PyObject *core_call(const char *module_name, const char *function_name, PyObject *arg)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *function = module ? PyObject_GetAttrString(module, function_name) : NULL;
    PyObject *result = function ? PyObject_CallFunctionObjArgs(function, arg, NULL) : NULL;
    Py_XDECREF(function);
    Py_XDECREF(module);
    return result;
}

/* ---- the buffer protocol ---- */

static int tensor_get_buffer(PyObject *self, Py_buffer *view, int flags)
{
    tensor_object *t = (tensor_object *)self;
    const char *format = foreign[t->dtype].buffer;
    if (!format && (flags & PyBUF_FORMAT)) {
        view->obj = NULL;
        PyErr_Format(PyExc_BufferError,
                     "the buffer protocol has no letter for %s; use .raw, .numpy() or from_dlpack()",
                     lds_dtype_name(t->dtype));
        return -1;
    }
    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && t->n_dims > 1) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "the tensor is row-major");
        return -1;
    }
    bool has_shape = flags & PyBUF_ND;
    *view = (Py_buffer){
        .buf = t->data,
        .obj = new_ref(self),
        .len = t->nbytes,
        .itemsize = format ? (Py_ssize_t)lds_dtype_bits(t->dtype) / 8 : 1,
        .ndim = has_shape ? t->n_dims : 1,
        .format = flags & PyBUF_FORMAT ? (char *)format : NULL,
        .shape = has_shape ? shape_of(t) : NULL,
        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? strides_of(t) : NULL,
    };
    /* Without a letter it is bytes, which have another shape. */
    if (!format && has_shape) {
        view->ndim = 1;
        view->shape = &t->nbytes;
        view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? &view->itemsize : NULL;
    }
    return 0;
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

/* A new tensor of these elements. */
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
    tensor_object *tensor = core_tensor_new(state, dtype, (uint32_t)n_dims, shape, n_bits / 8, true);
    if (tensor && n_bits) {
        Py_BEGIN_ALLOW_THREADS;
        memcpy(tensor->data, bytes->buf, (size_t)bytes->len);
        Py_END_ALLOW_THREADS;
    }
    return (PyObject *)tensor;
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

/* ---- DLPack ---- */

/*
 * Consumers call a deleter on any thread, which may never have seen Python, and when interpreters have gone. So
 * what is exported is the memory and not the tensor, and the deleter does without Python. Only the caller's own
 * memory needs it: somebody must be told that it is no longer used.
 */
typedef struct dlpack_export {
    union {
        dlpack_managed plain;
        dlpack_managed_versioned versioned;
    };
    shared_memory *shared; /* or NULL */
    PyObject *owner;       /* or NULL */
    int64_t dims[];        /* shape, then strides in elements */
} dlpack_export;

static void drop_export(dlpack_export *e)
{
    if (e->shared)
        disown(e->shared, has_interpreter());
    if (e->owner && Py_IsInitialized()) {
        PyGILState_STATE gil = PyGILState_Ensure();
        Py_DECREF(e->owner);
        PyGILState_Release(gil);
    }
    free(e);
}

static void drop_plain(dlpack_managed *managed)
{
    drop_export(managed->manager_ctx);
}

static void drop_versioned(dlpack_managed_versioned *managed)
{
    drop_export(managed->manager_ctx);
}

static const char PLAIN[] = "dltensor", VERSIONED[] = "dltensor_versioned";

/* A consumer renames the capsule, and calls the deleter itself. */
static void drop_capsule(PyObject *capsule)
{
    const char *name = PyCapsule_IsValid(capsule, PLAIN)       ? PLAIN
                       : PyCapsule_IsValid(capsule, VERSIONED) ? VERSIONED
                                                               : NULL;
    dlpack_export *e = name ? PyCapsule_GetPointer(capsule, name) : NULL;
    if (e)
        drop_export(e);
}

/* Python can be entered from any thread in the main interpreter alone: others could hang or be gone. */
static bool is_in_main_interpreter(void)
{
    return PyInterpreterState_Get() == PyInterpreterState_Main();
}

static dlpack_export *export_new(tensor_object *t)
{
    if (t->keeper && !is_in_main_interpreter()) {
        PyErr_SetString(PyExc_BufferError,
                        "memory of the caller's is exported by DLPack in the main interpreter only");
        return NULL;
    }
    dlpack_export *e = calloc(1, sizeof *e + 2 * (size_t)t->n_dims * sizeof *e->dims);
    if (e && t->keeper)
        e->owner = new_ref((PyObject *)t);
    else if (e)
        e->shared = share(t);
    if (!e || (!e->owner && !e->shared)) {
        free(e);
        PyErr_NoMemory();
        return NULL;
    }
    for (int d = 0; d < 2 * t->n_dims; d++)
        e->dims[d] = d < t->n_dims ? shape_of(t)[d] : steps_of(t)[d - t->n_dims];
    return e;
}

static PyObject *export_tensor(tensor_object *t, bool is_versioned, bool is_copy)
{
    dlpack_export *e = export_new(t);
    if (!e)
        return NULL;
    dlpack_tensor *dl = is_versioned ? &e->versioned.tensor : &e->plain.tensor;
    *dl = (dlpack_tensor){
        .data = t->data,
        .device = {DLPACK_CPU, 0},
        .n_dims = t->n_dims,
        .dtype = {foreign[t->dtype].dlpack_code, (uint8_t)lds_dtype_bits(t->dtype), 1},
        .shape = e->dims,
        .strides = e->dims + t->n_dims,
    };
    if (is_versioned) {
        e->versioned.version = (dlpack_version){1, 0};
        e->versioned.manager_ctx = e;
        e->versioned.deleter = drop_versioned;
        e->versioned.flags = is_copy ? DLPACK_IS_COPIED : 0;
    } else {
        e->plain.manager_ctx = e;
        e->plain.deleter = drop_plain;
    }
    PyObject *capsule = PyCapsule_New(e, is_versioned ? VERSIONED : PLAIN, drop_capsule);
    if (!capsule)
        drop_export(e);
    return capsule;
}

static PyObject *copy_tensor(tensor_object *t)
{
    uint64_t shape[MAX_DIMS] = {0}; /* no tensor has more */
    for (int d = 0; d < t->n_dims && d < MAX_DIMS; d++)
        shape[d] = (uint64_t)shape_of(t)[d];
    tensor_object *copy =
        core_tensor_new(t->state, t->dtype, (uint32_t)t->n_dims, shape, (uint64_t)t->nbytes, true);
    if (copy && t->nbytes) {
        Py_BEGIN_ALLOW_THREADS;
        memcpy(copy->data, t->data, (size_t)t->nbytes);
        Py_END_ALLOW_THREADS;
    }
    return (PyObject *)copy;
}

static PyObject *tensor_dlpack(PyObject *self, PyObject *args, PyObject *kwargs)
{
    tensor_object *t = (tensor_object *)self;
    PyObject *stream = Py_None, *version = Py_None, *device = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__",
                                     (char *[]){"stream", "max_version", "dl_device", "copy", NULL}, &stream,
                                     &version, &device, &copy))
        return NULL;
    long major = 0, minor = 0, type = DLPACK_CPU, id = 0;
    if (version != Py_None && !PyArg_ParseTuple(version, "ll;max_version", &major, &minor))
        return NULL;
    if (device != Py_None && !PyArg_ParseTuple(device, "ll;dl_device", &type, &id))
        return NULL;
    if (stream != Py_None || type != DLPACK_CPU)
        return PyErr_Format(PyExc_BufferError,
                            "the tensor is in the memory of the CPU, which has no streams");
    if (is_packed(t))
        return PyErr_Format(PyExc_BufferError, "%s is packed, which DLPack cannot say",
                            lds_dtype_name(t->dtype));
    int wants_copy = copy == Py_None ? 0 : PyObject_IsTrue(copy);
    if (wants_copy < 0)
        return NULL;
    PyObject *source = wants_copy ? copy_tensor(t) : new_ref(self);
    PyObject *capsule = source ? export_tensor((tensor_object *)source, major >= 1, wants_copy) : NULL;
    Py_XDECREF(source);
    return capsule;
}

PyObject *core_dlpack_device(void)
{
    return Py_BuildValue("ii", DLPACK_CPU, 0);
}

static PyObject *tensor_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return core_dlpack_device();
}

/* ---- attributes ---- */

static PyObject *get_dtype(PyObject *self, void *unused)
{
    (void)unused;
    return core_dtype_object(((tensor_object *)self)->state, ((tensor_object *)self)->dtype);
}

static PyObject *tuple_of(const Py_ssize_t *values, int n)
{
    PyObject *tuple = PyTuple_New(n);
    for (int i = 0; tuple && i < n; i++) {
        PyObject *value = PyLong_FromSsize_t(values[i]);
        if (!value)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, value);
    }
    return tuple;
}

static PyObject *get_shape(PyObject *self, void *unused)
{
    (void)unused;
    tensor_object *t = (tensor_object *)self;
    return tuple_of(shape_of(t), t->n_dims);
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

static PyObject *get_array_interface(PyObject *self, void *unused)
{
    (void)unused;
    tensor_object *t = (tensor_object *)self;
    const char *typestr = foreign[t->dtype].array;
    if (!typestr)
        return PyErr_Format(PyExc_AttributeError, "__array_interface__ has no name for %s; use .numpy()",
                            lds_dtype_name(t->dtype));
    PyObject *shape = get_shape(self, NULL), *pointer = PyLong_FromVoidPtr(t->data);
    return Py_BuildValue("{s:N,s:s,s:(NO),s:i}", "shape", shape, "typestr", typestr, "data", pointer,
                         Py_False, "version", 3);
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
    return copy_tensor((tensor_object *)self);
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
    {"__dlpack__", (PyCFunction)(void (*)(void))tensor_dlpack, METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "What from_dlpack() of NumPy, PyTorch and JAX calls."},
    {"__dlpack_device__", tensor_dlpack_device, METH_NOARGS,
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
    {"__array_interface__", get_array_interface, NULL, "What NumPy reads, where it has the dtype.", NULL},
    {NULL},
};

static PyType_Slot tensor_slots[] = {
    {Py_tp_doc, "A tensor in memory: row-major, writable, shared without a copy."},
    {Py_tp_new, core_cannot_make},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_repr, tensor_repr},
    {Py_tp_methods, tensor_methods},
    {Py_tp_getset, tensor_getset},
    {Py_nb_float, tensor_float},
    {Py_nb_int, tensor_int},
    {Py_nb_bool, tensor_bool},
    {Py_mp_length, tensor_length},
    {Py_bf_getbuffer, tensor_get_buffer},
    {0, NULL},
};

PyType_Spec core_tensor_spec = {
    .name = "loadstone._core.Tensor",
    .basicsize = offsetof(tensor_object, dims),
    .itemsize = sizeof(Py_ssize_t),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = tensor_slots,
};
