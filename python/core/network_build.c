/* Making networks, at once or by hand. One that is built by hand is a builder until its parameters are asked for. */
#include "network.h"

/* ---- making ---- */

static PyObject *network_make(PyObject *type, core_state *state, lds_network *network, lds_builder *builder)
{
    PyTypeObject *t = (PyTypeObject *)type;
    network_object *self = NULL;
    if (!PyType_Check(type) || !PyType_IsSubtype(t, state->network_type))
        PyErr_Format(PyExc_TypeError, "expected a type of network, found %R", type);
    else
        self = (network_object *)t->tp_alloc(t, 0);
    if (!self) {
        lds_network_free(network);
        lds_builder_free(builder);
        return NULL;
    }
    self->state = state;
    atomic_init(&self->network, network);
    self->builder = builder;
    return (PyObject *)self;
}

/* network_new(type, dtype) */
PyObject *core_network_new(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type, *object;
    if (!PyArg_ParseTuple(args, "OO:network_new", &type, &object))
        return NULL;
    int dtype = core_dtype_of(state, object);
    if (dtype < 0)
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_builder *builder;
    if (lds_builder_new(&builder, (lds_dtype)dtype, &err))
        return core_fail(state, &err);
    return network_make(type, state, NULL, builder);
}

/* network_from_checkpoint(type, checkpoint, key_map, dtype) */
PyObject *core_network_from_checkpoint(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type, *source, *key_map, *object;
    if (!PyArg_ParseTuple(args, "OO!OO:network_from_checkpoint", &type, state->checkpoint_type, &source,
                          &key_map, &object))
        return NULL;
    int dtype = core_dtype_of(state, object);
    const lds_keymap *keymap;
    if (dtype < 0 || core_keymap_of(state, key_map, &keymap))
        return NULL;
    const lds_checkpoint *checkpoint = core_checkpoint_begin(source);
    if (!checkpoint)
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_network *network;
    lds_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = keymap ? lds_network_from_keymap(&network, checkpoint, keymap, (lds_dtype)dtype, &err)
                    : lds_network_from_checkpoint(&network, checkpoint, (lds_dtype)dtype, &err);
    Py_END_ALLOW_THREADS;
    core_checkpoint_end(source);
    return status ? core_fail(state, &err) : network_make(type, state, network, NULL);
}

/* network_from_config(type, path, dtype) */
PyObject *core_network_from_config(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type, *path = NULL, *object;
    if (!PyArg_ParseTuple(args, "OO&O:network_from_config", &type, PyUnicode_FSConverter, &path, &object))
        return NULL;
    int dtype = core_dtype_of(state, object);
    lds_error err = LDS_ERROR_INIT;
    lds_network *network = NULL;
    lds_status status = LDS_OK;
    if (dtype >= 0) {
        Py_BEGIN_ALLOW_THREADS;
        status = lds_network_from_config(&network, PyBytes_AS_STRING(path), (lds_dtype)dtype, &err);
        Py_END_ALLOW_THREADS;
    }
    Py_DECREF(path);
    if (dtype < 0)
        return NULL;
    return status ? core_fail(state, &err) : network_make(type, state, network, NULL);
}

/* network_from_manifest(type, json, file) */
PyObject *core_network_from_manifest(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type;
    Py_buffer json;
    const char *file;
    if (!PyArg_ParseTuple(args, "Oy*y:network_from_manifest", &type, &json, &file))
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_network *network;
    lds_status status = lds_network_from_manifest(&network, json.buf, (size_t)json.len, file, &err);
    PyBuffer_Release(&json);
    return status ? core_fail(state, &err) : network_make(type, state, network, NULL);
}

/* ---- building by hand ---- */

/* The builder, held as a writer, or NULL with an exception. */
static lds_builder *begin_building(network_object *self)
{
    if (!guard_try_write(&self->guard))
        return (lds_builder *)core_network_busy();
    if (self->builder)
        return self->builder;
    guard_end_write(&self->guard);
    PyErr_SetString(PyExc_ValueError,
                    "the network is complete: parameters are added before it is first used");
    return NULL;
}

