/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instruction decoder: RV64 I, M, A, F, D, C, Zicsr, Zifencei, Zba, Zbb, Zbs and the
 * privileged instructions, from bits to Insn.  Pure function; encodings are those of the
 * instruction set listings in Unpriv (RV32/64G, "C" and "B" chapters) and Priv.
 *
 * What depends on the hart's state (privilege, mstatus.FS, the rounding mode) is checked
 * when the instruction is executed, so that decoded blocks can be shared by all modes.
 */
#include "cpu.h"

static inline uint32_t bits(uint32_t v, int hi, int lo)
{
    return (v >> lo) & ((1u << (hi - lo + 1)) - 1);
}

static inline int32_t sext(uint32_t v, int width)
{
    return (int32_t)(v << (32 - width)) >> (32 - width);
}

static void set(Insn *i, RvOp op, unsigned rd, unsigned rs1, unsigned rs2, int32_t imm)
{
    i->op = op;
    i->rd = rd ? rd : RV64_REG_SINK;
    i->rs1 = rs1;
    i->rs2 = rs2;
    i->imm = imm;
}

static void illegal(Insn *i, uint32_t raw)
{
    set(i, OP_ILLEGAL, 0, 0, 0, (int32_t)raw);
}

static void decode_addi(Insn *i, unsigned rd, unsigned rs1, int32_t imm)
{
    if (rs1 == 0) {
        set(i, OP_LI, rd, 0, 0, imm);
    } else if (imm == 0) {
        set(i, OP_MV, rd, rs1, 0, 0);
    } else {
        set(i, OP_ADDI, rd, rs1, 0, imm);
    }
}

static void decode_branch(Insn *i, RvOp op, unsigned rs1, unsigned rs2, int32_t imm)
{
    if (rs2 == 0 && (op == OP_BEQ || op == OP_BNE)) {
        op = op == OP_BEQ ? OP_BEQZ : OP_BNEZ;
    }
    set(i, op, 0, rs1, rs2, imm);
}

/* OP-IMM, funct3 001 and 101: shifts and the Zbb/Zbs operations with a 6-bit immediate. */
static bool decode_shift_imm(Insn *i, uint32_t raw, unsigned rd, unsigned rs1)
{
    unsigned sh = bits(raw, 25, 20), f6 = bits(raw, 31, 26), imm12 = bits(raw, 31, 20);

    if (bits(raw, 14, 12) == 1) {
        switch (f6) {
        case 0x00:
            return set(i, OP_SLLI, rd, rs1, 0, sh), true;
        case 0x12:
            return set(i, OP_BCLRI, rd, rs1, 0, sh), true;
        case 0x1a:
            return set(i, OP_BINVI, rd, rs1, 0, sh), true;
        case 0x0a:
            return set(i, OP_BSETI, rd, rs1, 0, sh), true;
        }
        switch (imm12) {
        case 0x600:
            return set(i, OP_CLZ, rd, rs1, 0, 0), true;
        case 0x601:
            return set(i, OP_CTZ, rd, rs1, 0, 0), true;
        case 0x602:
            return set(i, OP_CPOP, rd, rs1, 0, 0), true;
        case 0x604:
            return set(i, OP_SEXT_B, rd, rs1, 0, 0), true;
        case 0x605:
            return set(i, OP_SEXT_H, rd, rs1, 0, 0), true;
        }
        return false;
    }
    switch (f6) {
    case 0x00:
        return set(i, OP_SRLI, rd, rs1, 0, sh), true;
    case 0x10:
        return set(i, OP_SRAI, rd, rs1, 0, sh), true;
    case 0x12:
        return set(i, OP_BEXTI, rd, rs1, 0, sh), true;
    case 0x18:
        return set(i, OP_RORI, rd, rs1, 0, sh), true;
    }
    if (imm12 == 0x287) {
        return set(i, OP_ORC_B, rd, rs1, 0, 0), true;
    }
    if (imm12 == 0x6b8) {
        return set(i, OP_REV8, rd, rs1, 0, 0), true;
    }
    return false;
}

