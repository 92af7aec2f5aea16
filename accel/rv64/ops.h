/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interpreter's operations: what decode.c produces and exec.c has a handler for.
 * Compressed instructions decode to the same ones.
 */
#ifndef ACCEL_RV64_OPS_H
#define ACCEL_RV64_OPS_H

/* clang-format off */
/* Results that depend on registers and immediates only; dropped when rd is x0. */
#define RV64_ALU_OPS(X) \
    X(LI) X(AUIPC) X(MV) \
    X(ADDI) X(SLTI) X(SLTIU) X(XORI) X(ORI) X(ANDI) X(SLLI) X(SRLI) X(SRAI) \
    X(ADDIW) X(SLLIW) X(SRLIW) X(SRAIW) \
    X(ADD) X(SUB) X(SLL) X(SLT) X(SLTU) X(XOR) X(SRL) X(SRA) X(OR) X(AND) \
    X(ADDW) X(SUBW) X(SLLW) X(SRLW) X(SRAW) \
    X(MUL) X(MULH) X(MULHSU) X(MULHU) X(DIV) X(DIVU) X(REM) X(REMU) \
    X(MULW) X(DIVW) X(DIVUW) X(REMW) X(REMUW) \
    X(ADD_UW) X(SH1ADD) X(SH2ADD) X(SH3ADD) X(SH1ADD_UW) X(SH2ADD_UW) X(SH3ADD_UW) \
    X(SLLI_UW) X(ANDN) X(ORN) X(XNOR) X(CLZ) X(CTZ) X(CPOP) X(CLZW) X(CTZW) X(CPOPW) \
    X(MAX) X(MAXU) X(MIN) X(MINU) X(SEXT_B) X(SEXT_H) X(ZEXT_H) X(ROL) X(ROR) X(RORI) \
    X(ROLW) X(RORW) X(RORIW) X(ORC_B) X(REV8) \
    X(BCLR) X(BCLRI) X(BEXT) X(BEXTI) X(BINV) X(BINVI) X(BSET) X(BSETI)

/* Followed by a Link. */
#define RV64_BRANCH_OPS(X) \
    X(BEQ) X(BNE) X(BLT) X(BGE) X(BLTU) X(BGEU) X(BEQZ) X(BNEZ)

#define RV64_OTHER_OPS(X) \
    X(LB) X(LH) X(LW) X(LD) X(LBU) X(LHU) X(LWU) X(SB) X(SH) X(SW) X(SD) \
    X(FLW) X(FLD) X(FSW) X(FSD) X(FP) X(AMO) \
    X(JAL) X(J) X(JALR) X(FENCE) X(FENCE_LIGHT) X(FENCE_I) X(CSR) \
    X(ECALL) X(EBREAK) X(MRET) X(SRET) X(WFI) X(SFENCE_VMA) X(ILLEGAL) \
    /* made by blocks.c: the end of a block; a call or a load through auipc */ \
    X(END) X(END_LOOKUP) X(CALL) X(LD_PC) X(LW_PC) X(LWU_PC) X(LBU_PC) \
    /* a look whether there is a breakpoint, before the instruction it may be at */ \
    X(BREAK)

#define RV64_OPS(X) RV64_ALU_OPS(X) RV64_BRANCH_OPS(X) RV64_OTHER_OPS(X)
/* clang-format on */

typedef enum RvOp {
#define RV64_OP_ENUM(name) OP_##name,
    RV64_OPS(RV64_OP_ENUM)
#undef RV64_OP_ENUM
    OP_COUNT,
    OP_LAST_ALU = OP_BSETI,
    OP_LAST_BRANCH = OP_BNEZ,
} RvOp;

#endif
