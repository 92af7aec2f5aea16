# SPDX-License-Identifier: GPL-2.0-or-later
"""Speaks GDB's remote protocol to a stub on a unix socket."""

import select
import time

from kfvm import Timeout, connect


class GDB:
    def __init__(self, path, timeout=20, features='multiprocess+'):
        self.timeout = timeout
        self.no_ack = False
        self._buffer = b''
        self.sock = connect(path, timeout)
        self.supported = self.ask('qSupported:' + features)

    def close(self):
        self.sock.close()

    def send(self, packet):
        data = packet if isinstance(packet, bytes) else packet.encode()
        self.sock.sendall(b'$%s#%02x' % (data, sum(data) & 255))

    def send_break(self):
        self.sock.sendall(b'\3')

    def _fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.sock], [], [], left)[0]:
            raise Timeout(f'no packet from the stub; there is {self._buffer!r}')
        data = self.sock.recv(65536)
        if not data:
            raise EOFError('the stub closed the connection')
        self._buffer += data

    def receive(self):
        """The next packet as text; its checksum is checked."""
        deadline = time.monotonic() + self.timeout
        while True:
            start = self._buffer.find(b'$')
            end = self._buffer.find(b'#', start) if start >= 0 else -1
            if end >= 0 and len(self._buffer) >= end + 3:
                break
            self._fill(deadline)
        assert not self.no_ack or start == 0, self._buffer
        data, told = self._buffer[start + 1:end], self._buffer[end + 1:end + 3]
        self._buffer = self._buffer[end + 3:]
        assert int(told, 16) == sum(data) & 255, (data, told)
        if not self.no_ack:
            self.sock.sendall(b'+')
        return data.decode('latin-1')

    def silent(self):
        """Nothing has come since the last packet but acknowledgements."""
        while select.select([self.sock], [], [], 0)[0]:
            self._buffer += self.sock.recv(65536)
        return b'$' not in self._buffer

    def ask(self, packet):
        self.send(packet)
        return self.receive()

    def ok(self, packet):
        reply = self.ask(packet)
        assert reply == 'OK', (packet, reply)

    def register(self, n):
        return int.from_bytes(bytes.fromhex(self.ask(f'p{n:x}')), 'little')

    def set_register(self, n, value):
        self.ok(f'P{n:x}=' + value.to_bytes(8, 'little').hex())

    def memory(self, addr, size):
        return bytes.fromhex(self.ask(f'm{addr:x},{size:x}'))

    def monitor(self, line):
        """What the human monitor says to the line."""
        self.send('qRcmd,' + line.encode().hex())
        said = b''
        while (reply := self.receive()) != 'OK':
            assert reply[0] == 'O', reply
            said += bytes.fromhex(reply[1:])
        return said.decode()
