#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtio network device, driven without a guest, and a peer on a stream socket; the monitor's
commands about the network.

usage: net.py KF-SYSTEM
"""

import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time

from kfvm import QMPError, VM
from qtestclient import QTest
from rig import fails
import tap

BINARY = sys.argv[1]
RAM = 0x80000000
SLOT, IRQ = 0x10008000, 8
MAC = bytes.fromhex('525400123456')
OTHER = bytes.fromhex('525400abcdef')
MRG_RXBUF, CTRL_VQ, CTRL_RX, CTRL_VLAN, CTRL_MAC, ANNOUNCE = (
    1 << n for n in (15, 17, 18, 19, 23, 21))
RX, TX, CTRL = range(3)
NEEDS_RESET = 0x40


def frame(size=60, to=MAC, tag=b''):
    body = tag + os.urandom(size - 14 - len(tag))
    return to + OTHER + b'\x88\xb5' + body


class Driver:
    """Of the device in the last slot: three queues of 8, their buffers behind them."""

    SIZE = 8

    def __init__(self, qtest, base=SLOT):
        self.q, self.base = qtest, base

    def reg(self, offset):
        return self.q.get('l', self.base + offset)

    def set_reg(self, offset, value):
        self.q.set('l', self.base + offset, value)

    def status(self):
        return self.reg(0x70)

    def config(self, offset, size):
        return bytes(self.q.get('b', self.base + 0x100 + offset + i) for i in range(size))

    def link(self):
        """1: up, 2: to be announced."""
        return self.q.get('w', self.base + 0x106)

    def start(self, features=0):
        assert self.reg(0) == 0x74726976 and self.reg(4) == 2 and self.reg(8) == 1
        self.set_reg(0x70, 0)
        self.set_reg(0x70, 3)
        self.set_reg(0x14, 0)
        assert self.reg(0x10) & features == features
        for half, value in ((1, 1), (0, features)):
            self.set_reg(0x24, half)
            self.set_reg(0x20, value)
        self.set_reg(0x70, 11)
        assert self.status() == 11
        self.avail, self.seen, self.reasons = [0] * 3, [0] * 3, 0
        for n in range(3):
            ring = self.ring(n)
            self.q.ok(f'memset 0x{ring:x} 0x3000 0')
            self.set_reg(0x30, n)
            self.set_reg(0x38, self.SIZE)
            for offset, page in ((0x80, 0), (0x90, 1), (0xa0, 2)):
                self.set_reg(offset, ring + page * 0x1000)
                self.set_reg(offset + 4, 0)
            self.set_reg(0x44, 1)
        self.set_reg(0x70, 15)

    def ring(self, n):
        return RAM + 0x100000 + n * 0x100000

    def buffer(self, n, i):
        return self.ring(n) + 0x10000 + i * 0x10000

    def post(self, n, i, parts, notify=True):
        """The chain of parts (address, bytes, whether the device writes) from descriptor i on."""
        for k, (addr, size, write) in enumerate(parts):
            more = k + 1 < len(parts)
            self.q.write(self.ring(n) + 16 * (i + k), struct.pack(
                '<QIHH', addr, size, more | write << 1, i + k + 1 if more else 0))
        ring = self.ring(n) + 0x1000
        self.q.set('w', ring + 4 + 2 * (self.avail[n] % self.SIZE), i)
        self.avail[n] += 1
        self.q.set('w', ring + 2, self.avail[n])
        if notify:
            self.set_reg(0x50, n)

    def used(self, n):
        """The descriptors and lengths given back since the last time."""
        ring = self.ring(n) + 0x2000
        index = self.q.get('w', ring + 2)
        new = [struct.unpack('<II', self.q.read(ring + 4 + 8 * (k % self.SIZE), 8))
               for k in range(self.seen[n], index)]
        self.seen[n] = index
        return new

    def wait_interrupt(self, reason):
        """1: for a queue, 2: for the configuration."""
        while not self.reasons & reason:
            new = self.reg(0x60)
            if new:
                self.set_reg(0x64, new)
                self.reasons |= new
            else:
                self.q.wait_irq(IRQ)
        self.reasons &= ~reason

    def wait_used(self, n, count):
        """Until so many have been given back: the device interrupts for each batch."""
        new = self.used(n)
        while len(new) < count:
            self.wait_interrupt(1)
            new += self.used(n)
        return new

    def give(self, i, size=2048):
        self.post(RX, i, [(self.buffer(RX, i), size, True)])

    def take(self):
        """One frame, in a single buffer: its descriptor and content."""
        (i, size), = self.wait_used(RX, 1)
        data = self.q.read(self.buffer(RX, i), size)
        assert data[:12] == bytes(10) + b'\1\0', data[:12]
        return i, data[12:]

    def send(self, data, i=0, header=12):
        self.q.write(self.buffer(TX, i), bytes(header) + data)
        self.post(TX, i, [(self.buffer(TX, i), header + len(data), False)])

    def control(self, cls, command, data=b''):
        at = self.buffer(CTRL, 0)
        self.q.write(at, bytes([cls, command]) + data)
        self.q.set('b', at + 0x8000, 0xff)
        self.post(CTRL, 0, [(at, 2 + len(data), False), (at + 0x8000, 1, True)])
        self.wait_used(CTRL, 1)
        return self.q.get('b', at + 0x8000)


class Peer:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.sock.settimeout(20)

    def read(self, n):
        data = b''
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            assert piece, 'the connection was closed'
            data += piece
        return data

    def receive(self):
        return self.read(struct.unpack('!I', self.read(4))[0])

    def send(self, data):
        self.sock.sendall(struct.pack('!I', len(data)) + data)

    def silent(self):
        return not select.select([self.sock], [], [], 0)[0]


class Rig:
    def __init__(self, *extra, device='virtio-net-device,netdev=n0,id=nic0', peer=True):
        self.dir = tempfile.TemporaryDirectory(prefix='kfnet-')
        self.path = self.dir.name + '/net'
        qtest = self.dir.name + '/qtest'
        self.vm = VM(BINARY, ['-accel', 'qtest', '-m', '16M', '-bios', 'none', '-qtest-log', 'none',
                              '-qtest', f'unix:{qtest},server=on,wait=off', '-netdev',
                              f'stream,id=n0,server=on,addr.type=unix,addr.path={self.path}',
                              '-device', device, *extra], monitors=2)
        self.qmp = self.vm.qmp
        self.q = QTest(qtest)
        self.q.ok('irq_intercept_in plic')
        self.d = Driver(self.q)
        self.peer = None
        if peer:
            self.connect()

    def connect(self):
        self.peer = Peer(self.path)
        self.qmp.wait_event('NETDEV_STREAM_CONNECTED')

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.q.close()
        if self.peer:
            self.peer.sock.close()
        self.vm.__exit__()
        self.dir.cleanup()


def hmp(qmp, line):
    return qmp.hmp(line).replace('\r\n', '\n')


def run(qmp, command, /, **args):
    """As QMP.cmd(), for arguments called name and for names with '_'."""
    qmp.send({'execute': command, 'arguments': args})
    reply = qmp.reply()
    if 'error' in reply:
        raise QMPError(reply['error'])
    return reply['return']


# --- Frames -------------------------------------------------------------------------------------


def test_there_and_back():
    with Rig() as r:
        d = r.d
        d.start()
        assert d.config(0, 8) == MAC + b'\1\0'
        for i in range(4):
            d.give(i)
        for i in range(20):
            data = frame(60 + 70 * i)
            r.peer.send(data)
            at, got = d.take()
            assert got == data and at == i % 4
            d.give(at)
            data = frame(60 + 70 * i)
            d.send(data)
            assert r.peer.receive() == data
            assert d.wait_used(TX, 1) == [(0, 0)]
        # a frame in pieces, from the peer and from the guest
        data = frame(200)
        for byte in struct.pack('!I', 200) + data:
            r.peer.sock.sendall(bytes([byte]))
        assert d.take()[1] == data
        at = d.buffer(TX, 0)
        r.q.write(at, bytes(12) + data)
        d.post(TX, 0, [(at, 5, False), (at + 5, 20, False), (at + 25, 187, False)])
        assert r.peer.receive() == data
        assert r.vm.quit() == 0


def test_mergeable():
    with Rig() as r:
        d = r.d
        d.start(MRG_RXBUF)
        for i in range(4):
            d.give(i, 1024)
        for size, count in ((3000, 3), (60, 1)):
            data = frame(size)
            r.peer.send(data)
            used = d.wait_used(RX, count)
            assert len(used) == count
            got = b''.join(r.q.read(d.buffer(RX, i), n) for i, n in used)
            assert got[:12] == bytes(10) + struct.pack('<H', count) and got[12:] == data
        for i in range(3):
            d.give(i, 1024)
        r.peer.send(frame(4000))  # there is room for 3000: it waits
        d.give(3, 1024)
        r.peer.send(frame(9000))  # more than all buffers of the queue have: lost
        assert len(d.wait_used(RX, 4)) == 4
        for i in range(8):
            d.give(i, 1024)
        data = frame(100)
        r.peer.send(data)
        (i, n), = d.wait_used(RX, 1)
        assert r.q.read(d.buffer(RX, i), n)[12:] == data


def test_frame_that_does_not_fit():
    with Rig() as r:
        r.d.start()
        r.d.give(0, 512)
        r.peer.send(frame(600))
        data = frame(400)
        r.peer.send(data)
        assert r.d.take() == (0, data)


# --- Back pressure ----------------------------------------------------------------------------------


def fill(peer, number):
    """Sends frames until the other side takes no more; how many it took, whole or in part."""
    peer.sock.setblocking(False)
    rest = b''
    while True:
        data = rest or struct.pack('!I', 1000) + frame(1000, tag=struct.pack('!I', number))
        try:
            n = peer.sock.send(data)
        except BlockingIOError:
            break
        rest = data[n:]
        number += not rest
    peer.sock.setblocking(True)
    return number, rest


def test_guest_without_buffers():
    """Its peer has to wait; then all come, in order."""
    with Rig() as r:
        d = r.d
        d.start()
        number, rest = fill(r.peer, 0)
        assert number > 50
        for _ in range(20):
            assert r.qmp.cmd('query-status')['status'] == 'running'
        assert not d.used(RX)
        for i in range(8):
            d.give(i)
        came = []
        for want in range(number + bool(rest)):
            if want == number:
                r.peer.sock.sendall(rest)
            came = came or d.wait_used(RX, 1)
            i, size = came.pop(0)
            data = r.q.read(d.buffer(RX, i), size)[12:]
            assert data[14:18] == struct.pack('!I', want), (want, data[:20])
            d.give(i)


def test_peer_that_does_not_read():
    """The guest has to wait, nobody else; then all come, in order."""
    with Rig() as r:
        d = r.d
        d.start()
        sent, free = [], list(range(8))
        while free:
            i = free.pop(0)
            sent.append(frame(60000, tag=struct.pack('!I', len(sent))))
            d.send(sent[-1], i)
            for _ in range(3):
                assert r.qmp.cmd('query-status')['status'] == 'running'
            free += [i for i, _ in d.used(TX)]
            assert len(sent) < 200
        for data in sent:
            assert r.peer.receive() == data
        d.wait_used(TX, 8)


def test_guest_that_stands():
    """Frames wait while the guest is stopped, and are neither lost nor seen."""
    with Rig() as r:
        d = r.d
        d.start()
        for i in range(4):
            d.give(i)
        r.qmp.cmd('stop')
        data = [frame(100), frame(200)]
        for one in data:
            r.peer.send(one)
        d.send(frame(100))
        for _ in range(20):
            r.qmp.cmd('query-status')
        assert not d.used(RX) and not d.used(TX) and r.peer.silent()
        r.qmp.cmd('cont')
        used = d.wait_used(RX, 2)
        assert [r.q.read(d.buffer(RX, i), n)[12:] for i, n in used] == data
        assert len(r.peer.receive()) == 100


def test_datagrams():
    with tempfile.TemporaryDirectory() as directory:
        mine, its = (f'{directory}/{name}' for name in 'ab')
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(mine)
        sock.settimeout(20)
        with Rig('-netdev', f'dgram,id=d0,local.type=unix,local.path={its},'
                 f'remote.type=unix,remote.path={mine}', peer=False,
                 device='virtio-net-device,netdev=d0') as r:
            assert hmp(r.qmp, 'info network').endswith(f' \\ d0: index=0,type=dgram,udp={its}:{mine}\n')
            r.d.start()
            for size in (14, 60, 1500, 60000):
                data = frame(size)
                r.d.send(data)
                assert sock.recv(70000) == data
            # nobody reads: frames are lost, and nobody waits
            for i in range(600):
                r.d.send(frame(100, tag=struct.pack('!I', i)), i % 8)
                r.d.wait_used(TX, 1)
            assert sock.recv(70000)[14:18] == bytes(4)
            # the guest has no buffers: frames wait in the socket
            sock.sendto(b'no frame', its)
            for i in range(3):
                sock.sendto(frame(100, tag=struct.pack('!I', i)), its)
            for i in range(3):
                r.d.give(0)
                assert r.d.take()[1][14:18] == struct.pack('!I', i)
            run(r.qmp, 'netdev_del', id='d0')
            assert not os.path.exists(its)
        sock.close()
    with Rig(peer=False) as r:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(('127.0.0.1', 0))
        address = {'type': 'inet', 'host': '127.0.0.1', 'port': str(udp.getsockname()[1])}
        run(r.qmp, 'netdev_add', type='dgram', id='d1', local={**address, 'port': '0'},
            remote=address)
        fails(lambda: run(r.qmp, 'netdev_add', type='dgram', id='d2', local=address, remote=address),
              f"can't bind 127.0.0.1:{address['port']} to socket: Address already in use")
        udp.close()


# --- What is wrong ------------------------------------------------------------------------------------


def test_bad_descriptors():
    with Rig() as r:
        d = r.d

        def breaks():
            for _ in range(1000):
                if d.status() & NEEDS_RESET:
                    return
            raise AssertionError('the device works on')

        for bad in ([(RAM, 5, False)],                       # no room for a header
                    [(RAM, 0, False)],
                    [(0x40000000, 100, False)],              # not RAM
                    [(RAM + (16 << 20) - 10, 100, False)],   # its end
                    [(0xffffffffffffff00, 0x200, False)]):
            d.start()
            d.post(TX, 0, bad)
            breaks()
        d.start()
        d.q.write(d.ring(TX), struct.pack('<QIHH', RAM, 100, 1, 0))  # a loop
        d.q.set('w', d.ring(TX) + 0x1002, 1)
        d.set_reg(0x50, TX)
        breaks()
        d.start()
        d.q.set('w', d.ring(TX) + 0x1002, 100)  # more than there can be
        d.set_reg(0x50, TX)
        breaks()
        d.start()
        d.give(0, 4)  # no room for the header
        r.peer.send(frame())
        breaks()
        d.start(CTRL_VQ)
        d.post(CTRL, 0, [(RAM, 1, False), (RAM + 16, 1, True)])
        breaks()
        d.start(CTRL_VQ)
        d.post(CTRL, 0, [(RAM, 10, False)])  # nowhere to answer
        breaks()
        deadline = time.monotonic() + 20
        while r.vm.errors().count('guest error') < 10:  # the log follows the status
            assert time.monotonic() < deadline, r.vm.errors()
            r.qmp.cmd('query-status')
        # and works again
        d.start()
        d.give(0)
        data = frame()
        r.peer.send(data)
        assert d.take()[1] == data
        d.send(data)
        assert r.peer.receive() == data
        # too long, or no frame: lost
        at = d.buffer(TX, 0)
        d.post(TX, 0, [(at, 12 + 70000, False)])
        d.post(TX, 1, [(at, 12 + 13, False)])
        d.post(TX, 2, [(at, 12, False)])
        assert len(d.wait_used(TX, 4)) == 4
        d.send(data)
        assert r.peer.receive() == data
        assert r.vm.quit() == 0


def test_peers_that_come_and_go():
    with Rig() as r:
        d = r.d
        d.start()
        d.give(0)
        d.send(frame())
        r.peer.receive()
        r.peer.sock.sendall(struct.pack('!I', 1000) + bytes(500))  # leaves in mid-frame
        r.peer.sock.close()
        r.qmp.wait_event('NETDEV_STREAM_DISCONNECTED', match=lambda e: e['netdev-id'] == 'n0')
        d.send(frame(), 1)  # nobody is there: lost
        assert len(d.wait_used(TX, 2)) == 2
        assert hmp(r.qmp, 'info network').endswith('type=stream,\n')
        r.connect()
        assert hmp(r.qmp, 'info network') == (
            'nic0: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:56\n'
            f' \\ n0: index=0,type=stream,unix:{r.path}\n')
        data = frame()
        r.peer.sock.sendall(struct.pack('!I', 0) + struct.pack('!I', 13) + bytes(13))  # no frames
        r.peer.send(data)
        assert d.take()[1] == data
        r.peer.sock.sendall(b'\xff\xff\xff\xff')  # no stream of frames at all
        assert r.peer.sock.recv(1) == b''
        r.qmp.wait_event('NETDEV_STREAM_DISCONNECTED')
        r.connect()
        assert r.vm.quit() == 0


# --- Link, filter, addresses ----------------------------------------------------------------------------


def test_link():
    with Rig() as r:
        d = r.d
        d.start()
        for i in range(2):
            d.give(i)
        for name in ('nic0', 'n0'):
            run(r.qmp, 'set_link', name=name, up=False)
            d.wait_interrupt(2)
            assert d.link() == 0
            r.peer.send(frame())
            d.send(frame())
            d.wait_used(TX, 1)
            assert r.peer.silent() and not d.used(RX)
            run(r.qmp, 'set_link', name=name, up=True)
            d.wait_interrupt(2)
            assert d.link() == 1
            data = frame()
            r.peer.send(data)
            assert d.take()[1] == data
        fails(lambda: run(r.qmp, 'set_link', name='zork', up=True), "Device 'zork' not found")


def mac_list(*macs):
    return struct.pack('<I', len(macs)) + b''.join(macs)


def test_filter():
    with Rig() as r:
        d, qmp = r.d, r.qmp
        info, = qmp.cmd('query-rx-filter')
        assert info['promiscuous'] and info['vlan'] == 'all' and len(info['vlan-table']) == 4096
        d.start(CTRL_VQ | CTRL_RX | CTRL_VLAN | CTRL_MAC)
        group, second = bytes.fromhex('01005e000001'), bytes.fromhex('525400000002')
        for i in range(8):
            d.give(i)
        assert d.control(0, 0, b'\0') == 0  # not promiscuous
        event = qmp.wait_event('NIC_RX_FILTER_CHANGED')['data']
        assert event == {'name': 'nic0', 'path': '/machine/peripheral/nic0'}
        assert d.control(1, 0, mac_list(second) + mac_list(group)) == 0
        assert d.control(2, 0, b'\5\0') == 0
        info, = run(qmp, 'query-rx-filter', name='nic0')
        assert info == {'name': 'nic0', 'promiscuous': False, 'multicast': 'normal',
                        'unicast': 'normal', 'vlan': 'normal', 'broadcast-allowed': True,
                        'multicast-overflow': False, 'unicast-overflow': False,
                        'main-mac': '52:54:00:12:34:56', 'vlan-table': [5],
                        'unicast-table': ['52:54:00:00:00:02'],
                        'multicast-table': ['01:00:5e:00:00:01']}
        tagged = [MAC + OTHER + b'\x81\0' + struct.pack('!H', vlan) + bytes(50) for vlan in (5, 6)]
        wanted = [frame(), frame(to=second), frame(to=group), frame(to=b'\xff' * 6), tagged[0]]
        others = [frame(to=OTHER), frame(to=bytes.fromhex('01005e000002')), tagged[1]]
        for one in others + wanted:
            r.peer.send(one)
        used = d.wait_used(RX, len(wanted))
        assert [r.q.read(d.buffer(RX, i), n)[12:] for i, n in used] == wanted
        for bad in ((0, 0, b''), (0, 6, b'\1'), (1, 0, b'\1\0\0\0'), (1, 0, mac_list(second)),
                    (1, 0, mac_list(second) + mac_list(group) + b'x'), (1, 1, b'12345'), (1, 2, MAC),
                    (2, 0, b'\0\x10'), (2, 0, b'\1'), (2, 2, b'\1\0'), (3, 1, b''), (9, 9, b'')):
            assert d.control(*bad) == 1, bad
        assert run(qmp, 'query-rx-filter', name='nic0') == [info]
        # too many for the list: all of that kind are taken
        assert d.control(1, 0, mac_list(*[second] * 65) + mac_list()) == 0
        r.peer.send(frame(to=OTHER))
        assert len(d.wait_used(RX, 1)) == 1
        assert d.control(1, 1, second) == 0
        assert d.config(0, 6) == second
        assert 'macaddr=52:54:00:00:00:02' in hmp(qmp, 'info network')
        d.start()  # a reset: the address is the device's again
        assert d.config(0, 6) == MAC
        assert qmp.cmd('query-rx-filter')[0]['promiscuous']


def test_addresses_count_up():
    with VM(BINARY, ['-accel', 'qtest', '-device', 'virtio-net-device', '-nic', 'user',
                     '-device', 'virtio-net-device,mac=52-54-00-00-00-01',
                     '-nic', 'user,id=x,mac=52:54:00:00:00:02,restrict=on,net=10.5.0.0/24']) as vm:
        assert hmp(vm.qmp, 'info network').splitlines() == [
            'virtio-net-device.0: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:56',
            'virtio-net-device.1: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:00:00:01',
            'virtio-net-device.2: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:57',
            ' \\ #net000: index=0,type=user,net=10.0.2.0,restrict=off',
            'virtio-net-device.3: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:00:00:02',
            ' \\ x: index=0,type=user,net=10.5.0.0,restrict=on']
        said = vm.errors()
        assert 'warning: nic virtio-net-device.0 has no peer' in said and said.count('warning') == 2
        assert vm.quit() == 0


# --- Monitor --------------------------------------------------------------------------------------------


def test_backends_at_run_time():
    with Rig(peer=False) as r:
        qmp = r.qmp
        run(qmp, 'netdev_add', type='user', id='n1', hostfwd=[{'str': 'tcp:127.0.0.1:0-:22'}])
        fails(lambda: run(qmp, 'netdev_add', type='user', id='n1'), "Duplicate ID 'n1'")
        fails(lambda: run(qmp, 'netdev_add', type='user', id='nic0'), "Duplicate ID 'nic0'")
        fails(lambda: run(qmp, 'netdev_add', type='user', id='9x'), "Parameter 'id' expects an identifier")
        fails(lambda: run(qmp, 'netdev_add', type='user', id='n2', net='banana'), 'Failed to parse netmask')
        fails(lambda: run(qmp, 'netdev_add', type='user', id='n2',
                          hostfwd=[{'str': 'tcp::1-:22'}, {'str': 'x'}]), 'Invalid host forwarding rule')
        fails(lambda: run(qmp, 'netdev_add', type='tap', id='n2'), "does not accept value 'tap'")
        for name in ('nic0', 'zork', 'n2'):
            fails(lambda: run(qmp, 'netdev_del', id=name), f"Device '{name}' not found")
        fails(lambda: run(qmp, 'query-rx-filter', name='n1'), "net client(n1) isn't a NIC")
        fails(lambda: run(qmp, 'query-rx-filter', name='zork'), 'invalid net client name: zork')
        table = hmp(qmp, 'info usernet').splitlines()
        assert table[:2] == ['Hub -1 (n1):', '  Protocol[State]    FD  Source Address  Port   '
                             'Dest. Address  Port RecvQ SendQ'], table
        assert table[2].split()[0] == 'TCP[HOST_FORWARD]' and table[2].split()[-4:] == [
            '10.0.2.15', '22', '0', '0']
        # forwarding
        with socket.create_server(('127.0.0.1', 0)) as probe:
            port = probe.getsockname()[1]
        rule = f'tcp:127.0.0.1:{port}'
        assert hmp(qmp, f'hostfwd_add n1 {rule}-:23') == ''
        assert hmp(qmp, f'hostfwd_add {rule}-:23') == f"Could not set up host forwarding rule '{rule}-:23'\n"
        assert hmp(qmp, 'hostfwd_add zork tcp::1-:2') == "unrecognized netdev id 'zork'\n"
        assert hmp(qmp, 'hostfwd_add n1 zork') == "Invalid host forwarding rule 'zork' (No : separators)\n"
        assert hmp(qmp, 'hostfwd_remove n1 zork') == 'invalid format\n'
        assert hmp(qmp, f'hostfwd_remove {rule}') == f'host forwarding rule for {rule} removed\n'
        assert hmp(qmp, f'hostfwd_remove n1 {rule}') == f'host forwarding rule for {rule} not found\n'
        assert hmp(qmp, 'netdev_add user,id=n3,dns=10.0.2.9') == ''
        assert hmp(qmp, 'netdev_add user') == "Error: Parameter 'id' is missing\n"
        assert hmp(qmp, 'netdev_del n3') == '' and hmp(qmp, 'netdev_del n1') == ''
        assert hmp(qmp, 'netdev_del n1') == "Error: Device 'n1' not found\n"
        assert hmp(qmp, 'set_link zork on') == "Error: Device 'zork' not found\n"
        # a client, and an address that nobody has
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = str(server.getsockname()[1])
            address = {'type': 'inet', 'host': '127.0.0.1', 'port': port}
            run(qmp, 'netdev_add', type='stream', id='s', addr=address)
            assert qmp.wait_event('NETDEV_STREAM_CONNECTED')['data'] == {
                'netdev-id': 's', 'addr': {**address, 'ipv4': True}}
            server.accept()[0].close()
            qmp.wait_event('NETDEV_STREAM_DISCONNECTED')
        fails(lambda: run(qmp, 'netdev_add', type='stream', id='s2', addr=address),
              f"Failed to connect to '127.0.0.1:{port}': Connection refused")
        # the device's own: the link goes down
        r.d.start()
        run(qmp, 'netdev_del', id='n0')
        r.d.wait_interrupt(2)
        assert r.d.link() == 0
        assert not os.path.exists(r.path)
        r.d.send(frame())
        r.d.wait_used(TX, 1)
        assert r.vm.quit() == 0


# --- Announcing ------------------------------------------------------------------------------------------


def rarp():
    """Who am I, asked of all in the device's name."""
    return (b'\xff' * 6 + MAC + b'\x80\x35' + struct.pack('!HHBBH', 1, 0x800, 6, 4, 3) +
            2 * (MAC + bytes(4))).ljust(60, b'\0')


