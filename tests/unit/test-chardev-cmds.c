/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands about character devices and descriptors, over a real session: adding, changing
 * and removing devices while others are served, ring buffers, sets of descriptors.
 */
#include "tests/unit/monitor-test.h"

#include <netinet/in.h>
#include <stddef.h>
#include <sys/stat.h>

#include "monitor/char-log.h"
#include "qapi/qapi-commands-char.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-misc.h"
#include "qapi/qmp.h"
#include "util/fdset.h"

#define ERR(desc) "{\"error\": {\"class\": \"GenericError\", \"desc\": \"" desc "\"}}"
#define DONE "{\"return\": {}}"
#define ADD(id, backend) \
    "{'execute':'chardev-add','arguments':{'id':'" id "','backend':" backend "}}"
#define CHANGE(id, backend) \
    "{'execute':'chardev-change','arguments':{'id':'" id "','backend':" backend "}}"
#define REMOVE(id) "{'execute':'chardev-remove','arguments':{'id':'" id "'}}"
#define NULL_BACKEND "{'type':'null','data':{}}"
#define UNIX(server, rest) \
    "{'type':'socket','data':{'server':" server ",'addr':{'type':'unix','data':{" rest "}}}}"

void coroutine_fn qmp_quit(GError **errp)
{
}

static const QmpCommand commands[] = {
    {"qmp_capabilities", qmp_marshal_qmp_capabilities, 0},
    {"query-version", qmp_marshal_query_version, 0},
    {"human-monitor-command", qmp_marshal_human_monitor_command, 0},
    {"query-chardev", qmp_marshal_query_chardev, 0},
    {"query-chardev-backends", qmp_marshal_query_chardev_backends, 0},
    {"chardev-add", qmp_marshal_chardev_add, 0},
    {"chardev-change", qmp_marshal_chardev_change, 0},
    {"chardev-remove", qmp_marshal_chardev_remove, 0},
    {"chardev-send-break", qmp_marshal_chardev_send_break, 0},
    {"ringbuf-write", qmp_marshal_ringbuf_write, 0},
    {"ringbuf-read", qmp_marshal_ringbuf_read, 0},
    {"getfd", qmp_marshal_getfd, 0},
    {"closefd", qmp_marshal_closefd, 0},
    {"add-fd", qmp_marshal_add_fd, 0},
    {"remove-fd", qmp_marshal_remove_fd, 0},
    {"query-fdsets", qmp_marshal_query_fdsets, 0},
    {NULL},
};

/* --- Fixture ------------------------------------------------------------------------- */

static char *dir;
static TestClient *c;

static TestClient *client_ready(void)
{
    g_autofree char *path = g_build_filename(dir, "qmp", NULL);
    TestClient *client = client_connect(path);

    g_free(client_line(client));
    client_ask(client, "{'execute':'qmp_capabilities'}", DONE);
    return client;
}

static void setup(void)
{
    g_autofree char *spec = NULL;
    GError *err = NULL;
    Chardev *chr;

    dir = test_dir_new();
    spec = g_strdup_printf("unix:%s/qmp,server=on,wait=off", dir);
    qmp_registry_init(commands);
    monitor_init(NULL, 0);
    chr = chardev_new_from_spec("compat_monitor0", spec, &err);
    g_assert_no_error(err);
    g_assert_true(monitor_add_qmp(chr, false, &err));
    c = client_ready();
}

static void teardown(void)
{
    client_free(c);
    monitor_cleanup();
    chardev_cleanup();
    while (aio_poll(main_aio_context(), false)) {
    }
    test_dir_remove(dir);
}

/* Sends text with %s replaced by the directory. */
static void send_in_dir(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "%s", -1);
    g_autofree char *whole = g_strjoinv(dir, parts);

    client_send(c, whole);
}

#define ask_in_dir(text, expected) \
    do { \
        g_auto(GStrv) parts_ = g_strsplit(expected, "%s", -1); \
        g_autofree char *whole_ = g_strjoinv(dir, parts_); \
        send_in_dir(text); \
        client_expect(c, whole_); \
    } while (0)

