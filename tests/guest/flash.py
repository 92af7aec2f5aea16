#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The flash banks, register by register, and what becomes of their content in snapshots: a
bank on qcow2, on a raw file that is left out, on a raw file that travels in the state.

usage: flash.py KF-SYSTEM
"""

import os
import struct
import subprocess
import sys
import tempfile
import time

import peek
import tap
from kfvm import QMPError, VM
from rig import fails, wait_status

BINARY = sys.argv[1]
DIR = tempfile.TemporaryDirectory(prefix='kfflash-')
PAYLOAD = os.path.join(DIR.name, 'payload')
peek.write(PAYLOAD)
BANK, BLOCK, SIZE = 0x22000000, 256 << 10, 32 << 20
READY, ERASE_ERROR, PROGRAM_ERROR, LOCKED = 0x80, 0x20, 0x10, 0x02


def path(name):
    return os.path.join(DIR.name, name)


def raw(name, fill=b'\xff'):
    """A raw bank of one repeated byte."""
    with open(path(name), 'wb') as file:
        file.write(fill * SIZE)
    return path(name)


def qcow2(name, size=SIZE, backing=None):
    command = ['qemu-img', 'create', '-q', '-f', 'qcow2']
    if backing:
        command += ['-b', backing, '-F', 'raw']
    subprocess.run(command + [path(name), str(size)], check=True)
    return path(name)


class Flash:
    """The driver of one bank: waits while the chips are busy."""

    def __init__(self, vm, base=BANK):
        self.guest = peek.Peek(vm.serial.sock)
        self.base = base

    def write(self, offset, value, size=4):
        self.guest.write(self.base + offset, value, size)

    def read(self, offset, size=4):
        return self.guest.read(self.base + offset, size)

    def wait(self):
        deadline = time.monotonic() + 30
        while True:
            status = self.read(0)
            assert status >> 16 == status & 0xffff, hex(status)
            if status & READY:
                return status & 0xff
            assert time.monotonic() < deadline, 'the chips stay busy'

    def end(self):
        """Status of the operation; back to reading."""
        status = self.wait()
        self.write(0, 0x500050)
        self.write(0, 0xff00ff)
        return status

    def program(self, offset, value):
        self.write(offset, 0x400040)
        self.write(offset, value)
        return self.end()

    def erase(self, offset):
        self.write(offset, 0x200020)
        self.write(offset, 0xd000d0)
        return self.end()

    def buffer(self, offset, words, confirm=0xd000d0):
        self.write(offset, 0xe800e8)
        self.write(offset, (len(words) - 1) * 0x10001)
        for i, word in enumerate(words):
            self.write(offset + 4 * i, word)
        self.write(offset, confirm)
        return self.end()


def start(*args):
    return VM(BINARY, ['-m', '32M', '-bios', PAYLOAD, *args])


def pflash(file, fmt='raw', more=''):
    return ['-drive', f'if=pflash,unit=1,format={fmt},file={file}{more}']


def stored(file, offset, n=4):
    """What a raw bank's file holds."""
    with open(file, 'rb') as f:
        f.seek(offset)
        return f.read(n)


def query(flash):
    """The chips' answer to a CFI query, as words."""
    flash.write(0x55 * 4, 0x980098)
    words = struct.unpack('<96I', flash.guest.copy(flash.base, 384))
    flash.write(0, 0xff00ff)
    assert all(w >> 16 == w & 0xffff for w in words)
    return bytes(w & 0xff for w in words)


def test_identification():
    with start(*pflash(raw('id'))) as vm:
        flash = Flash(vm)
        cfi = query(flash)
        assert cfi[0x10:0x13] == b'QRY' and cfi[0x31:0x34] == b'PRI', cfi
        assert cfi[0x27] == 24 and cfi[0x2d:0x31] == bytes((127, 0, 0, 2)), cfi
        flash.write(0, 0x900090)
        assert [flash.read(4 * i) for i in range(3)] == [0x890089, 0x180018, 0]
        flash.write(0, 0x700070)
        assert [flash.read(0, n) for n in (1, 2, 4, 8)] == [
            0x80, 0x80, 0x800080, 0x80008000800080]
        # the other bank is another chip
        assert Flash(vm, 0x20000000).read(0) == 0 and flash.read(0) == 0x800080
        flash.write(0, 0xff00ff)
        assert flash.read(0) == 0xffffffff


