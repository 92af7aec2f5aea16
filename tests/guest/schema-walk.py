#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What query-qmp-schema says is what the program accepts.

Walks the whole schema of a running machine.  Each command is sent with arguments that are
right but for one fault, for every fault that the schema knows of: a member of a wrong type,
a value that an enumeration has not, a mandatory member that is missing, an unknown one.  The
answer must be QEMU's error, naming the member.  No command is ever sent without a fault, so
none is executed; at the end the machine is as it was.

usage: schema-walk.py KF-SYSTEM
"""

import re
import sys

from kfvm import VM
import tap

BINARY = sys.argv[1]
STRANGER = 'no-such-member'
# What each type of the schema calls itself in a message, and a value of it.
SAMPLES = {'string': 'x', 'int': 1, 'number': 1.5, 'boolean': True, 'null': None, 'value': 'x'}
EXPECTED = {'string': 'string', 'int': 'integer', 'number': 'number', 'boolean': 'boolean',
            'null': 'null', 'enum': 'string', 'array': 'array', 'object': 'object'}
WRONG = ['x', 1, 1.5, True, None, [], {}]


def json_type(value):
    """The schema's word for the type of a value; an integer is a number, too."""
    return {str: 'string', int: 'int', float: 'number', bool: 'boolean', type(None): 'null',
            list: 'array', dict: 'object'}[type(value)]


def innermost(path):
    """The member that is named where QEMU does not name all of them."""
    return re.split(r'\.|\]', path)[-1] or 'null'


class Fault:
    """Arguments with one fault in them, and the message that it must give."""

    def __init__(self, value, pattern):
        self.value, self.pattern = value, pattern

    def inside(self, wrap):
        return Fault(wrap(self.value), self.pattern)


class Schema:
    def __init__(self, entities):
        self.commands = [e for e in entities if e['meta-type'] == 'command']
        self.types = {e['name']: e for e in entities
                      if e['meta-type'] not in ('command', 'event')}

    # --- Values that fit -----------------------------------------------------------------

    def sample(self, name, above=()):
        """A value of a type, without what it can do without."""
        typ = self.types[name]
        meta = typ['meta-type']
        if meta == 'builtin':
            return SAMPLES[typ['json-type']]
        if meta == 'enum':
            return typ['members'][0]['name']
        if meta == 'array':
            return []
        if meta == 'alternate':
            simple = [m['type'] for m in typ['members']
                      if self.types[m['type']]['meta-type'] != 'object']
            return self.sample((simple or [typ['members'][0]['type']])[0], above + (name,))
        assert name not in above, f'{name} needs itself'
        return self.sample_object(name, self.cases(typ)[0], above + (name,))

    def cases(self, typ):
        return [v['case'] for v in typ.get('variants', [])] or [None]

    def members(self, typ, case):
        """All that an object may have; of a union with the tag set to case."""
        members = list(typ['members'])
        for variant in typ.get('variants', []):
            if variant['case'] == case:
                branch = self.types[variant['type']]
                members += self.members(branch, self.cases(branch)[0])
        return members

    def sample_object(self, name, case, above=(), full=False):
        typ = self.types[name]
        value = {}
        for m in self.members(typ, case):
            if full or 'default' not in m:
                value[m['name']] = self.sample(m['type'], above)
        self.set_tags(typ, case, value)
        return value

    def set_tags(self, typ, case, value):
        """Of the union and of unions that are branches of it."""
        if case is None:
            return
        value[typ['tag']] = case
        for variant in typ['variants']:
            if variant['case'] == case:
                branch = self.types[variant['type']]
                self.set_tags(branch, self.cases(branch)[0], value)

    # --- Values that do not ----------------------------------------------------------------

    def fits(self, name, kind):
        """Whether a value of that JSON type could be one of the type."""
        typ = self.types[name]
        meta = typ['meta-type']
        if meta == 'builtin':
            want = typ['json-type']
            return want in ('value', kind) or (want == 'number' and kind == 'int')
        if meta == 'alternate':
            return any(self.fits(m['type'], kind) for m in typ['members'])
        return kind == {'enum': 'string'}.get(meta, meta)

    def wrong_type(self, name, path):
        """What is said of a value of another JSON type."""
        typ = self.types[name]
        meta = typ['meta-type']
        if meta == 'alternate':  # names of types are masked
            return f"Invalid parameter type for '{innermost(path)}', expected: \\w+"
        want = EXPECTED[typ['json-type'] if meta == 'builtin' else meta]
        pattern = f"Invalid parameter type for '{re.escape(path)}', expected: {want}"
        if want == 'integer':
            pattern += f"|Parameter '{re.escape(path)}' expects uint64"
        return pattern

    def faults(self, name, path, above=()):
        """Every value of a type that has one fault."""
        typ = self.types[name]
        meta = typ['meta-type']
        for value in WRONG:
            kind = json_type(value)
            # A number that cannot be told from an alternate's integer is another matter.
            if not self.fits(name, kind) and not (
                    meta == 'alternate' and kind == 'number' and self.fits(name, 'int')):
                yield Fault(value, self.wrong_type(name, path))
        if meta == 'enum':
            yield Fault('no-such-value', f"Parameter '{innermost(path)}' does not accept value "
                                         "'no-such-value'")
        elif meta == 'array':
            for fault in self.faults(typ['element-type'], path + '[0]', above):
                yield fault.inside(lambda v: [v])
        elif meta == 'alternate':
            for m in typ['members']:
                if self.types[m['type']]['meta-type'] in ('object', 'array'):
                    for fault in self.faults(m['type'], path, above):
                        if json_type(fault.value) == self.types[m['type']]['meta-type']:
                            yield fault
        elif meta == 'object' and name not in above:
            for case in self.cases(typ):
                yield from self.object_faults(name, case, path, above + (name,))

    def object_faults(self, name, case, path, above):
        dot = path + '.' if path else ''
        base = self.sample_object(name, case, above)
        full = self.sample_object(name, case, above, full=True)
        tags = {name for name in base if base[name] == case} if case else set()
        # All that is optional is known: only the stranger is not.
        for value in (base, full):
            yield Fault({**value, STRANGER: 1}, f"Parameter '{re.escape(dot)}{STRANGER}' "
                                                'is unexpected')
        for m in self.members(self.types[name], case):
            member, here = m['name'], dot + m['name']
            if 'default' not in m:
                rest = {k: v for k, v in base.items() if k != member}
                yield Fault(rest, f"Parameter '{re.escape(here)}' is missing")
            if member in tags and case != self.cases(self.types[name])[0]:
                continue  # wrong in the same way as with the first case
            for fault in self.faults(m['type'], here, above):
                yield fault.inside(lambda v, member=member: {**base, member: v})


