# SPDX-License-Identifier: GPL-2.0-or-later
"""
qapi-commands-MODULE.[ch]: prototypes of the handlers and the functions that unmarshal
their arguments.  qapi-events-MODULE.[ch]: functions that send events.  qapi-emit-events.[ch]
and qapi-init.[ch]: the list of all events, the table of all commands.
"""

from .gen_types import member_table, special_flags, struct_fields, type_ref
from .names import c_name, c_string, event_constant
from .writer import CFile


def parameters(item):
    """C parameters of a handler or sender, without errp."""
    if item.boxed:
        return [f'{item.arg.name} *arg']
    result = []
    for member in item.arg.all_members if item.arg else []:
        if member.optional and member.type.needs_has:
            result.append(f'bool has_{c_name(member.name, False)}')
        sep = '' if member.type.c_param.endswith(('*', ' ')) else ' '
        result.append(f'{member.type.c_param}{sep}{c_name(member.name)}')
    return result


def implicit_struct(out, obj):
    """Struct and table of an inline argument list, private to the .c file."""
    name = c_name(obj.name)
    out.add(f'typedef struct {name} {{')
    struct_fields(out, obj.all_members)
    out.add(f'}} {name};')
    member_table(out, name, f'{name}_members', obj.all_members)
    out.add(f'static const QapiType qapi_type_{name} = {{')
    out.add(f'    .name = "{name}", .kind = QAPI_KIND_OBJECT, .size = sizeof({name}),')
    out.add(f'    .members = {name}_members, .n_members = G_N_ELEMENTS({name}_members),')
    out.add('};')
    out.add()


class CommandsGenerator:
    """Commands of one module."""

    def __init__(self, schema, module):
        self.commands = [c for c in schema.commands if c.module is module]
        name = module.name
        self.header = CFile(f'qapi-commands-{name}.h', f'commands of {name}.json',
                            ['util/coroutine.h', f'qapi/qapi-types-{name}.h'])
        self.body = CFile(f'qapi-commands-{name}.c', f'commands of {name}.json',
                          ['qapi/error.h', f'qapi/qapi-visit-{name}.h',
                           f'qapi/qapi-commands-{name}.h'])

    def generate(self):
        """Fills and returns the two files."""
        for command in self.commands:
            self.header.begin_if(command.cond)
            self.body.begin_if(command.cond)
            self._prototypes(command)
            if command.expr.get('gen', True):
                if command.arg and command.arg.implicit:
                    implicit_struct(self.body, command.arg)
                self._marshal(command)
            self.header.end_if(command.cond)
            self.body.end_if(command.cond)
        return [self.header, self.body]

    def _prototypes(self, command):
        name, out = c_name(command.name, False), self.header
        if command.expr.get('gen', True):
            ret = command.ret.c_type if command.ret else 'void '
            sep = '' if ret.endswith(('*', ' ')) else ' '
            args = ', '.join(parameters(command) + ['GError **errp'])
            out.add(f'{ret}{sep}coroutine_fn qmp_{name}({args});')
        out.add(f'bool coroutine_fn qmp_marshal_{name}(json_object *args, json_object **ret,')
        out.add('    GError **errp);')
        out.add()

    def _call(self, command):
        if command.boxed:
            return ['&arg']
        result = []
        for member in command.arg.all_members if command.arg else []:
            if member.optional and member.type.needs_has:
                result.append(f'arg.has_{c_name(member.name, False)}')
            result.append(f'arg.{c_name(member.name)}')
        return result

    def _marshal(self, command):
        name, out, ret = c_name(command.name, False), self.body, command.ret
        out.add(f'bool coroutine_fn qmp_marshal_{name}(json_object *args, json_object **ret,')
        out.add('    GError **errp)')
        out.add('{')
        out.add('    GError *err = NULL;')
        table = 'qapi_type_empty'
        if command.arg:
            table = f'qapi_type_{c_name(command.arg.name, False)}'
            out.add(f'    {c_name(command.arg.name)} arg = {{0}};')
        if ret:
            sep = '' if ret.c_type.endswith(('*', ' ')) else ' '
            out.add(f'    {ret.c_type}{sep}retval;')
        out.add()
        slot = '&arg' if command.arg else 'NULL'
        out.add(f'    if (!qapi_input_args(&{table}, args, {slot}, errp)) {{')
        out.add('        return false;')
        out.add('    }')
        args = ', '.join(self._call(command) + ['&err'])
        out.add(f'    {"retval = " if ret else ""}qmp_{name}({args});')
        if command.arg:
            out.add(f'    qapi_free_members(&{table}, &arg);')
        out.add('    if (err) {')
        out.add('        g_propagate_error(errp, err);')
        out.add('        return false;')
        out.add('    }')
        if ret:
            out.add(f'    *ret = qapi_output({type_ref(ret)}, &retval);')
            out.add(f'    qapi_free_value({type_ref(ret)}, &retval);')
        else:
            out.add('    *ret = json_object_new_object();')
        out.add('    return true;')
        out.add('}')
        out.add()


