/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The visitors that start from a C value: output to json-c, free, clone.  Values are our
 * own and well formed.  Any thread, no yielding.
 */
#include "config-host.h"
#include "qapi/compat.h"
#include "visit-int.h"

/* --- Output -------------------------------------------------------------------------- */

static void output_members(const QapiType *type, const void *obj, json_object *json)
{
    for (int i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];

        if (member_present(m, obj) && !qapi_compat_hides(m->special)) {
            json_object_object_add_ex(json, m->name,
                                      qapi_output(m->type, slot_at(obj, m->offset)),
                                      JSON_C_OBJECT_ADD_CONSTANT_KEY);
        }
    }
    const QapiType *branch = union_branch(type, obj);
    if (branch) {
        output_members(branch, slot_at(obj, type->union_offset), json);
    }
}

json_object *qapi_output_members(const QapiType *type, const void *obj)
{
    json_object *json = json_object_new_object();

    output_members(type, obj, json);
    return json;
}

static json_object *output_list(const QapiType *type, const void *head)
{
    json_object *json = json_object_new_array();

    for (const void *e = head; e; e = *(void *const *)e) {
        json_object_array_add(json, qapi_output(type->element, slot_at(e, type->value_offset)));
    }
    return json;
}

static json_object *output_alternate(const QapiType *type, const void *obj)
{
    const QapiType *branch = alternate_branch(type, obj);
    const void *slot = slot_at(obj, type->union_offset);

    return branch->kind == QAPI_KIND_OBJECT ? qapi_output_members(branch, slot)
                                            : qapi_output(branch, slot);
}

json_object *qapi_output(const QapiType *type, const void *slot)
{
    const void *pointer;

    switch (type->kind) {
    case QAPI_KIND_STR: {
        /* A string that was left out reads as empty. */
        const char *text = *(char *const *)slot;
        return json_object_new_string(text ? text : "");
    }
    case QAPI_KIND_NUMBER:
        return json_object_new_double(*(const double *)slot);
    case QAPI_KIND_INT8:
        return json_object_new_int64(*(const int8_t *)slot);
    case QAPI_KIND_INT16:
        return json_object_new_int64(*(const int16_t *)slot);
    case QAPI_KIND_INT32:
        return json_object_new_int64(*(const int32_t *)slot);
    case QAPI_KIND_INT64:
        return json_object_new_int64(*(const int64_t *)slot);
    case QAPI_KIND_UINT8:
        return json_object_new_int64(*(const uint8_t *)slot);
    case QAPI_KIND_UINT16:
        return json_object_new_int64(*(const uint16_t *)slot);
    case QAPI_KIND_UINT32:
        return json_object_new_int64(*(const uint32_t *)slot);
    case QAPI_KIND_UINT64:
    case QAPI_KIND_SIZE:
        return json_object_new_uint64(*(const uint64_t *)slot);
    case QAPI_KIND_BOOL:
        return json_object_new_boolean(*(const bool *)slot);
    case QAPI_KIND_NULL:
        return NULL;
    case QAPI_KIND_ANY:
        return json_object_get(*(json_object *const *)slot);
    case QAPI_KIND_ENUM:
        return json_object_new_string(qapi_enum_name(type->lookup, *(const int *)slot));
    case QAPI_KIND_OBJECT:
        pointer = *(void *const *)slot;
        g_assert(pointer);
        return qapi_output_members(type, pointer);
    case QAPI_KIND_ALTERNATE:
        pointer = *(void *const *)slot;
        g_assert(pointer);
        return output_alternate(type, pointer);
    case QAPI_KIND_LIST:
        return output_list(type, *(void *const *)slot);
    }
    g_assert_not_reached();
}

/* --- Free ---------------------------------------------------------------------------- */

void qapi_free_members(const QapiType *type, void *obj)
{
    const QapiType *branch = union_branch(type, obj);

    if (branch) {
        qapi_free_members(branch, slot_at(obj, type->union_offset));
    }
    for (int i = 0; i < type->n_members; i++) {
        qapi_free_value(type->members[i].type, slot_at(obj, type->members[i].offset));
    }
}

