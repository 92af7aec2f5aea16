#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulator's command line: what is wrong is one line that names the option, and ends
with status 1; what is right starts a machine that answers.

usage: command-line.py KF-SYSTEM
"""

import json
import os
import signal
import subprocess
import sys
import tempfile

from kfvm import QMP, VM
import tap

BINARY = sys.argv[1]
NAME = os.path.basename(BINARY)

# arguments, and what must be in the one line of output
BAD = [
    (['-nonsense'], '-nonsense: invalid option'),
    (['disk.img'], 'disk.img: a disk image is given with -drive file=disk.img'),
    (['-m'], '-m: requires an argument'),
    (['-m', 'lots'], '-m lots: Parameter \'size\' expects a non-negative number below 2^64'),
    (['-m', '1'], '-m 1: RAM must be between'),
    (['-m', '99999999999G'], '-m 99999999999G: '),
    (['-m', 'size=1G,colour=red'], "Parameter 'colour' is unexpected"),
    (['-M', 'pc'], "-M pc: unsupported machine type 'pc'"),
    (['-M', 'virt,nonsense=on'], "Parameter 'nonsense' is unexpected"),
    (['-accel', 'kvm'], '-accel kvm: invalid accelerator kvm'),
    (['-cpu', 'z80'], "-cpu z80: unable to find CPU model 'z80'"),
    (['-smp', '2'], '-smp 2: only one CPU is supported'),
    (['-smp', 'many'], "-smp many: "),
    (['-uuid', '123'], '-uuid 123: failed to parse UUID string: wrong format'),
    (['-display', 'gtk'], "-display gtk: there is only 'none'"),
    (['-vnc', ':1'], '-vnc: not supported'),
    (['-incoming', 'nonsense'], 'unknown migration protocol: nonsense'),
    (['-append', 'x'], '-append only allowed with -kernel option'),
    (['-initrd', '/dev/null'], '-initrd only allowed with -kernel option'),
    (['-daemonize', '-nographic'], '-nographic cannot be used with -daemonize'),
    (['-device', 'e1000'], "-device e1000: 'e1000' is not a valid device model name"),
    (['-device', 'virtio-blk-device'], "-device virtio-blk-device: Parameter 'drive' is missing"),
    (['-device', 'virtio-blk-device,drive=d'],
     "-device virtio-blk-device,drive=d: Property 'virtio-blk-device.drive' can't find value 'd'"),
    (['-device', '{"driver": "virtio-blk-device", "drive": 7}'],
     "Invalid parameter type for 'drive', expected: string"),
    (['-device', '{"driver": '], '-device {"driver": : '),
    (['-object', 'rng'], "Parameter 'qom-type' does not accept value 'rng'"),
    (['-object', 'iothread'], "-object iothread: Parameter 'id' is missing"),
    (['-object', 'iothread,id=a', '-object', 'iothread,id=a'], '-object iothread,id=a: '),
    (['-drive', 'file=/nonexistent/x,format=raw'],
     "-drive file=/nonexistent/x,format=raw: Could not open '/nonexistent/x': "
     "No such file or directory"),
    (['-drive', 'format=raw'], "-drive format=raw: a drive without 'file'"),
    (['-drive', 'file=x,if=ide'], "does not accept value 'ide'"),
    (['-blockdev', 'file,filename=/nonexistent/x,node-name=a'], "Could not open '/nonexistent/x'"),
    (['-blockdev', 'file,filename=x'], "'node-name' must be specified for the root node"),
    (['-blockdev', 'driver=nonsense,node-name=a'], "does not accept value 'nonsense'"),
    (['-chardev', 'socket,path=x'], '-chardev socket,path=x: chardev: no id specified'),
    (['-serial', 'nonsense'], "-serial nonsense: 'nonsense' is not a valid char driver"),
    (['-serial', 'null', '-serial', 'null'], 'the machine has one serial port'),
    (['-mon', 'nothing'], '-mon nothing: chardev "nothing" not found'),
    (['-serial', '/dev/ttyS0'], "-serial /dev/ttyS0: char driver '/dev/ttyS0' is not supported"),
    (['-chardev', 'parallel,id=p,path=/dev/parport0'],
     "-chardev parallel,id=p,path=/dev/parport0: char driver 'parallel' is not supported"),
    (['-chardev', 'socket,id=s,path=x,server=on,tls-creds=t'],
     "-chardev socket,id=s,path=x,server=on,tls-creds=t: "
     "Socket option 'tls-creds' is not supported"),
    (['-add-fd', 'fd=0,set=1'], '-add-fd fd=0,set=1: fd cannot be a standard I/O stream'),
    (['-add-fd', 'fd=999,set=1'], '-add-fd fd=999,set=1: fd is not valid or already in use'),
    (['-qmp', 'unix:/nonexistent/dir/sock,server=on,wait=off'],
     '-qmp unix:/nonexistent/dir/sock,server=on,wait=off: '),
    (['-bios', '/nonexistent/fw'], 'Unable to load the RISC-V firmware "/nonexistent/fw"'),
    (['-kernel', '/nonexistent/k'], "could not load kernel '/nonexistent/k': No such file"),
    (['-dtb', '/nonexistent/t'], "could not load device tree '/nonexistent/t'"),
    (['-dtb', '/etc/passwd'], "could not load device tree '/etc/passwd'"),
    (['-kernel', '/bin/sh'], "could not load kernel '/bin/sh': not a 64-bit"),
    (['-kernel', '/etc/passwd', '-initrd', BINARY, '-m', '8'], 'do not fit into RAM'),
    (['-pidfile', '/nonexistent/pid'], 'cannot create PID file'),
    (['-M', 'none', '-kernel', 'x'], "machine 'none' has no CPU"),
    (['-loadvm', 'tag'], '-loadvm tag: '),
]


def start(*args, **kwargs):
    return subprocess.run([BINARY, '-display', 'none', '-serial', 'none', *args],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, **kwargs)


def test_bad_options():
    for args, words in BAD:
        # a serial port of its own would be a second one
        only = [BINARY, '-display', 'none', *args]
        result = subprocess.run(only, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=60)
        lines = result.stderr.splitlines()
        assert result.returncode == 1, (args, result)
        assert len(lines) == 1 and lines[0].startswith(NAME + ': '), (args, lines)
        assert words in lines[0], (args, lines)


def test_help_and_version():
    assert 'QEMU emulator version' in start('-version').stdout
    assert '-blockdev' in start('--help').stdout
    assert 'virt' in start('-machine', 'help').stdout
    assert 'rv64' in start('-cpu', 'help').stdout


def test_device_tree():
    with tempfile.TemporaryDirectory() as dir_:
        path = os.path.join(dir_, 'tree')
        result = start('-M', f'virt,dumpdtb={path}')
        assert result.returncode == 0, result
        with open(path, 'rb') as f:
            assert f.read(4) == b'\xd0\x0d\xfe\xed'
        # and it is one that -dtb takes
        with VM(BINARY, ['-S', '-dtb', path]) as vm:
            assert vm.quit() == 0


def test_run_states():
    args = ['-S', '-name', 'guest=me', '-uuid', '12345678-1234-1234-1234-123456789abc',
            '-object', '{"qom-type": "iothread", "id": "other"}']
    with VM(BINARY, args, monitors=2) as vm:
        qmp, other = vm.qmp, vm.session(1)
        assert qmp.cmd('query-status')['status'] == 'prelaunch'
        assert qmp.cmd('query-name') == {'name': 'me'}
        assert qmp.cmd('query-uuid')['UUID'].startswith('12345678')
        assert {t['id'] for t in qmp.cmd('query-iothreads')} == {'other', 'io0'}
        assert len(qmp.cmd('query-cpus-fast')) == 1
        qmp.cmd('stop')
        assert qmp.cmd('query-status')['status'] == 'prelaunch'
        qmp.cmd('cont')
        other.wait_event('RESUME')
        assert qmp.cmd('query-status') == {'running': True, 'singlestep': False,
                                           'status': 'running'}
        qmp.cmd('stop')
        other.wait_event('STOP')
        assert qmp.hmp('info status') == 'VM status: paused\r\n'
        qmp.cmd('system_reset')
        assert other.wait_event('RESET')['data'] == {'guest': False,
                                                     'reason': 'host-qmp-system-reset'}
        assert qmp.hmp('info status') == 'VM status: paused (prelaunch)\r\n'
        qmp.cmd('system_powerdown')
        other.wait_event('POWERDOWN')
        assert vm.quit() == 0


def test_machine_none():
    with VM(BINARY, ['-M', 'none'], monitors=1) as vm:
        assert vm.qmp.cmd('query-cpus-fast') == []
        assert vm.quit() == 0


def test_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with VM(BINARY, []) as vm:
            vm.process.send_signal(number)
            data = vm.qmp.wait_event('SHUTDOWN')['data']
            assert data == {'guest': False, 'reason': 'host-signal'}, data
            assert vm.process.wait(30) == 0
            assert f'terminating on signal {int(number)}' in vm.errors()


def test_daemonize():
    with tempfile.TemporaryDirectory() as dir_:
        sock, pidfile = os.path.join(dir_, 'qmp'), os.path.join(dir_, 'pid')
        result = start('-daemonize', '-pidfile', pidfile, '-qmp',
                       f'unix:{sock},server=on,wait=off')
        assert result.returncode == 0, result
        with open(pidfile, encoding='ascii') as f:
            pid = int(f.read())
        # the second one finds the file locked
        result = start('-pidfile', pidfile)
        assert result.returncode == 1 and 'Cannot lock pid file' in result.stderr, result
        qmp = QMP(sock)  # answers as soon as the parent has ended
        assert os.path.exists(f'/proc/{pid}')
        qmp.cmd('quit')
        try:
            while qmp.read():
                pass
        except EOFError:
            pass
        qmp.close()
        while os.path.exists(f'/proc/{pid}') and os.path.exists(pidfile):
            pass
        assert not os.path.exists(pidfile)
        result = start('-daemonize', '-kernel', '/nonexistent/k')
        assert result.returncode == 1 and 'could not load kernel' in result.stderr, result


def test_disks_and_iothreads():
    with tempfile.TemporaryDirectory() as dir_:
        images = [os.path.join(dir_, f'{i}.img') for i in range(3)]
        for image in images:
            with open(image, 'wb') as f:
                f.truncate(1 << 20)
        args = ['-S', '-object', 'iothread,id=t1',
                '-blockdev', json.dumps({'driver': 'file', 'node-name': 'f0',
                                         'filename': images[0]}),
                '-blockdev', 'driver=raw,node-name=n0,file=f0',
                '-device', 'virtio-blk-device,drive=n0,iothread=t1,id=disk0,serial=abc',
                '-drive', f'file={images[1]},format=raw,if=none,id=d1,cache=writethrough',
                '-device', json.dumps({'driver': 'virtio-blk-device', 'drive': 'd1'}),
                '-drive', f'file={images[2]},format=raw,read-only=on']
        with VM(BINARY, args) as vm:
            names = {b['device'] for b in vm.qmp.cmd('query-block')}
            assert {'d1', 'virtio1'} <= names, names
            assert vm.quit() == 0


if __name__ == '__main__':
    tap.run(sys.modules[__name__])
