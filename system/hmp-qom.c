/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP commands about objects: thin clients of the QMP handlers. */
#include <inttypes.h>
#include <string.h>
#include "qapi/json.h"
#include "qapi/json-write.h"
#include "qapi/qapi-commands-machine.h"
#include "qapi/qapi-commands-qom.h"
#include "qapi/qapi-visit-machine.h"
#include "qom.h"
#include "system-int.h"

static void coroutine_fn hmp_qom_list(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(ObjectPropertyInfoList) list = NULL;
    const char *path = hmp_arg_str(args, "path");
    GError *err = NULL;

    if (!path) {
        hmp_printf(s, "/\n");
        return;
    }
    list = qmp_qom_list(path, &err);
    for (ObjectPropertyInfoList *l = list; l; l = l->next) {
        hmp_printf(s, "%s (%s)\n", l->value->name, l->value->type);
    }
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_qom_get(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;
    json_object *value = qmp_qom_get(hmp_arg_str(args, "path"), hmp_arg_str(args, "property"),
                                     &err);

    if (!err) {
        g_autoptr(GString) text = g_string_new(NULL);

        json_write(text, value, true);
        hmp_printf(s, "%s\n", text->str);
    }
    json_object_put(value);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_qom_set(HMPSession *s, const HMPArgs *args)
{
    const char *text = hmp_arg_str(args, "value");
    GError *err = NULL;
    json_object *value = hmp_arg_flag(args, "json") ? json_parse_text(text, strlen(text), &err)
                                                    : json_object_new_string(text);

    if (!err) {
        qmp_qom_set(hmp_arg_str(args, "path"), hmp_arg_str(args, "property"), value, &err);
    }
    json_object_put(value);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_object_add(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;
    ObjectOptions *object = qapi_ObjectOptions_from_str(hmp_arg_str(args, "object"), "qom-type",
                                                        &err);

    if (object) {
        qmp_object_add(object, &err);
    }
    qapi_free_ObjectOptions(object);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_object_del(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_object_del(hmp_arg_str(args, "id"), &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_device_add(HMPSession *s, const HMPArgs *args)
{
    const char *text = hmp_arg_str(args, "device");
    GError *err = NULL;
    bool is_json;
    json_object *tree = keyval_or_json_parse(text ? text : "", "driver", &is_json, &err);

    if (tree) {
        qom_plug(tree, !is_json, &err);
    }
    json_object_put(tree);
    hmp_handle_error(s, err);
}

static void coroutine_fn hmp_device_del(HMPSession *s, const HMPArgs *args)
{
    GError *err = NULL;

    qmp_device_del(hmp_arg_str(args, "id"), &err);
    hmp_handle_error(s, err);
}

static void coroutine_fn complete_driver(HMPCompletion *c, int nr)
{
    for (int i = 0; nr == 0 && i < DEVICE_DRIVER__MAX; i++) {
        hmp_complete_add(c, DeviceDriver_str(i));
    }
}

/* Devices that have an id. */
static void coroutine_fn complete_device(HMPCompletion *c, int nr)
{
    g_autoptr(ObjectPropertyInfoList) list = nr == 0 ? qmp_qom_list("/machine/peripheral", NULL)
                                                     : NULL;

    for (ObjectPropertyInfoList *l = list; l; l = l->next) {
        if (g_str_has_prefix(l->value->type, "child<")) {
            hmp_complete_add(c, l->value->name);
        }
    }
}

/* Objects by their last name. */
static void coroutine_fn complete_object(HMPCompletion *c, int nr)
{
    g_autoptr(ObjectPropertyInfoList) list = nr == 0 ? qmp_qom_list("/objects", NULL) : NULL;

    for (ObjectPropertyInfoList *l = list; l; l = l->next) {
        if (g_str_has_prefix(l->value->type, "child<")) {
            hmp_complete_add(c, l->value->name);
        }
    }
}

/* A path as far as it is typed, then a property. */
void coroutine_fn hmp_complete_qom_path(HMPCompletion *c, int nr)
{
    g_autofree char *above = nr == 0 ? g_path_get_dirname(hmp_complete_word(c)) : NULL;
    const char *path = nr == 0 ? above : nr == 1 ? hmp_complete_arg(c, 0) : NULL;
    g_autoptr(ObjectPropertyInfoList) list = path && *path != '.' ? qmp_qom_list(path, NULL)
                                                                  : NULL;

    for (ObjectPropertyInfoList *l = list; l; l = l->next) {
        bool child = g_str_has_prefix(l->value->type, "child<");

        if (nr == 0 && child) {
            g_autofree char *full = g_build_path("/", path, l->value->name, NULL);

            hmp_complete_add(c, full);
        } else if (nr == 1 && !child) {
            hmp_complete_add(c, l->value->name);
        }
    }
}

static void coroutine_fn hmp_info_memdev(HMPSession *s, const HMPArgs *args)
{
    g_autoptr(MemdevList) list = qmp_query_memdev(NULL);

    for (MemdevList *l = list; l; l = l->next) {
        const Memdev *m = l->value;

        hmp_printf(s, "memory backend: %s\n", m->id ? m->id : "");
        hmp_printf(s, "  size:  %" PRIu64 "\n", m->size);
        hmp_printf(s, "  merge: %s\n", m->merge ? "true" : "false");
        hmp_printf(s, "  dump: %s\n", m->dump ? "true" : "false");
        hmp_printf(s, "  prealloc: %s\n", m->prealloc ? "true" : "false");
        hmp_printf(s, "  share: %s\n", m->share ? "true" : "false");
        if (m->has_reserve) {
            hmp_printf(s, "  reserve: %s\n", m->reserve ? "true" : "false");
        }
        hmp_printf(s, "  policy: %s\n  host nodes:", HostMemPolicy_str(m->policy));
        for (uint16List *n = m->host_nodes; n; n = n->next) {
            hmp_printf(s, " %u", n->value);
        }
        hmp_printf(s, " \n");
    }
    hmp_printf(s, "\n");
}

const HMPCommand qom_hmp_commands[] = {
    {"qom-list", "path:s?", "path", "list QOM properties", hmp_qom_list, hmp_complete_qom_path},
    {"qom-get", "path:s,property:s", "path property", "print QOM property", hmp_qom_get,
     hmp_complete_qom_path},
    {"qom-set", "json:-j,path:s,property:s,value:S", "[-j] path property value",
     "set QOM property.\n\t\t\t-j: the value is specified in json format.", hmp_qom_set,
     hmp_complete_qom_path},
    {"object_add", "object:S", "[qom-type=]type,id=str[,prop=value][,...]",
     "create QOM object", hmp_object_add},
    {"device_add", "device:S?", "driver[,prop=value][,...]", "add device, like -device on the command line",
     hmp_device_add, complete_driver},
    {"device_del", "id:s", "device", "remove device", hmp_device_del, complete_device},
    {"object_del", "id:s", "id", "destroy QOM object", hmp_object_del, complete_object},
    {"info memdev", "", "", "show memory backends", hmp_info_memdev},
    {0},
};
