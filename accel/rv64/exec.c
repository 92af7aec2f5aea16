/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interpreter: direct-threaded execution of decoded blocks.
 *
 * Every op holds the address of its handler; a handler ends with a jump to the next op's.
 * pc is the virtual address of the block's start; an instruction's own is pc + 2 * off.
 * icount already includes the whole block, and is corrected when a block is left early.
 * Whatever needs the vCPU's attention (a kick, an interrupt, stale code, the timer) is
 * looked at when a block is entered, by one comparison of icount with cpu->limit.
 *
 * vCPU thread.  No lock is held while guest memory is accessed.
 */
#include "cpu.h"

/* Instructions between two looks at the clock. */
#define LIMIT_STEP 8192

G_STATIC_ASSERT(G_BYTE_ORDER == G_LITTLE_ENDIAN); /* loads and stores are the host's */

/* What made the engine stop before a block.  True: leave with *exit. */
static bool attend(CPUState *cpu, CpuExit *exit)
{
    /* Whoever sets limit to 0 has set the reason before, so it is seen below or next time. */
    __atomic_store_n(&cpu->limit, cpu->icount + LIMIT_STEP, __ATOMIC_SEQ_CST);
    if (__atomic_exchange_n(&cpu->kicked, 0, __ATOMIC_SEQ_CST)) {
        *exit = CPU_EXIT_KICKED;
        return true;
    }
    rv64_blocks_drop_stale(cpu);
    rv64_timer_update(cpu);
    if (unlikely(cpu->stepping)) {
        *exit = CPU_EXIT_DEBUG;
        return rv64_debug_step_done(cpu);
    }
    rv64_take_interrupt(cpu);
    return false;
}

/* False: an illegal instruction. */
static bool wait_for_interrupt(CPUState *cpu)
{
    if (cpu->priv == PRIV_U || (cpu->priv == PRIV_S && (cpu->mstatus & MSTATUS_TW))) {
        return false;
    }
    rv64_timer_update(cpu);
    /* Priv, WFI: may be a no-op, which a step of a debugger needs */
    cpu->halted = !cpu->stepping && !(rv64_mip(cpu) & cpu->mie);
    return true;
}

static bool sfence_vma(CPUState *cpu, const Op *op)
{
    if (cpu->priv == PRIV_U || (cpu->priv == PRIV_S && (cpu->mstatus & MSTATUS_TVM))) {
        return false;
    }
    if (op->rs1) {
        rv64_tlb_flush_page(cpu, cpu->x[op->rs1]);
    } else {
        rv64_tlb_flush(cpu);
    }
    return true;
}

static bool csr_insn(CPUState *cpu, const Op *op)
{
    uint32_t raw = (uint32_t)op->imm;
    CsrOp kind = raw >> 12 & 3;
    uint64_t operand = raw >> 14 & 1 ? op->rs1 : cpu->x[op->rs1], old;

    if (!rv64_csr(cpu, raw >> 20, kind, operand, kind == CSR_WRITE || op->rs1 != 0, &old)) {
        return false;
    }
    cpu->x[op->rd] = old;
    return true;
}

/* The bits of the instruction at cpu->pc, for mtval. */
static uint64_t refetch(CPUState *cpu)
{
    uint64_t paddr, off = cpu->pc & ~RV64_PAGE_MASK;
    const uint8_t *page;
    uint32_t raw;
    bool whole;

    if (!rv64_fetch_page(cpu, cpu->pc, &paddr, &page, &whole)) {
        return 0;
    }
    raw = page[off] | page[off + 1] << 8;
    if ((raw & 3) == 3) {
        off = (cpu->pc + 2) & ~RV64_PAGE_MASK;
        if (off == 0 && !rv64_fetch_page(cpu, cpu->pc + 2, &paddr, &page, &whole)) {
            return 0;
        }
        raw |= (uint32_t)(page[off] | page[off + 1] << 8) << 16;
    }
    return raw;
}

