/*
 * Streaming stores for every pair, without a second set of kernels: a piece is converted into a buffer that
 * stays in the first-level cache, and stored from there. The way through that cache costs next to nothing beside
 * the way to memory. SSE2, which every x86-64 has, is enough: what counts is that whole cache lines are written.
 * aarch64 recognises such streams of stores by itself.
 */
#include "src/dtype/stream.h"

#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>

enum { LINE_NBYTES = 64, PIECE_ELEMENTS = 512 };

static void store_lines(uint8_t *dst, const uint8_t *src, size_t nbytes)
{
    for (; nbytes >= LINE_NBYTES; nbytes -= LINE_NBYTES, dst += LINE_NBYTES, src += LINE_NBYTES)
        for (int i = 0; i < LINE_NBYTES; i += 16)
            _mm_stream_si128((__m128i *)(dst + i), _mm_loadu_si128((const __m128i *)(src + i)));
    memcpy(dst, src, nbytes);
}

void lds_convert_stream(void *dst, lds_dtype dst_dtype, const void *src, lds_dtype src_dtype, size_t n)
{
    uint8_t piece[PIECE_ELEMENTS * sizeof(double)];
    lds_convert_fn convert = lds_convert_kernel(dst_dtype, src_dtype);
    size_t out_nbytes = lds_dtype_bits(dst_dtype) / 8, in_nbytes = lds_dtype_bits(src_dtype) / 8;
    uint8_t *out = dst;
    const uint8_t *in = src;
    size_t head = -(uintptr_t)out % LINE_NBYTES / out_nbytes; /* elements before the first whole line */
    if (head > n || (uintptr_t)(out + head * out_nbytes) % LINE_NBYTES)
        head = n;
    convert(out, in, head);
    for (size_t i = head, k; i < n; i += k) {
        k = n - i < PIECE_ELEMENTS ? n - i : PIECE_ELEMENTS;
        convert(piece, in + i * in_nbytes, k);
        store_lines(out + i * out_nbytes, piece, k * out_nbytes);
    }
    _mm_sfence();
}

#else

void lds_convert_stream(void *dst, lds_dtype dst_dtype, const void *src, lds_dtype src_dtype, size_t n)
{
    lds_convert_kernel(dst_dtype, src_dtype)(dst, src, n);
}

#endif
