/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IEEE 754 arithmetic for the F and D extensions; see softfloat.h.
 *
 * A finite number is taken apart into sign, exponent and a 64-bit significand with its
 * leading one at bit 63: value = sig / 2^63 * 2^exp.  Each operation computes a
 * significand that is exact but for its last bit, which also stands for everything
 * below ("jamming"), and round_pack() does the rest.
 */
#include "softfloat.h"
#include "cpu.h"

const SfFormat sf_f32 = {23, 127, 0x7f800000, 0x80000000, 0x7fc00000};
const SfFormat sf_f64 = {52, 1023, UINT64_C(0x7ff0000000000000),
                         UINT64_C(0x8000000000000000), UINT64_C(0x7ff8000000000000)};

typedef unsigned __int128 u128;

typedef enum SfKind { SF_ZERO, SF_FINITE, SF_INF, SF_NAN } SfKind;

typedef struct Unpacked {
    SfKind kind;
    bool sign;
    int exp;
    uint64_t sig;
} Unpacked;

static uint64_t shift_right_jam(uint64_t v, unsigned n)
{
    if (n == 0) {
        return v;
    }
    return n > 63 ? v != 0 : v >> n | (v << (64 - n) != 0);
}

static u128 shift_right_jam128(u128 v, unsigned n)
{
    if (n == 0) {
        return v;
    }
    return n > 127 ? v != 0 : v >> n | (v << (128 - n) != 0);
}

static Unpacked unpack(const SfFormat *f, uint64_t a)
{
    uint64_t frac = a & ((UINT64_C(1) << f->frac) - 1);
    int exp = (int)((a & f->inf) >> f->frac), lz;
    Unpacked u = {.sign = a & f->sign};

    if ((a & f->inf) == f->inf) {
        u.kind = frac ? SF_NAN : SF_INF;
    } else if (exp == 0 && frac == 0) {
        u.kind = SF_ZERO;
    } else {
        u.kind = SF_FINITE;
        if (exp != 0) {
            u.sig = (frac | UINT64_C(1) << f->frac) << (63 - f->frac);
            u.exp = exp - f->bias;
        } else {
            lz = __builtin_clzll(frac);
            u.sig = frac << lz;
            u.exp = 1 - f->bias + (63 - f->frac) - lz;
        }
    }
    return u;
}

static uint64_t invalid(const SfFormat *f, SfEnv *env)
{
    env->flags |= FFLAG_NV;
    return f->nan;
}

static uint64_t zero(const SfFormat *f, bool sign)
{
    return sign ? f->sign : 0;
}

static uint64_t infinity(const SfFormat *f, bool sign)
{
    return f->inf | zero(f, sign);
}

static uint64_t overflow(const SfFormat *f, bool sign, SfEnv *env)
{
    bool to_inf = env->rm == RM_RNE || env->rm == RM_RMM ||
                  env->rm == (sign ? RM_RDN : RM_RUP);

    env->flags |= FFLAG_OF | FFLAG_NX;
    return infinity(f, sign) - (to_inf ? 0 : 1);
}

/* sig has its leading one at bit 63. */
static uint64_t round_pack(const SfFormat *f, bool sign, int exp, uint64_t sig, SfEnv *env)
{
    int shift = 63 - f->frac, exp_min = 1 - f->bias;
    uint64_t mask = (UINT64_C(1) << shift) - 1, half = UINT64_C(1) << (shift - 1);
    uint64_t inc, rest, rounded, field = 0;
    bool tiny = false;

    switch (env->rm) {
    case RM_RNE:
    case RM_RMM:
        inc = half;
        break;
    case RM_RTZ:
        inc = 0;
        break;
    default:
        inc = sign == (env->rm == RM_RDN) ? mask : 0;
    }
    if (exp < exp_min) {
        /* Not tiny if it rounds up to the smallest normal number at full precision. */
        tiny = exp < exp_min - 1 || sig + inc >= sig;
        sig = shift_right_jam(sig, (unsigned)(exp_min - exp));
        exp = exp_min;
    } else {
        field = (uint64_t)(exp + f->bias - 1);
    }
    rest = sig & mask;
    rounded = sig + inc;
    if (rounded < sig) {
        rounded = UINT64_C(1) << 63;
        exp++;
        field++;
    } else if (env->rm == RM_RNE && rest == half) {
        rounded &= ~(UINT64_C(1) << shift);
    }
    if (exp > f->bias) {
        return overflow(f, sign, env);
    }
    if (rest) {
        env->flags |= FFLAG_NX | (tiny ? FFLAG_UF : 0);
    }
    /* The leading one adds 1 to the exponent field. */
    return zero(f, sign) | ((field << f->frac) + (rounded >> shift));
}

