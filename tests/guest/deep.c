/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest for debuggers: in supervisor mode, at virtual addresses that are not the physical
 * ones (Sv39, 1 GiB pages), five calls deep in inner().  Linked at 0xffffffc000000000, runs
 * from 0x80000000 as firmware.  The serial line says 'h' again and again when it is there.
 */
typedef unsigned long u64;

#define PTE_ALL 0xcfUL /* V R W X A D */
#define LEAF(physical) ((physical) >> 12 << 10 | PTE_ALL)

/* VA 0 and 0x80000000 as they are, the upper half's first GiB to RAM. */
u64 page_table[512] __attribute__((aligned(4096), section(".data"))) = {
    [0] = LEAF(0UL),
    [2] = LEAF(0x80000000UL),
    [256] = LEAF(0x80000000UL),
};
char stack[16384] __attribute__((aligned(16), section(".data"))) = {1};
volatile u64 marker __attribute__((section(".data"))) = 0x1122334455667788;

__asm__(".section .text.start\n"
        ".globl _start\n"
        "_start:\n"
        "  li t0, -1\n"
        "  csrw pmpaddr0, t0\n"
        "  li t0, 0x1f\n"
        "  csrw pmpcfg0, t0\n"
        "  lla t0, page_table\n"
        "  srli t0, t0, 12\n"
        "  li t1, 8 << 60\n"
        "  or t0, t0, t1\n"
        "  csrw satp, t0\n"
        "  sfence.vma\n"
        "  li t0, 1 << 11\n"
        "  csrw mstatus, t0\n"
        "  lla t0, high\n"
        "  li t1, 0xffffffc000000000 - 0x80000000\n"
        "  add t0, t0, t1\n"
        "  csrw mepc, t0\n"
        "  mret\n"
        "high:\n"
        "  lla sp, stack + 16384\n"
        "  call kmain\n");

static void __attribute__((noinline)) put(char c)
{
    *(volatile char *)0x10000000 = c;
}

u64 __attribute__((noinline)) inner(u64 depth)
{
    for (;;) {
        put('h');
        for (int i = 0; i < 100000; i++) {
            marker += 0;
        }
    }
    return depth;
}

u64 __attribute__((noinline)) middle(u64 depth)
{
    return inner(depth + 1) + marker;
}

u64 __attribute__((noinline)) outer(u64 depth)
{
    return middle(depth + 1) + marker;
}

void __attribute__((noinline)) kmain(void)
{
    outer(1);
    put('x');
}
