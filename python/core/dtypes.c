/* Dtypes as the objects of loadstone/dtypes.py, and conversion between buffers. */
#include "core.h"

int core_load_dtypes(core_state *state)
{
    PyObject *module = PyImport_ImportModule("loadstone.dtypes");
    PyObject *all = module ? PyObject_GetAttrString(module, "all") : NULL;
    PyObject *items = all ? PySequence_Fast(all, "dtypes.all") : NULL;
    int result = items ? 0 : -1;
    for (Py_ssize_t i = 0; !result && i < PySequence_Fast_GET_SIZE(items); i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(items, i);
        PyObject *code = PyObject_GetAttrString(item, "code");
        long n = code ? PyLong_AsLong(code) : -1;
        Py_XDECREF(code);
        if (n <= 0 || n >= N_DTYPES || !lds_dtype_name((lds_dtype)n))
            result = -1;
        else
            Py_XSETREF(state->dtypes[n], new_ref(item));
    }
    if (result && !PyErr_Occurred())
        PyErr_SetString(PyExc_SystemError, "loadstone.dtypes does not fit this extension");
    Py_XDECREF(items);
    Py_XDECREF(all);
    Py_XDECREF(module);
    return result;
}

PyObject *core_dtype_object(core_state *state, lds_dtype dtype)
{
    return new_ref(state->dtypes[dtype]);
}

static int parse(PyObject *text, PyObject *object)
{
    const char *name = PyUnicode_Check(text) ? PyUnicode_AsUTF8(text) : NULL;
    int dtype = name ? (int)lds_dtype_parse(name) : 0;
    if (dtype)
        return dtype;
    if (!PyErr_Occurred() && PyUnicode_Check(object))
        PyErr_Format(PyExc_ValueError, "expected a dtype, found %R; loadstone.dtypes.all lists them", object);
    else if (!PyErr_Occurred())
        PyErr_Format(PyExc_TypeError, "expected a dtype, found %R", object);
    return -1;
}

/* torch's and NumPy's dtypes are known by what they print, types such as ml_dtypes.bfloat16 by their name. */
int core_dtype_of(core_state *state, PyObject *object)
{
    if (object == Py_None)
        return LDS_DTYPE_NONE;
    for (int i = 1; i < N_DTYPES; i++)
        if (object == state->dtypes[i])
            return i;
    PyObject *text = PyType_Check(object) ? PyObject_GetAttrString(object, "__name__") : PyObject_Str(object);
    int dtype = text ? parse(text, object) : -1;
    Py_XDECREF(text);
    return dtype;
}

/* dtype(object): the DType that it means; None for None. */
PyObject *core_dtype(PyObject *module, PyObject *object)
{
    core_state *state = PyModule_GetState(module);
    int dtype = core_dtype_of(state, object);
    if (dtype < 0)
        return NULL;
    return dtype ? core_dtype_object(state, (lds_dtype)dtype) : new_ref(Py_None);
}

PyObject *core_shape(uint32_t n_dims, const uint64_t *shape)
{
    PyObject *tuple = PyTuple_New(n_dims);
    for (uint32_t d = 0; tuple && d < n_dims; d++) {
        PyObject *extent = PyLong_FromUnsignedLongLong(shape[d]);
        if (!extent)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, d, extent);
    }
    return tuple;
}

static PyObject *convert_buffers(core_state *state, Py_buffer *dst, lds_dtype dst_dtype, Py_buffer *src,
                                 lds_dtype src_dtype, uint32_t n_threads)
{
    uint32_t src_bits = lds_dtype_bits(src_dtype), dst_bits = lds_dtype_bits(dst_dtype);
    size_t n = (size_t)src->len * 8 / src_bits;
    if ((size_t)src->len * 8 % src_bits || n > (size_t)dst->len * 8 / dst_bits ||
        n * dst_bits != (size_t)dst->len * 8)
        return PyErr_Format(PyExc_ValueError, "expected as many elements in both, found %zd and %zd bytes",
                            dst->len, src->len);
    const char *s = src->buf, *d = dst->buf;
    if (d < s + src->len && s < d + dst->len && (s != d || src_bits != dst_bits))
        return PyErr_Format(PyExc_ValueError, "expected arrays that do not overlap");
    lds_error err = LDS_ERROR_INIT;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = lds_convert_parallel(dst->buf, dst_dtype, src->buf, src_dtype, n, n_threads, &err);
    Py_END_ALLOW_THREADS;
    return status ? core_fail(state, &err) : new_ref(Py_None);
}

/* convert(dst, dst_dtype, src, src_dtype, threads): None are as many as are worth it. */
PyObject *core_convert(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *dst_object, *dst_type, *src_object, *src_type, *result = NULL;
    core_number threads = {
        .state = state, .name = "threads", .least = 1, .most = MAX_THREADS, .or_none = true};
    if (!PyArg_ParseTuple(args, "OOOOO&:convert", &dst_object, &dst_type, &src_object, &src_type,
                          core_take_number, &threads))
        return NULL;
    int dst_dtype = core_dtype_of(state, dst_type), src_dtype = core_dtype_of(state, src_type);
    if (dst_dtype < 0 || src_dtype < 0)
        return NULL;
    if (!dst_dtype || !src_dtype)
        return PyErr_Format(PyExc_TypeError, "expected a dtype, found None");
    Py_buffer dst, src;
    if (PyObject_GetBuffer(dst_object, &dst, PyBUF_WRITABLE))
        return NULL;
    if (!PyObject_GetBuffer(src_object, &src, PyBUF_SIMPLE)) {
        result = convert_buffers(state, &dst, (lds_dtype)dst_dtype, &src, (lds_dtype)src_dtype,
                                 (uint32_t)threads.value);
        PyBuffer_Release(&src);
    }
    PyBuffer_Release(&dst);
    return result;
}
