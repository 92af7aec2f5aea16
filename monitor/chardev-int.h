/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between chardev.c (front half: queue, flow control, attachment) and the back ends
 * char-*.c, and what the monitor's sessions use beyond the public interface.
 */
#ifndef MONITOR_CHARDEV_INT_H
#define MONITOR_CHARDEV_INT_H

#include <pthread.h>
#include <termios.h>

#include "monitor/chardev-opts.h"
#include "monitor/monitor.h"
#include "util/aio.h"
#include "util/chardev.h"

/* chardev_write() queues at most this much behind what the peer has not taken. */
#define CHARDEV_QUEUE_MAX (64 * 1024)
/* Descriptors that a peer may have handed over without a command having taken them. */
#define CHARDEV_PASSED_MAX 16

typedef struct ChardevDriver {
    const char *name;
    size_t instance_size; /* of a struct that starts with a Chardev */
    const char *const *options; /* beside the common ones; NULL-terminated */
    /* Of a new instance, which is all zeroes: descriptors become -1. */
    void (*init)(Chardev *chr);
    /*
     * All that may take time: files are opened, names resolved, peers connected.  At start in
     * the main thread, later in a worker: touches nothing but the instance and opts.
     */
    bool (*prepare)(Chardev *chr, ChardevOpts *opts, GError **errp);
    /* Goes to work with what prepare() has made; main thread. */
    bool (*open)(Chardev *chr, ChardevOpts *opts, GError **errp);
    /* Releases all but what chardev.c owns.  The front end is detached already. */
    void (*close)(Chardev *chr);
    /* The peer is gone, the front end knows, chr->in_fd and out_fd are still open. */
    void (*peer_lost)(Chardev *chr);
    /* Instead of handing what was read, not more than it takes, to the front end. */
    void (*received)(Chardev *chr, const uint8_t *buf, size_t len);
    /* What is sent is one datagram, and what cannot be sent is lost. */
    bool datagrams;
    /* Instead of reading in_fd: the front end may take more now.  Main thread. */
    void (*accept_input)(Chardev *chr);
    /* End of input leaves the output usable (stdio). */
    bool keeps_output;
    /* A front end came (or went).  Main thread. */
    void (*attached)(Chardev *chr);
    /* Instead of writing to out_fd: takes all of it.  Under the lock, any thread. */
    void (*sink)(Chardev *chr, const uint8_t *buf, size_t len);
    /* The file that sink() leaves to workers, char-log.h; or NULL.  Any thread. */
    struct CharLog *(*written)(Chardev *chr);
    /* Whether a front end uses it, where ops does not tell. */
    bool (*has_fronts)(Chardev *chr);
    /* Who looks the device up by its id gets this instead. */
    Chardev *(*find)(Chardev *chr);
} ChardevDriver;

/*
 * Puts something of its own between the bytes that go out, as telnet does.  Of buf, which follows the
 * byte last and is not empty, it returns how many bytes, at least one, go out unchanged, and adds to
 * before what goes out in front of them.  It may be asked more than once.  Under the lock, any thread.
 */
typedef struct ChardevInsert {
    size_t len;
    char text[24];
} ChardevInsert;
typedef enum { CHARDEV_FILTER_STAMPS, CHARDEV_FILTER_LINE, CHARDEV_FILTERS } ChardevFilterKind;
typedef size_t ChardevFilter(void *opaque, uint8_t last, const uint8_t *buf, size_t len,
                             ChardevInsert *before);

typedef struct ByteQueue {
    uint8_t *data;
    size_t head, len, capacity;
} ByteQueue;

struct Chardev {
    const ChardevDriver *backend;
    char *label, *filename;
    int refs;
    bool closed;      /* chardev_close() was called */
    bool opening;     /* registered for its label's sake, not yet at work */
    Chardev *through; /* output goes to this one's queue (a multiplexer's front) */
    struct CharLog *log; /* gets a copy of it; NULL: none */

