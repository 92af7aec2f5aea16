# SPDX-License-Identifier: GPL-2.0-or-later
"""From schema names to C identifiers."""

import re

RESERVED = frozenset('''
    auto break case char const continue default do double else enum extern float for goto if
    int long register return short signed sizeof static struct switch typedef union unsigned
    void volatile while inline restrict _Alignas _Alignof _Atomic _Bool _Complex _Generic
    _Imaginary _Noreturn _Static_assert _Thread_local asm typeof bool true false
    and and_eq bitand bitor compl not not_eq or or_eq xor xor_eq catch class const_cast delete
    dynamic_cast explicit export friend mutable namespace new operator private protected
    public reinterpret_cast static_cast template this throw try typeid typename using virtual
    wchar_t errno unix linux i386 mips sparc'''.split())


def c_name(name, protect=True):
    """A C identifier for a schema name: "foo-bar" foo_bar, "default" q_default."""
    result = re.sub(r'[^A-Za-z0-9_]', '_', name)
    if protect and (result in RESERVED or result[0].isdigit()):
        result = 'q_' + result
    return result


def upper_name(name):
    """CamelCase to CAMEL_CASE; capitals that belong together stay so: QMPFoo QMP_FOO."""
    name = re.sub(r'([a-z0-9])([A-Z])', r'\1_\2', name)
    name = re.sub(r'([A-Z])([A-Z][a-z])', r'\1_\2', name)
    return c_name(name, False).upper()


def enum_constant(enum_name, value, prefix=None):
    """The C constant for an enumeration value."""
    return (prefix or upper_name(enum_name)) + '_' + c_name(value, False).upper()


def event_constant(name):
    """The QAPIEvent constant for an event."""
    return 'QAPI_EVENT_' + c_name(name, False).upper()


def c_string(text):
    """A C string literal."""
    return '"' + text.replace('\\', '\\\\').replace('"', '\\"').replace('\n', '\\n') + '"'
