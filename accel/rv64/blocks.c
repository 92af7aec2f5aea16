/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoded basic blocks, cached by physical address and so independent of privilege and
 * page tables.  A block lies in one page, goes on past conditional branches that are not
 * taken and ends with a jump, with an instruction that may change what comes next, or
 * after BLOCK_MAX_INSNS.
 *
 * A page with blocks is marked in code_map.  Who writes to it - the guest's own stores,
 * which the TLB sends the slow way, or a device through address_space_dirtied() - marks it
 * in stale_map and asks the vCPU for attention; the vCPU throws the page's blocks away
 * before it enters the next block.  So stores are seen even without fence.i.
 *
 * Memory: one arena, emptied as a whole when it is full.  All but rv64_blocks_dirtied() is
 * for the vCPU thread.
 */
#include <string.h>
#include <sys/mman.h>

#include "cpu.h"

/* Enough for a block's ops with a link and a BREAK each, and an end. */
#define MAX_OPS (3 * BLOCK_MAX_INSNS + 2)

typedef struct Builder {
    CPUState *cpu;
    const void *const *handlers;
    Op ops[MAX_OPS];
    unsigned count;        /* ops */
    unsigned insns;
    unsigned bytes;
    uint64_t starts[2];
    uint64_t paddr;
    bool single;           /* one instruction, no links */
    int last;              /* the previous op if it may be fused with the next, or -1 */
    uint16_t last_op;
} Builder;

static uint32_t map_bit(uint64_t paddr)
{
    return (paddr >> RV64_PAGE_BITS) & (CODE_MAP_BITS - 1);
}

static unsigned block_slot(uint64_t paddr)
{
    return ((paddr >> 1) ^ (paddr >> 17)) & (BLOCK_HASH_SIZE - 1);
}

static unsigned page_slot(uint64_t ppn)
{
    return ppn & (PAGE_HASH_SIZE - 1);
}

void rv64_blocks_init(CPUState *cpu)
{
    BlockCache *c = &cpu->blocks;

    c->arena = mmap(NULL, BLOCK_ARENA_SIZE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->arena == MAP_FAILED) {
        g_error("Could not reserve memory for decoded blocks");
    }
    madvise(c->arena, BLOCK_ARENA_SIZE, MADV_HUGEPAGE);
    c->hash = g_new0(Block *, BLOCK_HASH_SIZE);
    c->pages = g_new0(CodePage *, PAGE_HASH_SIZE);
    c->jumps = g_new0(JumpEntry, JUMP_CACHE_SIZE);
    c->straddle = g_malloc0(sizeof(Block) + MAX_OPS * sizeof(Op));
    c->code_map = g_new0(uint64_t, CODE_MAP_WORDS);
    c->stale_map = g_new0(uint64_t, CODE_MAP_WORDS);
}

void rv64_blocks_free(CPUState *cpu)
{
    BlockCache *c = &cpu->blocks;

    munmap(c->arena, BLOCK_ARENA_SIZE);
    for (unsigned i = 0; i < PAGE_HASH_SIZE; i++) {
        for (CodePage *p = c->pages[i], *next; p; p = next) {
            next = p->next;
            g_free(p);
        }
    }
    g_free(c->hash);
    g_free(c->pages);
    g_free(c->jumps);
    g_free(c->straddle);
    g_free(c->code_map);
    g_free(c->stale_map);
}

void rv64_blocks_flush(CPUState *cpu)
{
    BlockCache *c = &cpu->blocks;

    for (unsigned i = 0; i < PAGE_HASH_SIZE; i++) {
        for (CodePage *p = c->pages[i], *next; p; p = next) {
            uint32_t bit = map_bit(p->ppn << RV64_PAGE_BITS);

            next = p->next;
            __atomic_store_n(&c->code_map[bit / 64], 0, __ATOMIC_SEQ_CST);
            g_free(p);
        }
        c->pages[i] = NULL;
    }
    memset(c->hash, 0, BLOCK_HASH_SIZE * sizeof(*c->hash));
    memset(c->jumps, 0, JUMP_CACHE_SIZE * sizeof(*c->jumps));
    c->used = 0;
    c->epoch++;
}