class EventsGenerator:
    """Events of one module."""

    def __init__(self, schema, module):
        self.events = [e for e in schema.events if e.module is module]
        name = module.name
        self.header = CFile(f'qapi-events-{name}.h', f'events of {name}.json',
                            [f'qapi/qapi-types-{name}.h'])
        self.body = CFile(f'qapi-events-{name}.c', f'events of {name}.json',
                          ['qapi/event.h', 'qapi/qapi-emit-events.h',
                           f'qapi/qapi-visit-{name}.h', f'qapi/qapi-events-{name}.h'])

    def generate(self):
        """Fills and returns the two files."""
        for event in self.events:
            self.header.begin_if(event.cond)
            self.body.begin_if(event.cond)
            self._event(event)
            self.header.end_if(event.cond)
            self.body.end_if(event.cond)
        return [self.header, self.body]

    def _event(self, event):
        args = ', '.join(parameters(event)) or 'void'
        proto = f'void qapi_event_send_{c_name(event.name, False).lower()}({args})'
        self.header.add(proto + ';')
        out = self.body
        if event.arg and event.arg.implicit:
            implicit_struct(out, event.arg)
        out.add(proto)
        out.add('{')
        table, value = 'qapi_type_empty', 'NULL'
        if event.boxed:
            table, value = f'qapi_type_{event.arg.name}', 'arg'
        elif event.arg:
            table, value = f'qapi_type_{c_name(event.arg.name, False)}', '&data'
            out.add(f'    {c_name(event.arg.name)} data = {{')
            for member in event.arg.all_members:
                out.begin_if(member.cond)
                if member.optional and member.type.needs_has:
                    has = f'has_{c_name(member.name, False)}'
                    out.add(f'        .{has} = {has},')
                cast = '(char *)' if member.type.name == 'str' else ''
                out.add(f'        .{c_name(member.name)} = {cast}{c_name(member.name)},')
                out.end_if(member.cond)
            out.add('    };')
            out.add()
        out.add(f'    qapi_event_emit({event_constant(event.name)}, {c_string(event.name)}, '
                f'{special_flags(event)}, &{table}, {value});')
        out.add('}')
        out.add()


def generate_emit_events(schema):
    """The enumeration of all events."""
    header = CFile('qapi-emit-events.h', 'all events', ['qapi/builtin-types.h'])
    body = CFile('qapi-emit-events.c', 'all events', ['qapi/qapi-emit-events.h'])
    header.add('typedef enum QAPIEvent {')
    body.add('static const char *const names[] = {')
    body.add('    [QAPI_EVENT__MAX] = NULL,')
    for event in schema.events:
        header.begin_if(event.cond)
        body.begin_if(event.cond)
        header.add(f'    {event_constant(event.name)},')
        body.add(f'    [{event_constant(event.name)}] = {c_string(event.name)},')
        header.end_if(event.cond)
        body.end_if(event.cond)
    header.add('    QAPI_EVENT__MAX,')
    header.add('} QAPIEvent;')
    header.add('extern const QEnumLookup QAPIEvent_lookup;')
    header.add('#define QAPIEvent_str(value) qapi_enum_name(&QAPIEvent_lookup, (value))')
    body.add('};')
    body.add('const QEnumLookup QAPIEvent_lookup = {names, QAPI_EVENT__MAX};')
    return [header, body]


FLAGS = (('allow-oob', True, 'QMP_CMD_ALLOW_OOB'),
         ('allow-preconfig', True, 'QMP_CMD_ALLOW_PRECONFIG'),
         ('success-response', False, 'QMP_CMD_NO_SUCCESS_RESPONSE'))


def generate_init(schema):
    """qmp_commands[]."""
    header = CFile('qapi-init.h', 'the table of all commands', ['qapi/qmp.h'])
    header.add('extern const QmpCommand qmp_commands[];')
    header.add('extern const int qmp_n_commands;')
    body = CFile('qapi-init.c', 'the table of all commands',
                 ['qapi/qapi-init.h']
                 + [f'qapi/qapi-commands-{m.name}.h' for m in schema.modules])
    body.add('const QmpCommand qmp_commands[] = {')
    for command in schema.commands:
        flags = [flag for key, value, flag in FLAGS if command.expr.get(key) is value]
        flags += [f'QMP_CMD_{f.name.upper()}' for f in command.features
                  if f.name in ('deprecated', 'unstable')]
        body.begin_if(command.cond)
        body.add(f'    {{{c_string(command.name)}, qmp_marshal_{c_name(command.name, False)}, '
                 f'{" | ".join(flags) or "0"}}},')
        body.end_if(command.cond)
    body.add('    {NULL, NULL, 0},')
    body.add('};')
    body.add('const int qmp_n_commands = G_N_ELEMENTS(qmp_commands) - 1;')
    return [header, body]