/* The builder's error comes with the end of the builder. */
static PyObject *end_building(network_object *self, PyObject *result)
{
    lds_error err = LDS_ERROR_INIT;
    lds_network *network;
    lds_status status = lds_builder_status(self->builder);
    if (status) {
        status = lds_builder_finish(&network, self->builder, &err);
        self->builder = NULL;
    }
    guard_end_write(&self->guard);
    if (!status)
        return result;
    Py_XDECREF(result);
    return core_fail(self->state, &err);
}

lds_network *core_network_of(network_object *self)
{
    lds_network *network = atomic_load(&self->network);
    if (network)
        return network;
    if (!guard_try_write(&self->guard))
        return (lds_network *)core_network_busy();
    lds_error err = LDS_ERROR_INIT;
    lds_status status = LDS_OK;
    network = atomic_load(&self->network);
    if (!network && self->builder) {
        status = lds_builder_finish(&network, self->builder, &err);
        self->builder = NULL;
        atomic_store(&self->network, network);
    }
    guard_end_write(&self->guard);
    if (status)
        return (lds_network *)core_fail(self->state, &err);
    if (!network)
        PyErr_SetString(PyExc_ValueError, "the network could not be built: see the first error");
    return network;
}

/* _add(name, shape, dtype, kind, a, b, lo, hi) */
PyObject *core_network_add(PyObject *self, PyObject *args)
{
    network_object *n = (network_object *)self;
    core_text name = {.name = "name"};
    PyObject *shape_object, *dtype_object;
    int kind;
    lds_init init = {0};
    if (!PyArg_ParseTuple(args, "O&OOidddd:add", core_take_text, &name, &shape_object, &dtype_object, &kind,
                          &init.a, &init.b, &init.lo, &init.hi))
        return NULL;
    init.kind = (lds_init_kind)kind;
    int dtype = core_dtype_of(n->state, dtype_object);
    Py_ssize_t n_dims;
    uint64_t *shape = dtype < 0 ? NULL : core_take_shape(n->state, shape_object, &n_dims);
    lds_builder *builder = shape ? begin_building(n) : NULL;
    PyObject *result = NULL;
    if (builder) {
        lds_builder_add(builder, name.value, (lds_dtype)dtype, (uint32_t)n_dims, shape, &init);
        result = end_building(n, new_ref(Py_None));
    }
    PyMem_Free(shape);
    return result;
}

PyObject *core_network_tie(PyObject *self, PyObject *args)
{
    core_text name = {.name = "name"}, target = {.name = "target"};
    if (!PyArg_ParseTuple(args, "O&O&:tie", core_take_text, &name, core_take_text, &target))
        return NULL;
    lds_builder *builder = begin_building((network_object *)self);
    if (!builder)
        return NULL;
    lds_builder_tie(builder, name.value, target.value);
    return end_building((network_object *)self, new_ref(Py_None));
}

PyObject *core_network_enter(PyObject *self, PyObject *arg)
{
    core_text name = {.name = "scope"};
    lds_builder *builder = core_take_text(arg, &name) ? begin_building((network_object *)self) : NULL;
    if (!builder)
        return NULL;
    lds_scope scope = lds_builder_enter(builder, "%s", name.value);
    return end_building((network_object *)self, PyLong_FromUnsignedLong(scope));
}

PyObject *core_network_push_dtype(PyObject *self, PyObject *arg)
{
    int dtype = core_dtype_of(((network_object *)self)->state, arg);
    lds_builder *builder = dtype < 0 ? NULL : begin_building((network_object *)self);
    if (!builder)
        return NULL;
    lds_scope scope = lds_builder_push_dtype(builder, (lds_dtype)dtype);
    return end_building((network_object *)self, PyLong_FromUnsignedLong(scope));
}

/* Leaving is no error when the network is complete, or could not be built: a with statement does it always. */
PyObject *core_network_leave(PyObject *self, PyObject *arg)
{
    network_object *n = (network_object *)self;
    unsigned long scope = PyLong_AsUnsignedLong(arg);
    if (scope == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (!guard_try_write(&n->guard))
        return core_network_busy();
    if (n->builder) {
        lds_builder_leave(n->builder, (lds_scope)scope);
        return end_building(n, new_ref(Py_None));
    }
    guard_end_write(&n->guard);
    return new_ref(Py_None);
}
