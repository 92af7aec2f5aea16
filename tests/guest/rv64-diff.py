#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs random instruction sequences on two system emulators and compares all registers.

The program is a bare-metal payload given as -bios: it loads registers with numbers that
are rich in corner cases, executes random integer, bit-manipulation, floating-point and
compressed instructions, and prints every register and the floating-point flags on the
UART.  Needs the RISC-V cross compiler; exit status 77 if it is not there.

    rv64-diff.py --reference qemu-system-riscv64 --system build/kf-system-riscv64
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile

CC = 'riscv64-linux-gnu-gcc'
OBJCOPY = 'riscv64-linux-gnu-objcopy'

PROLOGUE = '''
    .option norelax
    .globl _start
_start:
    li t0, 0x6000
    csrs mstatus, t0
    la t0, unexpected
    csrw mtvec, t0
    j first_case

dump:                       # x31: save area of 65 doublewords; x30: return address
    li s2, 65
    mv s3, x31
    li s4, 0x10000000
1:  ld s5, 0(s3)
    li s6, 60
2:  srl s7, s5, s6
    andi s7, s7, 15
    addi s7, s7, 48
    li s8, 58
    blt s7, s8, 3f
    addi s7, s7, 39
3:  lbu s8, 5(s4)
    andi s8, s8, 0x20
    beqz s8, 3b
    sb s7, 0(s4)
    addi s6, s6, -4
    bgez s6, 2b
    li s7, 32
    sb s7, 0(s4)
    addi s3, s3, 8
    addi s2, s2, -1
    bnez s2, 1b
    li s7, 10
    sb s7, 0(s4)
    jr x30

unexpected:
    li s4, 0x10000000
    li s7, 'T'
    sb s7, 0(s4)
    li s7, 10
    sb s7, 0(s4)
finish:
    li t0, 0x100000
    li t1, 0x5555
    sw t1, 0(t0)
4:  j 4b
first_case:
'''

EPILOGUE = '''
    j finish
    .align 4
save: .space 65 * 8
scratch: .space 4096
'''

INTS = [0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff,
        0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, (1 << 63) - 1, 1 << 63,
        (1 << 64) - 1, (1 << 64) - 2, 0xffffffff80000000, 0x0123456789abcdef]
F32 = [0, 0x80000000, 1, 0x80000001, 0x7fffff, 0x800000, 0x807fffff, 0x3f800000,
       0xbf800000, 0x3f800001, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000,
       0x7f800001, 0xffc12345, 0x4f000000, 0x5f000000, 0xcf000000, 0x3f000000, 0x3effffff,
       0x4b000001, 0x33800000, 0x34000000, 0x5f800000, 0x4f800000]
F64 = [0, 1 << 63, 1, 0xfffffffffffff, 0x10000000000000, 0x3ff0000000000000,
       0xbff0000000000000, 0x3ff0000000000001, 0x7fefffffffffffff, 0x7ff0000000000000,
       0xfff0000000000000, 0x7ff8000000000000, 0x7ff0000000000001, 0x41e0000000000000,
       0x43e0000000000000, 0xc3e0000000000000, 0x3fe0000000000000, 0x36a0000000000000,
       0x380fffffffffffff, 0x47efffffe0000000, 0x47effffff0000000, 0x3ca0000000000000,
       0x43f0000000000000, 0x41f0000000000000, 0xbfefffffffffffff, 0x4340000000000001]

RR = ('add sub sll slt sltu xor srl sra or and addw subw sllw srlw sraw mul mulh mulhsu '
      'mulhu div divu rem remu mulw divw divuw remw remuw add.uw sh1add sh2add sh3add '
      'sh1add.uw sh2add.uw sh3add.uw andn orn xnor max maxu min minu rol ror rolw rorw '
      'bclr bext binv bset').split()
RI = 'addi slti sltiu xori ori andi addiw'.split()
SH6 = 'slli srli srai slli.uw rori bclri bexti binvi bseti'.split()
SH5 = 'slliw srliw sraiw roriw'.split()
# Not ctzw: the reference of Debian 12 counts zeros above bit 31 too.
R1 = ('clz ctz cpop clzw cpopw sext.b sext.h zext.h orc.b rev8 neg not sext.w '
      'seqz snez').split()
