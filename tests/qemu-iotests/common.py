# SPDX-License-Identifier: GPL-2.0-or-later
"""
For numbered tests that run a machine: one with a payload of two instructions, driven over
QMP on a socket.  What is said and what comes back is printed as it goes by, without times,
sizes and whatever else differs from run to run; the golden file compares it.
"""

import json
import os
import re
import select
import socket
import struct
import subprocess

IMG = os.environ['IMG']
SYSTEM = os.environ['SYSTEM']
SECONDS = 60

# wfi; j -4: a guest that is there and sleeps.
PAYLOAD = struct.pack('<II', 0x10500073, 0xffdff06f)


def log(*words):
    print(*words, flush=True)


def filtered(value):
    """A message without what time and layout decide, its members in a fixed order."""
    if isinstance(value, list):
        return [filtered(v) for v in value]
    if not isinstance(value, dict):
        return value
    hidden = {'timestamp', 'snapshot-stats'}
    any_value = {'vm-state-size', 'date-sec', 'date-nsec', 'vm-clock-sec', 'vm-clock-nsec',
                 'actual-size', 'current-progress', 'total-progress'}
    return {k: 'ANY' if k in any_value else filtered(v)
            for k, v in sorted(value.items()) if k not in hidden}


def filtered_text(text):
    """The same for text: sizes of states, dates, clocks."""
    text = re.sub(r' *\S+ (KiB|MiB|B) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \d\d:\d\d:\d\d\.\d+',
                  ' SIZE DATE CLOCK', text)
    text = re.sub(r"snapshots on '\w*'", "snapshots on 'NODE'", text)
    return '\n'.join(line.rstrip() for line in text.replace('\r', '').splitlines())


