/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Floating point: the software arithmetic against the host's in the four rounding modes
 * that both have, with flags, on numbers near every edge; known answers for what the host
 * lacks; and the instructions' own rules (NaN boxing, FS, reserved rounding modes).
 */
#include <fenv.h>
#include <math.h>
#include "accel/rv64/softfloat.h"
#include "rv64-test.h"

#define ROUNDS 40000

static const int host_modes[] = {
    [RM_RNE] = FE_TONEAREST, [RM_RTZ] = FE_TOWARDZERO, [RM_RDN] = FE_DOWNWARD,
    [RM_RUP] = FE_UPWARD};

static unsigned host_flags(void)
{
    int e = fetestexcept(FE_ALL_EXCEPT);

    return (e & FE_INEXACT ? FFLAG_NX : 0) | (e & FE_UNDERFLOW ? FFLAG_UF : 0) |
           (e & FE_OVERFLOW ? FFLAG_OF : 0) | (e & FE_DIVBYZERO ? FFLAG_DZ : 0) |
           (e & FE_INVALID ? FFLAG_NV : 0);
}

static uint64_t random64(GRand *r)
{
    return (uint64_t)g_rand_int(r) << 32 | g_rand_int(r);
}

/* Mostly numbers whose exponents meet, and every special one. */
static uint64_t random_operand(GRand *r, const SfFormat *f)
{
    uint64_t mask = f->sign | (f->sign - 1), frac = (UINT64_C(1) << f->frac) - 1;
    uint64_t v = random64(r) & mask;

    switch (g_rand_int_range(r, 0, 8)) {
    case 0: {
        const uint64_t special[] = {0, 1, frac, frac + 1, f->inf, f->inf - 1, f->nan,
                                    f->inf + 1, (uint64_t)f->bias << f->frac,
                                    ((uint64_t)f->bias << f->frac) + 1};

        return special[g_rand_int_range(r, 0, G_N_ELEMENTS(special))] | (v & f->sign);
    }
    case 1:
        return v;
    case 2: /* subnormal or just above */
        return v & (f->sign | (frac << 1) | 1);
    case 3: /* few bits set */
        return (v & f->sign) | ((uint64_t)(f->bias + g_rand_int_range(r, -8, 8)) << f->frac) |
               ((v & frac) >> g_rand_int_range(r, 1, f->frac) << (f->frac / 2) & frac);
    default:
        return (v & (f->sign | frac)) |
               (uint64_t)(f->bias + g_rand_int_range(r, -f->frac - 3, f->frac + 3)) << f->frac;
    }
}

static double as_double(uint64_t v)
{
    double d;

    memcpy(&d, &v, sizeof(d));
    return d;
}

static float as_float(uint64_t v)
{
    uint32_t b = (uint32_t)v;
    float f;

    memcpy(&f, &b, sizeof(f));
    return f;
}

static uint64_t of_double(double d)
{
    uint64_t v;

    memcpy(&v, &d, sizeof(v));
    return v;
}

static uint64_t of_float(float f)
{
    uint32_t v;

    memcpy(&v, &f, sizeof(v));
    return v;
}

/* noinline and volatile: the rounding mode is no secret to the compiler then. */
static __attribute__((noinline)) uint64_t host_op(int op, bool dbl, uint64_t a, uint64_t b,
                                                  uint64_t c)
{
    volatile double x = as_double(a), y = as_double(b), z = as_double(c), d = 0;
    volatile float u = as_float(a), v = as_float(b), w = as_float(c), s = 0;

    feclearexcept(FE_ALL_EXCEPT);
    switch (op) {
    case 0:
        if (dbl) d = x + y; else s = u + v;
        break;
    case 1:
        if (dbl) d = x * y; else s = u * v;
        break;
    case 2:
        if (dbl) d = x / y; else s = u / v;
        break;
    case 3:
        if (dbl) d = sqrt(x); else s = sqrtf(u);
        break;
    default:
        if (dbl) d = fma(x, y, z); else s = fmaf(u, v, w);
    }
    return dbl ? of_double(d) : of_float(s);
}

static uint64_t soft_op(int op, const SfFormat *f, uint64_t a, uint64_t b, uint64_t c,
                        SfEnv *env)
{
    return op == 0 ? sf_add(f, a, b, env) : op == 1 ? sf_mul(f, a, b, env) :
           op == 2 ? sf_div(f, a, b, env) : op == 3 ? sf_sqrt(f, a, env) :
           sf_fma(f, a, b, c, env);
}

static void test_against_host(gconstpointer data)
{
    int op = GPOINTER_TO_INT(data) & 7;
    bool dbl = GPOINTER_TO_INT(data) & 8;
    const SfFormat *f = dbl ? &sf_f64 : &sf_f32;
    GRand *r = g_rand_new_with_seed(1234 + op);

    for (int i = 0; i < ROUNDS; i++) {
        uint64_t a = random_operand(r, f), b = random_operand(r, f), c = random_operand(r, f);
        SfEnv env = {.rm = (uint8_t)(i & 3)};
        uint64_t soft = soft_op(op, f, a, b, c, &env), host;
        unsigned flags, compared = 31;

        fesetround(host_modes[env.rm]);
        host = host_op(op, dbl, a, b, c);
        flags = host_flags();
        fesetround(FE_TONEAREST);
#if !defined(__x86_64__)
        compared &= ~FFLAG_UF; /* tininess may be detected before rounding there */
#endif
        if (op == 4) {
            /* Whether inf * 0 + NaN is invalid is the implementation's choice in IEEE 754,
             * and a C library's fma() need not report underflow exactly. */
            compared &= ~FFLAG_UF;
            if (sf_is_nan(f, c)) {
                compared &= ~FFLAG_NV;
            }
        }
        if (sf_is_nan(f, host)) {
            host = f->nan;
        }
        if (soft != host || (env.flags & compared) != (flags & compared)) {
            g_test_message("op %d rm %d: %" PRIx64 " %" PRIx64 " %" PRIx64, op, env.rm, a, b, c);
        }
        g_assert_cmphex(soft, ==, host);
        g_assert_cmphex(env.flags & compared, ==, flags & compared);
    }
    g_rand_free(r);
}

static void test_conversions_against_host(void)
{
    GRand *r = g_rand_new_with_seed(99);

    for (int i = 0; i < ROUNDS; i++) {
        uint64_t a = random_operand(r, &sf_f64), v = random64(r) >> g_rand_int_range(r, 0, 64);
        SfEnv env = {.rm = (uint8_t)(i & 3)};
        uint64_t soft = sf_convert(&sf_f32, &sf_f64, a, &env);
        volatile double d = as_double(a);
        volatile float s;
        volatile int64_t n = (int64_t)v;
        unsigned flags;

        fesetround(host_modes[env.rm]);
        feclearexcept(FE_ALL_EXCEPT);
        s = (float)d;
        flags = host_flags();
        g_assert_cmphex(soft, ==, isnan(s) ? sf_f32.nan : of_float(s));
        g_assert_cmphex(env.flags, ==, flags);

        env.flags = 0;
        feclearexcept(FE_ALL_EXCEPT);
        d = (double)n;
        g_assert_cmphex(sf_from_int(&sf_f64, v, true, &env), ==, of_double(d));
        g_assert_cmphex(env.flags, ==, host_flags());
        s = (float)n;
        g_assert_cmphex(sf_from_int(&sf_f32, v, true, &env), ==, of_float(s));

        /* Round to an integer first: exact from there on. */
        d = as_double(a);
        if (fabs(d) < 0x1p62) {
            env.flags = 0;
            d = nearbyint(d);
            g_assert_cmphex(sf_to_int(&sf_f64, a, 64, true, &env), ==, (uint64_t)(int64_t)d);
            g_assert_cmpint(!!(env.flags & FFLAG_NX), ==, d != as_double(a));
        }
        fesetround(FE_TONEAREST);
    }
    g_rand_free(r);
}

