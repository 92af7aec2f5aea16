/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Members of a struct one at a time, by name: for options, which come one after another and
 * may be repeated.  The struct is always a value that the other visitors understand, also
 * after a failure.  Any thread, no yielding.
 */
#include "config-host.h"
#include "visit-int.h"

/* Room for what a slot holds. */
typedef union Slot {
    void *pointer;
    double number;
    uint64_t integer;
} Slot;

const QapiMember *qapi_find_member(const QapiType *type, const char *name)
{
    for (int i = 0; i < type->n_members; i++) {
        if (!strcmp(type->members[i].name, name)) {
            return &type->members[i];
        }
    }
    return NULL;
}

static bool input(const QapiType *type, json_object *json, bool keyval, void *slot,
                  GError **errp)
{
    return keyval ? qapi_input_keyval(type, json, NULL, slot, errp)
                  : qapi_input(type, json, NULL, slot, errp);
}

static size_t slot_size(const QapiType *type)
{
    return type->kind >= QAPI_KIND_OBJECT ? sizeof(void *) : type->size;
}

/* next is the first member of a list's element. */
static bool append(const QapiType *list, void **head, json_object *json, bool keyval,
                   GError **errp)
{
    void *element = g_malloc0(list->size);
    void **tail = head;

    if (!input(list->element, json, keyval, slot_at(element, list->value_offset), errp)) {
        g_free(element);
        return false;
    }
    while (*tail) {
        tail = *tail;
    }
    *tail = element;
    return true;
}

/* What is new goes over what was there, member by member. */
static bool overlay(const QapiType *type, const void *old, void *fresh, GError **errp)
{
    json_object *json = qapi_output(type, old), *news = qapi_output(type, fresh);
    bool ok;

    json_object_object_foreach(news, key, value)
    {
        json_object_object_add(json, key, json_object_get(value));
    }
    qapi_free_value(type, fresh);
    ok = qapi_input(type, json, NULL, fresh, errp);
    json_object_put(news);
    json_object_put(json);
    return ok;
}

static bool replace(const QapiType *type, void *slot, json_object *json, bool keyval,
                    GError **errp)
{
    bool has_old = type->kind == QAPI_KIND_OBJECT && *(void **)slot;
    Slot fresh;

    if (!input(type, json, keyval, &fresh, errp) ||
        (has_old && !overlay(type, slot, &fresh, errp))) {
        return false;
    }
    qapi_free_value(type, slot);
    memcpy(slot, &fresh, slot_size(type));
    return true;
}

bool qapi_input_member(const QapiType *type, void *obj, const char *name, json_object *json,
                       bool keyval, GError **errp)
{
    const QapiMember *m = qapi_find_member(type, name);
    void *slot;

    g_assert(m);
    slot = slot_at(obj, m->offset);
    if (m->type->kind == QAPI_KIND_LIST ? !append(m->type, slot, json, keyval, errp)
                                        : !replace(m->type, slot, json, keyval, errp)) {
        return false;
    }
    if (m->has_offset >= 0) {
        *(bool *)slot_at(obj, m->has_offset) = true;
    }
    return true;
}
