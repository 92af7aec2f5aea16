/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hart's registers as GDB numbers and names them: x0-x31 and pc, f0-f31, the privilege,
 * the CSRs.  The description has the features that GDB's manual lists under "RISC-V
 * Features", and org.gnu.gdb.riscv.virtual for the privilege, as GDB knows it.
 *
 * The hart stands.  A CSR is read and written as M-mode would, whatever the hart's mode.
 */
#include <string.h>

#include "cpu.h"
#include "util/log.h"

enum { REG_PC = 32, REG_F0 = 33, REG_PRIV = 65, REG_CSR = 66, CSR_COUNT = 4096 };
enum { CSR_FFLAGS = 1, CSR_FRM = 2, CSR_FCSR = 3, CSR_MCYCLE = 0xb00, CSR_MINSTRET = 0xb02 };

static const char *const x_names[] = {
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4",
    "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
    "t5", "t6"};
static const char *const f_names[] = {
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2",
    "fa3", "fa4", "fa5", "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9",
    "fs10", "fs11", "ft8", "ft9", "ft10", "ft11"};

static const struct {
    uint16_t csr;
    const char *name;
} csr_names[] = {
    {CSR_FFLAGS, "fflags"}, {CSR_FRM, "frm"}, {CSR_FCSR, "fcsr"},
    {0x100, "sstatus"}, {0x104, "sie"}, {0x105, "stvec"}, {0x106, "scounteren"},
    {0x10a, "senvcfg"}, {0x140, "sscratch"}, {0x141, "sepc"}, {0x142, "scause"},
    {0x143, "stval"}, {0x144, "sip"}, {0x14d, "stimecmp"}, {0x180, "satp"},
    {0x300, "mstatus"}, {0x301, "misa"}, {0x302, "medeleg"}, {0x303, "mideleg"},
    {0x304, "mie"}, {0x305, "mtvec"}, {0x306, "mcounteren"}, {0x30a, "menvcfg"},
    {0x320, "mcountinhibit"}, {0x340, "mscratch"}, {0x341, "mepc"}, {0x342, "mcause"},
    {0x343, "mtval"}, {0x344, "mip"}, {0x3a0, "pmpcfg0"}, {0x3a2, "pmpcfg2"},
    {CSR_MCYCLE, "mcycle"}, {CSR_MINSTRET, "minstret"}, {0xc00, "cycle"}, {0xc01, "time"},
    {0xc02, "instret"}, {0xf11, "mvendorid"}, {0xf12, "marchid"}, {0xf13, "mimpid"},
    {0xf14, "mhartid"}, {0xf15, "mconfigptr"},
};

static void add_reg(GString *s, const char *name, unsigned n, const char *type, const char *group)
{
    g_string_append_printf(s, "<reg name=\"%s\" bitsize=\"64\" regnum=\"%u\" type=\"%s\"", name,
                           n, type);
    if (group) {
        g_string_append_printf(s, " group=\"%s\"", group);
    }
    g_string_append(s, "/>");
}

static const char *x_type(unsigned n)
{
    return n == 1 ? "code_ptr" : n == 2 || n == 3 || n == 4 || n == 8 ? "data_ptr" : "int";
}

static char *make_description(void)
{
    GString *s = g_string_new("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">"
                              "<target><architecture>riscv:rv64</architecture>"
                              "<feature name=\"org.gnu.gdb.riscv.cpu\">");

    for (unsigned i = 0; i < G_N_ELEMENTS(x_names); i++) {
        add_reg(s, x_names[i], i, x_type(i), NULL);
    }
    add_reg(s, "pc", REG_PC, "code_ptr", NULL);
    g_string_append(s, "</feature><feature name=\"org.gnu.gdb.riscv.fpu\">"
                       "<union id=\"riscv_double\"><field name=\"float\" type=\"ieee_single\"/>"
                       "<field name=\"double\" type=\"ieee_double\"/></union>");
    for (unsigned i = 0; i < G_N_ELEMENTS(f_names); i++) {
        add_reg(s, f_names[i], REG_F0 + i, "riscv_double", NULL);
    }
    g_string_append(s, "</feature><feature name=\"org.gnu.gdb.riscv.virtual\">");
    add_reg(s, "priv", REG_PRIV, "int", NULL);
    g_string_append(s, "</feature><feature name=\"org.gnu.gdb.riscv.csr\">");
    for (size_t i = 0; i < G_N_ELEMENTS(csr_names); i++) {
        add_reg(s, csr_names[i].name, REG_CSR + csr_names[i].csr, "int",
                csr_names[i].csr <= CSR_FCSR ? "float" : "csr");
    }
    for (unsigned i = 0; i < RV64_PMP_ENTRIES; i++) {
        g_autofree char *name = g_strdup_printf("pmpaddr%u", i);

        add_reg(s, name, REG_CSR + 0x3b0 + i, "int", "csr");
    }
    g_string_append(s, "</feature></target>");
    return g_string_free(s, false);
}