static void test_to_int(void)
{
    static const struct {
        double v;
        int width;
        bool is_signed;
        int rm;
        uint64_t result;
        uint8_t flags;
    } t[] = {
        {2.5, 64, true, RM_RNE, 2, FFLAG_NX},
        {2.5, 64, true, RM_RMM, 3, FFLAG_NX},
        {-2.5, 64, true, RM_RMM, (uint64_t)-3, FFLAG_NX},
        {-0.5, 64, true, RM_RNE, 0, FFLAG_NX},
        {-0.5, 64, true, RM_RDN, UINT64_MAX, FFLAG_NX},
        {-0.9, 32, false, RM_RTZ, 0, FFLAG_NX},
        {-1.0, 32, false, RM_RTZ, 0, FFLAG_NV},
        {-0.9, 64, false, RM_RDN, 0, FFLAG_NV},
        {2147483647.5, 32, true, RM_RTZ, 2147483647, FFLAG_NX},
        {2147483647.5, 32, true, RM_RNE, 2147483647, FFLAG_NV},
        {-2147483648.5, 32, true, RM_RNE, UINT64_C(0xffffffff80000000), FFLAG_NX},
        {-2147483649.0, 32, true, RM_RNE, UINT64_C(0xffffffff80000000), FFLAG_NV},
        {4294967295.0, 32, false, RM_RNE, UINT64_MAX, 0},
        {4294967296.0, 32, false, RM_RNE, UINT64_MAX, FFLAG_NV},
        {0x1p63, 64, true, RM_RNE, INT64_MAX, FFLAG_NV},
        {-0x1p63, 64, true, RM_RNE, UINT64_C(1) << 63, 0},
        {0x1p63, 64, false, RM_RNE, UINT64_C(1) << 63, 0},
        {0x1p64, 64, false, RM_RNE, UINT64_MAX, FFLAG_NV},
        {INFINITY, 32, true, RM_RNE, INT32_MAX, FFLAG_NV},
        {-INFINITY, 64, true, RM_RNE, UINT64_C(1) << 63, FFLAG_NV},
        {-INFINITY, 64, false, RM_RNE, 0, FFLAG_NV},
        {0.0, 64, true, RM_RUP, 0, 0},
        {0x1p-1074, 64, true, RM_RUP, 1, FFLAG_NX},
    };
    SfEnv env;

    for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
        env = (SfEnv){.rm = (uint8_t)t[i].rm};
        g_assert_cmphex(sf_to_int(&sf_f64, of_double(t[i].v), t[i].width, t[i].is_signed, &env),
                        ==, t[i].result);
        g_assert_cmphex(env.flags, ==, t[i].flags);
    }
    /* NaNs of both signs become the largest number. */
    env = (SfEnv){.rm = RM_RNE};
    g_assert_cmphex(sf_to_int(&sf_f32, 0xffc00000, 32, true, &env), ==, INT32_MAX);
    g_assert_cmphex(sf_to_int(&sf_f32, 0xff800001, 32, false, &env), ==, UINT64_MAX);
    g_assert_cmphex(env.flags, ==, FFLAG_NV);
}

/* Ties away from zero, which the host does not have. */
static void test_rmm(void)
{
    SfEnv env = {.rm = RM_RMM};

    /* 1 + 2^-53: a tie */
    g_assert_cmphex(sf_add(&sf_f64, of_double(1), of_double(0x1p-53), &env), ==,
                    of_double(1 + 0x1p-52));
    g_assert_cmphex(sf_add(&sf_f64, of_double(-1), of_double(-0x1p-53), &env), ==,
                    of_double(-1 - 0x1p-52));
    g_assert_cmphex(sf_add(&sf_f64, of_double(1), of_double(0x1.8p-54), &env), ==,
                    of_double(1));
    g_assert_cmphex(env.flags, ==, FFLAG_NX);
    /* Half of the smallest subnormal. */
    env.flags = 0;
    g_assert_cmphex(sf_mul(&sf_f32, of_float(0x1p-149f), of_float(0.5f), &env), ==, 1);
    g_assert_cmphex(env.flags, ==, FFLAG_NX | FFLAG_UF);
    env.flags = 0;
    g_assert_cmphex(sf_mul(&sf_f32, of_float(0x1.fffffep127f), of_float(2), &env), ==,
                    sf_f32.inf);
    g_assert_cmphex(env.flags, ==, FFLAG_NX | FFLAG_OF);
    g_assert_cmphex(sf_from_int(&sf_f32, 0x1000001, true, &env), ==, of_float(0x1000002));
}

/* Instructions: fa0 = f10 is the destination, fa1 and fa2 the sources. */
#define FOP(f7, rm) R_TYPE(f7, A2, A1, rm, A0, 0x53)
#define FMIN_D FOP(0x15, 0)
#define FMAX_D FOP(0x15, 1)
#define BOXED(v) (UINT64_C(0xffffffff00000000) | (v))