bool sf_is_nan(const SfFormat *f, uint64_t a)
{
    return (a & ~f->sign) > f->inf;
}

bool sf_is_snan(const SfFormat *f, uint64_t a)
{
    return sf_is_nan(f, a) && !(a & (UINT64_C(1) << (f->frac - 1)));
}

/* For operands of which at least one is a NaN. */
static uint64_t propagate(const SfFormat *f, uint64_t a, uint64_t b, SfEnv *env)
{
    return sf_is_snan(f, a) || sf_is_snan(f, b) ? invalid(f, env) : f->nan;
}

uint64_t sf_add(const SfFormat *f, uint64_t a, uint64_t b, SfEnv *env)
{
    Unpacked x = unpack(f, a), y = unpack(f, b);
    uint64_t sum, small;
    int lz;

    if (x.kind == SF_NAN || y.kind == SF_NAN) {
        return propagate(f, a, b, env);
    }
    if (x.kind == SF_INF) {
        return y.kind == SF_INF && x.sign != y.sign ? invalid(f, env) : a;
    }
    if (y.kind == SF_INF) {
        return b;
    }
    if (x.kind == SF_ZERO) {
        return y.kind != SF_ZERO || x.sign == y.sign ? b : zero(f, env->rm == RM_RDN);
    }
    if (y.kind == SF_ZERO) {
        return a;
    }
    if (x.exp < y.exp || (x.exp == y.exp && x.sig < y.sig)) {
        Unpacked t = x;

        x = y;
        y = t;
    }
    small = shift_right_jam(y.sig >> 1, (unsigned)(x.exp - y.exp));
    sum = x.sign == y.sign ? (x.sig >> 1) + small : (x.sig >> 1) - small;
    if (sum == 0) {
        return zero(f, env->rm == RM_RDN);
    }
    lz = __builtin_clzll(sum);
    return round_pack(f, x.sign, x.exp + 1 - lz, sum << lz, env);
}

uint64_t sf_mul(const SfFormat *f, uint64_t a, uint64_t b, SfEnv *env)
{
    Unpacked x = unpack(f, a), y = unpack(f, b);
    bool sign = x.sign != y.sign;
    u128 product;
    uint64_t sig;
    int lz;

    if (x.kind == SF_NAN || y.kind == SF_NAN) {
        return propagate(f, a, b, env);
    }
    if (x.kind == SF_INF || y.kind == SF_INF) {
        return x.kind == SF_ZERO || y.kind == SF_ZERO ? invalid(f, env) : infinity(f, sign);
    }
    if (x.kind == SF_ZERO || y.kind == SF_ZERO) {
        return zero(f, sign);
    }
    product = (u128)x.sig * y.sig;
    sig = (uint64_t)(product >> 64) | ((uint64_t)product != 0);
    lz = __builtin_clzll(sig);
    return round_pack(f, sign, x.exp + y.exp + 1 - lz, sig << lz, env);
}