const char *rv64_debug_description(void)
{
    static char *text;

    if (g_once_init_enter(&text)) {
        g_once_init_leave(&text, make_description());
    }
    return text;
}

/* --- CSRs ---------------------------------------------------------------------------------- */

/* While the floating point unit is off its registers cannot be had through csr.c. */
static bool read_csr(CPUState *cpu, unsigned csr, uint64_t *value)
{
    uint8_t priv = cpu->priv;
    bool ok;

    switch (csr) {
    case CSR_FFLAGS:
        return *value = cpu->fflags, true;
    case CSR_FRM:
        return *value = cpu->frm, true;
    case CSR_FCSR:
        return *value = cpu->frm << 5 | cpu->fflags, true;
    }
    cpu->priv = PRIV_M;
    ok = rv64_csr(cpu, csr, CSR_SET, 0, false, value);
    cpu->priv = priv;
    return ok;
}

static bool write_csr(CPUState *cpu, unsigned csr, uint64_t value)
{
    uint8_t priv = cpu->priv;
    uint64_t old;
    bool ok;

    switch (csr) {
    case CSR_FFLAGS:
        return cpu->fflags = value & 31, true;
    case CSR_FRM:
        return cpu->frm = value & 7, true;
    case CSR_FCSR:
        cpu->frm = value >> 5 & 7;
        cpu->fflags = value & 31;
        return true;
    case CSR_MCYCLE:
    case CSR_MINSTRET:
        return false; /* they count instructions, and there is none that writes */
    }
    cpu->priv = PRIV_M;
    ok = rv64_csr(cpu, csr, CSR_WRITE, value, true, &old);
    cpu->priv = priv;
    rv64_update_context(cpu);
    return ok;
}

/* --- All registers ---------------------------------------------------------------------------- */

bool rv64_debug_read_register(CPUState *cpu, unsigned n, uint64_t *value)
{
    if (n < REG_PC) {
        *value = cpu->x[n];
    } else if (n == REG_PC) {
        *value = cpu->pc;
    } else if (n < REG_PRIV) {
        *value = cpu->f[n - REG_F0];
    } else if (n == REG_PRIV) {
        *value = cpu->priv;
    } else {
        return n - REG_CSR < CSR_COUNT && read_csr(cpu, n - REG_CSR, value);
    }
    return true;
}

bool rv64_debug_write_register(CPUState *cpu, unsigned n, uint64_t value)
{
    if (n < REG_PC) {
        cpu->x[n] = n == 0 ? 0 : value;
    } else if (n == REG_PC) {
        cpu->pc = value & ~UINT64_C(1);
        cpu->halted = false;
    } else if (n < REG_PRIV) {
        cpu->f[n - REG_F0] = value;
    } else if (n == REG_PRIV) {
        if (value != PRIV_U && value != PRIV_S && value != PRIV_M) {
            return false;
        }
        cpu->priv = (uint8_t)value;
        rv64_update_context(cpu);
        rv64_check_interrupts(cpu);
    } else {
        return n - REG_CSR < CSR_COUNT && write_csr(cpu, n - REG_CSR, value);
    }
    return true;
}

void rv64_log_state(CPUState *cpu)
{
    GString *s = g_string_new(NULL);
    uint64_t value;

    g_string_printf(s, "CPU Reset (CPU %d)\n %-8s %016" G_GINT64_MODIFIER "x\n",
                    cpu->config.index, "pc", cpu->pc);
    for (size_t i = 0; i < G_N_ELEMENTS(csr_names); i++) {
        if (csr_names[i].csr > CSR_FCSR && read_csr(cpu, csr_names[i].csr, &value)) {
            g_string_append_printf(s, " %-8s %016" G_GINT64_MODIFIER "x\n", csr_names[i].name,
                                   value);
        }
    }
    for (unsigned i = 0; i < REG_PC; i++) {
        g_autofree char *name = g_strdup_printf("x%u/%s", i, x_names[i]);

        g_string_append_printf(s, " %-8s %016" G_GINT64_MODIFIER "x%s", name, cpu->x[i],
                               i % 4 == 3 ? "\n" : "");
    }
    log_printf("%s", s->str);
    g_string_free(s, true);
}
