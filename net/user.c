/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The backend "user": libslirp, which answers the guest's DHCP and DNS and makes sockets of this
 * process of the guest's connections.  Network thread, but for what is said.
 *
 * libslirp wants to be told, between two sleeps of its caller, which of its sockets are ready
 * (user_round()), and says then for which it waits and how long.  The sockets are put into an
 * epoll set, which is what the loop waits for; while nothing happens there is no round.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "qapi/error.h"
#include "net-int.h"

#define MS 1000000LL
/* What libslirp says if no connection has a timer: its caller's longest sleep. */
#define LONGEST_SLEEP_MS 1000
#define MAX_EVENTS 64
/* A state begins with the connections of guestfwd, which is not supported: with the end of them. */
#define NO_CONNECTION 0

/* A socket that libslirp waits for. */
typedef struct Watch {
    int fd, events; /* SLIRP_POLL_* */
} Watch;

typedef struct NetUser {
    NetClient nc;
    UserConfig *config;
    GPtrArray *forwards; /* HostForward */
    Slirp *slirp;
    Slirp *loaded; /* in place of slirp as soon as its load has ended well */
    bool load_done;
    AioBH *round;
    AioTimer *timer;
    int epoll_fd;
    GArray *watches;     /* Watch, by the number that libslirp knows */
    GHashTable *watched; /* descriptor -> events: what the set has */
    GHashTable *ready;   /* descriptor -> events */
    bool armed;          /* the loop waits for the set */
    bool blocked;        /* the guest's device takes no more */
    /* machine state */
    uint32_t state_version, state_len;
    uint8_t *state;
} NetUser;

static NetUser *to_user(NetClient *nc)
{
    return (NetUser *)nc;
}

/* --- The set ------------------------------------------------------------------------------------- */

static const struct {
    int slirp;
    uint32_t epoll;
} event_bits[] = {
    {SLIRP_POLL_IN, EPOLLIN},   {SLIRP_POLL_OUT, EPOLLOUT}, {SLIRP_POLL_PRI, EPOLLPRI},
    {SLIRP_POLL_ERR, EPOLLERR}, {SLIRP_POLL_HUP, EPOLLHUP},
};

static uint32_t to_epoll(int events)
{
    uint32_t bits = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(event_bits); i++) {
        bits |= events & event_bits[i].slirp ? event_bits[i].epoll : 0;
    }
    return bits;
}

static int from_epoll(uint32_t bits)
{
    int events = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(event_bits); i++) {
        events |= bits & event_bits[i].epoll ? event_bits[i].slirp : 0;
    }
    return events;
}