static void free_alternate(const QapiType *type, void *obj)
{
    if (*(QType *)obj == QTYPE_NONE) {
        return; /* input failed before the type was known */
    }
    const QapiType *branch = alternate_branch(type, obj);
    void *slot = slot_at(obj, type->union_offset);
    if (branch->kind == QAPI_KIND_OBJECT) {
        qapi_free_members(branch, slot);
    } else {
        qapi_free_value(branch, slot);
    }
}

void qapi_free_value(const QapiType *type, void *slot)
{
    switch (type->kind) {
    case QAPI_KIND_STR:
        g_clear_pointer((char **)slot, g_free);
        break;
    case QAPI_KIND_ANY:
        json_object_put(*(json_object **)slot);
        *(json_object **)slot = NULL;
        break;
    case QAPI_KIND_NULL:
        *(QNull **)slot = NULL;
        break;
    case QAPI_KIND_OBJECT:
    case QAPI_KIND_ALTERNATE: {
        void *obj = *(void **)slot;
        if (obj) {
            if (type->kind == QAPI_KIND_OBJECT) {
                qapi_free_members(type, obj);
            } else {
                free_alternate(type, obj);
            }
            g_free(obj);
            *(void **)slot = NULL;
        }
        break;
    }
    case QAPI_KIND_LIST: {
        void *e = *(void **)slot;
        while (e) {
            void *next = *(void **)e;
            qapi_free_value(type->element, slot_at(e, type->value_offset));
            g_free(e);
            e = next;
        }
        *(void **)slot = NULL;
        break;
    }
    default:
        break; /* scalars hold nothing */
    }
}

/* --- Clone --------------------------------------------------------------------------- */

/* src was copied to dst byte by byte; makes dst's pointers its own. */
static void clone_members(const QapiType *type, const void *src, void *dst)
{
    for (int i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];
        qapi_clone_value(m->type, slot_at(src, m->offset), slot_at(dst, m->offset));
    }
    const QapiType *branch = union_branch(type, src);
    if (branch) {
        clone_members(branch, slot_at(src, type->union_offset),
                      slot_at(dst, type->union_offset));
    }
}

static void clone_alternate(const QapiType *type, const void *src, void *dst)
{
    const QapiType *branch = alternate_branch(type, src);
    const void *from = slot_at(src, type->union_offset);
    void *to = slot_at(dst, type->union_offset);

    if (branch->kind == QAPI_KIND_OBJECT) {
        clone_members(branch, from, to);
    } else {
        qapi_clone_value(branch, from, to);
    }
}

static void clone_list(const QapiType *type, const void *head, void *dst)
{
    void **tail = dst;

    *tail = NULL;
    for (const void *e = head; e; e = *(void *const *)e) {
        *tail = g_malloc0(type->size);
        qapi_clone_value(type->element, slot_at(e, type->value_offset),
                         slot_at(*tail, type->value_offset));
        tail = *tail;
    }
}

/* json_object_deep_copy() refuses NULL, which is JSON's null. */
static json_object *clone_json(json_object *src)
{
    json_object *copy = NULL;

    if (src && json_object_deep_copy(src, &copy, NULL) < 0) {
        g_error("out of memory copying a JSON value");
    }
    return copy;
}

void qapi_clone_value(const QapiType *type, const void *src, void *dst)
{
    const void *from;

    switch (type->kind) {
    case QAPI_KIND_STR:
        *(char **)dst = g_strdup(*(char *const *)src);
        break;
    case QAPI_KIND_ANY:
        *(json_object **)dst = clone_json(*(json_object *const *)src);
        break;
    case QAPI_KIND_OBJECT:
    case QAPI_KIND_ALTERNATE:
        from = *(void *const *)src;
        *(void **)dst = from ? g_memdup2(from, type->size) : NULL;
        if (!from) {
            break;
        }
        if (type->kind == QAPI_KIND_OBJECT) {
            clone_members(type, from, *(void **)dst);
        } else {
            clone_alternate(type, from, *(void **)dst);
        }
        break;
    case QAPI_KIND_LIST:
        clone_list(type, *(void *const *)src, dst);
        break;
    default:
        memcpy(dst, src, type->size);
        break;
    }
}