static bool decode_op_imm(Insn *i, uint32_t raw, unsigned rd, unsigned rs1)
{
    int32_t imm = (int32_t)raw >> 20;

    switch (bits(raw, 14, 12)) {
    case 0:
        return decode_addi(i, rd, rs1, imm), true;
    case 2:
        return set(i, OP_SLTI, rd, rs1, 0, imm), true;
    case 3:
        return set(i, OP_SLTIU, rd, rs1, 0, imm), true;
    case 4:
        return set(i, OP_XORI, rd, rs1, 0, imm), true;
    case 6:
        return set(i, OP_ORI, rd, rs1, 0, imm), true;
    case 7:
        return set(i, OP_ANDI, rd, rs1, 0, imm), true;
    default:
        return decode_shift_imm(i, raw, rd, rs1);
    }
}

static bool decode_op_imm_32(Insn *i, uint32_t raw, unsigned rd, unsigned rs1)
{
    unsigned sh = bits(raw, 24, 20), f7 = bits(raw, 31, 25), imm12 = bits(raw, 31, 20);

    switch (bits(raw, 14, 12)) {
    case 0:
        return set(i, OP_ADDIW, rd, rs1, 0, (int32_t)raw >> 20), true;
    case 1:
        if (f7 == 0) {
            return set(i, OP_SLLIW, rd, rs1, 0, sh), true;
        }
        if (bits(raw, 31, 26) == 0x02) {
            return set(i, OP_SLLI_UW, rd, rs1, 0, bits(raw, 25, 20)), true;
        }
        switch (imm12) {
        case 0x600:
            return set(i, OP_CLZW, rd, rs1, 0, 0), true;
        case 0x601:
            return set(i, OP_CTZW, rd, rs1, 0, 0), true;
        case 0x602:
            return set(i, OP_CPOPW, rd, rs1, 0, 0), true;
        }
        return false;
    case 5:
        switch (f7) {
        case 0x00:
            return set(i, OP_SRLIW, rd, rs1, 0, sh), true;
        case 0x20:
            return set(i, OP_SRAIW, rd, rs1, 0, sh), true;
        case 0x30:
            return set(i, OP_RORIW, rd, rs1, 0, sh), true;
        }
    }
    return false;
}

/* Operations on two registers: funct7, funct3. */
static const struct {
    uint8_t f7, f3, op;
} op_table[] = {
    {0x00, 0, OP_ADD},      {0x20, 0, OP_SUB},      {0x00, 1, OP_SLL},
    {0x00, 2, OP_SLT},      {0x00, 3, OP_SLTU},     {0x00, 4, OP_XOR},
    {0x00, 5, OP_SRL},      {0x20, 5, OP_SRA},      {0x00, 6, OP_OR},
    {0x00, 7, OP_AND},      {0x01, 0, OP_MUL},      {0x01, 1, OP_MULH},
    {0x01, 2, OP_MULHSU},   {0x01, 3, OP_MULHU},    {0x01, 4, OP_DIV},
    {0x01, 5, OP_DIVU},     {0x01, 6, OP_REM},      {0x01, 7, OP_REMU},
    {0x20, 7, OP_ANDN},     {0x20, 6, OP_ORN},      {0x20, 4, OP_XNOR},
    {0x10, 2, OP_SH1ADD},   {0x10, 4, OP_SH2ADD},   {0x10, 6, OP_SH3ADD},
    {0x05, 4, OP_MIN},      {0x05, 5, OP_MINU},     {0x05, 6, OP_MAX},
    {0x05, 7, OP_MAXU},     {0x30, 1, OP_ROL},      {0x30, 5, OP_ROR},
    {0x24, 1, OP_BCLR},     {0x24, 5, OP_BEXT},     {0x34, 1, OP_BINV},
    {0x14, 1, OP_BSET},
}, op32_table[] = {
    {0x00, 0, OP_ADDW},     {0x20, 0, OP_SUBW},     {0x00, 1, OP_SLLW},
    {0x00, 5, OP_SRLW},     {0x20, 5, OP_SRAW},     {0x01, 0, OP_MULW},
    {0x01, 4, OP_DIVW},     {0x01, 5, OP_DIVUW},    {0x01, 6, OP_REMW},
    {0x01, 7, OP_REMUW},    {0x04, 0, OP_ADD_UW},   {0x10, 2, OP_SH1ADD_UW},
    {0x10, 4, OP_SH2ADD_UW}, {0x10, 6, OP_SH3ADD_UW}, {0x30, 1, OP_ROLW},
    {0x30, 5, OP_RORW},
};

