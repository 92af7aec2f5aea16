#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The debugger's stub: packet by packet, as QEMU's answers them, and with gdb itself; over a
guest of a few instructions.

usage: gdb.py KF-SYSTEM
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile

from bare import RAM, S1, S3, T1, UART, S0, ZERO, Code, put
from gdbclient import GDB
from kfvm import VM, QMPError
from rig import on, wait_status
import tap

BINARY = sys.argv[1]
PEER = shutil.which('qemu-system-riscv64')
DATA = RAM + 0x10000
PC, PRIV, CSR = 32, 65, 66
STOPPED = 'T05thread:p01.01;'


def program():
    """Counts in s3 and at DATA.  Returns the code and the addresses of its labels."""
    c = Code()
    c.li(S0, UART)
    c.li(S1, DATA)
    put(c, 'R')
    c.label('loop')
    c.addi(S3, S3, 1)
    c.label('store')
    c.store(3, S3, S1)
    c.label('load')
    c.ld(T1, S1)
    c.label('back')
    c.branch(0, ZERO, ZERO, 'loop')
    return c.bytes(), {name: RAM + at for name, at in c.labels.items()}


CODE, AT = program()


class Debugged:
    """A VM that has not begun, and a debugger on it."""

    def __init__(self, binary, *extra, stopped=True, connect=True):
        self.dir = tempfile.TemporaryDirectory(prefix='kfgdb-')
        payload, self.path = self.dir.name + '/payload', self.dir.name + '/gdb'
        with open(payload, 'wb') as file:
            file.write(CODE)
        self.vm = VM(binary, ['-m', '32M', '-bios', payload, *(['-S'] if stopped else []), '-gdb',
                              f'unix:{self.path},server=on,wait=off', *extra])
        self.qmp = self.vm.qmp
        self.gdb = GDB(self.path) if connect else None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.gdb:
            self.gdb.close()
        self.vm.__exit__()
        self.dir.cleanup()

    def status(self):
        return self.qmp.cmd('query-status')['status']

    def stops_at(self, packet, place, reply=STOPPED):
        said = self.gdb.ask(packet)
        assert said == reply, (packet, said)
        assert self.gdb.register(PC) == place, (packet, hex(self.gdb.register(PC)))


def conversation(binary):
    """What a stub answers where the answer is QEMU's, and the states and events on the way."""
    said = []
    with Debugged(binary) as d:
        def ask(*packets):
            said.extend((packet, d.gdb.ask(packet)) for packet in packets)

        def state():
            status = d.status()
            said.append((status, [e['event'] for e in d.qmp.events]))
            d.qmp.events.clear()

        d.gdb.ask('qXfer:features:read:target.xml:0,100')  # QEMU has p only for who knows it
        ask('?', 'Hg0', 'Hc-1', 'Hgp1.1', 'Hz', 'qC', 'qAttached', 'qOffsets', 'qfThreadInfo',
            'qsThreadInfo', 'qThreadExtraInfo,p1.1', 'T1', 'T2', 'Tp1.1', 'vCont?',
            'vMustReplyEmpty', 'qqemu.PhyMemMode', 'm1000,4', 'm0,4', f'm{RAM:x},8', 'p20',
            f'p{PRIV:x}', 'P5=1122334455667788', 'p5', 'Z9,1,1', 'z0,1234,4', 'zork', 'vCont;x',
            'vCont;c:p7.1', f'Z0,{AT["loop"]:x},4')
        state()
        ask('vCont;c')
        state()
        ask('p20', 'vCont;s:p1.1;c:p1.-1', 'p20', 'p13', 's', 'p20', f'z0,{AT["loop"]:x},4',
            f'Z2,{DATA:x},8', 'c', f'z2,{DATA:x},8', f'Z3,{DATA:x},8', 'c', f'z3,{DATA:x},8',
            f'Z4,{DATA + 4:x},1', 'c', f'z4,{DATA + 4:x},1',
            f'M{DATA:x},2:abcd', f'm{DATA:x},2', 'Qqemu.PhyMemMode:1', 'qqemu.PhyMemMode',
            'Qqemu.PhyMemMode:0', '?')
        d.gdb.send('c')
        d.qmp.wait_event('RESUME')
        d.gdb.send_break()
        said.append(d.gdb.receive())
        state()
        d.gdb.send('c')
        d.qmp.wait_event('RESUME')
        d.qmp.cmd('stop')
        said.append(d.gdb.receive())
        state()
        ask('D;1')
        d.qmp.wait_event('RESUME')
        state()
        said.append(d.qmp.hmp('gdbserver none'))
        said.append(d.qmp.hmp('gdbserver zork'))
        said.append(d.qmp.hmp(f'gdbserver unix:{d.path}2,server=on,wait=off').replace(d.path, ''))
    return said


