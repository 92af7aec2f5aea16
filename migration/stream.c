/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds and parses the migration stream (stream-int.h).  The writing half works on memory;
 * the reading half reads through a StreamSource in the caller's coroutine and trusts
 * nothing it reads.
 */
#include <string.h>
#include "stream-int.h"
#include "qapi/error.h"

#define STREAM_MAGIC 0x5145564dU /* "QEVM" */
#define STREAM_VERSION 3
#define RAM_VERSION 4
#define FIRST_DEVICE_SECTION_ID 2
#define MAPPED_RAM_VERSION 1
#define CAPABILITIES "configuration/capabilities"
#define CAPABILITIES_VERSION 1
#define MAPPED_RAM "mapped-ram"
#define MAPPED_RAM_HEADER_BYTES (4 + 8 + 8 + 8)

void stream_layout_free(StreamLayout *l)
{
    if (l) {
        g_clear_pointer(&l->pieces, g_ptr_array_unref);
        g_free(l->blocks);
        g_free(l);
    }
}

/* --- Writing ------------------------------------------------------------------------------ */

static void piece_free(void *opaque)
{
    StreamPiece *p = opaque;

    g_byte_array_unref(p->data);
    g_free(p);
}

static GByteArray *add_piece(StreamLayout *l, uint64_t offset)
{
    StreamPiece *p = g_new0(StreamPiece, 1);

    p->offset = offset;
    p->data = g_byte_array_new();
    g_ptr_array_add(l->pieces, p);
    return p->data;
}

static void put_section_header(GByteArray *out, uint8_t mark, uint32_t section_id,
                               const char *idstr, uint32_t instance_id, uint32_t version)
{
    vm_put_u8(out, mark);
    vm_put_be32(out, section_id);
    vm_put_counted_string(out, idstr);
    vm_put_be32(out, instance_id);
    vm_put_be32(out, version);
}

static void put_footer(GByteArray *out, uint32_t section_id)
{
    vm_put_u8(out, STREAM_FOOTER);
    vm_put_be32(out, section_id);
}

static uint64_t bitmap_bytes_for(uint64_t length)
{
    /* Whole 64 bit words, as the format's other producers write it. */
    return (length / STREAM_PAGE_SIZE + 63) / 64 * 8;
}

/* What a reader must know to understand the rest: that RAM is mapped. */
static void put_capabilities(GByteArray *out)
{
    vm_put_u8(out, STREAM_SUBSECTION);
    vm_put_counted_string(out, CAPABILITIES);
    vm_put_be32(out, CAPABILITIES_VERSION);
    vm_put_be32(out, 1);
    vm_put_counted_string(out, MAPPED_RAM);
}

static void put_configuration(GByteArray *out, const char *machine_type)
{
    vm_put_be32(out, STREAM_MAGIC);
    vm_put_be32(out, STREAM_VERSION);
    vm_put_u8(out, STREAM_CONFIGURATION);
    vm_put_be32(out, strlen(machine_type));
    g_byte_array_append(out, (const uint8_t *)machine_type, strlen(machine_type));
}

/* The beginning of section "ram": its header and the sum of all blocks. */
static void put_ram_start(GByteArray *out, const RAMBlock *ram, int nr_ram)
{
    uint64_t total = 0;

    for (int i = 0; i < nr_ram; i++) {
        total += ram[i].size;
    }
    put_section_header(out, STREAM_SECTION_START, STREAM_RAM_SECTION_ID, "ram", 0, RAM_VERSION);
    vm_put_be64(out, total | RAM_FLAG_SIZES);
}

GByteArray *stream_sequential_header(const char *machine_type)
{
    GByteArray *out = g_byte_array_new();

    put_configuration(out, machine_type);
    return out;
}

GByteArray *stream_sequential_ram(const RAMBlock *ram, int nr_ram)
{
    GByteArray *out = g_byte_array_new();

    put_ram_start(out, ram, nr_ram);
    for (int i = 0; i < nr_ram; i++) {
        vm_put_counted_string(out, ram[i].idstr);
        vm_put_be64(out, ram[i].size);
    }
    vm_put_be64(out, RAM_FLAG_END);
    put_footer(out, STREAM_RAM_SECTION_ID);
    return out;
}