static bool decode_op(Insn *i, uint32_t raw, unsigned rd, unsigned rs1, unsigned rs2)
{
    unsigned f7 = bits(raw, 31, 25), f3 = bits(raw, 14, 12);

    for (size_t n = 0; n < G_N_ELEMENTS(op_table); n++) {
        if (op_table[n].f7 == f7 && op_table[n].f3 == f3) {
            return set(i, op_table[n].op, rd, rs1, rs2, 0), true;
        }
    }
    return false;
}

static bool decode_op_32(Insn *i, uint32_t raw, unsigned rd, unsigned rs1, unsigned rs2)
{
    unsigned f7 = bits(raw, 31, 25), f3 = bits(raw, 14, 12);

    if (f7 == 0x04 && f3 == 4 && rs2 == 0) {
        return set(i, OP_ZEXT_H, rd, rs1, 0, 0), true;
    }
    for (size_t n = 0; n < G_N_ELEMENTS(op32_table); n++) {
        if (op32_table[n].f7 == f7 && op32_table[n].f3 == f3) {
            return set(i, op32_table[n].op, rd, rs1, rs2, 0), true;
        }
    }
    return false;
}

static bool decode_system(Insn *i, uint32_t raw, unsigned rd, unsigned rs1)
{
    unsigned f3 = bits(raw, 14, 12);

    if (f3 == 4) {
        return false;
    }
    if (f3 != 0) {
        return set(i, OP_CSR, rd, rs1, 0, (int32_t)raw), true;
    }
    switch (raw) {
    case 0x00000073:
        return set(i, OP_ECALL, 0, 0, 0, 0), true;
    case 0x00100073:
        return set(i, OP_EBREAK, 0, 0, 0, 0), true;
    case 0x10200073:
        return set(i, OP_SRET, 0, 0, 0, (int32_t)raw), true;
    case 0x30200073:
        return set(i, OP_MRET, 0, 0, 0, (int32_t)raw), true;
    case 0x10500073:
        return set(i, OP_WFI, 0, 0, 0, (int32_t)raw), true;
    }
    if (bits(raw, 31, 25) == 0x09 && rd == 0) {
        return set(i, OP_SFENCE_VMA, 0, rs1, bits(raw, 24, 20), (int32_t)raw), true;
    }
    return false;
}

static bool decode_amo(Insn *i, uint32_t raw, unsigned rd, unsigned rs1, unsigned rs2)
{
    unsigned f3 = bits(raw, 14, 12), f5 = bits(raw, 31, 27);

    if (f3 != 2 && f3 != 3) {
        return false;
    }
    switch (f5) {
    case 0x02: /* LR */
        if (rs2 != 0) {
            return false;
        }
        break;
    case 0x00: case 0x01: case 0x03: case 0x04: case 0x08: case 0x0c:
    case 0x10: case 0x14: case 0x18: case 0x1c:
        break;
    default:
        return false;
    }
    return set(i, OP_AMO, rd, rs1, rs2, (int32_t)(f5 << 1 | (f3 & 1))), true;
}