def test_cfi_is_qemus():
    """All but the longest times that an operation may take."""
    try:
        subprocess.run(['qemu-system-riscv64', '--version'], check=True, capture_output=True)
    except FileNotFoundError:
        raise tap.Skip('QEMU is not installed') from None
    tables = []
    for binary in (BINARY, 'qemu-system-riscv64'):
        with VM(binary, ['-m', '32M', '-bios', PAYLOAD]) as vm:
            table = bytearray(query(Flash(vm)))
            table[0x23:0x25] = b'..'
            tables.append(table)
    assert tables[0] == tables[1], tables


def test_device_tree_is_qemus():
    for binary in (BINARY, 'qemu-system-riscv64'):
        tree = path('tree')
        try:
            subprocess.run([binary, '-M', f'virt,dumpdtb={tree}', '-display', 'none'],
                           check=True, capture_output=True)
        except FileNotFoundError:
            raise tap.Skip('QEMU is not installed') from None
        with open(tree, 'rb') as f:
            data = f.read()
        assert data.count(b'flash@20000000\0') == data.count(b'cfi-flash\0') == 1
        assert struct.pack('>8I', 0, 0x20000000, 0, SIZE, 0, BANK, 0, SIZE) in data


def test_program_and_erase():
    file = raw('ops')
    with start(*pflash(file)) as vm:
        flash = Flash(vm)
        assert flash.program(0x100, 0x12345678) == READY
        assert flash.read(0x100) == 0x12345678
        assert stored(file, 0x100) == struct.pack('<I', 0x12345678), 'ready before it is written'
        assert flash.program(0x100, 0x0000ffff) == READY  # only clears bits
        assert flash.read(0x100) == 0x00005678
        words = [0x11111111 * i for i in range(16)]
        assert flash.buffer(0x3f00, words) == READY
        assert struct.unpack('<16I', flash.guest.copy(BANK + 0x3f00, 64)) == tuple(words)
        assert flash.program(BLOCK, 1) == READY
        assert flash.erase(0x100) == READY
        assert flash.read(0x100) == flash.read(0x3f00) == 0xffffffff and flash.read(BLOCK) == 1
        assert stored(file, 0, BLOCK) == b'\xff' * BLOCK and stored(file, BLOCK) == b'\1\0\0\0'
        # a reset in the middle of a command: the bank can be read again
        flash.write(0, 0xe800e8)
        vm.qmp.cmd('system_reset')
        vm.qmp.wait_event('RESET')
        assert flash.read(BLOCK) == 1
        assert vm.quit() == 0
    assert stored(file, BLOCK) == b'\1\0\0\0'


def test_wrong_commands():
    with start(*pflash(raw('wrong'))) as vm:
        flash = Flash(vm)
        error = READY | ERASE_ERROR | PROGRAM_ERROR
        flash.write(0, 0x200020)
        flash.write(0, 0xff00ff)  # not the confirmation
        assert flash.wait() == error
        flash.write(0, 0x700070)
        assert flash.wait() == error, 'errors stay until they are cleared'
        assert flash.end() == error
        flash.write(0, 0x200020)
        flash.write(BLOCK, 0xd000d0)  # of another block
        assert flash.end() == error
        assert flash.buffer(0, [0] * 4, confirm=0) == error
        assert flash.buffer(BLOCK - 8, [0] * 4) == error  # over the end of the block
        flash.write(0, 0xe800e8)
        flash.write(0, 0x04000400)  # more than the buffer takes
        assert flash.end() == error
        flash.write(0, 0x600060)
        flash.write(0, 0x330033)
        assert flash.end() == error
        flash.write(0, 0x600060)
        flash.write(0, 0xd000d0)  # unlock: nothing to do
        assert flash.end() == READY
        assert flash.guest.copy(BANK, 64) == b'\xff' * 64
        assert flash.guest.copy(BANK + BLOCK - 16, 32) == b'\xff' * 32


def test_read_only():
    with start(*pflash(raw('ro'), more=',readonly=on')) as vm:
        flash = Flash(vm)
        assert flash.program(0, 0) == READY | PROGRAM_ERROR | LOCKED
        assert flash.erase(0) == READY | ERASE_ERROR | LOCKED
        assert flash.read(0) == 0xffffffff


