#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The test server, and with it devices without a guest: memory, UART, clock, RTC, interrupt
controller, a disk's queue.

usage: qtest.py KF-SYSTEM
"""

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time

from kfvm import VM
from rig import slow, wait_status
from qtestclient import BlkDevice, QTest
import tap

BINARY = sys.argv[1]
RAM, UART, RTC, CLINT, PLIC = 0x80000000, 0x10000000, 0x101000, 0x2000000, 0xc000000
LAST_SLOT = 0x10008000
UART_IRQ, RTC_IRQ, LAST_SLOT_IRQ = 10, 11, 8


class Driven:
    def __init__(self, *extra, accel='qtest', monitors=1):
        self.dir = tempfile.TemporaryDirectory(prefix='kfqtest-')
        self.path = path = self.dir.name + '/qtest'
        self.vm = VM(BINARY, ['-accel', accel, '-m', '16M', '-bios', 'none', '-qtest-log', 'none',
                              '-qtest', f'unix:{path},server=on,wait=off', *extra], monitors=monitors)
        self.q = QTest(path)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.q.close()
        self.vm.__exit__()
        self.dir.cleanup()


def test_memory():
    with Driven() as d:
        q = d.q
        assert q.ok('endianness') == 'little'
        assert q.ask('readb 0x80000000') == 'OK 0x0000000000000000'
        for kind, value in (('b', 0x12), ('w', 0x1234), ('l', 0x12345678),
                            ('q', 0x1122334455667788)):
            q.set(kind, RAM + 0x100, value)
            assert q.get(kind, RAM + 0x100) == value
        assert q.read(RAM + 0x100, 8) == bytes.fromhex('8877665544332211')
        q.write(RAM, b'\xde\xad\xbe\xef')
        assert q.get('l', RAM) == 0xefbeadde
        q.ok(f'memset {RAM} 0x10 0xab')
        assert base64.b64decode(q.ok(f'b64read {RAM} 17')) == b'\xab' * 16 + b'\0'
        q.ok(f'b64write {RAM} 4 AQIDBA==')
        assert q.get('l', RAM) == 0x04030201
        blob = os.urandom(1 << 20)
        q.write(RAM + 0x1000, blob)
        assert q.read(RAM + 0x1000, len(blob)) == blob
        assert q.get('q', 0) == 0 and q.get('l', 0x40000000) == 0  # where nothing is
        q.set('l', 0x40000000, 1)
        assert q.get('l', UART + 0x102) == q.get('q', UART) == q.get('w', UART + 1) == 0


def test_interrupts_do_not_cut_replies():
    """An interrupt while a long reply waits for its reader is told behind it; all else is whole."""
    with Driven() as d:
        q = d.q
        q.ok('irq_intercept_in plic')
        q.set('b', UART + 1, 1)  # data available
        blob = os.urandom(1 << 20)
        q.write(RAM, blob)
        for command, decode in (('read', lambda text: bytes.fromhex(text[5:])),
                                ('b64read', lambda text: base64.b64decode(text[3:]))):
            q.send(f'{command} {RAM} {len(blob)}')
            select.select([q.sock], [], [], 20)
            d.vm.serial.send('x')
            while not int(d.vm.qmp.hmp(f'xp /1xb {UART + 5:#x}').split(':')[1], 16) & 1:
                pass
            first = q.line()
            assert first.startswith('OK ') and decode(first) == blob
            q.wait_irq(UART_IRQ)
            assert q.get('b', UART) == ord('x') and q.irqs[UART_IRQ] is False


def test_a_client_that_sends_much():
    """A thousand lines at once, and one after the other in odd pieces."""
    with Driven() as d:
        d.q.sock.sendall(b'endianness\n' * 20000)
        assert {d.q.line() for _ in range(20000)} == {'OK little'}
        for piece in (b'wri', b'teb 0x80000000 0x5', b'a\nreadb', b'  0x80000000 ', b'\n'):
            d.q.sock.sendall(piece)
            d.vm.qmp.cmd('query-status')
        assert [d.q.line(), d.q.line()] == ['OK', 'OK 0x000000000000005a']


def test_another_client():
    """Who comes next hears nothing of what the one before has asked."""
    with Driven() as d:
        d.q.write(RAM, b'\x11' * (1 << 20))
        d.q.send(f'read {RAM} {1 << 20}')
        select.select([d.q.sock], [], [], 20)
        d.q.close()
        d.q = QTest(d.path)
        assert d.q.ask('endianness') == 'OK little'


def test_errors():
    with Driven() as d:
        assert d.q.ask('zork') == "FAIL Unknown command 'zork'"
        for command in ('readb', 'readb zz', 'writeb 0', 'writeb 0 x', 'read 0x80000000 0',
                        'read 0x80000000 0x200000', 'read 0x40000000 4', 'write 0x80000000 2 0xzz',
                        'memset 0x80000000 1', 'clock_set x', 'clock_step -1',
                        'irq_intercept_in /machine', 'module_load a b',
                        'clock_step 0xffffffffffffffff'):
            assert d.q.ask(command).startswith('FAIL'), command
        d.q.sock.sendall(b'\n \n' + b'x' * 3000000 + b'\n')
        assert d.q.ask('endianness').startswith(('FAIL', 'OK'))


def test_no_guest_code():
    """The CPU is there and stands; the state is as if it ran."""
    with Driven() as d:
        wait_status(d.vm.qmp, 'running')
        d.q.step(10**9)
        assert len(d.vm.qmp.cmd('query-cpus-fast')) == 1
        assert 'pc       0000000000001000' in d.vm.qmp.hmp('info registers')


def test_clock():
    with Driven() as d:
        q = d.q
        assert q.step(0) == 0 and q.step() == 0
        assert q.get('q', CLINT + 0xbff8) == 0
        assert q.step(1000000) == 1000000
        assert q.get('q', CLINT + 0xbff8) == 10000  # 10 MHz
        assert q.ok('clock_set 5000000') == '5000000'
        assert q.ok('clock_set 1') == '5000000'  # never back
        q.set('q', CLINT + 0x4000, 80000)  # mtimecmp
        assert q.step() == 8000000
    with Driven('-S', accel='tcg') as d:
        assert d.q.ask('clock_step 1').startswith('FAIL')


def test_uart():
    with Driven() as d:
        q = d.q
        q.ok('irq_intercept_in plic')
        assert q.ask('irq_intercept_in plic').startswith('FAIL')
        assert q.get('b', UART + 5) == 0x60
        for char in b'hello':
            q.set('b', UART, char)
        d.vm.serial.expect('hello')
        q.set('b', UART + 1, 2)  # transmitter empty
        q.wait_irq(UART_IRQ)
        assert q.get('b', UART + 2) & 0xf == 2
        q.set('b', UART + 1, 1)  # data available
        d.vm.serial.send('x')
        q.wait_irq(UART_IRQ)
        assert q.get('b', UART) == ord('x')
        q.ok('endianness')
        assert q.irqs[UART_IRQ] is False


def test_rtc():
    """It shows the host's wall clock: an alarm waits for that, whatever the guest's clock says."""
    with Driven() as d:
        q = d.q
        q.ok('irq_intercept_in plic')

        def set_alarm(ns):
            q.set('l', RTC + 0xc, ns >> 32)
            q.set('l', RTC + 0x8, ns & 0xffffffff)

        before = time.time_ns()
        now = q.get('l', RTC) | q.get('l', RTC + 4) << 32
        assert before <= now <= time.time_ns()
        q.set('l', RTC + 0x10, 1)
        set_alarm(now)
        q.wait_irq(RTC_IRQ)
        q.set('l', RTC + 0x1c, 1)
        assert q.irqs[RTC_IRQ] is False
        set_alarm(now + 3600 * 10**9)
        assert 3000 * 10**9 < q.step() <= 3600 * 10**9
        assert q.get('l', RTC + 0x18) == 1 and not q.raised


def test_plic():
    """From a source through priority, enable and threshold to the context, and back."""
    with Driven() as d:
        q = d.q
        q.ok('irq_intercept_out plic')
        q.set('l', PLIC + 4 * UART_IRQ, 3)
        q.set('l', PLIC + 0x2000 + 0x80, 1 << UART_IRQ)  # enable in context 1, S-mode
        q.set('b', UART + 1, 2)
        q.wait_irq(1)
        assert q.get('l', PLIC + 0x1000) == 1 << UART_IRQ
        assert q.get('l', PLIC + 0x201004) == UART_IRQ  # claim
        assert q.irqs[1] is False
        assert d.vm.qmp.hmp('info irq') == (
            f'IRQ statistics for riscv.sifive.plic:\r\n{UART_IRQ}: 1\r\n')
        wires = f'{1 << UART_IRQ:08x},00000000,00000000,00000000'
        nothing = wires.replace(f'{1 << UART_IRQ:08x}', '00000000')
        assert d.vm.qmp.hmp('info pic').splitlines() == [
            f'plic: level={wires} pending={nothing} claimed={wires}',
            f'plic: context=0 out=0 threshold=0 enable={nothing}',
            f'plic: context=1 out=0 threshold=0 enable={wires}',
            f'plic: source={UART_IRQ} priority=3']
        q.set('b', UART + 1, 0)
        q.set('l', PLIC + 0x201004, UART_IRQ)  # complete
        assert q.get('l', PLIC + 0x1000) == 0


def test_disk():
    with tempfile.TemporaryDirectory() as directory:
        image = directory + '/a.qcow2'
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '1M'], check=True)
        with Driven('-blockdev', f'qcow2,node-name=n,file.driver=file,file.filename={image}',
                    '-device', 'virtio-blk-device,drive=n') as d:
            d.q.ok('irq_intercept_in plic')
            disk = BlkDevice(d.q, LAST_SLOT, LAST_SLOT_IRQ, RAM + 0x100000)
            assert disk.start() == 2048
            data = os.urandom(4096)
            assert disk.request(0, 8, bytes(4096)) == (0, bytes(4096))
            assert disk.request(1, 8, data)[0] == 0
            assert disk.request(0, 8, bytes(4096)) == (0, data)
            assert disk.request(0, 4096, bytes(512))[0] == 1  # behind the end
            assert disk.request(4, 0, b'')[0] == 0
            assert disk.request(99, 0, b'')[0] == 2  # not supported
            for turn in range(20):
                assert disk.request(1, 64 + turn, bytes([turn]) * 512)[0] == 0
            disk.start()  # a reset, while the worker may wait for the queue
            disk.used = 0
            assert disk.request(0, 83, bytes(512)) == (0, bytes([19]) * 512)
            d.vm.quit()
        subprocess.run(['qemu-img', 'check', '-q', image], check=True)


class Slow(Driven):
    """A disk whose writes take SECONDS, and one of them, with a reset behind it, under way."""

    SECONDS = 2

    def __init__(self, *extra):
        self.images = tempfile.TemporaryDirectory(prefix='kfqtest-')
        image = self.images.name + '/raw'
        with open(image, 'wb') as file:
            file.truncate(1 << 20)
        super().__init__('-blockdev', json.dumps({
            'driver': 'raw', 'node-name': 'n', 'file': {
                'driver': 'blkdebug', 'inject-error': [slow('write', self.SECONDS * 1000)],
                'image': {'driver': 'file', 'filename': image}}}),
                         '-device', 'virtio-blk-device,drive=n', *extra, monitors=2)
        self.q.ok('irq_intercept_in plic')
        disk = BlkDevice(self.q, LAST_SLOT, LAST_SLOT_IRQ, RAM + 0x100000)
        disk.start()
        disk.submit(1, 0, bytes(512))
        self.q.send(f'writel {LAST_SLOT + 0x70} 0')
        for _ in range(3):
            self.vm.qmp.cmd('query-status')
        assert self.q.silent()

    def __exit__(self, *exc):
        super().__exit__(*exc)
        self.images.cleanup()


def test_registers_of_a_busy_device():
    """Who reads them waits, as the CPU would; nobody else does."""
    with Slow() as d:
        other = d.vm.session(1)
        other.send({'execute': 'human-monitor-command',
                    'arguments': {'command-line': f'xp /4xw {LAST_SLOT + 0x70:#x}'}})
        for _ in range(20):
            assert d.vm.qmp.cmd('query-status')['status'] == 'running'
        assert d.q.silent()
        assert other.reply()['return'].startswith(f'{LAST_SLOT + 0x70:016x}: 0x00000000 ')
        assert d.q.reply() == 'OK'
        other.close()


def test_reset_while_a_device_stops():
    with Slow() as d:
        d.vm.qmp.cmd('system_reset')
        d.vm.qmp.wait_event('RESET')
        assert d.q.reply() == 'OK'
        assert BlkDevice(d.q, LAST_SLOT, LAST_SLOT_IRQ, RAM + 0x100000).start() == 2048
        assert d.vm.quit() == 0


def test_end_while_a_device_stops():
    with Slow() as d:
        assert d.vm.quit() == 0


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
