/* Key maps; rules are written as JSON, which has them all. */
#include "core.h"

typedef struct keymap_object {
    PyObject_HEAD lds_keymap *keymap;
} keymap_object;

int core_keymap_of(core_state *state, PyObject *object, const lds_keymap **keymap)
{
    *keymap = NULL;
    if (object == Py_None)
        return 0;
    if (!PyObject_TypeCheck(object, state->keymap_type)) {
        PyErr_Format(PyExc_TypeError, "key_map: expected a KeyMap, found %s", Py_TYPE(object)->tp_name);
        return -1;
    }
    *keymap = ((keymap_object *)object)->keymap;
    return 0;
}

/* keymap_from_json(type, json, file): file is the bytes of a name for messages. */
PyObject *core_keymap_from_json(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type;
    Py_buffer json;
    const char *file;
    if (!PyArg_ParseTuple(args, "Oy*y:keymap_from_json", &type, &json, &file))
        return NULL;
    lds_error err = LDS_ERROR_INIT;
    lds_keymap *keymap;
    lds_status status = lds_keymap_from_json(&keymap, json.buf, (size_t)json.len, file, &err);
    PyBuffer_Release(&json);
    if (status)
        return core_fail(state, &err);
    PyTypeObject *t = (PyTypeObject *)type;
    keymap_object *self = NULL;
    if (!PyType_Check(type) || !PyType_IsSubtype(t, state->keymap_type))
        PyErr_Format(PyExc_TypeError, "expected a type of key map, found %R", type);
    else
        self = (keymap_object *)t->tp_alloc(t, 0);
    if (self)
        self->keymap = keymap;
    else
        lds_keymap_free(keymap);
    return (PyObject *)self;
}

static void keymap_dealloc(PyObject *self)
{
    lds_keymap_free(((keymap_object *)self)->keymap);
    free_object(self);
}

static PyType_Slot keymap_slots[] = {
    {Py_tp_doc, "Rules that turn tensor names into parameter names."},
    {Py_tp_new, core_cannot_make},
    {Py_tp_dealloc, keymap_dealloc},
    {0, NULL},
};

PyType_Spec core_keymap_spec = {
    .name = "loadstone._core.KeyMap",
    .basicsize = sizeof(keymap_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = keymap_slots,
};