uint64_t sf_div(const SfFormat *f, uint64_t a, uint64_t b, SfEnv *env)
{
    Unpacked x = unpack(f, a), y = unpack(f, b);
    bool sign = x.sign != y.sign;
    u128 dividend;
    uint64_t sig;
    int lz;

    if (x.kind == SF_NAN || y.kind == SF_NAN) {
        return propagate(f, a, b, env);
    }
    if (x.kind == SF_INF) {
        return y.kind == SF_INF ? invalid(f, env) : infinity(f, sign);
    }
    if (y.kind == SF_INF) {
        return zero(f, sign);
    }
    if (y.kind == SF_ZERO) {
        if (x.kind == SF_ZERO) {
            return invalid(f, env);
        }
        env->flags |= FFLAG_DZ;
        return infinity(f, sign);
    }
    if (x.kind == SF_ZERO) {
        return zero(f, sign);
    }
    dividend = (u128)x.sig << 63; /* the quotient is in (2^62, 2^64) */
    sig = (uint64_t)(dividend / y.sig) | (dividend % y.sig != 0);
    lz = __builtin_clzll(sig);
    return round_pack(f, sign, x.exp - y.exp - lz, sig << lz, env);
}

/* floor(sqrt(v)), bit by bit; v >= 2^126, so the root has its leading one at bit 63. */
static uint64_t root(u128 v, bool *exact)
{
    u128 rest = v, result = 0;

    for (u128 bit = (u128)1 << 126; bit; bit >>= 2) {
        if (rest >= result + bit) {
            rest -= result + bit;
            result = (result >> 1) + bit;
        } else {
            result >>= 1;
        }
    }
    *exact = rest == 0;
    return (uint64_t)result;
}

uint64_t sf_sqrt(const SfFormat *f, uint64_t a, SfEnv *env)
{
    Unpacked x = unpack(f, a);
    uint64_t sig;
    bool exact;

    if (x.kind == SF_NAN) {
        return propagate(f, a, a, env);
    }
    if (x.kind == SF_ZERO) {
        return a;
    }
    if (x.sign) {
        return invalid(f, env);
    }
    if (x.kind == SF_INF) {
        return a;
    }
    sig = root((u128)x.sig << (x.exp & 1 ? 64 : 63), &exact);
    return round_pack(f, false, x.exp >> 1, sig | !exact, env);
}

/* p / 2^126 * 2^exp + y, p's leading one at bit 126 */
static uint64_t add_product(const SfFormat *f, bool sign, int exp, u128 p, Unpacked y,
                            SfEnv *env)
{
    u128 q = (u128)y.sig << 63, sum;
    uint64_t sig;
    int lz, e = MAX(exp, y.exp);

    p = shift_right_jam128(p, (unsigned)(e - exp));
    q = shift_right_jam128(q, (unsigned)(e - y.exp));
    if (sign == y.sign) {
        sum = p + q;
    } else if (p == q) {
        return zero(f, env->rm == RM_RDN);
    } else if (p > q) {
        sum = p - q;
    } else {
        sum = q - p;
        sign = y.sign;
    }
    lz = sum >> 64 ? __builtin_clzll((uint64_t)(sum >> 64)) :
                     64 + __builtin_clzll((uint64_t)sum);
    sum <<= lz;
    sig = (uint64_t)(sum >> 64) | ((uint64_t)sum != 0);
    return round_pack(f, sign, e + 1 - lz, sig, env);
}

uint64_t sf_fma(const SfFormat *f, uint64_t a, uint64_t b, uint64_t c, SfEnv *env)
{
    Unpacked x = unpack(f, a), y = unpack(f, b), z = unpack(f, c);
    bool sign = x.sign != y.sign;
    bool inf_times_zero = (x.kind == SF_INF && y.kind == SF_ZERO) ||
                          (x.kind == SF_ZERO && y.kind == SF_INF);
    u128 product;
    int exp;

    if (inf_times_zero || sf_is_snan(f, a) || sf_is_snan(f, b) || sf_is_snan(f, c)) {
        return invalid(f, env);
    }
    if (x.kind == SF_NAN || y.kind == SF_NAN || z.kind == SF_NAN) {
        return f->nan;
    }
    if (x.kind == SF_INF || y.kind == SF_INF) {
        return z.kind == SF_INF && z.sign != sign ? invalid(f, env) : infinity(f, sign);
    }
    if (z.kind == SF_INF) {
        return c;
    }
    if (x.kind == SF_ZERO || y.kind == SF_ZERO) {
        return z.kind != SF_ZERO || z.sign == sign ? c : zero(f, env->rm == RM_RDN);
    }
    product = (u128)x.sig * y.sig;
    exp = x.exp + y.exp;
    if (product >> 127) {
        product >>= 1; /* its low bits are zero: at most 53 of a significand's 64 are used */
        exp++;
    }
    if (z.kind == SF_ZERO) {
        return round_pack(f, sign, exp,
                          (uint64_t)(product >> 63) |
                              ((uint64_t)product << 1 != 0),
                          env);
    }
    return add_product(f, sign, exp, product, z, env);
}

