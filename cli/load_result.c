/* What both forms of a result are made of: sums over its parts, and digests. */
#include "load_result.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "progress_bar.h"

void add_sums(load_sums *sums, const part *p)
{
    lds_report_stats stats = {.struct_size = sizeof stats};
    lds_report_get_stats(p->report, &stats);
    sums->n_tensors += stats.n_tensors;
    sums->read_nbytes += stats.read_nbytes;
    sums->mapped_nbytes += stats.mapped_nbytes;
    sums->written_nbytes += stats.written_nbytes;
    if (stats.n_threads > sums->n_threads)
        sums->n_threads = stats.n_threads;
    if (!sums->source)
        sums->source = stats.source;
    else if (strcmp(sums->source, stats.source) != 0) /* parts that differ: no more than whether, not how */
        sums->source = !sums->read_nbytes ? "map" : sums->mapped_nbytes ? "map+read" : "read";
}

void add_plan(lds_plan_stats *sums, const part *p)
{
    if (!p->plan)
        return;
    lds_plan_stats stats = {.struct_size = sizeof stats};
    lds_plan_get_stats(p->plan, &stats);
    if (sums->written_nbytes + stats.peak_nbytes > sums->peak_nbytes)
        sums->peak_nbytes = sums->written_nbytes + stats.peak_nbytes;
    sums->n_transfers += stats.n_transfers;
    sums->read_nbytes += stats.read_nbytes;
    sums->mapped_nbytes += stats.mapped_nbytes;
    sums->written_nbytes += stats.written_nbytes;
}

static void add_digest(load_result *result, const part *p, const lds_param *param)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical,
                             XXH3_128bits(lds_param_data(param), (size_t)lds_param_nbytes(param)));
    digest *d = &result->digests[result->n_digests++];
    *d = (digest){.part = p, .param = param};
    memcpy(d->bytes, canonical.digest, DIGEST_NBYTES);
}

bool make_digests(load_result *result)
{
    size_t n = 0;
    for (size_t i = 0; i < result->n_parts; i++)
        n += lds_network_n_params(result->ps->items[i].network);
    result->digests = allocate(NULL, n, sizeof *result->digests);
    for (size_t i = 0; i < result->n_parts; i++) {
        const part *p = &result->ps->items[i];
        size_t n_params = lds_network_n_params(p->network);
        for (size_t k = 0; k < n_params && !was_interrupted(); k++) {
            const lds_param *param = lds_network_param(p->network, k);
            if (lds_param_data(param))
                add_digest(result, p, param);
        }
    }
    return !was_interrupted();
}

const char *digest_text(char text[static DIGEST_TEXT_SIZE], const digest *d)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < DIGEST_NBYTES; i++) {
        text[2 * i] = hex[d->bytes[i] >> 4];
        text[2 * i + 1] = hex[d->bytes[i] & 15];
    }
    text[DIGEST_TEXT_SIZE - 1] = 0;
    return text;
}
