/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Address translation and protection: Sv39 and Sv48 walks, superpages, permissions, A and
 * D, SUM and MXR, MPRV, TLB flushes, accesses across pages, PMP, devices and holes.
 */
#include "rv64-test.h"

#define V 0x01
#define R 0x02
#define W 0x04
#define X 0x08
#define U 0x10
#define A 0x40
#define D 0x80

/* Page tables from here on; the test's page is mapped at VA. */
#define TABLES (RV_RAM + 0x400000)
#define VA UINT64_C(0x40201000)
#define VCODE UINT64_C(0x0000001000)
#define PPN(pa) ((pa) >> 12 << 10)

typedef struct Tables {
    RvMachine *m;
    uint64_t next;
    int levels;
    uint64_t root;
} Tables;

static Tables tables_new(RvMachine *m, int levels)
{
    Tables t = {.m = m, .next = TABLES + 0x1000, .levels = levels, .root = TABLES};

    memset(m->ram + (TABLES - RV_RAM), 0, 0x100000);
    return t;
}

/* The place of the entry for va at the level, tables above made on the way. */
static uint64_t *pte(Tables *t, uint64_t va, int level)
{
    uint64_t table = t->root;

    for (int l = t->levels - 1;; l--) {
        uint64_t *e = rv_dword(t->m, table + ((va >> (12 + 9 * l)) & 511) * 8);

        if (l == level) {
            return e;
        }
        if (!*e) {
            *e = PPN(t->next) | V;
            t->next += 0x1000;
        }
        table = (*e >> 10) << 12;
    }
}

static void enable(Tables *t)
{
    CPUState *cpu = t->m->cpu;

    cpu->satp = (t->levels == 4 ? UINT64_C(9) : UINT64_C(8)) << 60 | t->root >> 12;
    rv64_tlb_flush(cpu);
}

/* Identity for the code; the handler runs in M-mode without translation. */
static Tables setup_tables(RvMachine *m, int levels, bool user)
{
    Tables t = tables_new(m, levels);

    *pte(&t, RV_CODE, 0) = PPN(RV_CODE) | V | R | X | A | D | (user ? U : 0);
    enable(&t);
    return t;
}

/* One access in the mode; true if it went through. */
static bool try_load(RvMachine *m, uint64_t va, int priv)
{
    m->cpu->x[A1] = va;
    RV_PLACE(m, RV_CODE, LD(A0, 0, A1), EBREAK);
    rv_go(m, RV_CODE, priv);
    return m->cpu->mcause == EXC_BREAKPOINT;
}

static bool try_store(RvMachine *m, uint64_t va, int priv)
{
    m->cpu->x[A1] = va;
    m->cpu->x[A2] = UINT64_C(0x1234567887654321);
    RV_PLACE(m, RV_CODE, SD(A2, 0, A1), EBREAK);
    rv_go(m, RV_CODE, priv);
    return m->cpu->mcause == EXC_BREAKPOINT;
}

static bool try_fetch(RvMachine *m, uint64_t va, int priv)
{
    m->cpu->x[A1] = va;
    RV_PLACE(m, RV_CODE, JALR(0, 0, A1));
    rv_go(m, RV_CODE, priv);
    return m->cpu->mcause == EXC_BREAKPOINT && m->cpu->mepc == va;
}

