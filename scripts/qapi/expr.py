# SPDX-License-Identifier: GPL-2.0-or-later
"""
Checks the form of each expression (keys, kinds of values, names) and brings it to one
shape: members as lists of Member, conditions as preprocessor text.  Whether the types
that it names exist and fit is checked in schema.py.
"""

import re

from .names import c_name
from .source import QAPIError

METAS = ('enum', 'struct', 'union', 'alternate', 'command', 'event')
# meta -> (required keys, optional keys)
KEYS = {
    'enum': (('enum', 'data'), ('if', 'features', 'prefix')),
    'struct': (('struct', 'data'), ('base', 'if', 'features')),
    'union': (('union', 'base', 'discriminator', 'data'), ('if', 'features')),
    'alternate': (('alternate', 'data'), ('if', 'features')),
    'command': (('command',), ('data', 'returns', 'boxed', 'if', 'features', 'gen',
                               'success-response', 'allow-oob', 'allow-preconfig',
                               'coroutine')),
    'event': (('event',), ('data', 'boxed', 'if', 'features')),
}
NAME = re.compile(r'(?:__[a-z0-9.-]+_)?(x-)?([a-zA-Z0-9][a-zA-Z0-9_-]*)$')
SPECIAL_FEATURES = ('deprecated', 'unstable')


class Feature:
    """A feature flag, with its condition."""

    def __init__(self, name, cond):
        self.name, self.cond = name, cond


class Member:
    """A member of a struct, branch of a union or alternate, or value of an enum."""

    def __init__(self, name, type_name, optional, cond, features):
        self.name, self.type_name, self.optional = name, type_name, optional
        self.cond, self.features = cond, features
        self.type = None        # resolved by schema.py


def check_name(name, source, what):
    """Letters, digits, '-' and '_', with an optional vendor or 'x-' prefix."""
    if not isinstance(name, str) or not NAME.match(name):
        raise QAPIError(source, f"{what} '{name}' is not a valid name")
    if re.match(r'(x-)?q_|(x-)?q-', name, re.I):
        raise QAPIError(source, f"{what} '{name}' uses the reserved prefix 'q_'")


def check_entity_name(meta, name, source, pragma):
    """Types are CamelCase, events ALL_CAPS, commands lower-case."""
    check_name(name, source, f'name of {meta}')
    stem = NAME.match(name).group(2)
    if meta == 'event':
        if not re.fullmatch(r'[A-Z][A-Z0-9_]*', stem):
            raise QAPIError(source, f"name of event '{name}' must be all upper case")
    elif meta == 'command':
        if (not re.fullmatch(r'[a-z][a-z0-9-]*', stem)
                and name not in pragma.lists['command-name-exceptions']):
            raise QAPIError(source, f"name of command '{name}' must be lower case with '-'")
    else:
        if not re.fullmatch(r'[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*', stem):
            raise QAPIError(source, f"name of {meta} '{name}' must be in CamelCase")
        if name.endswith(('List', 'Kind')):
            raise QAPIError(source, f"name of {meta} '{name}' must not end in '{name[-4:]}'")


def condition(cond, source, where):
    """An 'if' as a C preprocessor expression, or None."""
    if cond is None:
        return None
    if isinstance(cond, str):
        if not re.fullmatch(r'[A-Z][A-Z0-9_]*', cond):
            raise QAPIError(source, f"'if' condition '{cond}' of {where} is not a macro name")
        return cond
    if not isinstance(cond, dict) or len(cond) != 1:
        raise QAPIError(source, f"'if' condition of {where} must be a string or an object "
                        "with one of 'all', 'any', 'not'")
    (oper, arg), = cond.items()
    if oper == 'not':
        return f'!({condition(arg, source, where)})'
    if oper not in ('all', 'any'):
        raise QAPIError(source, f"'if' condition of {where} has unknown key '{oper}'")
    if not isinstance(arg, list) or not arg:
        raise QAPIError(source, f"'{oper}' in 'if' condition of {where} needs a list")
    parts = [f'({condition(x, source, where)})' for x in arg]
    return (' && ' if oper == 'all' else ' || ').join(parts)


def features(value, source, where):
    """The list of features, each a name or {'name', 'if'}."""
    result = []
    if value is None:
        return result
    if not isinstance(value, list):
        raise QAPIError(source, f"'features' of {where} must be a list")
    for item in value:
        item = {'name': item} if isinstance(item, str) else item
        if not isinstance(item, dict) or 'name' not in item or set(item) - {'name', 'if'}:
            raise QAPIError(source, f"feature of {where} must be a string or an object with "
                            "'name' and 'if'")
        check_name(item['name'], source, 'feature')
        if any(f.name == item['name'] for f in result):
            raise QAPIError(source, f"{where} has feature '{item['name']}' twice")
        result.append(Feature(item['name'],
                              condition(item.get('if'), source, f"feature '{item['name']}'")))
    return result


