/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Input visitor: a json-c tree to a C value, guided by the type's table.  The tree comes
 * from a client or a command line and is not trusted; whatever does not fit the type is
 * answered in QEMU's words.  Any thread, no yielding.
 */
#include "config-host.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "qapi/compat.h"
#include "qapi/error.h"
#include "visit-int.h"

#define MAX_DEPTH 512 /* of nested values; far beyond any schema, far below the stack */

/* Where we are in the tree, innermost first; made into text only for a message. */
typedef struct Path {
    const struct Path *up;
    const char *name; /* of a member, or NULL */
    int index;        /* in a list, when name is NULL */
    int depth;
} Path;

typedef struct Input {
    bool keyval;
} Input;

static bool input_value(const Input *in, const QapiType *type, json_object *json,
                        const Path *path, void *slot, GError **errp);

static char *path_text(const Input *in, const Path *path)
{
    GString *text = g_string_new(NULL);

    for (; path && (path->name || path->up); path = path->up) {
        g_autofree char *part = NULL;

        if (!path->name) {
            part = g_strdup_printf(in->keyval ? ".%d" : "[%d]", path->index);
        } else {
            /* The root's name is not repeated by a member of an anonymous root. */
            bool has_parent = path->up && (path->up->name || path->up->up);
            part = g_strdup_printf("%s%s", has_parent ? "." : "", path->name);
        }
        g_string_prepend(text, part);
    }
    if (!text->len) {
        g_string_assign(text, "<anonymous>");
    }
    return g_string_free(text, false);
}

/* Always false, for "return bad_type(...)". */
static bool bad_type(const Input *in, const Path *path, const char *expected, GError **errp)
{
    g_autofree char *text = path_text(in, path);

    error_setg(errp, "Invalid parameter type for '%s', expected: %s", text, expected);
    return false;
}

static bool expects(const Input *in, const Path *path, const char *what, GError **errp)
{
    g_autofree char *text = path_text(in, path);

    error_setg(errp, "Parameter '%s' expects %s", text, what);
    return false;
}

/* QEMU names only the innermost member in messages about a value's range. */
static bool out_of_range(const Path *path, const char *what, GError **errp)
{
    error_setg(errp, "Parameter '%s' expects %s", path->name ? path->name : "null", what);
    return false;
}

static bool parse_int64(const char *text, int64_t *value)
{
    char *end;

    errno = 0;
    *value = g_ascii_strtoll(text, &end, 0);
    return !errno && end != text && !*end;
}

/* Negative numbers wrap, as they do in JSON. */
static bool parse_uint64(const char *text, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = g_ascii_strtoull(text, &end, 0);
    return !errno && end != text && !*end;
}

static bool input_int64(const Input *in, json_object *json, const Path *path, int64_t *value,
                        GError **errp)
{
    if (in->keyval && json_object_is_type(json, json_type_string)) {
        return parse_int64(json_object_get_string(json), value) ||
               expects(in, path, "integer", errp);
    }
    if (!json_object_is_type(json, json_type_int)) {
        return bad_type(in, path, "integer", errp);
    }
    *value = json_object_get_int64(json);
    if (*value == INT64_MAX && json_object_get_uint64(json) > INT64_MAX) {
        return bad_type(in, path, "integer", errp);
    }
    return true;
}

static bool input_uint64(const Input *in, json_object *json, const Path *path,
                         uint64_t *value, GError **errp)
{
    if (in->keyval && json_object_is_type(json, json_type_string)) {
        return parse_uint64(json_object_get_string(json), value) ||
               expects(in, path, "integer", errp);
    }
    if (!json_object_is_type(json, json_type_int)) {
        return expects(in, path, "uint64", errp);
    }
    int64_t number = json_object_get_int64(json);
    *value = number < 0 ? (uint64_t)number : json_object_get_uint64(json);
    return true;
}

static bool input_size(const Input *in, json_object *json, const Path *path, uint64_t *value,
                       GError **errp)
{
    if (in->keyval && json_object_is_type(json, json_type_string)) {
        return qapi_parse_size(json_object_get_string(json), value) ||
               expects(in, path, "a size value", errp);
    }
    return input_uint64(in, json, path, value, errp);
}

static bool input_number(const Input *in, json_object *json, const Path *path, double *value,
                         GError **errp)
{
    if (in->keyval && json_object_is_type(json, json_type_string)) {
        const char *text = json_object_get_string(json);
        char *end;

        *value = g_ascii_strtod(text, &end);
        return (end != text && !*end && isfinite(*value)) || expects(in, path, "number", errp);
    }
    if (!json_object_is_type(json, json_type_int) &&
        !json_object_is_type(json, json_type_double)) {
        return bad_type(in, path, "number", errp);
    }
    *value = json_object_get_double(json);
    return true;
}