static void test_walk(RvMachine *m, gconstpointer data)
{
    int levels = GPOINTER_TO_INT(data), top = 12 + 9 * levels - 1;
    /* The lower half, the upper half, and addresses that are not canonical. */
    const uint64_t vas[] = {VA, (UINT64_C(1) << top) - 0x1000, -(UINT64_C(1) << top),
                            UINT64_C(0xfffffffffffff000)};
    const uint64_t bad[] = {UINT64_C(1) << top, -(UINT64_C(1) << top) - 0x1000,
                            UINT64_C(1) << 63};

    for (size_t i = 0; i < G_N_ELEMENTS(vas); i++) {
        for (int level = 0; level < 3; level++) {
            uint64_t size = UINT64_C(0x1000) << (9 * level), offset = level ? 0x3018 : 0x18;
            uint64_t va = (vas[i] & ~(size - 1)) + (offset & (size - 1));
            uint64_t pa = level == 2 ? UINT64_C(0x80000000) :
                          level == 1 ? RV_RAM + 0x200000 : RV_DATA;
            Tables t;

            if (level == 2 && (va & ~(size - 1)) == (RV_CODE & ~(size - 1))) {
                continue;
            }
            rv_reset(m);
            t = setup_tables(m, levels, false);
            *pte(&t, va, level) = PPN(pa) | V | R | W | A | D;
            pa += offset;
            *rv_dword(m, pa) = 0x1000 + i;
            g_assert_true(try_load(m, va, PRIV_S));
            g_assert_cmphex(m->cpu->x[A0], ==, 0x1000 + i);
            g_assert_true(try_store(m, va, PRIV_S));
            g_assert_cmphex(*rv_dword(m, pa), ==, UINT64_C(0x1234567887654321));
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(try_load(m, bad[i], PRIV_S));
        rv_assert_trap(m, EXC_LOAD_PAGE, RV_CODE, bad[i]);
        g_assert_false(try_fetch(m, bad[i], PRIV_S));
        rv_assert_trap(m, EXC_FETCH_PAGE, bad[i], bad[i]);
    }
}

static void test_bad_entries(RvMachine *m, gconstpointer data)
{
    Tables t = setup_tables(m, 3, false);
    static const uint64_t flags[] = {
        R | W | A | D,                     /* not valid */
        V | W | A | D,                     /* W without R */
        V | W | X | A | D,
        V | R | A | D | UINT64_C(1) << 54, /* reserved */
        V | R | A | D | UINT64_C(1) << 62, /* Svpbmt, absent */
        V | R | A | D | UINT64_C(1) << 63, /* Svnapot, absent */
        V,                                 /* a pointer at the last level */
        0,
    };
    uint64_t *e = pte(&t, VA, 0), *up = pte(&t, VA, 1), saved = *up;

    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        *e = PPN(RV_DATA) | flags[i];
        rv64_tlb_flush(m->cpu);
        g_assert_false(try_load(m, VA, PRIV_S));
        rv_assert_trap(m, EXC_LOAD_PAGE, RV_CODE, VA);
    }
    *e = PPN(RV_DATA) | V | R | W | A | D;
    /* Reserved bits in a pointer. */
    *up = saved | A;
    g_assert_false(try_load(m, VA, PRIV_S));
    /* A superpage whose address is not a multiple of its size. */
    *up = PPN(RV_RAM + 0x1000) | V | R | A | D;
    g_assert_false(try_load(m, VA, PRIV_S));
    rv_assert_trap(m, EXC_LOAD_PAGE, RV_CODE, VA);
    /* Tables outside RAM give an access fault of the original kind. */
    *up = PPN(UINT64_C(0x40000000)) | V;
    g_assert_false(try_store(m, VA, PRIV_S));
    rv_assert_trap(m, EXC_STORE_ACCESS, RV_CODE, VA);
    *up = PPN(RV_DEVICE) | V;
    g_assert_false(try_load(m, VA, PRIV_S));
    rv_assert_trap(m, EXC_LOAD_ACCESS, RV_CODE, VA);
    g_assert_cmpint(m->reads, ==, 0);
    *up = saved;
    g_assert_true(try_load(m, VA, PRIV_S));
}