    /* Main thread. */
    const ChardevFrontOps *ops;
    void *opaque;
    int in_fd;
    bool reading, writing; /* which fd handlers are installed */
    int passed_fds[CHARDEV_PASSED_MAX]; /* came with the peer's bytes, nobody has them yet */
    int n_passed;
    AioBH *kick;           /* work that another thread leaves to the main thread */

    /* Atomic. */
    bool short_write;  /* the front end waits for writable() */
    bool input_wanted; /* chardev_accept_input() was called */

    /* Leaf; guards what follows.  connected and out_fd change in the main thread only. */
    pthread_mutex_t lock;
    bool connected;
    bool out_is_socket;
    bool broken;       /* writing failed: to be closed by the main thread */
    bool finishing;    /* to be closed when nothing is queued any more */
    int out_fd;
    int64_t last_flush_ns;
    ChardevFilter *filter[CHARDEV_FILTERS]; /* or NULL */
    void *filter_opaque[CHARDEV_FILTERS];
    uint8_t filtered; /* the last byte that has passed them, at first 0 */
    ByteQueue out; /* its length is atomic: looked at without the lock, too */
};

/* Makes a Chardev of the back end without opening it.  The caller owns one reference. */
Chardev *chardev_alloc(const ChardevDriver *backend, const char *label);
/* For a new device: takes the reference to log (char-log.h, or NULL).  Main thread. */
void chardev_set_log(Chardev *chr, struct CharLog *log);
Chardev *chardev_ref(Chardev *chr);
void chardev_unref(Chardev *chr);
/*
 * The files that workers write for chr, to wait for when it is closed: who has the answer to a
 * command that closes a device finds them complete.
 */
typedef struct ChardevFiles {
    struct CharLog *file[2];
} ChardevFiles;
ChardevFiles chardev_files(Chardev *chr);
/* Returns when they have all that was written to the device, and gives them up. */
void coroutine_fn chardev_files_co_wait(ChardevFiles *f);
/* Adds a device to those that chardev_find() and chardev_cleanup() know. */
void chardev_register(Chardev *chr);
/* The devices in the order of their making; NULL behind the last. */
Chardev *chardev_by_index(unsigned i);
/* The device itself, also of a multiplexer; NULL if there is none. */
Chardev *chardev_find_device(const char *label);
/* Whether a device or a monitor uses it. */
bool chardev_is_busy(Chardev *chr);
/* Closes a device that was registered and gives it up. */
void chardev_unregister(Chardev *chr);
/*
 * Puts an opened device of the same label, the caller's, in the place of a registered one:
 * in the table and under the front end.  The old one is closed.
 */
void chardev_replace(Chardev *old, Chardev *chr);
/*
 * A server's default is to wait for its first client: not where a monitor would stand still.
 * false and errp if opts ask for it.
 */
bool chardev_opts_forbid_wait(ChardevOpts *opts, GError **errp);
#define CHARDEV_NO_WAIT "'wait' is for -chardev only: the monitor does not wait for a client"
/* Opens what the table says, and registers it; label is its id. */
Chardev *chardev_new_from_table(const char *label, ChardevOpts *opts, GError **errp);
/* The same in a running VM: what takes time is done in a worker. */
Chardev *coroutine_fn chardev_co_new_from_table(const char *label, ChardevOpts *opts, GError **errp);
/* The same without registering it: for chardev_replace().  The caller owns it. */
Chardev *coroutine_fn chardev_co_new_unregistered(const char *label, ChardevOpts *opts,
                                                  GError **errp);
