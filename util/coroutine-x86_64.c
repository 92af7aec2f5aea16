/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stack switching on x86-64.  A switch is a function call, so only what the System V ABI
 * has the callee preserve is saved: rbx, rbp, r12-r15 and the stack pointer.  The x87
 * and SSE control words are the whole program's and are left alone.
 */
#include "coroutine-int.h"

/* long coroutine_switch(void **save (rdi), void *load (rsi), long action (rdx)) */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl coroutine_switch\n"
        ".hidden coroutine_switch\n"
        ".type coroutine_switch, @function\n"
        "coroutine_switch:\n"
        "    .cfi_startproc\n"
        "    pushq %rbp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %rbp, 0\n"
        "    pushq %rbx\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %rbx, 0\n"
        "    pushq %r12\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %r12, 0\n"
        "    pushq %r13\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %r13, 0\n"
        "    pushq %r14\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %r14, 0\n"
        "    pushq %r15\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %r15, 0\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    movq %rdx, %rax\n"
        "    popq %r15\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %r14\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %r13\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %r12\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %rbx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %rbp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        /* Not ret: the return stack would predict our own caller, always wrongly. */
        "    popq %rcx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_register %rip, %rcx\n"
        "    jmp *%rcx\n"
        "    .cfi_endproc\n"
        ".size coroutine_switch, .-coroutine_switch\n");

/* Bottom of every coroutine's stack: ends unwinding, calls what stack_init put in rbx. */
void coroutine_bottom(void);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl coroutine_bottom\n"
        ".hidden coroutine_bottom\n"
        ".type coroutine_bottom, @function\n"
        "coroutine_bottom:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined %rip\n"
        "    xorl %ebp, %ebp\n"
        "    call *%rbx\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".size coroutine_bottom, .-coroutine_bottom\n");

void *coroutine_stack_init(void *stack, size_t size, void (*start)(void))
{
    uint64_t *sp = (uint64_t *)(((uintptr_t)stack + size) & ~(uintptr_t)15);

    /* coroutine_bottom starts with an aligned stack pointer, at a zero. */
    *--sp = 0;
    *--sp = 0;
    *--sp = (uintptr_t)coroutine_bottom;
    *--sp = 0;                /* rbp */
    *--sp = (uintptr_t)start; /* rbx */
    for (int i = 0; i < 4; i++) {
        *--sp = 0; /* r12 to r15 */
    }
    return sp;
}
