# SPDX-License-Identifier: GPL-2.0-or-later
"""
qapi-types-MODULE.[ch]: C types, enumeration names, qapi_free_*.
qapi-visit-MODULE.[ch]: type tables for the visitors in qapi/, conversion functions.
"""

from .expr import SPECIAL_FEATURES
from .names import c_name, c_string
from .schema import List
from .writer import CFile


def type_ref(typ):
    """Expression for the address of a type's table."""
    return f'&qapi_type_{c_name(typ.name, False)}'


def struct_fields(out, members):
    """Declares members as struct fields."""
    for member in members:
        out.begin_if(member.cond)
        if member.optional and member.type.needs_has:
            out.add(f'    bool has_{c_name(member.name, False)};')
        out.add(f'    {member.type.c_type}'.rstrip(' ')
                + ('' if member.type.c_type.endswith('*') else ' ')
                + f'{c_name(member.name)};')
        out.end_if(member.cond)


def special_flags(item):
    """The special features of a member, value or event as flags of C."""
    flags = [f'QAPI_{f.name.upper()}' for f in item.features if f.name in SPECIAL_FEATURES]
    return ' | '.join(flags) or '0'


def member_table(out, c_type, table, members, static=True):
    """Emits the QapiMember array of an object."""
    out.add(f'static const QapiMember {table}[] = {{')
    for member in members:
        field, has = c_name(member.name), '-1'
        if member.optional and member.type.needs_has:
            has = f'offsetof({c_type}, has_{c_name(member.name, False)})'
        out.begin_if(member.cond)
        out.add(f'    {{{c_string(member.name)}, {type_ref(member.type)}, '
                f'offsetof({c_type}, {field}), {has}, '
                f'{"true" if member.optional else "false"}, {special_flags(member)}}},')
        out.end_if(member.cond)
    out.add('};')


