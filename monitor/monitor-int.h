/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions, shared by monitor.c and its two kinds, qmp-session.c and hmp-session.c.  A
 * port is a character device with a monitor on it; a session is one peer's conversation.
 * A session outlives its peer while a handler of it still runs.  Everything: main thread.
 */
#ifndef MONITOR_MONITOR_INT_H
#define MONITOR_MONITOR_INT_H

#include <json-c/json.h>

#include "monitor/chardev-int.h"
#include "util/co-lock.h"

/* What a session queues before it stops reading requests. */
#define MONITOR_QUEUE_HIGH (256 * 1024)
/* A session with more work than that lets others go on in between. */
#define MONITOR_SLICE_NS (1000 * 1000)
/* With that much unread an event finds no place: the client is given up. */
#define MONITOR_QUEUE_LIMIT (1024 * 1024)

/* How long the end of the program waits for clients to read. */
#define MONITOR_DRAIN_NS (1000 * 1000 * 1000LL)

typedef struct MonitorSession MonitorSession;
typedef struct MonitorPort MonitorPort;

typedef struct MonitorKind {
    MonitorSession *(*open)(MonitorPort *port, Chardev *chr);
    size_t (*can_receive)(MonitorSession *s);
    void (*receive)(MonitorSession *s, const uint8_t *buf, size_t len);
    void (*focus)(MonitorSession *s, bool in);
    /* The peer sends no more: when all that it has sent is dealt with, chardev_finish(). */
    void (*input_ended)(MonitorSession *s);
    /* The peer is gone, s->chr is NULL. */
    void (*closed)(MonitorSession *s);
    /* The last reference is gone. */
    void (*free)(MonitorSession *s);
} MonitorKind;

struct MonitorPort {
    const MonitorKind *kind;
    Chardev *chr;
    bool listener; /* sessions come with ports of their own */
    bool accepted; /* chr is a client of a listener and ends with its session */
    bool pretty, use_readline;
    MonitorSession *session;
};

struct MonitorSession {
    const MonitorKind *kind;
    Chardev *chr; /* NULL when the peer is gone */
    int refs;
    CoQueue room; /* coroutines that wait for the peer to read */
    int64_t turn_ns; /* when the session's coroutine was last given the main loop */
};

/* For MonitorKind.open: sets up the common part; one reference. */
void monitor_session_init(MonitorSession *s, const MonitorKind *kind, Chardev *chr);
MonitorSession *monitor_session_ref(MonitorSession *s);
void monitor_session_unref(MonitorSession *s);
/* Sends; dropped when the peer is gone. */
void monitor_session_write(MonitorSession *s, const char *buf, size_t len);
/* Returns when less than MONITOR_QUEUE_HIGH is queued, or the peer is gone. */
void coroutine_fn monitor_session_wait_for_room(MonitorSession *s);
/* The session's coroutine waits for input: yields until it is entered. */
void coroutine_fn monitor_session_wait_for_input(MonitorSession *s);
/*
 * Between two requests, or pieces of a long answer: if the session's coroutine has worked for
 * long without a break, other sessions get their turn first.
 */
void coroutine_fn monitor_session_give_way(MonitorSession *s);
/* Calls fn for every live session of the kind. */
void monitor_for_each_session(const MonitorKind *kind, void (*fn)(MonitorSession *s, void *opaque),
                              void *opaque);

extern const MonitorKind monitor_qmp, monitor_hmp;

/* --- QMP ------------------------------------------------------------------------------ */

/* Switches on what the client of the current request asked for.  False outside of one. */
bool qmp_session_set_capabilities(bool oob, bool concurrent);
/* A descriptor that the client of the current request has handed over, the caller's; or -1. */
int qmp_session_take_fd(void);
/*
 * The current request collects hmp's output: when the client is gone its reader ends.  NULL: no
 * more.
 */
void qmp_session_set_hmp(HMPSession *hmp);
/* Gives fd, which it takes, a name; -1: the client has handed over none. */
void monitor_name_fd(int fd, const char *fdname, GError **errp);
/* {"qemu": {...}, "package": ...} of the greeting. */
json_object *qmp_version_json(void);
/* Installs and removes the event sink. */
void qmp_events_init(void);
void qmp_events_cleanup(void);
/* Takes an event message (json_object) in the main thread: limits, then sends. */
void qmp_event_arrived(void *msg);
/* One event's text to every session that is past its negotiation.  Takes msg. */
void qmp_sessions_send_event(json_object *msg);

/* --- HMP ------------------------------------------------------------------------------ */

/* What is collected of the output where there is no peer that reads it as it comes. */
#define HMP_OUTPUT_MAX (16 * 1024 * 1024)

typedef struct Readline Readline;

struct HMPSession {
    MonitorSession *session; /* NULL: output is collected in out */
    Readline *readline;      /* NULL without */
    GString *out;
    void (*interrupt)(void *opaque); /* see hmp_set_interrupt() */
    void *interrupt_opaque;
    bool reader; /* see hmp_set_reader() */
    bool cut;    /* there was more output than is collected */
    bool gone;   /* nobody wants what is collected any more */
};

void hmp_set_tables(const HMPCommand *const *tables, int n);
/* Runs one line; what it printed is in s->out or on its way to the peer. */
void coroutine_fn hmp_run_line(HMPSession *s, const char *line);
/* Sends what is printed so far. */
void coroutine_fn hmp_flush(HMPSession *s);
/* Ends a handler whose output nobody gets. */
void hmp_end_reader(HMPSession *s);
/* Finds "quit", "q", "info status"; *rest is behind the name.  NULL if there is none. */
const HMPCommand *hmp_find_command(const char *line, const char **rest);
/* Calls fn for every command. */
void hmp_for_each_command(void (*fn)(const HMPCommand *cmd, void *opaque), void *opaque);
/*
 * Candidates for the last word of line, sorted: char *; if there are many, the first and the last
 * of them, and *more is how many are left out.  None if the user gives up.
 */
GPtrArray *coroutine_fn hmp_complete_line(HMPSession *s, const char *line, uint64_t *more);
/* The monitor's own commands. */
extern const HMPCommand hmp_own_commands[], hmp_chardev_commands[], hmp_trace_commands[];

#endif
