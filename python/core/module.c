/* The module: its types, its functions, its state. */
#include "core.h"

PyObject *core_cannot_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args, (void)kwargs;
    return PyErr_Format(PyExc_TypeError, "cannot make a %s by calling it", type->tp_name);
}

PyObject *core_call(const char *module_name, const char *function_name, PyObject *arg)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *function = module ? PyObject_GetAttrString(module, function_name) : NULL;
    PyObject *result = function ? PyObject_CallFunctionObjArgs(function, arg, NULL) : NULL;
    Py_XDECREF(function);
    Py_XDECREF(module);
    return result;
}

static int add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec)
{
    *slot = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *slot ? PyModule_AddType(module, *slot) : -1;
}

static int core_exec(PyObject *module)
{
    core_state *state = PyModule_GetState(module);
    PyObject *errors = PyImport_ImportModule("loadstone._errors");
    state->make_error = errors ? PyObject_GetAttrString(errors, "make_error") : NULL;
    Py_XDECREF(errors);
    if (!state->make_error || core_load_dtypes(state))
        return -1;
    if (add_type(module, &state->checkpoint_type, &core_checkpoint_spec) ||
        add_type(module, &state->checkpoint_tensor_type, &core_checkpoint_tensor_spec) ||
        add_type(module, &state->tensor_type, &core_tensor_spec) ||
        add_type(module, &state->network_type, &core_network_spec) ||
        add_type(module, &state->parameter_type, &core_parameter_spec) ||
        add_type(module, &state->keymap_type, &core_keymap_spec) ||
        add_type(module, &state->pool_type, &core_pool_spec))
        return -1;
    return PyModule_AddStringConstant(module, "version", lds_version());
}

static int core_traverse(PyObject *module, visitproc visit, void *arg)
{
    core_state *state = PyModule_GetState(module);
    Py_VISIT(state->checkpoint_type);
    Py_VISIT(state->checkpoint_tensor_type);
    Py_VISIT(state->tensor_type);
    Py_VISIT(state->network_type);
    Py_VISIT(state->parameter_type);
    Py_VISIT(state->keymap_type);
    Py_VISIT(state->pool_type);
    Py_VISIT(state->make_error);
    for (int i = 0; i < N_DTYPES; i++)
        Py_VISIT(state->dtypes[i]);
    return 0;
}

static int core_clear(PyObject *module)
{
    core_state *state = PyModule_GetState(module);
    Py_CLEAR(state->checkpoint_type);
    Py_CLEAR(state->checkpoint_tensor_type);
    Py_CLEAR(state->tensor_type);
    Py_CLEAR(state->network_type);
    Py_CLEAR(state->parameter_type);
    Py_CLEAR(state->keymap_type);
    Py_CLEAR(state->pool_type);
    Py_CLEAR(state->make_error);
    for (int i = 0; i < N_DTYPES; i++)
        Py_CLEAR(state->dtypes[i]);
    return 0;
}

static void core_free(void *module)
{
    core_clear(module);
}

/* glob_match(glob, name): the library's rule. */
static PyObject *core_glob_match(PyObject *module, PyObject *args)
{
    (void)module;
    const char *glob, *name;
    if (!PyArg_ParseTuple(args, "ss:glob_match", &glob, &name))
        return NULL;
    return PyBool_FromLong(lds_glob_match(glob, name));
}

static PyMethodDef core_methods[] = {
    {"open", core_open, METH_VARARGS, NULL},
    {"dtype", core_dtype, METH_O, NULL},
    {"memory_at", core_memory_at, METH_VARARGS, NULL},
    {"memory_of", core_memory_of, METH_O, NULL},
    {"tensor_of", core_tensor_of, METH_VARARGS, NULL},
    {"convert", core_convert, METH_VARARGS, NULL},
    {"glob_match", core_glob_match, METH_VARARGS, NULL},
    {"network_new", core_network_new, METH_VARARGS, NULL},
    {"network_from_checkpoint", core_network_from_checkpoint, METH_VARARGS, NULL},
    {"network_from_config", core_network_from_config, METH_VARARGS, NULL},
    {"network_from_manifest", core_network_from_manifest, METH_VARARGS, NULL},
    {"keymap_from_json", core_keymap_from_json, METH_VARARGS, NULL},
    {NULL},
};

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "loadstone._core",
    .m_doc = "The library's handles; use the package around it.",
    .m_size = sizeof(core_state),
    .m_methods = core_methods,
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
