#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The human monitor: what it prints is what QEMU prints, line editing in a terminal, memory in
files, and what may take long does not hold up anybody else.

usage: monitor.py KF-SYSTEM
"""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import bare
from kfvm import VM, Serial
from rig import Rig, fails, on, slow, tags, wait_suspended
import tap

PROGRAM = sys.argv[1]
QEMU = 'qemu-system-riscv64'
RAM = 0x80000000
VIRTUAL = 0xffffffc000000000


def page_tables():
    """A raw image with Sv39 tables from page 1 on, and a hart in S mode behind them."""
    c = bare.Code()
    c.li(bare.T0, 8)
    c.i(0x13, 1, bare.T0, bare.T0, 60)
    c.li(bare.T1, (RAM >> 12) + 1)
    c.add(bare.T0, bare.T0, bare.T1)
    c.csrw(0x180, bare.T0)  # satp
    c.li(bare.T0, 0xffffffff)
    c.csrw(0x3b0, bare.T0)  # all of memory for S mode
    c.addi(bare.T0, bare.ZERO, 0x1f)
    c.csrw(0x3a0, bare.T0)
    c.li(bare.T0, 1)
    c.i(0x13, 1, bare.T0, bare.T0, 11)
    c.csrw(0x300, bare.T0)  # mstatus.MPP: S
    c.addi(bare.T0, bare.ZERO, -1)
    c.i(0x13, 1, bare.T0, bare.T0, 38)
    c.addi(bare.T0, bare.T0, 0x200)
    c.csrw(0x341, bare.T0)  # mepc
    c.words.append(0x30200073)  # mret
    code = c.bytes()
    image = bytearray(0x6000)
    image[:len(code)] = code
    struct.pack_into('<I', image, 0x200, 0x6f)  # jump to itself
    r, w, x, u, g, a, d = (1 << i for i in range(1, 8))
    for table, index, address, flags in (
            (1, 0, 0x2000, 0), (1, 2, 0, r | w | x | a | d), (1, 3, 0x40000000, r | w | g | a | d),
            (1, 256, 0x3000, 0), (2, 0, 0x4000, 0), (2, 1, 0x200000, r | w | u | a | d),
            (2, 2, 0x400000, r | w | u | a | d), (2, 3, 0xa00000, r | w | u | a | d),
            (2, 5, 0x400000, r | x | u | a), (3, 0, 0x5000, 0), (4, 1, 0x6000, r),
            (4, 2, 0x7000, r), (4, 3, 0x9000, r | w | a | d), (5, 0, 0, r | x | a),
            (5, 1, 0x1000, r | w | a | d)):
        struct.pack_into('<Q', image, 0x1000 * table + 8 * index,
                         RAM + address >> 12 << 10 | flags | 1)
    return bytes(image)


class Line:
    """A VM whose monitor is asked through QMP, on its standard streams: any of the two."""

    def __init__(self, program, *args):
        self.process = subprocess.Popen(
            [program, '-M', 'virt', '-display', 'none', '-nodefaults', '-m', '32M', '-qmp',
             'stdio', *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events = []
        json.loads(self.process.stdout.readline())
        self.cmd('qmp_capabilities')

    def send(self, command, **args):
        text = json.dumps({'execute': command, 'arguments': args})
        self.process.stdin.write(text + '\n')
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            if line.startswith('Formatting'):  # QEMU says so when it makes an image
                continue
            answer = json.loads(line)
            if 'event' not in answer:
                return answer
            self.events.append(answer)

    def cmd(self, command, **args):
        return self.send(command, **args)['return']

    def hmp(self, line):
        return self.send('human-monitor-command', **{'command-line': line})['return']

    def close(self):
        try:
            self.cmd('quit')
        except (OSError, ValueError):
            pass
        self.process.stdin.close()
        self.process.wait(20)


class Both:
    def __init__(self, *args):
        if not shutil.which(QEMU):
            raise tap.Skip(f'no {QEMU}')
        self.dir = tempfile.TemporaryDirectory(prefix='kfmon-')
        self.image = os.path.join(self.dir.name, 'image')
        with open(self.image, 'wb') as file:
            file.write(page_tables())
        self.ours = Line(PROGRAM, '-bios', self.image, *args)
        self.theirs = Line(QEMU, '-bios', self.image, '-cpu', 'rv64,h=false', *args)

    def same(self, *lines, change=lambda text: text):
        for line in lines:
            ours, theirs = (change(vm.hmp(line.format(dir=os.path.join(self.dir.name, name))))
                            .replace(os.path.join(self.dir.name, name), 'DIR')
                            for vm, name in ((self.ours, 'a'), (self.theirs, 'b')))
            assert ours == theirs, f'{line!r}:\n{ours}\nand not\n{theirs}'

    def close(self):
        self.ours.close()
        self.theirs.close()
        self.dir.cleanup()


def test_memory_looks_as_in_qemu(_):
    both = Both('-S')
    both.same('xp 0x1000', 'p 5')
    both.same(*(f'xp /{count}{form}{size} 0x80001000' for count in (1, 3, 9)
                for form in 'xduoc' for size in 'bhwg'))
    both.same('xp /40cb 0x80000000', 'xp 0x80000001', 'x /2 0x80000004', 'x /4xw 0x1000',
              'xp /0x 0x1000', 'xp /4xw 0x81fffff8', 'xp /4xw 0', 'x /4xw 0',
              'xp /2xw 0xfffffffffffffff8', 'sum 0x80000000 0x1000', 'sum 0x1000 0', 'sum 0 16',
              'xp /z 0x1000', 'xp /-1x 0', 'xp /x8 0', 'xp', 'xp /4xw', 'xp $pc', 'x 1 2',
              'xp /2wx 0x1000 0')
    both.same('p 5', 'p /d -5', 'p /u -5', 'p /o 8', 'p /o -1', 'p /c 65', 'p 66', 'p /c 10',
              'p /c 39', 'p /c 92', 'p /c 0', 'p /c 300', 'p ~1', 'p /x -1', 'p /xb 258',
              'p 1+2*3-(4/2)%3', 'p 0x10 | 1 & 3 ^ 2', 'p 5--3', "p 'a'", 'p +5', 'p (1+2)*3',
              'p', 'p /', 'p /x/ 1', 'p $pc', 'p $', 'p 5/0', 'p 7%0', 'p 1 +', 'p (1', 'p )',
              'p 1)', "p 'ab'", "p '", 'p 018', 'p 0xzz', 'p 99999999999999999999', 'p 1 2',
              'print 3', 'p /i 4', 'p /x 0')
    both.close()


def test_the_rest_looks_as_in_qemu(_):
    both = Both('-S', '-object', 'iothread,id=it0', '-name', 'me', '-uuid', '12345678-1234-1234-1234-123456789abc')
    both.same('info status', 'info name', 'info uuid', 'info kvm', 'info dump', 'info snapshots',
              'info history', 'info memory_size_summary', 'info nosuch', 'nosuch', 'stop x',
              'info status x', 'nmi', 'system_wakeup', 'watchdog_action pause',
              'watchdog_action foo', 'cpu 0', 'cpu 1', 'cpu x', 'cpu 1x', 'info registers 3',
              'help nosuch', 'help stop', 'help info status', 'help xp', 'help memsave',
              'help print', 'help info mem', 'help info registers', 'delvm',
              'savevm foo', 'closefd foo', 'getfd foo', 'chardev-remove nosuch',
              'gpa2hva 0x100000', 'gpa2hva 0x30000000000', 'gpa2hpa 0x100000', 'gpa2hpa',
              'gpa2hpa 0x30000000000', 'help gpa2hpa', 'gva2gpa 0x1234',
              'memsave 0x1000 16 "{dir}"', 'pmemsave 0x1000 16 "{dir}"',
              'memsave 0 16 "{dir}"', 'pmemsave 0 16 "{dir}"', 'pmemsave 0 16 "/nosuch/x"',
              'memsave 0x1000 0 "{dir}"', 'memsave 0x1000 4', 'memsave 0x1000 4 ""',
              'memsave 0x1000 16 /tmp/x', 'dump-guest-memory', 'dump-guest-memory /nosuch/x',
              'dump-guest-memory {dir} 1', 'dump-guest-memory -w {dir}',
              'dump-guest-memory -s {dir}', 'dump-guest-memory -z -l {dir}',
              'dump-guest-memory {dir} 0 4096', 'info dump')
    said = both.ours.hmp('gpa2hpa 0x80000123')
    assert re.fullmatch(r'Host physical address for 0x80000123 \(riscv_virt_board.ram\) is '
                        r'0x[0-9a-f]+123\r\n|Error: the host does not tell where the page is\r\n',
                        said), said
    both.same('chardev-add pty,id=p0', 'chardev-change p0 null',
              change=lambda text: re.sub('/dev/pts/[0-9]+', 'PTY', text))
    both.same('chardev-add ringbuf,id=r0,size=64', r'ringbuf_write r0 "a\\\\b\\n"',
              'ringbuf_read r0 9', 'chardev-add null,id=n,logfile=/nosuch/x',
              'chardev-add null,id=n,logfile={dir}.log,logappend=on')
    both.ours.cmd('ringbuf-write', device='r0', data='a\tb\x01\x7f\u00e9')
    both.theirs.cmd('ringbuf-write', device='r0', data='a\tb\x01\x7f\u00e9')
    both.same('ringbuf_read r0 9', 'dumpdtb', 'dumpdtb {dir}', 'help dumpdtb')
    both.same('dumpdtb /nosuch/x', change=lambda text: re.sub(r'x\.[0-9A-Z]+', 'x.RANDOM', text))
    # a client on the standard streams hears of a new terminal in the answer alone
    for vm in (both.ours, both.theirs):
        assert vm.cmd('chardev-add', id='p1', backend={'type': 'pty', 'data': {}})['pty']
        assert vm.cmd('query-status')['status'] == 'prelaunch'
    both.same('help foo bar', 'help info foo bar', 'logfile /nosuch/x', 'device_add',
              'device_add nosuch', 'device_add id=x', 'device_del nosuch', 'help device_add',
              'help device_del', 'device_add virtio-blk-device,drive=n,bus=virtio-mmio-bus.3')
    both.same('qom-list', 'qom-list /nosuch', 'qom-get /objects/it0 nosuch', 'qom-get /nosuch x',
              'qom-get /machine type', 'qom-get /objects/it0 type',
              'qom-set /objects/it0 nosuch 5', 'object_add iothread,id=it1',
              'object_add iothread,id=it1', 'object_add iothread', 'object_add nosuch,id=x',
              'object_del it1', 'object_del it1')
    both.same('info memdev', change=lambda text: '\n'.join(
        l for l in text.splitlines() if not l.startswith(('  merge', '  reserve'))))
    both.same('info registers', 'info registers -a', 'info registers 0',
              change=lambda text: '\n'.join(l for l in text.splitlines() if ' mip ' not in l))
    both.close()


def is_part(ours, theirs):
    """Whether the lines of ours are among those of theirs, in the same order."""
    rest = iter(theirs.splitlines())
    return all(line in rest for line in ours.splitlines())


DISKS = ['-blockdev', 'null-co,node-name=n,size=1048576', '-device',
         'virtio-blk-device,drive=n,id=disk,serial=s1', '-blockdev',
         'null-co,node-name=second,size=2097152', '-device', 'virtio-blk-device,drive=second']


def test_tables_look_as_in_qemu(_):
    both = Both('-S', '-object', 'iothread,id=it0', '-chardev', 'null,id=nothing', *DISKS)
    topics = ('balloon', 'block-jobs', 'blockstats', 'hotpluggable-cpus', 'irq', 'memory-devices',
              'mice', 'network', 'numa', 'pic', 'qdm', 'qom-tree', 'qtree', 'ramblock', 'roms', 'spice', 'tpm',
              'usb', 'virtio', 'vnc')
    both.same(*(f'help info {topic}' for topic in topics))
    for query in ('numa', 'usb', 'virtio'):
        ours, theirs = both.ours.send('x-query-' + query), both.theirs.send('x-query-' + query)
        assert ours == theirs, (ours, theirs)
    for query in ('irq', 'ramblock', 'roms'):
        text = both.ours.cmd('x-query-' + query)['human-readable-text']
        assert text.replace('\n', '\r\n') == both.ours.hmp('info ' + query), (query, text)
        assert 'human-readable-text' in both.theirs.cmd('x-query-' + query)
    both.same('info balloon', 'info block-jobs', 'info blockstats', 'info hotpluggable-cpus',
              'info memory-devices', 'info mice', 'info network', 'info numa', 'info tpm',
              'info usb', 'info virtio', 'info spice', 'info vnc', 'balloon', 'balloon x',
              'balloon 100', 'balloon 1 2', 'help balloon', 'info qtree x', 'info qom-tree /nosuch',
              'info qom-tree /chardevs', 'info qom-tree disk',
              'info qom-tree /machine/peripheral', 'info qom-tree /machine/peripheral-anon')
    # QEMU's device tree has room to grow
    both.same('info roms', change=lambda text: '\n'.join(
        line for line in text.splitlines() if '"fdt"' not in line))
    # QEMU has more devices
    for line in ('info qom-tree', 'info qom-tree /', 'info qom-tree /objects', 'info ramblock',
                 'info qtree'):
        ours, theirs = both.ours.hmp(line), both.theirs.hmp(line)
        assert is_part(ours, theirs), f'{line!r}:\n{ours}\nand not\n{theirs}'
    for line in ('      dev: virtio-blk-device, id "disk"', '        drive = "n"',
                 '        serial = "s1"', '        drive = "second"', '  dev: goldfish_rtc, id ""',
                 '        queue-size = 256 (0x100)', '        write-cache = "auto"'):
        assert line in ours.splitlines(), line
    both.close()


def test_network_looks_as_in_qemu(_):
    with socket.create_server(('127.0.0.1', 0)) as probe:
        port = probe.getsockname()[1]
    both = Both('-S', '-netdev', # QEMU makes streams before others
                'stream,id=s0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=0',
                '-netdev', 'user,id=u0,net=10.5.0.0/16,restrict=on', '-netdev', 'user,id=u1',
                '-device', 'virtio-net-device,netdev=u0,id=nic0', '-device',
                'virtio-net-device,mac=52:54:00:00:00:01')
    both.same(*(f'help {command}' for command in (
        'announce_self', 'netdev_del', 'set_link', 'hostfwd_add', 'hostfwd_remove', 'info network', 'info usernet')))
    rules = [f'hostfwd_add u1 {rule}' for rule in (
        'zork', 'tcp', 'tcp:x', 'tcp::1', 'tcp::1-', 'tcp::1-:', 'tcp::1-:0', 'tcp::1-:70000',
        'tcp:zz:1-:1', 'tcp::1-zz:1', 'icmp::1-:1', 'tcp::99999-:1', 'tcp:1.2.3.4:1-:1')]
    both.same('info network', 'info usernet', *rules, 'hostfwd_add zork tcp::1-:1', 'hostfwd_add',
              'hostfwd_remove', 'hostfwd_remove zork tcp::1', 'hostfwd_remove u1 zork',
              'hostfwd_remove tcp::1', 'set_link', 'set_link nic0', 'set_link nic0 maybe',
              'set_link zork on', 'set_link nic0 off', 'set_link u0 off', 'set_link nic0 on',
              'info network', 'netdev_del', 'netdev_del zork', 'netdev_del nic0', 'netdev_add user',
              'netdev_add banana,id=x', 'netdev_add user,id=u2,host=1.2.3.4',
              'netdev_add user,id=u2', 'info network', 'info usernet', 'netdev_del u2',
              'netdev_del u1', 'info network')
    for vm in (both.ours, both.theirs):  # one port for both of them
        assert vm.hmp(f'hostfwd_add tcp:127.0.0.1:{port}-:22') == ''
        table = vm.hmp('info usernet').split()
        assert table[-8] == 'TCP[HOST_FORWARD]' and table[-6:] == \
            ['127.0.0.1', str(port), '10.5.2.15', '22', '0', '0'], table
        assert vm.hmp(f'hostfwd_remove u0 tcp:127.0.0.1:{port}').split()[-1] == 'removed'
    both.close()


def test_block_commands_look_as_in_qemu(_):
    """Each of the two has a disk of its own."""
    with tempfile.TemporaryDirectory(prefix='kfmon-') as directory:
        paths = [os.path.join(directory, name) for name in ('a', 'b')]
        for path in paths:
            subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '16M'], check=True)
        vms = [Line(program, '-S', '-bios', 'none', '-drive',
                    f'file={path},id=hd0,if=none,format=qcow2', '-device',
                    'virtio-blk-device,drive=hd0,id=vd0')
               for program, path in zip((PROGRAM, QEMU), paths)]
        for line in ('block_job_pause foo', 'block_job_resume foo', 'block_job_cancel -f foo',
                     'block_job_complete foo', 'block_job_set_speed foo 1', 'block_job_pause',
                     'snapshot_blkdev hd0', 'snapshot_blkdev foo x',
                     'snapshot_blkdev -n hd0 /nosuch/x', 'snapshot_blkdev_internal hd0 s1',
                     'snapshot_blkdev_internal hd0 s1', 'snapshot_blkdev_internal foo s1',
                     'snapshot_delete_blkdev_internal hd0 s1 7',
                     'snapshot_delete_blkdev_internal hd0 s1',
                     'snapshot_delete_blkdev_internal hd0 s1',
                     'snapshot_delete_blkdev_internal foo s1', 'block_resize hd0 32M',
                     'block_resize foo 1', 'block_resize hd0 -1', 'savevm t',
                     'snapshot_blkdev hd0 {path}-overlay', 'savevm t'):
            ours, theirs = (vm.hmp(line.format(path=path)).replace(path, 'PATH')
                            for vm, path in zip(vms, paths))
            assert ours == theirs, f'{line!r}:\n{ours}\nand not\n{theirs}'
        for vm, path in zip(vms, paths):
            subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path + '-copy', '32M'],
                           check=True)
            vm.cmd('blockdev-add', driver='qcow2', **{'node-name': 'copy'},
                   file={'driver': 'file', 'filename': path + '-copy'})
            assert 'return' in vm.send('blockdev-backup', device='hd0', target='copy', speed=1,
                                       sync='full', **{'job-id': 'copying'})
        ours, theirs = (re.sub('Completed [0-9]+', 'Completed N', vm.hmp('info block-jobs'))
                        for vm in vms)
        assert ours == theirs and ours.startswith('Type backup, device copying: Comp'), (ours, theirs)
        for vm in vms:
            assert vm.hmp('block_job_cancel copying') == ''
        sizes = [vm.cmd('query-block')[0]['inserted']['image']['virtual-size'] for vm in vms]
        assert sizes == [32 << 20] * 2, sizes
        for vm in vms:
            vm.close()


def test_translation_looks_as_in_qemu(_):
    both = Both()
    for vm in (both.ours, both.theirs):
        while f'{VIRTUAL + 0x200:x}' not in vm.hmp('info registers'):
            pass
        vm.hmp('stop')
    both.same('info mem', f'x /2xw {VIRTUAL + 0x200:#x}', f'x /5xg {VIRTUAL + 0xff0:#x}',
              f'x /4xw {VIRTUAL + 0x1ff8:#x}', 'x /1xw 0x4000', 'x /1xw 0x10000000000',
              'gva2gpa 0x9000', 'gva2gpa 0x200000', f'gva2gpa {VIRTUAL + 0x234:#x}',
              f'memsave {VIRTUAL + 0xff8:#x} 16 "{{dir}}"',
              f'memsave {VIRTUAL + 0x1ff8:#x} 16 "{{dir}}"')
    both.ours.hmp(f'memsave {VIRTUAL + 0xff8:#x} 16 "{both.dir.name}/a"')
    both.theirs.hmp(f'memsave {VIRTUAL + 0xff8:#x} 16 "{both.dir.name}/b"')
    contents = [open(os.path.join(both.dir.name, name), 'rb').read() for name in 'ab']
    assert contents[0] == contents[1] == page_tables()[0xff8:0x1008]
    both.close()


def test_qmp_errors_are_qemus(_):
    both = Both('-S')
    file = os.path.join(both.dir.name, 'x')
    requests = (
        ('memsave', {'val': 0, 'size': 4, 'filename': '/nosuch/x'}),
        ('memsave', {'val': 0, 'size': 4, 'filename': file}),
        ('memsave', {'val': 4096, 'size': 4, 'filename': file, 'cpu-index': 3}),
        ('pmemsave', {'val': 0, 'size': 4, 'filename': '/nosuch/x'}),
        ('query-dump', {}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'x:' + file}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'file:/nosuch/x'}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'fd:3'}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'fd:foo'}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'file:' + file, 'begin': 1}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'file:' + file, 'length': 1}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'file:' + file, 'format': 'win-dmp'}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'file:' + file, 'begin': 0,
                               'length': 16}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'file:/dev/full'}),
        ('dump-guest-memory', {'paging': False, 'protocol': 'file:' + file, 'begin': RAM + 1,
                               'length': 4097}),
        ('query-dump', {}),
        ('inject-nmi', {}), ('system_wakeup', {}),
        ('set-action', {'shutdown': 'pause', 'panic': 'exit-failure'}),
        ('set-action', {'shutdown': 'foo'}), ('set-action', {'reboot': 'none'}),
        ('set-action', {}), ('watchdog-set-action', {'action': 'pause'}),
        ('watchdog-set-action', {'action': 'foo'}),
    )
    for command, args in requests:
        ours, theirs = (vm.send(command, **args) for vm in (both.ours, both.theirs))
        assert ours == theirs, f'{command} {args}: {ours} and not {theirs}'
    events = [[(e['event'], e['data']) for e in vm.events] for vm in (both.ours, both.theirs)]
    sizes = [data['result'].pop('total') for vm in events for _, data in vm]  # ROMs differ
    assert len(sizes) == 4, events
    assert [[(n, d.get('error'), d['result']['status']) for n, d in vm] for vm in events][0] == \
        [[(n, d.get('error'), d['result']['status']) for n, d in vm] for vm in events][1]
    both.close()


# --- What a guest's reboot and shutdown do --------------------------------------------------

FINISHER, REBOOT, POWEROFF = 0x100000, 0x7777, 0x5555


def finisher(value):
    """A guest that says so at once."""
    c = bare.Code()
    c.li(bare.T0, FINISHER)
    c.li(bare.T1, value)
    c.store(2, bare.T1, bare.T0)
    c.label('end')
    c.branch(0, bare.ZERO, bare.ZERO, 'end')
    return c.bytes()


def ask(rig, value, *extra):
    with open(rig.payload, 'wb') as file:
        file.write(finisher(value))
    rig.start('-S', *extra)
    return rig.vm.qmp


def reason(qmp, event):
    data = qmp.wait_event(event)['data']
    assert data['guest'], data
    return data['reason']


def test_actions(rig):
    for how in ('option', 'command', 'back'):
        qmp = ask(rig, REBOOT, *(['-action', 'reboot=shutdown,panic=none,watchdog=pause']
                                 if how == 'option' else []))
        if how == 'command':
            qmp.cmd('set-action', reboot='shutdown')
        elif how == 'back':
            qmp.cmd('set-action', reboot='shutdown')
            qmp.cmd('set-action', reboot='reset')
        qmp.cmd('cont')
        if how == 'back':
            assert reason(qmp, 'RESET') == reason(qmp, 'RESET') == 'guest-reset'
        else:
            assert reason(qmp, 'SHUTDOWN') == 'guest-reset'
            assert rig.vm.process.wait(20) == 0
    for how in ('option', 'command'):
        qmp = ask(rig, POWEROFF, *(['-action', 'shutdown=pause'] if how == 'option' else []))
        if how == 'command':
            qmp.cmd('set-action', shutdown='pause')
        qmp.cmd('cont')
        assert reason(qmp, 'SHUTDOWN') == 'guest-shutdown'
        qmp.wait_event('STOP')
        assert qmp.cmd('query-status')['status'] == 'shutdown'
        fails(lambda: qmp.cmd('cont'), 'Resetting the Virtual Machine is required')
        qmp.cmd('set-action', shutdown='poweroff')
        qmp.cmd('system_reset')
        qmp.cmd('cont')
        assert reason(qmp, 'SHUTDOWN') == 'guest-shutdown'
        assert rig.vm.process.wait(20) == 0
    rig.stop()


# --- Dumps ----------------------------------------------------------------------------------


def elf(path):
    """Program headers (type, offset, address, size) and registers of a core file."""
    with open(path, 'rb') as file:
        data = file.read()
    machine, phoff, phnum = (*struct.unpack_from('<H', data, 18),
                             *struct.unpack_from('<Q', data, 32),
                             *struct.unpack_from('<H', data, 56))
    assert data[:7] == b'\x7fELF\x02\x01\x01' and machine == 243
    headers = []
    for i in range(phnum):
        kind, _, offset, virtual, physical, size, memory, _ = struct.unpack_from(
            '<IIQQQQQQ', data, phoff + 56 * i)
        assert virtual == physical and size == memory and offset + size <= len(data)
        headers.append((kind, offset, physical, size))
    note = headers[0][1]
    assert headers[0][0] == 4 and struct.unpack_from('<III', data, note) == (5, 376, 1)
    return data, headers[1:], struct.unpack_from('<32Q', data, note + 20 + 112)


def test_a_dump_is_as_qemus(_):
    both = Both()
    files = [os.path.join(both.dir.name, name) for name in ('ours', 'theirs')]
    cores = []
    for vm, path in zip((both.ours, both.theirs), files):
        while f'{VIRTUAL + 0x200:x}' not in vm.hmp('info registers'):
            pass
        vm.events.clear()
        assert vm.send('dump-guest-memory', paging=False, protocol='file:' + path) == \
            {'return': {}}
        assert [e['event'] for e in vm.events] == ['STOP', 'DUMP_COMPLETED', 'RESUME'], vm.events
        assert vm.cmd('query-status')['status'] == 'running'
        cores.append(elf(path))
    (ours, our_loads, our_regs), (theirs, their_loads, their_regs) = cores
    assert our_loads == their_loads
    assert our_regs[0] == their_regs[0] == VIRTUAL + 0x200
    assert our_regs[5] == their_regs[5]  # t0
    assert len(ours) == len(theirs) and ours[-11:] == theirs[-11:]
    at = our_loads[1][1]
    assert ours[at:at + 0x6000] == theirs[at:at + 0x6000] == page_tables()
    gdb = shutil.which('gdb-multiarch')
    if gdb:
        out = subprocess.run([gdb, '-batch', '-nx', '-ex', 'set architecture riscv:rv64',
                              '-ex', f'core-file {files[0]}', '-ex', 'p/x $pc',
                              '-ex', f'x/1xw {RAM + 0x200:#x}'],
                             capture_output=True, text=True, timeout=60, check=False).stdout
        assert f'{VIRTUAL + 0x200:#x}' in out and '0x0000006f' in out, out
    both.close()


def pages_of(path):
    """The generations in the pages of bare.py's guest, and the one that it was writing."""
    data, loads, regs = elf(path)
    at = next(offset for _, offset, address, _ in loads if address == RAM) + bare.FIRST
    return [struct.unpack_from('<Q', data, at + i)[0] for i in range(0, 1 << 20, 4096)], regs


