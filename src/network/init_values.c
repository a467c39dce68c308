/*
 * Initial values. Element i of a parameter is a function of the seed, the parameter's name and i alone: lane
 * i % 4 of the Philox4x32-10 block (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) whose
 * key is the seed and whose counter is i / 4 and a hash of the name. So it does not matter who computes it,
 * when, and what else there is. The hash is pinned, as are the transformations: a change would change every
 * model that anybody has initialised.
 *
 * The logarithm, sine and cosine of the normal distribution are polynomials here, not libm's: they then have
 * the same bits on every machine, and the compiler turns their loop into vectors.
 */
#include "src/network/init_values.h"

#include <float.h>
#include <math.h>

#include "src/dtype/convert.h"
#include "src/dtype/dtype.h"
#include "src/network/init.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { RUN_ELEMENTS = 1024 }; /* drawn at once, a multiple of 4; small enough for the stack and L1 */

/* ---------------------------------------------------------------------------------------------------------
 *                                             Random distributions
 * --------------------------------------------------------------------------------------------------------- */

/* What a random rule comes down to for one parameter. */
typedef struct distribution {
    lds_init_kind kind;    /* NORMAL, TRUNC_NORMAL or UNIFORM */
    double mean, std;      /* of the normal ones */
    double lo, hi;         /* of the others */
    float least, greatest; /* F32 values that are in the range */
} distribution;

/* As torch.nn.init counts them: what is behind the second dimension is the receptive field. */
static void fans(const lds_param *param, double *fan_in, double *fan_out)
{
    double field = 1;
    for (uint32_t i = 2; i < param->n_dims; i++)
        field *= (double)param->shape[i];
    *fan_in = field * (double)param->shape[1];
    *fan_out = field * (double)param->shape[0];
}

static void set_range(distribution *d, double lo, double hi, bool excludes_hi)
{
    d->lo = lo;
    d->hi = hi;
    d->least = (float)lo;
    d->greatest = (float)hi;
    while (d->least < lo)
        d->least = nextafterf(d->least, INFINITY);
    while (d->greatest > hi || (excludes_hi && d->greatest >= hi))
        d->greatest = nextafterf(d->greatest, -INFINITY);
    if (d->least > d->greatest) /* there is no F32 in the range: the nearest one outside */
        d->least = d->greatest = (float)lo;
}

static distribution distribution_of(const lds_param *param)
{
    const lds_init *init = param->init;
    distribution d = {.kind = init->kind, .mean = init->a, .std = init->b};
    double fan_in, fan_out, std = 0;
    if (lds_init_kind_has_fans(init->kind)) {
        fans(param, &fan_in, &fan_out);
        std = init->kind < LDS_INIT_KAIMING_UNIFORM ? init->a * sqrt(2 / (fan_in + fan_out))
                                                    : sqrt(2 / (1 + init->a * init->a)) / sqrt(fan_in);
    }
    if (init->kind == LDS_INIT_XAVIER_UNIFORM || init->kind == LDS_INIT_KAIMING_UNIFORM) {
        d.kind = LDS_INIT_UNIFORM;
        set_range(&d, -sqrt(3) * std, sqrt(3) * std, true);
    } else if (lds_init_kind_has_fans(init->kind)) {
        d = (distribution){.kind = LDS_INIT_NORMAL, .std = std};
    } else if (lds_init_kind_fields(init->kind) & LDS_INIT_LO) {
        set_range(&d, init->lo, init->hi, init->kind == LDS_INIT_UNIFORM);
    }
    return d;
}

static void draw_uniform(float *values, const uint32_t *words, size_t n, const distribution *d)
{
    double lo = d->lo, width = d->hi - d->lo;
    for (size_t i = 0; i < n; i++) {
        float value = (float)(lo + width * ((double)(int32_t)(words[i] >> 8) * 0x1p-24));
        value = value < d->least ? d->least : value;
        values[i] = value > d->greatest ? d->greatest : value;
    }
}

/* The natural logarithm of u, a positive normal number: of the power of two, and the series in (m-1)/(m+1). */
static inline float log_f32(float u)
{
    uint32_t bits;
    memcpy(&bits, &u, sizeof bits);
    int32_t exponent = (int32_t)(bits - 0x3F3504F3) >> 23; /* m is from sqrt(1/2) to sqrt(2) */
    bits -= (uint32_t)exponent << 23;
    float m;
    memcpy(&m, &bits, sizeof m);
    float s = (m - 1) / (m + 1), z = s * s;
    float series = 1 + z * (1 / 3.0f + z * (1 / 5.0f + z * (1 / 7.0f + z * (1 / 9.0f))));
    return (float)exponent * 0x1.62e430p-1f + 2 * s * series;
}

