# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of a few instructions, for tests that need a running guest and no Linux.

It writes a generation number into each page of a piece of RAM, over and over, and checks
before each write that the page holds the generation before: RAM and registers that are not
of one instant show at once.  The serial line says 'R' at the start, 'h' for each generation
and 'B' for a page that is wrong.  A millisecond of wfi lies between two generations.
"""

import struct

RAM = 0x80000000
FIRST = 0x200000  # offset of the first page
UART, CLINT = 0x10000000, 0x2000000
ZERO, S0, S1, S2, S3, S4 = 0, 8, 9, 18, 19, 20
T0, T1, T2, A0 = 5, 6, 7, 10


class Code:
    """Instructions with labels; a branch may go forward."""

    def __init__(self):
        self.words = []
        self.labels = {}
        self.fixups = []

    def label(self, name):
        self.labels[name] = len(self.words) * 4

    def i(self, opcode, f3, rd, rs1, imm):
        self.words.append(imm % 4096 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode)

    def addi(self, rd, rs1, imm):
        self.i(0x13, 0, rd, rs1, imm)

    def add(self, rd, rs1, rs2):
        self.words.append(rs2 << 20 | rs1 << 15 | rd << 7 | 0x33)

    def ld(self, rd, rs1):
        self.i(0x03, 3, rd, rs1, 0)

    def store(self, f3, rs2, rs1):
        self.words.append(rs2 << 20 | rs1 << 15 | f3 << 12 | 0x23)

    def li(self, rd, value):
        """Any 32-bit value, zero-extended."""
        self.words.append(((value + 0x800) >> 12 & 0xfffff) << 12 | rd << 7 | 0x37)
        self.i(0x1b, 0, rd, rd, value & 0xfff)  # addiw
        self.i(0x13, 1, rd, rd, 32)  # slli, srli: drop the sign
        self.i(0x13, 5, rd, rd, 32)

    def csrw(self, csr, rs1):
        self.i(0x73, 1, ZERO, rs1, csr)

    def wfi(self):
        self.words.append(0x10500073)

    def branch(self, f3, rs1, rs2, label):
        self.fixups.append((len(self.words), label))
        self.words.append(rs2 << 20 | rs1 << 15 | f3 << 12 | 0x63)

    def bytes(self):
        for at, label in self.fixups:
            d = self.labels[label] - at * 4
            self.words[at] |= ((d >> 12 & 1) << 31 | (d >> 5 & 0x3f) << 25 |
                               (d >> 1 & 0xf) << 8 | (d >> 11 & 1) << 7)
        return struct.pack(f'<{len(self.words)}I', *self.words)


def put(c, char):
    c.addi(T2, ZERO, ord(char))
    c.store(0, T2, S0)


def program(mib):
    """The guest as a raw firmware image; it works on mib MiB of RAM."""
    c = Code()
    c.li(S0, UART)
    c.li(S1, RAM + FIRST)
    c.li(S2, RAM + FIRST + (mib << 20))
    c.li(A0, 4096)
    put(c, 'R')
    c.addi(T0, ZERO, 128)
    c.csrw(0x304, T0)  # mie.MTIE; mstatus.MIE stays 0: wfi ends, no trap is taken
    c.addi(S3, ZERO, 1)
    c.addi(T0, S1, 0)
    c.label('fill')
    c.store(3, S3, T0)
    c.add(T0, T0, A0)
    c.branch(6, T0, S2, 'fill')  # bltu
    c.label('generation')
    c.addi(S4, S3, 1)
    c.addi(T0, S1, 0)
    c.label('page')
    c.ld(T1, T0)
    c.branch(0, T1, S3, 'good')
    put(c, 'B')
    c.label('good')
    c.store(3, S4, T0)
    c.add(T0, T0, A0)
    c.branch(6, T0, S2, 'page')
    c.addi(S3, S4, 0)
    put(c, 'h')
    c.li(T0, CLINT + 0xbff8)
    c.ld(T1, T0)
    c.li(T0, 10000)
    c.add(T1, T1, T0)
    c.li(T0, CLINT + 0x4000)
    c.store(3, T1, T0)
    c.wfi()
    c.branch(0, ZERO, ZERO, 'generation')
    return c.bytes()


def write(path, mib):
    with open(path, 'wb') as file:
        file.write(program(mib))