StreamLayout *stream_layout_new(const char *machine_type, const RAMBlock *ram, int nr_ram)
{
    StreamLayout *l = g_new0(StreamLayout, 1);
    GByteArray *out;
    uint64_t offset = 0;

    g_assert(nr_ram <= STREAM_MAX_BLOCKS);
    l->pieces = g_ptr_array_new_with_free_func(piece_free);
    l->nr_blocks = nr_ram;
    l->blocks = g_new0(StreamBlock, nr_ram);
    g_strlcpy(l->machine_type, machine_type, sizeof(l->machine_type));

    out = add_piece(l, 0);
    put_configuration(out, machine_type);
    put_capabilities(out);

    put_ram_start(out, ram, nr_ram);
    for (int i = 0; i < nr_ram; i++) {
        StreamBlock *b = &l->blocks[i];

        g_strlcpy(b->idstr, ram[i].idstr, sizeof(b->idstr));
        b->length = ram[i].size;
        b->bitmap_bytes = bitmap_bytes_for(b->length);
        vm_put_counted_string(out, b->idstr);
        vm_put_be64(out, b->length);
        b->bitmap_offset = offset + out->len + MAPPED_RAM_HEADER_BYTES;
        b->pages_offset = (b->bitmap_offset + b->bitmap_bytes + STREAM_PAGES_ALIGN - 1) /
                          STREAM_PAGES_ALIGN * STREAM_PAGES_ALIGN;
        vm_put_be32(out, MAPPED_RAM_VERSION);
        vm_put_be64(out, STREAM_PAGE_SIZE);
        vm_put_be64(out, b->bitmap_offset);
        vm_put_be64(out, b->pages_offset);
        offset = b->pages_offset + b->length;
        if (i + 1 < nr_ram) {
            out = add_piece(l, offset);
        }
    }
    l->tail_offset = nr_ram ? offset : out->len;
    return l;
}

bool devices_save(GByteArray *out, json_object *descriptions, const VMStateRegistry *r,
                  GError **errp)
{
    for (guint i = 0; i < r->entries->len; i++) {
        VMStateEntry *e = g_ptr_array_index(r->entries, i);
        uint32_t section_id = FIRST_DEVICE_SECTION_ID + i;

        if (e->vmsd->needed && !e->vmsd->needed(e->opaque)) {
            continue;
        }
        put_section_header(out, STREAM_SECTION_FULL, section_id, e->idstr, e->instance_id,
                           e->vmsd->version);
        if (!vmstate_save_state(out, e->vmsd, e->opaque, errp)) {
            g_prefix_error(errp, "Could not save the state of device '%s' (instance %u): ",
                           e->idstr, e->instance_id);
            return false;
        }
        put_footer(out, section_id);
        if (descriptions) {
            json_object *d = json_object_new_object();
            json_object *state = vmstate_describe(e->vmsd, e->opaque);

            json_object_object_add(d, "name", json_object_new_string(e->idstr));
            json_object_object_add(d, "instance_id", json_object_new_int64(e->instance_id));
            json_object_object_foreach(state, key, value) {
                json_object_object_add(d, key, json_object_get(value));
            }
            json_object_put(state);
            json_object_array_add(descriptions, d);
        }
    }
    return true;
}

static void add_field(json_object *fields, const char *name, const char *type, int64_t size)
{
    json_object *f = json_object_new_object();

    json_object_object_add(f, "name", json_object_new_string(name));
    json_object_object_add(f, "type", json_object_new_string(type));
    json_object_object_add(f, "size", json_object_new_int64(size));
    json_object_array_add(fields, f);
}

static json_object *describe_part(const char *name, int version, json_object **fields)
{
    json_object *o = json_object_new_object();

    *fields = json_object_new_array();
    json_object_object_add(o, "vmsd_name", json_object_new_string(name));
    json_object_object_add(o, "version", json_object_new_int64(version));
    json_object_object_add(o, "fields", *fields);
    return o;
}