def test_as_qemu():
    if not PEER:
        raise tap.Skip('no qemu-system-riscv64')
    ours, theirs = conversation(BINARY), conversation(PEER)
    for mine, other in zip(ours, theirs):
        assert mine == other, f'ours {mine}, QEMU {other}'
    assert len(ours) == len(theirs)


def test_before_the_first_instruction():
    with Debugged(BINARY) as d:
        assert d.status() == 'prelaunch'
        assert d.gdb.register(PC) == 0x1000 and d.gdb.register(PRIV) == 3
        d.gdb.ok(f'Z1,{RAM:x},4')
        d.stops_at('c', RAM)
        assert d.status() == 'debug'
        for expected in range(RAM + 4, RAM + 20, 4):
            d.stops_at('s', expected)
        assert d.gdb.memory(RAM, len(CODE)) == CODE


def test_watchpoints():
    """They stop behind the instruction; QEMU's at times before it."""
    with Debugged(BINARY) as d:
        for kind, name, place in ((2, 'watch', 'load'), (3, 'rwatch', 'back'),
                                  (4, 'awatch', 'load')):
            d.gdb.ok(f'Z{kind},{DATA + 4:x},2')
            d.stops_at('c', AT[place], f'T05thread:p01.01;{name}:{DATA + 4:016x};')
            d.gdb.ok(f'z{kind},{DATA + 4:x},2')
        assert d.gdb.memory(DATA, 8) == struct.pack('<Q', d.gdb.register(S3))


def test_attach_stops_the_guest():
    with Debugged(BINARY, stopped=False, connect=False) as d:
        gdb = GDB(d.path)
        assert gdb.ask('?') == STOPPED
        assert d.status() == 'paused'
        # one that goes away takes its breakpoints with it and leaves the guest as it is
        gdb.ok(f'Z0,{AT["load"]:x},4')
        gdb.close()
        d.qmp.cmd('cont')
        d.qmp.wait_event('RESUME')
        gdb = GDB(d.path)
        assert gdb.ask('?') == STOPPED
        gdb.ok(f'Z0,{AT["back"]:x},4')
        assert gdb.ask('c') == STOPPED and gdb.register(PC) == AT['back']
        assert gdb.ask('c') == STOPPED and gdb.register(PC) == AT['back']
        gdb.close()


def test_registers():
    with Debugged(BINARY) as d:
        for n in list(range(1, 32)) + list(range(33, 65)):
            d.gdb.set_register(n, 0x0123456789abcd00 + n)
        whole = bytes.fromhex(d.gdb.ask('g'))
        assert len(whole) == 33 * 8
        for n in range(1, 32):
            assert struct.unpack_from('<Q', whole, n * 8)[0] == 0x0123456789abcd00 + n
        assert d.gdb.register(40) == 0x0123456789abcd00 + 40
        d.gdb.ok('G' + struct.pack('<33Q', *range(32), AT['loop']).hex())
        assert d.gdb.register(7) == 7 and d.gdb.register(PC) == AT['loop']
        d.gdb.set_register(CSR + 0x340, 0xfeed)  # mscratch
        assert d.gdb.register(CSR + 0x340) == 0xfeed
        assert d.gdb.ask(f'p{CSR + 0x7ff:x}') == 'E14'
        assert d.gdb.ask('p99999') == 'E14' and d.gdb.ask('p') == 'E14'
        assert d.gdb.ask('G00') == 'E22'


