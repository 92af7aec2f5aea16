#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel in a snapshot, seen by gdb with the names from its own kallsyms.

usage: look-inside-linux.py KF-SYSTEM-RISCV64 KF-IMG KALLSYMS-TO-ELF

The guest writes its kallsyms to its disk; a FUSE export of the disk brings them here.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib

import tap
from kfvm import VM, disk_args, linux_args
from rig import on

SYSTEM, IMG, SYMBOLS = sys.argv[1:4]
SNAPSHOTS = 5


def prepare(directory):
    """Makes disk.qcow2 with snapshots 'busy0' and so on, and the file kallsyms."""
    image, file = os.path.join(directory, 'disk.qcow2'), os.path.join(directory, 'file')
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '64M'], check=True)
    with open(file, 'wb'):
        pass
    with VM(SYSTEM, linux_args() + disk_args(image)) as vm:
        vm.serial.expect('guest# ', 240)
        vm.serial.send('echo 1 >/proc/sys/kernel/kptr_restrict; '
                       'gzip -1 -c /proc/kallsyms >/dev/vda; sync; echo DO""NE\n')
        vm.serial.expect('DONE', 240)
        vm.qmp.cmd('block-export-add', type='fuse', id='f', node_name='disk0', mountpoint=file)
        with open(file, 'rb') as disk, open(os.path.join(directory, 'kallsyms'), 'wb') as out:
            out.write(zlib.decompressobj(31).decompress(disk.read()))
        vm.qmp.cmd('block-export-del', id='f')
        vm.serial.send('while :; do cat /proc/interrupts >/dev/null; echo LO""OP; done\n')
        vm.serial.expect('LOOP')
        for i in range(SNAPSHOTS):
            vm.qmp.run_job('snapshot-save', 'j', tag=f'busy{i}', **on('disk0'))
        vm.quit()
    return image


def test_backtrace(directory):
    gdb = shutil.which('gdb-multiarch')
    if not gdb:
        raise tap.Skip('no gdb-multiarch')
    image, mnt = prepare(directory), os.path.join(directory, 'mnt')
    symbols = os.path.join(directory, 'symbols.elf')
    subprocess.run([sys.executable, SYMBOLS, os.path.join(directory, 'kallsyms'), symbols],
                   check=True)
    os.mkdir(mnt)
    frames = set()
    for i in range(SNAPSHOTS):
        subprocess.run([IMG, 'vmstate', 'mount', image, f'busy{i}', mnt], check=True)
        out = subprocess.run([gdb, '-q', '-batch', '-nx', symbols, f'{mnt}/core.elf', '-ex', 'bt',
                              '-ex', 'x/s &linux_banner'], capture_output=True, text=True,
                             timeout=120, check=True).stdout
        subprocess.run(['umount', mnt], check=True)
        assert 'Linux version' in out, out
        frames.update(re.findall(r'^#\d+ .* in (\w+) \(\)', out, re.M))
        print(f'# busy{i}: ' + ' < '.join(re.findall(r'^#\d+ .*? in (\S+)', out, re.M)[1:]))
    # Whatever it was doing: some snapshot of a shell in a loop is inside a system call.
    assert frames & {'do_trap_ecall_u', 'handle_exception', 'do_page_fault'}, frames


if __name__ == '__main__':
    if not os.path.exists('/dev/fuse') or os.geteuid() != 0:
        print('1..0 # SKIP no /dev/fuse, or not root')
        sys.exit(0)
    with tempfile.TemporaryDirectory(prefix='kflook-') as scratch:
        tap.run(sys.modules[__name__], scratch)