def is_one_instant(path):
    """Pages in front of the one being written have the new generation, the others the old."""
    pages, regs = pages_of(path)
    old = regs[bare.S3]
    new = regs[bare.S4]
    assert set(pages) <= {old, new}, (set(pages), old, new)
    assert pages == sorted(pages, reverse=True), pages[:10]


def running(rig, *extra, **more):
    bare.write(rig.payload, 1)
    rig.start(*extra, **more)
    return rig.vm.qmp


def test_dumps_of_a_running_guest(rig):
    qmp = running(rig)
    other = rig.vm.session(1)
    for i in range(5):
        path = rig.path(f'dump{i}')
        qmp.cmd('dump-guest-memory', paging=False, protocol='file:' + path, detach=True)
        assert other.cmd('query-dump')['status'] in ('active', 'completed')
        other.cmd('human-monitor-command', command_line='info dump')
        result = qmp.wait_event('DUMP_COMPLETED')['data']
        assert result['result']['status'] == 'completed' and 'error' not in result
        assert result['result']['completed'] == result['result']['total'] == \
            sum(size for *_, size in elf(path)[1])
        is_one_instant(path)
        rig.unharmed()
    other.close()


def test_stop_and_cont_during_a_dump(rig):
    qmp = running(rig, memory='256M')
    other = rig.vm.session(1)
    fifo = rig.path('fifo')
    os.mkfifo(fifo)
    reader = subprocess.Popen(['cat', fifo], stdout=subprocess.PIPE)
    qmp.cmd('dump-guest-memory', paging=False, protocol='file:' + fifo, detach=True)
    qmp.wait_event('STOP')
    assert other.cmd('query-status')['status'] == 'save-vm'
    fails(lambda: other.cmd('dump-guest-memory', paging=False, protocol='file:/dev/null'),
          'There is a dump in process, please wait.')
    other.cmd('stop')
    assert other.cmd('query-dump')['status'] == 'active'
    core = reader.stdout.read()
    assert reader.wait(20) == 0
    qmp.wait_event('DUMP_COMPLETED')
    assert other.cmd('query-status')['status'] == 'paused'
    with open(rig.path('core'), 'wb') as file:
        file.write(core)
    is_one_instant(rig.path('core'))
    other.cmd('cont')
    rig.unharmed()
    other.close()