static bool decode_load_store(Insn *i, uint32_t raw, unsigned rd, unsigned rs1,
                              unsigned rs2)
{
    static const uint8_t loads[8] = {OP_LB, OP_LH, OP_LW, OP_LD, OP_LBU, OP_LHU, OP_LWU, 0};
    static const uint8_t stores[8] = {OP_SB, OP_SH, OP_SW, OP_SD};
    unsigned f3 = bits(raw, 14, 12);
    int32_t imm_i = (int32_t)raw >> 20;
    int32_t imm_s = sext(bits(raw, 31, 25) << 5 | bits(raw, 11, 7), 12);

    switch (bits(raw, 6, 0)) {
    case 0x03:
        return f3 != 7 && (set(i, loads[f3], rd, rs1, 0, imm_i), true);
    case 0x23:
        return f3 < 4 && (set(i, stores[f3], 0, rs1, rs2, imm_s), true);
    case 0x07: /* the destination is a floating-point register: no sink */
        if (f3 != 2 && f3 != 3) {
            return false;
        }
        set(i, f3 == 2 ? OP_FLW : OP_FLD, 0, rs1, 0, imm_i);
        i->rd = rd;
        return true;
    default:
        if (f3 != 2 && f3 != 3) {
            return false;
        }
        return set(i, f3 == 2 ? OP_FSW : OP_FSD, 0, rs1, rs2, imm_s), true;
    }
}

static bool decode_fence(Insn *i, uint32_t raw)
{
    unsigned pred = bits(raw, 27, 24), succ = bits(raw, 23, 20);

    switch (bits(raw, 14, 12)) {
    case 0:
        /* Only "earlier stores before later loads" needs a full barrier. */
        if ((pred & 5) && (succ & 10)) {
            return set(i, OP_FENCE, 0, 0, 0, 0), true;
        }
        return set(i, OP_FENCE_LIGHT, 0, 0, 0, 0), true;
    case 1:
        return set(i, OP_FENCE_I, 0, 0, 0, 0), true;
    }
    return false;
}

static bool decode_branches(Insn *i, uint32_t raw, unsigned rs1, unsigned rs2)
{
    static const uint8_t ops[8] = {OP_BEQ, OP_BNE, 0, 0, OP_BLT, OP_BGE, OP_BLTU, OP_BGEU};
    unsigned f3 = bits(raw, 14, 12);

    if (f3 == 2 || f3 == 3) {
        return false;
    }
    decode_branch(i, ops[f3], rs1, rs2,
                  sext(bits(raw, 31, 31) << 12 | bits(raw, 7, 7) << 11 |
                       bits(raw, 30, 25) << 5 | bits(raw, 11, 8) << 1, 13));
    return true;
}

static bool decode32(uint32_t raw, Insn *i)
{
    unsigned rd = bits(raw, 11, 7), rs1 = bits(raw, 19, 15), rs2 = bits(raw, 24, 20);
    int32_t imm_u = (int32_t)(raw & 0xfffff000);

    switch (bits(raw, 6, 0)) {
    case 0x37:
        return set(i, OP_LI, rd, 0, 0, imm_u), true;
    case 0x17:
        return set(i, OP_AUIPC, rd, 0, 0, imm_u), true;
    case 0x6f:
        set(i, rd ? OP_JAL : OP_J, rd, 0, 4,
            sext(bits(raw, 31, 31) << 20 | bits(raw, 19, 12) << 12 | bits(raw, 20, 20) << 11 |
                 bits(raw, 30, 21) << 1, 21));
        return true;
    case 0x67:
        return bits(raw, 14, 12) == 0 &&
               (set(i, OP_JALR, rd, rs1, 4, (int32_t)raw >> 20), true);
    case 0x63:
        return decode_branches(i, raw, rs1, rs2);
    case 0x03: case 0x07: case 0x23: case 0x27:
        return decode_load_store(i, raw, rd, rs1, rs2);
    case 0x13:
        return decode_op_imm(i, raw, rd, rs1);
    case 0x1b:
        return decode_op_imm_32(i, raw, rd, rs1);
    case 0x33:
        return decode_op(i, raw, rd, rs1, rs2);
    case 0x3b:
        return decode_op_32(i, raw, rd, rs1, rs2);
    case 0x0f:
        return decode_fence(i, raw);
    case 0x73:
        return decode_system(i, raw, rd, rs1);
    case 0x2f:
        return decode_amo(i, raw, rd, rs1, rs2);
    case 0x43: case 0x47: case 0x4b: case 0x4f: case 0x53:
        return set(i, OP_FP, 0, 0, 0, (int32_t)raw), true;
    }
    return false;
}

