/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backends by their options: -netdev and netdev_add, in words of the schema.  Main thread; a
 * backend is made and freed in the network thread.
 */
#include <string.h>
#include "qapi/error.h"
#include "qapi/json.h"
#include "qapi/keyval.h"
#include "net-int.h"

/* --- Text ---------------------------------------------------------------------------------------- */

/* Options that may be given several times, each a list of NetString. */
static const char *const lists[] = {"hostfwd", "guestfwd", "dnssearch"};

/* "hostfwd=a,hostfwd=b" is "hostfwd.0.str=a,hostfwd.1.str=b". */
static char *number_lists(const char *text)
{
    unsigned count[G_N_ELEMENTS(lists)] = {0};
    GString *out = g_string_new(NULL);

    while (*text) {
        size_t n = keyval_item_length(text), skip = 0;

        for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
            size_t len = strlen(lists[i]);

            if (n > len && !strncmp(text, lists[i], len) && text[len] == '=') {
                g_string_append_printf(out, "%s.%u.str", lists[i], count[i]++);
                skip = len;
            }
        }
        g_string_append_len(out, text + skip, n - skip);
        text += n;
        if (*text == ',') {
            g_string_append_c(out, *text++);
        }
    }
    return g_string_free(out, false);
}

json_object *netdev_tree(const char *text, bool *keyval, GError **errp)
{
    g_autofree char *numbered = NULL;

    *keyval = *text != '{';
    if (!*keyval) {
        return json_parse_text(text, strlen(text), errp);
    }
    numbered = number_lists(text);
    return keyval_parse(numbered, "type", errp);
}

/* --- Backends -------------------------------------------------------------------------------------- */

static bool coroutine_fn id_is_free(const char *id, GError **errp)
{
    AioContext *home = net_co_enter();
    bool is_free = !net_client_find(id);

    net_co_leave(home);
    if (!is_free) {
        error_setg(errp, "Duplicate ID '%s'", id);
    }
    return is_free;
}

bool coroutine_fn netdev_co_add(const Netdev *netdev, GError **errp)
{
    if (!net_co_start(errp) || !id_is_free(netdev->id, errp)) {
        return false;
    }
    switch (netdev->type) {
    case NETDEV_TYPE_USER:
        return net_user_co_new(netdev->id, &netdev->u.user, errp);
    case NETDEV_TYPE_STREAM:
        return net_stream_co_new(netdev->id, &netdev->u.stream, errp);
    case NETDEV_TYPE_DGRAM:
        return net_dgram_co_new(netdev->id, &netdev->u.dgram, errp);
    case NETDEV_TYPE__MAX:
        break;
    }
    g_assert_not_reached();
}

static void collect(NetClient *nc, void *opaque)
{
    if (nc->ops->free) {
        g_ptr_array_add(opaque, nc);
    }
}

void coroutine_fn netdev_co_remove_all(void)
{
    g_autoptr(GPtrArray) backends = g_ptr_array_new();
    AioContext *home;

    if (!net_context()) {
        return;
    }
    net_end();
    net_co_end_announcing();
    home = net_co_enter();
    net_client_for_each(collect, backends);
    for (guint i = 0; i < backends->len; i++) {
        NetClient *nc = backends->pdata[i];

        nc->ops->free(nc);
    }
    net_co_leave(home);
}
