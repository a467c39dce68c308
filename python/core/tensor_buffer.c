/* Tensors as buffers, and as arrays of NumPy's: what the letters of each can say. */
#include "tensor.h"

/* How both write a dtype down; NULL where they cannot. */
typedef struct letters {
    const char *buffer; /* struct and PEP 3118 */
    const char *array;  /* __array_interface__, after the byte order */
} letters;

static const letters letters_of[N_DTYPES] = {
    [LDS_BOOL] = {"?", "|b1"}, [LDS_U8] = {"B", "|u1"},  [LDS_I8] = {"b", "|i1"},  [LDS_U16] = {"H", "<u2"},
    [LDS_I16] = {"h", "<i2"},  [LDS_U32] = {"I", "<u4"}, [LDS_I32] = {"i", "<i4"}, [LDS_U64] = {"Q", "<u8"},
    [LDS_I64] = {"q", "<i8"},  [LDS_F16] = {"e", "<f2"}, [LDS_F32] = {"f", "<f4"}, [LDS_F64] = {"d", "<f8"},
    [LDS_C64] = {"Zf", "<c8"},
};

int core_tensor_get_buffer(PyObject *self, Py_buffer *view, int flags)
{
    tensor_object *t = (tensor_object *)self;
    const char *format = letters_of[t->dtype].buffer;
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

PyObject *core_tensor_array_interface(PyObject *self, void *unused)
{
    (void)unused;
    tensor_object *t = (tensor_object *)self;
    const char *typestr = letters_of[t->dtype].array;
    if (!typestr)
        return PyErr_Format(PyExc_AttributeError, "__array_interface__ has no name for %s; use .numpy()",
                            lds_dtype_name(t->dtype));
    PyObject *shape = PyObject_GetAttrString(self, "shape"), *pointer = PyLong_FromVoidPtr(t->data);
    return Py_BuildValue("{s:N,s:s,s:(NO),s:i}", "shape", shape, "typestr", typestr, "data", pointer,
                         Py_False, "version", 3);
}