/* Sine and cosine of word / 2^32 turns: the nearest quarter turn, and Taylor's series for the rest. */
static inline void sincos_f32(uint32_t word, float *sine, float *cosine)
{
    uint32_t quarter = (word + (1u << 29)) >> 30;
    float y = (float)(int32_t)(word - (quarter << 30)) * 0x1.921fb6p-30f, z = y * y;
    float s = y * (1 + z * (-1 / 6.0f + z * (1 / 120.0f + z * (-1 / 5040.0f + z * (1 / 362880.0f)))));
    float c = 1 + z * (-1 / 2.0f + z * (1 / 24.0f + z * (-1 / 720.0f + z * (1 / 40320.0f))));
    float a = quarter & 1 ? c : s, b = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -a : a;
    *cosine = (quarter + 1) & 2 ? -b : b;
}

/* Box and Muller: two words make two values. n is even. */
static void draw_normal(float *values, const uint32_t *words, size_t n, const distribution *d)
{
    float mean = (float)d->mean, std = (float)d->std;
    for (size_t i = 0; i < n / 2; i++) {
        float u = ((float)(int32_t)(words[2 * i] >> 1) + 0.5f) * 0x1p-31f, sine, cosine;
        float radius = sqrtf(-2 * log_f32(u));
        sincos_f32(words[2 * i + 1], &sine, &cosine);
        values[2 * i] = mean + std * (radius * cosine);
        values[2 * i + 1] = mean + std * (radius * sine);
    }
}

static double polynomial(double x, const double coefficients[8])
{
    double sum = coefficients[7];
    for (int i = 6; i >= 0; i--)
        sum = sum * x + coefficients[i];
    return sum;
}

/*
 * Below which value a standard normal variable is with probability p: the rational functions PPND16 of
 * Wichura, "Algorithm AS 241: the percentage points of the normal distribution", 1988.
 */
static double normal_quantile(double p)
{
    static const double num[3][8] = {
        {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
         4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3},
        {1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
         3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
         2.27238449892691845833e-2, 7.74545014278341407640e-4},
        {6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
         2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
         2.71155556874348757815e-5, 2.01033439929228813265e-7},
    };
    static const double den[3][8] = {
        {1, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
         2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3},
        {1, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
         1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
         1.05075007164441684324e-9},
        {1, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
         7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
         2.04426310338993978564e-15},
    };
    double q = p - 0.5;
    if (fabs(q) <= 0.425) {
        double r = 0.180625 - q * q;
        return q * polynomial(r, num[0]) / polynomial(r, den[0]);
    }
    double r = sqrt(-log(fmax(q < 0 ? p : 1 - p, DBL_MIN)));
    int tail = r <= 5 ? 1 : 2;
    r -= tail == 1 ? 1.6 : 5;
    return copysign(polynomial(r, num[tail]) / polynomial(r, den[tail]), q);
}

/* The quantiles of the probabilities between those of lo and hi. */
static void draw_trunc_normal(float *values, const uint32_t *words, size_t n, const distribution *d)
{
    double std = d->std > 0 ? d->std : DBL_MIN, from = (d->lo - d->mean) / std, to = (d->hi - d->mean) / std;
    double sign = from > 0 ? -1 : 1; /* small probabilities are exact, those near 1 are not: stay below 0 */
    double p = erfc((sign > 0 ? -from : to) * M_SQRT1_2) / 2;
    double width = erfc((sign > 0 ? -to : from) * M_SQRT1_2) / 2 - p;
    for (size_t i = 0; i < n; i++) {
        double z = sign * normal_quantile(p + width * ((words[i] + 0.5) * 0x1p-32));
        float value = (float)(d->mean + d->std * z);
        value = value < d->least ? d->least : value;
        values[i] = value > d->greatest ? d->greatest : value;
    }
}

/* ---------------------------------------------------------------------------------------------------------
 *                                              Random numbers
 * --------------------------------------------------------------------------------------------------------- */

