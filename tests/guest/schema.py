# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests made from query-qmp-schema: the smallest that a command takes, and random ones."""

# Values that handlers may stumble over.  No letter q: a random line must not be "quit".
STRINGS = ['', 'a', 'disk0', 'node0', 'none', 'x' * 300, 'ä€\U0001f600', 'a b', 'file0', '%s%n',
           '-1', '0', '1G', "it's \"x\"\\", 'a.b.c', 'io0']
NUMBERS = [0, 1, -1, 2, 7, 512, 65536, 2**31 - 1, 2**31, -2**31, 2**32, 2**53, 2**63 - 1, -2**63,
           2**64 - 1]
# Members whose value could reach beyond the test's directory, or wait for others.
FIXED = {'host': '127.0.0.1', 'uri': 'none', 'hostname': '127.0.0.1'}


class Schema:
    def __init__(self, entries):
        self.types = {e['name']: e for e in entries if e['meta-type'] != 'command'}
        self.commands = {e['name']: e for e in entries if e['meta-type'] == 'command'}

    def members(self, name):
        """The members of a command's arguments."""
        return self.types[self.commands[name]['arg-type']]['members']

    def oob(self):
        return sorted(n for n, c in self.commands.items() if c.get('allow-oob'))

    def minimal(self, type_name):
        """A value of the type with nothing that could be left out."""
        t = self.types[type_name]
        kind = t['meta-type']
        if kind == 'builtin':
            return {'string': 'none', 'int': 0, 'number': 0, 'boolean': False,
                    'null': None}.get(t['json-type'], 'none')
        if kind == 'enum':
            return t['values'][0]
        if kind == 'array':
            return []
        if kind == 'alternate':
            kinds = [m['type'] for m in t['members']]
            flat = [k for k in kinds if self.types[k]['meta-type'] in ('builtin', 'enum')]
            return self.minimal((flat or kinds)[0])
        value = {m['name']: self.minimal(m['type']) for m in t['members'] if 'default' not in m}
        for variant in t.get('variants', ()):
            if variant['case'] == value[t['tag']]:
                value.update(self.minimal(variant['type']))
        return value

    def minimal_arguments(self, name):
        return self.minimal(self.commands[name]['arg-type'])

    def random(self, rng, type_name, depth=0):
        """A value of the type, more or less."""
        t = self.types[type_name]
        kind = t['meta-type']
        if rng.random() < 0.02:
            return rng.choice([None, [], {}, 0, 'wrong', True])
        if kind == 'builtin':
            return {'string': rng.choice(STRINGS), 'int': rng.choice(NUMBERS),
                    'number': rng.choice([0, 0.5, -1e300]), 'boolean': rng.random() < 0.5,
                    'null': None}.get(t['json-type'], rng.choice(STRINGS))
        if kind == 'enum':
            return rng.choice(t['values'])
        if depth > 6:
            return self.minimal(type_name)
        if kind == 'array':
            return [self.random(rng, t['element-type'], depth + 1)
                    for _ in range(rng.randrange(3))]
        if kind == 'alternate':
            return self.random(rng, rng.choice(t['members'])['type'], depth + 1)
        value = {}
        for m in t['members']:
            if 'default' not in m and rng.random() < 0.99 or rng.random() < 0.3:
                value[m['name']] = (FIXED[m['name']] if m['name'] in FIXED else
                                    self.random(rng, m['type'], depth + 1))
        for variant in t.get('variants', ()):
            if variant['case'] == value.get(t['tag']):
                more = self.random(rng, variant['type'], depth + 1)
                value.update(more if isinstance(more, dict) else {})
        if rng.random() < 0.02:
            value[rng.choice(STRINGS)] = rng.choice(NUMBERS)
        return value

    def random_arguments(self, rng, name):
        return self.random(rng, self.commands[name]['arg-type'])
