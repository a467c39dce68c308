/* What the parts of checkasm share. */
#ifndef LDS_TESTS_CHECKASM_H
#define LDS_TESTS_CHECKASM_H

#include "src/dtype/dtype.h"
#include "src/dtype/kernels.h"

typedef struct pair {
    lds_isa isa;
    lds_dtype dst, src;
    size_t dst_nbytes, src_nbytes; /* of an element */
    lds_convert_fn kernel, reference;
    lds_convert_fn stream; /* NULL if there is none */
} pair;

/* Both return the number of failures. */
int check_pair(const pair *p);
int check_pair_exhaustively(const pair *p);

typedef struct speed {
    double gbps;        /* 10^9 bytes a second, in and out together */
    double memcpy_gbps; /* of a copy that reads and writes as many bytes */
} speed;

speed bench_pair(const pair *p);

#endif
