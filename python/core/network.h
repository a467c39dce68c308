/* What the files about networks share. */
#ifndef LDS_PYTHON_NETWORK_H
#define LDS_PYTHON_NETWORK_H

#include "core.h"

/* A buffer that a parameter lies in; held as long as the network and the tensors that were asked of it. */
typedef struct bound_buffer {
    struct bound_buffer *next;
    Py_buffer view;
} bound_buffer;

typedef struct network_object {
    PyObject_HEAD core_state *state;
    _Atomic(lds_network *) network;
    lds_builder *builder; /* until there is a network */
    lds_guard guard;
    bound_buffer *bound;
} network_object;

/* network.c */
/* Say that another call is changing the network; NULL. */
PyObject *core_network_busy(void);
/* A tensor of the parameter's memory; NULL without an exception if there is none. */
PyObject *core_network_tensor(network_object *self, const lds_param *param);

/* network_build.c */
/* The network, completed if it was being built; NULL with an exception. */
lds_network *core_network_of(network_object *self);
/* The methods _add, _enter, _push_dtype, _leave and tie. */
PyObject *core_network_add(PyObject *self, PyObject *args);
PyObject *core_network_enter(PyObject *self, PyObject *arg);
PyObject *core_network_push_dtype(PyObject *self, PyObject *arg);
PyObject *core_network_leave(PyObject *self, PyObject *arg);
PyObject *core_network_tie(PyObject *self, PyObject *args);

/* parameter.c */
PyObject *core_parameter_new(network_object *owner, lds_param *param);

#endif
