/* Pools: memory for weights that is kept between loads. The library does its own locking. */
#include "core.h"

typedef struct pool_object {
    PyObject_HEAD lds_pool *pool;
} pool_object;

int core_pool_of(core_state *state, PyObject *object, lds_pool **pool)
{
    *pool = NULL;
    if (object == Py_None)
        return 0;
    if (!PyObject_TypeCheck(object, state->pool_type)) {
        PyErr_Format(PyExc_TypeError, "pool: expected a Pool, found %s", Py_TYPE(object)->tp_name);
        return -1;
    }
    *pool = ((pool_object *)object)->pool;
    return 0;
}

static PyObject *pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_nbytes", NULL};
    core_number max_nbytes = {.state = PyType_GetModuleState(type), .name = "max_nbytes", .most = UINT64_MAX};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:Pool", names, core_take_number, &max_nbytes))
        return NULL;
    pool_object *self = (pool_object *)type->tp_alloc(type, 0);
    if (self && lds_pool_create(&self->pool, max_nbytes.value, NULL)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void pool_dealloc(PyObject *self)
{
    Py_BEGIN_ALLOW_THREADS;
    lds_pool_release(((pool_object *)self)->pool);
    Py_END_ALLOW_THREADS;
    free_object(self);
}

static PyObject *pool_trim(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"keep_nbytes", NULL};
    core_number keep_nbytes = {
        .state = PyType_GetModuleState(Py_TYPE(self)), .name = "keep_nbytes", .most = UINT64_MAX};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:trim", names, core_take_number, &keep_nbytes))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    lds_pool_trim(((pool_object *)self)->pool, keep_nbytes.value);
    Py_END_ALLOW_THREADS;
    return new_ref(Py_None);
}

static lds_pool_stats stats_of(PyObject *self)
{
    lds_pool_stats stats = {.struct_size = sizeof stats};
    lds_pool_get_stats(((pool_object *)self)->pool, &stats);
    return stats;
}

static PyObject *get_idle(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(stats_of(self).idle_nbytes);
}

static PyObject *get_lent(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(stats_of(self).lent_nbytes);
}

static PyObject *pool_repr(PyObject *self)
{
    return core_call("loadstone._show", "pool", self);
}

static PyMethodDef pool_methods[] = {
    {"trim", (PyCFunction)(void (*)(void))pool_trim, METH_VARARGS | METH_KEYWORDS,
     "trim($self, /, keep_nbytes=0)\n--\n\nGive idle memory back to the system, but for keep_nbytes."},
    {NULL},
};

static PyGetSetDef pool_getset[] = {
    {"idle_nbytes", get_idle, NULL, "Bytes that are kept and in use by nobody.", NULL},
    {"lent_nbytes", get_lent, NULL, "Bytes that weights are in.", NULL},
    {NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc,
     "Pool(max_nbytes=0)\n--\n\nMemory that is kept between loads: load(..., pool=pool) takes from it "
     "what weights of an earlier\nload no longer use, which saves most of the time of a load that converts. "
     "It keeps at most max_nbytes idle,\n0 for any number. Any thread may use it at any time."},
    {Py_tp_new, pool_new},
    {Py_tp_dealloc, pool_dealloc},
    {Py_tp_repr, pool_repr},
    {Py_tp_methods, pool_methods},
    {Py_tp_getset, pool_getset},
    {0, NULL},
};

PyType_Spec core_pool_spec = {
    .name = "loadstone._core.Pool",
    .basicsize = sizeof(pool_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = pool_slots,
};
