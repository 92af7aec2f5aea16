#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stops Debian's kernel at a function of its own with gdb, steps, looks around, goes on.

usage: gdb-linux.py KF-SYSTEM KALLSYMS-TO-ELF

The guest writes its kallsyms to its disk: gdb knows the names from there.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib

import tap
from kfvm import VM, linux_args, disk_args

SYSTEM, SYMBOLS = sys.argv[1:3]

SCRIPT = '''
set pagination off
set confirm off
target remote {path}
break vfs_write
continue
bt 4
stepi
stepi
x/i $pc
info registers priv satp
x/s &linux_banner
printf "syscall from %d\\n", $sstatus >> 8 & 1
tbreak ksys_write
continue
delete
detach
'''


def symbols_of(vm, disk, directory):
    """The guest's kernel has no random addresses: its names are good for gdb as they are."""
    vm.serial.send('echo 1 >/proc/sys/kernel/kptr_restrict; '
                   'gzip -1 -c /proc/kallsyms >/dev/vda; sync; echo DO""NE\n')
    vm.serial.expect('DONE', 240)
    names, elf = os.path.join(directory, 'kallsyms'), os.path.join(directory, 'symbols.elf')
    with open(disk, 'rb') as file, open(names, 'wb') as out:
        out.write(zlib.decompressobj(31).decompress(file.read()))
    subprocess.run([sys.executable, SYMBOLS, names, elf], check=True)
    return elf


def run_gdb(command, path):
    """What gdb says, also if it has to be stopped."""
    with open(path, 'w', encoding='utf-8') as out:
        try:
            subprocess.run(command, stdout=out, stderr=out, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            out.write('\ngdb did not come to its end\n')
    with open(path, encoding='utf-8') as file:
        return file.read()


def test_breakpoint_in_the_kernel():
    gdb = shutil.which('gdb-multiarch')
    if not gdb:
        raise tap.Skip('no gdb-multiarch')
    with tempfile.TemporaryDirectory(prefix='kfgdb-') as directory:
        disk, path = directory + '/disk', directory + '/gdb'
        with open(disk, 'wb') as file:
            file.truncate(64 << 20)
        with VM(SYSTEM, [*linux_args(), *disk_args(disk, fmt='raw'), '-gdb',
                         f'unix:{path},server=on,wait=off']) as vm:
            vm.serial.expect('guest# ', 240)
            elf = symbols_of(vm, disk, directory)
            vm.serial.expect('guest# ')
            vm.serial.send('while :; do echo x >/dev/null; done &\n')
            vm.serial.expect('guest# ')
            script = directory + '/script'
            with open(script, 'w', encoding='utf-8') as file:
                file.write(SCRIPT.format(path=path))
            said = run_gdb([gdb, '-q', '-nx', '-batch', '-x', script, elf], directory + '/said')
            print('\n'.join('# ' + line for line in said.splitlines()))
            assert re.search(r'Breakpoint 1, 0x\w+ in vfs_write', said)
            assert re.search(r'#0 .* vfs_write', said)
            assert re.search(r'<vfs_write\+\d+>:', said), 'two steps into the function'
            assert re.search(r'priv +0x1\b', said) and 'Linux version' in said
            assert re.search(r'breakpoint 2, 0x\w+ in ksys_write', said)
            # and the guest lives on
            vm.serial.send('kill %1; echo AL""IVE\n')
            vm.serial.expect('ALIVE')
            assert vm.quit() == 0


if __name__ == '__main__':
    tap.run(sys.modules[__name__])