static void test_permissions(RvMachine *m, gconstpointer data)
{
    static const struct {
        uint8_t flags;
        bool load, store, fetch;
    } t[] = {
        {R, true, false, false},        {R | W, true, true, false},
        {X, false, false, true},        {R | X, true, false, true},
        {R | W | X, true, true, true},
    };

    for (int user = 0; user < 2; user++) {
        for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
            int own = user ? PRIV_U : PRIV_S, other = user ? PRIV_S : PRIV_U;
            Tables tables;

            rv_reset(m);
            tables = setup_tables(m, 3, user);
            *pte(&tables, VA, 0) = PPN(RV_DATA) | V | A | D | t[i].flags | (user ? U : 0);
            g_assert_cmpint(try_load(m, VA, own), ==, t[i].load);
            g_assert_cmpint(try_store(m, VA, own), ==, t[i].store);
            *rv_word(m, RV_DATA) = EBREAK;
            g_assert_cmpint(try_fetch(m, VA, own), ==, t[i].fetch);
            /* The other mode gets nothing: its code page has to be its own. */
            *pte(&tables, RV_CODE, 0) ^= U;
            rv64_tlb_flush(m->cpu);
            g_assert_false(try_load(m, VA, other));
            g_assert_false(try_store(m, VA, other));
            g_assert_false(try_fetch(m, VA, other));
            g_assert_cmphex(m->cpu->mcause, ==, EXC_FETCH_PAGE);
            /* SUM: data of user pages for S-mode, never their code. */
            m->cpu->mstatus |= MSTATUS_SUM;
            g_assert_cmpint(try_load(m, VA, other), ==, user && t[i].load);
            g_assert_cmpint(try_store(m, VA, other), ==, user && t[i].store);
            *rv_word(m, RV_DATA) = EBREAK;
            g_assert_false(try_fetch(m, VA, other));
        }
    }
}

/* SUM, MXR and MPRV change at run time, with the TLB filled before. */
static void test_mstatus_bits(RvMachine *m, gconstpointer data)
{
    Tables t = setup_tables(m, 3, false);

    *pte(&t, VA, 0) = PPN(RV_DATA) | V | R | W | U | A | D;
    *pte(&t, VA + 0x1000, 0) = PPN(RV_DATA + 0x1000) | V | X | A | D;
    *rv_dword(m, RV_DATA) = 55;
    *rv_dword(m, RV_DATA + 0x1000) = 66;
    m->cpu->x[A1] = VA;
    m->cpu->x[A2] = MSTATUS_SUM;
    RV_PLACE(m, RV_CODE, CSRRS(0, 0x100, A2), LD(A0, 0, A1), CSRRC(0, 0x100, A2),
             LD(A3, 0, A1));
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_LOAD_PAGE, RV_CODE + 12, VA);
    g_assert_cmpint(m->cpu->x[A0], ==, 55);
    m->cpu->x[A1] = VA + 0x1000;
    m->cpu->x[A2] = MSTATUS_MXR;
    RV_PLACE(m, RV_CODE, CSRRS(0, 0x100, A2), LD(A0, 0, A1), CSRRC(0, 0x100, A2),
             LD(A3, 0, A1));
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_LOAD_PAGE, RV_CODE + 12, VA + 0x1000);
    g_assert_cmpint(m->cpu->x[A0], ==, 66);
    /* MPRV: M-mode's loads with the eyes of MPP, its fetches with its own. */
    m->cpu->x[A1] = VA;
    m->cpu->x[A2] = MSTATUS_MPRV | MSTATUS_SUM | (UINT64_C(1) << MSTATUS_MPP_SHIFT);
    m->cpu->x[A4] = RV_DATA + 8;
    *rv_dword(m, RV_DATA + 8) = 77;
    RV_RUN(m, CSRRS(0, 0x300, A2), LD(A0, 0, A1), CSRRC(0, 0x300, A2), LD(A3, 0, A4));
    rv_assert_no_trap(m);
    g_assert_cmpint(m->cpu->x[A0], ==, 55);
    g_assert_cmpint(m->cpu->x[A3], ==, 77);
}

