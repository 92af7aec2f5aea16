# SPDX-License-Identifier: GPL-2.0-or-later
"""Speaks QEMU's test protocol: drives a machine's devices in place of a guest."""

import select
import time

from kfvm import Timeout, connect


class QTest:
    def __init__(self, path, timeout=20):
        self.timeout = timeout
        self.irqs = {}     # number: level, as told since interception began
        self.raised = []   # each number as often as it was raised
        self._buffer = b''
        self.sock = connect(path, timeout)

    def close(self):
        self.sock.close()

    def _line(self, deadline):
        while b'\n' not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise Timeout(f'no line from the test server; there is {self._buffer!r}')
            data = self.sock.recv(65536)
            if not data:
                raise EOFError('the test server closed the connection')
            self._buffer += data
        line, self._buffer = self._buffer.split(b'\n', 1)
        return line.decode()

    def line(self):
        """The next line, whatever it is."""
        return self._line(time.monotonic() + self.timeout)

    def _note_irq(self, line):
        _, what, number = line.split()
        self.irqs[int(number)] = what == 'raise'
        if what == 'raise':
            self.raised.append(int(number))

    def send(self, command):
        self.sock.sendall(command.encode() + b'\n')

    def silent(self):
        return not self._buffer and not select.select([self.sock], [], [], 0)[0]

    def ask(self, command):
        self.send(command)
        return self.reply()

    def reply(self):
        """The reply's line, OK or FAIL; interrupts on the way are noted."""
        deadline = time.monotonic() + self.timeout
        while (line := self._line(deadline)).startswith('IRQ '):
            self._note_irq(line)
        return line

    def ok(self, command):
        """What stands behind OK."""
        reply = self.ask(command)
        assert reply.split(' ')[0] == 'OK', (command, reply)
        return reply[3:]

    def wait_irq(self, number):
        """Until that interrupt has been raised, then forgets it."""
        deadline = time.monotonic() + self.timeout
        while number not in self.raised:
            line = self._line(deadline)
            assert line.startswith('IRQ '), line
            self._note_irq(line)
        self.raised.remove(number)

    def get(self, kind, addr):
        return int(self.ok(f'read{kind} 0x{addr:x}'), 16)

    def set(self, kind, addr, value):
        self.ok(f'write{kind} 0x{addr:x} 0x{value:x}')

    def read(self, addr, size):
        return bytes.fromhex(self.ok(f'read 0x{addr:x} {size}')[2:])

    def write(self, addr, data):
        self.ok(f'write 0x{addr:x} {len(data)} 0x{data.hex()}')

    def step(self, ns=None):
        """The clock after that many ns, or at its next timer."""
        return int(self.ok('clock_step' if ns is None else f'clock_step {ns}'))


class BlkDevice:
    """A virtio-blk device behind virtio-mmio (version 2), its queue of 8 entries at `ring`."""

    SIZE = 8

    def __init__(self, qtest, base, irq, ring):
        self.q, self.base, self.irq, self.ring = qtest, base, irq, ring
        self.used = 0

    def reg(self, offset):
        return self.q.get('l', self.base + offset)

    def set_reg(self, offset, value):
        self.q.set('l', self.base + offset, value)

    def start(self):
        """Virtio 1.2, 3.1: up to DRIVER_OK, with VERSION_1 only.  Its size in sectors."""
        assert self.reg(0) == 0x74726976 and self.reg(4) == 2 and self.reg(8) == 2
        self.set_reg(0x70, 0)
        self.set_reg(0x70, 3)
        self.set_reg(0x24, 1)
        self.set_reg(0x20, 1)  # VERSION_1
        self.set_reg(0x24, 0)
        self.set_reg(0x20, 0)
        self.set_reg(0x70, 11)
        assert self.reg(0x70) == 11
        self.set_reg(0x30, 0)
        assert self.reg(0x34) >= self.SIZE
        self.set_reg(0x38, self.SIZE)
        self.q.ok(f'memset 0x{self.ring:x} 0x3000 0')
        for offset, page in ((0x80, 0), (0x90, 1), (0xa0, 2)):
            self.set_reg(offset, self.ring + page * 0x1000)
            self.set_reg(offset + 4, 0)
        self.set_reg(0x44, 1)
        self.set_reg(0x70, 15)
        return self.reg(0x100) | self.reg(0x104) << 32

    def submit(self, kind, sector, data):
        """0 reads, 1 writes, 4 flushes.  Where the data and the status will be."""
        head, body, status = self.ring + 0x3000, self.ring + 0x4000, self.ring + 0x3100
        self.q.write(head, kind.to_bytes(4, 'little') + bytes(4) + sector.to_bytes(8, 'little'))
        self.q.set('b', status, 0xff)
        parts = [(head, 16, False)]
        if data:
            self.q.write(body, data)
            parts.append((body, len(data), kind == 0))
        parts.append((status, 1, True))
        for n, (addr, size, device_writes) in enumerate(parts):
            flags = (n + 1 < len(parts)) | device_writes << 1
            self.q.write(self.ring + 16 * n,
                         addr.to_bytes(8, 'little') + size.to_bytes(4, 'little') +
                         flags.to_bytes(2, 'little') + (n + 1).to_bytes(2, 'little'))
        avail = self.ring + 0x1000
        self.q.set('w', avail + 4 + 2 * (self.used % self.SIZE), 0)
        self.used += 1
        self.q.set('w', avail + 2, self.used)
        self.set_reg(0x50, 0)
        return body, status

    def request(self, kind, sector, data):
        """Submits it; returns the status and what the data has become."""
        body, status = self.submit(kind, sector, data)
        self.q.wait_irq(self.irq)
        assert self.reg(0x60) == 1
        self.set_reg(0x64, 1)
        assert self.q.get('w', self.ring + 0x2002) == self.used
        return self.q.get('b', status), self.q.read(body, len(data)) if data else b''
