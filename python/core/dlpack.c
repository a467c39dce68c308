/*
 * DLPack: the memory of a tensor for NumPy, PyTorch and JAX, without a copy.
 *
 * Consumers call a deleter on any thread, which may never have seen Python, and when interpreters have gone. So
 * what is exported is the memory and not the tensor, and the deleter does without Python. Only the caller's own
 * memory needs it: somebody must be told that it is no longer used.
 */
#include "dlpack.h"

#include <stdlib.h>

#include "tensor.h"

static const uint8_t codes[N_DTYPES] = {
    [LDS_BOOL] = DLPACK_BOOL,
    [LDS_U8] = DLPACK_UINT,
    [LDS_I8] = DLPACK_INT,
    [LDS_U16] = DLPACK_UINT,
    [LDS_I16] = DLPACK_INT,
    [LDS_U32] = DLPACK_UINT,
    [LDS_I32] = DLPACK_INT,
    [LDS_U64] = DLPACK_UINT,
    [LDS_I64] = DLPACK_INT,
    [LDS_F16] = DLPACK_FLOAT,
    [LDS_BF16] = DLPACK_BFLOAT,
    [LDS_F32] = DLPACK_FLOAT,
    [LDS_F64] = DLPACK_FLOAT,
    [LDS_C64] = DLPACK_COMPLEX,
    [LDS_F8_E4M3] = DLPACK_FLOAT8_E4M3FN,
    [LDS_F8_E5M2] = DLPACK_FLOAT8_E5M2,
    [LDS_F8_E4M3FNUZ] = DLPACK_FLOAT8_E4M3FNUZ,
    [LDS_F8_E5M2FNUZ] = DLPACK_FLOAT8_E5M2FNUZ,
    [LDS_F8_E8M0] = DLPACK_FLOAT8_E8M0FNU,
};

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
        core_disown(e->shared);
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
        e->shared = core_share(t);
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
        .dtype = {codes[t->dtype], (uint8_t)lds_dtype_bits(t->dtype), 1},
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

PyObject *core_tensor_dlpack(PyObject *self, PyObject *args, PyObject *kwargs)
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
    if (lds_dtype_bits(t->dtype) % 8)
        return PyErr_Format(PyExc_BufferError, "%s is packed, which DLPack cannot say",
                            lds_dtype_name(t->dtype));
    int wants_copy = copy == Py_None ? 0 : PyObject_IsTrue(copy);
    if (wants_copy < 0)
        return NULL;
    PyObject *source = wants_copy ? core_tensor_copy(t) : new_ref(self);
    PyObject *capsule = source ? export_tensor((tensor_object *)source, major >= 1, wants_copy) : NULL;
    Py_XDECREF(source);
    return capsule;
}

PyObject *core_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return Py_BuildValue("ii", DLPACK_CPU, 0);
}
