/* A report as a dict of plain values: it then outlives the load, and can be pickled. */
#include "core.h"

static PyObject *entries(const lds_report *report, lds_report_list list)
{
    size_t n = lds_report_count(report, list);
    PyObject *items = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; items && i < n; i++) {
        PyObject *pair =
            Py_BuildValue("(sz)", lds_report_name(report, list, i), lds_report_detail(report, list, i));
        if (!pair)
            Py_CLEAR(items);
        else
            PyList_SET_ITEM(items, (Py_ssize_t)i, pair);
    }
    return items;
}

PyObject *core_report(lds_report *report)
{
    lds_report_stats s = {.struct_size = sizeof s};
    lds_report_get_stats(report, &s);
    PyObject *dict = Py_BuildValue(
        "{s:N,s:N,s:N,s:N,s:N,s:K,s:K,s:K,s:K,s:I,s:s,s:s,s:z,s:z,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:z,s:s}",
        "missing", entries(report, LDS_REPORT_MISSING), "unexpected", entries(report, LDS_REPORT_UNEXPECTED),
        "mismatched", entries(report, LDS_REPORT_MISMATCHED), "tied", entries(report, LDS_REPORT_TIED),
        "initialised", entries(report, LDS_REPORT_INITIALISED), "n_tensors", (unsigned long long)s.n_tensors,
        "read_nbytes", (unsigned long long)s.read_nbytes, "mapped_nbytes",
        (unsigned long long)s.mapped_nbytes, "written_nbytes", (unsigned long long)s.written_nbytes,
        "n_threads", s.n_threads, "source", s.source, "reason", s.reason, "source_reason", s.source_reason,
        "fallback", s.fallback, "seconds", s.seconds, "plan_seconds", s.plan_seconds, "memory_seconds",
        s.memory_seconds, "transfer_seconds", s.transfer_seconds, "init_seconds", s.init_seconds,
        "read_seconds", s.read_seconds, "convert_seconds", s.convert_seconds, "cache_seconds",
        s.cache_seconds, "check_seconds", s.check_seconds, "cache", s.cache, "text", lds_report_text(report));
    lds_report_free(report);
    return dict;
}