/* Quadrant 0: loads and stores with 3-bit register numbers. */
static bool decode_c0(uint32_t c, Insn *i)
{
    unsigned rd = bits(c, 4, 2) + 8, rs1 = bits(c, 9, 7) + 8;
    uint32_t off_w = bits(c, 12, 10) << 3 | bits(c, 6, 6) << 2 | bits(c, 5, 5) << 6;
    uint32_t off_d = bits(c, 12, 10) << 3 | bits(c, 6, 5) << 6;
    uint32_t imm;

    switch (bits(c, 15, 13)) {
    case 0:
        imm = bits(c, 12, 11) << 4 | bits(c, 10, 7) << 6 | bits(c, 6, 6) << 2 |
              bits(c, 5, 5) << 3;
        return imm != 0 && (set(i, OP_ADDI, rd, 2, 0, imm), true);
    case 1:
        return set(i, OP_FLD, rd, rs1, 0, off_d), true;
    case 2:
        return set(i, OP_LW, rd, rs1, 0, off_w), true;
    case 3:
        return set(i, OP_LD, rd, rs1, 0, off_d), true;
    case 5:
        return set(i, OP_FSD, 0, rs1, rd, off_d), true;
    case 6:
        return set(i, OP_SW, 0, rs1, rd, off_w), true;
    case 7:
        return set(i, OP_SD, 0, rs1, rd, off_d), true;
    }
    return false;
}

static bool decode_c1_alu(uint32_t c, Insn *i)
{
    static const uint8_t ops[8] = {OP_SUB, OP_XOR, OP_OR, OP_AND, OP_SUBW, OP_ADDW, 0, 0};
    unsigned rd = bits(c, 9, 7) + 8, rs2 = bits(c, 4, 2) + 8, sel;
    uint32_t sh = bits(c, 12, 12) << 5 | bits(c, 6, 2);

    switch (bits(c, 11, 10)) {
    case 0:
        return set(i, OP_SRLI, rd, rd, 0, sh), true;
    case 1:
        return set(i, OP_SRAI, rd, rd, 0, sh), true;
    case 2:
        return set(i, OP_ANDI, rd, rd, 0, sext(sh, 6)), true;
    }
    sel = bits(c, 12, 12) << 2 | bits(c, 6, 5);
    return sel < 6 && (set(i, ops[sel], rd, rd, rs2, 0), true);
}

