/* The options of plans and loads: their defaults, and which of them go together. */
#include "src/base/machine.h"
#include "src/base/options.h"
#include "src/plan/plan.h"

static const lds_load_options defaults = {
    .struct_size = sizeof(lds_load_options),
    .strict = true,
    .init_missing = true,
};

void lds_load_options_init(lds_load_options *options, size_t size)
{
    lds_options_export(options, size, &defaults, sizeof defaults);
}

static lds_status check_globs(const char *field, const char *const *globs, size_t n, lds_error *err)
{
    if (n && !globs)
        return lds_fail(err, LDS_ERR_ARGUMENT, "options: %s: expected an array of %zu, found NULL", field, n);
    for (size_t i = 0; i < n; i++)
        if (!globs[i])
            return lds_fail(err, LDS_ERR_ARGUMENT, "options: %s[%zu]: expected a string, found NULL", field,
                            i);
    return LDS_OK;
}

lds_status lds_load_options_check(lds_load_options *checked, const lds_load_options *options, lds_error *err)
{
    *checked = defaults;
    LDS_TRY(lds_options_import(checked, sizeof *checked, "options", options, err));
    if (checked->dtype && !lds_dtype_is_float(checked->dtype))
        return lds_fail(err, LDS_ERR_ARGUMENT, "options: expected a float dtype, found %s",
                        lds_dtype_name(checked->dtype) ? lds_dtype_name(checked->dtype) : "an unknown one");
    if ((unsigned)checked->io > LDS_IO_DIRECT)
        return lds_fail(err, LDS_ERR_ARGUMENT, "options: io has no value %d", (int)checked->io);
    if (checked->n_threads > LDS_MAX_THREADS)
        return lds_fail(err, LDS_ERR_ARGUMENT, "options: expected at most %d threads, found %u",
                        LDS_MAX_THREADS, checked->n_threads);
    LDS_TRY(check_globs("names", checked->names, checked->n_names, err));
    LDS_TRY(check_globs("keep_f32", checked->keep_f32, checked->n_keep_f32, err));
    if (checked->allocator && (!checked->allocator->alloc || !checked->allocator->free))
        return lds_fail(err, LDS_ERR_ARGUMENT, "options: the allocator lacks a function");
    if (checked->pool && (checked->allocator || checked->hugetlb))
        return lds_fail(err, LDS_ERR_ARGUMENT, "options: memory is either a pool's or %s",
                        checked->allocator ? "an allocator's" : "hugetlb's");
    if (checked->cache && (checked->allocator || (checked->io != LDS_IO_AUTO && checked->io != LDS_IO_MAP)))
        return lds_fail(err, LDS_ERR_ARGUMENT, "options: what a cache has is mapped, which %s",
                        checked->allocator ? "an allocator does not allow" : "io does not allow");
    if (checked->hugetlb && checked->allocator)
        return lds_fail(err, LDS_ERR_ARGUMENT, "options: memory is either hugetlb's or an allocator's");
    if (!checked->n_threads)
        checked->n_threads = lds_threads_available();
    if (checked->window_nbytes && checked->window_nbytes / checked->n_threads < LDS_MIN_WINDOW_NBYTES)
        return lds_fail(err, LDS_ERR_ARGUMENT,
                        "options: expected a window of at least %d bytes for each of %u threads, found %llu",
                        LDS_MIN_WINDOW_NBYTES, checked->n_threads,
                        (unsigned long long)checked->window_nbytes);
    return LDS_OK;
}