def test_quit_during_a_dump(rig):
    qmp = running(rig, memory='256M')
    fifo = rig.path('fifo2')
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    qmp.cmd('dump-guest-memory', paging=False, protocol='file:' + fifo, detach=True)
    qmp.wait_event('STOP')
    while not os.read(reader, 1000):  # nobody has opened the other end yet
        pass
    qmp.cmd('human-monitor-command', command_line='info dump')
    os.close(reader)  # a broken pipe
    data = qmp.wait_event('DUMP_COMPLETED')['data']
    assert data['result']['status'] == 'failed' and 'Broken pipe' in data['error'], data
    rig.unharmed()
    for i in range(5):
        qmp.cmd('dump-guest-memory', paging=False, protocol=f'file:{rig.path("d")}{i}',
                detach=True)
        assert rig.vm.quit() == 0
        qmp = running(rig, memory='256M')
    rig.stop()


def test_memory_of_a_machine_that_is_being_loaded(rig):
    """Pages that are not there yet are waited for, and nobody else waits."""
    qmp = running(rig, memory='64M')
    path = rig.image('lazy.qcow2')
    rig.add('lazy', path)
    qmp.run_job('snapshot-save', 'save', tag='t', **on('lazy'))
    rig.delete('lazy')
    rig.stop()
    rig.start('-S', memory='64M')
    qmp, other = rig.vm.qmp, rig.vm.session(1)
    rig.add('lazy', path, slow('read', 20))
    qmp.cmd('snapshot-load', job_id='load', tag='t', lazy=True, **on('lazy'))
    qmp.wait_event('JOB_STATUS_CHANGE', match=lambda d: d['status'] == 'running')
    qmp.cmd('dump-guest-memory', paging=False, protocol='file:' + rig.path('dump-lazy'),
            detach=True)
    assert other.cmd('query-jobs')[0]['status'] == 'running'
    assert other.cmd('query-dump')['status'] == 'active'
    assert qmp.wait_event('DUMP_COMPLETED', 60)['data']['result']['status'] == 'completed'
    is_one_instant(rig.path('dump-lazy'))
    other.close()


