# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that does what the test says: it reads and writes physical memory, one access at a
time, as it is told over the serial line.  So a test drives a device's registers on any
emulator of the virt board, step by step.

Each request is 17 bytes: what ('b', 'h', 'w', 'd': read 1 to 8 bytes; capitals: write;
'm': copy out a piece of memory), address, value (or length).  A read answers with 8 bytes, a
write with one '.', a copy with its bytes.
"""

import select
import struct
import time

import bare
from bare import T0, T1, UART, ZERO

RA, A1, S2, S3, S4, S5, S6, S0 = 1, 11, 18, 19, 20, 21, 22, bare.S0
A0 = bare.A0
READS = (('b', 4), ('h', 5), ('w', 6), ('d', 3))  # lbu, lhu, lwu, ld
WRITES = (('B', 0), ('H', 1), ('W', 2), ('D', 3))


class Code(bare.Code):
    """With calls."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def jal(self, rd, label):
        self.calls.append((len(self.words), label))
        self.words.append(rd << 7 | 0x6f)

    def ret(self, rs=RA):
        self.i(0x67, 0, ZERO, rs, 0)

    def bytes(self):
        for at, label in self.calls:
            d = self.labels[label] - at * 4
            self.words[at] |= ((d >> 20 & 1) << 31 | (d >> 1 & 0x3ff) << 21 |
                               (d >> 11 & 1) << 20 | (d >> 12 & 0xff) << 12)
        return super().bytes()


def uart_wait(c, name, bit):
    """Until the line status register has the bit."""
    c.label(name)
    c.i(0x03, 4, T0, S0, 5)
    c.i(0x13, 7, T0, T0, bit)
    c.branch(0, T0, ZERO, name)


def program():
    c = Code()
    c.li(S0, UART)
    c.label('main')
    c.jal(RA, 'getc')
    c.addi(S2, A0, 0)
    c.jal(S6, 'get8')
    c.addi(S3, A1, 0)
    c.jal(S6, 'get8')
    c.addi(S4, A1, 0)
    for op, f3 in READS:
        c.addi(T0, ZERO, ord(op))
        c.branch(1, T0, S2, 'not-' + op)
        c.i(0x03, f3, A1, S3, 0)
        c.jal(S6, 'put8')
        c.jal(ZERO, 'main')
        c.label('not-' + op)
    for op, f3 in WRITES:
        c.addi(T0, ZERO, ord(op))
        c.branch(1, T0, S2, 'not-' + op)
        c.store(f3, S4, S3)
        c.addi(A0, ZERO, ord('.'))
        c.jal(RA, 'putc')
        c.jal(ZERO, 'main')
        c.label('not-' + op)
    c.add(S4, S4, S3)
    c.label('copy')
    c.branch(0, S3, S4, 'main')
    c.i(0x03, 4, A0, S3, 0)
    c.jal(RA, 'putc')
    c.addi(S3, S3, 1)
    c.jal(ZERO, 'copy')

    c.label('getc')
    uart_wait(c, 'no-input', 1)
    c.i(0x03, 4, A0, S0, 0)
    c.ret()
    c.label('putc')
    uart_wait(c, 'no-room', 32)
    c.store(0, A0, S0)
    c.ret()
    c.label('get8')  # into A1; returns to S6
    c.addi(S5, ZERO, 8)
    c.label('get-byte')
    c.jal(RA, 'getc')
    c.i(0x13, 5, A1, A1, 8)  # srli
    c.i(0x13, 1, A0, A0, 56)  # slli
    c.add(A1, A1, A0)
    c.addi(S5, S5, -1)
    c.branch(1, S5, ZERO, 'get-byte')
    c.ret(S6)
    c.label('put8')
    c.addi(S5, ZERO, 8)
    c.label('put-byte')
    c.addi(A0, A1, 0)
    c.jal(RA, 'putc')
    c.i(0x13, 5, A1, A1, 8)
    c.addi(S5, S5, -1)
    c.branch(1, S5, ZERO, 'put-byte')
    c.ret(S6)
    return c.bytes()


def write(path):
    with open(path, 'wb') as file:
        file.write(program())


class Peek:
    """The host's end: the socket of the serial line."""

    def __init__(self, sock):
        self.sock = sock

    def receive(self, n, timeout=30):
        data = b''
        deadline = time.monotonic() + timeout
        while len(data) < n:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.sock], [], [], left)[0], 'no answer'
            got = self.sock.recv(n - len(data))
            assert got, 'the serial line was closed'
            data += got
        return data

    def request(self, op, address, value=0):
        self.sock.sendall(struct.pack('<cQQ', op.encode(), address, value))

    def read(self, address, size=4):
        self.request('bhwd'[size.bit_length() - 1], address)
        return struct.unpack('<Q', self.receive(8))[0]

    def write(self, address, value, size=4):
        self.request('BHWD'[size.bit_length() - 1], address, value)
        assert self.receive(1) == b'.'

    def copy(self, address, n):
        self.request('m', address, n)
        return self.receive(n)