bool rv64_blocks_has_code(CPUState *cpu, uint64_t paddr)
{
    uint32_t bit = map_bit(paddr);

    return __atomic_load_n(&cpu->blocks.code_map[bit / 64], __ATOMIC_RELAXED) >> (bit % 64) & 1;
}

/* Any thread. */
static void mark_stale(CPUState *cpu, uint32_t bit)
{
    BlockCache *c = &cpu->blocks;
    uint32_t word = bit / 64;

    __atomic_fetch_or(&c->stale_map[word], UINT64_C(1) << (bit % 64), __ATOMIC_SEQ_CST);
    __atomic_fetch_or(&c->stale_summary[word / 64], UINT64_C(1) << (word % 64),
                      __ATOMIC_SEQ_CST);
    __atomic_store_n(&c->stale, 1, __ATOMIC_SEQ_CST);
    rv64_attention(cpu);
}

void rv64_blocks_dirtied(void *opaque, uint64_t addr, uint64_t len)
{
    CPUState *cpu = opaque;
    uint64_t first = addr >> RV64_PAGE_BITS, last;

    if (len == 0) {
        return;
    }
    last = (addr + len - 1) >> RV64_PAGE_BITS;
    /* Pairs with the fence in new_page(): the decoder sees the write, or we see its mark. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (last - first >= CODE_MAP_BITS) {
        last = first + CODE_MAP_BITS - 1;
    }
    for (uint64_t ppn = first; ppn <= last; ppn++) {
        if (rv64_blocks_has_code(cpu, ppn << RV64_PAGE_BITS)) {
            mark_stale(cpu, map_bit(ppn << RV64_PAGE_BITS));
        }
    }
}

static CodePage *find_page(CPUState *cpu, uint64_t ppn)
{
    CodePage *p = cpu->blocks.pages[page_slot(ppn)];

    while (p && p->ppn != ppn) {
        p = p->next;
    }
    return p;
}

void rv64_blocks_written(CPUState *cpu, uint64_t paddr, uint64_t len)
{
    uint64_t ppn = paddr >> RV64_PAGE_BITS, mask;
    CodePage *p = find_page(cpu, ppn);
    unsigned first = (paddr >> 6) & 63, last = ((paddr + len - 1) >> 6) & 63;

    mask = (~UINT64_C(0) << first) & (~UINT64_C(0) >> (63 - last));
    if (p && (p->lines & mask)) {
        mark_stale(cpu, map_bit(paddr));
    }
}

static void unhash(CPUState *cpu, Block *b)
{
    Block **p = &cpu->blocks.hash[block_slot(b->paddr)];

    while (*p != b) {
        p = &(*p)->hash_next;
    }
    *p = b->hash_next;
}

/* The blocks of all pages that share this bit. */
static void drop_pages(CPUState *cpu, uint32_t bit)
{
    CodePage **pp = &cpu->blocks.pages[page_slot(bit)];

    while (*pp) {
        CodePage *p = *pp;

        if (map_bit(p->ppn << RV64_PAGE_BITS) != bit) {
            pp = &p->next;
            continue;
        }
        for (Block *b = p->blocks; b; b = b->page_next) {
            unhash(cpu, b);
        }
        *pp = p->next;
        g_free(p);
    }
    __atomic_fetch_and(&cpu->blocks.code_map[bit / 64], ~(UINT64_C(1) << (bit % 64)),
                       __ATOMIC_SEQ_CST);
}

void rv64_blocks_drop_stale(CPUState *cpu)
{
    BlockCache *c = &cpu->blocks;

    if (!__atomic_load_n(&c->stale, __ATOMIC_SEQ_CST) ||
        !__atomic_exchange_n(&c->stale, 0, __ATOMIC_SEQ_CST)) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(c->stale_summary); i++) {
        uint64_t words = __atomic_load_n(&c->stale_summary[i], __ATOMIC_RELAXED);

        if (!words) {
            continue;
        }
        words = __atomic_exchange_n(&c->stale_summary[i], 0, __ATOMIC_SEQ_CST);
        for (; words; words &= words - 1) {
            unsigned word = i * 64 + __builtin_ctzll(words);
            uint64_t pages = __atomic_exchange_n(&c->stale_map[word], 0, __ATOMIC_SEQ_CST);

            for (; pages; pages &= pages - 1) {
                drop_pages(cpu, word * 64 + __builtin_ctzll(pages));
            }
        }
    }
    /* Links lead to blocks of the same page only, so what is left are the jump targets. */
    memset(c->jumps, 0, JUMP_CACHE_SIZE * sizeof(*c->jumps));
    c->epoch++;
}