/* The configuration section's own description. */
static json_object *describe_configuration(const char *machine_type, bool mapped)
{
    json_object *fields, *subsections, *capabilities;
    json_object *o = describe_part("configuration", 1, &fields);

    add_field(fields, "len", "uint32", 4);
    add_field(fields, "name", "buffer", strlen(machine_type));
    if (!mapped) {
        return o;
    }
    subsections = json_object_new_array();
    capabilities = describe_part(CAPABILITIES, CAPABILITIES_VERSION, &fields);
    add_field(fields, "caps_count", "uint32", 4);
    add_field(fields, "capabilities", "capability", 1 + strlen(MAPPED_RAM));
    json_object_array_add(subsections, capabilities);
    json_object_object_add(o, "subsections", subsections);
    return o;
}

/*
 * Readers that know no device look for the first brace behind the last NUL: the length,
 * which stands in between, must not have that byte.  Spaces at the end do no harm.
 */
void stream_put_description(GByteArray *out, json_object *description)
{
    const char *text = json_object_to_json_string_ext(description, JSON_C_TO_STRING_PLAIN);
    size_t len = strlen(text), padded = len;

    while ((padded & 0xff) == '{' || (padded >> 8 & 0xff) == '{' || (padded >> 16 & 0xff) == '{') {
        padded++;
    }
    vm_put_u8(out, STREAM_DESCRIPTION);
    vm_put_be32(out, padded);
    g_byte_array_append(out, (const uint8_t *)text, len);
    while (len++ < padded) {
        vm_put_u8(out, ' ');
    }
}

static GByteArray *save_tail(const char *machine_type, bool mapped, const VMStateRegistry *r,
                             GError **errp)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    json_object *description = json_object_new_object();
    json_object *devices = json_object_new_array();

    if (mapped) {
        json_object_object_add(description, STREAM_SUM_MEMBER,
                               json_object_new_string(STREAM_SUM_KIND STREAM_SUM_NONE));
    }
    json_object_object_add(description, "configuration", describe_configuration(machine_type, mapped));
    json_object_object_add(description, "page_size", json_object_new_int64(STREAM_PAGE_SIZE));
    json_object_object_add(description, "devices", devices);

    vm_put_be64(out, RAM_FLAG_END);
    put_footer(out, STREAM_RAM_SECTION_ID);
    vm_put_u8(out, STREAM_SECTION_END);
    vm_put_be32(out, STREAM_RAM_SECTION_ID);
    vm_put_be64(out, RAM_FLAG_END);
    put_footer(out, STREAM_RAM_SECTION_ID);
    if (!devices_save(out, devices, r, errp)) {
        json_object_put(description);
        return NULL;
    }
    vm_put_u8(out, STREAM_EOF);
    stream_put_description(out, description);
    json_object_put(description);
    return g_steal_pointer(&out);
}

GByteArray *stream_save_tail(const char *machine_type, const VMStateRegistry *r, GError **errp)
{
    return save_tail(machine_type, true, r, errp);
}

GByteArray *stream_sequential_tail(const char *machine_type, const VMStateRegistry *r,
                                   GError **errp)
{
    return save_tail(machine_type, false, r, errp);
}

/* --- Reading: headers --------------------------------------------------------------------- */

/* A window on the source for the headers, which are small. */
typedef struct HeaderReader {
    const StreamSource *src;
    uint64_t offset; /* of buf[0] */
    uint8_t buf[1024];
    VMReader in;
} HeaderReader;

static bool coroutine_fn window_load(HeaderReader *h, uint64_t offset, GError **errp)
{
    size_t len = MIN(sizeof(h->buf), h->src->size - MIN(offset, h->src->size));
    int ret = len ? h->src->read(h->src->opaque, offset, h->buf, len) : 0;

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the machine state at offset %" PRIu64,
                         offset);
        return false;
    }
    h->offset = offset;
    h->in = (VMReader){.data = h->buf, .size = len};
    return true;
}

static bool ends(GError **errp, const char *where)
{
    error_setg(errp, "Machine state ends in the middle of %s", where);
    return false;
}