static unsigned retired_before(const Block *b, unsigned off)
{
    unsigned n = __builtin_popcountll(b->starts[0] & (off >= 64 ? ~UINT64_C(0) :
                                                      (UINT64_C(1) << off) - 1));

    return off <= 64 ? n : n + __builtin_popcountll(b->starts[1] &
                                                    ((UINT64_C(1) << (off - 64)) - 1));
}

static uint64_t div_signed(int64_t a, int64_t b)
{
    return b == 0 ? UINT64_MAX : b == -1 ? -(uint64_t)a : (uint64_t)(a / b);
}

static uint64_t rem_signed(int64_t a, int64_t b)
{
    return b == 0 ? (uint64_t)a : b == -1 ? 0 : (uint64_t)(a % b);
}

static uint64_t orc_b(uint64_t v)
{
    v |= v >> 1 & UINT64_C(0x7f7f7f7f7f7f7f7f);
    v |= v >> 2 & UINT64_C(0x3f3f3f3f3f3f3f3f);
    v |= v >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (v & UINT64_C(0x0101010101010101)) * 0xff;
}

#define SEXT32(v) ((uint64_t)(int64_t)(int32_t)(uint32_t)(v))
#define RD x[op->rd]
#define R1 x[op->rs1]
#define R2 x[op->rs2]
#define IMM ((uint64_t)(int64_t)op->imm)
#define HERE (pc + 2u * op->off)

#define NEXT()                                                                               \
    do {                                                                                     \
        op++;                                                                                \
        goto *op->handler;                                                                   \
    } while (0)

#define ENTER()                                                                              \
    do {                                                                                     \
        icount += b->insns;                                                                  \
        if (unlikely(icount >= __atomic_load_n(&cpu->limit, __ATOMIC_RELAXED))) {            \
            goto attention;                                                                  \
        }                                                                                    \
        op = b->ops;                                                                         \
        goto *op->handler;                                                                   \
    } while (0)

/* Leaves through the link behind op; pc is the target. */
#define FOLLOW()                                                                             \
    do {                                                                                     \
        link = (Link *)(op + 1);                                                             \
        if (unlikely(!link->block)) {                                                        \
            goto resolve;                                                                    \
        }                                                                                    \
        b = link->block;                                                                     \
        ENTER();                                                                             \
    } while (0)

#define ALU(name, expr)                                                                      \
    L_##name : RD = (expr);                                                                  \
    NEXT();

#define BRANCH(name, cond)                                                                   \
    L_##name : if (cond)                                                                     \
    {                                                                                        \
        icount -= op->rd;                                                                    \
        pc += IMM;                                                                           \
        FOLLOW();                                                                            \
    }                                                                                        \
    op += 2;                                                                                 \
    goto *op->handler;

#define TLB_ENTRY(va) (&cpu->dtlb[((va) >> RV64_PAGE_BITS) & (TLB_SIZE - 1)])
#define TLB_TAG(va, type) ((va) & (RV64_PAGE_MASK | (sizeof(type) - 1)))

#define LOAD(name, utype, stype)                                                             \
    L_##name : addr = R1 + IMM;                                                              \
    entry = TLB_ENTRY(addr);                                                                 \
    if (likely(entry->read_tag == TLB_TAG(addr, utype))) {                                   \
        RD = (uint64_t)(int64_t)(stype)__atomic_load_n((utype *)(addr + entry->addend),      \
                                                       __ATOMIC_RELAXED);                    \
    } else if (rv64_load(cpu, addr, sizeof(utype), &value)) {                                \
        RD = (uint64_t)(int64_t)(stype)value;                                                \
    } else {                                                                                 \
        goto fault;                                                                          \
    }                                                                                        \
    NEXT();