def test_memory():
    with Debugged(BINARY) as d:
        blob = bytes(range(256)) * 6
        escaped = b''.join(b'}' + bytes([b ^ 0x20]) if b in b'#$}*' else bytes([b]) for b in blob)
        d.gdb.ok(b'X%x,%x:' % (DATA + 0xf00, len(blob)) + escaped)
        assert d.gdb.memory(DATA + 0xf00, len(blob)) == blob
        assert d.gdb.ask(f'X{DATA:x},3:ab') == 'E22'
        d.gdb.ok(f'X{DATA:x},0:')
        assert d.gdb.ask('m10000000,1') == 'E14'  # a device: reading it would change it
        assert d.gdb.ask(f'm{RAM + (32 << 20) - 2:x},4') == 'E14'
        assert d.gdb.ask('m0,fffff') == 'E22' and d.gdb.ask('mx') == 'E22'
        assert d.gdb.ask('M1000,1:00') == 'E14'  # ROM
        # code that the debugger changes is executed as changed
        d.gdb.ok(f'Z0,{AT["back"]:x},4')
        d.stops_at('c', AT['back'])
        d.gdb.ok(f'M{AT["loop"]:x},4:' + struct.pack('<I', 0x00598993).hex())  # addi s3, s3, 5
        before = d.gdb.register(S3)
        d.stops_at('c', AT['back'])
        assert d.gdb.register(S3) == before + 5


def test_hostile_packets():
    with Debugged(BINARY) as d:
        d.gdb.sock.sendall(b'$g#00$half$' + b'a' * 9000 + b'#00-\3+++~')
        d.gdb.send('Z0')
        replies = [d.gdb.receive() for _ in range(2)]
        assert 'E22' in replies, replies
        for packet in ('Z0,', 'Z2,0,0', 'P', 'P1', 'vCont;c:', 'vCont;Cq', 'H',
                       'T', 'D;x', 'qRcmd,0', 'qXfer:features:read:target.xml:fffffff,1', 'M',
                       'qThreadExtraInfo,zz', 'Z2,ffffffffffffffff,2'):
            assert d.gdb.ask(packet).startswith('E'), packet
        d.gdb.send('m' + 'f' * 4000 + ',1')
        assert d.gdb.receive().startswith('E')
        d.gdb.ok('QStartNoAckMode')
        d.gdb.no_ack = True
        assert d.gdb.ask('qAttached') == '1'


def test_monitor():
    with Debugged(BINARY) as d:
        assert d.gdb.monitor('info status') == 'VM status: paused (prelaunch)\r\n'
        assert len(d.gdb.monitor('help')) > 1024  # more than a packet
        assert 'unknown command' in d.gdb.monitor('nonsense')


def test_kill():
    for packet in ('k', 'vKill;1'):
        with Debugged(BINARY) as d:
            d.gdb.send(packet)
            assert d.vm.process.wait(20) == 0
            assert 'Terminated via GDBstub' in d.vm.errors()


def test_other_clients():
    """The guest is stopped and continued, and reset, by a monitor under the debugger."""
    with Debugged(BINARY) as d:
        d.gdb.ok(f'Z0,{AT["loop"]:x},4')
        d.stops_at('c', AT['loop'])
        d.qmp.events.clear()
        d.qmp.cmd('cont')  # goes on from the breakpoint, to the next time round
        d.qmp.wait_event('STOP')
        wait_status(d.qmp, 'debug')
        assert d.gdb.silent() and d.gdb.register(S3) == 1
        d.qmp.cmd('system_reset')
        assert d.gdb.register(PC) == 0x1000
        d.stops_at('c', AT['loop'])
        assert d.gdb.register(S3) == 0
        try:
            d.qmp.cmd('chardev-remove', id='gdb')
            raise AssertionError('removed under the debugger')
        except QMPError as error:
            assert 'busy' in error.desc


def test_gdbserver_does_not_wait():
    """For a client, for who reads a FIFO: the other sessions are answered."""
    with Debugged(BINARY) as d:
        other = d.vm.session()
        path, fifo = d.dir.name + '/late', d.dir.name + '/fifo'
        device = f'unix:{path},server=on'
        assert d.qmp.hmp(f'gdbserver {device}') == (
            f"Waiting for gdb connection on device '{device}'\r\n")
        assert other.cmd('query-status')['status'] == 'prelaunch'
        late = GDB(path)
        assert late.ask('?') == STOPPED
        late.close()
        device += ',wait=on'
        assert d.qmp.hmp(f'gdbserver {device}').startswith("'wait' is for -chardev only: ")
        os.mkfifo(fifo)
        d.qmp.send({'execute': 'human-monitor-command', 'arguments': {
            'command-line': f'gdbserver file:{fifo}'}})
        while 'another gdbserver command' not in other.hmp('gdbserver none'):
            pass
        assert not os.path.exists(path), 'the socket of the stub before is still there'
        with open(fifo, 'rb'):
            assert d.qmp.reply()['return'].startswith('Waiting for gdb connection')
        assert other.hmp('gdbserver none') == 'Disabled gdbserver\r\n'
        other.close()
        # a multiplexer's front is given back
        d.qmp.hmp('chardev-add null,id=m,mux=on')
        for _ in range(3):
            assert d.qmp.hmp('gdbserver chardev:m').startswith('Waiting for gdb connection')
        try:
            d.qmp.cmd('chardev-remove', id='m')
            raise AssertionError('removed under the stub')
        except QMPError as error:
            assert 'busy' in error.desc
        d.qmp.hmp('gdbserver none')
        d.qmp.cmd('chardev-remove', id='m')
        # the user's device keeps its id
        d.qmp.cmd('chardev-add', id='gdb', backend={'type': 'null', 'data': {}})
        assert d.qmp.hmp('gdbserver null').startswith("Duplicate ID 'gdb' for chardev\r\n")
        d.qmp.cmd('chardev-remove', id='gdb')
        assert d.qmp.hmp('gdbserver null').startswith('Waiting for gdb connection')