bool stream_parse_configuration(VMReader *in, char machine_type[256], GError **errp)
{
    uint32_t magic, version, len;
    uint8_t mark;

    if (!vm_read_be32(in, &magic) || !vm_read_be32(in, &version) || !vm_read_u8(in, &mark)) {
        return ends(errp, "its header");
    }
    if (magic != STREAM_MAGIC) {
        error_setg(errp, "Not a machine state: magic is 0x%08x instead of 0x%08x", magic,
                   STREAM_MAGIC);
        return false;
    }
    if (version != STREAM_VERSION) {
        error_setg(errp, "Machine state has format version %u; only %u is supported", version,
                   STREAM_VERSION);
        return false;
    }
    if (mark != STREAM_CONFIGURATION) {
        error_setg(errp, "Machine state has no configuration section");
        return false;
    }
    if (!vm_read_be32(in, &len)) {
        return ends(errp, "the configuration section");
    }
    if (len == 0 || len > 255) {
        error_setg(errp, "Configuration section: machine type of %u bytes", len);
        return false;
    }
    if (!vm_read_bytes(in, machine_type, len)) {
        return ends(errp, "the configuration section");
    }
    if (!g_utf8_validate(machine_type, len, NULL)) {
        error_setg(errp, "Configuration section: machine type is not text");
        return false;
    }
    machine_type[len] = 0;
    return true;
}

/*
 * Optional: what the stream needs its reader to understand.  Of the capabilities that are
 * stored, this reader has one.
 */
static bool parse_capabilities(VMReader *in, GError **errp)
{
    uint8_t mark;
    uint32_t version, count;
    char name[256];

    if (in->pos == in->size || in->data[in->pos] != STREAM_SUBSECTION) {
        return true;
    }
    if (!vm_read_u8(in, &mark) || !vm_read_counted_string(in, name) ||
        !vm_read_be32(in, &version)) {
        return ends(errp, "the configuration section");
    }
    if (strcmp(name, CAPABILITIES) != 0 || version != CAPABILITIES_VERSION) {
        error_setg(errp, "Configuration section has an unknown subsection");
        return false;
    }
    if (!vm_read_be32(in, &count)) {
        return ends(errp, "the configuration section");
    }
    while (count--) {
        if (!vm_read_counted_string(in, name)) {
            return ends(errp, "the configuration section");
        }
        if (strcmp(name, MAPPED_RAM) != 0) {
            error_setg(errp, "Machine state needs a capability that is not supported");
            return false;
        }
    }
    return true;
}

bool stream_parse_ram_start(VMReader *in, uint64_t *total, GError **errp)
{
    uint8_t mark;
    uint32_t section_id, instance_id, version;
    char idstr[256];

    if (!vm_read_u8(in, &mark) || !vm_read_be32(in, &section_id) ||
        !vm_read_counted_string(in, idstr) || !vm_read_be32(in, &instance_id) ||
        !vm_read_be32(in, &version)) {
        return ends(errp, "the header of section 'ram'");
    }
    if (mark != STREAM_SECTION_START || section_id != STREAM_RAM_SECTION_ID ||
        strcmp(idstr, "ram") != 0 || instance_id != 0) {
        error_setg(errp, "Machine state does not begin with section 'ram'");
        return false;
    }
    if (version != RAM_VERSION) {
        error_setg(errp, "Section 'ram': version %u is not supported", version);
        return false;
    }
    if (!vm_read_be64(in, total)) {
        return ends(errp, "section 'ram'");
    }
    if ((*total & (STREAM_PAGE_SIZE - 1)) != RAM_FLAG_SIZES) {
        error_setg(errp, "Section 'ram' does not begin with the sizes of RAM");
        return false;
    }
    *total &= ~(STREAM_PAGE_SIZE - 1);
    if (*total > STREAM_MAX_RAM) {
        error_setg(errp, "Section 'ram': %" PRIu64 " bytes of RAM", *total);
        return false;
    }
    return true;
}