/* A descriptor may have been closed, and its number used again, since it was put in. */
static void watch(NetUser *u, int fd, int events)
{
    struct epoll_event e = {.events = to_epoll(events), .data.fd = fd};

    if (epoll_ctl(u->epoll_fd, EPOLL_CTL_MOD, fd, &e) < 0 && errno == ENOENT) {
        epoll_ctl(u->epoll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

/* The set becomes what libslirp has just said. */
static void update_set(NetUser *u)
{
    GHashTable *wanted = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer fd;

    for (guint i = 0; i < u->watches->len; i++) {
        const Watch *w = &g_array_index(u->watches, Watch, i);

        g_hash_table_insert(wanted, GINT_TO_POINTER(w->fd), GINT_TO_POINTER(w->events));
        if (g_hash_table_lookup(u->watched, GINT_TO_POINTER(w->fd)) !=
            GINT_TO_POINTER(w->events)) {
            watch(u, w->fd, w->events);
        }
    }
    g_hash_table_iter_init(&iter, u->watched);
    while (g_hash_table_iter_next(&iter, &fd, NULL)) {
        if (!g_hash_table_contains(wanted, fd)) {
            epoll_ctl(u->epoll_fd, EPOLL_CTL_DEL, GPOINTER_TO_INT(fd), NULL);
        }
    }
    g_hash_table_unref(u->watched);
    u->watched = wanted;
}

static void schedule_round(void *opaque)
{
    aio_bh_schedule(((NetUser *)opaque)->round);
}

static int add_poll(int fd, int events, void *opaque)
{
    NetUser *u = opaque;
    Watch w = {fd, events};

    g_array_append_val(u->watches, w);
    return u->watches->len - 1;
}

/* Asks libslirp what to wait for, and has the loop wait for it. */
static void arm(NetUser *u)
{
    bool active = net_running() && !u->blocked;
    uint32_t timeout = UINT32_MAX;

    g_array_set_size(u->watches, 0);
    if (active) {
        slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
        update_set(u);
    }
    if (active != u->armed) {
        aio_set_fd_handler(net_context(), u->epoll_fd, active ? schedule_round : NULL, NULL, u);
        u->armed = active;
    }
    if (timeout < LONGEST_SLEEP_MS) {
        aio_timer_mod(u->timer, clock_now_ns() + timeout * MS);
    } else {
        aio_timer_del(u->timer);
    }
}

static int get_events(int index, void *opaque)
{
    NetUser *u = opaque;
    int fd;

    if (index < 0 || (guint)index >= u->watches->len) {
        return 0;
    }
    fd = g_array_index(u->watches, Watch, index).fd;
    return GPOINTER_TO_INT(g_hash_table_lookup(u->ready, GINT_TO_POINTER(fd)));
}

static void look_who_is_ready(NetUser *u)
{
    struct epoll_event e[MAX_EVENTS];
    int n = epoll_wait(u->epoll_fd, e, MAX_EVENTS, 0);

    g_hash_table_remove_all(u->ready);
    for (int i = 0; i < n; i++) {
        g_hash_table_insert(u->ready, GINT_TO_POINTER(e[i].data.fd),
                            GINT_TO_POINTER(from_epoll(e[i].events)));
    }
}

static void take_loaded(NetUser *u);

static void user_round(void *opaque)
{
    NetUser *u = opaque;

    if (u->load_done) {
        take_loaded(u);
    }
    if (u->armed && net_running()) {
        look_who_is_ready(u);
        slirp_pollfds_poll(u->slirp, 0, get_events, u);
    }
    arm(u);
}

/* --- What libslirp asks for --------------------------------------------------------------------- */

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
    NetUser *u = opaque;

    if (!net_send(&u->nc, buf, len)) {
        u->blocked = true;
        schedule_round(u); /* for it to stop reading */
    }
    return len;
}

static void guest_error(const char *message, void *opaque)
{
    /* The guest may send what it likes: nobody is told. */
}

static int64_t now_ns(void *opaque)
{
    return clock_now_ns();
}

typedef struct UserTimer {
    AioTimer *timer;
    SlirpTimerCb cb;
    void *cb_opaque;
    NetUser *u;
} UserTimer;

static void timer_fired(void *opaque)
{
    UserTimer *t = opaque;

    t->cb(t->cb_opaque);
    schedule_round(t->u);
}

static void *timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
    UserTimer *t = g_new0(UserTimer, 1);

    *t = (UserTimer){.cb = cb, .cb_opaque = cb_opaque, .u = opaque};
    t->timer = aio_timer_new(net_context(), timer_fired, t);
    return t;
}

static void timer_free(void *timer, void *opaque)
{
    UserTimer *t = timer;

    aio_timer_free(t->timer);
    g_free(t);
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    aio_timer_mod(((UserTimer *)timer)->timer, expire_ms * MS);
}

/* A socket is new or goes: what the set has under its number is not it. */
static void forget_fd(int fd, void *opaque)
{
    NetUser *u = opaque;

    epoll_ctl(u->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    g_hash_table_remove(u->watched, GINT_TO_POINTER(fd));
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = now_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = forget_fd,
    .unregister_poll_fd = forget_fd,
    .notify = schedule_round,
};

/* --- Client -------------------------------------------------------------------------------------- */

static bool user_receive(NetClient *nc, const uint8_t *frame, size_t len)
{
    NetUser *u = to_user(nc);

    slirp_input(u->slirp, frame, len);
    schedule_round(u);
    return true;
}

static void user_writable(NetClient *nc)
{
    NetUser *u = to_user(nc);

    u->blocked = false;
    schedule_round(u);
}

static void user_go(NetClient *nc)
{
    schedule_round(to_user(nc));
}

static char *user_describe(NetClient *nc)
{
    return user_config_text(to_user(nc)->config);
}

/* --- Forwarding ------------------------------------------------------------------------------------ */

static bool is_same(const HostForward *a, const HostForward *b)
{
    return a->is_udp == b->is_udp && a->host_port == b->host_port &&
           a->host_addr.s_addr == b->host_addr.s_addr;
}

static bool add_to_slirp(Slirp *slirp, const HostForward *f)
{
    return slirp_add_hostfwd(slirp, f->is_udp, f->host_addr, f->host_port, f->guest_addr,
                             f->guest_port) == 0;
}

bool net_client_is_user(const NetClient *nc)
{
    return nc->ops->receive == user_receive;
}

bool net_user_forward(NetClient *nc, const char *rule, GError **errp)
{
    NetUser *u = to_user(nc);
    HostForward f;

    if (!host_forward_parse(rule, &f, errp)) {
        return false;
    }
    if (!add_to_slirp(u->slirp, &f)) {
        error_setg(errp, "Could not set up host forwarding rule '%s'", rule);
        return false;
    }
    g_ptr_array_add(u->forwards, g_memdup2(&f, sizeof(f)));
    schedule_round(u);
    return true;
}

bool net_user_remove_forward(NetClient *nc, const HostForward *f)
{
    NetUser *u = to_user(nc);

    for (guint i = 0; i < u->forwards->len; i++) {
        if (is_same(u->forwards->pdata[i], f)) {
            g_ptr_array_remove_index(u->forwards, i);
            break;
        }
    }
    schedule_round(u);
    return slirp_remove_hostfwd(u->slirp, f->is_udp, f->host_addr, f->host_port) == 0;
}

char *net_user_connections(NetClient *nc)
{
    return slirp_connection_info(to_user(nc)->slirp);
}

/* --- Machine state ----------------------------------------------------------------------------------- */

/*
 * What libslirp saves is who has which address, and the like; not connections, which belong to this
 * process.  A machine that goes on from another state gets a new libslirp: its connections are
 * reset when it uses them.  To leave them would be worse: one that has moved on since would lose
 * bytes, or get some twice, and nobody would notice.
 */
static void take_loaded(NetUser *u)
{
    u->load_done = false;
    slirp_cleanup(u->slirp);
    u->slirp = g_steal_pointer(&u->loaded);
    for (guint i = 0; i < u->forwards->len; i++) {
        const HostForward *f = u->forwards->pdata[i];

        if (!add_to_slirp(u->slirp, f)) {
            g_printerr("%s: warning: netdev %s: port %d is not forwarded any more\n",
                       g_get_prgname(), u->nc.name, f->host_port);
        }
    }
}

static void user_load_ended(NetClient *nc, bool loaded)
{
    NetUser *u = to_user(nc);

    if (loaded && u->loaded) {
        u->load_done = true;
        schedule_round(u);
    } else if (u->loaded) {
        slirp_cleanup(g_steal_pointer(&u->loaded));
    }
}

static ssize_t state_write(const void *buf, size_t len, void *opaque)
{
    g_byte_array_append(opaque, buf, len);
    return len;
}

static bool user_pre_save(void *opaque, GError **errp)
{
    NetUser *u = opaque;
    GByteArray *bytes = g_byte_array_new();

    aio_context_acquire(net_context());
    slirp_state_save(u->load_done ? u->loaded : u->slirp, state_write, bytes);
    aio_context_release(net_context());
    g_free(u->state);
    u->state_version = slirp_state_version();
    u->state_len = bytes->len;
    u->state = g_byte_array_free(bytes, false);
    return true;
}

typedef struct StateReader {
    const uint8_t *data;
    size_t left;
    bool ended; /* more was wanted than there is */
} StateReader;

/* All or nothing: libslirp takes a short read for an error. */
static ssize_t state_read(void *buf, size_t len, void *opaque)
{
    StateReader *r = opaque;

    if (len > r->left) {
        memset(buf, 0, len);
        r->ended = true;
        return 0;
    }
    memcpy(buf, r->data, len);
    r->data += len;
    r->left -= len;
    return len;
}

static bool user_post_load(void *opaque, int version, GError **errp)
{
    NetUser *u = opaque;
    StateReader r = {u->state, u->state_len, false};
    bool ok;

    if (u->state_version > (uint32_t)slirp_state_version()) {
        error_setg(errp, "slirp: the state is of version %u, this libslirp knows %d",
                   u->state_version, slirp_state_version());
        return false;
    }
    if (u->state_len == 0 || u->state[0] != NO_CONNECTION) {
        error_setg(errp, "slirp: the state has forwarded connections, which are not supported");
        return false;
    }
    aio_context_acquire(net_context());
    if (u->loaded) {
        slirp_cleanup(u->loaded);
    }
    u->load_done = false;
    u->loaded = slirp_new(&u->config->slirp, &callbacks, u);
    ok = slirp_state_load(u->loaded, u->state_version, state_read, &r) >= 0 && !r.ended &&
         r.left == 0;
    aio_context_release(net_context());
    if (!ok) {
        error_setg(errp, "slirp: the state is damaged");
    }
    return ok;
}

static const VMStateField slirp_fields[] = {
    VMSTATE_UINT32(state_version, NetUser),
    VMSTATE_UINT32(state_len, NetUser),
    VMSTATE_VBUFFER(state, NetUser),
    VMSTATE_END,
};

static const VMStateDescription vmstate_slirp = {
    .name = "slirp",
    .version = 1,
    .minimum_version = 1,
    .pre_save = user_pre_save,
    .post_load = user_post_load,
    .fields = slirp_fields,
};

static void user_register_state(NetClient *nc, VMStateRegistry *r, int instance)
{
    vmstate_register(r, "slirp", instance, &vmstate_slirp, to_user(nc));
}

/* --- Life ---------------------------------------------------------------------------------------------- */

static void user_free(NetClient *nc)
{
    NetUser *u = to_user(nc);

    if (u->armed) {
        aio_set_fd_handler(net_context(), u->epoll_fd, NULL, NULL, u);
    }
    if (u->loaded) {
        slirp_cleanup(u->loaded);
    }
    if (u->slirp) {
        slirp_cleanup(u->slirp);
    }
    net_client_cleanup(nc);
    aio_bh_delete(u->round);
    aio_timer_free(u->timer);
    close(u->epoll_fd);
    user_config_free(u->config);
    g_ptr_array_unref(u->forwards);
    g_array_unref(u->watches);
    g_hash_table_unref(u->watched);
    g_hash_table_unref(u->ready);
    g_free(u->state);
    g_free(u);
}

static const NetClientOps user_ops = {
    .type = "user",
    .receive = user_receive,
    .writable = user_writable,
    .go = user_go,
    .rest = user_go,
    .load_ended = user_load_ended,
    .describe = user_describe,
    .register_state = user_register_state,
    .free = user_free,
};

/* In the network thread.  Takes config unless it fails. */
static NetUser *user_new(const char *id, UserConfig *config, GError **errp)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    NetUser *u;

    if (fd < 0) {
        error_setg_errno(errp, errno, "netdev %s", id);
        return NULL;
    }
    u = g_new0(NetUser, 1);
    u->config = config;
    u->forwards = g_ptr_array_new_with_free_func(g_free);
    u->epoll_fd = fd;
    u->round = aio_bh_new(net_context(), user_round, u);
    u->timer = aio_timer_new(net_context(), schedule_round, u);
    u->watches = g_array_new(false, false, sizeof(Watch));
    u->watched = g_hash_table_new(NULL, NULL);
    u->ready = g_hash_table_new(NULL, NULL);
    net_client_init(&u->nc, &user_ops, id);
    u->slirp = slirp_new(&config->slirp, &callbacks, u);
    return u;
}

static bool start(NetUser *u, GError **errp)
{
    if (!u->slirp) {
        error_setg(errp, "libslirp does not take these options");
        return false;
    }
    for (NetStringList *e = u->config->options->hostfwd; e; e = e->next) {
        if (!net_user_forward(&u->nc, e->value->str, errp)) {
            return false;
        }
    }
    schedule_round(u);
    return true;
}

bool coroutine_fn net_user_co_new(const char *id, const NetdevUserOptions *options, GError **errp)
{
    UserConfig *config = user_config_new(options, errp);
    AioContext *home;
    bool ok = false;
    NetUser *u;

    if (!config) {
        return false;
    }
    home = net_co_enter();
    u = net_is_open(errp) ? user_new(id, config, errp) : NULL;
    if (!u) {
        user_config_free(config);
    } else if (start(u, errp)) {
        ok = true;
    } else {
        user_free(&u->nc);
    }
    net_co_leave(home);
    return ok;
}
