/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The packets of GDB's remote protocol, each with the function that answers it.  Names of
 * packets, replies and thread ids are those of the appendix "Remote Protocol" of GDB's
 * manual; errors are numbered as QEMU numbers them: E14 an address, E22 anything else.
 *
 * The guest stands while a packet is handled.  What reads registers takes the machine lock
 * as well; what reads memory does so in a worker, since a page may not be there yet.
 */
#include <string.h>

#include "gdb-int.h"
#include "system-int.h"
#include "hw/machine-lock.h"
#include "qapi/qapi-commands-misc.h"
#include "system/cpus.h"
#include "system/run-state.h"
#include "util/aio.h"

#define BAD_ADDRESS "E14"
#define BAD_REQUEST "E22"
#define NOT_SUPPORTED ""

typedef void coroutine_fn Handler(GdbStub *s, const char *args, size_t len);

static const char *thread_name(GdbStub *s)
{
    return s->multiprocess ? "p01.01" : "01";
}

/* "p1.1", "1", "-1", "p1.-1", "0": whether it is the one thread, or any.  Moves *text. */
static bool parse_thread(const char **text)
{
    bool process = gdb_skip(text, 'p'), one = true;

    for (int part = 0; part < (process ? 2 : 1); part++) {
        uint64_t id;
        bool all = gdb_skip(text, '-');

        if (part && !gdb_skip(text, '.')) {
            return one;
        }
        all = all || (part && gdb_skip(text, '-'));
        if (!gdb_parse_number(text, &id)) {
            return false;
        }
        one = one && (all ? id == 1 : id <= 1);
    }
    return one;
}

static void coroutine_fn reply_bool(GdbStub *s, bool ok)
{
    gdb_send_text(s, ok ? "OK" : BAD_REQUEST);
}

/* --- Registers --------------------------------------------------------------------------- */

static bool coroutine_fn read_register(GdbStub *s, unsigned n, uint64_t *value)
{
    bool ok;

    gdb_hold(s);
    machine_lock();
    ok = s->debug->read_register(s->cpu, n, value);
    machine_unlock();
    gdb_let_go(s);
    return ok;
}

static bool coroutine_fn write_register(GdbStub *s, unsigned n, uint64_t value)
{
    bool ok;

    gdb_hold(s);
    machine_lock();
    ok = s->debug->write_register(s->cpu, n, value);
    machine_unlock();
    cpus_unhalt();
    gdb_let_go(s);
    return ok;
}

static void coroutine_fn cmd_read_registers(GdbStub *s, const char *args, size_t len)
{
    g_autoptr(GString) text = g_string_new(NULL);
    uint64_t value = 0;

    for (unsigned n = 0; n < s->debug->core_registers; n++) {
        read_register(s, n, &value);
        value = GUINT64_TO_LE(value);
        gdb_append_hex(text, &value, sizeof(value));
    }
    gdb_send(s, text->str, text->len);
}

static void coroutine_fn cmd_write_registers(GdbStub *s, const char *args, size_t len)
{
    bool ok = len >= s->debug->core_registers * 16;

    for (unsigned n = 0; ok && n < s->debug->core_registers; n++) {
        uint64_t value;

        ok = gdb_parse_hex(args + n * 16, &value, sizeof(value)) &&
             write_register(s, n, GUINT64_FROM_LE(value));
    }
    reply_bool(s, ok);
}

static void coroutine_fn cmd_read_register(GdbStub *s, const char *args, size_t len)
{
    g_autoptr(GString) text = g_string_new(NULL);
    uint64_t n, value;

    if (!gdb_parse_number(&args, &n) || n > UINT_MAX || !read_register(s, n, &value)) {
        gdb_send_text(s, BAD_ADDRESS);
        return;
    }
    value = GUINT64_TO_LE(value);
    gdb_append_hex(text, &value, sizeof(value));
    gdb_send(s, text->str, text->len);
}

static void coroutine_fn cmd_write_register(GdbStub *s, const char *args, size_t len)
{
    uint64_t n, value;

    reply_bool(s, gdb_parse_number(&args, &n) && n <= UINT_MAX && gdb_skip(&args, '=') &&
                      gdb_parse_hex(args, &value, sizeof(value)) &&
                      write_register(s, n, GUINT64_FROM_LE(value)));
}

/* --- Memory ------------------------------------------------------------------------------ */

typedef struct MemoryAccess {
    GdbStub *s;
    uint64_t view, addr;
    uint8_t *buf;
    size_t len;
    bool write, ok;
} MemoryAccess;