static bool input_bool(const Input *in, json_object *json, const Path *path, bool *value,
                       GError **errp)
{
    if (in->keyval && json_object_is_type(json, json_type_string)) {
        return qapi_parse_bool(json_object_get_string(json), value) ||
               expects(in, path, "'on' or 'off'", errp);
    }
    if (!json_object_is_type(json, json_type_boolean)) {
        return bad_type(in, path, "boolean", errp);
    }
    *value = json_object_get_boolean(json);
    return true;
}

static bool input_signed(const Input *in, const QapiType *type, json_object *json,
                         const Path *path, void *slot, GError **errp)
{
    int64_t value;

    if (!input_int64(in, json, path, &value, errp)) {
        return false;
    }
    switch (type->kind) {
    case QAPI_KIND_INT8:
        if (value != (int8_t)value) {
            return out_of_range(path, "int8_t", errp);
        }
        *(int8_t *)slot = value;
        return true;
    case QAPI_KIND_INT16:
        if (value != (int16_t)value) {
            return out_of_range(path, "int16_t", errp);
        }
        *(int16_t *)slot = value;
        return true;
    case QAPI_KIND_INT32:
        if (value != (int32_t)value) {
            return out_of_range(path, "int32_t", errp);
        }
        *(int32_t *)slot = value;
        return true;
    default:
        *(int64_t *)slot = value;
        return true;
    }
}

static bool input_unsigned(const Input *in, const QapiType *type, json_object *json,
                           const Path *path, void *slot, GError **errp)
{
    uint64_t value;

    if (!input_uint64(in, json, path, &value, errp)) {
        return false;
    }
    switch (type->kind) {
    case QAPI_KIND_UINT8:
        if (value > UINT8_MAX) {
            return out_of_range(path, "uint8_t", errp);
        }
        *(uint8_t *)slot = value;
        return true;
    case QAPI_KIND_UINT16:
        if (value > UINT16_MAX) {
            return out_of_range(path, "uint16_t", errp);
        }
        *(uint16_t *)slot = value;
        return true;
    case QAPI_KIND_UINT32:
        if (value > UINT32_MAX) {
            return out_of_range(path, "uint32_t", errp);
        }
        *(uint32_t *)slot = value;
        return true;
    default:
        *(uint64_t *)slot = value;
        return true;
    }
}

static bool input_string(const Input *in, json_object *json, const Path *path,
                         const char **text, GError **errp)
{
    if (!json_object_is_type(json, json_type_string)) {
        return bad_type(in, path, "string", errp);
    }
    *text = json_object_get_string(json);
    if (strlen(*text) != (size_t)json_object_get_string_len(json)) {
        return expects(in, path, "a string without NUL characters", errp);
    }
    return true;
}

static bool input_enum(const Input *in, const QapiType *type, json_object *json,
                       const Path *path, int *slot, GError **errp)
{
    const char *text;

    if (!input_string(in, json, path, &text, errp)) {
        return false;
    }
    *slot = qapi_enum_parse(type->lookup, text, -1, NULL);
    if (*slot < 0) {
        *slot = 0;
        error_setg(errp, "Parameter '%s' does not accept value '%s'",
                   path->name ? path->name : "null", text);
        return false;
    }
    return !type->lookup->special ||
           qapi_compat_may_use(type->lookup->special[*slot], "value", text, QAPI_ERROR_GENERIC,
                               errp);
}

/* --- Objects --------------------------------------------------------------------- */

/*
 * Fills the struct at obj (zeroed) from the members in json, adding to *used the number
 * of members that were found.  On failure obj holds what was done so far.
 */
static bool input_members(const Input *in, const QapiType *type, json_object *json,
                          const Path *path, void *obj, int *used, GError **errp)
{
    for (int i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];
        Path here = {.up = path, .name = m->name, .depth = path->depth + 1};
        json_object *value = NULL;

        if (!json || !json_object_object_get_ex(json, m->name, &value)) {
            if (m->optional) {
                continue;
            }
            g_autofree char *text = path_text(in, &here);
            error_setg(errp, "Parameter '%s' is missing", text);
            return false;
        }
        ++*used;
        if (!qapi_compat_may_use(m->special, "parameter", m->name, QAPI_ERROR_GENERIC, errp)) {
            return false;
        }
        if (!input_value(in, m->type, value, &here, slot_at(obj, m->offset), errp)) {
            return false;
        }
        if (m->has_offset >= 0) {
            *(bool *)slot_at(obj, m->has_offset) = true;
        }
    }
    const QapiType *branch = union_branch(type, obj);
    return !branch || input_members(in, branch, json, path, slot_at(obj, type->union_offset),
                                    used, errp);
}