#define LOAD_PC(name, utype, stype)                                                          \
    L_##name : addr = pc + IMM;                                                              \
    entry = TLB_ENTRY(addr);                                                                 \
    if (likely(entry->read_tag == TLB_TAG(addr, utype))) {                                   \
        RD = (uint64_t)(int64_t)(stype)__atomic_load_n((utype *)(addr + entry->addend),      \
                                                       __ATOMIC_RELAXED);                    \
    } else {                                                                                 \
        RD = addr - (uint64_t)((int8_t)op->rs2 * 256 + op->rs1);                             \
        if (!rv64_load(cpu, addr, sizeof(utype), &value)) {                                  \
            goto fault;                                                                      \
        }                                                                                    \
        RD = (uint64_t)(int64_t)(stype)value;                                                \
    }                                                                                        \
    NEXT();

#define STORE(name, type)                                                                    \
    L_##name : addr = R1 + IMM;                                                              \
    entry = TLB_ENTRY(addr);                                                                 \
    if (likely(entry->write_tag == TLB_TAG(addr, type))) {                                   \
        __atomic_store_n((type *)(addr + entry->addend), (type)R2, __ATOMIC_RELAXED);        \
    } else if (!rv64_store(cpu, addr, sizeof(type), R2)) {                                   \
        goto fault;                                                                          \
    }                                                                                        \
    NEXT();

#define FP_LOAD(name, size, boxed)                                                           \
    L_##name : if (!(cpu->mstatus & MSTATUS_FS))                                             \
    {                                                                                        \
        goto illegal;                                                                        \
    }                                                                                        \
    if (!rv64_load(cpu, R1 + IMM, size, &value)) {                                           \
        goto fault;                                                                          \
    }                                                                                        \
    cpu->f[op->rd] = (boxed);                                                                \
    cpu->mstatus |= MSTATUS_FS;                                                              \
    NEXT();

#define FP_STORE(name, size)                                                                 \
    L_##name : if (!(cpu->mstatus & MSTATUS_FS))                                             \
    {                                                                                        \
        goto illegal;                                                                        \
    }                                                                                        \
    if (!rv64_store(cpu, R1 + IMM, size, cpu->f[op->rs2])) {                                 \
        goto fault;                                                                          \
    }                                                                                        \
    NEXT();