/* Must come before the page is read: see rv64_blocks_dirtied(). */
static CodePage *new_page(CPUState *cpu, uint64_t ppn)
{
    BlockCache *c = &cpu->blocks;
    CodePage *p = g_new0(CodePage, 1);
    uint32_t bit = map_bit(ppn << RV64_PAGE_BITS);

    p->ppn = ppn;
    p->next = c->pages[page_slot(ppn)];
    c->pages[page_slot(ppn)] = p;
    __atomic_fetch_or(&c->code_map[bit / 64], UINT64_C(1) << (bit % 64), __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    rv64_tlb_protect_code(cpu, ppn << RV64_PAGE_BITS);
    return p;
}

static Op *emit(Builder *b, RvOp op, unsigned rd, unsigned rs1, unsigned rs2, int32_t imm)
{
    Op *o = &b->ops[b->count++];

    *o = (Op){.handler = b->handlers[op], .rd = rd, .rs1 = rs1, .rs2 = rs2,
              .off = b->bytes / 2, .imm = imm};
    return o;
}

/* The target is relative to the start of the block. */
static void emit_link(Builder *b, int32_t target, int32_t aux)
{
    int64_t offset = (int64_t)(b->paddr & ~RV64_PAGE_MASK) + target;
    Link *l = (Link *)&b->ops[b->count++];

    *l = (Link){.aux = aux,
                .linkable = !b->single && offset >= 0 && offset < (int64_t)RV64_PAGE_SIZE};
}

/* lui or auipc and what uses it: one op.  True if done. */
static bool fuse(Builder *b, const Insn *i)
{
    Op *prev = &b->ops[b->last];
    int32_t sum;

    if (i->rs1 != prev->rd || __builtin_add_overflow(prev->imm, i->imm, &sum)) {
        return false;
    }
    if (i->op == OP_ADDI && i->rd == prev->rd) {
        prev->imm = sum;
        return true;
    }
    if (b->last_op == OP_LI) {
        if (i->op == OP_ADDIW && i->rd == prev->rd) {
            prev->imm = sum;
            return true;
        }
        return false;
    }
    if (i->op == OP_JALR && i->rd == prev->rd) {
        *prev = (Op){.handler = b->handlers[OP_CALL], .rd = i->rd, .off = b->bytes / 2,
                     .rs2 = i->len, .imm = sum & ~1};
        emit_link(b, prev->imm, 0);
        return true;
    }
    if (i->rd == prev->rd) {
        RvOp op = i->op == OP_LD ? OP_LD_PC : i->op == OP_LW ? OP_LW_PC :
                  i->op == OP_LWU ? OP_LWU_PC : i->op == OP_LBU ? OP_LBU_PC : OP_COUNT;

        if (op != OP_COUNT) {
            /* rs2:rs1 is the load's own offset: if it faults, auipc has been executed. */
            *prev = (Op){.handler = b->handlers[op], .rd = i->rd, .off = b->bytes / 2,
                         .rs1 = (uint8_t)i->imm, .rs2 = (uint8_t)(i->imm >> 8), .imm = sum};
            return true;
        }
    }
    return false;
}

/* Registers whose change has no effect on fetching, translation or interrupts. */
static bool csr_is_plain(uint32_t raw)
{
    switch (raw >> 20) {
    case 0x001: case 0x002: case 0x003: /* floating point */
    case 0x105: case 0x140: case 0x141: case 0x142: case 0x143:
    case 0x305: case 0x340: case 0x341: case 0x342: case 0x343:
        return true;
    }
    /* csrrs and csrrc with x0 only read */
    return (raw >> 12 & 2) && ((raw >> 15) & 31) == 0;
}

/* satp, PMP and menvcfg: the next instruction must be looked up again. */
static bool csr_moves_code(uint32_t raw)
{
    unsigned csr = raw >> 20;

    return csr == 0x180 || (csr >= 0x3a0 && csr <= 0x3ef);
}

/* Adds one instruction.  True if it ends the block. */
static bool add_insn(Builder *b, const Insn *i)
{
    int32_t target = i->op == OP_AUIPC || i->op == OP_JAL || i->op == OP_J ||
                             (i->op > OP_LAST_ALU && i->op <= OP_LAST_BRANCH)
                         ? (int32_t)b->bytes + i->imm : 0;
    Op *o;

    if (b->last >= 0 && fuse(b, i)) {
        b->last = -1;
        return i->op == OP_JALR;
    }
    b->last = -1;
    if (i->op <= OP_LAST_ALU) {
        if (i->rd != RV64_REG_SINK) {
            b->last = i->op == OP_LI || i->op == OP_AUIPC ? (int)b->count : -1;
            b->last_op = i->op;
            /* auipc's immediate ends in 12 zero bits, so adding off cannot overflow. */
            emit(b, i->op, i->rd, i->rs1, i->rs2, i->op == OP_AUIPC ? target : i->imm);
        }
        return false;
    }
    if (i->op <= OP_LAST_BRANCH) {
        /* rd: how many instructions of the block are left after this one; see finish() */
        emit(b, i->op, b->insns, i->rs1, i->rs2, target);
        emit_link(b, target, 0);
        return false;
    }
    switch (i->op) {
    case OP_JAL:
    case OP_J:
        emit(b, i->op, i->rd, 0, i->rs2, target);
        emit_link(b, target, 0);
        return true;
    case OP_CSR:
        o = emit(b, OP_CSR, i->rd, i->rs1, b->insns, i->imm);
        if (csr_is_plain((uint32_t)o->imm)) {
            return false;
        }
        b->bytes += i->len; /* the end's place is behind it */
        if (csr_moves_code((uint32_t)o->imm)) {
            emit(b, OP_END_LOOKUP, 0, 0, 0, b->bytes);
        } else {
            emit(b, OP_END, 0, 0, 0, b->bytes);
            emit_link(b, b->bytes, 0);
        }
        b->bytes -= i->len;
        return true;
    case OP_JALR:
    case OP_ECALL:
    case OP_EBREAK:
    case OP_MRET:
    case OP_SRET:
    case OP_WFI:
    case OP_SFENCE_VMA:
    case OP_FENCE_I:
    case OP_ILLEGAL:
        emit(b, i->op, i->rd, i->rs1, i->rs2, i->imm);
        return true;
    default:
        emit(b, i->op, i->rd, i->rs1, i->rs2, i->imm);
        return false;
    }
}

/* Returns whether the block has its end. */
static bool add_raw(Builder *b, uint32_t raw)
{
    Insn insn;
    bool end;

    rv64_decode(raw, &insn);
    if (unlikely(b->cpu->breaking) && !b->cpu->stepping &&
        rv64_debug_breaks_at(b->cpu, (b->paddr + b->bytes) & ~RV64_PAGE_MASK)) {
        b->last = -1;
        emit(b, OP_BREAK, 0, 0, 0, 0);
    }
    b->starts[b->bytes / 128] |= UINT64_C(1) << (b->bytes / 2 % 64);
    end = add_insn(b, &insn);
    b->insns++;
    b->bytes += insn.len;
    return end;
}

static void finish(Builder *b, bool ended, Block *out)
{
    if (!ended) {
        emit(b, OP_END, 0, 0, 0, b->bytes);
        emit_link(b, b->bytes, 0);
    }
    for (unsigned n = 0; n < b->count; n++) {
        Op *o = &b->ops[n];

        for (RvOp op = OP_LAST_ALU + 1; op <= OP_LAST_BRANCH; op++) {
            if (o->handler == b->handlers[op]) {
                o->rd = b->insns - 1 - o->rd;
            }
        }
        if (o->handler == b->handlers[OP_CSR]) {
            o->rs2 = b->insns - 1 - o->rs2;
        }
    }
    *out = (Block){.paddr = b->paddr, .starts = {b->starts[0], b->starts[1]},
                   .insns = b->insns, .bytes = b->bytes};
    memcpy(out->ops, b->ops, b->count * sizeof(Op));
}

static void builder_init(Builder *b, CPUState *cpu, uint64_t paddr, bool single)
{
    b->cpu = cpu;
    rv64_exec(NULL, &b->handlers);
    b->count = b->insns = b->bytes = 0;
    b->starts[0] = b->starts[1] = 0;
    b->paddr = paddr;
    b->single = single;
    b->last = -1;
}

static uint16_t fetch16(const uint8_t *p)
{
    return GUINT16_FROM_LE(__atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED));
}

