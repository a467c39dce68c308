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

/* What is to be done with one pair; the number of failures. */
static int do_pair(const options *o, const pair *p, int *n_done)
{
    if (o->bench) {
        print_speed(p, o->json, *n_done == 0);
        ++*n_done;
        return 0;
    }
    if (p->kernel == p->reference)
        return 0;
    ++*n_done;
    return o->exhaustive && p->src_nbytes <= 4 ? check_pair_exhaustively(p) : check_pair(p);
}

/* The pairs of one instruction set. */
static int do_isa(const options *o, lds_isa isa, int *n_done)
{
    int n_failed = 0;
    for (int s = LDS_F16; s <= LDS_F8_E5M2FNUZ; s++) {
        for (int d = LDS_F16; d <= LDS_F8_E5M2FNUZ; d++) {
            lds_convert_fn kernel = lds_convert_kernel_for(isa, (lds_dtype)d, (lds_dtype)s);
            if (!kernel)
                continue;
            pair p = {.isa = isa, .dst = (lds_dtype)d, .src = (lds_dtype)s, .kernel = kernel};
            p.dst_nbytes = lds_dtype_bits(p.dst) / 8;
            p.src_nbytes = lds_dtype_bits(p.src) / 8;
            p.stream = lds_stream_kernel_for(isa, p.dst, p.src);
            p.reference = lds_convert_kernel_for(LDS_ISA_C, p.dst, p.src);
            n_failed += do_pair(o, &p, n_done);
        }
    }
    return n_failed;
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
    int n_failed = 0, n_done = 0;
    for (int isa = 0; isa < LDS_N_ISAS; isa++) {
        if (!lds_isa_available((lds_isa)isa) || (o.isa && strcmp(o.isa, lds_isa_name((lds_isa)isa)) != 0))
            continue;
        int n_before = n_done;
        n_failed += do_isa(&o, (lds_isa)isa, &n_done);
        if (!o.bench)
            printf("%s: %d kernels checked\n", lds_isa_name((lds_isa)isa), n_done - n_before);
    }
    if (o.bench && o.json)
        printf("]\n");
    return n_failed ? 1 : 0;
}