/* clang-format off */
CpuExit rv64_exec(CPUState *cpu, const void *const **handlers)
{
    static const void *const table[OP_COUNT] = {
#define HANDLER(name) &&L_##name,
        RV64_OPS(HANDLER)
#undef HANDLER
    };
    uint64_t *x, pc, icount, addr, value;
    const Op *op;
    Block *b;
    Link *link;
    TlbEntry *entry;
    JumpEntry *jump;
    CpuExit reason;

    if (!cpu) {
        *handlers = table;
        return CPU_EXIT_KICKED;
    }
    x = cpu->x;
    if (attend(cpu, &reason)) {
        return reason;
    }
    pc = cpu->pc;
    icount = cpu->icount;

lookup:
    jump = &cpu->blocks.jumps[(pc >> 1) % JUMP_CACHE_SIZE];
    if (likely(jump->pc == pc && jump->context == cpu->context)) {
        b = (Block *)(cpu->blocks.arena + jump->offset);
        ENTER();
    }
    b = rv64_blocks_find(cpu, pc);
    if (b) {
        ENTER();
    }
    cpu->pc = pc;
    goto trap;

resolve: /* link is empty; pc its target */
    {
        uint64_t epoch = cpu->blocks.epoch;

        jump = &cpu->blocks.jumps[(pc >> 1) % JUMP_CACHE_SIZE];
        if (likely(jump->pc == pc && jump->context == cpu->context)) {
            b = (Block *)(cpu->blocks.arena + jump->offset);
        } else {
            b = rv64_blocks_find(cpu, pc);
        }
        if (unlikely(!b)) {
            cpu->pc = pc;
            goto trap;
        }
        if (link->linkable && epoch == cpu->blocks.epoch && b != cpu->blocks.straddle) {
            link->block = b;
        }
        ENTER();
    }

attention: /* before entering b */
    icount -= b->insns;
    cpu->pc = pc;
    cpu->icount = icount;
    if (attend(cpu, &reason)) {
        return reason;
    }
    pc = cpu->pc;
    goto lookup;

illegal:
    cpu->pc = HERE;
    rv64_raise(cpu, EXC_ILLEGAL, refetch(cpu));
fault: /* op has raised an exception */
    icount -= b->insns - retired_before(b, op->off);
    cpu->pc = HERE;
trap:
    cpu->icount = icount;
    if (unlikely(cpu->exc_cause == EXC_DEBUG)) {
        return CPU_EXIT_DEBUG;
    }
    rv64_trap(cpu, cpu->exc_cause, cpu->exc_tval);
    /* A handler that cannot be fetched traps again without ever entering a block. */
    if (unlikely(icount >= __atomic_load_n(&cpu->limit, __ATOMIC_RELAXED)) &&
        attend(cpu, &reason)) {
        return reason;
    }
    pc = cpu->pc;
    goto lookup;

    ALU(LI, IMM)
    ALU(AUIPC, pc + IMM)
    ALU(MV, R1)
    ALU(ADDI, R1 + IMM)
    ALU(SLTI, (int64_t)R1 < op->imm)
    ALU(SLTIU, R1 < IMM)
    ALU(XORI, R1 ^ IMM)
    ALU(ORI, R1 | IMM)
    ALU(ANDI, R1 & IMM)
    ALU(SLLI, R1 << op->imm)
    ALU(SRLI, R1 >> op->imm)
    ALU(SRAI, (uint64_t)((int64_t)R1 >> op->imm))
    ALU(ADDIW, SEXT32(R1 + IMM))
    ALU(SLLIW, SEXT32((uint32_t)R1 << op->imm))
    ALU(SRLIW, SEXT32((uint32_t)R1 >> op->imm))
    ALU(SRAIW, (uint64_t)(int64_t)((int32_t)R1 >> op->imm))
    ALU(ADD, R1 + R2)
    ALU(SUB, R1 - R2)
    ALU(SLL, R1 << (R2 & 63))
    ALU(SLT, (int64_t)R1 < (int64_t)R2)
    ALU(SLTU, R1 < R2)
    ALU(XOR, R1 ^ R2)
    ALU(SRL, R1 >> (R2 & 63))
    ALU(SRA, (uint64_t)((int64_t)R1 >> (R2 & 63)))
    ALU(OR, R1 | R2)
    ALU(AND, R1 & R2)
    ALU(ADDW, SEXT32(R1 + R2))
    ALU(SUBW, SEXT32(R1 - R2))
    ALU(SLLW, SEXT32((uint32_t)R1 << (R2 & 31)))
    ALU(SRLW, SEXT32((uint32_t)R1 >> (R2 & 31)))
    ALU(SRAW, (uint64_t)(int64_t)((int32_t)R1 >> (R2 & 31)))
    ALU(MUL, R1 * R2)
    ALU(MULH, (uint64_t)(((__int128)(int64_t)R1 * (int64_t)R2) >> 64))
    ALU(MULHSU, (uint64_t)(((__int128)(int64_t)R1 * (unsigned __int128)R2) >> 64))
    ALU(MULHU, (uint64_t)(((unsigned __int128)R1 * R2) >> 64))
    ALU(DIV, div_signed((int64_t)R1, (int64_t)R2))
    ALU(DIVU, R2 ? R1 / R2 : UINT64_MAX)
    ALU(REM, rem_signed((int64_t)R1, (int64_t)R2))
    ALU(REMU, R2 ? R1 % R2 : R1)
    ALU(MULW, SEXT32(R1 * R2))
    ALU(DIVW, SEXT32(div_signed((int32_t)R1, (int32_t)R2)))
    ALU(DIVUW, (uint32_t)R2 ? SEXT32((uint32_t)R1 / (uint32_t)R2) : UINT64_MAX)
    ALU(REMW, SEXT32(rem_signed((int32_t)R1, (int32_t)R2)))
    ALU(REMUW, SEXT32((uint32_t)R2 ? (uint32_t)R1 % (uint32_t)R2 : (uint32_t)R1))

    ALU(ADD_UW, (uint64_t)(uint32_t)R1 + R2)
    ALU(SH1ADD, (R1 << 1) + R2)
    ALU(SH2ADD, (R1 << 2) + R2)
    ALU(SH3ADD, (R1 << 3) + R2)
    ALU(SH1ADD_UW, ((uint64_t)(uint32_t)R1 << 1) + R2)
    ALU(SH2ADD_UW, ((uint64_t)(uint32_t)R1 << 2) + R2)
    ALU(SH3ADD_UW, ((uint64_t)(uint32_t)R1 << 3) + R2)
    ALU(SLLI_UW, (uint64_t)(uint32_t)R1 << op->imm)
    ALU(ANDN, R1 & ~R2)
    ALU(ORN, R1 | ~R2)
    ALU(XNOR, ~(R1 ^ R2))
    ALU(CLZ, R1 ? (unsigned)__builtin_clzll(R1) : 64)
    ALU(CTZ, R1 ? (unsigned)__builtin_ctzll(R1) : 64)
    ALU(CPOP, (unsigned)__builtin_popcountll(R1))
    ALU(CLZW, (uint32_t)R1 ? (unsigned)__builtin_clz((uint32_t)R1) : 32)
    ALU(CTZW, (uint32_t)R1 ? (unsigned)__builtin_ctz((uint32_t)R1) : 32)
    ALU(CPOPW, (unsigned)__builtin_popcount((uint32_t)R1))
    ALU(MAX, (int64_t)R1 > (int64_t)R2 ? R1 : R2)
    ALU(MAXU, R1 > R2 ? R1 : R2)
    ALU(MIN, (int64_t)R1 < (int64_t)R2 ? R1 : R2)
    ALU(MINU, R1 < R2 ? R1 : R2)
    ALU(SEXT_B, (uint64_t)(int64_t)(int8_t)R1)
    ALU(SEXT_H, (uint64_t)(int64_t)(int16_t)R1)
    ALU(ZEXT_H, (uint16_t)R1)
    ALU(ROL, R1 << (R2 & 63) | R1 >> (-R2 & 63))
    ALU(ROR, R1 >> (R2 & 63) | R1 << (-R2 & 63))
    ALU(RORI, R1 >> op->imm | R1 << (-op->imm & 63))
    ALU(ROLW, SEXT32((uint32_t)R1 << (R2 & 31) | (uint32_t)R1 >> (-R2 & 31)))
    ALU(RORW, SEXT32((uint32_t)R1 >> (R2 & 31) | (uint32_t)R1 << (-R2 & 31)))
    ALU(RORIW, SEXT32((uint32_t)R1 >> op->imm | (uint32_t)R1 << (-op->imm & 31)))
    ALU(ORC_B, orc_b(R1))
    ALU(REV8, __builtin_bswap64(R1))
    ALU(BCLR, R1 & ~(UINT64_C(1) << (R2 & 63)))
    ALU(BCLRI, R1 & ~(UINT64_C(1) << op->imm))
    ALU(BEXT, R1 >> (R2 & 63) & 1)
    ALU(BEXTI, R1 >> op->imm & 1)
    ALU(BINV, R1 ^ (UINT64_C(1) << (R2 & 63)))
    ALU(BINVI, R1 ^ (UINT64_C(1) << op->imm))
    ALU(BSET, R1 | (UINT64_C(1) << (R2 & 63)))
    ALU(BSETI, R1 | (UINT64_C(1) << op->imm))

    BRANCH(BEQ, R1 == R2)
    BRANCH(BNE, R1 != R2)
    BRANCH(BLT, (int64_t)R1 < (int64_t)R2)
    BRANCH(BGE, (int64_t)R1 >= (int64_t)R2)
    BRANCH(BLTU, R1 < R2)
    BRANCH(BGEU, R1 >= R2)
    BRANCH(BEQZ, R1 == 0)
    BRANCH(BNEZ, R1 != 0)

    LOAD(LB, uint8_t, int8_t)
    LOAD(LH, uint16_t, int16_t)
    LOAD(LW, uint32_t, int32_t)
    LOAD(LD, uint64_t, uint64_t)
    LOAD(LBU, uint8_t, uint8_t)
    LOAD(LHU, uint16_t, uint16_t)
    LOAD(LWU, uint32_t, uint32_t)
    LOAD_PC(LD_PC, uint64_t, uint64_t)
    LOAD_PC(LW_PC, uint32_t, int32_t)
    LOAD_PC(LWU_PC, uint32_t, uint32_t)
    LOAD_PC(LBU_PC, uint8_t, uint8_t)
    STORE(SB, uint8_t)
    STORE(SH, uint16_t)
    STORE(SW, uint32_t)
    STORE(SD, uint64_t)

    FP_LOAD(FLW, 4, value | UINT64_C(0xffffffff00000000))
    FP_LOAD(FLD, 8, value)
    FP_STORE(FSW, 4)
    FP_STORE(FSD, 8)
L_FP:
    if (unlikely(!(cpu->mstatus & MSTATUS_FS) || !rv64_fp(cpu, (uint32_t)op->imm))) {
        goto illegal;
    }
    NEXT();
L_AMO:
    if (unlikely(!rv64_amo(cpu, op))) {
        goto fault;
    }
    NEXT();

L_JAL:
L_CALL:
    RD = HERE + op->rs2;
L_J:
    pc += IMM;
    FOLLOW();
L_JALR:
    addr = (R1 + IMM) & ~UINT64_C(1);
    RD = HERE + op->rs2;
    pc = addr;
    jump = &cpu->blocks.jumps[(pc >> 1) % JUMP_CACHE_SIZE];
    if (likely(jump->pc == pc && jump->context == cpu->context)) {
        b = (Block *)(cpu->blocks.arena + jump->offset);
        ENTER();
    }
    goto lookup;
L_END:
    pc += IMM;
    FOLLOW();
L_END_LOOKUP:
    pc += IMM;
    goto lookup;

L_FENCE:
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    NEXT();
L_FENCE_LIGHT:
    __atomic_thread_fence(__ATOMIC_ACQ_REL);
    NEXT();
L_FENCE_I:
    pc = HERE + 4;
    rv64_blocks_drop_stale(cpu);
    goto lookup;
L_CSR:
    cpu->icount = icount - op->rs2 - 1;
    if (unlikely(!csr_insn(cpu, op))) {
        goto illegal;
    }
    NEXT();
L_SFENCE_VMA:
    if (!sfence_vma(cpu, op)) {
        goto illegal;
    }
    pc = HERE + 4;
    goto lookup;
L_ECALL:
    rv64_raise(cpu, EXC_ECALL_U + cpu->priv, 0);
    goto fault;
L_EBREAK:
    rv64_raise(cpu, EXC_BREAKPOINT, HERE);
    goto fault;
L_MRET:
    if (!rv64_mret(cpu)) {
        goto illegal;
    }
    pc = cpu->pc;
    goto lookup;
L_SRET:
    if (!rv64_sret(cpu)) {
        goto illegal;
    }
    pc = cpu->pc;
    goto lookup;
L_WFI:
    if (!wait_for_interrupt(cpu)) {
        goto illegal;
    }
    pc = HERE + 4;
    if (cpu->halted) {
        cpu->pc = pc;
        cpu->icount = icount;
        return CPU_EXIT_HALTED;
    }
    goto lookup;
L_BREAK:
    addr = icount - (b->insns - retired_before(b, op->off));
    if (rv64_debug_break(cpu, HERE, addr)) {
        cpu->pc = HERE;
        cpu->icount = addr;
        return CPU_EXIT_DEBUG;
    }
    NEXT();
L_ILLEGAL:
    rv64_raise(cpu, EXC_ILLEGAL, (uint32_t)op->imm);
    goto fault;
}
/* clang-format on */