/* Whether the struct at obj has a member called key. */
static bool knows_key(const QapiType *type, const void *obj, const char *key)
{
    for (int i = 0; i < type->n_members; i++) {
        if (!strcmp(type->members[i].name, key)) {
            return true;
        }
    }
    const QapiType *branch = union_branch(type, obj);
    return branch && knows_key(branch, slot_at(obj, type->union_offset), key);
}

static bool input_object(const Input *in, const QapiType *type, json_object *json,
                         const Path *path, void *obj, GError **errp)
{
    int used = 0;

    if (!input_members(in, type, json, path, obj, &used, errp)) {
        return false;
    }
    if (!json || used == json_object_object_length(json)) {
        return true;
    }
    json_object_object_foreach(json, key, value)
    {
        if (!knows_key(type, obj, key)) {
            Path here = {.up = path, .name = key};
            g_autofree char *text = path_text(in, &here);
            /* In key=value input the user wrote the leaves, not the object. */
            if (in->keyval && !json_object_is_type(value, json_type_string)) {
                error_setg(errp, "Parameters '%s.*' are unexpected", text);
            } else {
                error_setg(errp, "Parameter '%s' is unexpected", text);
            }
            return false;
        }
    }
    return true;
}

/* --- Alternates and lists ---------------------------------------------------------- */

/*
 * In key=value input everything is a string.  Names of an enumeration come first, then what
 * reads as a boolean or a number; the generator rejects alternates that this cannot tell.
 */
static QType qtype_of_keyval_string(const QapiType *type, const char *text)
{
    const QapiType *string = type->branches[QTYPE_QSTRING];
    bool flag;

    if (string && (string->kind != QAPI_KIND_ENUM ||
                   qapi_enum_parse(string->lookup, text, -1, NULL) >= 0)) {
        return QTYPE_QSTRING;
    }
    if (type->branches[QTYPE_QBOOL] && qapi_parse_bool(text, &flag)) {
        return QTYPE_QBOOL;
    }
    if (type->branches[QTYPE_QNUM] && (g_ascii_isdigit(text[0]) || text[0] == '-')) {
        return QTYPE_QNUM;
    }
    return string ? QTYPE_QSTRING : type->branches[QTYPE_QBOOL] ? QTYPE_QBOOL : QTYPE_QNUM;
}

static QType qtype_of(const Input *in, const QapiType *type, json_object *json)
{
    switch (json_object_get_type(json)) {
    case json_type_null:
        return QTYPE_QNULL;
    case json_type_boolean:
        return QTYPE_QBOOL;
    case json_type_int:
    case json_type_double:
        return QTYPE_QNUM;
    case json_type_object:
        return QTYPE_QDICT;
    case json_type_array:
        return QTYPE_QLIST;
    case json_type_string:
        break;
    }
    return in->keyval ? qtype_of_keyval_string(type, json_object_get_string(json))
                      : QTYPE_QSTRING;
}

static bool input_alternate(const Input *in, const QapiType *type, json_object *json,
                            const Path *path, void *obj, GError **errp)
{
    QType qtype = qtype_of(in, type, json);
    const QapiType *branch = type->branches[qtype];

    if (!branch) {
        /* QEMU names the innermost member here, too. */
        error_setg(errp, "Invalid parameter type for '%s', expected: %s",
                   path->name ? path->name : "null", type->name);
        return false;
    }
    *(QType *)obj = qtype;
    void *slot = slot_at(obj, type->union_offset);
    if (branch->kind == QAPI_KIND_OBJECT) {
        return input_object(in, branch, json, path, slot, errp);
    }
    return input_value(in, branch, json, path, slot, errp);
}

static bool input_list(const Input *in, const QapiType *type, json_object *json,
                       const Path *path, void **slot, GError **errp)
{
    void **tail = slot;

    if (!json_object_is_type(json, json_type_array)) {
        return bad_type(in, path, "array", errp);
    }
    int n = json_object_array_length(json);
    for (int i = 0; i < n; i++) {
        Path here = {.up = path, .index = i, .depth = path->depth + 1};

        *tail = g_malloc0(type->size);
        if (!input_value(in, type->element, json_object_array_get_idx(json, i), &here,
                         slot_at(*tail, type->value_offset), errp)) {
            return false;
        }
        tail = *tail; /* next is the first member of a list's element */
    }
    return true;
}