/* One block's header; base is the stream offset of in->data. */
static bool parse_block(VMReader *in, uint64_t base, uint64_t size, StreamBlock *b,
                        GError **errp)
{
    uint32_t version;
    uint64_t page_size, here, end;

    if (!vm_read_counted_string(in, b->idstr) || !vm_read_be64(in, &b->length) ||
        !vm_read_be32(in, &version) || !vm_read_be64(in, &page_size) ||
        !vm_read_be64(in, &b->bitmap_offset) || !vm_read_be64(in, &b->pages_offset)) {
        return ends(errp, "a RAM block's header");
    }
    here = base + in->pos;
    if (!g_utf8_validate(b->idstr, -1, NULL) || !b->idstr[0]) {
        error_setg(errp, "Section 'ram': a block's name is not text");
        return false;
    }
    if (version != MAPPED_RAM_VERSION || page_size != STREAM_PAGE_SIZE) {
        error_setg(errp,
                   "Section 'ram', block '%s': layout version %u with pages of %" PRIu64
                   " bytes is not supported",
                   b->idstr, version, page_size);
        return false;
    }
    if (b->length == 0 || b->length % STREAM_PAGE_SIZE || b->length > STREAM_MAX_RAM) {
        error_setg(errp, "Section 'ram', block '%s': length %" PRIu64 " is not valid", b->idstr,
                   b->length);
        return false;
    }
    b->bitmap_bytes = bitmap_bytes_for(b->length);
    if (b->bitmap_offset < here || b->pages_offset % STREAM_PAGE_SIZE ||
        b->bitmap_offset > b->pages_offset ||
        b->pages_offset - b->bitmap_offset < b->bitmap_bytes ||
        __builtin_add_overflow(b->pages_offset, b->length, &end) || end > size) {
        error_setg(errp,
                   "Section 'ram', block '%s': bitmap at %" PRIu64 " and pages at %" PRIu64
                   " do not fit into a machine state of %" PRIu64 " bytes",
                   b->idstr, b->bitmap_offset, b->pages_offset, size);
        return false;
    }
    return true;
}

StreamLayout *coroutine_fn stream_read_layout(const StreamSource *src, GError **errp)
{
    g_autoptr(StreamLayout) l = g_new0(StreamLayout, 1);
    g_autofree HeaderReader *h = g_new0(HeaderReader, 1);
    uint64_t total, sum = 0;

    h->src = src;
    l->blocks = g_new0(StreamBlock, STREAM_MAX_BLOCKS);
    if (!window_load(h, 0, errp) || !stream_parse_configuration(&h->in, l->machine_type, errp) ||
        !parse_capabilities(&h->in, errp) || !stream_parse_ram_start(&h->in, &total, errp)) {
        return NULL;
    }
    l->tail_offset = h->in.pos;
    while (sum < total) {
        StreamBlock *b = &l->blocks[l->nr_blocks];

        if (l->nr_blocks == STREAM_MAX_BLOCKS) {
            error_setg(errp, "Section 'ram' has more than %d blocks", STREAM_MAX_BLOCKS);
            return NULL;
        }
        if (l->nr_blocks && !window_load(h, l->tail_offset, errp)) {
            return NULL;
        }
        if (!parse_block(&h->in, h->offset, src->size, b, errp)) {
            return NULL;
        }
        for (int i = 0; i < l->nr_blocks; i++) {
            if (strcmp(l->blocks[i].idstr, b->idstr) == 0) {
                error_setg(errp, "Section 'ram': block '%s' is there twice", b->idstr);
                return NULL;
            }
        }
        if (b->length > total - sum) {
            error_setg(errp, "Section 'ram': blocks are larger than their sum %" PRIu64, total);
            return NULL;
        }
        sum += b->length;
        l->tail_offset = b->pages_offset + b->length;
        l->nr_blocks++;
    }
    return g_steal_pointer(&l);
}