/* The text with a descriptor beside it. */
static void send_with_fd_to(TestClient *client, const char *text, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = (char *)text, .iov_len = strlen(text)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &fd, sizeof(int));
    g_assert_cmpint(sendmsg(client->fd, &msg, 0), ==, (ssize_t)strlen(text));
}

static void send_with_fd(const char *text, int fd)
{
    send_with_fd_to(c, text, fd);
}

static bool list_has(const char *text)
{
    g_autofree char *line = NULL;

    client_send(c, "{'execute':'query-chardev'}");
    line = client_line(c);
    return strstr(line, text);
}

/* A front end that can be moved from one device to another. */
typedef struct Front {
    Chardev *chr;
    GString *in;
    int writables, breaks;
} Front;

static size_t front_can_receive(void *opaque)
{
    return 100;
}

static void front_receive(void *opaque, const uint8_t *buf, size_t len)
{
    g_string_append_len(((Front *)opaque)->in, (const char *)buf, len);
}

static void front_event(void *opaque, ChardevEvent event)
{
    ((Front *)opaque)->breaks += event == CHARDEV_BREAK;
}

static void front_writable(void *opaque)
{
    ((Front *)opaque)->writables++;
}

static void front_change(void *opaque, Chardev *chr)
{
    ((Front *)opaque)->chr = chr;
}

static const ChardevFrontOps movable_ops = {
    .can_receive = front_can_receive,
    .receive = front_receive,
    .event = front_event,
    .writable = front_writable,
    .change = front_change,
};

static const ChardevFrontOps fixed_ops = {
    .can_receive = front_can_receive,
    .receive = front_receive,
};

/* --- Adding and removing --------------------------------------------------------------- */

static void test_add_remove(void)
{
    g_autofree char *path = NULL;
    TestClient *peer;

    setup();
    client_ask(c, ADD("n0", NULL_BACKEND), DONE);
    client_ask(c, ADD("n0", NULL_BACKEND), ERR("Chardev with id 'n0' already exists"));
    client_ask(c, ADD("f", "{'type':'file','data':{'out':'/nonexistent/x'}}"),
               ERR("Failed to add chardev 'f': Could not open '/nonexistent/x': "
                   "No such file or directory"));
    client_ask(c, ADD("w", "{'type':'socket','data':{'wait':true,'addr':{'type':'unix',"
                      "'data':{'path':'x'}}}}"),
               ERR("'wait' is for -chardev only: the monitor does not wait for a client"));
    client_ask(c, ADD("p", "{'type':'parallel','data':{}}"),
               ERR("Parameter 'type' does not accept value 'parallel'"));
    client_ask(c, ADD("u", "{'type':'udp','data':{'remote':{'type':'unix','data':{'path':'x'}}}}"),
               ERR("udp needs addresses of type 'inet'"));
    client_ask(c, ADD("u", "{'type':'udp','data':{'remote':{'type':'inet','data':{'host':'127.0.0.1',"
                      "'port':'9'}},'local':{'type':'inet','data':{'host':'','port':'0'}}}}"), DONE);
    client_ask(c, "{'execute':'chardev-remove','arguments':{'id':'u'}}\n", DONE);
    client_ask(c, ADD("s", "{'type':'serial','data':{'device':'/dev/nonexistent'}}"),
               ERR("Failed to add chardev 's': Could not open '/dev/nonexistent': "
                   "No such file or directory"));
    for (size_t i = 0; i < 2; i++) {
        static const char *const options[] = {"tn3270", "websocket"};
        g_autofree char *in = g_strdup_printf(
            ADD("t", "{'type':'socket','data':{'%s':true,'addr':{'type':'unix',"
                     "'data':{'path':'x'}}}}"), options[i]);
        g_autofree char *out = g_strdup_printf(
            ERR("Failed to add chardev 't': Socket option '%s' is not supported"), options[i]);

        client_ask(c, in, out);
    }
    client_ask(c, ADD("t", "{'type':'socket','data':{'tls-creds':'x','addr':{'type':'unix',"
                      "'data':{'path':'x'}}}}"),
               ERR("Failed to add chardev 't': Socket option 'tls-creds' is not supported"));

    /* A listening socket that is there as soon as the reply is. */
    ask_in_dir(ADD("s", UNIX("true", "'path':'%s/extra'")), DONE);
    path = g_build_filename(dir, "extra", NULL);
    peer = client_connect(path);
    client_free(peer);
    g_assert_true(list_has("{\"label\": \"n0\", \"filename\": \"null\", \"frontend-open\": false}"));

    client_ask(c, REMOVE("compat_monitor0"), ERR("Chardev 'compat_monitor0' is busy"));
    client_ask(c, REMOVE("zz"), ERR("Chardev 'zz' not found"));
    client_ask(c, REMOVE("s"), DONE);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    client_ask(c, REMOVE("s"), ERR("Chardev 's' not found"));
    client_ask(c, REMOVE("n0"), DONE);
    ask_in_dir(ADD("l", "{'type':'null','data':{'logfile':'%s/no/log'}}"),
               ERR("Failed to add chardev 'l': Could not create '%s/no/log': No such file or "
                   "directory"));
    ask_in_dir(ADD("l", "{'type':'pty','data':{'logfile':'%s/log','logappend':1}}"),
               ERR("Invalid parameter type for 'backend.data.logappend', expected: boolean"));
    ask_in_dir(ADD("l", "{'type':'null','data':{'logfile':'%s/log','logappend':true}}"), DONE);
    client_ask(c, REMOVE("l"), DONE);
    client_ask(c, "{'execute':'chardev-send-break','arguments':{'id':'n0'}}",
               ERR("Chardev 'n0' not found"));
    client_ask(c, "{'execute':'query-chardev-backends'}",
               "{\"return\": [{\"name\": \"file\"}, {\"name\": \"serial\"}, {\"name\": \"pipe\"}, {\"name\": \"socket\"}, {\"name\": \"udp\"}, "
               "{\"name\": \"pty\"}, {\"name\": \"null\"}, {\"name\": \"mux\"}, {\"name\": \"stdio\"}, "
               "{\"name\": \"ringbuf\"}, {\"name\": \"memory\"}]}");
    teardown();
}

/* An abstract name, with and without the zeros behind it. */
static void test_abstract(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int len, fd;

    setup();
    for (int tight = 0; tight < 2; tight++) {
        g_autofree char *name = g_strdup_printf("%s/abstract", dir);
        g_autofree char *add = g_strdup_printf(
            ADD("a", UNIX("true", "'path':'%s','abstract':true,'tight':%s")), name,
            tight ? "true" : "false");
        g_autofree char *shown = g_strdup_printf("\"disconnected:unix:%s,abstract=on%s,server=on\"",
                                                 name, tight ? ",tight=on" : "");

        client_ask(c, add, DONE);
        g_assert_true(list_has(shown));
        strcpy(un.sun_path + 1, name);
        len = tight ? offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name) : sizeof(un);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        g_assert_cmpint(connect(fd, (struct sockaddr *)&un, len), ==, 0);
        close(fd);
        client_ask(c, REMOVE("a"), DONE);
        g_assert_false(g_file_test(name, G_FILE_TEST_EXISTS));
    }
    teardown();
}

/* Port 0 is a free one, which is shown; "to" tries the next. */
static void test_ports(void)
{
    g_autofree char *line = NULL, *next = NULL, *expected = NULL, *same = NULL;
    const char *at;
    int port;

    setup();
    client_ask(c, ADD("a", "{'type':'socket','data':{'addr':{'type':'inet','data':"
                           "{'host':'127.0.0.1','port':'0'}}}}"), DONE);
    client_send(c, "{'execute':'query-chardev'}");
    line = client_line(c);
    at = strstr(line, "tcp:127.0.0.1:");
    g_assert_nonnull(at);
    port = atoi(at + strlen("tcp:127.0.0.1:"));
    g_assert_cmpint(port, >, 0);
    same = g_strdup_printf(ADD("b", "{'type':'socket','data':{'addr':{'type':'inet','data':"
                                    "{'host':'127.0.0.1','port':'%d'}}}}"), port);
    client_ask(c, same, ERR("Failed to add chardev 'b': Failed to find an available port: "
                            "Address already in use"));
    next = g_strdup_printf(ADD("b", "{'type':'socket','data':{'addr':{'type':'inet','data':"
                                    "{'host':'127.0.0.1','port':'%d','to':%d}}}}"),
                           port, MIN(port + 50, 65535));
    client_ask(c, next, DONE);
    expected = g_strdup_printf("tcp:127.0.0.1:%d,server=on", port);
    g_free(line);
    client_send(c, "{'execute':'query-chardev'}");
    line = client_line(c);
    at = strstr(line, "\"label\": \"b\"");
    g_assert_nonnull(at);
    g_assert_null(strstr(at, expected));
    teardown();
}

/* Making a device may take time: others are served meanwhile, its id is taken. */
static void test_slow_add(void)
{
    g_autofree char *fifo = g_strdup("fifo");
    TestClient *other;
    int fd;

    setup();
    other = client_ready();
    g_free(fifo);
    fifo = g_build_filename(dir, "fifo", NULL);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    /* Opening it for writing waits for a reader. */
    send_in_dir(ADD("f", "{'type':'file','data':{'out':'%s/fifo'}}"));
    for (int i = 0; i < 20; i++) {
        client_send(other, "{'execute':'query-version'}");
        g_free(client_line(other));
    }
    client_ask(other, ADD("f", NULL_BACKEND), ERR("Chardev with id 'f' already exists"));
    client_ask(other, REMOVE("f"), ERR("Chardev 'f' not found"));
    client_pump(c);
    g_assert_cmpuint(c->in->len, ==, 0);
    fd = open(fifo, O_RDONLY);
    g_assert_cmpint(fd, >=, 0);
    client_expect(c, DONE);
    client_ask(other, REMOVE("f"), DONE);
    close(fd);
    client_free(other);
    teardown();
}

/* With mux=on a device has two ids, and both are taken from the beginning. */
static void test_slow_mux(void)
{
    static const char slow[] = "{'execute':'human-monitor-command','arguments':{'command-line':"
                               "'chardev-add file,id=m,path=%s/fifo,mux=on'}}";
    g_autofree char *fifo = NULL;
    TestClient *other;
    int fd;

    setup();
    other = client_ready();
    fifo = g_build_filename(dir, "fifo", NULL);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    send_in_dir(slow);
    poll_until(chardev_label_in_use("m-base"));
    client_ask(other, ADD("m", NULL_BACKEND), ERR("Chardev with id 'm' already exists"));
    client_ask(other, ADD("m-base", NULL_BACKEND), ERR("Chardev with id 'm-base' already exists"));
    client_ask(other, REMOVE("m"), ERR("Chardev 'm' not found"));
    fd = open(fifo, O_RDONLY);
    g_assert_cmpint(fd, >=, 0);
    client_expect(c, "{\"return\": \"\"}");
    g_assert_true(chardev_is_mux(chardev_find_device("m")));
    close(fd);
    client_ask(c, REMOVE("m"), DONE);
    /* One that is taken already gives the other one back. */
    send_in_dir(slow);
    client_expect(c, "{\"return\": \"Error: Duplicate ID 'm-base' for chardev\\r\\n\"}");
    client_ask(c, ADD("m", NULL_BACKEND), DONE);
    client_ask(c, REMOVE("m"), DONE);
    client_ask(c, REMOVE("m-base"), DONE);
    client_free(other);
    teardown();
}

/* --- Changing ------------------------------------------------------------------------------ */

static void test_change(void)
{
    Front f = {.in = g_string_new(NULL)};
    g_autofree char *path = NULL, *content = NULL;
    Chardev *chr;
    TestClient *peer;

    setup();
    client_ask(c, CHANGE("zz", NULL_BACKEND), ERR("Chardev 'zz' does not exist"));
    client_ask(c, CHANGE("compat_monitor0", NULL_BACKEND),
               ERR("Chardev user does not support chardev hotswap"));
    /* What nobody uses can be changed; one that cannot be opened leaves the old one. */
    client_ask(c, ADD("n", NULL_BACKEND), DONE);
    client_ask(c, CHANGE("n", "{'type':'ringbuf','data':{'size':16}}"), DONE);
    client_ask(c, CHANGE("n", "{'type':'file','data':{'out':'/nonexistent/x'}}"),
               ERR("Failed to add chardev 'n': Could not open '/nonexistent/x': "
                   "No such file or directory"));
    client_ask(c, CHANGE("n", "{'type':'mux','data':{'chardev':'n'}}"),
               ERR("Mux device hotswap not supported yet"));
    g_assert_true(list_has("{\"label\": \"n\", \"filename\": \"ringbuf\", "));

    /* Under a front end: from a file to a socket to another socket at the same place. */
    ask_in_dir(CHANGE("n", "{'type':'file','data':{'out':'%s/log'}}"), DONE);
    chr = chardev_find("n");
    f.chr = chr;
    g_assert_true(chardev_attach(chr, &movable_ops, &f));
    chardev_write(f.chr, "to the file", 11);
    path = g_build_filename(dir, "s", NULL);
    for (int i = 0; i < 2; i++) {
        int writables = f.writables;

        ask_in_dir(CHANGE("n", UNIX("true", "'path':'%s/s'")), DONE);
        g_assert_true(f.chr == chardev_find("n") && f.chr != chr);
        g_assert_cmpint(f.writables, >, writables);
        peer = client_connect(path);
        client_send(peer, "hello");
        poll_until(f.in->len == 5);
        g_string_truncate(f.in, 0);
        chardev_write(f.chr, "bye\r\n", 5);
        client_expect(peer, "bye");
        client_free(peer);
    }
    g_free(path);
    path = g_build_filename(dir, "log", NULL);
    char_log_finish();
    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "to the file");
    client_ask(c, "{'execute':'chardev-send-break','arguments':{'id':'n'}}", DONE);
    g_assert_cmpint(f.breaks, ==, 1);
    chardev_attach(f.chr, NULL, NULL);

    chardev_attach(chardev_find("n"), &fixed_ops, &f);
    client_ask(c, CHANGE("n", NULL_BACKEND), ERR("Chardev user does not support chardev hotswap"));
    chardev_attach(chardev_find("n"), NULL, NULL);
    g_string_free(f.in, true);
    teardown();
}

/* Two clients at one device, one of which is slow. */
static void test_change_at_once(void)
{
    g_autofree char *fifo = NULL;
    TestClient *other;
    int fd;

    setup();
    other = client_ready();
    fifo = g_build_filename(dir, "fifo", NULL);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    client_ask(c, ADD("n", NULL_BACKEND), DONE);
    send_in_dir(CHANGE("n", "{'type':'file','data':{'out':'%s/fifo'}}"));
    client_ask(other, "{'execute':'human-monitor-command','arguments':{'command-line':'info version'}}",
               "{\"return\": \"Keyframe 0.1.0\\r\\n\"}");
    client_ask(other, REMOVE("n"), DONE);
    fd = open(fifo, O_RDONLY);
    client_expect(c, ERR("Chardev 'n' has been taken into use or removed meanwhile"));
    close(fd);
    client_free(other);
    teardown();
}

static void test_mux(void)
{
    Front f = {.in = g_string_new(NULL)};
    Chardev *front;

    setup();
    client_ask(c, ADD("m", "{'type':'mux','data':{'chardev':'zz'}}"),
               ERR("Failed to add chardev 'm': mux: base chardev zz not found"));
    client_ask(c, ADD("n", NULL_BACKEND), DONE);
    client_ask(c, ADD("m", "{'type':'mux','data':{'chardev':'n'}}"), DONE);
    client_ask(c, ADD("m2", "{'type':'mux','data':{'chardev':'n'}}"),
               ERR("Failed to add chardev 'm2': Device 'n' is in use"));
    client_ask(c, REMOVE("n"), ERR("Chardev 'n' is busy"));
    client_ask(c, CHANGE("m", NULL_BACKEND), ERR("Mux device hotswap not supported yet"));
    client_ask(c, CHANGE("n", NULL_BACKEND), ERR("Chardev user does not support chardev hotswap"));
    g_assert_true(list_has("{\"label\": \"m\", \"filename\": \"mux\", \"frontend-open\": false}"));
    front = chardev_find("m");
    g_assert_true(chardev_is_mux_front(front));
    client_ask(c, REMOVE("m"), ERR("Chardev 'm' is busy"));
    for (int i = 0; i < 3; i++) {
        g_assert_true(chardev_attach(front, &fixed_ops, &f));
        client_ask(c, REMOVE("m"), ERR("Chardev 'm' is busy"));
        chardev_attach(front, NULL, NULL);
        g_assert_true(chardev_find("m") == front);
    }
    g_assert_true(chardev_attach(front, &fixed_ops, &f));
    chardev_attach(front, NULL, NULL);
    client_ask(c, REMOVE("m"), DONE);
    client_ask(c, REMOVE("n"), DONE);
    g_string_free(f.in, true);
    teardown();
}

/* --- Ring buffers ------------------------------------------------------------------------------ */

#define RING(cmd, args) "{'execute':'ringbuf-" cmd "','arguments':{'device':'r'," args "}}"

static void test_ringbuf(void)
{
    setup();
    client_ask(c, ADD("r", "{'type':'ringbuf','data':{'size':1000}}"),
               ERR("Failed to add chardev 'r': size of ringbuf chardev must be power of two"));
    client_ask(c, ADD("r", "{'type':'ringbuf','data':{'size':16}}"), DONE);
    client_ask(c, RING("read", "'size':5"), "{\"return\": \"\"}");
    client_ask(c, RING("write", "'data':'hello world, this is'"), DONE);
    client_ask(c, RING("read", "'size':4"), "{\"return\": \"o wo\"}");
    client_ask(c, RING("read", "'size':9223372036854775807"), "{\"return\": \"rld, this is\"}");
    client_ask(c, RING("write", "'data':'a*GVsbG8=','format':'base64'"),
               ERR("Base64 data contains invalid characters"));
    client_ask(c, RING("write", "'data':'aGVsbG8=','format':'base64'"), DONE);
    client_ask(c, RING("read", "'size':3,'format':'base64'"), "{\"return\": \"aGVs\"}");
    client_ask(c, RING("read", "'size':0"), ERR("size must be greater than zero"));
    client_ask(c, "{'execute':'ringbuf-read','arguments':{'device':'compat_monitor0','size':1}}",
               ERR("compat_monitor0 is not a ringbuf device"));
    client_ask(c, "{'execute':'ringbuf-read','arguments':{'device':'zz','size':1}}",
               ERR("Device 'zz' not found"));
    teardown();
}

/* --- Descriptors ------------------------------------------------------------------------------ */

#define FD_SOCKET(more) \
    "{'type':'socket','data':{'server':false,'addr':{'type':'fd','data':{'str':'a'}}," more "}}"

static void test_getfd(void)
{
    TestClient *peer;
    int pair[2];

    setup();
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    client_ask(c, "{'execute':'getfd','arguments':{'fdname':'a'}}",
               ERR("No file descriptor supplied via SCM_RIGHTS"));
    send_with_fd("{'execute':'getfd','arguments':{'fdname':'1a'}}", pair[1]);
    client_expect(c, ERR("Parameter 'fdname' expects a name not starting with a digit"));
    client_ask(c, "{'execute':'closefd','arguments':{'fdname':'a'}}",
               ERR("File descriptor named 'a' not found"));
    send_with_fd("{'execute':'getfd','arguments':{'fdname':'a'}}", pair[1]);
    client_expect(c, DONE);
    close(pair[1]);
    /* A request that is refused leaves the descriptor to its name. */
    client_ask(c, ADD("s", FD_SOCKET("'reconnect':1")),
               ERR("Failed to add chardev 's': 'reconnect' option is incompatible with 'fd' "
                   "address type"));
    client_ask(c, ADD("s", FD_SOCKET("'tn3270':true")),
               ERR("Failed to add chardev 's': Socket option 'tn3270' is not supported"));
    /* A device on it; the name is gone with that. */
    client_ask(c, ADD("s", FD_SOCKET("'nodelay':true")), DONE);
    peer = client_from_fd(pair[0]);
    chardev_write(chardev_find("s"), "hello\r\n", 7);
    client_expect(peer, "hello");
    client_ask(c, ADD("t", "{'type':'socket','data':{'server':false,'addr':{'type':'fd',"
                           "'data':{'str':'a'}}}}"),
               ERR("Failed to add chardev 't': File descriptor named 'a' has not been found"));
    client_ask(c, REMOVE("s"), DONE);
    g_assert_null(client_line(peer));
    client_free(peer);
    /* What is no socket is refused. */
    send_with_fd("{'execute':'getfd','arguments':{'fdname':'b'}}", STDIN_FILENO);
    client_expect(c, DONE);
    client_ask(c, ADD("t", "{'type':'socket','data':{'server':false,'addr':{'type':'fd',"
                           "'data':{'str':'b'}}}}"),
               ERR("Failed to add chardev 't': File descriptor 'b' is not a socket"));
    teardown();
}

/* A human monitor takes them, too. */
static void test_hmp_getfd(void)
{
    g_autofree char *spec = NULL, *path = NULL;
    TestClient *user;

    setup();
    spec = g_strdup_printf("unix:%s/hmp,server=on,wait=off", dir);
    g_assert_true(monitor_add_hmp(chardev_new_from_spec("hmp", spec, NULL), false, NULL));
    path = g_build_filename(dir, "hmp", NULL);
    user = client_connect(path);
    g_free(client_line(user));
    client_send(user, "getfd none\n");
    client_expect(user, "(qemu) Error: No file descriptor supplied via SCM_RIGHTS");
    send_with_fd_to(user, "getfd mine\n", STDIN_FILENO);
    client_send(user, "info version\n");
    client_expect(user, "(qemu) (qemu) Keyframe 0.1.0");
    client_ask(c, "{'execute':'closefd','arguments':{'fdname':'mine'}}", DONE);
    client_free(user);
    teardown();
}

static int number_behind(const char *line, const char *key)
{
    const char *at = strstr(line, key);

    g_assert_nonnull(at);
    return atoi(at + strlen(key));
}

static int add_fd(const char *text, int fd, int set)
{
    g_autofree char *line = NULL;

    send_with_fd(text, fd);
    line = client_line(c);
    g_assert_cmpint(number_behind(line, "\"fdset-id\": "), ==, set);
    return number_behind(line, "\"fd\": ");
}

static void test_fdsets(void)
{
    g_autofree char *path = NULL, *content = NULL, *expected = NULL, *remove = NULL;
    int fd, a, b, other;

    setup();
    path = g_build_filename(dir, "target", NULL);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    client_ask(c, "{'execute':'query-fdsets'}", "{\"return\": []}");
    client_ask(c, "{'execute':'add-fd'}", ERR("No file descriptor supplied via SCM_RIGHTS"));
    send_with_fd("{'execute':'add-fd','arguments':{'fdset-id':-1}}", fd);
    client_expect(c, ERR("Parameter 'fdset-id' expects a non-negative value"));
    a = add_fd("{'execute':'add-fd','arguments':{'fdset-id':3,'opaque':'x'}}", fd, 3);
    b = add_fd("{'execute':'add-fd','arguments':{'fdset-id':3}}", STDIN_FILENO, 3);
    other = add_fd("{'execute':'add-fd'}", fd, 0);
    expected = g_strdup_printf(
        "{\"return\": [{\"fdset-id\": 3, \"fds\": [{\"fd\": %d, \"opaque\": \"x\"}, {\"fd\": %d}]}, "
        "{\"fdset-id\": 0, \"fds\": [{\"fd\": %d}]}]}", a, b, other);
    client_ask(c, "{'execute':'query-fdsets'}", expected);

    /* The one with the access mode is found, emptied, written. */
    g_assert_cmpint(write(fd, "old content", 11), ==, 11);
    client_ask(c, ADD("f", "{'type':'file','data':{'out':'/dev/fdset/3'}}"), DONE);
    client_ask(c, ADD("g", "{'type':'file','data':{'out':'/dev/fdset/7'}}"),
               ERR("Failed to add chardev 'g': Could not open '/dev/fdset/7': "
                   "No such file or directory"));
    client_ask(c, ADD("g", "{'type':'file','data':{'out':'/dev/fdset/x'}}"),
               ERR("Failed to add chardev 'g': Could not open '/dev/fdset/x': Invalid argument"));
    client_ask(c, ADD("g", "{'type':'file','data':{'out':'/dev/fdset/0','in':'/dev/fdset/0'}}"),
               ERR("Failed to add chardev 'g': Could not open '/dev/fdset/0': Permission denied"));

    client_ask(c, "{'execute':'remove-fd','arguments':{'fdset-id':99}}",
               ERR("File descriptor named 'fdset-id:99' not found"));
    client_ask(c, "{'execute':'remove-fd','arguments':{'fdset-id':3,'fd':-1}}",
               ERR("File descriptor named 'fdset-id:3, fd:-1' not found"));
    client_ask(c, "{'execute':'remove-fd','arguments':{'fdset-id':3,'fd':1000000}}",
               ERR("File descriptor named 'fdset-id:3, fd:1000000' not found"));
    remove = g_strdup_printf("{'execute':'remove-fd','arguments':{'fdset-id':3,'fd':%d}}", b);
    client_ask(c, remove, DONE);
    client_ask(c, "{'execute':'remove-fd','arguments':{'fdset-id':3}}", DONE);
    client_ask(c, "{'execute':'remove-fd','arguments':{'fdset-id':0}}", DONE);
    client_ask(c, "{'execute':'query-fdsets'}", "{\"return\": []}");
    /* What was opened through the set stays open. */
    g_assert_cmpint(lseek(fd, 0, SEEK_SET), ==, 0);
    chardev_write(chardev_find("f"), "new", 3);
    client_ask(c, REMOVE("f"), DONE);
    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "new");
    close(fd);
    teardown();
}