uint64_t sf_convert(const SfFormat *to, const SfFormat *from, uint64_t a, SfEnv *env)
{
    Unpacked x = unpack(from, a);

    switch (x.kind) {
    case SF_NAN:
        return sf_is_snan(from, a) ? invalid(to, env) : to->nan;
    case SF_INF:
        return infinity(to, x.sign);
    case SF_ZERO:
        return zero(to, x.sign);
    default:
        return round_pack(to, x.sign, x.exp, x.sig, env);
    }
}

static bool rounds_away(const SfEnv *env, bool sign, bool odd, uint64_t frac)
{
    const uint64_t half = UINT64_C(1) << 63;

    switch (env->rm) {
    case RM_RNE:
        return frac > half || (frac == half && odd);
    case RM_RMM:
        return frac >= half;
    case RM_RDN:
        return sign && frac;
    case RM_RUP:
        return !sign && frac;
    default:
        return false;
    }
}

uint64_t sf_to_int(const SfFormat *f, uint64_t a, int width, bool is_signed, SfEnv *env)
{
    Unpacked x = unpack(f, a);
    uint64_t max = UINT64_MAX >> (64 - width), integer, frac, limit, result;
    bool negative = x.sign && x.kind != SF_NAN;

    if (is_signed) {
        limit = (max >> 1) + negative;
    } else {
        limit = negative ? 0 : max;
    }
    if (x.kind == SF_ZERO) {
        return 0;
    }
    if (x.kind == SF_FINITE && x.exp < 64) {
        integer = x.exp >= 0 ? x.sig >> (63 - x.exp) : 0;
        frac = x.exp == 63 ? 0 : x.exp >= -1 ? x.sig << (x.exp + 1) :
               shift_right_jam(x.sig, (unsigned)(-1 - x.exp));
        integer += rounds_away(env, negative, integer & 1, frac);
        if (integer <= limit) {
            env->flags |= frac ? FFLAG_NX : 0;
            result = negative ? -integer : integer;
            return width == 32 ? (uint64_t)(int64_t)(int32_t)(uint32_t)result : result;
        }
    }
    env->flags |= FFLAG_NV;
    result = negative ? -limit : limit;
    return width == 32 ? (uint64_t)(int64_t)(int32_t)(uint32_t)result : result;
}

uint64_t sf_from_int(const SfFormat *f, uint64_t v, bool is_signed, SfEnv *env)
{
    bool sign = is_signed && (int64_t)v < 0;
    int lz;

    if (v == 0) {
        return 0;
    }
    v = sign ? -v : v;
    lz = __builtin_clzll(v);
    return round_pack(f, sign, 63 - lz, v << lz, env);
}

bool sf_eq(const SfFormat *f, uint64_t a, uint64_t b)
{
    return a == b || ((a | b) & ~f->sign) == 0;
}

bool sf_lt(const SfFormat *f, uint64_t a, uint64_t b)
{
    bool sa = a & f->sign, sb = b & f->sign;

    if (sa != sb) {
        return sa && ((a | b) & ~f->sign) != 0;
    }
    return sa ? a > b : a < b;
}

uint64_t sf_class(const SfFormat *f, uint64_t a)
{
    Unpacked x = unpack(f, a);
    bool subnormal = (a & f->inf) == 0;

    switch (x.kind) {
    case SF_NAN:
        return sf_is_snan(f, a) ? 1 << 8 : 1 << 9;
    case SF_INF:
        return x.sign ? 1 << 0 : 1 << 7;
    case SF_ZERO:
        return x.sign ? 1 << 3 : 1 << 4;
    default:
        return x.sign ? (subnormal ? 1 << 2 : 1 << 1) : (subnormal ? 1 << 5 : 1 << 6);
    }
}