RM = ['rne', 'rtz', 'rdn', 'rup', 'rmm', 'dyn']


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def integer(self):
        r = self.r
        return r.choice([r.choice(INTS), r.getrandbits(64), r.getrandbits(32),
                         r.getrandbits(r.randrange(1, 65))])

    def single(self):
        r = self.r
        near = (r.randrange(2) << 31) | (r.randrange(100, 150) << 23) | r.getrandbits(23)
        return r.choice([r.choice(F32), r.getrandbits(32), near, near])

    def double(self):
        r = self.r
        near = (r.randrange(2) << 63) | (r.randrange(990, 1060) << 52) | r.getrandbits(52)
        narrow = (r.randrange(2) << 63) | (r.randrange(870, 1160) << 52) | \
            (r.getrandbits(25) << 27)
        return r.choice([r.choice(F64), r.getrandbits(64), near, narrow])

    def fpreg(self):
        r = self.r
        if r.random() < 0.48:
            return 0xffffffff00000000 | self.single()
        return self.double()

    def x(self):
        return 'x%d' % self.r.randrange(0, 30)

    def cx(self):
        return 'x%d' % self.r.randrange(8, 16)

    def f(self):
        return 'f%d' % self.r.randrange(32)

    def imm(self, bits):
        r = self.r
        return r.choice([r.randrange(-(1 << bits - 1), 1 << bits - 1), 0, 1, -1,
                         -(1 << bits - 1), (1 << bits - 1) - 1])

    def alu(self):
        r = self.r
        kind = r.randrange(6)
        if kind <= 1:
            return '%s %s, %s, %s' % (r.choice(RR), self.x(), self.x(), self.x())
        if kind == 2:
            return '%s %s, %s, %d' % (r.choice(RI), self.x(), self.x(), self.imm(12))
        if kind == 3:
            return '%s %s, %s, %d' % (r.choice(SH6), self.x(), self.x(), r.randrange(64))
        if kind == 4:
            return '%s %s, %s, %d' % (r.choice(SH5), self.x(), self.x(), r.randrange(32))
        return '%s %s, %s' % (r.choice(R1), self.x(), self.x())

    def compressed(self):
        r = self.r
        rd = 'x%d' % r.randrange(1, 30)
        rs = 'x%d' % r.randrange(1, 30)
        nonzero = r.choice([i for i in range(-32, 32) if i])
        return r.choice([
            lambda: 'c.li %s, %d' % (rd, self.imm(6)),
            lambda: 'c.lui %s, %d' % (r.choice(['x1', 'x3', 'x9', 'x20']),
                                      r.choice([1, 31, 0xfffe0, 0xfffff])),
            lambda: 'c.addi %s, %d' % (rd, nonzero),
            lambda: 'c.addiw %s, %d' % (rd, self.imm(6)),
            lambda: 'c.slli %s, %d' % (rd, r.randrange(1, 64)),
            lambda: 'c.srli %s, %d' % (self.cx(), r.randrange(1, 64)),
            lambda: 'c.srai %s, %d' % (self.cx(), r.randrange(1, 64)),
            lambda: 'c.andi %s, %d' % (self.cx(), self.imm(6)),
            lambda: 'c.mv %s, %s' % (rd, rs),
            lambda: 'c.add %s, %s' % (rd, rs),
            lambda: 'c.addi4spn %s, x2, %d' % (self.cx(), 4 * r.randrange(1, 256)),
            lambda: 'c.addi16sp x2, %d' % (16 * r.choice([-32, -1, 1, 31])),
            lambda: '%s %s, %s' % (r.choice(['c.sub', 'c.xor', 'c.or', 'c.and', 'c.subw',
                                             'c.addw']), self.cx(), self.cx()),
            lambda: 'c.nop',
        ])()

    def fp(self):
        r = self.r
        t = r.choice('sd')
        rm = r.choice(RM)
        return r.choice([
            lambda: 'f%s.%s %s, %s, %s, %s' % (r.choice(['add', 'sub', 'mul', 'div']), t,
                                               self.f(), self.f(), self.f(), rm),
            lambda: 'f%s.%s %s, %s, %s, %s, %s' % (
                r.choice(['madd', 'msub', 'nmadd', 'nmsub']), t, self.f(), self.f(),
                self.f(), self.f(), rm),
            lambda: 'fsqrt.%s %s, %s, %s' % (t, self.f(), self.f(), rm),
            lambda: 'f%s.%s %s, %s, %s' % (
                r.choice(['min', 'max', 'sgnj', 'sgnjn', 'sgnjx']), t, self.f(), self.f(),
                self.f()),
            lambda: 'f%s.%s %s, %s, %s' % (r.choice(['eq', 'lt', 'le']), t, self.x(),
                                           self.f(), self.f()),
            lambda: 'fclass.%s %s, %s' % (t, self.x(), self.f()),
            lambda: 'fcvt.%s.%s %s, %s, %s' % (r.choice(['w', 'wu', 'l', 'lu']), t,
                                               self.x(), self.f(), rm),
            lambda: 'fcvt.s.%s %s, %s, %s' % (r.choice(['w', 'wu', 'l', 'lu']), self.f(),
                                              self.x(), rm),
            lambda: 'fcvt.d.%s %s, %s, %s' % (r.choice(['l', 'lu']), self.f(), self.x(), rm),
            lambda: 'fcvt.d.%s %s, %s' % (r.choice(['w', 'wu']), self.f(), self.x()),
            lambda: 'fcvt.s.d %s, %s, %s' % (self.f(), self.f(), rm),
            lambda: 'fcvt.d.s %s, %s' % (self.f(), self.f()),
            lambda: 'fmv.x.%s %s, %s' % (r.choice('wd'), self.x(), self.f()),
            lambda: 'fmv.%s.x %s, %s' % (r.choice('wd'), self.f(), self.x()),
            lambda: 'csrw frm, %d' % r.randrange(5),
            lambda: 'fsflags x0, x0',
        ])()

    def memory(self):
        """Stores and loads in the scratch page; x31 points to the save area before it."""
        r = self.r
        off = 65 * 8 + r.randrange(0, 1400)
        return r.choice([
            lambda: '%s %s, %d(x31)' % (r.choice('sb sh sw sd'.split()), self.x(), off),
            lambda: '%s %s, %d(x31)' % (r.choice('lb lh lw ld lbu lhu lwu'.split()),
                                        self.x(), off),
            lambda: '%s %s, %d(x31)' % (r.choice(['fsw', 'fsd', 'flw', 'fld']), self.f(),
                                        off),
            lambda: 'addi x30, x31, %d\n    amo%s.%s %s, %s, (x30)' % (
                off & ~7, r.choice('add swap xor or and min max minu maxu'.split()),
                r.choice('wd'), self.x(), self.x()),
        ])()

    def branch(self, n):
        r = self.r
        return '%s %s, %s, 9f\n    %s\n    %s\n9:' % (
            r.choice('beq bne blt bge bltu bgeu'.split()), self.x(), self.x(), self.alu(),
            self.compressed())

    def case(self, n, length):
        r = self.r
        lines = ['    la x31, save']
        for i in range(32):
            lines.append('    li x1, 0x%x\n    fmv.d.x f%d, x1' % (self.fpreg(), i))
        for i in range(1, 31):
            lines.append('    li x%d, 0x%x' % (i, self.integer()))
        lines.append('    fscsr x0, x0')
        for _ in range(length):
            kind = r.random()
            lines.append('    ' + (self.alu() if kind < 0.3 else
                                   self.compressed() if kind < 0.45 else
                                   self.fp() if kind < 0.8 else
                                   self.memory() if kind < 0.92 else self.branch(n)))
        lines.append('    li x30, 0')
        for i in range(32):
            lines.append('    sd x%d, %d(x31)' % (i, 8 * i) if i < 31 else
                         '    sd x0, %d(x31)' % (8 * i))
            lines.append('    fsd f%d, %d(x31)' % (i, 256 + 8 * i))
        lines.append('    frcsr x1\n    sd x1, 512(x31)\n    la x30, 8f\n    j dump_far\n8:')
        return '\n'.join(lines).replace('j dump_far', 'la x29, dump\n    jr x29')