class TypesGenerator:
    """Both file pairs of one module."""

    def __init__(self, schema, module):
        self.schema, self.module = schema, module
        self.types = [t for t in schema.types.values() if t.module is module]
        name = module.name
        own = [f'qapi/qapi-types-{m.name}.h' for m in module.includes]
        self.types_h = CFile(f'qapi-types-{name}.h', f'types of {name}.json',
                             ['qapi/builtin-types.h'] + own)
        self.types_c = CFile(f'qapi-types-{name}.c', f'types of {name}.json',
                             [f'qapi/qapi-visit-{name}.h'])
        own = [f'qapi/qapi-visit-{m.name}.h' for m in module.includes]
        self.visit_h = CFile(f'qapi-visit-{name}.h', f'visitors of {name}.json',
                             ['qapi/visitor.h', f'qapi/qapi-types-{name}.h'] + own)
        self.visit_c = CFile(f'qapi-visit-{name}.c', f'visitors of {name}.json',
                             [f'qapi/qapi-visit-{name}.h'])

    def generate(self):
        """Fills and returns the four files."""
        for typ in self.types:
            if typ.kind == 'enum':
                self._enum(typ)
        for typ in self.types:
            self._forward(typ)
        done = set()
        for typ in self.types:
            self._declare_struct(typ, done)
        for typ in self.types:
            self.types_h.begin_if(typ.cond)
            for out in (self.visit_c, self.types_c):
                out.begin_if(typ.cond)
            self._functions(typ)
            getattr(self, f'_table_{typ.kind}')(typ)
            self._list(typ)
            for out in (self.visit_c, self.types_c, self.types_h):
                out.end_if(typ.cond)
        return [self.types_h, self.types_c, self.visit_h, self.visit_c]

    def _enum(self, enum):
        out = self.types_h
        out.begin_if(enum.cond)
        out.add(f'typedef enum {enum.name} {{')
        for value in enum.values:
            out.begin_if(value.cond)
            out.add(f'    {enum.constant(value.name)},')
            out.end_if(value.cond)
        out.add(f'    {enum.constant("x")[:-1]}_MAX,')
        out.add(f'}} {enum.name};')
        out.add(f'extern const QEnumLookup {enum.name}_lookup;')
        out.add(f'/* The name of value on the wire. */')
        out.add(f'#define {enum.name}_str(value) qapi_enum_name(&{enum.name}_lookup, (value))')
        out.end_if(enum.cond)
        out.add()

    def _forward(self, typ):
        out = self.types_h
        out.begin_if(typ.cond)
        if typ.kind != 'enum':
            out.add(f'typedef struct {typ.name} {typ.name};')
        out.add(f'typedef struct {typ.name}List {typ.name}List;')
        out.end_if(typ.cond)

    def _declare_struct(self, typ, done):
        """Structs that are embedded by value come first."""
        if typ.name in done or typ.module is not self.module or typ.kind == 'enum':
            return
        done.add(typ.name)
        for branch in typ.branches:
            if branch.type.kind == 'object':
                self._declare_struct(branch.type, done)
        out = self.types_h
        out.add()
        out.begin_if(typ.cond)
        out.add(f'struct {typ.name} {{')
        if typ.kind == 'alternate':
            out.add('    QType type;')
        else:
            if typ.base:
                out.add(f'    /* Members of {typ.base.name}: */')
                struct_fields(out, typ.base.all_members)
                out.add('    /* Own members: */')
            struct_fields(out, typ.local)
            if not typ.all_members and not typ.is_union:
                out.add('    char qapi_dummy_for_empty_struct;')
        self._branches(out, typ)
        out.add('};')
        out.end_if(typ.cond)

    @staticmethod
    def _branches(out, typ):
        if not typ.branches:
            return
        if typ.kind == 'object':
            out.add(f'    union {{ /* selected by {typ.tag_name} */')
        else:
            out.add('    union { /* selected by type */')
        for branch in typ.branches:
            c_type = f'{branch.type.name} ' if branch.type.kind == 'object' \
                else branch.type.c_type
            sep = '' if c_type.endswith(('*', ' ')) else ' '
            out.begin_if(branch.cond)
            out.add(f'        {c_type}{sep}{c_name(branch.name)};')
            out.end_if(branch.cond)
        out.add('    } u;')

    def _functions(self, typ):
        if typ.kind == 'enum':
            return
        name, out = typ.name, self.types_h
        out.add(f'void qapi_free_{name}({name} *obj);')
        out.add(f'G_DEFINE_AUTOPTR_CLEANUP_FUNC({name}, qapi_free_{name})')
        if typ.kind == 'object' and typ.base:
            base = typ.base.name
            out.add(f'static inline {base} *qapi_{name}_base(const {name} *obj)')
            out.add('{')
            out.add(f'    return ({base} *)obj;')
            out.add('}')
        self.types_c.add(f'void qapi_free_{name}({name} *obj)')
        self.types_c.add('{')
        self.types_c.add(f'    qapi_free_value({type_ref(typ)}, &obj);')
        self.types_c.add('}')
        self.types_c.add()
        out = self.visit_h
        out.begin_if(typ.cond)
        out.add(f'extern const QapiType qapi_type_{name};')
        out.add(f'QAPI_DEFINE_CONVERSIONS({name})')
        out.end_if(typ.cond)

    def _special_values(self, enum):
        """Emits the special features of the values if there are any; returns an initializer."""
        special = [v for v in enum.values if special_flags(v) != '0']
        if not special:
            return ''
        out = self.types_c
        out.add(f'static const unsigned char {enum.name}_special[{enum.constant("x")[:-1]}_MAX] = {{')
        for value in special:
            out.begin_if(value.cond)
            out.add(f'    [{enum.constant(value.name)}] = {special_flags(value)},')
            out.end_if(value.cond)
        out.add('};')
        return f', {enum.name}_special'

    def _table_enum(self, enum):
        out = self.types_c
        out.add(f'static const char *const {enum.name}_names[] = {{')
        for value in enum.values:
            out.begin_if(value.cond)
            out.add(f'    [{enum.constant(value.name)}] = {c_string(value.name)},')
            out.end_if(value.cond)
        out.add('};')
        special = self._special_values(enum)
        out.add(f'const QEnumLookup {enum.name}_lookup = {{{enum.name}_names, '
                f'{enum.constant("x")[:-1]}_MAX{special}}};')
        out.add()
        self.visit_h.begin_if(enum.cond)
        self.visit_h.add(f'extern const QapiType qapi_type_{enum.name};')
        self.visit_h.end_if(enum.cond)
        out = self.visit_c
        out.add(f'const QapiType qapi_type_{enum.name} = {{')
        out.add(f'    .name = "{enum.name}", .kind = QAPI_KIND_ENUM, '
                f'.size = sizeof({enum.name}),')
        out.add(f'    .lookup = &{enum.name}_lookup,')
        out.add('};')
        out.add()

    def _table_object(self, obj):
        out, name = self.visit_c, obj.name
        if obj.all_members:
            member_table(out, name, f'{name}_members', obj.all_members)
        if obj.branches:
            out.add(f'static const QapiType *const {name}_branches[] = {{')
            out.add(f'    [{obj.tag.type.constant("x")[:-1]}_MAX] = NULL,')
            for branch in obj.branches:
                out.begin_if(branch.cond)
                out.add(f'    [{obj.tag.type.constant(branch.name)}] = {type_ref(branch.type)},')
                out.end_if(branch.cond)
            out.add('};')
        out.add(f'const QapiType qapi_type_{name} = {{')
        out.add(f'    .name = "{name}", .kind = QAPI_KIND_OBJECT, .size = sizeof({name}),')
        if obj.all_members:
            out.add(f'    .members = {name}_members, '
                    f'.n_members = G_N_ELEMENTS({name}_members),')
        if obj.branches:
            out.add(f'    .branches = {name}_branches, .union_offset = offsetof({name}, u),')
            out.add(f'    .tag_name = {c_string(obj.tag_name)}, '
                    f'.tag_offset = offsetof({name}, {c_name(obj.tag_name)}),')
        out.add('};')
        out.add()

    def _table_alternate(self, alternate):
        out, name = self.visit_c, alternate.name
        out.add(f'static const QapiType *const {name}_branches[QTYPE__MAX] = {{')
        for branch in alternate.branches:
            out.begin_if(branch.cond)
            out.add(f'    [{branch.type.qtype}] = {type_ref(branch.type)},')
            out.end_if(branch.cond)
        out.add('};')
        out.add(f'const QapiType qapi_type_{name} = {{')
        out.add(f'    .name = "{name}", .kind = QAPI_KIND_ALTERNATE, .size = sizeof({name}),')
        out.add(f'    .branches = {name}_branches, .union_offset = offsetof({name}, u),')
        out.add('};')
        out.add()

    def _list(self, element):
        typ = self.schema.lists.get(element.name) or List(element)
        name, out = typ.name, self.types_h
        sep = '' if element.c_type.endswith('*') else ' '
        out.add(f'struct {name} {{')
        out.add(f'    {name} *next;')
        out.add(f'    {element.c_type}{sep}value;')
        out.add('};')
        out.add(f'void qapi_free_{name}({name} *obj);')
        out.add(f'G_DEFINE_AUTOPTR_CLEANUP_FUNC({name}, qapi_free_{name})')
        out.add()
        out = self.types_c
        out.add(f'void qapi_free_{name}({name} *obj)')
        out.add('{')
        out.add(f'    qapi_free_value(&qapi_type_{name}, &obj);')
        out.add('}')
        out.add()
        self.visit_h.begin_if(typ.cond)
        self.visit_h.add(f'extern const QapiType qapi_type_{name};')
        self.visit_h.end_if(typ.cond)
        out = self.visit_c
        out.add(f'const QapiType qapi_type_{name} = {{')
        out.add(f'    .name = "{name}", .kind = QAPI_KIND_LIST, .size = sizeof({name}),')
        out.add(f'    .element = {type_ref(element)}, '
                f'.value_offset = offsetof({name}, value),')
        out.add('};')
        out.add()