def test_announce():
    """To the network, and by the guest if it can; as often as was asked, or until another begins."""
    times = {'initial': 1, 'max': 5, 'step': 1}
    long = {'initial': 3600000, 'max': 3600000, 'step': 0, 'rounds': 2}
    with Rig() as r:
        d, qmp = r.d, r.qmp
        d.start(CTRL_VQ | ANNOUNCE)
        run(qmp, 'announce-self', rounds=3, **times)
        assert [r.peer.receive() for _ in range(3)] == [rarp()] * 3
        assert d.link() == 3 and d.control(3, 0) == 0 and d.link() == 1
        run(qmp, 'announce-self', rounds=0, **times)
        run(qmp, 'announce-self', rounds=1, interfaces=['n0', 'nope'], **times)
        run(qmp, 'announce-self', interfaces=['nope', 'nic0'], **long)
        assert r.peer.receive() == rarp() and d.link() == 3
        # the same takes its place, another does not
        run(qmp, 'announce-self', rounds=2, **times)
        run(qmp, 'announce-self', id='x', **long)
        assert [r.peer.receive() for _ in range(3)] == [rarp()] * 3
        assert d.control(3, 0) == 0
        # a guest that stands is not asked
        qmp.cmd('stop')
        assert hmp(qmp, 'announce_self nic0 y') == ''
        assert r.peer.receive() == rarp() and d.link() == 1
        assert r.vm.quit() == 0
    with VM(BINARY, ['-M', 'none']) as vm:
        run(vm.qmp, 'announce-self', rounds=3, **times)
        assert vm.quit() == 0