static bool input_pointer(const Input *in, const QapiType *type, json_object *json,
                          const Path *path, void **slot, GError **errp)
{
    if (type->kind == QAPI_KIND_LIST) {
        return input_list(in, type, json, path, slot, errp);
    }
    if (type->kind == QAPI_KIND_ALTERNATE) {
        *slot = g_malloc0(type->size);
        return input_alternate(in, type, json, path, *slot, errp);
    }
    if (!json_object_is_type(json, json_type_object)) {
        return bad_type(in, path, "object", errp);
    }
    *slot = g_malloc0(type->size);
    return input_object(in, type, json, path, *slot, errp);
}

/*
 * slot is zeroed.  On failure it holds what was done so far, in a form that
 * qapi_free_value() understands; the outermost caller frees it.
 */
static bool input_value(const Input *in, const QapiType *type, json_object *json,
                        const Path *path, void *slot, GError **errp)
{
    const char *text;

    if (path->depth > MAX_DEPTH) {
        error_setg(errp, "Parameters are nested more than %d levels deep", MAX_DEPTH);
        return false;
    }
    switch (type->kind) {
    case QAPI_KIND_STR:
        if (!input_string(in, json, path, &text, errp)) {
            return false;
        }
        *(char **)slot = g_strdup(text);
        return true;
    case QAPI_KIND_NUMBER:
        return input_number(in, json, path, slot, errp);
    case QAPI_KIND_INT8:
    case QAPI_KIND_INT16:
    case QAPI_KIND_INT32:
    case QAPI_KIND_INT64:
        return input_signed(in, type, json, path, slot, errp);
    case QAPI_KIND_UINT8:
    case QAPI_KIND_UINT16:
    case QAPI_KIND_UINT32:
    case QAPI_KIND_UINT64:
        return input_unsigned(in, type, json, path, slot, errp);
    case QAPI_KIND_SIZE:
        return input_size(in, json, path, slot, errp);
    case QAPI_KIND_BOOL:
        return input_bool(in, json, path, slot, errp);
    case QAPI_KIND_NULL:
        if (json) {
            return bad_type(in, path, "null", errp);
        }
        *(QNull **)slot = &qapi_null;
        return true;
    case QAPI_KIND_ANY:
        *(json_object **)slot = json_object_get(json);
        return true;
    case QAPI_KIND_ENUM:
        return input_enum(in, type, json, path, slot, errp);
    case QAPI_KIND_OBJECT:
    case QAPI_KIND_ALTERNATE:
    case QAPI_KIND_LIST:
        return input_pointer(in, type, json, path, slot, errp);
    }
    g_assert_not_reached();
}

static bool input_root(const Input *in, const QapiType *type, json_object *json,
                       const char *name, void *slot, GError **errp)
{
    Path path = {.name = name};

    memset(slot, 0, type->kind >= QAPI_KIND_OBJECT ? sizeof(void *) : type->size);
    if (!input_value(in, type, json, &path, slot, errp)) {
        qapi_free_value(type, slot);
        return false;
    }
    return true;
}

bool qapi_input(const QapiType *type, json_object *json, const char *name, void *slot,
                GError **errp)
{
    return input_root(&(Input){.keyval = false}, type, json, name, slot, errp);
}

bool qapi_input_keyval(const QapiType *type, json_object *json, const char *name, void *slot,
                       GError **errp)
{
    return input_root(&(Input){.keyval = true}, type, json, name, slot, errp);
}

bool qapi_input_args(const QapiType *type, json_object *args, void *obj, GError **errp)
{
    Input in = {.keyval = false};
    Path path = {.name = NULL};

    if (args && !json_object_is_type(args, json_type_object)) {
        return bad_type(&in, &path, "object", errp);
    }
    if (type->size) {
        memset(obj, 0, type->size);
    }
    if (!input_object(&in, type, args, &path, obj, errp)) {
        qapi_free_members(type, obj);
        return false;
    }
    return true;
}

bool qapi_input_str(const QapiType *type, const char *text, const char *implied_key,
                    void *slot, GError **errp)
{
    bool is_json;
    json_object *json = keyval_or_json_parse(text, implied_key, &is_json, errp);

    if (!json) {
        memset(slot, 0, sizeof(void *));
        return false;
    }
    Input in = {.keyval = !is_json};
    bool ok = input_root(&in, type, json, NULL, slot, errp);
    json_object_put(json);
    return ok;
}
