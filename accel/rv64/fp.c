/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floating-point instructions but loads and stores (Unpriv, "F" and "D"): NaN boxing,
 * rounding modes, flags, mstatus.FS.  vCPU thread; the caller has checked that FS is on.
 *
 * softfloat.c is the arithmetic.  The host's is used where it cannot differ: round to
 * nearest, the inexact flag already set, and a result that is well inside the normal
 * range, so that no other flag can be due and the flag need not be known.
 */
#include <math.h>
#include <string.h>

#include "cpu.h"
#include "softfloat.h"

#define BOX UINT64_C(0xffffffff00000000)

typedef struct Fp {
    CPUState *cpu;
    const SfFormat *fmt;
    bool is_double;
    unsigned rd, rs1, rs2, rs3, rm;
    SfEnv env;
} Fp;

static uint64_t get(const Fp *fp, unsigned reg)
{
    uint64_t v = fp->cpu->f[reg];

    if (fp->is_double) {
        return v;
    }
    return (v & BOX) == BOX ? (uint32_t)v : sf_f32.nan;
}

static void put(const Fp *fp, uint64_t v)
{
    fp->cpu->f[fp->rd] = fp->is_double ? v : v | BOX;
    fp->cpu->mstatus |= MSTATUS_FS;
}

static void put_x(const Fp *fp, uint64_t v)
{
    if (fp->rd) {
        fp->cpu->x[fp->rd] = v;
    }
}

/* Resolves a dynamic rounding mode; false if it is reserved. */
static bool rounding(Fp *fp)
{
    fp->env.rm = fp->rm == 7 ? fp->cpu->frm : fp->rm;
    return fp->env.rm <= RM_RMM;
}

static double to_double(uint64_t v)
{
    double d;

    memcpy(&d, &v, sizeof(d));
    return d;
}

static float to_float(uint64_t v)
{
    uint32_t bits = (uint32_t)v;
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* Whether no flag but inexact can be due; see the top. */
static bool double_is_plain(double d, uint64_t *out)
{
    memcpy(out, &d, sizeof(d));
    return ((*out >> 52 & 0x7ff) - 2) < 0x7fd;
}

static bool float_is_plain(float f, uint64_t *out)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(f));
    *out = bits;
    return ((bits >> 23 & 0xff) - 2) < 0xfd;
}

enum { FADD, FSUB, FMUL, FDIV };

static bool host_arith(const Fp *fp, unsigned op, uint64_t a, uint64_t b, uint64_t *out)
{
    if (fp->is_double) {
        double x = to_double(a), y = to_double(b);

        return double_is_plain(op == FADD ? x + y : op == FSUB ? x - y :
                               op == FMUL ? x * y : y != 0 ? x / y : 0, out);
    } else {
        float x = to_float(a), y = to_float(b);

        return float_is_plain(op == FADD ? x + y : op == FSUB ? x - y :
                              op == FMUL ? x * y : y != 0 ? x / y : 0, out);
    }
}

static bool host_usable(const Fp *fp)
{
    return fp->env.rm == RM_RNE && (fp->cpu->fflags & FFLAG_NX);
}

static bool arith(Fp *fp, unsigned op)
{
    uint64_t a = get(fp, fp->rs1), b = get(fp, fp->rs2), r;

    if (!rounding(fp)) {
        return false;
    }
    if (host_usable(fp) && host_arith(fp, op, a, b, &r)) {
        put(fp, r);
        return true;
    }
    switch (op) {
    case FADD:
        r = sf_add(fp->fmt, a, b, &fp->env);
        break;
    case FSUB:
        /* A NaN's sign does not matter. */
        r = sf_add(fp->fmt, a, b ^ fp->fmt->sign, &fp->env);
        break;
    case FMUL:
        r = sf_mul(fp->fmt, a, b, &fp->env);
        break;
    default:
        r = sf_div(fp->fmt, a, b, &fp->env);
    }
    put(fp, r);
    return true;
}

static bool square_root(Fp *fp)
{
    uint64_t a = get(fp, fp->rs1), r;

    if (fp->rs2 != 0 || !rounding(fp)) {
        return false;
    }
    if (host_usable(fp) && !(a & fp->fmt->sign) &&
        (fp->is_double ? double_is_plain(sqrt(to_double(a)), &r) :
                         float_is_plain(sqrtf(to_float(a)), &r))) {
        put(fp, r);
    } else {
        put(fp, sf_sqrt(fp->fmt, a, &fp->env));
    }
    return true;
}

/* neg_product and neg_c: fnmsub is -(a * b) + c, fnmadd is -(a * b) - c. */
static bool fused(Fp *fp, bool neg_product, bool neg_c)
{
    uint64_t a = get(fp, fp->rs1), b = get(fp, fp->rs2), c = get(fp, fp->rs3), r;

    if (!rounding(fp)) {
        return false;
    }
    a ^= neg_product ? fp->fmt->sign : 0;
    c ^= neg_c ? fp->fmt->sign : 0;
    if (host_usable(fp) &&
        (fp->is_double ?
             double_is_plain(fma(to_double(a), to_double(b), to_double(c)), &r) :
             float_is_plain(fmaf(to_float(a), to_float(b), to_float(c)), &r))) {
        put(fp, r);
    } else {
        put(fp, sf_fma(fp->fmt, a, b, c, &fp->env));
    }
    return true;
}

