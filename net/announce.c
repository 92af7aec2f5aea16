/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * announce-self: tells switches where the guest's devices are, several times, because frames may be
 * lost and a new link takes its time.  Each time the device asks the guest to tell, if its driver can
 * do that, and a RARP frame (RFC 903) goes out in its name.  Coroutines in the main thread, which
 * visit the network thread.
 */
#include <string.h>
#include "net-int.h"
#include "qapi/qapi-commands-net.h"
#include "qapi/qapi-visit-net.h"

enum {
    FRAME_SIZE = 60, /* the shortest on Ethernet, without its checksum */
    RARP_SENDER = 22, RARP_TARGET = 32, /* where the hardware addresses are */
    MS = 1000 * 1000, /* ns */
};

/* One that is under way: on its coroutine's stack. */
typedef struct Announcement {
    const AnnounceParameters *p;
    CoSleep pause;
    bool ended; /* another takes its place, or the program ends */
} Announcement;

static GList *under_way;
static Coroutine *end_waiter; /* to be woken when there is none any more */

static void send_rarp(NetClient *nc, const uint8_t mac[NET_MAC_SIZE])
{
    static const uint8_t head[] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0x80, 0x35, /* to all: RARP */
        0, 1, 8, 0, NET_MAC_SIZE, 4, 0, 3, /* Ethernet, IPv4, who am I */
    };
    uint8_t frame[FRAME_SIZE] = { 0 };

    memcpy(frame, head, sizeof(head));
    memcpy(frame + NET_MAC_SIZE, mac, NET_MAC_SIZE);
    memcpy(frame + RARP_SENDER, mac, NET_MAC_SIZE);
    memcpy(frame + RARP_TARGET, mac, NET_MAC_SIZE);
    net_send(nc, frame, sizeof(frame));
}

/* Whether p speaks of the device. */
static bool is_meant(const AnnounceParameters *p, const char *name)
{
    for (const strList *l = p->interfaces; l; l = l->next) {
        if (!strcmp(l->value, name)) {
            return true;
        }
    }
    return !p->interfaces;
}

static void announce_client(NetClient *nc, void *opaque)
{
    uint8_t mac[NET_MAC_SIZE];

    if (net_client_is_nic(nc) && is_meant(opaque, nc->name)) {
        nc->ops->announce(nc, mac);
        send_rarp(nc, mac);
    }
}

/* ms from time number n, from 0 on, to the next: not so short that nobody else had a turn. */
static int64_t pause_ms(const AnnounceParameters *p, int64_t n)
{
    int64_t ms;

    if (__builtin_mul_overflow(n, p->step, &ms) || __builtin_add_overflow(ms, p->initial, &ms) ||
        ms < 0 || ms > p->max) {
        ms = p->max;
    }
    return CLAMP(ms, 1, INT64_MAX / MS);
}

static void coroutine_fn announce_entry(void *opaque)
{
    g_autoptr(AnnounceParameters) p = opaque;
    Announcement a = {.p = p};

    under_way = g_list_prepend(under_way, &a);
    for (int64_t n = 0; !a.ended && n < p->rounds; n++) {
        net_client_co_for_each(announce_client, p);
        if (!a.ended && n + 1 < p->rounds) {
            co_sleep_ns_wakeable(&a.pause, pause_ms(p, n) * MS);
        }
    }
    under_way = g_list_remove(under_way, &a);
    if (!under_way && end_waiter) {
        aio_co_wake(g_steal_pointer(&end_waiter));
    }
}

static void end(Announcement *a)
{
    a->ended = true;
    co_sleep_wake(&a->pause);
}

void coroutine_fn qmp_announce_self(AnnounceParameters *p, GError **errp)
{
    if (!net_context() || !net_is_open(errp)) {
        return;
    }
    for (GList *l = under_way; l; l = l->next) {
        Announcement *a = l->data;

        if (!g_strcmp0(a->p->id, p->id)) {
            end(a);
        }
    }
    aio_co_enter(main_aio_context(),
                 coroutine_create(announce_entry, qapi_AnnounceParameters_clone(p)));
}

void coroutine_fn net_co_end_announcing(void)
{
    for (GList *l = under_way; l; l = l->next) {
        end(l->data);
    }
    if (under_way) {
        end_waiter = coroutine_self();
        coroutine_yield();
    }
}