static void test_boxing(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;

    cpu->mstatus |= MSTATUS_FS;
    cpu->f[A1] = BOXED(of_float(1.5f));
    cpu->f[A2] = of_float(2.0f); /* not boxed: a NaN */
    RV_RUN(m, FOP(0x00, 0));
    g_assert_cmphex(cpu->f[A0], ==, BOXED(0x7fc00000));
    g_assert_cmphex(cpu->fflags, ==, 0);
    cpu->f[A2] = BOXED(of_float(2.0f));
    RV_RUN(m, FOP(0x00, 0));
    g_assert_cmphex(cpu->f[A0], ==, BOXED(of_float(3.5f)));
    /* fsgnj.s looks at boxes, fmv.x.w and fsw do not. */
    cpu->f[A1] = UINT64_C(0x1122334480000001);
    RV_RUN(m, FOP(0x10, 0));
    g_assert_cmphex(cpu->f[A0], ==, BOXED(0x7fc00000));
    cpu->x[A1] = RV_DATA;
    RV_RUN(m, R_TYPE(0x70, 0, A1, 0, A3, 0x53), S_TYPE(0, A1, A1, 2, 0x27),
           I_TYPE(0, A1, 2, A5, 0x07), I_TYPE(0, A1, 3, A4, 0x07));
    g_assert_cmphex(cpu->x[A3], ==, UINT64_C(0xffffffff80000001));
    g_assert_cmphex(*rv_word(m, RV_DATA), ==, 0x80000001);
    g_assert_cmphex(cpu->f[A5], ==, BOXED(0x80000001));
    /* fcvt.d.s, fcvt.s.d; fmv.w.x boxes */
    cpu->f[A1] = BOXED(of_float(-3.25f));
    RV_RUN(m, R_TYPE(0x21, 0, A1, 0, A0, 0x53), R_TYPE(0x20, 1, A0, 0, A2, 0x53));
    g_assert_cmphex(cpu->f[A0], ==, of_double(-3.25));
    g_assert_cmphex(cpu->f[A2], ==, BOXED(of_float(-3.25f)));
    cpu->x[A1] = UINT64_C(0x1111111140000000);
    RV_RUN(m, R_TYPE(0x78, 0, A1, 0, A0, 0x53));
    g_assert_cmphex(cpu->f[A0], ==, BOXED(0x40000000));
}

static void test_min_max_class(RvMachine *m, gconstpointer data)
{
    static const uint64_t snan = UINT64_C(0x7ff0000000000001);
    static const struct {
        uint64_t v;
        int bit;
    } classes[] = {
        {UINT64_C(0xfff0000000000000), 0}, {UINT64_C(0xbff0000000000000), 1},
        {UINT64_C(0x8000000000000001), 2}, {UINT64_C(0x8000000000000000), 3},
        {0, 4},                            {1, 5},
        {UINT64_C(0x3ff0000000000000), 6}, {UINT64_C(0x7ff0000000000000), 7},
        {UINT64_C(0x7ff0000000000001), 8}, {UINT64_C(0xfff8000000000000), 9},
    };
    CPUState *cpu = m->cpu;

    cpu->mstatus |= MSTATUS_FS;
    cpu->f[A1] = of_double(0.0);
    cpu->f[A2] = of_double(-0.0);
    RV_RUN(m, FMIN_D);
    g_assert_cmphex(cpu->f[A0], ==, of_double(-0.0));
    RV_RUN(m, FMAX_D);
    g_assert_cmphex(cpu->f[A0], ==, 0);
    cpu->f[A1] = sf_f64.nan;
    cpu->f[A2] = of_double(4);
    RV_RUN(m, FMIN_D);
    g_assert_cmphex(cpu->f[A0], ==, of_double(4));
    g_assert_cmphex(cpu->fflags, ==, 0);
    cpu->f[A2] = snan;
    RV_RUN(m, FMAX_D);
    g_assert_cmphex(cpu->f[A0], ==, sf_f64.nan);
    g_assert_cmphex(cpu->fflags, ==, FFLAG_NV);
    for (size_t i = 0; i < G_N_ELEMENTS(classes); i++) {
        cpu->f[A1] = classes[i].v;
        RV_RUN(m, R_TYPE(0x71, 0, A1, 1, A0, 0x53));
        g_assert_cmphex(cpu->x[A0], ==, 1u << classes[i].bit);
    }
    /* feq is quiet, flt and fle are not. */
    cpu->f[A1] = sf_f64.nan;
    cpu->f[A2] = of_double(1);
    cpu->fflags = 0;
    RV_RUN(m, FOP(0x51, 2));
    g_assert_cmphex(cpu->fflags, ==, 0);
    RV_RUN(m, FOP(0x51, 0));
    g_assert_cmphex(cpu->fflags, ==, FFLAG_NV);
    g_assert_cmphex(cpu->x[A0], ==, 0);
}