static int memory_worker(void *opaque)
{
    MemoryAccess *a = opaque;

    a->ok = a->s->debug->access_memory(a->s->cpu, a->view, a->addr, a->buf, a->len, a->write);
    return 0;
}

static bool coroutine_fn access_memory(GdbStub *s, uint64_t addr, uint8_t *buf, size_t len,
                                       bool write)
{
    MemoryAccess a = {.s = s, .addr = addr, .buf = buf, .len = len, .write = write};
    bool ok;

    gdb_hold(s);
    machine_lock();
    a.view = s->physical ? 0 : s->debug->address_view(s->cpu);
    machine_unlock();
    ok = guest_co_run(memory_worker, &a) && a.ok;
    gdb_let_go(s);
    return ok;
}

/* "ADDR,LEN" */
static bool parse_range(const char **args, uint64_t *addr, uint64_t *len)
{
    return gdb_parse_number(args, addr) && gdb_skip(args, ',') && gdb_parse_number(args, len);
}

static void coroutine_fn cmd_read_memory(GdbStub *s, const char *args, size_t len)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree uint8_t *buf = NULL;
    uint64_t addr, n;

    if (!parse_range(&args, &addr, &n) || n > GDB_PACKET_MAX / 2) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    buf = g_malloc(n + 1);
    if (!access_memory(s, addr, buf, n, false)) {
        gdb_send_text(s, BAD_ADDRESS);
        return;
    }
    gdb_append_hex(text, buf, n);
    gdb_send(s, text->str, text->len);
}

static void coroutine_fn reply_write(GdbStub *s, uint64_t addr, uint8_t *buf, size_t len)
{
    gdb_send_text(s, access_memory(s, addr, buf, len, true) ? "OK" : BAD_ADDRESS);
}

static void coroutine_fn cmd_write_memory(GdbStub *s, const char *args, size_t len)
{
    g_autofree uint8_t *buf = NULL;
    uint64_t addr, n;

    if (!parse_range(&args, &addr, &n) || !gdb_skip(&args, ':') || n > GDB_PACKET_MAX / 2) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    buf = g_malloc(n + 1);
    if (!gdb_parse_hex(args, buf, n)) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    reply_write(s, addr, buf, n);
}

static void coroutine_fn cmd_write_binary(GdbStub *s, const char *args, size_t len)
{
    const char *end = args + len;
    g_autoptr(GString) data = NULL;
    uint64_t addr, n;

    if (!parse_range(&args, &addr, &n) || !gdb_skip(&args, ':')) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    data = g_string_new_len(args, end - args);
    gdb_unescape(data);
    if (data->len != n) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    reply_write(s, addr, (uint8_t *)data->str, n);
}

static void coroutine_fn cmd_physical_mode(GdbStub *s, const char *args, size_t len)
{
    uint64_t on;

    if (!gdb_parse_number(&args, &on)) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    s->physical = on != 0;
    gdb_send_text(s, "OK");
}

static void coroutine_fn cmd_query_physical_mode(GdbStub *s, const char *args, size_t len)
{
    gdb_send_text(s, s->physical ? "1" : "0");
}

/* --- Breakpoints and watchpoints ----------------------------------------------------------- */

static void coroutine_fn change_point(GdbStub *s, const char *args, bool insert)
{
    static const CpuWatch watch[] = {[2] = CPU_WATCH_WRITE, [3] = CPU_WATCH_READ,
                                     [4] = CPU_WATCH_ACCESS};
    uint64_t type, addr, kind;
    bool ok;

    if (!gdb_parse_number(&args, &type) || type > 4) {
        gdb_send_text(s, NOT_SUPPORTED);
        return;
    }
    if (!gdb_skip(&args, ',') || !parse_range(&args, &addr, &kind)) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    gdb_hold(s);
    machine_lock();
    ok = type <= 1 ? s->debug->set_breakpoint(s->cpu, addr, insert)
                   : s->debug->set_watchpoint(s->cpu, addr, kind, watch[type], insert);
    machine_unlock();
    gdb_let_go(s);
    reply_bool(s, ok);
}

static void coroutine_fn cmd_insert_point(GdbStub *s, const char *args, size_t len)
{
    change_point(s, args, true);
}

static void coroutine_fn cmd_remove_point(GdbStub *s, const char *args, size_t len)
{
    change_point(s, args, false);
}

/* --- Running ------------------------------------------------------------------------------- */

/* Asked by a debugger that connects: what stopped the guest before is not its affair. */
static void coroutine_fn cmd_why(GdbStub *s, const char *args, size_t len)
{
    g_autofree char *text = g_strdup_printf("T05thread:%s;", thread_name(s));

    gdb_send_text(s, text);
}

