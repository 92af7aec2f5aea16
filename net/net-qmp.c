/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about links and filters.  Coroutines of a session, which visit the network thread. */
#include "net/net.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-net.h"
#include "qapi/util.h"

void coroutine_fn qmp_set_link(const char *name, bool up, GError **errp)
{
    AioContext *home = net_co_enter();
    NetClient *nc = NULL;

    if (home) {
        nc = net_client_find(name);
        if (nc) {
            net_client_set_link(nc, up);
        }
        net_co_leave(home);
    }
    if (!nc) {
        error_set_class(errp, QAPI_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", name);
    }
}

typedef struct FilterArgs {
    const char *name;
    RxFilterInfoList *list, **tail;
    bool found;
} FilterArgs;

static void add_filter(NetClient *nc, void *opaque)
{
    FilterArgs *a = opaque;

    if (a->name && g_strcmp0(a->name, nc->name)) {
        return;
    }
    a->found = true;
    if (net_client_is_nic(nc)) {
        QAPI_LIST_APPEND(a->tail, nc->ops->rx_filter(nc));
    }
}

RxFilterInfoList *coroutine_fn qmp_query_rx_filter(const char *name, GError **errp)
{
    FilterArgs a = {.name = name};

    a.tail = &a.list;
    net_client_co_for_each(add_filter, &a);
    if (name && !a.found) {
        error_setg(errp, "invalid net client name: %s", name);
    } else if (name && !a.list) {
        error_setg(errp, "net client(%s) isn't a NIC", name);
    }
    return a.list;
}