static void test_state(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;

    /* Off: every instruction and CSR of the extensions is illegal. */
    static const uint32_t words[] = {FOP(0x01, 0), I_TYPE(0, A1, 3, A0, 0x07),
                                     S_TYPE(0, A1, A1, 3, 0x27), CSRRS(A0, 0x003, 0),
                                     CSRRW(0, 0x002, A1)};
    static const struct {
        uint8_t frm;
        uint32_t word;
        bool legal;
    } modes[] = {
        {0, FOP(0x01, 5), false}, {0, FOP(0x01, 6), false}, {5, FOP(0x01, 7), false},
        {7, FOP(0x01, 7), false}, {4, FOP(0x01, 7), true},  {7, FOP(0x01, 4), true},
        {0, R_TYPE(0x02, A2, A1, 0, A0, 0x53), false}, /* half precision */
        {0, R_TYPE(0x2d, 1, A1, 0, A0, 0x53), false},  /* fsqrt with rs2 */
    };

    cpu->x[A1] = RV_DATA;
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        RV_RUN(m, NOP, words[i]);
        rv_assert_trap(m, EXC_ILLEGAL, RV_CODE + 4, words[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        cpu->mstatus |= MSTATUS_FS;
        cpu->frm = modes[i].frm;
        RV_RUN(m, modes[i].word);
        g_assert_cmphex(cpu->mcause, ==, modes[i].legal ? UINT64_MAX : EXC_ILLEGAL);
    }
    /* Initial or clean becomes dirty with a write, not with a read. */
    cpu->frm = 0;
    cpu->mstatus = (cpu->mstatus & ~MSTATUS_FS) | (UINT64_C(2) << 13);
    RV_RUN(m, S_TYPE(0, A1, A1, 3, 0x27), CSRRS(A0, 0x003, 0));
    g_assert_cmphex(cpu->mstatus & MSTATUS_FS, ==, UINT64_C(2) << 13);
    RV_RUN(m, I_TYPE(0, A1, 3, A0, 0x07), CSRRS(A0, 0x300, 0));
    g_assert_cmphex(cpu->x[A0] >> 63, ==, 1);
    /* Flags add up; fcsr holds both fields. */
    cpu->fflags = 0;
    cpu->f[A1] = of_double(1);
    cpu->f[A2] = of_double(3);
    RV_RUN(m, FOP(0x0d, 7), R_TYPE(0x0d, 0, A1, 0, A0, 0x53), CSRRS(A0, 0x003, 0),
           I_TYPE(0x003, 0x1f, 5, A3, 0x73), CSRRS(A4, 0x001, 0));
    g_assert_cmphex(cpu->x[A0], ==, FFLAG_NX | FFLAG_DZ);
    g_assert_cmphex(cpu->x[A4], ==, 0x1f);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"add", "mul", "div", "sqrt", "fma"};

    g_test_init(&argc, &argv, NULL);
    for (int op = 0; op < 5; op++) {
        g_autofree char *single = g_strdup_printf("/rv64/fp/host/%s.s", names[op]);
        g_autofree char *dbl = g_strdup_printf("/rv64/fp/host/%s.d", names[op]);

        g_test_add_data_func(single, GINT_TO_POINTER(op), test_against_host);
        g_test_add_data_func(dbl, GINT_TO_POINTER(op | 8), test_against_host);
    }
    g_test_add_func("/rv64/fp/host/conversions", test_conversions_against_host);
    g_test_add_func("/rv64/fp/to-int", test_to_int);
    g_test_add_func("/rv64/fp/rmm", test_rmm);
    g_test_add("/rv64/fp/boxing", RvMachine, NULL, rv_setup, test_boxing, rv_teardown);
    g_test_add("/rv64/fp/min-max-class", RvMachine, NULL, rv_setup, test_min_max_class,
               rv_teardown);
    g_test_add("/rv64/fp/state", RvMachine, NULL, rv_setup, test_state, rv_teardown);
    return g_test_run();
}
