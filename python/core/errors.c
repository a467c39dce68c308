/* Errors of the library as exceptions; which class, and what it carries, is decided in loadstone/_errors.py. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core.h"

static PyObject *part(const char *text, size_t nbytes)
{
    if (!nbytes)
        return new_ref(Py_None);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)nbytes, "surrogateescape");
}

PyObject *core_fail_with_report(core_state *state, const lds_error *err, PyObject *report)
{
    const char *tensor = err->message + (err->file_nbytes ? err->file_nbytes + 2 : 0);
    PyObject *offset =
        err->offset == LDS_NO_OFFSET ? new_ref(Py_None) : PyLong_FromUnsignedLongLong(err->offset);
    PyObject *message = PyUnicode_DecodeUTF8(err->message, (Py_ssize_t)strlen(err->message), "replace");
    PyObject *exception = NULL;
    /* N takes over the references, and fails if one of them is NULL. */
    PyObject *args =
        Py_BuildValue("(iNNNNiO)", err->code, message, part(err->message, err->file_nbytes),
                      part(tensor, err->tensor_nbytes), offset, err->os_errno, report ? report : Py_None);
    if (args)
        exception = PyObject_CallObject(state->make_error, args);
    Py_XDECREF(args);
    if (exception)
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_XDECREF(exception);
    return NULL;
}

PyObject *core_fail(core_state *state, const lds_error *err)
{
    return core_fail_with_report(state, err, NULL);
}

/* Set by itself, None would be no argument of the exception, and a tuple several. */
PyObject *core_fail_key(PyObject *key)
{
    PyObject *args = PyTuple_Pack(1, key);
    if (args)
        PyErr_SetObject(PyExc_KeyError, args);
    Py_XDECREF(args);
    return NULL;
}

PyObject *core_fail_argument(core_state *state, const char *format, ...)
{
    lds_error err = LDS_ERROR_INIT;
    err.code = LDS_ERR_ARGUMENT;
    va_list args;
    va_start(args, format);
    vsnprintf(err.message, sizeof err.message, format, args);
    va_end(args);
    return core_fail(state, &err);
}