static void test_accessed_dirty(RvMachine *m, gconstpointer data)
{
    Tables t = setup_tables(m, 3, false);
    uint64_t *e = pte(&t, VA, 0);

    *e = PPN(RV_DATA) | V | R | W | X;
    g_assert_true(try_load(m, VA, PRIV_S));
    g_assert_cmphex(*e & (A | D), ==, A);
    g_assert_true(try_store(m, VA, PRIV_S));
    g_assert_cmphex(*e & (A | D), ==, A | D);
    *e = PPN(RV_DATA) | V | R | W | X;
    rv64_tlb_flush(m->cpu);
    *rv_word(m, RV_DATA) = EBREAK;
    g_assert_true(try_fetch(m, VA, PRIV_S));
    g_assert_cmphex(*e & (A | D), ==, A);
    /* A store that is not allowed leaves D alone. */
    *e = PPN(RV_DATA) | V | R;
    rv64_tlb_flush(m->cpu);
    g_assert_false(try_store(m, VA, PRIV_S));
    g_assert_cmphex(*e & (A | D), ==, 0);
    /* SC and AMO count as stores even if SC fails. */
    *e = PPN(RV_DATA) | V | R | W;
    rv64_tlb_flush(m->cpu);
    m->cpu->x[A1] = VA;
    RV_PLACE(m, RV_CODE, AMO(0, 3, A0, A2, A1), EBREAK);
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(*e & (A | D), ==, A | D);
}

/* What is cached stays until sfence.vma, and no longer. */
static void test_sfence(RvMachine *m, gconstpointer data)
{
    Tables t = setup_tables(m, 3, false);
    uint64_t *e = pte(&t, VA, 0), *up = pte(&t, VA, 1);

    *rv_dword(m, RV_DATA) = 1;
    *rv_dword(m, RV_DATA + 0x1000) = 2;
    *rv_dword(m, RV_RAM + 0x200000 + (VA & 0x1fffff)) = 3;
    /* The tables are written by the guest itself, through an identity mapping. */
    *pte(&t, (uint64_t)TABLES, 1) = PPN(TABLES) | V | R | W | A | D;
    m->cpu->x[A1] = VA;
    m->cpu->x[A2] = TABLES + (uint64_t)((uint8_t *)e - (m->ram + (TABLES - RV_RAM)));
    m->cpu->x[A3] = PPN(RV_DATA + 0x1000) | V | R | W | A | D;
    *e = PPN(RV_DATA) | V | R | W | A | D;
    RV_PLACE(m, RV_CODE, LD(A0, 0, A1), SD(A3, 0, A2), SFENCE_VMA | A1 << 15, LD(A4, 0, A1),
             EBREAK);
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(m->cpu->mcause, ==, EXC_BREAKPOINT);
    g_assert_cmpint(m->cpu->x[A0], ==, 1);
    g_assert_cmpint(m->cpu->x[A4], ==, 2);
    /* One address in a superpage names all of it. */
    *up = PPN(RV_RAM + 0x200000) | V | R | W | A | D;
    rv64_tlb_flush(m->cpu);
    *rv_dword(m, RV_RAM + 0x600000 + (VA & 0x1fffff)) = 4;
    m->cpu->x[A2] = TABLES + (uint64_t)((uint8_t *)up - (m->ram + (TABLES - RV_RAM)));
    m->cpu->x[A3] = PPN(RV_RAM + 0x600000) | V | R | W | A | D;
    m->cpu->x[A5] = VA + 0x5000;
    RV_PLACE(m, RV_CODE, LD(A0, 0, A1), SD(A3, 0, A2), SFENCE_VMA | A5 << 15, LD(A4, 0, A1),
             EBREAK);
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmpint(m->cpu->x[A0], ==, 3);
    g_assert_cmpint(m->cpu->x[A4], ==, 4);
    /* Code: the same address, other bytes after the flush. */
    *up = 0;
    e = pte(&t, VA, 0);
    m->cpu->x[A2] = TABLES + (uint64_t)((uint8_t *)e - (m->ram + (TABLES - RV_RAM)));
    *e = PPN(RV_DATA) | V | R | X | A | D;
    m->cpu->x[A3] = PPN(RV_DATA + 0x1000) | V | R | X | A | D;
    rv64_tlb_flush(m->cpu);
    RV_PLACE(m, RV_DATA, ADDI(A0, 0, 11), JALR(0, 0, 1));
    RV_PLACE(m, RV_DATA + 0x1000, ADDI(A0, 0, 22), JALR(0, 0, 1));
    RV_PLACE(m, RV_CODE, JALR(1, 0, A1), ADDI(A4, A0, 0), SD(A3, 0, A2),
             SFENCE_VMA | A1 << 15, JALR(1, 0, A1), EBREAK);
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(m->cpu->mcause, ==, EXC_BREAKPOINT);
    g_assert_cmpint(m->cpu->x[A4], ==, 11);
    g_assert_cmpint(m->cpu->x[A0], ==, 22);
}