/* "[ADDR]" of c and s. */
static void coroutine_fn resume_at(GdbStub *s, const char *args, bool step)
{
    uint64_t addr;

    if (gdb_parse_number(&args, &addr)) {
        write_register(s, s->debug->core_registers - 1, addr);
    }
    gdb_resume(s, step);
}

static void coroutine_fn cmd_continue(GdbStub *s, const char *args, size_t len)
{
    resume_at(s, args, false);
}

static void coroutine_fn cmd_step(GdbStub *s, const char *args, size_t len)
{
    resume_at(s, args, true);
}

/* "SIG[;ADDR]": the guest has no use for our signals. */
static const char *behind_signal(const char *args)
{
    const char *semicolon = strchr(args, ';');

    return semicolon ? semicolon + 1 : "";
}

static void coroutine_fn cmd_continue_signal(GdbStub *s, const char *args, size_t len)
{
    resume_at(s, behind_signal(args), false);
}

static void coroutine_fn cmd_step_signal(GdbStub *s, const char *args, size_t len)
{
    resume_at(s, behind_signal(args), true);
}

/* ";ACTION[:THREAD]...": the first that is for our thread counts. */
static void coroutine_fn cmd_vcont(GdbStub *s, const char *args, size_t len)
{
    char chosen = 0;

    while (gdb_skip(&args, ';')) {
        char action = *args;
        bool ours = true;
        uint64_t signal_number;

        if (!action || !strchr("cCsS", action)) {
            gdb_send_text(s, NOT_SUPPORTED);
            return;
        }
        args++;
        if (g_ascii_isupper(action) && !gdb_parse_number(&args, &signal_number)) {
            break;
        }
        if (gdb_skip(&args, ':')) {
            ours = parse_thread(&args);
        }
        if (ours && !chosen) {
            chosen = g_ascii_tolower(action);
        }
    }
    if (*args || !chosen) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    gdb_resume(s, chosen == 's');
}

static void coroutine_fn cmd_vcont_query(GdbStub *s, const char *args, size_t len)
{
    gdb_send_text(s, "vCont;c;C;s;S");
}

/* "[;PID]" */
static void coroutine_fn cmd_detach(GdbStub *s, const char *args, size_t len)
{
    uint64_t pid;

    if (gdb_skip(&args, ';') && (!gdb_parse_number(&args, &pid) || pid != 1)) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    gdb_clear(s);
    gdb_send_text(s, "OK");
    run_state_co_cont(NULL);
}

static void coroutine_fn cmd_kill(GdbStub *s, const char *args, size_t len)
{
    g_printerr("%s: Terminated via GDBstub\n", g_get_prgname());
    run_state_request_shutdown(SHUTDOWN_CAUSE_HOST_SIGNAL, 0);
}

static void coroutine_fn cmd_kill_process(GdbStub *s, const char *args, size_t len)
{
    gdb_send_text(s, "OK");
    cmd_kill(s, args, len);
}

/* --- Threads and what the stub can do ------------------------------------------------------- */

/* "cTHREAD" and "gTHREAD", or a thread alone. */
static void coroutine_fn cmd_select_thread(GdbStub *s, const char *args, size_t len)
{
    if (!gdb_skip(&args, 'c') && !gdb_skip(&args, 'g')) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    reply_bool(s, parse_thread(&args));
}

static void coroutine_fn cmd_thread_alive(GdbStub *s, const char *args, size_t len)
{
    reply_bool(s, parse_thread(&args));
}

static void coroutine_fn cmd_current_thread(GdbStub *s, const char *args, size_t len)
{
    g_autofree char *text = g_strconcat("QC", thread_name(s), NULL);

    gdb_send_text(s, text);
}

static void coroutine_fn cmd_first_threads(GdbStub *s, const char *args, size_t len)
{
    g_autofree char *text = g_strconcat("m", thread_name(s), NULL);

    gdb_send_text(s, text);
}

static void coroutine_fn cmd_more_threads(GdbStub *s, const char *args, size_t len)
{
    gdb_send_text(s, "l");
}

static void coroutine_fn cmd_thread_info(GdbStub *s, const char *args, size_t len)
{
    static const char info[] = "CPU#0 [running]";
    g_autoptr(GString) text = g_string_new(NULL);

    if (!parse_thread(&args)) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    gdb_append_hex(text, info, strlen(info));
    gdb_send(s, text->str, text->len);
}

static void coroutine_fn cmd_attached(GdbStub *s, const char *args, size_t len)
{
    gdb_send_text(s, "1"); /* so that gdb's quit detaches */
}