/* Whether there is such a back end, and it has all these options; else errp. */
bool chardev_opts_check_backend(const ChardevOpts *opts, GError **errp);
/* What a short form says, but not "chardev:ID"; label becomes the id.  NULL and errp. */
ChardevOptions *chardev_options_from_spec(const char *label, const char *spec, GError **errp);
/* What the table says, its id with it, as the schema has it; NULL and errp. */
ChardevOptions *chardev_options_from_table(ChardevOpts *opts, GError **errp);
/* chardev_new_from_options() in a running VM, where nothing waits for a first client. */
Chardev *coroutine_fn chardev_co_new_from_options(const ChardevOptions *options, GError **errp);
/* chardev_new_from_opts() in a running VM, where nothing waits for a first client. */
Chardev *coroutine_fn chardev_co_new_from_opts(const char *opts, GError **errp);
/* Whether a device has the label or is about to. */
bool chardev_label_in_use(const char *label);
/* Waits, at the end of the program, until the peer has taken what is queued, or it is until_ns. */
void chardev_drain(Chardev *chr, int64_t until_ns);
/* Closes for good; what is queued is sent as far as the peer takes it at once. */
void chardev_close(Chardev *chr);
void chardev_set_filename(Chardev *chr, char *filename);
/* What goes out passes filter from now on, after those of lower kinds; NULL: no more. */
void chardev_set_filter(Chardev *chr, ChardevFilterKind kind, ChardevFilter *filter, void *opaque);

/* Back end: there is a peer; its descriptors (-1: none) become non-blocking, chr's. */
void chardev_peer_opened(Chardev *chr, int in_fd, int out_fd, bool is_socket);
/* Back end: there is none any more. */
void chardev_peer_lost(Chardev *chr);
/* Gives up the connection without telling the front end; returns the descriptor. */
int chardev_steal_fd(Chardev *chr);

/* The first descriptor that the peer has handed over (SCM_RIGHTS), the caller's; or -1. */
int chardev_take_passed_fd(Chardev *chr);

/* Back end without descriptors: what the front end takes, and handing it over. */
size_t chardev_front_can_receive(Chardev *chr);
void chardev_front_receive(Chardev *chr, const uint8_t *buf, size_t len);
void chardev_front_event(Chardev *chr, ChardevEvent event);

/* Sessions: as chardev_write() without the bound; the caller looks at the queue. */
void chardev_write_all(Chardev *chr, const void *buf, size_t len);
/* Bytes queued. */
size_t chardev_pending(Chardev *chr);
/* Asks for writable() when the queue is short again. */
void chardev_want_writable(Chardev *chr);
/* Cuts the connection soon: event(CHARDEV_CLOSED) comes from the main loop. */
void chardev_disconnect(Chardev *chr);

/* A listening socket: accept(opaque, peer) gets each client as a Chardev of its own. */
typedef void ChardevAccept(void *opaque, Chardev *peer);
bool chardev_is_listener(Chardev *chr);
/* false if a front end or another acceptor is there. */
bool chardev_socket_set_accept(Chardev *chr, ChardevAccept *accept, void *opaque);

extern const ChardevDriver chardev_socket, chardev_stdio, chardev_file, chardev_pipe,
    chardev_pty, chardev_null, chardev_mux, chardev_ringbuf, chardev_memory, chardev_udp,
    chardev_serial;

/*
 * Of a pseudo-terminal, or a multiplexer on one: what its user is told, a new string; NULL of
 * other devices.
 */
char *chardev_pty_message(Chardev *chr);

/* Only for the two last. */
bool chardev_is_ringbuf(Chardev *chr);
/* Takes at most len bytes out; returns how many. */
size_t chardev_ringbuf_read(Chardev *chr, uint8_t *buf, size_t len);
size_t chardev_ringbuf_used(Chardev *chr);

/*
 * Puts a new multiplexer on below, which is registered and has no front end.  Each
 * chardev_find() of its label makes one more front.
 */
void chardev_mux_put_on(Chardev *mux, Chardev *below);
bool chardev_is_mux(Chardev *chr);
/*
 * A front of a multiplexer, which owns it; detaching gives it back.  Input goes to the front
 * attached last that takes the focus.
 */
Chardev *chardev_mux_front(Chardev *mux, bool takes_focus);
bool chardev_is_mux_front(Chardev *chr);
/* For the multiplexer: tells the front end that the queue below has room. */
void chardev_front_writable(Chardev *chr);

#endif
