/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network: clients that exchange Ethernet frames in pairs.  One of a pair is a device of the
 * guest, the other one a backend (net/user.c, net/stream.c, net/dgram.c).
 *
 * All of it is homed in one AioContext, the network thread's, which is made with the first
 * client: frames go from a socket to the guest's memory and back without a lock, and a page of
 * that memory that has to be waited for holds up neither the monitor nor a disk.  Functions
 * without a remark must be called there.
 *
 * A frame is one piece of memory of the host's: what a device sends has been copied out of the
 * guest's memory, where it might change.
 *
 * While the guest stands, devices take no frames and send none: see net_co_rest().
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <json-c/json_object.h>
#include "migration/vmstate.h"
#include "qapi/qapi-types-net.h"
#include "util/aio.h"

enum {
    NET_MAC_SIZE = 6,
    NET_HEADER_SIZE = 14,      /* bytes; shorter frames do not exist here, */
    NET_FRAME_MAX = 68 * 1024, /* nor do longer ones */
    NET_QUEUE_MAX = 256,       /* frames that wait for one client */
};

typedef struct NetClient NetClient;

typedef struct NetClientOps {
    const char *type; /* "user", "stream", "nic" */
    /* A frame from the peer; false: not now, net_client_ready() will tell when. */
    bool (*receive)(NetClient *nc, const uint8_t *frame, size_t len);
    /* All that was sent since net_send() returned false has been taken.  May be NULL. */
    void (*writable)(NetClient *nc);
    /* nc->link_down has changed.  May be NULL. */
    void (*link_changed)(NetClient *nc);
    /* The guest runs again, net_running() says so.  May be NULL. */
    void (*go)(NetClient *nc);
    /* The guest has come to rest.  May be NULL. */
    void (*rest)(NetClient *nc);
    /*
     * Loading the machine's state has ended: what was loaded counts, or what was before.  With
     * the context acquired, any thread, the guest stands.  May be NULL.
     */
    void (*load_ended)(NetClient *nc, bool loaded);
    /* What "info network" says behind the type, a new string. */
    char *(*describe)(NetClient *nc);
    /* Of devices: which frames are taken, a new object. */
    RxFilterInfo *(*rx_filter)(NetClient *nc);
    /* Of devices: asks the guest to tell the network where it is, if it can; mac: its address. */
    void (*announce)(NetClient *nc, uint8_t mac[NET_MAC_SIZE]);
    /* A backend's state, to be registered with instance; NULL: it has none.  Main thread. */
    void (*register_state)(NetClient *nc, VMStateRegistry *r, int instance);
    /* Frees nc, which has no peer any more.  NULL: the owner does that. */
    void (*free)(NetClient *nc);
} NetClientOps;

/* Embedded first in a client's own struct. */
struct NetClient {
    const NetClientOps *ops;
    char *name; /* constant */
    NetClient *peer;
    bool link_down;
    bool peer_waits; /* who sends to this client has been told to wait */
    GQueue waiting;  /* GBytes: frames for this client */
};

/* --- The thread ------------------------------------------------------------------------------ */

/* Makes the network thread unless it exists.  Main thread. */
bool coroutine_fn net_co_start(GError **errp);
/* NULL: there are no clients.  Any thread. */
AioContext *net_context(void);
/*
 * Moves the coroutine to the network thread; returns where it was, for net_co_leave().  NULL: it is
 * where it was, there are no clients.
 */
AioContext *coroutine_fn net_co_enter(void);
void coroutine_fn net_co_leave(AioContext *home);
/* For tests: ctx is the home of all clients from now on. */
void net_use_context(AioContext *ctx);
/* Ends the thread; there are no clients any more.  Main thread. */
void net_cleanup(void);

/* --- Running and standing still ---------------------------------------------------------------- */

/* Whether the guest runs.  Any thread. */
bool net_running(void);
/* The guest runs from now on: what has waited goes on.  Any thread. */
void net_go(void);
/* The guest has stopped.  wait: returns when no client works for it any more.  Any context. */
void coroutine_fn net_co_rest(bool wait);
/* MachineOps.load_ended.  Any thread, the guest stands. */
void net_load_ended(bool loaded);

/* --- Clients -------------------------------------------------------------------------------------- */

/* The program ends: nobody may be added any more. */
void net_end(void);
/* Whether somebody may be added: false once the program ends, and errp.  Any thread. */
bool net_is_open(GError **errp);
/* Fills in nc, which is zeroed, and adds it to the list. */
void net_client_init(NetClient *nc, const NetClientOps *ops, const char *name);
/* Parts it from its peer, whose link goes down; takes it off the list. */
void net_client_cleanup(NetClient *nc);
/* NULL if there is none. */
NetClient *net_client_find(const char *name);
bool net_client_is_nic(const NetClient *nc);
/* Calls fn for every client, in the order in which they were made. */
void net_client_for_each(void (*fn)(NetClient *nc, void *opaque), void *opaque);
/* The same for who is elsewhere. */
void coroutine_fn net_client_co_for_each(void (*fn)(NetClient *nc, void *opaque), void *opaque);
/* Neither has a peer. */
void net_connect(NetClient *a, NetClient *b);
/* Plugs the cable in or out; of a backend, also its device's. */
void net_client_set_link(NetClient *nc, bool up);

/*
 * Gives a frame to the peer.  It is taken in any case: without a link it is lost, as on a cable,
 * and so is what is no frame.
 * false: the peer is busy, and the frame has been copied to wait for it; send nothing more before
 * NetClientOps.writable.  Who sends on loses what is more than NET_QUEUE_MAX frames.
 */
bool net_send(NetClient *nc, const uint8_t *frame, size_t len);
/* nc may be able to receive again. */
void net_client_ready(NetClient *nc);
/* Forgets the frames that wait for nc. */
void net_client_purge(NetClient *nc);

/* "52:54:00:12:34:56", a new string. */
char *net_mac_text(const uint8_t mac[NET_MAC_SIZE]);
/* false: text is no such address, or one of a group. */
bool net_mac_parse(const char *text, uint8_t mac[NET_MAC_SIZE]);

/* --- Backends --------------------------------------------------------------------------------------- */

/* -netdev's argument as a tree for Netdev's visitor; a list's key may be given several times. */
json_object *netdev_tree(const char *text, bool *keyval, GError **errp);
/* Makes a backend; false and errp.  Main thread; also while the main loop runs. */
bool coroutine_fn netdev_co_add(const Netdev *netdev, GError **errp);
/* Removes all backends.  Main thread. */
void coroutine_fn netdev_co_remove_all(void);

#endif
