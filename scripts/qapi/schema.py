# SPDX-License-Identifier: GPL-2.0-or-later
"""
The schema as objects: types, commands and events with all references resolved.  Here is
checked what needs more than one expression, and that the documentation is complete.
"""

from . import expr as ex
from .names import c_name, enum_constant, upper_name
from .source import QAPIError


class Type:
    """Any type.  kind: builtin, enum, object, alternate, list."""

    def __init__(self, name, kind, module=None, source=None, cond=None, features=()):
        self.name, self.kind, self.module, self.source = name, kind, module, source
        self.cond, self.features = cond, list(features)

    # How a value of the type is declared as a member or variable.
    @property
    def c_type(self):
        return self.name if self.kind == 'enum' else f'{self.name} *'

    @property
    def c_param(self):
        return self.c_type

    @property
    def needs_has(self):
        """Whether an optional member needs a has_ flag: NULL cannot say 'absent'."""
        return self.kind in ('enum', 'list')


class Builtin(Type):
    """A built-in type; qkind is its QapiKind, json its JSON type in introspection."""

    def __init__(self, name, c_type, qkind, json, qtype):
        super().__init__(name, 'builtin')
        self._c_type, self.qkind, self.json, self.qtype = c_type, qkind, json, qtype

    @property
    def c_type(self):
        return self._c_type

    @property
    def c_param(self):
        return 'const char *' if self.name == 'str' else self._c_type

    @property
    def needs_has(self):
        return self.name not in ('str', 'null')


class Enum(Type):
    """An enumeration; values are Members."""

    def __init__(self, name, values, prefix, **kwargs):
        super().__init__(name, 'enum', **kwargs)
        self.values, self.prefix = values, prefix
        self.qtype = 'QTYPE_QSTRING'

    def constant(self, value):
        return enum_constant(self.name, value, self.prefix)


class Object(Type):
    """A struct or flat union.  implicit: made for arguments or a union's inline base."""

    def __init__(self, name, members, base_name=None, implicit=False, **kwargs):
        super().__init__(name, 'object', **kwargs)
        self.local, self.base_name, self.base = members, base_name, None
        self.implicit = implicit
        self.tag_name = self.tag = None     # discriminator
        self.branches = []                  # Members, in the order of the schema
        self.qtype = 'QTYPE_QDICT'
        self.all_members = None             # with the base's, in order

    @property
    def is_union(self):
        return self.tag_name is not None


class Alternate(Type):
    """One of several types, told apart by their JSON type."""

    def __init__(self, name, branches, **kwargs):
        super().__init__(name, 'alternate', **kwargs)
        self.branches = branches


class List(Type):
    """A list of element."""

    def __init__(self, element):
        super().__init__(element.name + 'List', 'list', element.module, cond=element.cond)
        self.element = element
        self.qtype = 'QTYPE_QLIST'


class Callable:
    """A command or an event.  arg: an Object, or None without arguments."""

    def __init__(self, name, module, source, cond, features, expr):
        self.name, self.module, self.source = name, module, source
        self.cond, self.features, self.expr = cond, features, expr
        self.boxed = bool(expr.get('boxed'))
        self.arg = self.ret = None


BUILTINS = [
    ('str', 'char *', 'STR', 'string', 'QTYPE_QSTRING'),
    ('number', 'double ', 'NUMBER', 'number', 'QTYPE_QNUM'),
    ('int', 'int64_t ', 'INT64', 'int', 'QTYPE_QNUM'),
    ('int8', 'int8_t ', 'INT8', 'int', 'QTYPE_QNUM'),
    ('int16', 'int16_t ', 'INT16', 'int', 'QTYPE_QNUM'),
    ('int32', 'int32_t ', 'INT32', 'int', 'QTYPE_QNUM'),
    ('int64', 'int64_t ', 'INT64', 'int', 'QTYPE_QNUM'),
    ('uint8', 'uint8_t ', 'UINT8', 'int', 'QTYPE_QNUM'),
    ('uint16', 'uint16_t ', 'UINT16', 'int', 'QTYPE_QNUM'),
    ('uint32', 'uint32_t ', 'UINT32', 'int', 'QTYPE_QNUM'),
    ('uint64', 'uint64_t ', 'UINT64', 'int', 'QTYPE_QNUM'),
    ('size', 'uint64_t ', 'SIZE', 'int', 'QTYPE_QNUM'),
    ('bool', 'bool ', 'BOOL', 'boolean', 'QTYPE_QBOOL'),
    ('null', 'QNull *', 'NULL', 'null', 'QTYPE_QNULL'),
    ('any', 'json_object *', 'ANY', 'value', None),
]