def img(*args, show=True):
    """Runs the disk tool."""
    done = subprocess.run([IMG, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, check=False)
    text = filtered_text(done.stdout.decode())
    text = re.sub(r'Image end offset: \d+', 'Image end offset: END', text)
    text = re.sub(r'.*% fragmented.*\n', '', text)
    text = re.sub(r'^disk size: .*', 'disk size: SIZE', text, flags=re.M)  # the file system's
    if show:
        log('+ qemu-img', *args)
        if text:
            log(text)
    if done.returncode:
        log('exit code', done.returncode)


def blockdevs(*names, **options):
    """Arguments for qcow2 images as nodes: a.qcow2 becomes node a on its file a-file."""
    args = []
    for name in names:
        node = name.split('.')[0]
        args += ['-blockdev', json.dumps({'driver': 'file', 'filename': name,
                                          'node-name': node + '-file', **options}),
                 '-blockdev', json.dumps({'driver': name.split('.')[1], 'node-name': node,
                                          'file': node + '-file', **options})]
    return args


def arguments(*more):
    with open('payload', 'wb') as f:
        f.write(PAYLOAD)
    return [SYSTEM, '-M', 'virt', '-m', '16M', '-bios', 'payload', '-nodefaults',
            '-display', 'none', *more]


def run_system(*args):
    """An emulator that is expected to end by itself."""
    done = subprocess.run(arguments(*args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, timeout=SECONDS, check=False)
    log('+ qemu-system-riscv64', *args)
    # One program says for which option it was.
    log(re.sub(r': -loadvm \w+: ', ': ', filtered_text(done.stdout.decode())))
    log('exit code', done.returncode)


class VM:
    """A machine and one QMP session with it; use it with "with"."""

    def __init__(self, *args):
        self.buffer = b''
        listener = socket.socket(socket.AF_UNIX)
        listener.bind('qmp')
        listener.listen(1)
        with open('system.log', 'wb') as output:
            self.process = subprocess.Popen(arguments('-qmp', 'unix:qmp', *args),
                                            stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=output)
        if not select.select([listener], [], [], SECONDS)[0]:
            raise TimeoutError(open('system.log', encoding='utf-8').read())
        self.sock = listener.accept()[0]
        listener.close()
        os.unlink('qmp')
        self.read()
        self.send('qmp_capabilities')
        self.reply(show=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.sock.close()
        text = open('system.log', encoding='utf-8').read()
        # One program announces the images that it makes.
        text = re.sub(r'(?m)^Formatting .*\n\n?', '', text)
        if text:
            log(text)

    def read(self):
        """The next message."""
        while b'\n' not in self.buffer:
            if not select.select([self.sock], [], [], SECONDS)[0]:
                raise TimeoutError('no message from the monitor')
            data = self.sock.recv(65536)
            if not data:
                raise EOFError('the monitor closed the connection')
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return json.loads(line)

    def send(self, name, args=None):
        message = {'execute': name}
        if args:
            message['arguments'] = args
        self.sock.sendall(json.dumps(message).encode() + b'\n')

    def show(self, message):
        # A machine that runs is stopped for a save by one program and not by the other.
        if message.get('event') not in ('STOP', 'RESUME'):
            log('<-', json.dumps(filtered(message)))

    def reply(self, show=True):
        """Reads up to the reply, shows it with the events on the way, returns its value."""
        while True:
            message = self.read()
            if show:
                self.show(message)
            if 'event' not in message:
                return message.get('return')

    def qmp(self, command, show=True, **args):
        """One command; '_' in argument names stands for '-'.  None after an error."""
        args = {k.replace('_', '-'): v for k, v in args.items()}
        if show:
            log('->', command, json.dumps(args) if args else '')
        self.send(command, args)
        return self.reply(show)

    def wait_event(self, name, **match):
        """Shows events up to one of that name with these data."""
        while True:
            message = self.read()
            self.show(message)
            if message.get('event') == name and match.items() <= message['data'].items():
                return

    def job(self, command, job_id='job0', **args):
        """A job from start to dismissal, with its entry at the end."""
        if self.qmp(command, job_id=job_id, **args) is None:
            return
        self.wait_event('JOB_STATUS_CHANGE', id=job_id, status='concluded')
        self.qmp('query-jobs')
        self.qmp('job-dismiss', id=job_id)

    def outcome(self, command, job_id='job0', **args):
        """
        A job of which only the end is shown: what one program finds out before it makes a
        job may let the job of the other fail.
        """
        log('->', command, ' '.join(f'{name}={value}' for name, value in args.items()))
        args = {k.replace('_', '-'): v for k, v in args.items()}
        self.send(command, {'job-id': job_id, **args})
        message = self.read()
        while message.get('event') != 'JOB_STATUS_CHANGE' or \
                message['data']['status'] != 'concluded':
            if 'error' in message:
                log('   refused or failed:', message['error']['desc'])
                return
            message = self.read()
        [job] = self.qmp('query-jobs', show=False)
        self.qmp('job-dismiss', show=False, id=job_id)
        log('   refused or failed: ' + job['error'] if 'error' in job else '   done')

    def hmp(self, line):
        log('(qemu)', line)
        text = self.qmp('human-monitor-command', show=False, command_line=line)
        if text:
            log(filtered_text(text))

    def wait_running(self):
        """The monitor of a machine that starts by itself may answer before it runs."""
        while not self.qmp('query-status', show=False)['running']:
            pass

    def wait_loaded(self):
        """And one that starts from a snapshot before that is loaded."""
        while self.qmp('query-status', show=False)['status'] == 'inmigrate':
            pass

    def snapshots(self):
        """The tags of each node that has snapshots."""
        for node in self.qmp('query-named-block-nodes', show=False):
            tags = [f"{s['id']}:{s['name']}{'' if s['vm-state-size'] else ' (no state)'}"
                    for s in node['image'].get('snapshots', [])]
            if tags:
                log('snapshots of', node['node-name'] + ':', ', '.join(sorted(tags)))

    def quit(self):
        self.qmp('quit', show=False)
        if self.process.wait(SECONDS):
            log('exit code', self.process.returncode)