bool stream_check_machine(const StreamLayout *l, const char *machine_type, const RAMBlock *ram,
                          int nr_ram, GError **errp)
{
    if (strcmp(l->machine_type, machine_type) != 0) {
        error_setg(errp, "Machine type received is '%s' and local is '%s'", l->machine_type,
                   machine_type);
        return false;
    }
    for (int i = 0; i < MAX(nr_ram, l->nr_blocks); i++) {
        if (i >= nr_ram) {
            error_setg(errp, "Machine state has RAM block '%s', which this machine has not",
                       l->blocks[i].idstr);
            return false;
        }
        if (i >= l->nr_blocks || strcmp(l->blocks[i].idstr, ram[i].idstr) != 0) {
            error_setg(errp, "Machine state has no RAM block '%s'", ram[i].idstr);
            return false;
        }
        if (l->blocks[i].length != ram[i].size) {
            error_setg(errp, "Size mismatch: %s: 0x%" PRIx64 " != 0x%" PRIx64 ": Invalid argument",
                       ram[i].idstr, l->blocks[i].length, ram[i].size);
            return false;
        }
    }
    return true;
}

/* --- Reading: devices ---------------------------------------------------------------------- */

GByteArray *coroutine_fn stream_read_tail(const StreamSource *src, const StreamLayout *l,
                                          GError **errp)
{
    uint64_t len = src->size - l->tail_offset;
    g_autoptr(GByteArray) tail = NULL;
    int ret;

    if (l->tail_offset >= src->size) {
        ends(errp, "section 'ram'");
        return NULL;
    }
    if (len > STREAM_MAX_TAIL) {
        error_setg(errp, "Machine state has %" PRIu64 " bytes of device state", len);
        return NULL;
    }
    tail = g_byte_array_sized_new(len);
    g_byte_array_set_size(tail, len);
    ret = src->read(src->opaque, l->tail_offset, tail->data, len);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the machine state at offset %" PRIu64,
                         l->tail_offset);
        return NULL;
    }
    return g_steal_pointer(&tail);
}

static bool parse_footer(VMReader *in, uint32_t expected, const char *idstr, GError **errp)
{
    uint8_t mark;
    uint32_t section_id;

    if (!vm_read_u8(in, &mark) || !vm_read_be32(in, &section_id) || mark != STREAM_FOOTER ||
        section_id != expected) {
        error_setg(errp, "Section '%s' does not end where it should", idstr);
        return false;
    }
    return true;
}

/* What to do with the sections that are parsed: only look at them, load all, or one. */
typedef struct Target {
    bool load;
    const VMStateDescription *only; /* load: just this one, into... */
    void *into;
    bool found; /* it was there */
} Target;

static void *target_of(Target *t, const VMStateEntry *e)
{
    if (!t->load || (t->only && t->only != e->vmsd)) {
        return NULL;
    }
    t->found = true;
    return t->only ? t->into : e->opaque;
}

/* The mark is read already. */
static bool parse_device(VMReader *in, const VMStateRegistry *r, GHashTable *seen, Target *t,
                         GError **errp)
{
    uint32_t section_id, instance_id, version;
    char idstr[256];
    VMStateEntry *e;

    if (!vm_read_be32(in, &section_id) || !vm_read_counted_string(in, idstr) ||
        !vm_read_be32(in, &instance_id) || !vm_read_be32(in, &version)) {
        return ends(errp, "a section's header");
    }
    if (!g_utf8_validate(idstr, -1, NULL)) {
        error_setg(errp, "A section's name is not text");
        return false;
    }
    e = vmstate_find(r, idstr, instance_id);
    if (!e) {
        error_setg(errp, "Unknown section '%s' instance %u: this machine has no such device",
                   idstr, instance_id);
        return false;
    }
    if (!g_hash_table_add(seen, e)) {
        error_setg(errp, "Section '%s' instance %u is there twice", idstr, instance_id);
        return false;
    }
    if (version > G_MAXINT ||
        !vmstate_load_state(in, e->vmsd, target_of(t, e), version, errp)) {
        if (version > G_MAXINT) {
            error_setg(errp, "version %u is not supported", version);
        }
        g_prefix_error(errp, "Section '%s' instance %u: ", idstr, instance_id);
        return false;
    }
    return parse_footer(in, section_id, idstr, errp);
}

static bool check_complete(const VMStateRegistry *r, GHashTable *seen, GError **errp)
{
    for (guint i = 0; i < r->entries->len; i++) {
        VMStateEntry *e = g_ptr_array_index(r->entries, i);

        if (!e->vmsd->needed && !g_hash_table_contains(seen, e)) {
            error_setg(errp, "Machine state has no section '%s' instance %u", e->idstr,
                       e->instance_id);
            return false;
        }
    }
    return true;
}

static bool parse_ram_end(VMReader *in, GError **errp)
{
    uint64_t flags;
    uint8_t mark;
    uint32_t section_id;

    for (int i = 0; i < 2; i++) {
        if (!vm_read_be64(in, &flags) || flags != RAM_FLAG_END) {
            error_setg(errp, "Section 'ram' does not end where it should");
            return false;
        }
        if (!parse_footer(in, STREAM_RAM_SECTION_ID, "ram", errp)) {
            return false;
        }
        if (i == 0 && (!vm_read_u8(in, &mark) || !vm_read_be32(in, &section_id) ||
                       mark != STREAM_SECTION_END || section_id != STREAM_RAM_SECTION_ID)) {
            error_setg(errp, "Section 'ram' has no end");
            return false;
        }
    }
    return true;
}

static bool parse_description(VMReader *in, GError **errp)
{
    uint8_t mark;
    uint32_t len;

    /* It may be left out, and a decoder may trust only what the devices themselves know. */
    if (in->pos == in->size) {
        return true;
    }
    if (!vm_read_u8(in, &mark) || mark != STREAM_DESCRIPTION || !vm_read_be32(in, &len) ||
        !vm_read_bytes(in, NULL, len) || memchr(in->data + in->pos - len, 0, len)) {
        error_setg(errp, "The description at the end of the machine state is damaged");
        return false;
    }
    return true;
}

static bool parse_sections(VMReader *in, const VMStateRegistry *r, Target *t, bool to_end,
                           GError **errp)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    uint8_t mark;

    for (;;) {
        if (to_end && in->pos == in->size) {
            break;
        }
        if (!vm_read_u8(in, &mark)) {
            return ends(errp, "the device sections");
        }
        if (mark == STREAM_EOF && !to_end) {
            break;
        }
        if (mark != STREAM_SECTION_FULL) {
            error_setg(errp, "Unknown section type 0x%02x among the devices", mark);
            return false;
        }
        if (!parse_device(in, r, seen, t, errp)) {
            return false;
        }
    }
    return check_complete(r, seen, errp);
}

static bool parse_tail(const GByteArray *tail, const VMStateRegistry *r, Target *t,
                       GError **errp)
{
    VMReader in = {.data = tail->data, .size = tail->len};

    return parse_ram_end(&in, errp) && parse_sections(&in, r, t, false, errp) &&
           parse_description(&in, errp);
}

int stream_scan_devices(const uint8_t *data, size_t len, const VMStateRegistry *r, size_t *used,
                        GError **errp)
{
    VMReader in = {.data = data, .size = len};
    GError *err = NULL;

    if (parse_sections(&in, r, &(Target){.load = false}, false, &err)) {
        *used = in.pos;
        return 1;
    }
    if (in.ended) {
        g_error_free(err);
        return 0;
    }
    g_propagate_error(errp, err);
    return -1;
}

bool stream_load_sections(const uint8_t *data, size_t len, const VMStateRegistry *r, GError **errp)
{
    VMReader in = {.data = data, .size = len};

    return parse_sections(&in, r, &(Target){.load = true}, false, errp);
}

bool stream_check_tail(const GByteArray *tail, const VMStateRegistry *r, GError **errp)
{
    return parse_tail(tail, r, &(Target){.load = false}, errp);
}

bool stream_load_tail(const GByteArray *tail, const VMStateRegistry *r, GError **errp)
{
    return parse_tail(tail, r, &(Target){.load = true}, errp);
}

bool stream_load_section(const GByteArray *tail, const VMStateRegistry *r,
                         const VMStateDescription *vmsd, void *opaque)
{
    Target t = {.load = true, .only = vmsd, .into = opaque};

    return parse_tail(tail, r, &t, NULL) && t.found;
}

bool devices_load(const GByteArray *in_bytes, const VMStateRegistry *r, GError **errp)
{
    VMReader in = {.data = in_bytes->data, .size = in_bytes->len};

    return parse_sections(&in, r, &(Target){.load = true}, true, errp);
}
