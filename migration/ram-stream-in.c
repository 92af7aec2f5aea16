/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking in a stream of records; see ram-stream.h.  Nothing that is read is trusted: every
 * name, offset and flag is checked before it is used, and what does not end where it should
 * is one clear error.  Snapshot thread.
 */
#include <errno.h>
#include <string.h>
#include "qapi/error.h"
#include "ram-stream.h"
#include "vmstate-int.h"

#define BUFFER_BYTES ((size_t)1 << 20)
/* Records between two turns of the event loop. */
#define BURST 4096

typedef struct Reader {
    const Machine *m;
    MigChannel *ch;
    uint8_t *buf;
    size_t pos, len;
    uint64_t **written; /* per block a bit per page that is not zero any more */
    GError **errp;
} Reader;

static bool coroutine_fn fail_read(Reader *r, ssize_t ret, const char *where)
{
    if (ret < 0) {
        error_setg_errno(r->errp, -ret, "Could not read the migration stream");
    } else {
        error_setg(r->errp, "The migration stream ends in the middle of %s", where);
    }
    return false;
}

/* Makes at least n bytes (at most BUFFER_BYTES) be there behind pos. */
static bool coroutine_fn need(Reader *r, size_t n, const char *where)
{
    if (r->len - r->pos >= n) {
        return true;
    }
    memmove(r->buf, r->buf + r->pos, r->len - r->pos);
    r->len -= r->pos;
    r->pos = 0;
    while (r->len < n) {
        ssize_t ret = mig_channel_read(r->ch, r->buf + r->len, BUFFER_BYTES - r->len);

        if (ret <= 0) {
            return fail_read(r, ret, where);
        }
        r->len += ret;
    }
    return true;
}

static uint64_t take_be(Reader *r, int bytes)
{
    uint64_t v = 0;

    for (int i = 0; i < bytes; i++) {
        v = v << 8 | r->buf[r->pos++];
    }
    return v;
}

/* A name with its length in front. */
static bool coroutine_fn read_name(Reader *r, char name[256])
{
    size_t len;

    if (!need(r, 1, "a name")) {
        return false;
    }
    len = r->buf[r->pos];
    if (!need(r, 1 + len, "a name")) {
        return false;
    }
    memcpy(name, r->buf + r->pos + 1, len);
    name[len] = 0;
    r->pos += 1 + len;
    if (strlen(name) != len || !g_utf8_validate(name, len, NULL)) {
        error_setg(r->errp, "A name in the migration stream is not text");
        return false;
    }
    return true;
}

static bool coroutine_fn read_footer(Reader *r)
{
    if (!need(r, 5, "section 'ram'")) {
        return false;
    }
    if (take_be(r, 1) != STREAM_FOOTER || take_be(r, 4) != STREAM_RAM_SECTION_ID) {
        error_setg(r->errp, "Section 'ram' does not end where it should");
        return false;
    }
    return true;
}

/* --- The beginning --------------------------------------------------------------------------- */

static bool coroutine_fn read_configuration(Reader *r)
{
    char type[256];
    size_t want = 4;

    for (;;) {
        GError *err = NULL;
        VMReader in;

        if (!need(r, want, "its header")) {
            return false;
        }
        in = (VMReader){.data = r->buf + r->pos, .size = r->len - r->pos};
        if (stream_parse_configuration(&in, type, &err)) {
            r->pos += in.pos;
            break;
        }
        if (!in.ended || memcmp(in.data, "QEVM", 4)) {
            if (memcmp(in.data, "QEVM", 4)) {
                g_clear_error(&err);
                error_setg(&err, "Not a migration stream");
            }
            g_propagate_error(r->errp, err);
            return false;
        }
        g_error_free(err);
        want = r->len - r->pos + 1;
    }
    if (strcmp(type, r->m->machine_type)) {
        error_setg(r->errp, "Machine type received is '%s' and local is '%s'", type,
                   r->m->machine_type);
        return false;
    }
    if (need(r, 1, "the configuration section") && r->buf[r->pos] == STREAM_SUBSECTION) {
        error_setg(r->errp, "This is a state with RAM at fixed places or with other capabilities; "
                            "'mapped-ram' must be set here as on the source, and the state be "
                            "in a file");
        return false;
    }
    return r->len > r->pos;
}

