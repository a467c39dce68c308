/*
 * Arguments that several calls take: numbers in a range, texts, and shapes. What they are called goes into the
 * message.
 */
#include <string.h>

#include "core.h"

static void refuse(const core_number *number, PyObject *found)
{
    PyObject *text = PyObject_Str(found);
    const char *digits = text ? PyUnicode_AsUTF8(text) : NULL;
    if (digits)
        core_fail_argument(number->state, "%s: expected %llu to %llu, found %.100s", number->name,
                           (unsigned long long)number->least, (unsigned long long)number->most, digits);
    Py_XDECREF(text);
}

int core_take_number(PyObject *object, void *ctx)
{
    core_number *number = ctx;
    if (object == Py_None && number->or_none)
        return 1;
    if (!PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s: expected an integer, found %R", number->name, object);
        return 0;
    }
    PyObject *index = PyNumber_Index(object);
    if (!index)
        return 0;
    number->value = PyLong_AsUnsignedLongLong(index);
    bool fits = !PyErr_Occurred() && number->value >= number->least && number->value <= number->most;
    if (!fits) {
        PyErr_Clear();
        refuse(number, index);
    }
    Py_DECREF(index);
    return fits;
}

int core_take_text(PyObject *object, void *ctx)
{
    core_text *text = ctx;
    if (object == Py_None && text->or_none)
        return 1;
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s: expected a str, found %R", text->name, object);
        return 0;
    }
    Py_ssize_t nbytes;
    const char *utf8 = PyUnicode_AsUTF8AndSize(object, &nbytes);
    if (utf8 && strlen(utf8) == (size_t)nbytes)
        text->value = utf8;
    else if (utf8)
        PyErr_Format(PyExc_ValueError, "%s: expected a text without NUL, found %R", text->name, object);
    return text->value != NULL;
}

const char *core_name_of(PyObject *object)
{
    core_text name = {.name = "name"};
    if (!PyUnicode_Check(object) || !core_take_text(object, &name))
        PyErr_Clear();
    return name.value;
}

/* A list may change while its items are asked. */
uint64_t *core_take_shape(core_state *state, PyObject *object, Py_ssize_t *n_dims)
{
    core_number extent = {.state = state, .name = "shape", .most = UINT64_MAX};
    PyObject *items = PySequence_Tuple(object);
    if (!items) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "expected a shape: a sequence of integers, found %R", object);
        return NULL;
    }
    *n_dims = PyTuple_GET_SIZE(items);
    uint64_t *shape = PyMem_Calloc((size_t)*n_dims + 1, sizeof *shape);
    if (!shape)
        PyErr_NoMemory();
    for (Py_ssize_t d = 0; shape && d < *n_dims; d++) {
        if (core_take_number(PyTuple_GET_ITEM(items, d), &extent)) {
            shape[d] = extent.value;
        } else {
            PyMem_Free(shape);
            shape = NULL;
        }
    }
    Py_DECREF(items);
    return shape;
}