static bool sign_inject(Fp *fp)
{
    uint64_t a = get(fp, fp->rs1), b = get(fp, fp->rs2), s = fp->fmt->sign;

    switch (fp->rm) {
    case 0:
        put(fp, (a & ~s) | (b & s));
        return true;
    case 1:
        put(fp, (a & ~s) | (~b & s));
        return true;
    case 2:
        put(fp, a ^ (b & s));
        return true;
    }
    return false;
}

static bool min_max(Fp *fp)
{
    const SfFormat *f = fp->fmt;
    uint64_t a = get(fp, fp->rs1), b = get(fp, fp->rs2);
    bool a_less;

    if (fp->rm > 1) {
        return false;
    }
    if (sf_is_snan(f, a) || sf_is_snan(f, b)) {
        fp->env.flags |= FFLAG_NV;
    }
    if (sf_is_nan(f, a) || sf_is_nan(f, b)) {
        put(fp, !sf_is_nan(f, a) ? a : !sf_is_nan(f, b) ? b : f->nan);
        return true;
    }
    /* -0 is less than +0 here */
    a_less = sf_lt(f, a, b) || (sf_eq(f, a, b) && (a & f->sign));
    put(fp, a_less == (fp->rm == 0) ? a : b);
    return true;
}

static bool compare(Fp *fp)
{
    const SfFormat *f = fp->fmt;
    uint64_t a = get(fp, fp->rs1), b = get(fp, fp->rs2);
    bool equal_only = fp->rm == 2;

    if (fp->rm > 2) {
        return false;
    }
    if (sf_is_nan(f, a) || sf_is_nan(f, b)) {
        if (!equal_only || sf_is_snan(f, a) || sf_is_snan(f, b)) {
            fp->env.flags |= FFLAG_NV;
        }
        put_x(fp, 0);
        return true;
    }
    put_x(fp, (fp->rm != 1 && sf_eq(f, a, b)) || (!equal_only && sf_lt(f, a, b)));
    return true;
}

static bool convert_format(Fp *fp)
{
    const SfFormat *from = fp->is_double ? &sf_f32 : &sf_f64;
    Fp source = *fp;

    if (fp->rs2 != !fp->is_double || !rounding(fp)) {
        return false;
    }
    source.is_double = !fp->is_double;
    put(fp, sf_convert(fp->fmt, from, get(&source, fp->rs1), &fp->env));
    return true;
}

static bool to_int(Fp *fp)
{
    if (fp->rs2 > 3 || !rounding(fp)) {
        return false;
    }
    put_x(fp, sf_to_int(fp->fmt, get(fp, fp->rs1), fp->rs2 & 2 ? 64 : 32, !(fp->rs2 & 1),
                        &fp->env));
    return true;
}

static bool from_int(Fp *fp)
{
    uint64_t v = fp->cpu->x[fp->rs1];

    if (fp->rs2 > 3 || !rounding(fp)) {
        return false;
    }
    if (!(fp->rs2 & 2)) {
        v = fp->rs2 & 1 ? (uint32_t)v : (uint64_t)(int64_t)(int32_t)v;
    }
    put(fp, sf_from_int(fp->fmt, v, !(fp->rs2 & 1), &fp->env));
    return true;
}

static bool move_to_x(Fp *fp)
{
    uint64_t v = fp->cpu->f[fp->rs1];

    if (fp->rs2 != 0 || fp->rm > 1) {
        return false;
    }
    if (fp->rm == 1) {
        put_x(fp, sf_class(fp->fmt, get(fp, fp->rs1)));
    } else {
        put_x(fp, fp->is_double ? v : (uint64_t)(int64_t)(int32_t)v);
    }
    return true;
}

static bool move_from_x(Fp *fp)
{
    uint64_t v = fp->cpu->x[fp->rs1];

    if (fp->rs2 != 0 || fp->rm != 0) {
        return false;
    }
    put(fp, fp->is_double ? v : (uint32_t)v);
    return true;
}

static bool execute(Fp *fp, uint32_t raw)
{
    switch (raw & 0x7f) {
    case 0x43:
        return fused(fp, false, false);
    case 0x47:
        return fused(fp, false, true);
    case 0x4b:
        return fused(fp, true, false);
    case 0x4f:
        return fused(fp, true, true);
    }
    switch (raw >> 27) {
    case 0x00:
        return arith(fp, FADD);
    case 0x01:
        return arith(fp, FSUB);
    case 0x02:
        return arith(fp, FMUL);
    case 0x03:
        return arith(fp, FDIV);
    case 0x04:
        return sign_inject(fp);
    case 0x05:
        return min_max(fp);
    case 0x08:
        return convert_format(fp);
    case 0x0b:
        return square_root(fp);
    case 0x14:
        return compare(fp);
    case 0x18:
        return to_int(fp);
    case 0x1a:
        return from_int(fp);
    case 0x1c:
        return move_to_x(fp);
    case 0x1e:
        return move_from_x(fp);
    }
    return false;
}

bool rv64_fp(CPUState *cpu, uint32_t raw)
{
    unsigned fmt = raw >> 25 & 3;
    Fp fp = {
        .cpu = cpu,
        .fmt = fmt == 1 ? &sf_f64 : &sf_f32,
        .is_double = fmt == 1,
        .rd = raw >> 7 & 31,
        .rs1 = raw >> 15 & 31,
        .rs2 = raw >> 20 & 31,
        .rs3 = raw >> 27,
        .rm = raw >> 12 & 7,
    };

    if (fmt > 1 || !execute(&fp, raw)) {
        return false;
    }
    if (fp.env.flags & ~cpu->fflags) {
        cpu->fflags |= fp.env.flags;
        cpu->mstatus |= MSTATUS_FS;
    }
    return true;
}