# --- A terminal --------------------------------------------------------------------------------


class Terminal:
    """A program in tmux, 80 columns wide."""

    def __init__(self, *command):
        if not shutil.which('tmux'):
            raise tap.Skip('no tmux')
        self.dir = tempfile.TemporaryDirectory(prefix='kftmux-')
        self.socket = os.path.join(self.dir.name, 'socket')
        self.tmux('-f', '/dev/null', 'new-session', '-d', '-x', '80', '-y', '24', *command)

    def tmux(self, *args):
        return subprocess.run(['tmux', '-S', self.socket, *args], check=True, timeout=20,
                              capture_output=True, text=True).stdout

    def keys(self, *keys):
        self.tmux('send-keys', *keys)

    def text(self, text):
        self.tmux('send-keys', '-l', text)

    def screen(self):
        return [line.rstrip() for line in self.tmux('capture-pane', '-p').splitlines()]

    def shows(self, *lines):
        """Waits until the last lines on the screen are these."""
        deadline = time.monotonic() + 20
        while True:
            screen = self.screen()
            while screen and not screen[-1]:
                screen.pop()
            if screen[-len(lines):] == list(lines):
                return
            assert time.monotonic() < deadline, '\n'.join(screen) + f'\nand not {lines}'
            time.sleep(0.02)

    def close(self):
        self.tmux('kill-server')
        self.dir.cleanup()