# --- Snapshots ------------------------------------------------------------------------------------------


def test_snapshot():
    """What the driver has said comes back; so does the link; the guest is asked to announce."""
    with tempfile.TemporaryDirectory() as directory:
        image = directory + '/a.qcow2'
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '16M'], check=True)
        disk = ['-blockdev', f'qcow2,node-name=v,file.driver=file,file.filename={image}']
        on = {'vmstate': 'v', 'devices': ['v']}
        with Rig(*disk) as r:
            d, qmp = r.d, r.qmp
            d.start(CTRL_VQ | CTRL_RX | CTRL_VLAN | CTRL_MAC | ANNOUNCE | MRG_RXBUF)
            for i in range(4):
                d.give(i)
            group = bytes.fromhex('01005e000001')
            assert d.control(0, 0, b'\0') == d.control(2, 0, b'\x23\1') == 0
            assert d.control(1, 0, mac_list() + mac_list(group)) == 0
            before, = qmp.cmd('query-rx-filter')
            state = (list(d.avail), list(d.seen))
            qmp.run_job('snapshot-save', 'save', tag='t', **on)
            d.start()
            run(qmp, 'set_link', name='nic0', up=False)
            qmp.run_job('snapshot-load', 'load', tag='t', **on)
            d.avail, d.seen = state
            assert qmp.cmd('query-rx-filter') == [before]
            assert d.link() == 3  # link and announce
            assert d.control(3, 0) == 0
            assert d.link() == 1
            for data in (frame(), frame(to=group)):
                r.peer.send(data)
                assert d.take()[1] == data
            assert r.vm.quit() == 0
        with VM(BINARY, ['-accel', 'qtest', '-m', '16M', '-bios', 'none', *disk]) as vm:
            fails(lambda: vm.qmp.run_job('snapshot-load', 'load', tag='t', **on),
                  "Unknown section 'virtio-net' instance 7: this machine has no such device")
            assert vm.quit() == 0
        with Rig(*disk, '-device', 'virtio-net-device', peer=False) as r:
            fails(lambda: r.qmp.run_job('snapshot-load', 'load', tag='t', **on),
                  "Machine state has no section 'virtio-net' instance 6")