def state(qmp):
    """What must not change."""
    return [qmp.cmd(name) for name in ('query-status', 'query-block', 'query-jobs',
                                       'query-named-block-nodes', 'query-chardev',
                                       'query-migrate-capabilities', 'query-iothreads')]


def expected(command, fault):
    # An unknown device is told in words of its own.
    if command == 'device_add' and fault.value.get('driver') == 'no-such-value':
        return "'no-such-value' is not a valid device model name"
    return fault.pattern


def test_every_command():
    with VM(BINARY, ['-S', '-object', 'iothread,id=t0'], monitors=2) as vm:
        # One that has not negotiated yet is what qmp_capabilities is for.
        qmp, fresh = vm.qmp, vm.session(1, negotiate=False)
        schema = Schema(qmp.cmd('query-qmp-schema'))
        before = state(qmp)
        sent, complaints = 0, []
        for command in schema.commands:
            for fault in schema.faults(command['arg-type'], ''):
                if not isinstance(fault.value, dict):
                    continue  # the session itself looks at that
                session = fresh if command['name'] == 'qmp_capabilities' else qmp
                session.send({'execute': command['name'], 'arguments': fault.value})
                answer = session.reply()
                sent += 1
                error = answer.get('error', {'class': None, 'desc': answer})
                if error['class'] != 'GenericError' or \
                        not re.fullmatch(expected(command['name'], fault), str(error['desc'])):
                    complaints.append((command['name'], fault.value, fault.pattern, error))
        for complaint in complaints[:20]:
            print('#', *complaint)
        print(f'# {len(schema.commands)} commands, {sent} requests')
        assert not complaints, len(complaints)
        assert sent > 1000
        assert state(qmp) == before
        assert not qmp.events, qmp.events
        fresh.cmd('qmp_capabilities')
        fresh.close()
        assert vm.quit() == 0


def test_arguments_must_be_an_object():
    with VM(BINARY, ['-S', '-M', 'none']) as vm:
        for command in Schema(vm.qmp.cmd('query-qmp-schema')).commands:
            for value in ('x', 1, True, None, []):
                vm.qmp.send({'execute': command['name'], 'arguments': value})
                error = vm.qmp.reply()['error']
                assert error == {'class': 'GenericError', 'desc':
                                 "QMP input member 'arguments' must be an object"}, (command, error)
        assert vm.quit() == 0


def test_commands_agree():
    """query-commands, query-qmp-schema and the dispatcher have the same commands."""
    with VM(BINARY, ['-S', '-M', 'none']) as vm:
        entities = vm.qmp.cmd('query-qmp-schema')
        names = {e['name'] for e in entities if e['meta-type'] == 'command'}
        assert names == {c['name'] for c in vm.qmp.cmd('query-commands')}
        referred = set()
        for e in entities:
            referred |= {e.get('arg-type'), e.get('ret-type'), e.get('element-type')}
            referred |= {m.get('type') for m in e.get('members', [])}
            referred |= {v['type'] for v in e.get('variants', [])}
        types = {e['name'] for e in entities if e['meta-type'] not in ('command', 'event')}
        assert referred - {None} == types, referred ^ types
        vm.qmp.send({'execute': 'no-such-command'})
        assert vm.qmp.reply()['error'] == {
            'class': 'CommandNotFound',
            'desc': 'The command no-such-command has not been found'}
        assert vm.quit() == 0


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
