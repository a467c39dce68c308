/* Parameters of networks. A parameter is looked at as a reader of its network, and changed as its writer. */
#include "network.h"

typedef struct parameter_object {
    PyObject_HEAD network_object *owner;
    lds_param *param;
} parameter_object;

PyObject *core_parameter_new(network_object *owner, lds_param *param)
{
    PyTypeObject *type = owner->state->parameter_type;
    parameter_object *self = (parameter_object *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->owner = (network_object *)new_ref((PyObject *)owner);
    self->param = param;
    return (PyObject *)self;
}

/* A network of a class of the user's may have its own parameters for attributes. */
static int parameter_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((parameter_object *)self)->owner);
    return 0;
}

static void parameter_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((parameter_object *)self)->owner);
    free_object(self);
}

#define PARAM(self) (((parameter_object *)(self))->param)

static PyObject *get_name(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(lds_param_name(PARAM(self)));
}

static PyObject *get_shape(PyObject *self, void *unused)
{
    (void)unused;
    return core_shape(lds_param_n_dims(PARAM(self)), lds_param_shape(PARAM(self)));
}

static PyObject *get_ndim(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(lds_param_n_dims(PARAM(self)));
}

/* What a load may change. */
typedef struct snapshot {
    lds_dtype dtype;
    uint64_t nbytes;
    void *data;
} snapshot;

static bool take_snapshot(snapshot *s, PyObject *self)
{
    network_object *owner = ((parameter_object *)self)->owner;
    if (!guard_try_read(&owner->guard)) {
        core_network_busy();
        return false;
    }
    *s = (snapshot){lds_param_dtype(PARAM(self)), lds_param_nbytes(PARAM(self)), lds_param_data(PARAM(self))};
    guard_end_read(&owner->guard);
    return true;
}

static PyObject *get_dtype(PyObject *self, void *unused)
{
    (void)unused;
    snapshot s;
    return take_snapshot(&s, self) ? core_dtype_object(((parameter_object *)self)->owner->state, s.dtype)
                                   : NULL;
}

static PyObject *get_nbytes(PyObject *self, void *unused)
{
    (void)unused;
    snapshot s;
    return take_snapshot(&s, self) ? PyLong_FromUnsignedLongLong(s.nbytes) : NULL;
}

static PyObject *get_data_ptr(PyObject *self, void *unused)
{
    (void)unused;
    snapshot s;
    if (!take_snapshot(&s, self))
        return NULL;
    return s.data ? PyLong_FromVoidPtr(s.data) : new_ref(Py_None);
}

static PyObject *get_tied_to(PyObject *self, void *unused)
{
    (void)unused;
    const lds_param *target = lds_param_tied_to(PARAM(self));
    return target ? PyUnicode_FromString(lds_param_name(target)) : new_ref(Py_None);
}

static PyObject *get_init(PyObject *self, void *unused)
{
    (void)unused;
    lds_init init = lds_param_init(PARAM(self));
    if (init.kind == LDS_INIT_NONE)
        return new_ref(Py_None);
    return Py_BuildValue("{s:s,s:d,s:d,s:d,s:d}", "kind", lds_init_kind_name(init.kind), "a", init.a, "b",
                         init.b, "lo", init.lo, "hi", init.hi);
}

static PyObject *get_tensor(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *tensor = core_network_tensor(((parameter_object *)self)->owner, PARAM(self));
    return tensor || PyErr_Occurred() ? tensor : new_ref(Py_None);
}

static PyObject *parameter_set_dtype(PyObject *self, PyObject *arg)
{
    network_object *owner = ((parameter_object *)self)->owner;
    int dtype = core_dtype_of(owner->state, arg);
    if (dtype < 0)
        return NULL;
    if (!guard_try_write(&owner->guard))
        return core_network_busy();
    watched_call call = {.thread = PyEval_SaveThread()};
    lds_change_options options = core_change_options(&call);
    lds_error err = LDS_ERROR_INIT;
    lds_status status = lds_param_set_dtype(PARAM(self), (lds_dtype)dtype, &options, &err);
    PyEval_RestoreThread(call.thread);
    core_network_end_change(owner, PARAM(self));
    return core_changed(owner->state, status, &err);
}

static PyObject *parameter_repr(PyObject *self)
{
    return core_call("loadstone._show", "parameter", self);
}

static PyMethodDef parameter_methods[] = {
    {"set_dtype", parameter_set_dtype, METH_O,
     "set_dtype($self, dtype, /)\n--\n\nConvert the values in place; tensors asked for before keep the old "
     "ones.\n\nRaises UnsupportedError if one of the dtypes is no float, and OutOfMemoryError; nothing has "
     "changed then."},
    {NULL},
};

static PyGetSetDef parameter_getset[] = {
    {"name", get_name, NULL, "Its name in the network.", NULL},
    {"dtype", get_dtype, NULL, "A loadstone.dtypes.DType.", NULL},
    {"shape", get_shape, NULL, "Extents in elements, outermost dimension first.", NULL},
    {"ndim", get_ndim, NULL, "Number of dimensions.", NULL},
    {"nbytes", get_nbytes, NULL, "Bytes that its values take.", NULL},
    {"data_ptr", get_data_ptr, NULL, "Address of its values, or None while it has none.", NULL},
    {"tied_to", get_tied_to, NULL, "Name of the parameter whose memory it shares, or None.", NULL},
    {"init", get_init, NULL,
     "Its init rule, or None: a dict of kind, a, b, lo and hi, as Network.add() takes them.", NULL},
    {"tensor", get_tensor, NULL, "Its values, or None while it has none.", NULL},
    {NULL},
};

static PyType_Slot parameter_slots[] = {
    {Py_tp_doc,
     "A parameter of a network, which it keeps: what it says is of now, also after later loads. While another\n"
     "thread changes the network, it raises RuntimeError."},
    {Py_tp_new, core_cannot_make},
    {Py_tp_dealloc, parameter_dealloc},
    {Py_tp_traverse, parameter_traverse},
    {Py_tp_repr, parameter_repr},
    {Py_tp_methods, parameter_methods},
    {Py_tp_getset, parameter_getset},
    {0, NULL},
};

PyType_Spec core_parameter_spec = {
    .name = "loadstone._core.Parameter",
    .basicsize = sizeof(parameter_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = parameter_slots,
};