/* page: the bytes of the page that holds paddr. */
static Block *build(CPUState *cpu, uint64_t paddr, const uint8_t *page)
{
    BlockCache *c = &cpu->blocks;
    unsigned offset = paddr & ~RV64_PAGE_MASK, slot = block_slot(paddr);
    CodePage *cp = find_page(cpu, paddr >> RV64_PAGE_BITS);
    bool ended = false;
    Builder b;
    Block *block;
    size_t size;

    if (c->used + sizeof(Block) + MAX_OPS * sizeof(Op) > BLOCK_ARENA_SIZE) {
        rv64_blocks_flush(cpu);
        cp = NULL;
    }
    if (!cp) {
        cp = new_page(cpu, paddr >> RV64_PAGE_BITS);
    }
    builder_init(&b, cpu, paddr, false);
    while (!ended && b.insns < BLOCK_MAX_INSNS && offset + b.bytes < RV64_PAGE_SIZE) {
        const uint8_t *p = page + offset + b.bytes;
        uint32_t raw = fetch16(p);

        if ((raw & 3) == 3) {
            if (offset + b.bytes + 4 > RV64_PAGE_SIZE) {
                break;
            }
            raw |= (uint32_t)fetch16(p + 2) << 16;
        }
        ended = add_raw(&b, raw);
    }
    block = (Block *)(c->arena + c->used);
    finish(&b, ended, block);
    size = sizeof(Block) + b.count * sizeof(Op);
    c->used += (size + 63) & ~(size_t)63;
    block->hash_next = c->hash[slot];
    c->hash[slot] = block;
    block->page_next = cp->blocks;
    cp->blocks = block;
    for (unsigned line = offset / 64; line <= (offset + b.bytes - 1) / 64; line++) {
        cp->lines |= UINT64_C(1) << line;
    }
    return block;
}