def assemble(directory, source):
    paths = [os.path.join(directory, 'case.' + e) for e in ('S', 'elf', 'bin')]
    with open(paths[0], 'w', encoding='ascii') as f:
        f.write(source)
    subprocess.run([CC, '-march=rv64gc_zba_zbb_zbs', '-mabi=lp64d', '-nostdlib', '-static',
                    '-mno-relax', '-Wl,-Ttext=0x80000000,--no-relax,--build-id=none',
                    '-o', paths[1], paths[0]], check=True)
    subprocess.run([OBJCOPY, '-O', 'binary', paths[1], paths[2]], check=True)
    return paths[2]


def run(command, image):
    argv = command.split() + ['-M', 'virt', '-m', '128', '-display', 'none', '-serial',
                              'stdio', '-monitor', 'none', '-bios', image]
    if ' ' in command and command.split()[-1] == '@':
        argv = command.split()[:-1] + [image]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          timeout=120, check=False).stdout.decode('ascii', 'replace')


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--reference', default='qemu-system-riscv64 -cpu rv64')
    p.add_argument('--system', required=True,
                   help='emulator to test; a trailing " @" means: only the image follows')
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--rounds', type=int, default=4)
    p.add_argument('--cases', type=int, default=50, help='per round')
    p.add_argument('--length', type=int, default=40, help='instructions per case')
    args = p.parse_args()
    if not shutil.which(CC) or not shutil.which(args.reference.split()[0]):
        print('the cross compiler or the reference is not installed')
        return 77
    bad = 0
    for seed in range(args.seed, args.seed + args.rounds):
        gen = Generator(seed)
        source = PROLOGUE + '\n'.join(gen.case(n, args.length)
                                      for n in range(args.cases)) + EPILOGUE
        with tempfile.TemporaryDirectory() as d:
            image = assemble(d, source)
            a = run(args.reference, image).split('\n')
            b = run(args.system, image).split('\n')
        if len(a) <= args.cases:
            print('seed %d: the reference printed %d of %d cases' % (seed, len(a) - 1,
                                                                     args.cases))
            bad += 1
        for n, (la, lb) in enumerate(zip(a, b)):
            if la != lb:
                regs = ['x%d' % i for i in range(32)] + ['f%d' % i for i in range(32)] + \
                    ['fcsr']
                diff = ['%s: %s, got %s' % t for t in zip(regs, la.split(), lb.split())
                        if t[1] != t[2]]
                print('seed %d case %d: %s' % (seed, n, '; '.join(diff) or repr(lb[:80])))
                bad += 1
        if len(a) != len(b):
            print('seed %d: %d lines, reference %d' % (seed, len(b), len(a)))
            bad += 1
    print('%d rounds of %d cases, %d differences' % (args.rounds, args.cases, bad))
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
