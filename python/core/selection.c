/* What an index means: integers, slices of every step, None and an ellipsis, as NumPy has them. */
#include "core.h"

static int take_slice(lds_slice *slice, PyObject *item, uint64_t extent)
{
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(item, &start, &stop, &step))
        return -1;
    Py_ssize_t count = PySlice_AdjustIndices((Py_ssize_t)extent, &start, &stop, step);
    *slice = count ? (lds_slice){(uint64_t)start, (uint64_t)count, step} : (lds_slice){0, 0, 1};
    return 0;
}

static int take_integer(lds_slice *slice, PyObject *item, uint64_t extent, uint32_t dim)
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

/* An array of one integer can be one, too, but means something else as an index. */
static bool has_dims(PyObject *item)
{
    PyObject *n_dims = PyLong_Check(item) ? NULL : PyObject_GetAttrString(item, "ndim");
    bool has = n_dims && PyLong_Check(n_dims) && PyObject_IsTrue(n_dims) > 0;
    PyErr_Clear();
    Py_XDECREF(n_dims);
    return has;
}

static bool is_integer(PyObject *item)
{
    return PyIndex_Check(item) && !PyBool_Check(item) && !has_dims(item);
}

static void keep_dim(core_selection *s, uint64_t extent)
{
    s->shape[s->n_kept++] = extent;
}

static void take_whole(core_selection *s, uint32_t end)
{
    for (; s->n_taken < end; s->n_taken++) {
        uint64_t extent = s->extents[s->n_taken];
        s->slices[s->n_taken] = (lds_slice){0, extent, 1};
        keep_dim(s, extent);
    }
}

static int take_item(core_selection *s, PyObject *item)
{
    uint64_t extent = s->extents[s->n_taken];
    lds_slice *slice = &s->slices[s->n_taken];
    if (is_integer(item) ? take_integer(slice, item, extent, s->n_taken) : take_slice(slice, item, extent))
        return -1;
    if (!is_integer(item))
        keep_dim(s, slice->count);
    s->n_taken++;
    return 0;
}

/* Dimensions that the items take one by one; -1 with an exception if they cannot be an index. */
static Py_ssize_t count_taken(const core_selection *s, PyObject *const *items, Py_ssize_t n)
{
    Py_ssize_t n_ellipses = 0, n_taken = 0, n_new = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        bool takes = is_integer(items[i]) || PySlice_Check(items[i]);
        n_ellipses += items[i] == Py_Ellipsis;
        n_new += items[i] == Py_None;
        n_taken += takes;
        if (takes || items[i] == Py_Ellipsis || items[i] == Py_None)
            continue;
        PyErr_Format(
            PyExc_TypeError,
            "expected an integer, a slice, None or an ellipsis, found %.100R; what .numpy() gives takes "
            "any index",
            items[i]);
        return -1;
    }
    if (n_ellipses > 1)
        PyErr_Format(PyExc_IndexError, "expected one ellipsis, found %zd", n_ellipses);
    else if (n_taken > (Py_ssize_t)s->n_dims)
        PyErr_Format(PyExc_IndexError, "expected at most %u indices, found %zd", (unsigned)s->n_dims,
                     n_taken);
    else if (n_new && n_new + (Py_ssize_t)s->n_dims > MAX_DIMS)
        PyErr_Format(PyExc_IndexError, "expected at most %d dimensions, found %zd", (int)MAX_DIMS,
                     n_new + (Py_ssize_t)s->n_dims);
    else
        return n_taken;
    return -1;
}

/* An ellipsis, or else the end, stands for all dimensions that have no item. */
static int take_items(core_selection *s, PyObject *const *items, Py_ssize_t n)
{
    Py_ssize_t n_taken = count_taken(s, items, n);
    if (n_taken < 0)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++)
        if (items[i] == Py_None)
            keep_dim(s, 1);
        else if (items[i] == Py_Ellipsis)
            take_whole(s, s->n_taken + s->n_dims - (uint32_t)n_taken);
        else if (take_item(s, items[i]))
            return -1;
    take_whole(s, s->n_dims);
    return 0;
}

int core_selection_init(core_selection *s, uint32_t n_dims, const uint64_t *extents, PyObject *index)
{
    bool is_tuple = index && PyTuple_Check(index);
    Py_ssize_t n = is_tuple ? PyTuple_GET_SIZE(index) : index ? 1 : 0;
    PyObject *const *items = !is_tuple ? &index : n ? &PyTuple_GET_ITEM(index, 0) : NULL;
    *s = (core_selection){.n_dims = n_dims, .extents = extents};
    s->slices = PyMem_Calloc((size_t)n_dims + 1, sizeof *s->slices);
    s->shape = PyMem_Calloc((size_t)n_dims + MAX_DIMS, sizeof *s->shape);
    if (!s->slices || !s->shape)
        PyErr_NoMemory();
    else if (!take_items(s, items, n))
        return 0;
    core_selection_destroy(s);
    return -1;
}

void core_selection_destroy(core_selection *s)
{
    PyMem_Free(s->slices);
    PyMem_Free(s->shape);
}
