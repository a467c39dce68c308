/*
 * Streaming stores for every pair. The six between F16, BF16 and F32 have kernels of their own for it, since they do
 * not take longer than memory. Of any other, a piece is converted into a buffer that stays in the first-level cache,
 * and stored from there, which costs little beside the conversion. What counts is that whole cache lines are written,
 * in as few stores as can be: two of AVX take up to a third less time than four of SSE2, one of AVX-512 no less than
 * two. aarch64 recognises such streams of stores by itself.
 */
#include "src/dtype/stream.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#include <pthread.h>

#include "src/base/cpu.h"

enum { PIECE_ELEMENTS = 256 };

typedef void (*store_fn)(uint8_t *dst, const uint8_t *src, size_t n_lines);

static store_fn store_lines;
static pthread_once_t store_once = PTHREAD_ONCE_INIT;

static void store_lines_sse2(uint8_t *dst, const uint8_t *src, size_t n_lines)
{
    for (size_t i = 0; i < n_lines * LDS_LINE_NBYTES; i += 16)
        _mm_stream_si128((__m128i *)(dst + i), _mm_loadu_si128((const __m128i *)(src + i)));
}

__attribute__((target("avx"))) static void store_lines_avx(uint8_t *dst, const uint8_t *src, size_t n_lines)
{
    for (size_t i = 0; i < n_lines * LDS_LINE_NBYTES; i += 32)
        _mm256_stream_si256((__m256i *)(dst + i), _mm256_loadu_si256((const __m256i *)(src + i)));
}

static void choose_store(void)
{
    store_lines = lds_cpu_features() & LDS_CPU_AVX2 ? store_lines_avx : store_lines_sse2;
}

static void store(uint8_t *dst, const uint8_t *src, size_t nbytes)
{
    size_t whole = nbytes / LDS_LINE_NBYTES * LDS_LINE_NBYTES;
    store_lines(dst, src, nbytes / LDS_LINE_NBYTES);
    memcpy(dst + whole, src + whole, nbytes - whole);
}

void lds_convert_stream(void *dst, lds_dtype dst_dtype, const void *src, lds_dtype src_dtype, size_t n)
{
    _Alignas(LDS_LINE_NBYTES) uint8_t piece[PIECE_ELEMENTS * sizeof(double)];
    pthread_once(&store_once, choose_store);
    lds_convert_fn convert = lds_convert_kernel(dst_dtype, src_dtype);
    lds_convert_fn stream = lds_stream_kernel(dst_dtype, src_dtype);
    size_t out_nbytes = lds_dtype_bits(dst_dtype) / 8, in_nbytes = lds_dtype_bits(src_dtype) / 8;
    uint8_t *out = dst;
    const uint8_t *in = src;
    size_t head = lds_elements_before_line(out, out_nbytes);
    if (head > n || (uintptr_t)(out + head * out_nbytes) % LDS_LINE_NBYTES)
        head = n;
    convert(out, in, head);
    size_t done = head;
    if (stream) {
        size_t whole = (n - head) / LDS_STREAM_GRAIN * LDS_STREAM_GRAIN;
        stream(out + head * out_nbytes, in + head * in_nbytes, whole);
        done += whole;
    }
    for (size_t k; done < n; done += k) {
        k = n - done < PIECE_ELEMENTS ? n - done : PIECE_ELEMENTS;
        convert(piece, in + done * in_nbytes, k);
        store(out + done * out_nbytes, piece, k * out_nbytes);
    }
    _mm_sfence();
}

void lds_copy_stream(void *dst, const void *src, size_t nbytes)
{
    size_t head = lds_elements_before_line(dst, 1);
    head = head < nbytes ? head : nbytes;
    pthread_once(&store_once, choose_store);
    memcpy(dst, src, head);
    store((uint8_t *)dst + head, (const uint8_t *)src + head, nbytes - head);
    _mm_sfence();
}

#else

void lds_convert_stream(void *dst, lds_dtype dst_dtype, const void *src, lds_dtype src_dtype, size_t n)
{
    lds_convert_kernel(dst_dtype, src_dtype)(dst, src, n);
}

void lds_copy_stream(void *dst, const void *src, size_t nbytes)
{
    memcpy(dst, src, nbytes);
}

#endif
