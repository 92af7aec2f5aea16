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

from kfvm import QMP, QMPError, VM
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
    (['-m', 'size=1G,colour=red'], "-m size=1G,colour=red: Invalid parameter 'colour'"),
    (['-M', 'pc'], "-M pc: unsupported machine type 'pc'"),
    (['-M', 'virt,nonsense=on'], "Property 'virt-machine.nonsense' not found"),
    (['-M', 'none,nonsense=on'], "Property 'none-machine.nonsense' not found"),
    (['-device', 'virtio-blk-device,drive=x,nonsense=1'],
     "Property 'virtio-blk-device.nonsense' not found"),
    (['-device', '{"driver": "virtio-blk-device", "drive": "x", "nonsense": 1}'],
     "Property 'virtio-blk-device.nonsense' not found"),
    (['-msg', 'nonsense=on'], "-msg nonsense=on: Invalid parameter 'nonsense'"),
    (['-chardev', 'null,id=c', '-mon', 'c,pretty=on'],
     "-mon c,pretty=on: 'pretty' is not compatible with HMP monitors"),
    (['-watchdog-action', 'bark'], "Parameter 'watchdog' does not accept value 'bark'"),
    (['-object', 'iothread,id=t', '-object', 'iothread,id=t'],
     "-object iothread,id=t: Duplicate ID 't' for object"),
    (['-accel', 'kvm'], '-accel kvm: invalid accelerator kvm'),
    (['-cpu', 'z80'], "-cpu z80: unable to find CPU model 'z80'"),
    (['-accel', 'tcg', '-M', 'accel=tcg'],
     'The -accel and "-machine accel=" options are incompatible'),
    (['-M', 'virt,accel=xen'], 'invalid accelerator xen'),
    (['-accel', 'tcg,colour=red'], "Property 'tcg-accel.colour' not found"),
    (['-cpu', 'rv64,colour=red'], "Property 'rv64-riscv-cpu.colour' not found"),
    (['-cpu', '{"model": "rv64", "model": "max"}'], 'duplicate key'),
    (['-M', 'virt,usb=maybe'], "Parameter 'usb' expects 'on' or 'off'"),
    (['-M', 'virt,usb=on'], 'the machine has no USB'),
    (['-M', '{"type": "virt", "dump-guest-core": "off"}'],
     "Invalid parameter type for 'dump-guest-core', expected: boolean"),
    (['-smp', '2'], "Invalid SMP CPUs 2. The max CPUs supported by machine 'virt' is 1"),
    (['-smp', 'many'], "-smp many: Parameter 'cpus' expects integer"),
    (['-smp', '0'], 'CPU topology parameters must be greater than zero'),
    (['-smp', '2,maxcpus=1'], 'Invalid CPU topology: maxcpus must be equal to or greater than '
     'smp: sockets (1) * cores (1) * threads (1) == maxcpus (1) < smp_cpus (2)'),
    (['-smp', '1,sockets=2'], 'Invalid CPU topology: product of the hierarchy must match maxcpus: '
     'sockets (2) * cores (0) * threads (1) != maxcpus (1)'),
    (['-smp', 'sockets=4000000000,cores=4000000000,threads=4000000000'], 'is too large'),
    (['-m', '2G,maxmem=1G'], 'invalid value of maxmem: maximum memory size (0x40000000) must be '
     'at least the initial memory size (0x80000000)'),
    (['-m', '1G,slots=1'], 'slots specified but no max-size'),
    (['-m', '1G,slots=1,maxmem=1G'], 'invalid value of maxmem: memory slots were specified but '
     'maximum memory size (0x40000000) is equal to the initial memory size (0x40000000)'),
    (['-m', '1G,maxmem=2G'], 'memory cannot be added later'),
    (['-m', '{"size": "1G"}'], "Parameter 'size' expects uint64"),
    (['-m', '64', '-object', 'memory-backend-ram,id=m,size=32M', '-M', 'memory-backend=m'],
     'Machine memory size does not match the size of the memory backend'),
    (['-M', 'memory-backend=m'], "Memory backend 'm' not found"),
    (['-object', 'memory-backend-ram,id=m,size=32M'], 'does not name it'),
    (['-object', 'memory-backend-ram,id=m'], "Parameter 'size' is missing"),
    (['-object', 'secret,id=s'], "Either 'file' or 'data' must be provided"),
    (['-overcommit', 'cpu-pm=on'], 'guest code is interpreted'),
    (['-audiodev', 'alsa,id=a'], "Parameter 'driver' does not accept value 'alsa'"),
    (['-compat', 'deprecated-input=maybe'],
     "Parameter 'deprecated-input' does not accept value 'maybe'"),
    (['-boot', 'order=n'], "Parameter 'order' is unexpected"),
    (['-action', 'reboot=never'], "Parameter 'reboot' does not accept value 'never'"),
    (['-rtc', 'base=localtime'], "Parameter 'base' does not accept value 'localtime'"),
    (['-net', 'user'], "-net user: there is only 'none'; use -nic, or -netdev and -device"),
    (['-nic', 'banana'], "-nic banana: Parameter 'type' does not accept value 'banana'"),
    (['-nic', 'user,model=e1000'], "NIC model 'e1000' is not supported; there is virtio-net-device"),
    (['-nic', 'user,id=n', '-netdev', 'user,id=n'], "-nic user,id=n: Duplicate ID 'n'"),
    (['-M', 'none', '-nic', 'user'], "machine 'none' has no CPU"),
    (['-netdev', 'user'], "-netdev user: Parameter 'id' is missing"),
    (['-netdev', 'id=n'], "-netdev id=n: Parameter 'type' is missing"),
    (['-netdev', 'banana,id=n'], "Parameter 'type' does not accept value 'banana'"),
    (['-netdev', 'tap,id=n'], "network backend 'tap' is not supported; there are: user, stream, dgram"),
    (['-netdev', 'user,id=1x'], "Parameter 'id' expects an identifier"),
    (['-netdev', 'user,id=n', '-netdev', 'user,id=n'],
     "-netdev user,id=n: Duplicate ID 'n' for netdev"),
    (['-netdev', 'user,id=n,banana=1'], "Invalid parameter 'banana'"),
    (['-netdev', 'user,id=n,net=banana'], 'Failed to parse netmask'),
    (['-netdev', 'user,id=n,net=10.1.0.0/33'],
     'Invalid netmask provided (must be in range 4-32)'),
    (['-netdev', 'user,id=n,net=10.1.0.0/x'], 'Failed to parse netmask (trailing chars)'),
    (['-netdev', 'user,id=n,net=10.0.0.0/30'], 'DHCP must be different from host and DNS'),
    (['-netdev', 'user,id=n,host=banana'], 'Failed to parse host'),
    (['-netdev', 'user,id=n,host=1.2.3.4'], "Host doesn't belong to network"),
    (['-netdev', 'user,id=n,dns=zz'], 'Failed to parse DNS'),
    (['-netdev', 'user,id=n,dns=10.0.2.2'], 'DNS must be different from host'),
    (['-netdev', 'user,id=n,dhcpstart=zz'], 'Failed to parse DHCP start address'),
    (['-netdev', 'user,id=n,dhcpstart=1.1.1.1'], "DHCP doesn't belong to network"),
    (['-netdev', 'user,id=n,ipv4=off,ipv6=off'], 'IPv4 and IPv6 disabled'),
    (['-netdev', 'user,id=n,ipv6-prefix=zz'], 'Failed to parse IPv6 prefix'),
    (['-netdev', 'user,id=n,ipv6-prefixlen=127'], 'Invalid IPv6 prefix provided (IPv6 prefix '
     'length must be between 0 and 126)'),
    (['-netdev', 'user,id=n,ipv6-host=1::1'], "IPv6 Host doesn't belong to network"),
    (['-netdev', 'user,id=n,ipv6-dns=zz'], 'Failed to parse IPv6 DNS'),
    (['-netdev', 'user,id=n,domainname='], "'domainname' parameter cannot be empty"),
    (['-netdev', 'user,id=n,tftp-server-name=' + 'a' * 256],
     "'tftp-server-name' parameter cannot exceed 255 bytes"),
    (['-netdev', 'user,id=n,guestfwd=x'], "'guestfwd' is not supported"),
    (['-netdev', 'user,id=n,hostfwd=xyz::1-:2'],
     "Invalid host forwarding rule 'xyz::1-:2' (Bad protocol name)"),
    (['-netdev', 'user,id=n,hostfwd=tcp:1.2.3.4:1-:2'],
     "Could not set up host forwarding rule 'tcp:1.2.3.4:1-:2'"),
    (['-netdev', 'stream,id=n'], "Parameter 'addr' is missing"),
    (['-netdev', 'dgram,id=n'], 'dgram requires local= parameter'),
    (['-netdev', 'dgram,id=n,local.type=unix,local.path=/tmp/x'],
     'type=inet or type=unix requires remote parameter'),
    (['-netdev', 'dgram,id=n,local.type=unix,local.path=/nonexistent/x,remote.type=inet,'
      'remote.host=127.0.0.1,remote.port=17002'], 'remote and local types must be the same'),
    (['-netdev', 'dgram,id=n,local.type=fd,local.str=0,remote.type=unix,remote.path=/tmp/x'],
     "don't set remote with local.fd"),
    (['-netdev', 'dgram,id=n,local.type=inet,local.host=127.0.0.1,local.port=0,remote.type=inet,'
      'remote.host=230.0.0.1,remote.port=17002'], 'multicast is not supported'),
    (['-netdev', 'dgram,id=n,local.type=fd,local.str=0'], 'not that of a datagram socket'),
    (['-netdev', 'stream,id=n,addr.type=unix,addr.path=/nonexistent/a'],
     "Failed to connect to '/nonexistent/a': No such file or directory"),
    (['-netdev', 'stream,id=n,addr.type=unix,addr.path=/nonexistent/a,server=on'],
     'Failed to bind socket to /nonexistent/a: No such file or directory'),
    (['-netdev', 'stream,id=n,addr.type=fd,addr.str=0'], 'not that of a stream socket'),
    (['-device', 'virtio-net-device,netdev=zork'],
     "Property 'virtio-net-device.netdev' can't find value 'zork'"),
    (['-netdev', 'user,id=n', *2 * ('-device', 'virtio-net-device,netdev=n')],
     "Property 'virtio-net-device.netdev' can't take value 'n', it's in use"),
    (['-device', 'virtio-net-device,mac=zz'],
     "Property 'virtio-net-device.mac' doesn't take value 'zz'"),
    (['-uuid', '123'], '-uuid 123: failed to parse UUID string: wrong format'),
    (['-display', 'gtk'], "-display gtk: there is only 'none'"),
    (['-vnc', ':1'], '-vnc: not supported'),
    (['-incoming', 'nonsense'], 'unknown migration protocol: nonsense'),
    (['-incoming', 'defer', '-loadvm', 'x'],
     "'incoming' and 'loadvm' options are mutually exclusive"),
    (['-append', 'x'], '-append only allowed with -kernel option'),
    (['-initrd', '/dev/null'], '-initrd only allowed with -kernel option'),
    (['-daemonize', '-nographic'], '-nographic cannot be used with -daemonize'),
    (['-device', 'virtio-mmio'], "Parameter 'driver' expects a pluggable device type"),
    (['-device', 'virtio-device'], "Parameter 'driver' expects a non-abstract device type"),
    (['-device', 'vmgenid,id=1x'], "Parameter 'id' expects an identifier"),
    (['-object', 'iothread,id=1x'], "Parameter 'id' expects an identifier"),
    (['-device', 'virtio-blk-device,drive=d,bus=zz', '-drive', 'file=/dev/null,format=raw,id=d,if=none'],
     "Bus 'zz' not found"),
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
    (['-drive', 'file=x,if=ide'], "-drive file=x,if=ide: unsupported bus type 'ide'"),
    (['-drive', 'file=x,aio=slow'], '-drive file=x,aio=slow: invalid aio option'),
    (['-drive', 'file=x,format=raw,driver=raw'], "Cannot specify both 'driver' and 'format'"),
    (['-drive', 'file=x,file.filename=x'],
     "Can't specify 'file' and 'filename' options at the same time"),
    (['-drive', 'file=/dev/null,format=raw,l2-cache-size=1M'],
     "Block format 'raw' does not support the option 'l2-cache-size'"),
    (['-drive', 'driver=raw,file.driver=file,file.filename=/dev/null,file.foo=1'],
     "Block protocol 'file' doesn't support the option 'foo'"),
    (['-drive', 'file=/dev/null,format=raw,index=3', '-drive', 'file=/dev/null,format=raw,unit=3'],
     'drive with bus=0, unit=3 (index=3) exists'),
    (['-drive', 'file=x,cache.writeback=maybe'], "Parameter 'cache.writeback' expects 'on' or 'off'"),
    (['-blockdev', 'file,filename=/nonexistent/x,node-name=a'], "Could not open '/nonexistent/x'"),
    (['-blockdev', 'file,filename=x'], "'node-name' must be specified for the root node"),
    (['-blockdev', 'driver=nonsense,node-name=a'], "does not accept value 'nonsense'"),
    *((option, 'Cannot disable IPv4 and IPv6 at same time') for option in (
        ['-chardev', 'socket,id=c,server=on,host=localhost,port=0,ipv4=off,ipv6=off'],
        ['-chardev', 'udp,id=c,port=9,ipv4=off,ipv6=off'],
        ['-netdev', 'stream,id=n,addr.type=inet,addr.host=localhost,addr.port=9,addr.ipv4=off,'
                    'addr.ipv6=off'],
        ['-incoming', 'tcp:localhost:0,ipv4=off,ipv6=off'])),
    (['-chardev', 'socket,path=x'], '-chardev socket,path=x: chardev: no id specified'),
    (['-serial', 'nonsense'], "-serial nonsense: 'nonsense' is not a valid char driver"),
    (['-serial', 'null', '-serial', 'null'], 'the machine has one serial port'),
    (['-mon', 'nothing'], '-mon nothing: chardev "nothing" not found'),
    (['-serial', '/dev/nonexistent'],
     "-serial /dev/nonexistent: Could not open '/dev/nonexistent': No such file or directory"),
    (['-serial', 'vc'], "-serial vc: char driver 'vc' is not supported"),
    (['-echr', 'x'], '-echr x: Bad argument to echr'),
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
    for args, title, line in (
            (('-device', 'virtio-blk-device,help'), 'virtio-blk-device',
             '  queue-size=<uint16>    -  (default: 256)'),
            (('-device', 'driver=virtio-blk-device,drive=x,help'), 'virtio-blk-device',
             '  iothread=<link<iothread>>'),
            (('-object', 'memory-backend-ram,id=x,?'), 'memory-backend-ram',
             '  size=<int>             - Size of the memory region (ex: 500M)'),
            (('-machine', 'virt,help'), 'virt-machine',
             '  kernel=<string>        - Linux kernel image file'),
            (('-chardev', 'socket,help'), 'socket', '  server=<bool (on/off)>'),
            (('-blockdev', 'driver=qcow2,help'), 'qcow2', '  lazy-refcounts=<bool (on/off)>'),
            (('-object', 'iothread,help'), 'iothread', '  poll-max-ns=<int>'),
            (('-msg', 'help'), 'msg', '  timestamp=<bool (on/off)>'),
            (('-smp', 'help'), 'smp-opts', '  cpus=<num>')):
        result = start(*args)
        lines = result.stdout.splitlines()
        assert result.returncode == 0 and lines[0] == title + ' options:', (args, result)
        assert line in lines and lines[1:] == sorted(lines[1:]), (args, line, lines)
    assert start('-device', 'nosuch,help').returncode == 1
    for option, kinds in (('-device', ('virtio-blk-device', 'virtio-net-device', 'vmgenid')),
                          ('-chardev', ('socket', 'udp', 'serial', 'ringbuf')),
                          ('-netdev', ('user', 'stream', 'dgram')), ('-object', ('iothread',))):
        result = start(option, 'help')
        assert result.returncode == 0 and all(kind in result.stdout for kind in kinds), result


