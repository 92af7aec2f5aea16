# SPDX-License-Identifier: GPL-2.0-or-later
"""Drives a VM from a test: spawns the emulator, talks QMP, expects on the serial line.

Works with Keyframe's binary and with QEMU's alike.  Nothing here sleeps for luck: every
wait is for an event and has a timeout that raises.
"""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time


class Timeout(Exception):
    pass


class QMPError(Exception):
    """An error reply; .cls is the error class, .desc the text."""

    def __init__(self, error):
        super().__init__(f"{error['class']}: {error['desc']}")
        self.cls = error['class']
        self.desc = error['desc']


# Every timeout, in seconds, is as many times longer: for programs that a sanitizer slows down.
PATIENCE = float(os.environ.get('KEYFRAME_TEST_PATIENCE', 1))


def connect(path, timeout):
    """A socket connected to the server at path, which may yet have to begin."""
    sock = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        try:
            sock.connect(path)
            return sock
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise
            select.select([], [], [], 0.001)  # nothing to wait on before the socket exists


class QMP:
    """One session on a unix socket.  Events are kept in .events in order of arrival."""

    def __init__(self, path, timeout=30, negotiate=True):
        self.timeout = timeout
        self.events = []
        self._buffer = b''
        self.sock = connect(path, timeout)
        self.greeting = self.read(timeout)
        if negotiate:
            self.cmd('qmp_capabilities')

    def close(self):
        self.sock.close()

    def read(self, timeout=None):
        """The next message."""
        deadline = time.monotonic() + PATIENCE * (self.timeout if timeout is None else timeout)
        while b'\n' not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise Timeout('no message from the monitor')
            data = self.sock.recv(65536)
            if not data:
                raise EOFError('the monitor closed the connection')
            self._buffer += data
        line, self._buffer = self._buffer.split(b'\n', 1)
        return json.loads(line)

    def send(self, obj):
        self.sock.sendall(json.dumps(obj).encode() + b'\n')

    def reply(self, timeout=None):
        """The next reply, as it is; events on the way are kept."""
        while True:
            message = self.read(timeout)
            if 'return' in message or 'error' in message:
                return message
            if 'event' in message:
                self.events.append(message)

    def cmd(self, name, timeout=None, **args):
        """Runs a command; '_' in argument names stands for '-'.  Returns its value."""
        request = {'execute': name}
        if args:
            request['arguments'] = {k.replace('_', '-'): v for k, v in args.items()}
        self.send(request)
        message = self.reply(timeout)
        if 'error' in message:
            raise QMPError(message['error'])
        return message['return']

    def hmp(self, line, timeout=None):
        return self.cmd('human-monitor-command', timeout, command_line=line)

    def wait_event(self, name, timeout=None, match=lambda data: True):
        """Removes and returns the first event of that name which matches."""
        deadline = time.monotonic() + PATIENCE * (self.timeout if timeout is None else timeout)
        seen = 0
        while True:
            while seen < len(self.events):
                event = self.events[seen]
                if event['event'] == name and match(event.get('data', {})):
                    return self.events.pop(seen)
                seen += 1
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout(f'no event {name}')
            self.events.append(self.read(left))

    def job_states(self, job, until='null', timeout=None):
        """The states that a job goes through, up to and with the given one."""
        states = []
        while not states or states[-1] != until:
            event = self.wait_event('JOB_STATUS_CHANGE', timeout, lambda d: d['id'] == job)
            states.append(event['data']['status'])
        return states

    def run_job(self, name, job, timeout=None, **args):
        """Runs a job with manual dismiss where it can be had; returns its query-jobs entry."""
        self.cmd(name, timeout, job_id=job, **args)
        self.job_states(job, 'concluded', timeout)
        info = [j for j in self.cmd('query-jobs') if j['id'] == job]
        self.cmd('job-dismiss', id=job)
        self.job_states(job, 'null', timeout)
        if 'error' in info[0]:
            raise QMPError({'class': 'GenericError', 'desc': info[0]['error']})
        return info[0]


class Serial:
    """The guest's serial line on a unix socket; .log has all that came."""

    def __init__(self, path, timeout=30):
        self.sock = connect(path, timeout)
        self.log = b''
        self._seen = 0

    def close(self):
        self.sock.close()

    def send(self, text):
        self.sock.sendall(text.encode())

    def expect(self, text, timeout=60):
        """Waits for text behind what was expected before; returns what came up to it."""
        want = text.encode()
        deadline = time.monotonic() + timeout * PATIENCE
        while True:
            at = self.log.find(want, self._seen)
            if at >= 0:
                before = self.log[self._seen:at + len(want)]
                self._seen = at + len(want)
                return before.decode(errors='replace')
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise Timeout(f'{text!r} did not come; last: {self.log[-400:]!r}')
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f'serial line closed; last: {self.log[-400:]!r}')
            self.log += data

    def drain(self):
        """Reads what is there without waiting."""
        while select.select([self.sock], [], [], 0)[0]:
            data = self.sock.recv(65536)
            if not data:
                break
            self.log += data
        self._seen = len(self.log)