def test_options():
    small = path('small')
    with open(small, 'wb') as f:
        f.write(bytes(1 << 20))
    node = f'driver=file,node-name=n,filename={raw("opt")}'
    for args, text in (
            (pflash(small), 'device requires 33554432 bytes, block backend provides 1048576 bytes'),
            (pflash(path('opt'), more=',index=1')[:1] + [f'if=pflash,unit=2,file={path("opt")}'],
             'the machine has 2 flash banks'),
            (['-M', 'virt,pflash1=none'], "Property 'virt-machine.pflash1' can't find value 'none'"),
            (['-blockdev', node, '-M', 'virt,pflash0=n,pflash1=n'], 'n'),
            (['-blockdev', node, '-M', 'virt,pflash1=n', *pflash(path('opt'))], 'opt')):
        result = subprocess.run([BINARY, '-M', 'virt', '-display', 'none', '-nodefaults', *args],
                                capture_output=True, text=True, timeout=30)
        assert result.returncode == 1 and text in result.stderr, (args, result.stderr)
    with start('-blockdev', node, '-M', 'virt,pflash1=n') as vm:
        assert Flash(vm).program(0, 5) == READY
        assert vm.quit() == 0
    assert stored(path('opt'), 0) == b'\5\0\0\0'


def test_write_error():
    """The guest is told, and the bank holds what it held."""
    rule = '"inject-error": [{"iotype": "write", "errno": 5, "once": true}]'
    node = ('{"driver": "raw", "node-name": "vars", "file": {"driver": "blkdebug", %s, "image": '
            '{"driver": "file", "filename": "%s"}}}' % (rule, raw('eio')))
    with start('-blockdev', node, '-M', 'virt,pflash1=vars') as vm:
        flash = Flash(vm)
        assert flash.program(0, 0) == READY | PROGRAM_ERROR
        assert flash.read(0) == 0xffffffff
        assert flash.program(0, 0) == READY
        assert flash.read(0) == 0


def job(vm, name, **args):
    return vm.qmp.run_job(name, 'j', **args)


def disk():
    """A disk that holds the machine's state."""
    return ['-blockdev', f'driver=qcow2,node-name=disk,file.driver=file,'
            f'file.filename={qcow2("disk", 1 << 26)}']


def test_qcow2_in_the_snapshot():
    file = qcow2('vars', backing=raw('template'))
    with start(*disk(), *pflash(file, 'qcow2', ',node-name=vars')) as vm:
        flash = Flash(vm)
        assert flash.program(0x1000, 1) == READY
        job(vm, 'snapshot-save', tag='a', vmstate='disk', devices=['disk', 'vars'])
        assert flash.program(0x1000, 0) == READY and flash.erase(BLOCK) == READY
        assert flash.program(BLOCK, 7) == READY
        job(vm, 'snapshot-save', tag='b', vmstate='disk', devices=['disk', 'vars'])
        job(vm, 'snapshot-load', tag='a', vmstate='disk', devices=['disk', 'vars'])
        assert flash.read(0x1000) == 1 and flash.read(BLOCK) == 0xffffffff
        assert flash.program(BLOCK, 3) == READY
        job(vm, 'snapshot-load', tag='b', vmstate='disk', devices=['disk', 'vars'])
        assert flash.read(0x1000) == 0 and flash.read(BLOCK) == 7
        assert vm.quit() == 0
    subprocess.run(['qemu-img', 'convert', '-O', 'raw', file, path('out')], check=True)
    assert stored(path('out'), BLOCK) == b'\7\0\0\0' and stored(path('out'), 0x1000) == bytes(4)
    subprocess.run(['qemu-img', 'check', '-q', file], check=True)


def test_raw_is_left_out():
    """By not naming it: the chips' registers go back, the content stays."""
    file = raw('left')
    with start(*disk(), *pflash(file, more=',node-name=vars')) as vm:
        flash = Flash(vm)
        flash.write(0, 0x700070)
        job(vm, 'snapshot-save', tag='a', vmstate='disk', devices=['disk'])
        assert flash.end() == READY and flash.program(0, 0) == READY
        job(vm, 'snapshot-load', tag='a', vmstate='disk', devices=['disk'])
        assert flash.read(0) == 0x800080, 'registers are not those of the snapshot'
        assert flash.end() == READY and flash.read(0) == 0
        fails(lambda: vm.qmp.cmd('snapshot-save', job_id='k', tag='b', vmstate='disk',
                                 devices=['disk', 'vars']), 'pflash1')
    assert stored(file, 0) == bytes(4)


