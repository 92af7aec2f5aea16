#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux on the network: DHCP, name, ping and transfers through the backend "user"; saving and
loading in the middle of one; a way in by hostfwd; a peer on a stream socket.

usage: net-linux.py KF-SYSTEM MIB
"""

import hashlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

from kfvm import VM, disk_args, guest_dir, linux_args
import tap

BINARY, MIB = sys.argv[1], int(sys.argv[2])
CONTENT = os.urandom(1 << 20) * MIB
SUM = hashlib.sha256(CONTENT).hexdigest()
SCRIPT = r'''#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/${mask:-24} dev $interface
ip route add default via $router
echo nameserver $dns > /etc/resolv.conf
'''


class Server:
    """Gives CONTENT over HTTP; .served counts the bytes."""

    def __init__(self):
        outer = self
        self.served = 0
        self.part = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header('Content-Length', str(len(CONTENT)))
                self.end_headers()
                try:
                    for at in range(0, len(CONTENT), 65536):
                        self.wfile.write(CONTENT[at:at + 65536])
                        outer.served += 65536
                        if at >= len(CONTENT) // 4:
                            outer.part.set()
                except OSError:
                    pass  # the guest has gone elsewhere

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class Guest:
    def __init__(self, *args, **kwargs):
        self.vm = VM(BINARY, [*linux_args('256M'), *args], **kwargs)

    def boot(self):
        self.vm.serial.expect('GUEST READY', 120)
        self.vm.serial.expect('guest# ')
        self.run('stty columns 500')  # lines are not wrapped
        # The initramfs may be one without the network's drivers loaded.
        self.run('for m in failover net_failover virtio_net; do '
                 'insmod /modules/$m.ko 2>/dev/null; done; ip link set lo up')

    def send(self, line):
        self.vm.serial.send(line + '\n')

    def run(self, line, timeout=60):
        """What the line prints."""
        self.send(line + '; echo "<$?>"')
        self.vm.serial.expect('echo "<$?>"\r\n', timeout)
        out = self.vm.serial.expect('guest# ', timeout)
        text, status = out.rsplit('<', 1)
        assert status.startswith('0>'), (line, out)
        return text.replace('\r\n', '\n')

    def configure(self):
        """By DHCP."""
        self.run('mkdir -p /etc /tmp')
        for part in SCRIPT.splitlines():
            self.run(f"echo '{part}' >> /tmp/dhcp")
        self.run('chmod 755 /tmp/dhcp; ip link set eth0 up')
        self.run('udhcpc -i eth0 -n -q -s /tmp/dhcp')
        assert 'inet 10.0.2.15/24' in self.run('ip addr show eth0')


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as probe:
        return probe.getsockname()[1]


def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


class Peer:
    """The other machine on the cable, 10.0.0.1: answers ARP, and pings the guest, 10.0.0.2."""

    MAC = bytes.fromhex('525400abcdef')
    MINE, ITS = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.sock.settimeout(30)

    def read(self, n):
        data = b''
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            assert piece
            data += piece
        return data

    def receive(self):
        return self.read(struct.unpack('!I', self.read(4))[0])

    def send(self, frame):
        self.sock.sendall(struct.pack('!I', len(frame)) + frame)

    def arp(self, kind, mac, to):
        self.send(to + self.MAC + b'\x08\x06' + struct.pack('!HHBBH', 1, 0x800, 6, 4, kind) +
                  self.MAC + self.MINE + mac + self.ITS)

    def wait(self, what):
        """The next frame that what() wants; ARP is answered on the way."""
        while True:
            frame = self.receive()
            if frame[12:14] == b'\x08\x06' and frame[20:22] == b'\0\1' and \
                    frame[38:42] == self.MINE:
                self.arp(2, frame[6:12], frame[6:12])
            if what(frame):
                return frame

    def ping(self, mac, payload):
        head = struct.pack('!BBHHH', 8, 0, 0, 1, 1)
        icmp = head[:2] + struct.pack('!H', checksum(head + payload)) + head[4:] + payload
        ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0) + self.MINE + self.ITS
        ip = ip[:10] + struct.pack('!H', checksum(ip)) + ip[12:]
        self.send(mac + self.MAC + b'\x08\0' + ip + icmp)
        self.wait(lambda f: f[12:14] == b'\x08\0' and f[23] == 1 and f[34] == 0 and f[42:] == payload)


ON = {'vmstate': 'disk0', 'devices': ['disk0']}


class World:
    """One guest for all tests: eth0 is behind the backend user, eth1 is a cable to Peer."""

    MAC = '52:54:00:aa:bb:cc'

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix='kfnet-')
        self.socket = os.path.join(self.dir.name, 'net')
        self.disk = os.path.join(self.dir.name, 'disk.qcow2')
        self.port = free_port()
        self.server = Server()
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.disk, '64M'], check=True)
        self.guest = self.start()
        self.guest.boot()

    def start(self, *extra):
        return Guest(*disk_args(self.disk),
                     '-netdev', f'user,id=n0,hostfwd=tcp:127.0.0.1:{self.port}-:7',
                     '-device', 'virtio-net-device,netdev=n0',
                     '-netdev', f'stream,id=n1,server=on,addr.type=unix,addr.path={self.socket}',
                     '-device', f'virtio-net-device,netdev=n1,mac={self.MAC},id=nic1', *extra)

    def fetch(self):
        return f'wget -q -O - http://10.0.2.2:{self.server.port}/ | sha256sum'

    def echo(self):
        """Through hostfwd to a program in the guest and back."""
        self.guest.run('(nc -l -p 7 -e /bin/cat > /dev/null 2>&1 &)')
        self.guest.run('until grep -q ":0007 0" /proc/net/tcp*; do usleep 10000; done')
        data = os.urandom(100000)
        with socket.create_connection(('127.0.0.1', self.port), 20) as sock:
            sock.settimeout(60)
            threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
            back = b''
            while len(back) < len(data):
                piece = sock.recv(65536)
                assert piece
                back += piece
        assert back == data

    def close(self):
        self.guest.vm.__exit__()
        self.server.close()
        self.dir.cleanup()


def test_user(world):
    world.guest.configure()
    world.guest.run('ping -c 1 -W 5 10.0.2.2')
    assert SUM in world.guest.run(world.fetch(), 120)
    assert world.server.served == len(CONTENT)


def test_hostfwd(world):
    world.echo()


def test_stream(world):
    """ARP and pings; the link as the guest sees it."""
    guest, peer = world.guest, Peer(world.socket)
    guest.vm.qmp.wait_event('NETDEV_STREAM_CONNECTED')
    guest.run('ip addr add 10.0.0.2/24 dev eth1; ip link set eth1 up')
    peer.arp(1, bytes(6), b'\xff' * 6)
    peer.wait(lambda f: f[12:14] == b'\x08\x06' and f[20:22] == b'\0\2')
    mac = bytes.fromhex(world.MAC.replace(':', ''))
    for size in (32, 1400):
        peer.ping(mac, os.urandom(size))
    for state in ('off', 'on'):
        guest.vm.qmp.hmp(f'set_link nic1 {state}')
        carrier = int(state == 'on')
        guest.run(f'until [ "$(cat /sys/class/net/eth1/carrier)" = {carrier} ]; do '
                  'usleep 10000; done')
    peer.ping(mac, b'again' * 8)
    peer.sock.close()
    guest.vm.qmp.wait_event('NETDEV_STREAM_DISCONNECTED')


def test_snapshot(world):
    """Saved in the middle of a transfer, which goes on; then back to that instant."""
    guest, qmp = world.guest, world.guest.vm.qmp
    world.server.part.clear()
    guest.send(world.fetch())
    assert world.server.part.wait(60)
    qmp.run_job('snapshot-save', 'save', tag='t', **ON)
    guest.vm.serial.expect(SUM, 120)
    guest.vm.serial.expect('guest# ')
    guest.run('echo after > /tmp/later')
    peer = Peer(world.socket)
    qmp.run_job('snapshot-load', 'load', tag='t', **ON)
    # the transfer is reset, not left hanging; the guest tells others where it is
    guest.vm.serial.expect('guest# ', 60)
    assert 'later' not in guest.run('ls /tmp')
    peer.wait(lambda f: f[:6] == b'\xff' * 6 and f[12:14] == b'\x08\x06' and
              f[28:32] == f[38:42] == Peer.ITS)
    peer.ping(bytes.fromhex(world.MAC.replace(':', '')), b'after the load' * 2)
    assert SUM in guest.run(world.fetch(), 120)
    world.echo()
    assert guest.vm.quit() == 0


def test_another_process(world):
    """The address is still the guest's, and a port still leads to it."""
    world.guest = world.start('-loadvm', 't')
    world.guest.vm.serial.expect('guest# ', 60)
    assert 'inet 10.0.2.15/24' in world.guest.run('ip addr show eth0')
    assert SUM in world.guest.run(world.fetch(), 120)
    world.echo()
    assert world.guest.vm.quit() == 0


if __name__ == '__main__':
    if os.path.exists(os.path.join(guest_dir(), 'initrd.gz')):
        the_world = World()
        try:
            tap.run(sys.modules[__name__], the_world)
        finally:
            the_world.close()
    else:
        tap.run(sys.modules[__name__])