def fold(text):
    """As a line of it stands on the screen."""
    return [text[i:i + 80].rstrip() for i in range(0, len(text), 80)]


def test_a_terminal(rig):
    path = rig.image('disk.qcow2')
    bare.write(rig.payload, 1)
    t = Terminal(PROGRAM, '-M', 'virt', '-m', '32M', '-bios', rig.payload, '-display', 'none',
                 '-nodefaults', '-monitor', 'stdio', '-drive',
                 f'file={path},id=disk,if=virtio', '-chardev', 'ringbuf,id=ring', '-chardev',
                 'null,id=nothing', '-S')
    t.shows('(qemu)')
    t.text('info stxus')
    t.keys('BSpace', 'BSpace', 'BSpace')
    t.text('atus')
    t.shows('(qemu) info status')
    t.keys('Home', 'Delete')
    t.text('i')
    t.keys('End', 'Enter')
    t.shows('(qemu) info status', 'VM status: paused (prelaunch)', '(qemu)')
    t.text('savevm before')
    t.keys('Enter')
    t.text('savevm below')
    t.keys('Enter')
    t.text('loa')
    t.keys('Tab')
    t.shows('(qemu) loadvm')
    t.keys('Tab')
    t.shows('(qemu) loadvm be')
    t.keys('Tab')
    t.shows('before    below', '(qemu) loadvm be')
    t.text('l')
    t.keys('Tab', 'Enter')
    t.shows('(qemu) loadvm below', '(qemu)')
    t.keys('Up', 'Up')
    t.shows('(qemu) savevm below')
    t.keys('Down', 'Down')
    t.shows('(qemu)')
    t.text('info block d')
    t.keys('Tab')
    t.shows('(qemu) info block disk')
    t.keys('C-u')
    t.text('chardev-remove n')
    t.keys('Tab')
    t.shows('(qemu) chardev-remove nothing')
    t.keys('C-u')
    t.text(f'dump-guest-memory {rig.dir.name}/payl')
    t.keys('Tab')
    t.shows(*fold(f'(qemu) dump-guest-memory {rig.payload}'))
    t.keys('C-u')
    t.text('migrate_set_capability ev')
    t.keys('Tab')
    t.text('o')
    t.keys('Tab')
    t.shows('(qemu) migrate_set_capability events o')
    t.keys('C-l')
    t.shows('(qemu) migrate_set_capability events o')
    assert t.screen()[0].startswith('(qemu) migrate_set')
    t.keys('C-u')
    t.text('foo')
    t.keys('Enter')
    t.shows("(qemu) foo", "unknown command: 'foo'", '(qemu)')
    t.text('print 1+')
    t.keys('Enter')
    t.shows('(qemu) print 1+', 'unexpected end of expression',
            'Try "help print" for more information', '(qemu)')
    t.close()


