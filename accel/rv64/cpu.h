/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the RV64GC engine share: the hart's state, the software TLB, the
 * decoded blocks.  Everything belongs to the vCPU thread unless a comment says otherwise;
 * fields that other threads touch are accessed with __atomic builtins only.
 *
 * "Unpriv" and "Priv" in comments are the RISC-V unprivileged and privileged ISA manuals.
 */
#ifndef ACCEL_RV64_CPU_H
#define ACCEL_RV64_CPU_H

#include "accel/accel.h"
#include "ops.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define RV64_PAGE_BITS 12
#define RV64_PAGE_SIZE (UINT64_C(1) << RV64_PAGE_BITS)
#define RV64_PAGE_MASK (~(RV64_PAGE_SIZE - 1))

#define RV64_PMP_ENTRIES 16
/* x[32] takes what is written to x0. */
#define RV64_REG_SINK 32

enum { PRIV_U = 0, PRIV_S = 1, PRIV_M = 3 };

/* Exception codes (Priv, mcause). */
enum {
    EXC_FETCH_MISALIGNED = 0,
    EXC_FETCH_ACCESS = 1,
    EXC_ILLEGAL = 2,
    EXC_BREAKPOINT = 3,
    EXC_LOAD_MISALIGNED = 4,
    EXC_LOAD_ACCESS = 5,
    EXC_STORE_MISALIGNED = 6,
    EXC_STORE_ACCESS = 7,
    EXC_ECALL_U = 8,
    EXC_ECALL_S = 9,
    EXC_ECALL_M = 11,
    EXC_FETCH_PAGE = 12,
    EXC_LOAD_PAGE = 13,
    EXC_STORE_PAGE = 15,
};
#define CAUSE_INTERRUPT (UINT64_C(1) << 63)
/* Not for the guest: the access at pc is one that a debugger watches (debug.c). */
#define EXC_DEBUG UINT64_MAX

#define MIP_SSIP (UINT64_C(1) << 1)
#define MIP_MSIP (UINT64_C(1) << 3)
#define MIP_STIP (UINT64_C(1) << 5)
#define MIP_MTIP (UINT64_C(1) << 7)
#define MIP_SEIP (UINT64_C(1) << 9)
#define MIP_MEIP (UINT64_C(1) << 11)
#define MIP_S_MASK (MIP_SSIP | MIP_STIP | MIP_SEIP)
#define MIP_ALL (MIP_S_MASK | MIP_MSIP | MIP_MTIP | MIP_MEIP)

#define MSTATUS_SIE (UINT64_C(1) << 1)
#define MSTATUS_MIE (UINT64_C(1) << 3)
#define MSTATUS_SPIE (UINT64_C(1) << 5)
#define MSTATUS_MPIE (UINT64_C(1) << 7)
#define MSTATUS_SPP (UINT64_C(1) << 8)
#define MSTATUS_MPP_SHIFT 11
#define MSTATUS_MPP (UINT64_C(3) << MSTATUS_MPP_SHIFT)
#define MSTATUS_FS (UINT64_C(3) << 13)
#define MSTATUS_MPRV (UINT64_C(1) << 17)
#define MSTATUS_SUM (UINT64_C(1) << 18)
#define MSTATUS_MXR (UINT64_C(1) << 19)
#define MSTATUS_TVM (UINT64_C(1) << 20)
#define MSTATUS_TW (UINT64_C(1) << 21)
#define MSTATUS_TSR (UINT64_C(1) << 22)
#define MSTATUS_UXL (UINT64_C(2) << 32)
#define MSTATUS_SXL (UINT64_C(2) << 34)
#define MSTATUS_SD (UINT64_C(1) << 63)

#define MENVCFG_FIOM (UINT64_C(1) << 0)
#define MENVCFG_STCE (UINT64_C(1) << 63)

#define SATP_MODE_SHIFT 60
#define SATP_PPN_MASK ((UINT64_C(1) << 44) - 1)
enum { SATP_BARE = 0, SATP_SV39 = 8, SATP_SV48 = 9 };

#define PTE_V 0x01
#define PTE_R 0x02
#define PTE_W 0x04
#define PTE_X 0x08
#define PTE_U 0x10
#define PTE_A 0x40
#define PTE_D 0x80
#define PTE_RESERVED (UINT64_C(0x3ff) << 54)

#define FFLAG_NX 1
#define FFLAG_UF 2
#define FFLAG_OF 4
#define FFLAG_DZ 8
#define FFLAG_NV 16

typedef enum MmuAccess { MMU_READ, MMU_WRITE, MMU_FETCH } MmuAccess;

