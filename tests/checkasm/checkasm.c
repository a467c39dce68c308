/*
 * Check every conversion kernel of every instruction set that this machine has against the C reference, or
 * time it.
 *
 *   checkasm [--isa NAME] [--exhaustive] [--bench [--json]]
 *
 * --exhaustive tries all inputs of the sources of 32 bits and fewer: minutes. Exit code 0 if all is well, 1 if
 * a kernel failed, 2 for a wrong argument.
 */
#include <stdio.h>
#include <string.h>

#include "tests/checkasm/checkasm.h"

typedef struct options {
    bool exhaustive, bench, json;
    const char *isa;
} options;

static bool parse(options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--exhaustive"))
            o->exhaustive = true;
        else if (!strcmp(argv[i], "--bench"))
            o->bench = true;
        else if (!strcmp(argv[i], "--json"))
            o->json = true;
        else if (!strcmp(argv[i], "--isa") && i + 1 < argc)
            o->isa = argv[++i];
        else
            return false;
    }
    return true;
}

static void print_speed(const pair *p, bool json, bool first)
{
    speed s = bench_pair(p);
    const char *src = lds_dtype_name(p->src), *dst = lds_dtype_name(p->dst), *isa = lds_isa_name(p->isa);
    double ratio = s.gbps / s.memcpy_gbps;
    if (json)
        printf("%s{\"src\": \"%s\", \"dst\": \"%s\", \"isa\": \"%s\", \"gbps\": %.2f, \"memcpy_gbps\": %.2f, "
               "\"ratio\": %.3f}",
               first ? "[" : ",\n ", src, dst, isa, s.gbps, s.memcpy_gbps, ratio);
    else
        printf("%-12s %-12s %-8s %8.2f %8.2f %6.2f\n", src, dst, isa, s.gbps, s.memcpy_gbps, ratio);
    fflush(stdout);
}

typedef struct tally {
    int n_failed, n_done, n_done_by[LDS_N_ISAS];
} tally;

static void do_pair(const options *o, const pair *p, tally *t)
{
    if (o->bench)
        print_speed(p, o->json, t->n_done == 0);
    else if (p->kernel == p->reference)
        return;
    else
        t->n_failed += o->exhaustive && p->src_nbytes <= 4 ? check_pair_exhaustively(p) : check_pair(p);
    t->n_done++;
    t->n_done_by[p->isa]++;
}

/* One after another: how fast a machine is may change by the second, and the times of a pair are compared. */
static void do_isas(const options *o, lds_dtype dst, lds_dtype src, tally *t)
{
    for (int isa = 0; isa < LDS_N_ISAS; isa++) {
        lds_convert_fn kernel = lds_convert_kernel_for((lds_isa)isa, dst, src);
        if (!kernel || (o->isa && strcmp(o->isa, lds_isa_name((lds_isa)isa)) != 0))
            continue;
        pair p = {.isa = (lds_isa)isa, .dst = dst, .src = src, .kernel = kernel};
        p.dst_nbytes = lds_dtype_bits(p.dst) / 8;
        p.src_nbytes = lds_dtype_bits(p.src) / 8;
        p.stream = lds_stream_kernel_for(p.isa, p.dst, p.src);
        p.reference = lds_convert_kernel_for(LDS_ISA_C, p.dst, p.src);
        do_pair(o, &p, t);
    }
}

int main(int argc, char **argv)
{
    options o = {0};
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: checkasm [--isa NAME] [--exhaustive] [--bench [--json]]\n");
        return 2;
    }
    if (o.bench && !o.json)
        printf("%-12s %-12s %-8s %8s %8s %6s\n", "from", "to", "isa", "GB/s", "memcpy", "ratio");
    tally t = {0};
    for (int s = LDS_F16; s <= LDS_F8_E5M2FNUZ; s++)
        for (int d = LDS_F16; d <= LDS_F8_E5M2FNUZ; d++)
            do_isas(&o, (lds_dtype)d, (lds_dtype)s, &t);
    for (int isa = 0; isa < LDS_N_ISAS && !o.bench; isa++)
        if (t.n_done_by[isa])
            printf("%s: %d kernels checked\n", lds_isa_name((lds_isa)isa), t.n_done_by[isa]);
    if (o.bench && o.json)
        printf("]\n");
    return t.n_failed ? 1 : 0;
}