static void test_add_fd_option(void)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"fd=0,set=1", "fd cannot be a standard I/O stream"},
        {"fd=999,set=1", "fd is not valid or already in use"},
        {"set=1", "fd option is required and must be non-negative"},
        {"fd=-1,set=1", "fd option is required and must be non-negative"},
        {"fd=3,set=1,x=y", "Parameter 'x' is unexpected"},
    };
    g_autofree char *text = NULL, *no_set = NULL;
    GError *err = NULL;
    int fd;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(monitor_add_fd_option(bad[i].text, &err));
        g_assert_cmpstr(err->message, ==, bad[i].message);
        g_clear_error(&err);
    }
    fd = open("/dev/null", O_RDONLY); /* as if inherited: not closed on exec */
    no_set = g_strdup_printf("fd=%d", fd);
    g_assert_false(monitor_add_fd_option(no_set, &err));
    g_assert_cmpstr(err->message, ==, "set option is required and must be non-negative");
    g_clear_error(&err);
    text = g_strdup_printf("fd=%d,set=4,opaque=from outside", fd);
    g_assert_true(monitor_add_fd_option(text, &err));
    close(fd);
    fd = fdset_open("/dev/fdset/4", O_RDONLY, 0);
    g_assert_cmpint(fd, >=, 0);
    close(fd);
    g_assert_cmpint(fdset_open("/dev/fdset/4", O_RDWR, 0), ==, -1);
    g_assert_cmpint(errno, ==, EACCES);
    g_assert_true(fdset_remove(4, -1, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    main_aio_context_init();
    g_test_add_func("/chardev-cmds/add-remove", test_add_remove);
    g_test_add_func("/chardev-cmds/abstract", test_abstract);
    g_test_add_func("/chardev-cmds/ports", test_ports);
    g_test_add_func("/chardev-cmds/slow-add", test_slow_add);
    g_test_add_func("/chardev-cmds/slow-mux", test_slow_mux);
    g_test_add_func("/chardev-cmds/change", test_change);
    g_test_add_func("/chardev-cmds/change-at-once", test_change_at_once);
    g_test_add_func("/chardev-cmds/mux", test_mux);
    g_test_add_func("/chardev-cmds/ringbuf", test_ringbuf);
    g_test_add_func("/chardev-cmds/getfd", test_getfd);
    g_test_add_func("/chardev-cmds/hmp-getfd", test_hmp_getfd);
    g_test_add_func("/chardev-cmds/fdsets", test_fdsets);
    g_test_add_func("/chardev-cmds/add-fd-option", test_add_fd_option);
    return g_test_run();
}