/*
 * The software TLB, direct mapped.  A tag is the virtual page address: an access of
 * size s at va hits if (va & (PAGE_MASK | (s - 1))) equals it, so misaligned accesses
 * miss.  TLB_SLOW in a tag says that the translation is good but the access must take
 * the slow path (a device, or a store to a page with decoded code).
 */
#define TLB_BITS 9
#define TLB_SIZE (1u << TLB_BITS)
#define TLB_SLOW UINT64_C(0x800)
#define TLB_INVALID UINT64_MAX

typedef struct TlbEntry {
    uint64_t read_tag, write_tag;
    uintptr_t addend; /* host address - virtual address */
    uint64_t paddr;   /* of the page */
} TlbEntry;

/* One data TLB for each way to look at memory, so that none of these changes flushes. */
enum { MMU_U, MMU_S, MMU_S_SUM, MMU_M, MMU_MODES };

/*
 * Translations for fetching, and below the cache of jump targets, are tagged with a
 * context number.  Each privilege has its own; a flush gives out new ones.
 */
typedef struct FetchEntry {
    uint64_t vpage;
    uint64_t paddr;
    const uint8_t *host;
    uint32_t context; /* 0: empty */
} FetchEntry;
#define FETCH_SIZE 256u

/*
 * A pre-decoded instruction.  Numbers relative to the pc (branch targets, auipc) already
 * include the instruction's offset in its block.
 */
typedef struct Op {
    const void *handler;
    uint8_t rd, rs1, rs2;
    uint8_t off; /* halfwords from the start of the block */
    int32_t imm;
} Op;

typedef struct Block Block;

/* Follows an op that leaves the block for a fixed target. */
typedef struct Link {
    Block *block;   /* NULL: not yet resolved */
    int32_t aux;
    bool linkable;  /* the target is in the same page, so the link needs no check */
} Link;
G_STATIC_ASSERT(sizeof(Op) == 16 && sizeof(Link) == 16);

/*
 * Pages that were looked up in page tables, the tables too, by hash: of what is in here, or
 * in the TLB, the guest has used most a moment ago (recent.c).
 */
#define RECENT_SIZE 1024u
typedef struct RecentPage {
    uint64_t paddr;
    uint64_t icount; /* when; 0: empty */
} RecentPage;

#define BLOCK_MAX_INSNS 64

struct Block {
    uint64_t paddr;
    Block *hash_next;
    Block *page_next;
    uint64_t starts[2]; /* a bit for each halfword where an instruction starts */
    uint16_t insns;
    uint16_t bytes;
    Op ops[];
};

/* A physical page with decoded blocks. */
typedef struct CodePage CodePage;
struct CodePage {
    uint64_t ppn;
    uint64_t lines; /* a bit for each 64 bytes that have been decoded */
    Block *blocks;
    CodePage *next;
};

#define JUMP_CACHE_SIZE 4096u
typedef struct JumpEntry {
    uint64_t pc;
    uint32_t context; /* 0: empty */
    uint32_t offset;  /* of the block in the arena */
} JumpEntry;
G_STATIC_ASSERT(sizeof(JumpEntry) == 16);

/* Bits of the page bitmaps that other threads look at: page number modulo this. */
#define CODE_MAP_BITS (UINT32_C(1) << 20)
#define CODE_MAP_WORDS (CODE_MAP_BITS / 64)

#define BLOCK_HASH_SIZE (UINT32_C(1) << 16)
#define PAGE_HASH_SIZE (UINT32_C(1) << 12)
#define BLOCK_ARENA_SIZE (UINT64_C(64) << 20)

typedef struct BlockCache {
    uint8_t *arena; /* BLOCK_ARENA_SIZE, emptied as a whole when it is full */
    uint64_t used;
    uint64_t epoch; /* counts the times it was emptied */
    Block **hash;
    CodePage **pages;
    JumpEntry *jumps;
    Block *straddle; /* the instruction across two pages being executed; not cached */
    /*
     * Any thread: which pages have code; which of those were written since.  The summary
     * has a bit for each word of stale_map that is not zero.
     */
    uint64_t *code_map;
    uint64_t *stale_map;
    uint64_t stale_summary[CODE_MAP_WORDS / 64];
    uint32_t stale;
} BlockCache;

typedef struct PmpRange {
    uint64_t start, last; /* inclusive */
    uint8_t cfg;
} PmpRange;

typedef struct DebugState DebugState;

struct CPUState {
    uint64_t x[33]; /* first: the interpreter addresses it through the CPU's pointer */
    uint64_t icount; /* instructions retired since creation; mcycle and minstret are offsets */
    uint64_t limit;  /* any thread sets it to 0: attention, please */
    TlbEntry *dtlb;
    uint64_t mstatus; /* without SD */
    uint32_t context; /* contexts[priv] */
    uint64_t pc;
    uint64_t f[32];

