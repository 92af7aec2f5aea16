/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The built-in types of the schema language in C, and the lists of them.  Everything that
 * scripts/qapi-gen writes relies on this header.  All functions: any thread.
 */
#ifndef QAPI_BUILTIN_TYPES_H
#define QAPI_BUILTIN_TYPES_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct json_object json_object;

/* JSON's types, as alternates tell them apart. */
typedef enum QType {
    QTYPE_NONE,
    QTYPE_QNULL,
    QTYPE_QNUM,
    QTYPE_QSTRING,
    QTYPE_QDICT,
    QTYPE_QLIST,
    QTYPE_QBOOL,
    QTYPE__MAX,
} QType;

/* A JSON null that is present; there is one, qapi_null, and it is never freed. */
typedef struct QNull {
    char unused;
} QNull;
extern QNull qapi_null;

/* Features of the schema that a policy can act on: qapi/compat.h. */
typedef enum QapiSpecial {
    QAPI_DEPRECATED = 1,
    QAPI_UNSTABLE = 2,
} QapiSpecial;

/* Names of an enumeration's values. */
typedef struct QEnumLookup {
    const char *const *names;
    int n;
    const unsigned char *special; /* QapiSpecial of each value, or NULL: none has any */
} QEnumLookup;
extern const QEnumLookup QType_lookup;
#define QType_str(value) qapi_enum_name(&QType_lookup, (value))

/* The name of value, which must be one of the enumeration's. */
const char *qapi_enum_name(const QEnumLookup *lookup, int value);
/*
 * The value called name.  -1 and errp ("invalid parameter value: NAME") if there is none;
 * fallback if name is NULL.
 */
int qapi_enum_parse(const QEnumLookup *lookup, const char *name, int fallback, GError **errp);

#define QAPI_DECLARE_BUILTIN_LIST(name, type) \
    typedef struct name##List name##List; \
    struct name##List { \
        name##List *next; \
        type value; \
    }; \
    void qapi_free_##name##List(name##List *obj); \
    G_DEFINE_AUTOPTR_CLEANUP_FUNC(name##List, qapi_free_##name##List)

QAPI_DECLARE_BUILTIN_LIST(str, char *)
QAPI_DECLARE_BUILTIN_LIST(number, double)
QAPI_DECLARE_BUILTIN_LIST(int, int64_t)
QAPI_DECLARE_BUILTIN_LIST(int8, int8_t)
QAPI_DECLARE_BUILTIN_LIST(int16, int16_t)
QAPI_DECLARE_BUILTIN_LIST(int32, int32_t)
QAPI_DECLARE_BUILTIN_LIST(int64, int64_t)
QAPI_DECLARE_BUILTIN_LIST(uint8, uint8_t)
QAPI_DECLARE_BUILTIN_LIST(uint16, uint16_t)
QAPI_DECLARE_BUILTIN_LIST(uint32, uint32_t)
QAPI_DECLARE_BUILTIN_LIST(uint64, uint64_t)
QAPI_DECLARE_BUILTIN_LIST(size, uint64_t)
QAPI_DECLARE_BUILTIN_LIST(bool, bool)
QAPI_DECLARE_BUILTIN_LIST(null, QNull *)
QAPI_DECLARE_BUILTIN_LIST(any, json_object *)
QAPI_DECLARE_BUILTIN_LIST(QType, QType)

#endif