def test_ctrl_c_gives_the_prompt_back(rig):
    """savevm on a slow disk, in a terminal on a pty that is no console of ours."""
    bare.write(rig.payload, 16)
    rig.start('-monitor', f'unix:{rig.path("hmp")},server=on,wait=off', memory='64M')
    path = rig.image('slow.qcow2')
    t = Terminal('socat', '-,raw,echo=0', f'UNIX-CONNECT:{rig.path("hmp")}')
    t.shows('(qemu)')
    rig.add('slow', path, slow('write', 200))
    rig.vm.qmp.events.clear()
    t.text('savevm long')
    t.keys('Enter')
    rig.vm.qmp.wait_event('STOP')
    t.keys('C-c')
    t.shows('(qemu) savevm long', 'Error: Job was cancelled', '(qemu)')
    rig.unharmed()
    rig.delete('slow')
    assert tags(path) == []
    t.text('hal')
    t.keys('C-c')
    t.shows('(qemu) hal^C', '(qemu)')
    t.close()
    rig.stop()


def test_qemu_io_answers_who_asked(rig):
    """In the monitor; what a request says that ends after its command, and what is long, too."""
    rig.start('-monitor', f'unix:{rig.path("hmp")},server=on,wait=off')
    path = rig.image('io.qcow2', '1M')
    rig.add('io', path)
    user = Serial(rig.path('hmp'))
    user.expect('(qemu) ')

    def ask(line, *answers):
        user.send(line + '\n')
        user.expect('\r\n')
        for answer in answers:
            user.expect(answer + '\r\n')
        return user.expect('(qemu) ')

    assert ask('qemu-io io "write -q -P 7 0 64k"') == '(qemu) '
    assert '4 KiB, 1 ops; ' in ask('qemu-io io "read -P 7 0 4k"',
                                   'read 4096/4096 bytes at offset 0')
    ask('qemu-io io foo', 'command "foo" not found')
    assert ask('qemu-io io "read -q -P 8 0 64k"', 'Pattern verification failed at offset 0, '
               '65536 bytes') == '(qemu) '
    ask('qemu-io io info', 'format name: qcow2', '    compat: 1.1')
    dump = ask('qemu-io io "read -qv 0 512k"')
    lines = dump.split('\r\n')
    assert len(lines) == 32768 + 1, len(lines)
    assert lines[0] == '00000000:  ' + '07 ' * 16 + ' ' + '.' * 16
    assert lines[-2] == '0007fff0:  ' + '00 ' * 16 + ' ' + '.' * 16
    # a request that is held: the prompt comes back, its result later
    ask('qemu-io io "break write_aio A"')
    assert ask('qemu-io io "aio_write 0 64k"') == '(qemu) '
    wait_suspended(rig.vm)
    assert user.log.endswith(b'(qemu) ')
    rig.vm.qmp.hmp('qemu-io io "resume A"')
    user.expect('wrote 65536/65536 bytes at offset 0\r\n')
    user.expect('\r\n')
    ask('qemu-io io "aio_flush"')
    assert 'wrote' not in rig.vm.errors() and 'format name' not in rig.vm.errors()
    user.close()
    rig.unharmed()
    rig.delete('io')