    uint8_t priv;
    uint8_t fflags, frm;
    bool halted;

    /* The exception that a helper which returned false reports. */
    uint64_t exc_cause, exc_tval;

    uint64_t mie, mip_soft, medeleg, mideleg;
    uint64_t irq_lines; /* any thread: the wires */
    bool stip;          /* Sstc: time >= stimecmp, as last looked at */
    uint64_t mtvec, mepc, mcause, mtval, mscratch;
    uint64_t stvec, sepc, scause, stval, sscratch, satp;
    uint64_t menvcfg, senvcfg, mcounteren, scounteren, mcountinhibit;
    uint64_t stimecmp;
    uint64_t cycle_offset, instret_offset; /* while inhibited: the value itself */
    uint8_t pmpcfg[RV64_PMP_ENTRIES];
    uint64_t pmpaddr[RV64_PMP_ENTRIES];

    /* LR/SC */
    void *reserve_host; /* NULL: none */
    uint64_t reserve_value;
    unsigned reserve_size;

    /* Derived */
    PmpRange pmp[RV64_PMP_ENTRIES]; /* in priority order */
    unsigned pmp_count;
    const MemoryRegion *ram; /* the RAM region last used */
    uint32_t contexts[4]; /* by privilege */
    uint32_t next_context;
    /* Virtual pages (hashed) that the present contexts have fetched from. */
    uint64_t fetch_seen[64];
    /* Superpages in the TLB, in the lower and the upper half of the address space. */
    uint64_t super_first[2], super_last[2];

    CpuConfig config;
    void (*wake)(void *opaque);
    void *wake_opaque;
    uint32_t kicked; /* any thread */

    DebugState *debug;
    bool breaking; /* some instructions have an op BREAK before them */
    bool watched;  /* there are watchpoints: their pages take the slow path */
    bool stepping; /* one instruction, then CPU_EXIT_DEBUG */
    bool step_fetched; /* it has been looked up */

    BlockCache blocks;
    FetchEntry fetch[FETCH_SIZE];
    uint64_t tlb_used[MMU_MODES][TLB_SIZE / 64];
    TlbEntry tlb[MMU_MODES][TLB_SIZE];
    RecentPage recent[RECENT_SIZE];
};

/* One decoded instruction. */
typedef struct Insn {
    uint16_t op; /* RvOp */
    uint8_t rd, rs1, rs2, len;
    int32_t imm;
} Insn;

/* decode.c: raw holds at least the instruction's own bytes.  An illegal one is OP_ILLEGAL. */
void rv64_decode(uint32_t raw, Insn *insn);

/* exec.c: runs until something needs the caller.  With cpu NULL only gives the handlers. */
CpuExit rv64_exec(CPUState *cpu, const void *const **handlers);

/* blocks.c */
void rv64_blocks_init(CPUState *cpu);
void rv64_blocks_free(CPUState *cpu);
void rv64_blocks_flush(CPUState *cpu);
/* The block at virtual address pc; NULL with the exception set if it cannot be fetched. */
Block *rv64_blocks_find(CPUState *cpu, uint64_t pc);
/* Whether a store to the page must be reported with rv64_blocks_written(). */
bool rv64_blocks_has_code(CPUState *cpu, uint64_t paddr);
/* The guest has written here: marks decoded code as stale. */
void rv64_blocks_written(CPUState *cpu, uint64_t paddr, uint64_t len);
/* Throws away what is stale.  Only between blocks. */
void rv64_blocks_drop_stale(CPUState *cpu);
/* The listener of address_space_dirtied().  Any thread. */
void rv64_blocks_dirtied(void *opaque, uint64_t addr, uint64_t len);

/* mmu.c; false or NULL: exc_cause and exc_tval say why */
bool rv64_load(CPUState *cpu, uint64_t va, unsigned size, uint64_t *value);
bool rv64_store(CPUState *cpu, uint64_t va, unsigned size, uint64_t value);
bool rv64_amo(CPUState *cpu, const Op *op);
/*
 * The page that holds va for fetching: its physical address and its bytes; whether the
 * permission (of the two bytes at va) is that of the whole page.
 */
bool rv64_fetch_page(CPUState *cpu, uint64_t va, uint64_t *paddr, const uint8_t **host,
                     bool *whole);
