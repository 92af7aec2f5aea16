/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bare machine's first instructions: one hart, a stack, zeroed data, then C. */
    .text
    .globl _start
_start:
    csrr t0, mhartid
    bnez t0, park
    la sp, stack_end
    la t0, __bss_start
    la t1, _end
1:  bgeu t0, t1, 2f
    sd zero, 0(t0)
    addi t0, t0, 8
    j 1b
2:  call bare_main
park:
    wfi
    j park

    .section .stack, "aw", @nobits
    .balign 4096
    .space 16384
stack_end:
