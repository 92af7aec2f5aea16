/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QMP session: one coroutine that takes a request, runs its handler, writes the reply,
 * takes the next.  A handler that yields holds up this session only, and not even that for
 * out-of-band requests, which get a coroutine of their own as soon as they are read, as do
 * requests with an id once the client has switched on "concurrent".
 *
 * Bounds: QUEUE_MAX requests read ahead, together at most about one of the largest size, then
 * input is left in the socket; BESIDE_MAX with coroutines of their own, further ones take their
 * turn; output beyond MONITOR_QUEUE_HIGH stops the session until the client reads.  Requests
 * beside the session's coroutine and those out of band are counted apart, so that the former
 * cannot keep the latter waiting.  Main thread.
 */
#include <string.h>

#include "monitor/monitor-int.h"
#include "monitor/trace.h"
#include "qapi/error.h"
#include "qapi/json-stream.h"
#include "qapi/json-write.h"
#include "qapi/qmp.h"

#define QUEUE_MAX 8
#define BESIDE_MAX 64
#define TOKENS_MAX JSON_STREAM_MAX_TOKENS
#define READ_MAX (4 * 1024)

/* Who runs a request. */
typedef enum QmpLane {
    LANE_SESSION, /* the session's coroutine, in order */
    LANE_BESIDE,  /* one of its own: "concurrent" */
    LANE_OOB,     /* one of its own: "exec-oob" */
    LANE__MAX,
} QmpLane;

/* Requests of one lane; those of LANE_SESSION wait in the queue. */
typedef struct LaneLoad {
    unsigned requests;
    size_t tokens; /* what they hold in memory, measured in their text */
} LaneLoad;

typedef struct QmpSession QmpSession;

/* A message from the client, later its execution. */
typedef struct QmpRequest {
    QmpSession *session;
    QmpLane lane;
    size_t tokens;
    json_object *obj; /* owned */
    GError *err;      /* instead: the text was no JSON */
    Coroutine *co;
    struct QmpRequest *next_running;
    HMPSession *hmp; /* human-monitor-command's, while it runs */

    /* Borrowed from obj. */
    const char *command;
    json_object *args, *id;
    bool has_id, is_oob;
} QmpRequest;

struct QmpSession {
    MonitorSession parent;
    bool pretty;
    bool negotiated, oob, concurrent;
    bool idle;        /* co waits for a request */
    bool input_ended; /* the client sends no more, and waits for its answers */
    LaneLoad load[LANE__MAX];
    Coroutine *co;
    JSONStream in;
    GByteArray *rest; /* read, but there was no room in the queue */
    GQueue queue;
};

static QmpRequest *running; /* of all sessions */

/* --- Replies ------------------------------------------------------------------------- */

/* Where replies are put together; never used across a yield. */
static GString *scratch;

static GString *reply_begin(void)
{
    if (!scratch || scratch->allocated_len > 64 * 1024) {
        if (scratch) {
            g_string_free(scratch, true);
        }
        scratch = g_string_sized_new(512);
    }
    g_string_truncate(scratch, 0);
    return scratch;
}

/* Text over lines with the ends that a terminal needs. */
static GString *with_returns(const GString *text)
{
    GString *lines = g_string_sized_new(text->len + text->len / 8);
    const char *p = text->str, *end = p + text->len, *feed;

    while ((feed = memchr(p, '\n', end - p))) {
        g_string_append_len(lines, p, feed - p);
        if (feed == text->str || feed[-1] != '\r') {
            g_string_append_c(lines, '\r');
        }
        g_string_append_c(lines, '\n');
        p = feed + 1;
    }
    return g_string_append_len(lines, p, end - p);
}

static void send_text(QmpSession *s, GString *text)
{
    g_string_append_len(text, "\r\n", 2);
    if (s->pretty) {
        g_autoptr(GString) lines = with_returns(text);

        monitor_session_write(&s->parent, lines->str, lines->len);
    } else {
        monitor_session_write(&s->parent, text->str, text->len);
    }
}

/* Appends one member: first says whether a comma is due. */
static void put_member(QmpSession *s, GString *out, bool first, const char *key)
{
    if (!first) {
        g_string_append(out, s->pretty ? "," : ", ");
    }
    json_write_indent(out, s->pretty, 1);
    g_string_append_printf(out, "\"%s\": ", key);
}

/*
 * The schema never changes and is large: its text is made once in each form.  Recognised by the
 * object, which the command returns again and again.
 */
static void put_return_value(QmpSession *s, GString *out, const QmpRequest *req,
                             json_object *value)
{
    static struct {
        json_object *value;
        GString *text;
    } known[2]; /* by pretty */
    bool form = s->pretty;

    if (strcmp(req->command, "query-qmp-schema")) {
        json_write_at(out, value, s->pretty, 1);
        return;
    }
    if (known[form].value != value) {
        json_object_put(known[form].value);
        known[form].value = json_object_get(value);
        known[form].text = known[form].text ? g_string_truncate(known[form].text, 0)
                                            : g_string_new(NULL);
        json_write_at(known[form].text, value, s->pretty, 1);
    }
    g_string_append_len(out, known[form].text->str, known[form].text->len);
}

static void send_return(const QmpRequest *req, json_object *value)
{
    QmpSession *s = req->session;
    GString *out = reply_begin();

    g_string_append_c(out, '{');
    put_member(s, out, true, "return");
    put_return_value(s, out, req, value);
    if (req->has_id) {
        put_member(s, out, false, "id");
        json_write_at(out, req->id, s->pretty, 1);
    }
    json_write_indent(out, s->pretty, 0);
    g_string_append_c(out, '}');
    send_text(s, out);
}

static void send_error(const QmpRequest *req, const GError *err)
{
    QmpSession *s = req->session;
    json_object *value = qmp_error_to_json(err);
    GString *out = reply_begin();

    g_string_append_c(out, '{');
    if (req->has_id) {
        put_member(s, out, true, "id");
        json_write_at(out, req->id, s->pretty, 1);
    }
    put_member(s, out, !req->has_id, "error");
    json_write_at(out, value, s->pretty, 1);
    json_write_indent(out, s->pretty, 0);
    g_string_append_c(out, '}');
    json_object_put(value);
    send_text(s, out);
}

/* --- Requests ------------------------------------------------------------------------ */

static QmpRequest *request_new(QmpSession *s, QmpLane lane, json_object *obj, GError *err)
{
    QmpRequest *req = g_new0(QmpRequest, 1);

    req->session = s;
    req->lane = lane;
    req->tokens = s->in.tokens;
    req->obj = obj;
    req->err = err;
    s->load[lane].requests++;
    s->load[lane].tokens += req->tokens;
    return req;
}

/* The request is not in its lane any more. */
static void request_leave_lane(QmpRequest *req)
{
    LaneLoad *load = &req->session->load[req->lane];

    load->requests--;
    load->tokens -= req->tokens;
}

static void request_free(QmpRequest *req)
{
    if (req->lane != LANE_SESSION) {
        request_leave_lane(req);
    }
    json_object_put(req->obj);
    g_clear_error(&req->err);
    g_free(req);
}

static bool check_member(QmpRequest *req, const char *key, json_object *value, GError **errp)
{
    bool oob = !strcmp(key, "exec-oob") && req->session->oob;

    if (!strcmp(key, "id")) {
        return true;
    }
    if (oob || !strcmp(key, "execute")) {
        if (!json_object_is_type(value, json_type_string)) {
            error_setg(errp, "QMP input member '%s' must be a string", key);
            return false;
        }
        if (req->command) {
            error_setg(errp, "QMP input member 'execute' clashes with 'exec-oob'");
            return false;
        }
        req->command = json_object_get_string(value);
        req->is_oob = oob;
        return true;
    }
    if (!strcmp(key, "arguments")) {
        if (!json_object_is_type(value, json_type_object)) {
            error_setg(errp, "QMP input member 'arguments' must be an object");
            return false;
        }
        req->args = value;
        return true;
    }
    error_setg(errp, "QMP input member '%s' is unexpected", key);
    return false;
}

/* Fills in what the request says. */
static bool request_check(QmpRequest *req, GError **errp)
{
    if (!json_object_is_type(req->obj, json_type_object)) {
        error_setg(errp, "QMP input must be a JSON object");
        return false;
    }
    req->has_id = json_object_object_get_ex(req->obj, "id", &req->id);
    json_object_object_foreach(req->obj, key, value)
    {
        if (!check_member(req, key, value, errp)) {
            return false;
        }
    }
    if (!req->command) {
        error_setg(errp, "QMP input lacks member 'execute'");
        return false;
    }
    return true;
}

static const QmpCommand *find_command(const QmpRequest *req, GError **errp)
{
    const QmpSession *s = req->session;
    bool negotiates = !strcmp(req->command, "qmp_capabilities");
    const QmpCommand *cmd;

    if (!negotiates && !s->negotiated) {
        error_set_class(errp, QAPI_ERROR_COMMAND_NOT_FOUND,
                        "Expecting capabilities negotiation with 'qmp_capabilities'");
        return NULL;
    }
    cmd = qmp_find_command(req->command);
    if (!cmd) {
        error_set_class(errp, QAPI_ERROR_COMMAND_NOT_FOUND, "The command %s has not been found",
                        req->command);
        return NULL;
    }
    if (req->is_oob && !(cmd->flags & QMP_CMD_ALLOW_OOB)) {
        error_setg(errp, "The command %s does not support OOB", req->command);
        return NULL;
    }
    if (negotiates && s->negotiated) {
        error_set_class(errp, QAPI_ERROR_COMMAND_NOT_FOUND,
                        "Capabilities negotiation is already complete, command ignored");
        return NULL;
    }
    return cmd;
}

static void running_remove(QmpRequest *req)
{
    QmpRequest **p = &running;

    while (*p != req) {
        p = &(*p)->next_running;
    }
    *p = req->next_running;
}

/* Runs the request to its end, reply included, and frees it. */
static void coroutine_fn request_run(QmpRequest *req)
{
    g_autoptr(GError) err = g_steal_pointer(&req->err);
    const QmpCommand *cmd = NULL;
    json_object *ret = NULL;

    if (!err && request_check(req, &err)) {
        cmd = find_command(req, &err);
    }
    if (cmd) {
        trace_monitor_qmp_cmd(req->session, cmd->name);
        req->co = coroutine_self();
        req->next_running = running;
        running = req;
        qmp_dispatch_command(cmd, req->args, &ret, &err);
        running_remove(req);
    }
    trace_monitor_qmp_respond(req->session, err ? err->message : "none");
    if (req->session->parent.chr) {
        if (err) {
            send_error(req, err);
        } else if (ret) {
            send_return(req, ret);
        }
    }
    json_object_put(ret);
    request_free(req);
}

/* The request whose handler calls; NULL outside of one. */
static QmpRequest *current_request(void)
{
    QmpRequest *req = running;

    while (req && req->co != coroutine_self()) {
        req = req->next_running;
    }
    return req;
}

int qmp_session_take_fd(void)
{
    QmpRequest *req = current_request();

    return req && req->session->parent.chr ? chardev_take_passed_fd(req->session->parent.chr) : -1;
}

bool qmp_session_set_capabilities(bool oob, bool concurrent)
{
    QmpRequest *req = current_request();

    if (req) {
        req->session->oob = oob;
        req->session->concurrent = concurrent;
        req->session->negotiated = true;
    }
    return req;
}

void qmp_session_set_hmp(HMPSession *hmp)
{
    QmpRequest *req = current_request();

    if (req) {
        req->hmp = hmp;
    }
    if (req && hmp) {
        hmp->gone = !req->session->parent.chr;
    }
}

/* --- The session's coroutine, and those of requests beside it ------------------------- */

static void session_wake(QmpSession *s)
{
    if (s->idle) {
        s->idle = false;
        aio_co_wake(s->co);
    }
}

static void coroutine_fn request_beside(void *opaque)
{
    QmpRequest *req = opaque;
    QmpSession *s = req->session;

    request_run(req);
    if (s->input_ended) {
        session_wake(s); /* it may have been the last */
    }
    monitor_session_unref(&s->parent);
}

static QmpLane choose_lane(const QmpSession *s, json_object *obj)
{
    QmpLane lane = LANE_SESSION;

    if (!json_object_is_type(obj, json_type_object) ||
        chardev_pending(s->parent.chr) > MONITOR_QUEUE_HIGH) {
        return LANE_SESSION;
    }
    if (s->oob && json_object_object_get_ex(obj, "exec-oob", NULL)) {
        lane = LANE_OOB;
    } else if (s->concurrent && json_object_object_get_ex(obj, "id", NULL)) {
        lane = LANE_BESIDE;
    }
    return s->load[lane].requests < BESIDE_MAX && s->load[lane].tokens < TOKENS_MAX
               ? lane
               : LANE_SESSION;
}

static bool queue_has_room(const QmpSession *s)
{
    return s->queue.length < QUEUE_MAX && s->load[LANE_SESSION].tokens < TOKENS_MAX;
}

/* JSONStreamEmit */
static bool session_emit(void *opaque, json_object *obj, GError *err)
{
    QmpSession *s = opaque;
    QmpRequest *req = request_new(s, err ? LANE_SESSION : choose_lane(s, obj), obj, err);

    if (req->lane != LANE_SESSION) {
        monitor_session_ref(&s->parent);
        aio_co_enter(main_aio_context(), coroutine_create(request_beside, req));
        return s->parent.chr != NULL;
    }
    g_queue_push_tail(&s->queue, req);
    return queue_has_room(s);
}

/*
 * Takes the next request off the queue, NULL if there is none, and takes up reading again where
 * a full queue stopped it: within what was read, or before more was.
 */
static QmpRequest *session_take_request(QmpSession *s)
{
    bool was_full = !queue_has_room(s);
    QmpRequest *req = g_queue_pop_head(&s->queue);

    if (req) {
        request_leave_lane(req);
    }
    if (was_full && !s->rest->len && s->parent.chr) {
        chardev_accept_input(s->parent.chr);
    }
    while (s->rest->len && queue_has_room(s) && s->parent.chr) {
        GByteArray *rest = s->rest;
        size_t n;

        /* A handler started meanwhile may let more input in. */
        s->rest = g_byte_array_new();
        n = json_stream_feed(&s->in, rest->data, rest->len);
        if (n < rest->len) {
            g_byte_array_append(s->rest, rest->data + n, rest->len - n);
        }
        g_byte_array_unref(rest);
        if (!s->rest->len && s->parent.chr) {
            chardev_accept_input(s->parent.chr);
        }
    }
    return req;
}

/* Whether all that the client has sent is answered, and no more will come. */
static bool session_is_through(const QmpSession *s)
{
    return s->input_ended && !s->rest->len && !s->load[LANE_BESIDE].requests &&
           !s->load[LANE_OOB].requests;
}

static void coroutine_fn session_run(void *opaque)
{
    QmpSession *s = opaque;

    while (s->parent.chr) {
        QmpRequest *req = session_take_request(s);

        if (req) {
            request_run(req);
            monitor_session_wait_for_room(&s->parent);
            monitor_session_give_way(&s->parent);
        } else if (!s->queue.length) {
            if (session_is_through(s)) {
                chardev_finish(s->parent.chr);
            }
            s->idle = true;
            monitor_session_wait_for_input(&s->parent);
        }
    }
    monitor_session_unref(&s->parent);
}

/* --- The kind ------------------------------------------------------------------------- */

static void send_greeting(QmpSession *s)
{
    json_object *msg = json_object_new_object(), *qmp = json_object_new_object();
    json_object *caps = json_object_new_array();
    GString *out = reply_begin();

    json_object_array_add(caps, json_object_new_string("oob"));
    json_object_object_add(qmp, "version", qmp_version_json());
    json_object_object_add(qmp, "capabilities", caps);
    json_object_object_add(msg, "QMP", qmp);
    json_write(out, msg, s->pretty);
    json_object_put(msg);
    send_text(s, out);
}