def test_raw_in_the_state():
    file = raw('kept')
    machine = ['-M', 'virt,pflash-in-state=on']
    image = disk()
    with start(*image, *machine, *pflash(file)) as vm:
        flash = Flash(vm)
        assert flash.program(0x2000, 0x11) == READY and flash.program(BLOCK * 9, 0x22) == READY
        job(vm, 'snapshot-save', tag='a', vmstate='disk', devices=['disk'])
        assert flash.erase(BLOCK * 9) == READY and flash.program(0x2000, 0) == READY
        assert flash.program(0x5000, 0) == READY
        job(vm, 'snapshot-load', tag='a', vmstate='disk', devices=['disk'])
        # the job is over: the file has it all
        assert stored(file, 0x2000) == b'\x11\0\0\0' and stored(file, 0x5000) == b'\xff' * 4
        assert stored(file, BLOCK * 9) == b'\x22\0\0\0'
        assert flash.read(0x2000) == 0x11 and flash.read(BLOCK * 9) == 0x22
        assert vm.quit() == 0
    # another process, another file: it becomes what the state says
    other = raw('kept2', b'\0')
    with start(*image, *machine, *pflash(other), '-loadvm', 'a') as vm:
        wait_status(vm.qmp, 'running')
        flash = Flash(vm)
        assert flash.read(0x2000) == 0x11 and flash.read(0) == 0xffffffff
        assert vm.quit() == 0
    with open(other, 'rb') as a, open(file, 'rb') as b:
        assert a.read() == b.read()
    # a bank that cannot be written: refused, and the machine goes on as it was
    with start(*image, *pflash(raw('kept3'), more=',readonly=on')) as vm:
        flash = Flash(vm)
        assert flash.read(0) == 0xffffffff
        fails(lambda: job(vm, 'snapshot-load', tag='a', vmstate='disk', devices=['disk']),
              'read-only')
        assert vm.qmp.cmd('query-status')['status'] == 'running'
        assert flash.read(0) == 0xffffffff


def test_failed_load_changes_nothing():
    """The disk's last step fails: memory and file are what they were, in both ways to keep."""
    kept, vars_ = raw('undo'), qcow2('undo-vars')
    node = '{"driver": "qcow2", "node-name": "disk", "file": {"driver": "blkdebug", %s ' \
           '"image": {"driver": "file", "filename": "%s"}}}'
    image = qcow2('undo-disk', 1 << 26)
    banks = ['-M', 'virt,pflash-in-state=on', '-drive',
             f'if=pflash,unit=0,format=qcow2,file={vars_},node-name=vars', '-bios', PAYLOAD,
             *pflash(kept)]
    both = {'vmstate': 'disk', 'devices': ['vars', 'disk']}
    with start('-kernel', PAYLOAD, '-blockdev', node % ('', image), *banks) as vm:
        flash, zero = Flash(vm), Flash(vm, 0x20000000)
        assert flash.program(0, 1) == READY and zero.erase(0) == READY
        job(vm, 'snapshot-save', tag='a', **both)
        assert vm.quit() == 0
    rule = '"inject-error": [{"iotype": "flush", "errno": 5}],'
    with start('-kernel', PAYLOAD, '-blockdev', node % (rule, image), *banks) as vm:
        flash, zero = Flash(vm), Flash(vm, 0x20000000)
        assert flash.program(0, 0) == READY and zero.program(0, 9) == READY
        fails(lambda: job(vm, 'snapshot-load', tag='a', **both), 'disk')
        assert vm.qmp.cmd('query-status')['status'] == 'running'
        assert flash.read(0) == 0 and zero.read(0) == 9
        assert flash.program(4, 4) == READY and zero.program(4, 8) == READY
        assert vm.quit() == 0
    assert stored(kept, 0, 8) == struct.pack('<II', 0, 4)
    subprocess.run(['qemu-img', 'convert', '-O', 'raw', vars_, path('out')], check=True)
    assert stored(path('out'), 0, 8) == struct.pack('<II', 9, 8)


def test_busy_over_a_snapshot():
    """A program operation that the disk has not begun is done by who loads the state."""
    node = ('{"driver": "raw", "node-name": "vars", "file": {"driver": "blkdebug", "image": '
            '{"driver": "file", "filename": "%s"}}}' % raw('busy'))
    image = disk()
    with start(*image, '-blockdev', node, '-M', 'virt,pflash1=vars') as vm:
        flash = Flash(vm)
        assert vm.qmp.hmp('qemu-io vars "break pwritev held"') == ''
        flash.write(0x40, 0x400040)
        flash.write(0x40, 0x77777777)
        assert not flash.read(0) & READY, 'the chips are not busy'
        job(vm, 'snapshot-save', tag='a', vmstate='disk', devices=['disk'])
        assert not flash.read(0) & READY, 'the write was not held'
        while vm.qmp.hmp('qemu-io vars "resume held"'):  # it has not come so far yet
            pass
        assert flash.end() == READY and flash.read(0x40) == 0x77777777
        assert vm.quit() == 0
    other = raw('busy2')
    with start(*image, *pflash(other), '-loadvm', 'a') as vm:
        wait_status(vm.qmp, 'running')
        flash = Flash(vm)
        assert flash.end() == READY and flash.read(0x40) == 0x77777777
        assert stored(other, 0x40) == b'wwww'


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
