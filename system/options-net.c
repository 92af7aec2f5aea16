/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -netdev, -nic and -net: what their types cannot check, in the words that QEMU has for it.  Main
 * thread, start-up.
 */
#include <string.h>
#include "options-int.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-net.h"

bool inspect_net(json_object *tree, bool is_json, GError **errp)
{
    const char *type = json_object_is_type(tree, json_type_string) ? json_object_get_string(tree)
                                                                   : option_text(tree, "type");

    if (type && strcmp(type, "none")) {
        error_setg(errp, "there is only 'none'; use -nic, or -netdev and -device");
        return false;
    }
    return true;
}

/* Backends that others have. */
static bool inspect_backend(json_object *tree, GError **errp)
{
    static const char *const others[] = {"tap", "bridge", "socket", "vde", "l2tpv3",
                                         "hubport", "netmap", "vhost-user", "vhost-vdpa"};
    const char *type = option_text(tree, "type");

    for (size_t i = 0; type && i < G_N_ELEMENTS(others); i++) {
        if (!strcmp(type, others[i])) {
            error_setg(errp, "network backend '%s' is not supported; there are: user, stream, dgram",
                       type);
            return false;
        }
    }
    return true;
}

/* Whether tree has only members of type, a union by "type", in QEMU's words. */
static bool all_in_union(json_object *tree, const QapiType *type, const QEnumLookup *lookup,
                         GError **errp)
{
    const char *tag = option_text(tree, "type");
    int value = tag ? qapi_enum_parse(lookup, tag, -1, NULL) : -1;
    const QapiType *branch = value < 0 ? NULL : type->branches[value];

    if (!branch) {
        return true; /* the visitor says what is wrong */
    }
    json_object_object_foreach(tree, name, member)
    {
        (void)member;
        if (!qapi_find_member(type, name) && !option_is_known(branch, name, "", errp)) {
            return false;
        }
    }
    return true;
}

bool inspect_netdev(json_object *tree, bool is_json, GError **errp)
{
    return inspect_backend(tree, errp) &&
           all_in_union(tree, &qapi_type_Netdev, &NetdevType_lookup, errp);
}

bool inspect_nic(json_object *tree, bool is_json, GError **errp)
{
    return inspect_backend(tree, errp) &&
           all_in_union(tree, &qapi_type_NicOptions, &NicType_lookup, errp);
}

bool opt_netdev(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    Netdev *netdev = LAST(o->given->netdev);
    NetdevOption *n;

    if (!option_check_id(netdev->id, errp)) {
        return false;
    }
    for (guint i = 0; i < o->netdevs->len; i++) {
        n = o->netdevs->pdata[i];
        if (!strcmp(n->netdev->id, netdev->id)) {
            error_setg(errp, "Duplicate ID '%s' for netdev", netdev->id);
            return false;
        }
    }
    n = g_new(NetdevOption, 1);
    *n = (NetdevOption){option_describe(option, arg), netdev};
    g_ptr_array_add(o->netdevs, n);
    return true;
}

bool opt_nic(VmOptions *o, const char *option, const char *arg, GError **errp)
{
    NicOptions *nic = LAST(o->given->nic);
    NicOption *n;

    if (!option_check_id(nic->id, errp)) {
        return false;
    }
    if (nic->model && strcmp(nic->model, "virtio-net-device")) {
        error_setg(errp, "NIC model '%s' is not supported; there is virtio-net-device",
                   nic->model);
        return false;
    }
    n = g_new(NicOption, 1);
    *n = (NicOption){option_describe(option, arg), nic};
    g_ptr_array_add(o->nics, n);
    return true;
}