def test_snapshots():
    """Saved while it stands at a breakpoint and while it runs to one; loaded into both."""
    with Debugged(BINARY) as d:
        image = d.dir.name + '/a.qcow2'
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '64M'], check=True)
        d.qmp.cmd('blockdev-add', driver='qcow2', node_name='n',
                  file={'driver': 'file', 'filename': image})
        d.gdb.ok(f'Z0,{AT["store"]:x},4')
        d.stops_at('c', AT['store'])
        d.qmp.run_job('snapshot-save', 's', tag='at-break', **on('n'))
        assert d.status() == 'debug'
        for _ in range(3):
            d.stops_at('c', AT['store'])
        assert d.gdb.register(S3) == 4
        d.qmp.run_job('snapshot-load', 'l', tag='at-break', **on('n'))
        assert d.gdb.register(S3) == 1 and d.gdb.register(PC) == AT['store']
        d.stops_at('s', AT['load'])
        assert d.gdb.memory(DATA, 8) == struct.pack('<Q', 1)
        d.stops_at('c', AT['store'])
        assert d.gdb.register(S3) == 2
        d.gdb.ok(f'z0,{AT["store"]:x},4')
        # running, under a debugger that waits: a load goes on running, and the breakpoint holds
        d.gdb.send('c')
        d.qmp.wait_event('RESUME')
        d.qmp.run_job('snapshot-save', 's', tag='running', **on('n'))
        d.gdb.send_break()
        assert d.gdb.receive() == 'T02thread:p01.01;'
        d.gdb.ok(f'Z0,{AT["store"]:x},4')
        d.qmp.events.clear()
        d.qmp.run_job('snapshot-load', 'l', tag='running', **on('n'))
        d.stops_at('c', AT['store'])


GDB_SCRIPT = '''
set pagination off
set confirm off
set architecture riscv:rv64
target remote {path}
info registers pc
hbreak *{loop}
continue
printf "first=%d\\n", $s3
break *{store}
continue
stepi
printf "stored=%d\\n", *(long *){data}
delete
watch *(long *){data}
continue
continue
printf "watched=%d\\n", $s3
delete
set $s3 = 1000
break *{back}
continue
printf "set=%d loaded=%d priv=%d misa=%d\\n", $s3, $t1, $priv, $misa & 1
print $mscratch = 0x77
print $mscratch
print $ft0
print $fcsr
info threads
monitor info status
x/2i $pc
detach
'''


def test_gdb():
    gdb = shutil.which('gdb-multiarch')
    if not gdb:
        raise tap.Skip('no gdb-multiarch')
    with Debugged(BINARY, connect=False) as d:
        script = d.dir.name + '/script'
        with open(script, 'w', encoding='utf-8') as file:
            file.write(GDB_SCRIPT.format(path=d.path, data=DATA, **AT))
        out = subprocess.run([gdb, '-q', '-nx', '-batch', '-x', script], capture_output=True,
                             text=True, timeout=60, check=False)
        said = out.stdout + out.stderr
        for expected in ('first=0', 'stored=1', 'Old value = 1', 'New value = 2', 'watched=3',
                         'set=1001 loaded=1001 priv=3 misa=1', '= 119', 'CPU#0 [running]',
                         'VM status: paused (debug)', f'0x{AT["back"]:x}', 'detached'):
            assert expected in said, f'no {expected!r} in:\n{said}'
        assert 'rror' not in said, said
        d.qmp.events.clear()
        wait_status(d.qmp, 'running')


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
