# SPDX-License-Identifier: GPL-2.0-or-later
"""
qapi-introspect.[ch]: what query-qmp-schema returns, as JSON text.  Names of types are
masked by numbers since they are not part of the interface; the integer types are all
"int", for the wire knows no other.  Every list ends in a comma that the reader drops, so
that conditional elements stay simple.
"""

from .names import c_string
from .writer import CFile


def _json(text):
    return '"' + text + '"'


class IntrospectGenerator:
    """Walks from commands and events to every type they use."""

    def __init__(self, schema):
        self.schema = schema
        self.numbers, self.queue, self.done = {}, [], set()
        self.header = CFile('qapi-introspect.h', 'the schema for clients', [])
        self.header.add('/* JSON text of an array; conditional parts leave trailing commas. */')
        self.header.add('extern const char qmp_schema_json[];')
        self.out = CFile('qapi-introspect.c', 'the schema for clients',
                         ['qapi/qapi-introspect.h'])

    def _text(self, text):
        self.out.add('    ' + c_string(text))

    def _ref(self, typ):
        """The masked name of a type; queues it for output."""
        if typ is None:
            key, name = 'empty', None
        elif typ.kind == 'builtin':
            name = 'int' if typ.json == 'int' else typ.name
            key = 'builtin ' + name
        elif typ.kind == 'list':
            name = f'[{self._ref(typ.element)}]'
            key = 'list ' + name
        elif typ.kind == 'object' and not typ.all_members and not typ.is_union:
            typ, key, name = None, 'empty', None
        else:
            key, name = typ.name, None
        if key not in self.numbers:
            if name is None:
                name = str(sum(1 for v in self.numbers.values() if v.isdigit()))
            self.numbers[key] = name
            self.queue.append((key, name, typ))
        return self.numbers[key]

    def _features(self, features):
        shown = [f for f in features]
        if not shown:
            return
        self._text(', "features": [')
        for feature in shown:
            self.out.begin_if(feature.cond)
            self._text(_json(feature.name) + ',')
            self.out.end_if(feature.cond)
        self._text(']')

    def _members(self, members):
        self._text(', "members": [')
        for member in members:
            self.out.begin_if(member.cond)
            self._text(f'{{"name": {_json(member.name)}, "type": {_json(self._ref(member.type))}'
                       + (', "default": null' if member.optional else ''))
            self._features(member.features)
            self._text('},')
            self.out.end_if(member.cond)
        self._text(']')

    def generate(self):
        """Fills and returns the two files."""
        self.out.add('const char qmp_schema_json[] =')
        self._text('[')
        calls = [(c, 'command') for c in self.schema.commands]
        calls += [(e, 'event') for e in self.schema.events]
        for item, meta in calls:
            self.out.begin_if(item.cond)
            text = f'{{"name": {_json(item.name)}, "meta-type": "{meta}", ' \
                   f'"arg-type": {_json(self._ref(item.arg))}'
            if meta == 'command':
                text += f', "ret-type": {_json(self._ref(item.ret))}'
                if item.expr.get('allow-oob'):
                    text += ', "allow-oob": true'
            self._text(text)
            self._features(item.features)
            self._text('},')
            self.out.end_if(item.cond)
        while self.queue:
            self._type(*self.queue.pop(0))
        self._text(']')
        self.out.add('    ;')
        return [self.header, self.out]

    def _type(self, key, name, typ):
        head = f'{{"name": {_json(name)}, "meta-type": '
        if typ is None:
            self._text(head + '"object", "members": []},')
            return
        self.out.begin_if(typ.cond)
        if typ.kind == 'builtin':
            self._text(head + f'"builtin", "json-type": {_json(typ.json)}')
        elif typ.kind == 'list':
            self._text(head + f'"array", "element-type": {_json(self._ref(typ.element))}')
        elif typ.kind == 'enum':
            self._text(head + '"enum"')
            self._enum(typ)
        elif typ.kind == 'alternate':
            self._text(head + '"alternate", "members": [')
            for branch in typ.branches:
                self.out.begin_if(branch.cond)
                self._text(f'{{"type": {_json(self._ref(branch.type))}}},')
                self.out.end_if(branch.cond)
            self._text(']')
        else:
            self._text(head + '"object"')
            self._members(typ.all_members)
            if typ.is_union:
                self._variants(typ)
        self._features(typ.features)
        self._text('},')
        self.out.end_if(typ.cond)

    def _enum(self, enum):
        self._text(', "members": [')
        for value in enum.values:
            self.out.begin_if(value.cond)
            self._text(f'{{"name": {_json(value.name)}')
            self._features(value.features)
            self._text('},')
            self.out.end_if(value.cond)
        self._text('], "values": [')
        for value in enum.values:
            self.out.begin_if(value.cond)
            self._text(_json(value.name) + ',')
            self.out.end_if(value.cond)
        self._text(']')

    def _variants(self, union):
        """Every value of the discriminator has a case, the empty object by default."""
        self._text(f', "tag": {_json(union.tag_name)}, "variants": [')
        branches = {b.name: b for b in union.branches}
        for value in union.tag.type.values:
            branch = branches.get(value.name)
            cond = ' && '.join(f'({c})' for c in (value.cond, branch.cond if branch else None)
                               if c) or None
            self.out.begin_if(cond)
            self._text(f'{{"case": {_json(value.name)}, '
                       f'"type": {_json(self._ref(branch.type if branch else None))}}},')
            self.out.end_if(cond)
        self._text(']')