static void test_across_pages(RvMachine *m, gconstpointer data)
{
    Tables t = setup_tables(m, 3, false);
    uint64_t va = VA + 0xffc;

    *pte(&t, VA, 0) = PPN(RV_DATA) | V | R | W | A | D;
    *pte(&t, VA + 0x1000, 0) = PPN(RV_DATA + 0x5000) | V | R | W | A | D;
    *rv_word(m, RV_DATA + 0xffc) = 0x11223344;
    *rv_word(m, RV_DATA + 0x5000) = 0x55667788;
    g_assert_true(try_load(m, va, PRIV_S));
    g_assert_cmphex(m->cpu->x[A0], ==, UINT64_C(0x5566778811223344));
    g_assert_true(try_store(m, va, PRIV_S));
    g_assert_cmphex(*rv_word(m, RV_DATA + 0xffc), ==, 0x87654321);
    g_assert_cmphex(*rv_word(m, RV_DATA + 0x5000), ==, 0x12345678);
    /* The second page does not allow it: nothing is written, the fault names it. */
    *pte(&t, VA + 0x1000, 0) = PPN(RV_DATA + 0x5000) | V | R | A | D;
    *rv_word(m, RV_DATA + 0xffc) = 0;
    rv64_tlb_flush(m->cpu);
    g_assert_false(try_store(m, va, PRIV_S));
    rv_assert_trap(m, EXC_STORE_PAGE, RV_CODE, VA + 0x1000);
    g_assert_cmphex(*rv_word(m, RV_DATA + 0xffc), ==, 0);
    /* An instruction across two pages, and one whose second page is missing. */
    *pte(&t, VA, 0) = PPN(RV_DATA) | V | R | X | A | D;
    *pte(&t, VA + 0x1000, 0) = PPN(RV_DATA + 0x5000) | V | R | X | A | D;
    rv64_tlb_flush(m->cpu);
    *(uint16_t *)(m->ram + (RV_DATA + 0xffe - RV_RAM)) = (uint16_t)ADDI(A0, 0, 123);
    *(uint16_t *)(m->ram + (RV_DATA + 0x5000 - RV_RAM)) = ADDI(A0, 0, 123) >> 16;
    *(uint16_t *)(m->ram + (RV_DATA + 0x5002 - RV_RAM)) = 0x9002; /* c.ebreak */
    m->cpu->x[A1] = VA + 0xffe;
    RV_PLACE(m, RV_CODE, JALR(0, 0, A1));
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_BREAKPOINT, VA + 0x1002, VA + 0x1002);
    g_assert_cmpint(m->cpu->x[A0], ==, 123);
    *pte(&t, VA + 0x1000, 0) = 0;
    rv64_tlb_flush(m->cpu);
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_FETCH_PAGE, VA + 0xffe, VA + 0x1000);
}