static bool coroutine_fn read_ram_start(Reader *r)
{
    /* Mark, id, "ram", instance, version, sum. */
    const size_t header = 1 + 4 + 4 + 4 + 4 + 8;
    uint64_t total;
    VMReader in;

    if (!need(r, header, "section 'ram'")) {
        return false;
    }
    in = (VMReader){.data = r->buf + r->pos, .size = r->len - r->pos};
    if (!stream_parse_ram_start(&in, &total, r->errp)) {
        return false;
    }
    r->pos += in.pos;
    for (int i = 0; i < r->m->nr_ram; i++) {
        const RAMBlock *ram = &r->m->ram[i];
        char name[256];
        uint64_t size;

        if (!read_name(r, name) || !need(r, 8, "section 'ram'")) {
            return false;
        }
        size = take_be(r, 8);
        if (strcmp(name, ram->idstr)) {
            error_setg(r->errp, "Machine state has RAM block '%s', which this machine has not", name);
            return false;
        }
        if (size != ram->size || total < size) {
            error_setg(r->errp, "Size mismatch: %s: 0x%" PRIx64 " != 0x%" PRIx64
                       ": Invalid argument", name, size, ram->size);
            return false;
        }
        total -= size;
    }
    if (total) {
        error_setg(r->errp, "Machine state has RAM blocks that this machine has not");
        return false;
    }
    return true;
}

/* --- Pages ------------------------------------------------------------------------------------ */

static void mark_written(Reader *r, int block, size_t page)
{
    r->written[block][page / 64] |= 1ULL << (page % 64);
}

static bool coroutine_fn read_page(Reader *r, int block, uint64_t offset)
{
    uint8_t *host = r->m->ram[block].host + offset;

    if (!need(r, RAM_PAGE, "a page")) {
        return false;
    }
    memcpy(host, r->buf + r->pos, RAM_PAGE);
    r->pos += RAM_PAGE;
    mark_written(r, block, offset / RAM_PAGE);
    return true;
}

static bool coroutine_fn read_fill(Reader *r, int block, uint64_t offset)
{
    size_t page = offset / RAM_PAGE;
    uint8_t fill;

    if (!need(r, 1, "a page")) {
        return false;
    }
    fill = r->buf[r->pos++];
    /* What has not been written is zero and need not be touched. */
    if (fill || (r->written[block][page / 64] >> (page % 64) & 1)) {
        memset(r->m->ram[block].host + offset, fill, RAM_PAGE);
        mark_written(r, block, page);
    }
    return true;
}

static int find_block(const Machine *m, const char *name)
{
    for (int i = 0; i < m->nr_ram; i++) {
        if (!strcmp(m->ram[i].idstr, name)) {
            return i;
        }
    }
    return -1;
}

/* The records of one part of section "ram", up to their end and the footer. */
static bool coroutine_fn read_records(Reader *r)
{
    int block = -1;

    for (unsigned n = 1;; n++) {
        uint64_t word, offset;
        unsigned flags;

        if (!need(r, 8, "section 'ram'")) {
            return false;
        }
        word = take_be(r, 8);
        flags = word & (RAM_PAGE - 1);
        offset = word - flags;
        if (flags == RAM_FLAG_END) {
            return read_footer(r);
        }
        if ((flags & ~RAM_FLAG_CONTINUE) != RAM_FLAG_PAGE &&
            (flags & ~RAM_FLAG_CONTINUE) != RAM_FLAG_ZERO) {
            error_setg(r->errp, "Section 'ram': a record has unknown flags 0x%x", flags);
            return false;
        }
        if (!(flags & RAM_FLAG_CONTINUE)) {
            char name[256];

            if (!read_name(r, name)) {
                return false;
            }
            block = find_block(r->m, name);
            if (block < 0) {
                error_setg(r->errp, "Section 'ram': unknown RAM block '%s'", name);
                return false;
            }
        }
        if (block < 0 || offset >= r->m->ram[block].size) {
            error_setg(r->errp, "Section 'ram': a page at 0x%" PRIx64 " is outside of RAM", offset);
            return false;
        }
        if (!(flags & RAM_FLAG_PAGE ? read_page(r, block, offset) : read_fill(r, block, offset))) {
            return false;
        }
        if (n % BURST == 0) {
            co_sleep_ns(0);
        }
    }
}

/* --- Everything ------------------------------------------------------------------------------- */

static bool coroutine_fn read_command(Reader *r, StreamIn *in)
{
    unsigned command, len;

    if (!need(r, 5, "a command")) {
        return false;
    }
    r->pos++;
    command = take_be(r, 2);
    len = take_be(r, 2);
    if (!need(r, len, "a command")) {
        return false;
    }
    if (command == COMMAND_OPEN_RETURN_PATH && len == 0) {
        if (!mig_channel_is_duplex(r->ch)) {
            error_setg(r->errp, "The source wants an answer, which this channel cannot carry");
            return false;
        }
        in->wants_answer = true;
    } else if (command != COMMAND_PING || len != 4) {
        error_setg(r->errp, "Unknown command 0x%x in the migration stream", command);
        return false;
    }
    r->pos += len;
    return true;
}