def test_accelerators():
    """Of several the first that exists is taken, with a remark on the others."""
    for args, where in ((['-M', 'none,accel=kvm:tcg'], ''),
                        (['-M', 'none', '-accel', 'kvm', '-accel', 'tcg'], '-accel kvm: ')):
        lines = start(*args, '-bios', 'x').stderr.splitlines()  # which 'none' has not
        assert lines[:2] == [f'{NAME}: {where}invalid accelerator kvm',
                             f'{NAME}: falling back to tcg'], lines
    result = start('-accel', 'kvm', '-accel', 'xen')
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f'{NAME}: -accel xen: invalid accelerator xen'


def test_as_it_was_understood():
    """Text and JSON of every structured option are the same; what comes last counts."""
    text = ['-M', 'virt', '-machine', 'usb=off,mem-merge=off', '-cpu', 'max', '-smp',
            '1,cores=1', '-m', '256', '-m', 'maxmem=256M', '-name', 'me,debug-threads=on',
            '-action', 'reboot=shutdown', '-no-shutdown', '-rtc', 'base=utc', '-accel', 'tcg',
            '-object', 'iothread,id=t', '-drive', 'file=IMAGE,id=d,if=none']
    as_json = ['-M', '{"type": "virt", "usb": false, "mem-merge": false}', '-cpu',
               '{"model": "max"}', '-smp', '{"cpus": 1, "cores": 1}', '-m',
               '{"size": 268435456, "maxmem": 268435456}', '-name',
               '{"guest": "me", "debug-threads": true}', '-action',
               '{"reboot": "shutdown", "shutdown": "pause"}', '-rtc', '{"base": "utc"}',
               '-accel', '{"accel": "tcg"}', '-object', '{"qom-type": "iothread", "id": "t"}',
               '-drive', '{"file": "IMAGE", "id": "d", "if": "none"}']
    answers = []
    with tempfile.NamedTemporaryFile() as image:
        for args in (text, as_json):
            with VM(BINARY, ['-S', *(a.replace('IMAGE', image.name) for a in args)]) as vm:
                answer = vm.qmp.cmd('query-command-line')
                for own in ('qmp', 'serial', 'display'):
                    answer.pop(own)
                answers.append(answer)
                assert vm.quit() == 0
    assert answers[0] == answers[1], answers
    assert answers[0] == {
        'machine': {'type': 'virt', 'usb': False, 'mem-merge': False},
        'cpu': {'model': 'max'}, 'smp-opts': {'cpus': 1, 'cores': 1},
        'memory': {'size': 1 << 28, 'maxmem': 1 << 28}, 'accel': [{'accel': 'tcg'}],
        'name': {'guest': 'me', 'debug-threads': True},
        'action': {'reboot': 'shutdown', 'shutdown': 'pause'}, 'rtc': {'base': 'utc'},
        'object': [{'qom-type': 'iothread', 'id': 't'}], 'start-stopped': True,
        'nodefaults': True,
        'drive': [{'file': image.name, 'id': 'd', 'if': 'none'}]}, answers[0]