static void test_devices(RvMachine *m, gconstpointer data)
{
    m->cpu->x[A1] = RV_DEVICE;
    m->cpu->x[A2] = UINT64_C(0x8877665544332211);
    RV_RUN(m, LW(A0, 4, A1), LB(A3, 0, A1), SW(A2, 0, A1), SB(A2, 0, A1));
    rv_assert_no_trap(m);
    g_assert_cmphex(m->cpu->x[A0], ==, UINT64_C(0xfffffffff5f6f7f8));
    g_assert_cmphex(m->cpu->x[A3], ==, UINT64_C(0xfffffffffffffff8));
    g_assert_cmpint(m->reads, ==, 2);
    g_assert_cmpint(m->writes, ==, 2);
    g_assert_cmphex(m->device, ==, 0x11);
    /* Too wide, misaligned, beyond the end, nothing there, no code there. */
    RV_RUN(m, LD(A0, 0, A1));
    rv_assert_trap(m, EXC_LOAD_ACCESS, RV_CODE, RV_DEVICE);
    RV_RUN(m, SW(A0, 2, A1));
    rv_assert_trap(m, EXC_STORE_ACCESS, RV_CODE, RV_DEVICE + 2);
    RV_RUN(m, LW(A0, 0x100, A1));
    rv_assert_trap(m, EXC_LOAD_ACCESS, RV_CODE, RV_DEVICE + 0x100);
    m->cpu->x[A1] = UINT64_C(0x4000000000);
    RV_RUN(m, SD(A0, 0, A1));
    rv_assert_trap(m, EXC_STORE_ACCESS, RV_CODE, UINT64_C(0x4000000000));
    m->cpu->x[A1] = RV_DEVICE;
    RV_RUN(m, JALR(0, 0, A1));
    rv_assert_trap(m, EXC_FETCH_ACCESS, RV_DEVICE, RV_DEVICE);
    m->cpu->x[A1] = RV_RAM + RV_RAM_SIZE - 4;
    RV_RUN(m, LD(A0, 0, A1));
    g_assert_cmphex(m->cpu->mcause, ==, EXC_LOAD_ACCESS);
    g_assert_cmpint(m->reads, ==, 2);
}

static void pmp_set(RvMachine *m, int i, uint8_t cfg, uint64_t addr)
{
    m->cpu->pmpcfg[i] = cfg;
    m->cpu->pmpaddr[i] = addr;
    rv64_pmp_update(m->cpu);
    rv64_tlb_flush(m->cpu);
}

static void test_pmp(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;

    /* Nothing matches: U and S have no access, M has. */
    pmp_set(m, 0, 0, 0);
    g_assert_false(try_load(m, RV_DATA, PRIV_S));
    g_assert_cmphex(cpu->mcause, ==, EXC_FETCH_ACCESS);
    g_assert_true(try_load(m, RV_DATA, PRIV_M));
    /* TOR: [0, DATA + 0x100) readable and executable; NA4 behind it; priority. */
    pmp_set(m, 1, 0x08 | 5, (RV_DATA + 0x100) >> 2);
    g_assert_true(try_load(m, RV_DATA + 0xf8, PRIV_U));
    g_assert_false(try_load(m, RV_DATA + 0x100, PRIV_U));
    rv_assert_trap(m, EXC_LOAD_ACCESS, RV_CODE, RV_DATA + 0x100);
    g_assert_false(try_store(m, RV_DATA, PRIV_S));
    rv_assert_trap(m, EXC_STORE_ACCESS, RV_CODE, RV_DATA);
    pmp_set(m, 2, 0x10 | 1, (RV_DATA + 0x104) >> 2);
    cpu->x[A1] = RV_DATA + 0x104;
    RV_PLACE(m, RV_CODE, LW(A0, 0, A1), EBREAK);
    rv_go(m, RV_CODE, PRIV_S);
    g_assert_cmphex(cpu->mcause, ==, EXC_BREAKPOINT);
    /* An access that an entry covers in part fails, even where another would allow it. */
    pmp_set(m, 3, 0x18 | 7, (UINT64_C(1) << 54) - 1);
    g_assert_false(try_load(m, RV_DATA + 0x100, PRIV_S));
    g_assert_true(try_load(m, RV_DATA + 0x108, PRIV_S));
    /* NAPOT of 32 bytes without rights, locked: M-mode too. */
    pmp_set(m, 0, 0x18 | 0x80, (RV_DATA + 0x40) >> 2 | 3);
    g_assert_false(try_load(m, RV_DATA + 0x58, PRIV_M));
    g_assert_true(try_load(m, RV_DATA + 0x60, PRIV_M));
    g_assert_false(try_store(m, RV_DATA + 0x40, PRIV_M));
    rv_assert_trap(m, EXC_STORE_ACCESS, RV_CODE, RV_DATA + 0x40);
    /* Code: 8 bytes may not be executed. */
    pmp_set(m, 0, 0x18 | 1, (RV_CODE + 0x10) >> 2);
    RV_PLACE(m, RV_CODE, NOP, NOP, NOP, NOP, NOP, NOP, EBREAK);
    rv_go(m, RV_CODE, PRIV_S);
    rv_assert_trap(m, EXC_FETCH_ACCESS, RV_CODE + 0x10, RV_CODE + 0x10);
    /* Page table walks are S-mode reads. */
    rv_reset(m);
    pmp_set(m, 1, 0x1f, (UINT64_C(1) << 54) - 1);
    pmp_set(m, 0, 0x18, TABLES >> 2 | 0x1ff);
    setup_tables(m, 3, false);
    g_assert_false(try_load(m, VA, PRIV_S));
    rv_assert_trap(m, EXC_FETCH_ACCESS, RV_CODE, RV_CODE);
}

