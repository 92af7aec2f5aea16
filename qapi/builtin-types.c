/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables of the built-in types, names of enumerations.  Used by every generated table;
 * constant data, any thread.
 */
#include "config-host.h"
#include "qapi/error.h"
#include "qapi/visitor.h"

QNull qapi_null;

static const char *const qtype_names[] = {"none",  "qnull", "qnum", "qstring",
                                          "qdict", "qlist", "qbool"};
const QEnumLookup QType_lookup = {qtype_names, QTYPE__MAX};

const char *qapi_enum_name(const QEnumLookup *lookup, int value)
{
    g_assert(value >= 0 && value < lookup->n);
    return lookup->names[value];
}

int qapi_enum_parse(const QEnumLookup *lookup, const char *name, int fallback, GError **errp)
{
    if (!name) {
        return fallback;
    }
    for (int i = 0; i < lookup->n; i++) {
        if (!strcmp(lookup->names[i], name)) {
            return i;
        }
    }
    error_setg(errp, "invalid parameter value: %s", name);
    return -1;
}

#define BUILTIN(id, c_type, qkind) \
    const QapiType qapi_type_##id = { \
        .name = #id, .kind = QAPI_KIND_##qkind, .size = sizeof(c_type)}; \
    const QapiType qapi_type_##id##List = { \
        .name = #id "List", .kind = QAPI_KIND_LIST, .size = sizeof(id##List), \
        .element = &qapi_type_##id, .value_offset = offsetof(id##List, value)}; \
    void qapi_free_##id##List(id##List *obj) \
    { \
        qapi_free_value(&qapi_type_##id##List, &obj); \
    }

BUILTIN(str, char *, STR)
BUILTIN(number, double, NUMBER)
BUILTIN(int, int64_t, INT64)
BUILTIN(int8, int8_t, INT8)
BUILTIN(int16, int16_t, INT16)
BUILTIN(int32, int32_t, INT32)
BUILTIN(int64, int64_t, INT64)
BUILTIN(uint8, uint8_t, UINT8)
BUILTIN(uint16, uint16_t, UINT16)
BUILTIN(uint32, uint32_t, UINT32)
BUILTIN(uint64, uint64_t, UINT64)
BUILTIN(size, uint64_t, SIZE)
BUILTIN(bool, bool, BOOL)
BUILTIN(null, QNull *, NULL)
BUILTIN(any, json_object *, ANY)

const QapiType qapi_type_QType = {.name = "QType", .kind = QAPI_KIND_ENUM,
                                  .size = sizeof(QType), .lookup = &QType_lookup};
const QapiType qapi_type_QTypeList = {.name = "QTypeList", .kind = QAPI_KIND_LIST,
                                      .size = sizeof(QTypeList), .element = &qapi_type_QType,
                                      .value_offset = offsetof(QTypeList, value)};
void qapi_free_QTypeList(QTypeList *obj)
{
    qapi_free_value(&qapi_type_QTypeList, &obj);
}

const QapiType qapi_type_empty = {.name = "q_empty", .kind = QAPI_KIND_OBJECT};