def _type_name(value, source, where, arrays=True):
    if isinstance(value, str):
        return value
    if (arrays and isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)):
        return value
    raise QAPIError(source, f"type of {where} must be a type name"
                    + (" or a list of one" if arrays else ''))


def _check_keys(expr, required, optional, source, what):
    for key in required:
        if key not in expr:
            raise QAPIError(source, f"{what} misses key '{key}'")
    for key in expr:
        if key not in required and key not in optional:
            raise QAPIError(source, f"{what} has unknown key '{key}'")


def members(data, source, where, pragma, arrays=True, branches=False):
    """A dict of members as a list of Member."""
    if not isinstance(data, dict):
        raise QAPIError(source, f"'data' of {where} must be an object")
    result, seen = [], {}
    for key, value in data.items():
        optional = key.startswith('*') and not branches
        name = key[1:] if optional else key
        label = f"{'branch' if branches else 'member'} '{name}' of {where}"
        check_name(name, source, 'branch' if branches else 'member')
        if not branches:
            if c_name(name).lower() == 'u' or c_name(name).lower().startswith('has_'):
                raise QAPIError(source, f"{label} uses a reserved name")
            if (name != name.lower() or '_' in name) and \
               where.split("'")[1] not in pragma.lists['member-name-exceptions']:
                raise QAPIError(source, f"name of {label} must be lower case with '-'")
        if c_name(name) in seen:
            raise QAPIError(source, f"{label} collides with '{seen[c_name(name)]}'")
        seen[c_name(name)] = name
        item = value if isinstance(value, dict) else {'type': value}
        _check_keys(item, ('type',), ('if', 'features'), source, label)
        result.append(Member(name, _type_name(item['type'], source, label, arrays), optional,
                             condition(item.get('if'), source, label),
                             features(item.get('features'), source, label)))
    return result


def enum_values(data, source, where, pragma):
    """The list of values, each a name or {'name', 'if', 'features'}."""
    if not isinstance(data, list):
        raise QAPIError(source, f"'data' of {where} must be a list")
    result, seen = [], {}
    for value in data:
        value = {'name': value} if isinstance(value, str) else value
        if not isinstance(value, dict):
            raise QAPIError(source, f"value of {where} must be a string or an object")
        _check_keys(value, ('name',), ('if', 'features'), source, f'value of {where}')
        name = value['name']
        check_name(name, source, 'enum value')
        if (name != name.lower() or '_' in name) and \
           where.split("'")[1] not in pragma.lists['member-name-exceptions']:
            raise QAPIError(source, f"value '{name}' of {where} must be lower case with '-'")
        constant = c_name(name, False).upper()
        if constant in seen:
            raise QAPIError(source, f"value '{name}' of {where} collides with "
                            f"'{seen[constant]}'")
        seen[constant] = name
        result.append(Member(name, None, False,
                             condition(value.get('if'), source, f"value '{name}'"),
                             features(value.get('features'), source, f"value '{name}'")))
    return result


def meta_of(expr, source):
    """Which kind of definition this is."""
    found = [meta for meta in METAS if meta in expr]
    if len(found) != 1:
        raise QAPIError(source, 'expression must have exactly one of '
                        + ', '.join(f"'{m}'" for m in METAS))
    return found[0]


def check_flags(expr, meta, where, source):
    """Boolean keys: which value each may have."""
    for key in ('boxed', 'allow-oob', 'allow-preconfig', 'coroutine'):
        if key in expr and expr[key] is not True:
            raise QAPIError(source, f"flag '{key}' of {where} may only be true")
    for key in ('gen', 'success-response'):
        if key in expr and expr[key] is not False:
            raise QAPIError(source, f"flag '{key}' of {where} may only be false")
    if expr.get('boxed') and not isinstance(expr.get('data'), str):
        raise QAPIError(source, f"'boxed' {meta} needs a type name as 'data'")


def check_expr(entity, pragma):
    """Checks an entity's expression; returns (meta, name, where)."""
    expr, source = entity.expr, entity.source
    meta = meta_of(expr, source)
    name = expr[meta]
    check_entity_name(meta, name, source, pragma)
    where = f"{meta} '{name}'"
    required, optional = KEYS[meta]
    _check_keys(expr, required, optional, source, where)
    check_flags(expr, meta, where, source)
    if meta == 'command' and 'returns' in expr:
        _type_name(expr['returns'], source, f"return value of {where}")
    return meta, name, where