class Schema:
    """Everything in a parsed schema, checked."""

    def __init__(self, parser):
        self.parser, self.modules = parser, parser.modules
        self.types, self.lists = {}, {}
        self.commands, self.events = [], []
        for spec in BUILTINS:
            self.types[spec[0]] = Builtin(*spec)
        self.types['QType'] = Enum('QType', [ex.Member(n, None, False, None, []) for n in (
            'none', 'qnull', 'qnum', 'qstring', 'qdict', 'qlist', 'qbool')], 'QTYPE')
        self._names = {}
        for entity in parser.entities:
            self._define(entity)
        self._resolve()

    # --- First pass: definitions -------------------------------------------------

    def _define(self, entity):
        meta, name, where = ex.check_expr(entity, self.parser.pragma)
        source, expr = entity.source, entity.expr
        key = ('call' if meta in ('command', 'event') else 'type', c_name(name))
        if key in self._names or name in self.types:
            raise QAPIError(source, f"{where} is already defined")
        self._names[key] = entity
        if entity.doc is None:
            raise QAPIError(source, f"{where} has no documentation")
        if entity.doc.symbol != name:
            raise QAPIError(entity.doc.source, f"documentation is for '{entity.doc.symbol}', "
                            f"but the definition is of {where}")
        common = {'module': entity.module, 'source': source,
                  'cond': ex.condition(expr.get('if'), source, where),
                  'features': ex.features(expr.get('features'), source, where)}
        pragma = self.parser.pragma
        documented = []
        if meta == 'enum':
            values = ex.enum_values(expr['data'], source, where, pragma)
            self.types[name] = Enum(name, values, expr.get('prefix'), **common)
            documented = values
        elif meta == 'struct':
            members = ex.members(expr['data'], source, where, pragma)
            self.types[name] = Object(name, members, expr.get('base'), **common)
            documented = members
        elif meta == 'union':
            documented = self._define_union(name, where, expr, source, common)
        elif meta == 'alternate':
            documented = ex.members(expr['data'], source, where, pragma)
            self.types[name] = Alternate(name, documented, **common)
        else:
            documented = self._define_callable(meta, name, where, expr, common)
        self._check_doc(entity, meta, where, documented, common['features'])

    def _define_union(self, name, where, expr, source, common):
        base, local = expr['base'], []
        if isinstance(base, dict):
            local = ex.members(base, source, where, self.parser.pragma)
            base = None
        elif not isinstance(base, str):
            raise QAPIError(source, f"'base' of {where} must be a type name or an object")
        union = Object(name, local, base, **common)
        if not isinstance(expr['discriminator'], str):
            raise QAPIError(source, f"'discriminator' of {where} must be a string")
        union.tag_name = expr['discriminator']
        union.branches = ex.members(expr['data'], source, where, self.parser.pragma,
                                    arrays=False, branches=True)
        self.types[name] = union
        return local

    def _define_callable(self, meta, name, where, expr, common):
        item = Callable(name, common['module'], common['source'], common['cond'],
                        common['features'], expr)
        data, documented = expr.get('data'), []
        if isinstance(data, dict):
            documented = ex.members(data, item.source, where, self.parser.pragma)
            if documented:
                item.arg = Object(f'q_obj_{name}_arg', documented, implicit=True, **common)
                item.arg.features = []
        (self.commands if meta == 'command' else self.events).append(item)
        return documented

    @staticmethod
    def _check_doc(entity, meta, where, members, features):
        doc = entity.doc
        names = {m.name for m in members}
        for member in members:
            if member.name not in doc.members:
                raise QAPIError(entity.source,
                                f"member '{member.name}' of {where} is not documented")
        for name, (source, _) in doc.members.items():
            if name not in names:
                raise QAPIError(source, f"documented member '{name}' does not exist in {where}")
        wanted = {f.name for f in features} | {f.name for m in members for f in m.features}
        for name in sorted(wanted):
            if name not in doc.features:
                raise QAPIError(entity.source, f"feature '{name}' of {where} is not documented")
        for name, (source, _) in doc.features.items():
            if name not in wanted:
                raise QAPIError(source, f"documented feature '{name}' does not exist in {where}")
        if 'Returns' in doc.sections and meta != 'command':
            raise QAPIError(doc.source, "'Returns:' is for commands only")
        if 'returns' in entity.expr and 'Returns' not in doc.sections:
            raise QAPIError(entity.source, f"return value of {where} is not documented")
        doc.check_complete()

    # --- Second pass: references ---------------------------------------------------

    def lookup(self, name, source, where):
        """The type called name ('T' or ['T'])."""
        if isinstance(name, list):
            element = self.lookup(name[0], source, where)
            if element.name not in self.lists:
                self.lists[element.name] = List(element)
            return self.lists[element.name]
        if name not in self.types:
            raise QAPIError(source, f"{where} uses unknown type '{name}'")
        return self.types[name]

    def _resolve(self):
        user = [t for t in self.types.values() if t.module]
        for typ in user:
            if typ.kind == 'object':
                self._complete(typ, [])
        for typ in user:
            if typ.kind == 'alternate':
                self._resolve_alternate(typ)
            elif typ.kind == 'object' and typ.is_union:
                self._check_union(typ)
            elif typ.kind == 'enum':
                self._check_enum(typ)
        for item in self.commands:
            self._resolve_callable(item, 'command')
            returns = item.expr.get('returns')
            if returns is not None:
                item.ret = self.lookup(returns, item.source, f"command '{item.name}'")
                if (item.ret.kind not in ('object', 'list') or isinstance(returns, list)
                        and item.ret.element.kind != 'object') and \
                   item.name not in self.parser.pragma.lists['command-returns-exceptions']:
                    raise QAPIError(item.source, f"command '{item.name}' must return an object "
                                    'or a list of objects')
        for item in self.events:
            self._resolve_callable(item, 'event')

    def _check_enum(self, enum):
        """Constants must be unique over all enums of the schema."""
        if enum.prefix is not None and not isinstance(enum.prefix, str):
            raise QAPIError(enum.source, f"'prefix' of enum '{enum.name}' must be a string")
        key = ('prefix', enum.prefix or upper_name(enum.name))
        if key in self._names:
            raise QAPIError(enum.source, f"constants of enum '{enum.name}' collide with another "
                            "enum's; use 'prefix'")
        self._names[key] = enum

    def _complete(self, obj, stack):
        """Resolves base and members; fills all_members."""
        if obj in stack:
            raise QAPIError(obj.source, f"'{obj.name}' contains itself")
        if obj.all_members is not None:
            return
        where = f"'{obj.name}'"
        inherited = []
        if obj.base_name is not None:
            if not isinstance(obj.base_name, str):
                raise QAPIError(obj.source, f"'base' of {where} must be a type name")
            obj.base = self.lookup(obj.base_name, obj.source, where)
            if obj.base.kind != 'object' or obj.base.is_union:
                raise QAPIError(obj.source, f"base '{obj.base_name}' of {where} is not a struct")
            self._complete(obj.base, stack + [obj])
            inherited = obj.base.all_members
        names = {c_name(m.name): m.name for m in inherited}
        for member in obj.local:
            member.type = self.lookup(member.type_name, obj.source,
                                      f"member '{member.name}' of {where}")
            if c_name(member.name) in names:
                raise QAPIError(obj.source, f"member '{member.name}' of {where} collides with "
                                f"'{names[c_name(member.name)]}' of its base")
        obj.all_members = inherited + obj.local
        for branch in obj.branches:
            branch.type = self.lookup(branch.type_name, obj.source,
                                      f"branch '{branch.name}' of {where}")
            if branch.type.kind != 'object':
                raise QAPIError(obj.source, f"branch '{branch.name}' of {where} must be a struct "
                                'or union')
            self._complete(branch.type, stack + [obj])

    def every_member(self, obj):
        """All members that may appear on the wire in obj, branches included."""
        yield from obj.all_members
        for branch in obj.branches:
            yield from self.every_member(branch.type)

    def _check_union(self, union):
        where = f"union '{union.name}'"
        tags = [m for m in union.all_members if m.name == union.tag_name]
        if not tags:
            raise QAPIError(union.source, f"discriminator '{union.tag_name}' of {where} is not a "
                            'member of its base')
        union.tag = tags[0]
        if union.tag.type.kind != 'enum':
            raise QAPIError(union.source, f"discriminator '{union.tag_name}' of {where} must be "
                            'of enum type')
        if union.tag.optional or union.tag.cond:
            raise QAPIError(union.source, f"discriminator '{union.tag_name}' of {where} must not "
                            'be optional or conditional')
        if not union.branches:
            raise QAPIError(union.source, f"{where} has no branches")
        values = {v.name for v in union.tag.type.values}
        names = {c_name(m.name) for m in union.all_members}
        for branch in union.branches:
            if branch.name not in values:
                raise QAPIError(union.source, f"branch '{branch.name}' of {where} is not a value "
                                f"of enum '{union.tag.type.name}'")
            for member in self.every_member(branch.type):
                if c_name(member.name) in names:
                    raise QAPIError(union.source, f"member '{member.name}' of branch "
                                    f"'{branch.name}' of {where} collides with its base")

    def _resolve_alternate(self, alternate):
        where = f"alternate '{alternate.name}'"
        if not alternate.branches:
            raise QAPIError(alternate.source, f"{where} has no branches")
        seen = {}
        strings = []
        for branch in alternate.branches:
            if branch.optional:
                raise QAPIError(alternate.source, f"branch '{branch.name}' of {where} must not "
                                'be optional')
            branch.type = self.lookup(branch.type_name, alternate.source,
                                      f"branch '{branch.name}' of {where}")
            qtype = getattr(branch.type, 'qtype', None)
            if qtype is None:
                raise QAPIError(alternate.source, f"branch '{branch.name}' of {where} cannot use "
                                f"type '{branch.type.name}'")
            if qtype in seen:
                raise QAPIError(alternate.source, f"branch '{branch.name}' of {where} cannot be "
                                f"told from branch '{seen[qtype]}'")
            seen[qtype] = branch.name
            if qtype == 'QTYPE_QSTRING':
                strings.append(branch)
        # In key=value input everything is a string: an enum must not look like the others.
        for branch in strings:
            if branch.type.kind == 'enum':
                for value in branch.type.values:
                    if ('QTYPE_QBOOL' in seen and value.name in ('on', 'off', 'yes', 'no')
                            or 'QTYPE_QNUM' in seen and value.name[0].isdigit()):
                        raise QAPIError(alternate.source, f"value '{value.name}' of branch "
                                        f"'{branch.name}' of {where} is ambiguous in key=value "
                                        'input')
            elif 'QTYPE_QBOOL' in seen or 'QTYPE_QNUM' in seen:
                raise QAPIError(alternate.source, f"branch '{branch.name}' of {where} is "
                                'ambiguous in key=value input')

    def _resolve_callable(self, item, meta):
        data = item.expr.get('data')
        where = f"{meta} '{item.name}'"
        if item.arg is not None:
            self._complete(item.arg, [])
        elif isinstance(data, str):
            item.arg = self.lookup(data, item.source, where)
            if item.arg.kind != 'object':
                raise QAPIError(item.source, f"'data' of {where} must be a struct or union")
            if item.arg.is_union and not item.boxed:
                raise QAPIError(item.source, f"'data' of {where} is a union and needs 'boxed'")
            if not item.boxed and not item.arg.all_members:
                item.arg = None
        elif data is not None and not isinstance(data, dict):
            raise QAPIError(item.source, f"'data' of {where} must be a type name or an object")
