/* What the files about networks share. */
#ifndef LDS_PYTHON_NETWORK_H
#define LDS_PYTHON_NETWORK_H

#include "core.h"

/* A parameter that is tied to no other, and the tensor whose memory, the caller's, it lies in, or NULL. */
typedef struct bound_param {
    const lds_param *param;
    tensor_object *memory;
} bound_param;

typedef struct network_object {
    PyObject_HEAD core_state *state;
    _Atomic(lds_network *) network;
    lds_builder *builder; /* until there is a network */
    lds_guard guard;
    bound_param *bound; /* NULL until a parameter is put into memory of the caller's */
    size_t n_bound;
} network_object;

/* What the library's progress callback needs; the thread state is that of the thread that made the call. */
typedef struct watched_call {
    PyThreadState *thread;
    PyObject *progress; /* or NULL */
} watched_call;

/* network.c */
/* A progress callback, ctx being a watched_call: an exception, that of a signal's handler too, ends the call. */
int core_watch(void *ctx, const lds_progress *progress);
/* Options by which signals are looked at. */
lds_change_options core_change_options(watched_call *call);
/* None for a change that was made; NULL with an exception, what core_watch() met or else the library's. */
PyObject *core_changed(core_state *state, lds_status status, const lds_error *err);
/* Say that another call is changing the network; NULL. */
PyObject *core_network_busy(void);
/* A tensor of the parameter's memory; NULL without an exception if there is none. */
PyObject *core_network_tensor(network_object *self, const lds_param *param);

/* bound.c */
/* What keeps the parameter's data, as a reader of the network; NULL if it is not the caller's. */
PyObject *core_bound_keeper(const network_object *n, const lds_param *param, const void *data);
/* Put a parameter into memory as dtype, LDS_DTYPE_NONE being its own; memory NULL takes its values away. */
PyObject *core_bind(network_object *n, lds_network *network, lds_param *param, tensor_object *memory,
                    lds_dtype dtype);
/* End what a writer did to a parameter, or to all: let go of the memory that they are in no longer. */
void core_network_end_change(network_object *n, const lds_param *param);
void core_bound_destroy(network_object *n);

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