void rv64_tlb_flush(CPUState *cpu);
void rv64_tlb_flush_page(CPUState *cpu, uint64_t va);
/* The page now has code: its stores must take the slow path. */
void rv64_tlb_protect_code(CPUState *cpu, uint64_t paddr);
/* After a change of privilege or of mstatus: selects the TLB and the fetch context. */
void rv64_update_context(CPUState *cpu);

/* inspect.c */
extern const CpuInspectOps rv64_inspect_ops;

/* recent.c */
static inline void rv64_note_page(CPUState *cpu, uint64_t paddr)
{
    RecentPage *r = &cpu->recent[(paddr >> RV64_PAGE_BITS) % RECENT_SIZE];

    r->paddr = paddr & RV64_PAGE_MASK;
    r->icount = cpu->icount;
}
size_t rv64_recent_pages(CPUState *cpu, uint64_t *pages, size_t max);

/* debug.c */
extern const CpuDebugOps rv64_debug_ops;
void rv64_debug_init(CPUState *cpu);
void rv64_debug_free(CPUState *cpu);
/* The hart's state has been replaced: what was under way is not any more. */
void rv64_debug_flush(CPUState *cpu);
/* While stepping, in front of a block: whether the step is done. */
bool rv64_debug_step_done(CPUState *cpu);
/* While stepping: a trap has been taken. */
void rv64_debug_trapped(CPUState *cpu);
/* Whether there may be a breakpoint at this offset in some page. */
bool rv64_debug_breaks_at(CPUState *cpu, unsigned page_offset);
/* Whether there is one at pc, and it has not just been reported. */
bool rv64_debug_break(CPUState *cpu, uint64_t pc, uint64_t icount);
bool rv64_debug_page_watched(CPUState *cpu, uint64_t va);
/* Whether the access is to be reported: EXC_DEBUG is set, the access must not be made. */
bool rv64_debug_watch(CPUState *cpu, uint64_t va, unsigned size, CpuWatch access);
/* rv64_exec() has returned CPU_EXIT_DEBUG: what to tell the caller. */
CpuExit rv64_debug_exit(CPUState *cpu);

/* debug-regs.c */
const char *rv64_debug_description(void);
bool rv64_debug_read_register(CPUState *cpu, unsigned n, uint64_t *value);
bool rv64_debug_write_register(CPUState *cpu, unsigned n, uint64_t value);
/* Writes all registers to the log. */
void rv64_log_state(CPUState *cpu);

/* pmp.c */
void rv64_pmp_update(CPUState *cpu);
bool rv64_pmp_write_cfg(CPUState *cpu, unsigned reg, uint64_t value);
bool rv64_pmp_write_addr(CPUState *cpu, unsigned entry, uint64_t value);
uint64_t rv64_pmp_read_cfg(CPUState *cpu, unsigned reg);
/* Whether all of [pa, pa + len) may be accessed at this privilege. */
bool rv64_pmp_check(CPUState *cpu, uint64_t pa, uint64_t len, MmuAccess access, int priv);
/* Whether one answer holds for the whole page around pa. */
bool rv64_pmp_page_uniform(CPUState *cpu, uint64_t pa);

/* csr.c: false means illegal instruction */
typedef enum CsrOp { CSR_WRITE = 1, CSR_SET = 2, CSR_CLEAR = 3 } CsrOp;
bool rv64_csr(CPUState *cpu, unsigned csr, CsrOp op, uint64_t operand, bool write,
              uint64_t *old);
uint64_t rv64_mstatus_read(CPUState *cpu);
void rv64_mstatus_write(CPUState *cpu, uint64_t value);
uint64_t rv64_time(CPUState *cpu);

/* trap.c */
uint64_t rv64_mip(CPUState *cpu);
/* Updates STIP from the clock. */
void rv64_timer_update(CPUState *cpu);
/* Takes the highest pending and enabled interrupt, if any. */
bool rv64_take_interrupt(CPUState *cpu);
/* Asks for attention if an interrupt could be taken now (after CSR writes). */
void rv64_check_interrupts(CPUState *cpu);
/* Enters the handler for the exception at cpu->pc. */
void rv64_trap(CPUState *cpu, uint64_t cause, uint64_t tval);
bool rv64_mret(CPUState *cpu);
bool rv64_sret(CPUState *cpu);

/* fp.c: raw is the 32-bit instruction; false means illegal. */
bool rv64_fp(CPUState *cpu, uint32_t raw);

static inline void rv64_attention(CPUState *cpu)
{
    __atomic_store_n(&cpu->limit, 0, __ATOMIC_SEQ_CST);
}

static inline bool rv64_raise(CPUState *cpu, uint64_t cause, uint64_t tval)
{
    cpu->exc_cause = cause;
    cpu->exc_tval = tval;
    return false;
}

#endif