void lds_philox(uint32_t words[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

static void fill_random(const lds_param *param, lds_dtype dtype, uint8_t *data, uint64_t seed, uint64_t first,
                        uint64_t n)
{
    uint32_t words[RUN_ELEMENTS];
    float values[RUN_ELEMENTS];
    uint64_t hash = XXH64(param->name.text, param->name.nbytes, 0), end = first + n;
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t counter[4] = {0, 0, (uint32_t)hash, (uint32_t)(hash >> 32)};
    distribution d = distribution_of(param);
    lds_convert_fn convert = lds_convert_kernel(dtype, LDS_F32);
    while (first < end) {
        size_t skip = first % 4,
               count = end - first < RUN_ELEMENTS - skip ? (size_t)(end - first) : RUN_ELEMENTS - skip;
        size_t n_words = lds_align_up(skip + count, 4);
        for (size_t i = 0; i < n_words; i += 4) {
            uint64_t block = (first + i) / 4;
            counter[0] = (uint32_t)block;
            counter[1] = (uint32_t)(block >> 32);
            lds_philox(words + i, counter, key);
        }
        if (d.kind == LDS_INIT_NORMAL)
            draw_normal(values, words, n_words, &d);
        else if (d.kind == LDS_INIT_UNIFORM)
            draw_uniform(values, words, n_words, &d);
        else
            draw_trunc_normal(values, words, n_words, &d);
        convert(data, values + skip, count);
        data += count * (lds_dtype_bits(dtype) / 8);
        first += count;
    }
}

/* ---------------------------------------------------------------------------------------------------------
 *                                              Regular values
 * --------------------------------------------------------------------------------------------------------- */

/* value modulo 2^64. */
static uint64_t to_integer(double value)
{
    return value < 0 ? (uint64_t)(int64_t)value : (uint64_t)value;
}

/* The bytes of one element of value, which the dtype has; of 1 for F8_E8M0. */
static void encode(uint8_t bytes[8], lds_dtype dtype, double value)
{
    uint64_t integer = dtype == LDS_F8_E8M0 ? 127 : to_integer(value);
    float complex_value[2] = {(float)value, 0};
    if (lds_dtype_is_float(dtype))
        lds_convert_kernel(dtype, LDS_F64)(bytes, &value, 1);
    else if (dtype == LDS_C64)
        memcpy(bytes, complex_value, 8);
    else
        memcpy(bytes, &integer, 8); /* little-endian: the low bytes come first */
}

static void fill_constant(lds_dtype dtype, uint8_t *data, double value, uint64_t n)
{
    uint8_t bytes[8] = {0};
    size_t size = lds_dtype_bits(dtype) / 8, done = size, nbytes = (size_t)n * size;
    if (!n)
        return;
    encode(bytes, dtype, value);
    memcpy(data, bytes, size);
    for (; done < nbytes; done *= 2)
        memcpy(data + done, data, done < nbytes - done ? done : nbytes - done);
}

static void fill_arange(const lds_param *param, lds_dtype dtype, uint8_t *data, uint64_t first, uint64_t n)
{
    const lds_init *init = param->init;
    uint64_t length = param->n_dims ? param->shape[param->n_dims - 1] : 1, a = 0, b = 0;
    size_t size = lds_dtype_bits(dtype) / 8;
    lds_convert_fn convert = lds_dtype_is_float(dtype) ? lds_convert_kernel(dtype, LDS_F64) : NULL;
    if (!convert) {
        a = to_integer(init->a);
        b = to_integer(init->b);
    }
    for (uint64_t i = first; i < first + n; i++, data += size) {
        uint64_t position = i % length, integer = a + b * position;
        double value = init->a + init->b * (double)position;
        if (convert)
            convert(data, &value, 1);
        else
            memcpy(data, &integer, size);
    }
}

void lds_init_fill(const lds_param *param, lds_dtype dtype, void *data, uint64_t seed, uint64_t first,
                   uint64_t n)
{
    const lds_init *init = param->init;
    switch (init->kind) {
    case LDS_INIT_NONE: break;
    case LDS_INIT_ZEROS:
        memset(data, 0, (size_t)(n / 8 * lds_dtype_bits(dtype) + n % 8 * lds_dtype_bits(dtype) / 8));
        break;
    case LDS_INIT_ONES: fill_constant(dtype, data, 1, n); break;
    case LDS_INIT_CONSTANT: fill_constant(dtype, data, init->a, n); break;
    case LDS_INIT_ARANGE: fill_arange(param, dtype, data, first, n); break;
    default: fill_random(param, dtype, data, seed, first, n);
    }
}