/* The sections of all devices.  How long they are only their content tells. */
static bool coroutine_fn read_devices(Reader *r, StreamIn *in)
{
    size_t used;
    int found;

    in->devices = g_byte_array_new();
    g_byte_array_append(in->devices, r->buf + r->pos, r->len - r->pos);
    for (;;) {
        ssize_t n;

        r->m->ops->lock(r->m->opaque);
        found = stream_scan_devices(in->devices->data, in->devices->len, r->m->vmstate, &used,
                                    r->errp);
        r->m->ops->unlock(r->m->opaque);
        if (found) {
            break;
        }
        if (in->devices->len > STREAM_MAX_TAIL) {
            error_setg(r->errp, "Machine state has too much device state");
            return false;
        }
        n = mig_channel_read(r->ch, r->buf, BUFFER_BYTES);
        if (n <= 0) {
            return fail_read(r, n, "the device sections");
        }
        g_byte_array_append(in->devices, r->buf, n);
    }
    if (found < 0) {
        return false;
    }
    /* What was read beyond them is the description's. */
    r->pos = 0;
    r->len = in->devices->len - used;
    g_assert(r->len <= BUFFER_BYTES);
    memcpy(r->buf, in->devices->data + used, r->len);
    g_byte_array_set_size(in->devices, used);
    return true;
}

/* It follows the devices and says nothing that we need; a source may leave it out. */
static bool coroutine_fn read_description(Reader *r)
{
    uint64_t len;

    if (r->pos == r->len) {
        ssize_t n = mig_channel_read(r->ch, r->buf, BUFFER_BYTES);

        if (n < 0) {
            return fail_read(r, n, NULL);
        }
        if (n == 0) {
            return true;
        }
        r->pos = 0;
        r->len = n;
    }
    if (!need(r, 5, "the description")) {
        return false;
    }
    if (take_be(r, 1) != STREAM_DESCRIPTION) {
        error_setg(r->errp, "The description at the end of the machine state is damaged");
        return false;
    }
    len = take_be(r, 4);
    if (len > STREAM_MAX_TAIL) {
        error_setg(r->errp, "The description at the end of the machine state has %" PRIu64 " bytes",
                   len);
        return false;
    }
    while (len) {
        size_t n = MIN(len, BUFFER_BYTES);

        if (!need(r, n, "the description")) {
            return false;
        }
        r->pos += n;
        len -= n;
    }
    return true;
}

static bool coroutine_fn read_sections(Reader *r, StreamIn *in)
{
    bool started = false;

    for (;;) {
        if (!need(r, 5, "the stream")) {
            return false;
        }
        switch (r->buf[r->pos]) {
        case STREAM_COMMAND:
            if (!read_command(r, in)) {
                return false;
            }
            continue;
        case STREAM_SECTION_START:
            if (started || !read_ram_start(r) || !read_records(r)) {
                if (started) {
                    error_setg(r->errp, "Section 'ram' begins twice");
                }
                return false;
            }
            started = true;
            continue;
        case STREAM_SECTION_PART:
        case STREAM_SECTION_END: {
            bool end = take_be(r, 1) == STREAM_SECTION_END;

            if (take_be(r, 4) != STREAM_RAM_SECTION_ID || !started) {
                error_setg(r->errp, "A part of an unknown section in the migration stream");
                return false;
            }
            if (!read_records(r)) {
                return false;
            }
            if (end) {
                return read_devices(r, in) && read_description(r);
            }
            continue;
        }
        default:
            error_setg(r->errp, "Unknown section type 0x%02x in the migration stream",
                       r->buf[r->pos]);
            return false;
        }
    }
}

bool coroutine_fn stream_in_read(const Machine *m, MigChannel *ch, StreamIn *in, GError **errp)
{
    Reader r = {.m = m, .ch = ch, .buf = g_malloc(BUFFER_BYTES), .errp = errp};
    bool ok;

    r.written = g_new0(uint64_t *, m->nr_ram);
    for (int i = 0; i < m->nr_ram; i++) {
        r.written[i] = g_new0(uint64_t, m->ram[i].size / RAM_PAGE / 64 + 1);
    }
    ok = read_configuration(&r) && read_sections(&r, in);
    for (int i = 0; i < m->nr_ram; i++) {
        g_free(r.written[i]);
    }
    g_free(r.written);
    g_free(r.buf);
    return ok;
}

int coroutine_fn stream_in_answer(MigChannel *ch)
{
    uint8_t shut[8] = {0, RETURN_SHUT, 0, 4, 0, 0, 0, 0};
    struct iovec iov = {.iov_base = shut, .iov_len = sizeof(shut)};

    return mig_channel_writev(ch, &iov, 1);
}