def test_policy():
    """-compat: what is unstable is rejected, what is deprecated is not shown."""
    unstable = [{'capability': 'x-colo', 'state': False}]
    with VM(BINARY, ['-M', 'none']) as vm:
        vm.qmp.cmd('migrate-set-capabilities', capabilities=unstable)
        assert any('values' in e for e in vm.qmp.cmd('query-qmp-schema'))
        assert vm.quit() == 0
    with VM(BINARY, ['-M', 'none', '-compat', 'unstable-input=reject,deprecated-output=hide'],
            monitors=1) as vm:
        try:
            vm.qmp.cmd('migrate-set-capabilities', capabilities=unstable)
            assert False
        except QMPError as err:
            assert err.desc == 'Unstable value x-colo disabled by policy', err
        assert not any('values' in e for e in vm.qmp.cmd('query-qmp-schema'))
        assert vm.quit() == 0


def test_command_line_options():
    with VM(BINARY, ['-M', 'none']) as vm:
        options = {o['option']: {p['name']: p['type'] for p in o['parameters']}
                   for o in vm.qmp.cmd('query-command-line-options')}
        assert options['memory'] == {'size': 'size', 'maxmem': 'size', 'slots': 'number'}
        assert options['machine']['usb'] == 'boolean'
        assert options['mon'] == {'id': 'string', 'mode': 'string', 'pretty': 'boolean',
                                  'chardev': 'string'}
        assert options['device'] == {}
        assert options['drive'].items() >= {'file': 'string', 'force-share': 'boolean',
                                            'driver': 'string', 'detect-zeroes': 'string'}.items()
        assert options['chardev'].items() >= {'backend': 'string', 'reconnect': 'number',
                                              'logfile': 'string', 'telnet': 'boolean',
                                              'localport': 'string'}.items()
        one = vm.qmp.cmd('query-command-line-options', option='rtc')
        assert [o['option'] for o in one] == ['rtc']
        try:
            vm.qmp.cmd('query-command-line-options', option='nonsense')
            assert False
        except QMPError as err:
            assert err.desc == 'invalid option name: nonsense', err
        assert vm.quit() == 0


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
        assert {t['id'] for t in qmp.cmd('query-iothreads')} == {'other'}
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
            assert {'d1', 'virtio0'} <= names, names
            assert {b['device'] for b in vm.qmp.cmd('query-block')
                    if not b['inserted']['cache']['writeback']} == {'d1'}
            assert vm.qmp.hmp('info block d1').endswith('Cache mode:       writethrough\r\n')
            assert vm.quit() == 0