/* One instruction that crosses a page or whose page has more than one permission. */
static Block *build_single(CPUState *cpu, uint64_t pc, uint64_t paddr, const uint8_t *page)
{
    Builder b;
    uint32_t raw = fetch16(page + (pc & ~RV64_PAGE_MASK));
    uint64_t paddr2;
    const uint8_t *page2;
    bool whole;

    if ((raw & 3) == 3) {
        if (!rv64_fetch_page(cpu, pc + 2, &paddr2, &page2, &whole)) {
            return NULL;
        }
        raw |= (uint32_t)fetch16(page2 + ((pc + 2) & ~RV64_PAGE_MASK)) << 16;
    }
    builder_init(&b, cpu, paddr, true);
    finish(&b, add_raw(&b, raw), cpu->blocks.straddle);
    return cpu->blocks.straddle;
}

Block *rv64_blocks_find(CPUState *cpu, uint64_t pc)
{
    BlockCache *c = &cpu->blocks;
    unsigned offset = pc & ~RV64_PAGE_MASK;
    const uint8_t *page;
    uint64_t paddr;
    JumpEntry *j;
    Block *b;
    bool whole;

    if (unlikely(cpu->stepping) && cpu->step_fetched) {
        return c->straddle; /* behind the step: the limit keeps it from being entered */
    }
    if (!rv64_fetch_page(cpu, pc, &paddr, &page, &whole)) {
        return NULL;
    }
    paddr |= offset;
    if (unlikely(cpu->stepping)) {
        cpu->step_fetched = true;
        return build_single(cpu, pc, paddr, page);
    }
    if (!whole || (offset == RV64_PAGE_SIZE - 2 && (fetch16(page + offset) & 3) == 3)) {
        return build_single(cpu, pc, paddr, page);
    }
    for (b = c->hash[block_slot(paddr)]; b && b->paddr != paddr; b = b->hash_next) {
    }
    if (!b) {
        b = build(cpu, paddr, page);
    }
    j = &c->jumps[(pc >> 1) % JUMP_CACHE_SIZE];
    *j = (JumpEntry){
        .pc = pc, .context = cpu->context, .offset = (uint32_t)((uint8_t *)b - c->arena)};
    return b;
}