static bool decode_c1(uint32_t c, Insn *i)
{
    unsigned rd = bits(c, 11, 7);
    int32_t imm6 = sext(bits(c, 12, 12) << 5 | bits(c, 6, 2), 6);
    int32_t imm_j = sext(bits(c, 12, 12) << 11 | bits(c, 11, 11) << 4 | bits(c, 10, 9) << 8 |
                         bits(c, 8, 8) << 10 | bits(c, 7, 7) << 6 | bits(c, 6, 6) << 7 |
                         bits(c, 5, 3) << 1 | bits(c, 2, 2) << 5, 12);
    int32_t imm_b = sext(bits(c, 12, 12) << 8 | bits(c, 11, 10) << 3 | bits(c, 6, 5) << 6 |
                         bits(c, 4, 3) << 1 | bits(c, 2, 2) << 5, 9);
    int32_t imm;

    switch (bits(c, 15, 13)) {
    case 0:
        return decode_addi(i, rd, rd, imm6), true;
    case 1:
        return rd != 0 && (set(i, OP_ADDIW, rd, rd, 0, imm6), true);
    case 2:
        return set(i, OP_LI, rd, 0, 0, imm6), true;
    case 3:
        if (rd == 2) {
            imm = sext(bits(c, 12, 12) << 9 | bits(c, 6, 6) << 4 | bits(c, 5, 5) << 6 |
                       bits(c, 4, 3) << 7 | bits(c, 2, 2) << 5, 10);
            return imm != 0 && (set(i, OP_ADDI, 2, 2, 0, imm), true);
        }
        imm = (int32_t)((uint32_t)imm6 << 12);
        return imm != 0 && (set(i, OP_LI, rd, 0, 0, imm), true);
    case 4:
        return decode_c1_alu(c, i);
    case 5:
        return set(i, OP_J, 0, 0, 2, imm_j), true;
    case 6:
        return decode_branch(i, OP_BEQ, bits(c, 9, 7) + 8, 0, imm_b), true;
    default:
        return decode_branch(i, OP_BNE, bits(c, 9, 7) + 8, 0, imm_b), true;
    }
}

static bool decode_c2_jump(uint32_t c, Insn *i)
{
    unsigned rd = bits(c, 11, 7), rs2 = bits(c, 6, 2);

    if (bits(c, 12, 12) == 0) {
        if (rs2 == 0) {
            return rd != 0 && (set(i, OP_JALR, 0, rd, 2, 0), true);
        }
        return set(i, OP_MV, rd, rs2, 0, 0), true;
    }
    if (rs2 != 0) {
        return set(i, OP_ADD, rd, rd, rs2, 0), true;
    }
    if (rd == 0) {
        return set(i, OP_EBREAK, 0, 0, 0, 0), true;
    }
    return set(i, OP_JALR, 1, rd, 2, 0), true;
}

static bool decode_c2(uint32_t c, Insn *i)
{
    unsigned rd = bits(c, 11, 7), rs2 = bits(c, 6, 2);
    uint32_t off_d = bits(c, 12, 12) << 5 | bits(c, 6, 5) << 3 | bits(c, 4, 2) << 6;
    uint32_t off_w = bits(c, 12, 12) << 5 | bits(c, 6, 4) << 2 | bits(c, 3, 2) << 6;
    uint32_t soff_d = bits(c, 12, 10) << 3 | bits(c, 9, 7) << 6;
    uint32_t soff_w = bits(c, 12, 9) << 2 | bits(c, 8, 7) << 6;

    switch (bits(c, 15, 13)) {
    case 0:
        return set(i, OP_SLLI, rd, rd, 0, bits(c, 12, 12) << 5 | bits(c, 6, 2)), true;
    case 1:
        set(i, OP_FLD, 0, 2, 0, off_d);
        i->rd = rd;
        return true;
    case 2:
        return rd != 0 && (set(i, OP_LW, rd, 2, 0, off_w), true);
    case 3:
        return rd != 0 && (set(i, OP_LD, rd, 2, 0, off_d), true);
    case 4:
        return decode_c2_jump(c, i);
    case 5:
        return set(i, OP_FSD, 0, 2, rs2, soff_d), true;
    case 6:
        return set(i, OP_SW, 0, 2, rs2, soff_w), true;
    default:
        return set(i, OP_SD, 0, 2, rs2, soff_d), true;
    }
}

void rv64_decode(uint32_t raw, Insn *i)
{
    bool ok;

    if ((raw & 3) == 3) {
        i->len = 4;
        ok = decode32(raw, i);
    } else {
        raw &= 0xffff;
        i->len = 2;
        ok = (raw & 3) == 0 ? decode_c0(raw, i) :
             (raw & 3) == 1 ? decode_c1(raw, i) : decode_c2(raw, i);
    }
    if (!ok) {
        illegal(i, raw);
    }
}