def test_drive_options():
    """What -blockdev says of a node, among the old names of -drive."""
    with tempfile.TemporaryDirectory() as dir_:
        raw, qcow2 = os.path.join(dir_, 'a,b.raw'), os.path.join(dir_, 'q.qcow2')
        with open(raw, 'wb') as f:
            f.truncate(1 << 20)
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', qcow2, '1M'], check=True)
        doubled = raw.replace(',', ',,')
        drives = (
            f'file={doubled},format=raw,index=1,file.locking=off,detect-zeroes=unmap,'
            'discard=unmap,aio=threads',
            f'file={qcow2},l2-cache-size=64k,refcount-cache-size=256k,id=q,if=none,'
            'node-name=n,readonly=on,detect-zeroes=unmap',
            f'driver=raw,file.driver=file,file.filename={doubled},file.locking=off,'
            'cache.direct=on,cache.writeback=off',
            f'file={qcow2},media=cdrom,lazy-refcounts=off,id=c')
        with VM(BINARY, ['-S', *(word for drive in drives for word in ('-drive', drive))]) as vm:
            disks = {d['device']: d['inserted'] for d in vm.qmp.cmd('query-block')}
            seen = {name: (d['file'], d['drv'], d['ro'], d['cache']['direct'], d['detect_zeroes'])
                    for name, d in disks.items()}
            assert seen == {'virtio1': (raw, 'raw', False, False, 'unmap'),
                            'q': (qcow2, 'qcow2', True, False, 'on'),
                            'virtio0': (raw, 'raw', False, True, 'off'),
                            'c': (qcow2, 'qcow2', True, False, 'off')}, seen
            assert disks['q']['node-name'] == 'n'
            assert vm.quit() == 0
        with VM(BINARY, ['-S', '-drive', f'file={qcow2},l2-cache-size=64k,snapshot=on']) as vm:
            inserted = vm.qmp.cmd('query-block')[0]['inserted']
            assert inserted['image']['backing-image']['filename'] == qcow2, inserted
            assert vm.quit() == 0


if __name__ == '__main__':
    tap.run(sys.modules[__name__])