class VM:
    """A virt machine with its sockets in a directory of its own.

    args: further command line.  The serial line and `monitors` QMP sockets are added.  env: more
    of the environment; run: a command to run it with, as a list; preexec: called in the child.
    """

    def __init__(self, binary, args, monitors=1, directory=None, env=None, run=(),
                 preexec=None):
        self.own_dir = directory is None
        self.dir = directory or tempfile.mkdtemp(prefix='kfvm-')
        self.qmp_paths = [os.path.join(self.dir, f'qmp{i}') for i in range(monitors)]
        self.serial_path = os.path.join(self.dir, 'serial')
        command = [*run, binary, '-M', 'virt', '-display', 'none', '-nodefaults',
                   '-serial', f'unix:{self.serial_path},server=on,wait=off']
        for path in self.qmp_paths:
            command += ['-qmp', f'unix:{path},server=on,wait=off']
        self.command = command + list(args)
        self.stderr = open(os.path.join(self.dir, 'stderr'), 'w+b')
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                        stdout=self.stderr, stderr=self.stderr,
                                        env={**os.environ, **(env or {})}, preexec_fn=preexec)
        self.qmp = self.serial = None
        try:
            if monitors:
                self.qmp = QMP(self.qmp_paths[0])
            self.serial = self.open_serial()
        except Exception as error:
            said = self.errors()
            self.kill()
            raise RuntimeError(f'{binary} did not start: {said}') from error

    def errors(self):
        # Not through self.stderr: the process writes where that one's offset is.
        with open(self.stderr.name, 'rb') as stream:
            return stream.read().decode(errors='replace')

    def open_serial(self):
        """A (new) peer on the serial line; the one before must have been closed."""
        return Serial(self.serial_path)

    def note_loop_stats(self):
        """For scripts/run-tests: how long this VM's main loop was kept from polling."""
        path = os.environ.get('KEYFRAME_LOOP_STATS')
        if not path or not self.qmp_paths:
            return
        try:
            session = self.session(0, timeout=2)
            longest = session.cmd('query-main-loop-stats')['longest-us']
            session.close()
        except (OSError, EOFError, Timeout, QMPError):
            return  # it hangs, or is QEMU
        with open(path, 'a', encoding='utf-8') as out:
            out.write(f'{longest} {os.path.basename(sys.argv[0])}\n')

    def session(self, n=0, **kwargs):
        return QMP(self.qmp_paths[n], **kwargs)

    def quit(self, timeout=30):
        """Orderly end; returns the exit status."""
        if self.process.poll() is None:
            self.note_loop_stats()
            try:
                self.qmp.cmd('quit')
            except (EOFError, OSError):
                pass
        status = self.process.wait(timeout * PATIENCE)
        self.cleanup()
        return status

    def kill(self, sig=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        status = self.process.wait(30)
        self.cleanup()
        return status

    def cleanup(self):
        for thing in (self.qmp, self.serial):
            if thing:
                thing.close()
        said = self.errors()
        if 'Sanitizer' in said:
            print('\n'.join('# ' + line for line in said.splitlines()[:120]), flush=True)
        self.stderr.close()
        if self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.note_loop_stats()
            self.kill()
        elif self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)


class Meter:
    """The stopwatch process (tests/bench/meter.c)."""

    def __init__(self, build, *args):
        self.process = subprocess.Popen(
            [os.path.join(build, 'tests/bench/meter'), *map(str, args)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _command(self, word):
        self.process.stdin.write(word + '\n')
        self.process.stdin.flush()

    def begin(self):
        self._command('begin')

    def end(self):
        """The figures since begin(), in microseconds: n, p50, p99, max."""
        self._command('end')
        return json.loads(self.process.stdout.readline())

    def hold(self):
        """Measures nothing and takes no time until go_on()."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.go_on()
        self.process.stdin.close()
        self.process.wait(10)


def guest_dir():
    """Where fetch-guest and build-initrd left Image and initrd.gz."""
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return os.environ.get('KEYFRAME_GUEST_DIR') or os.path.join(cache, 'keyframe', 'guest')


def linux_args(memory='512M', append='console=ttyS0 quiet'):
    guest = guest_dir()
    return ['-m', memory, '-kernel', os.path.join(guest, 'Image'),
            '-initrd', os.path.join(guest, 'initrd.gz'), '-append', append]


def disk_args(path, node='disk0', fmt='qcow2', serial='kf0'):
    return ['-blockdev', f'driver={fmt},node-name={node},file.driver=file,file.filename={path}',
            '-device', f'virtio-blk-device,drive={node},serial={serial}']