static void test_pmp_registers(RvMachine *m, gconstpointer data)
{
    CPUState *cpu = m->cpu;
    uint64_t old;

    cpu->pmpcfg[0] = 0;
    g_assert_false(rv64_csr(cpu, 0x3a1, CSR_WRITE, 0, false, &old));
    g_assert_true(rv64_csr(cpu, 0x3a0, CSR_WRITE, UINT64_C(0xff1a00000000007f), true, &old));
    /* Bits 5 and 6 are zero; W without R is dropped. */
    g_assert_cmphex(rv64_pmp_read_cfg(cpu, 0), ==, UINT64_C(0x9f1800000000001f));
    g_assert_true(rv64_csr(cpu, 0x3b7, CSR_WRITE, 5, true, &old)); /* locked */
    g_assert_cmphex(cpu->pmpaddr[7], ==, 0);
    g_assert_true(rv64_csr(cpu, 0x3a0, CSR_WRITE, 0, true, &old));
    g_assert_cmphex(rv64_pmp_read_cfg(cpu, 0), ==, UINT64_C(0x9f00000000000000));
    g_assert_true(rv64_csr(cpu, 0x3b1, CSR_WRITE, UINT64_MAX, true, &old));
    g_assert_cmphex(cpu->pmpaddr[1], ==, (UINT64_C(1) << 54) - 1);
    /* The entry below a locked TOR is locked with it. */
    g_assert_true(rv64_csr(cpu, 0x3a0, CSR_WRITE, UINT64_C(0x88) << 24, true, &old));
    g_assert_true(rv64_csr(cpu, 0x3b2, CSR_WRITE, 9, true, &old));
    g_assert_cmphex(cpu->pmpaddr[2], ==, 0);
    /* Entries 16 to 63 read as zero. */
    g_assert_true(rv64_csr(cpu, 0x3c0, CSR_WRITE, 9, true, &old));
    g_assert_true(rv64_csr(cpu, 0x3c0, CSR_WRITE, 0, false, &old));
    g_assert_cmphex(old, ==, 0);
}

static void add(const char *path, void (*test)(RvMachine *m, gconstpointer data), int arg)
{
    g_test_add(path, RvMachine, GINT_TO_POINTER(arg), rv_setup, test, rv_teardown);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/rv64/mmu/sv39", test_walk, 3);
    add("/rv64/mmu/sv48", test_walk, 4);
    add("/rv64/mmu/bad-entries", test_bad_entries, 0);
    add("/rv64/mmu/permissions", test_permissions, 0);
    add("/rv64/mmu/mstatus", test_mstatus_bits, 0);
    add("/rv64/mmu/accessed-dirty", test_accessed_dirty, 0);
    add("/rv64/mmu/sfence", test_sfence, 0);
    add("/rv64/mmu/across-pages", test_across_pages, 0);
    add("/rv64/mmu/devices", test_devices, 0);
    add("/rv64/mmu/pmp", test_pmp, 0);
    add("/rv64/mmu/pmp-registers", test_pmp_registers, 0);
    return g_test_run();
}