static void coroutine_fn cmd_supported(GdbStub *s, const char *args, size_t len)
{
    g_autofree char *text = NULL;

    s->multiprocess = strstr(args, "multiprocess+") != NULL;
    text = g_strdup_printf("PacketSize=%x;qXfer:features:read+;vContSupported+;multiprocess+;"
                           "QStartNoAckMode+", GDB_PACKET_MAX);
    gdb_send_text(s, text);
}

static void coroutine_fn cmd_no_ack(GdbStub *s, const char *args, size_t len)
{
    gdb_send_text(s, "OK");
    s->no_ack = true;
}

/* "target.xml:OFFSET,LENGTH" */
static void coroutine_fn cmd_read_description(GdbStub *s, const char *args, size_t len)
{
    const char *text = s->debug->description();
    g_autoptr(GString) part = g_string_new(NULL);
    uint64_t offset, n, size = strlen(text);

    if (!g_str_has_prefix(args, "target.xml:")) {
        gdb_send_text(s, "E00");
        return;
    }
    args += strlen("target.xml:");
    if (!parse_range(&args, &offset, &n) || offset > size) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    n = MIN(n, MIN(size - offset, (uint64_t)GDB_PACKET_MAX / 2));
    g_string_append_c(part, offset + n < size ? 'm' : 'l');
    g_string_append_len(part, text + offset, n);
    gdb_send(s, part->str, part->len);
}

static void coroutine_fn cmd_stub_features(GdbStub *s, const char *args, size_t len)
{
    gdb_send_text(s, "PhyMemMode");
}

/* A line of the human monitor, in hex; what it prints comes in pieces before the OK. */
static void coroutine_fn cmd_monitor(GdbStub *s, const char *args, size_t len)
{
    g_autofree char *line = g_malloc0(len / 2 + 1), *output = NULL;
    size_t size;

    if (len % 2 || !gdb_parse_hex(args, line, len / 2)) {
        gdb_send_text(s, BAD_REQUEST);
        return;
    }
    output = qmp_human_monitor_command(line, false, 0, NULL);
    size = strlen(output);
    for (size_t at = 0; at < size; at += GDB_PACKET_MAX / 4) {
        g_autoptr(GString) text = g_string_new("O");

        gdb_append_hex(text, output + at, MIN(size - at, (size_t)GDB_PACKET_MAX / 4));
        gdb_send(s, text->str, text->len);
    }
    gdb_send_text(s, "OK");
}

/* --- The table ------------------------------------------------------------------------------ */

/* The first whose name the packet begins with; the rest of the packet are its arguments. */
static const struct {
    const char *name;
    Handler *handler;
} commands[] = {
    {"?", cmd_why},
    {"vCont?", cmd_vcont_query},
    {"vCont", cmd_vcont},
    {"vKill", cmd_kill_process},
    {"vAttach", cmd_why},
    {"qSupported", cmd_supported},
    {"qXfer:features:read:", cmd_read_description},
    {"qC", cmd_current_thread},
    {"qfThreadInfo", cmd_first_threads},
    {"qsThreadInfo", cmd_more_threads},
    {"qThreadExtraInfo,", cmd_thread_info},
    {"qAttached", cmd_attached},
    {"qRcmd,", cmd_monitor},
    {"qqemu.Supported", cmd_stub_features},
    {"qqemu.PhyMemMode", cmd_query_physical_mode},
    {"Qqemu.PhyMemMode:", cmd_physical_mode},
    {"QStartNoAckMode", cmd_no_ack},
    {"g", cmd_read_registers},
    {"G", cmd_write_registers},
    {"p", cmd_read_register},
    {"P", cmd_write_register},
    {"m", cmd_read_memory},
    {"M", cmd_write_memory},
    {"X", cmd_write_binary},
    {"c", cmd_continue},
    {"C", cmd_continue_signal},
    {"s", cmd_step},
    {"S", cmd_step_signal},
    {"Z", cmd_insert_point},
    {"z", cmd_remove_point},
    {"H", cmd_select_thread},
    {"T", cmd_thread_alive},
    {"D", cmd_detach},
    {"k", cmd_kill},
};

void coroutine_fn gdb_handle_packet(GdbStub *s, GString *packet)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        size_t len = strlen(commands[i].name);

        if (g_str_has_prefix(packet->str, commands[i].name)) {
            commands[i].handler(s, packet->str + len, packet->len - len);
            return;
        }
    }
    gdb_send_text(s, NOT_SUPPORTED);
}