def test_truncate_waits_for_requests(rig):
    rig.start('-monitor', f'unix:{rig.path("hmp")},server=on,wait=off', '-drive', 'if=none,id=io,'
              f'file=blkdebug::{rig.image("truncate.qcow2", "1M")},format=qcow2')
    user = Serial(rig.path('hmp'))
    user.expect('(qemu) ')
    user.send('qemu-io io "break write_aio A"\nqemu-io io "aio_write 0 64k"\n')
    wait_suspended(rig.vm)
    user.send('qemu-io io "truncate 2M"\n')
    user.expect('truncate 2M"')
    user.expect('\r\n')
    for _ in range(20):
        assert rig.vm.qmp.hmp('info status') == 'VM status: running\r\n'
    assert not user.log.endswith(b'(qemu) '), user.log
    rig.vm.qmp.hmp('qemu-io io "resume A"')
    user.expect('wrote 65536/65536')
    user.expect('(qemu) ')
    user.send('qemu-io io length\n')
    user.expect('\r\n2 MiB\r\n')
    user.close()
    rig.stop()


def test_a_stdout_that_nobody_reads(rig):
    """What human-monitor-command's qemu-io prints goes there, as in QEMU; nobody waits for it."""
    rig.stop()
    path = rig.image('stdout.qcow2', '1M')
    out, theirs = os.pipe()
    vm = VM(PROGRAM, ['-S', '-blockdev', f'qcow2,node-name=io,file.driver=file,file.filename={path}'],
            monitors=2, preexec=lambda: os.dup2(theirs, 1))
    os.close(theirs)
    stuck = vm.session(1)
    stuck.send({'execute': 'human-monitor-command',
                'arguments': {'command-line': 'qemu-io io "read -qv 0 64k"'}})
    for _ in range(100):
        assert vm.qmp.cmd('query-status')['status'] == 'prelaunch'
    with os.fdopen(out, 'rb') as pipe:
        text = b''.join(pipe.readline() for _ in range(4096))
        assert text.endswith(b'0000fff0:  ' + b'00 ' * 16 + b' ' + b'.' * 16 + b'\n')
        assert stuck.reply()['return'] == ''
        stuck.close()
        assert vm.quit() == 0
        assert pipe.read() == b''


if __name__ == '__main__':
    with_rig = Rig(PROGRAM)
    try:
        tap.run(sys.modules[__name__], with_rig, needs_guest=False)
    finally:
        with_rig.stop()