static MonitorSession *qmp_open(MonitorPort *port, Chardev *chr)
{
    QmpSession *s = g_new0(QmpSession, 1);

    monitor_session_init(&s->parent, &monitor_qmp, chr);
    s->pretty = port->pretty;
    json_stream_init(&s->in, &json_stream_limits, session_emit, s);
    s->rest = g_byte_array_new();
    g_queue_init(&s->queue);
    send_greeting(s);
    monitor_session_ref(&s->parent);
    s->co = coroutine_create(session_run, s);
    aio_co_enter(main_aio_context(), s->co);
    return &s->parent;
}

static size_t qmp_can_receive(MonitorSession *session)
{
    QmpSession *s = (QmpSession *)session;

    return s->rest->len || !queue_has_room(s) ? 0 : READ_MAX;
}

static void qmp_receive(MonitorSession *session, const uint8_t *buf, size_t len)
{
    QmpSession *s = (QmpSession *)session;
    size_t n;

    monitor_session_ref(session);
    n = json_stream_feed(&s->in, buf, len);
    if (n < len) {
        g_byte_array_append(s->rest, buf + n, len - n);
    }
    if (s->queue.length || s->rest->len) {
        session_wake(s);
    }
    monitor_session_unref(session);
}

static void qmp_input_ended(MonitorSession *session)
{
    QmpSession *s = (QmpSession *)session;

    s->input_ended = true;
    session_wake(s);
}

static void qmp_closed(MonitorSession *session)
{
    for (QmpRequest *req = running; req; req = req->next_running) {
        if (&req->session->parent == session && req->hmp) {
            req->hmp->gone = true;
            hmp_end_reader(req->hmp);
        }
    }
    session_wake((QmpSession *)session);
}

static void qmp_free(MonitorSession *session)
{
    QmpSession *s = (QmpSession *)session;
    QmpRequest *req;

    while ((req = g_queue_pop_head(&s->queue))) {
        request_free(req);
    }
    json_stream_destroy(&s->in);
    g_byte_array_unref(s->rest);
    g_free(s);
}

const MonitorKind monitor_qmp = {
    .open = qmp_open,
    .can_receive = qmp_can_receive,
    .receive = qmp_receive,
    .input_ended = qmp_input_ended,
    .closed = qmp_closed,
    .free = qmp_free,
};

/* --- Events --------------------------------------------------------------------------- */

static GString *event_text(json_object *msg, bool pretty)
{
    static const char *const order[] = {"timestamp", "event", "data"};
    GString *out = g_string_sized_new(256);
    bool first = true;

    g_string_append_c(out, '{');
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        json_object *value;

        if (json_object_object_get_ex(msg, order[i], &value)) {
            if (!first) {
                g_string_append(out, pretty ? "," : ", ");
            }
            first = false;
            json_write_indent(out, pretty, 1);
            g_string_append_printf(out, "\"%s\": ", order[i]);
            json_write_at(out, value, pretty, 1);
        }
    }
    json_write_indent(out, pretty, 0);
    g_string_append_c(out, '}');
    return out;
}

typedef struct EventTexts {
    json_object *msg;
    GString *text[2]; /* by pretty */
} EventTexts;

static void send_event(MonitorSession *session, void *opaque)
{
    QmpSession *s = (QmpSession *)session;
    EventTexts *texts = opaque;
    GString *text = texts->text[s->pretty];
    size_t len;

    if (!s->negotiated) {
        return;
    }
    if (chardev_pending(session->chr) > MONITOR_QUEUE_LIMIT) {
        chardev_disconnect(session->chr);
        return;
    }
    if (!text) {
        text = texts->text[s->pretty] = event_text(texts->msg, s->pretty);
    }
    len = text->len;
    send_text(s, text);
    g_string_truncate(text, len);
}

void qmp_sessions_send_event(json_object *msg)
{
    EventTexts texts = {.msg = msg};
    json_object *name;

    if (json_object_object_get_ex(msg, "event", &name)) {
        trace_monitor_qmp_event(json_object_get_string(name));
    }
    monitor_for_each_session(&monitor_qmp, send_event, &texts);
    for (int i = 0; i < 2; i++) {
        if (texts.text[i]) {
            g_string_free(texts.text[i], true);
        }
    }
    json_object_put(msg);
}