def test_snapshot_of_another_backend():
    with tempfile.TemporaryDirectory() as directory:
        image = directory + '/a.qcow2'
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '16M'], check=True)
        args = ['-accel', 'qtest', '-m', '16M', '-bios', 'none', '-blockdev',
                f'qcow2,node-name=v,file.driver=file,file.filename={image}']
        on = {'vmstate': 'v', 'devices': ['v']}
        with VM(BINARY, [*args, '-nic', 'user']) as vm:
            vm.qmp.run_job('snapshot-save', 'save', tag='t', **on)
            vm.qmp.run_job('snapshot-load', 'load', tag='t', **on)
            run(vm.qmp, 'netdev_del', id='#net000')
            fails(lambda: vm.qmp.run_job('snapshot-load', 'load2', tag='t', **on),
                  "Unknown section 'slirp' instance 7: this machine has no such device")
            assert vm.quit() == 0
        with VM(BINARY, [*args, '-netdev', 'user,id=other', '-device',
                         'virtio-net-device,netdev=other']) as vm:
            vm.qmp.run_job('snapshot-load', 'load', tag='t', **on)
            assert vm.quit() == 0


def test_migration():
    """The driver goes on in another process, whose peer is another one; the old one is silent."""
    with Rig() as a, Rig('-incoming', 'defer') as b:
        a.d.start(CTRL_VQ | ANNOUNCE)
        for i in range(4):
            a.d.give(i)
        a.peer.send(frame())
        a.d.take()
        run(a.qmp, 'netdev_add', type='user', id='unused')
        where = f'unix:{a.dir.name}/mig'
        run(b.qmp, 'migrate-incoming', uri=where)
        run(a.qmp, 'migrate-set-capabilities', capabilities=[{'capability': 'events', 'state': True}])
        run(a.qmp, 'migrate', uri=where)
        a.qmp.wait_event('MIGRATION', match=lambda d: d['status'] in ('completed', 'failed'))
        assert run(a.qmp, 'query-migrate')['status'] == 'completed'
        b.qmp.wait_event('RESUME')
        b.d.avail, b.d.seen, b.d.reasons = a.d.avail, a.d.seen, 0
        assert b.d.link() == 3
        data = frame()
        a.peer.send(frame())
        b.peer.send(data)
        assert b.d.take() == (1, data)
        b.d.send(data)
        assert b.peer.receive() == data
        assert a.peer.silent()
        assert a.vm.quit() == 0 and b.vm.quit() == 0


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
