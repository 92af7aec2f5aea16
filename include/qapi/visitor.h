/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Visitors: between json-c trees and the generated C types.  The generator writes a table
 * (QapiType) for every type; the functions here walk a table and a value together.
 *
 * A "slot" is where a value is stored: for objects, alternates and lists a pointer to the
 * pointer, for everything else the variable itself.  All functions: any thread, no
 * yielding; a json_object must not be used by two threads at once.
 */
#ifndef QAPI_VISITOR_H
#define QAPI_VISITOR_H

#include <glib.h>
#include <json-c/json_object.h>
#include <json-c/linkhash.h>
#include "qapi/builtin-types.h"
#include "qapi/keyval.h"

typedef enum QapiKind {
    QAPI_KIND_STR,
    QAPI_KIND_NUMBER,
    QAPI_KIND_INT8,
    QAPI_KIND_INT16,
    QAPI_KIND_INT32,
    QAPI_KIND_INT64,
    QAPI_KIND_UINT8,
    QAPI_KIND_UINT16,
    QAPI_KIND_UINT32,
    QAPI_KIND_UINT64,
    QAPI_KIND_SIZE,
    QAPI_KIND_BOOL,
    QAPI_KIND_NULL,
    QAPI_KIND_ANY,
    QAPI_KIND_ENUM,
    QAPI_KIND_OBJECT,
    QAPI_KIND_ALTERNATE,
    QAPI_KIND_LIST,
} QapiKind;

typedef struct QapiType QapiType;

typedef struct QapiMember {
    const char *name; /* on the wire */
    const QapiType *type;
    int offset;     /* of the slot in the struct */
    int has_offset; /* of the has_ flag, -1 when NULL means absent */
    bool optional;
    unsigned char special; /* QapiSpecial */
} QapiMember;

struct QapiType {
    const char *name;
    QapiKind kind;
    size_t size;               /* of the struct, or of a list's element */
    const QEnumLookup *lookup; /* enum */
    const QapiType *element;   /* list */
    int value_offset;          /* list: of the value in an element */
    const QapiMember *members; /* object, its base's first */
    int n_members;
    /* Union: by value of the discriminator.  Alternate: by QType.  NULL: no branch. */
    const QapiType *const *branches;
    int union_offset;     /* of the branches */
    const char *tag_name; /* union: the discriminator */
    int tag_offset;
};

extern const QapiType qapi_type_str, qapi_type_number, qapi_type_int, qapi_type_int8,
    qapi_type_int16, qapi_type_int32, qapi_type_int64, qapi_type_uint8, qapi_type_uint16,
    qapi_type_uint32, qapi_type_uint64, qapi_type_size, qapi_type_bool, qapi_type_null,
    qapi_type_any, qapi_type_QType;
extern const QapiType qapi_type_strList, qapi_type_numberList, qapi_type_intList,
    qapi_type_int8List, qapi_type_int16List, qapi_type_int32List, qapi_type_int64List,
    qapi_type_uint8List, qapi_type_uint16List, qapi_type_uint32List, qapi_type_uint64List,
    qapi_type_sizeList, qapi_type_boolList, qapi_type_nullList, qapi_type_anyList,
    qapi_type_QTypeList;
/* The object without members. */
extern const QapiType qapi_type_empty;

/*
 * Fills slot from json (NULL is JSON's null; borrowed).  name is used in messages and may
 * be NULL.  On failure false, errp set in QEMU's words, and slot holds nothing to free.
 */
bool qapi_input(const QapiType *type, json_object *json, const char *name, void *slot,
                GError **errp);
/*
 * The same for a tree made by keyval_parse(): numbers, sizes (with suffix k to E) and
 * booleans (on/off, yes/no, true/false, y/n) are strings in it.
 */
bool qapi_input_keyval(const QapiType *type, json_object *json, const char *name, void *slot,
                       GError **errp);
/* The member of an object type called name, NULL if there is none; not those of branches. */
const QapiMember *qapi_find_member(const QapiType *type, const char *name);
/*
 * Takes json into the member called name, which type has, of the struct at obj: a list gets
 * one more element, an object's members replace those of the one before, any other value
 * replaces the whole.  keyval: json is made by keyval_parse().  On failure obj is as it was.
 */
bool qapi_input_member(const QapiType *type, void *obj, const char *name, json_object *json,
                       bool keyval, GError **errp);
/* Arguments of a command: fills the struct at obj.  args NULL means {}. */
bool qapi_input_args(const QapiType *type, json_object *args, void *obj, GError **errp);

/* The value in slot as a new json_object (caller owns it; NULL is JSON's null). */
json_object *qapi_output(const QapiType *type, const void *slot);
/* The members of the struct at obj as a new JSON object. */
json_object *qapi_output_members(const QapiType *type, const void *obj);

/* Frees what slot holds and clears it. */
void qapi_free_value(const QapiType *type, void *slot);
/* Frees the members of the struct at obj, not the struct. */
void qapi_free_members(const QapiType *type, void *obj);
/* Copies the value in slot src to slot dst, deeply. */
void qapi_clone_value(const QapiType *type, const void *src, void *dst);

/*
 * For an object or alternate T:
 *   T *qapi_T_from_json(json, errp)           from a JSON value (borrowed)
 *   T *qapi_T_from_str(text, key, errp)       from "key=value,..." or JSON text; a first
 *                                             value without '=' belongs to key (or NULL)
 *   json_object *qapi_T_to_json(obj)          the caller owns the result
 *   T *qapi_T_clone(obj)
 */
#define QAPI_DEFINE_CONVERSIONS(T) \
    static inline T *qapi_##T##_from_json(json_object *json, GError **errp) \
    { \
        T *obj = NULL; \
        return qapi_input(&qapi_type_##T, json, NULL, &obj, errp) ? obj : NULL; \
    } \
    static inline T *qapi_##T##_from_str(const char *text, const char *implied_key, \
                                         GError **errp) \
    { \
        T *obj = NULL; \
        return qapi_input_str(&qapi_type_##T, text, implied_key, &obj, errp) ? obj : NULL; \
    } \
    static inline json_object *qapi_##T##_to_json(const T *obj) \
    { \
        return qapi_output(&qapi_type_##T, &obj); \
    } \
    static inline T *qapi_##T##_clone(const T *obj) \
    { \
        T *copy = NULL; \
        qapi_clone_value(&qapi_type_##T, &obj, &copy); \
        return copy; \
    }

/* What qapi_T_from_str() does, for any type. */
bool qapi_input_str(const QapiType *type, const char *text, const char *implied_key,
                    void *slot, GError **errp);

#endif
