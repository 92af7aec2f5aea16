/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decodes the device sections of a stream with nothing but the JSON description that ends
 * it, and shows them as JSON.  Description and bytes come from the same untrusted file:
 * every size in one is checked against the other.  Pure computation; any thread.
 */
#include <inttypes.h>
#include <string.h>
#include "qapi/error.h"
#include "qapi/json.h"
#include "vmstate-fs-int.h"

#define MAX_VALUES (4u << 20)
#define MAX_SECTIONS 4096
/* A buffer that is larger is shown as its place in the stream. */
#define MAX_SHOWN_BUFFER (64u << 10)

typedef struct Decoder {
    VMReader in;
    uint64_t base; /* of in.data in the stream */
    GString *out;
    VMDecodedDevice *device;
    uint32_t values;
    size_t text; /* bytes of the sections before this one */
    int depth;
} Decoder;

static bool G_GNUC_PRINTF(2, 3) refuse(GError **errp, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    error_setg(errp, "%s", text);
    return false;
}

/* --- Members of the description ------------------------------------------------------------- */

static bool get_array(json_object *o, const char *name, json_object **array)
{
    return json_object_object_get_ex(o, name, array) &&
           json_object_is_type(*array, json_type_array);
}

/* A string in UTF-8 without NUL. */
static const char *get_string(json_object *o, const char *name)
{
    json_object *value;
    const char *s;

    if (!json_object_object_get_ex(o, name, &value) ||
        !json_object_is_type(value, json_type_string)) {
        return NULL;
    }
    s = json_object_get_string(value);
    return strlen(s) == (size_t)json_object_get_string_len(value) &&
                   g_utf8_validate(s, -1, NULL)
               ? s
               : NULL;
}

/* A number from 0 to 2^32 - 1; fallback if it is not there.  false if it is another thing. */
static bool get_number(json_object *o, const char *name, int64_t fallback, int64_t *n)
{
    json_object *value;

    *n = fallback;
    if (!json_object_object_get_ex(o, name, &value)) {
        return true;
    }
    *n = json_object_get_int64(value);
    return json_object_is_type(value, json_type_int) && *n >= 0 && *n <= UINT32_MAX;
}

/* --- Output ----------------------------------------------------------------------------------- */

static void new_line(Decoder *d)
{
    g_string_append_c(d->out, '\n');
    for (int i = 0; i < d->depth; i++) {
        g_string_append(d->out, "  ");
    }
}

static void put_string(Decoder *d, const char *s)
{
    json_object *o = json_object_new_string(s);

    g_string_append(d->out,
                    json_object_to_json_string_ext(o, JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
}

static void put_key(Decoder *d, const char *name, bool first)
{
    if (!first) {
        g_string_append_c(d->out, ',');
    }
    new_line(d);
    put_string(d, name);
    g_string_append(d->out, ": ");
}

/* --- Values ------------------------------------------------------------------------------------ */

typedef struct Field {
    const char *name, *type;
    int64_t size;
    json_object *structure; /* or NULL */
    bool is_array, has_index;
    int64_t count, index;
} Field;

static uint64_t big_endian(const uint8_t *p, size_t size)
{
    uint64_t v = 0;

    for (size_t i = 0; i < size; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static bool is_number(const char *type, int64_t size)
{
    return size <= 8 && (g_str_has_prefix(type, "uint") || g_str_has_prefix(type, "int") ||
                         !strcmp(type, "bool"));
}

static void put_bytes(Decoder *d, const uint8_t *p, size_t size)
{
    if (size > MAX_SHOWN_BUFFER) {
        g_string_append_printf(d->out, "{\"bytes\": %zu, \"offset-in-stream\": %" PRIu64 "}",
                               size, d->base + (p - d->in.data));
        return;
    }
    g_string_append_c(d->out, '"');
    for (size_t i = 0; i < size; i++) {
        g_string_append_printf(d->out, "%02x", p[i]);
    }
    g_string_append_c(d->out, '"');
}

static void put_scalar(Decoder *d, const Field *f, const uint8_t *p)
{
    uint64_t v = f->size <= 8 ? big_endian(p, f->size) : 0;

    if (!strcmp(f->type, "bool") && f->size == 1 && v <= 1) {
        g_string_append(d->out, v ? "true" : "false");
    } else if (f->size == 0 || !is_number(f->type, f->size)) {
        put_bytes(d, p, f->size);
    } else if (f->type[0] == 'i') {
        int shift = 64 - 8 * f->size;

        g_string_append_printf(d->out, "%" PRId64, (int64_t)(v << shift) >> shift);
    } else {
        g_string_append_printf(d->out, "\"0x%0*" PRIx64 "\"", (int)f->size * 2, v);
    }
}

static bool decode_struct(Decoder *d, json_object *description, bool top, GError **errp);

static bool decode_value(Decoder *d, const Field *f, GError **errp)
{
    size_t start = d->in.pos;

    if (++d->values > MAX_VALUES || d->text + d->out->len > VMDECODE_MAX_TEXT) {
        return refuse(errp, "field '%s': too much to show", f->name);
    }
    if (f->structure) {
        if (!decode_struct(d, f->structure, false, errp)) {
            g_prefix_error(errp, "field '%s': ", f->name);
            return false;
        }
        if (d->in.pos - start != (size_t)f->size) {
            return refuse(errp, "field '%s': the description says %" PRId64
                          " bytes, its fields take %zu", f->name, f->size, d->in.pos - start);
        }
        return true;
    }
    if ((size_t)f->size > d->in.size - d->in.pos) {
        return refuse(errp, "the machine state ends in the middle of field '%s'", f->name);
    }
    put_scalar(d, f, d->in.data + d->in.pos);
    d->in.pos += f->size;
    return true;
}

/* "uint32" and its like say how many bits they have. */
static bool type_fits(const char *type, int64_t size)
{
    size_t letters = strspn(type, "abcdefghijklmnopqrstuvwxyz");
    uint64_t bits = g_ascii_strtoull(type + letters, NULL, 10);

    return bits == 0 || !(g_str_has_prefix(type, "uint") || g_str_has_prefix(type, "int")) ||
           bits == (uint64_t)size * 8;
}

static bool read_field(json_object *o, Field *f, GError **errp)
{
    json_object *structure = NULL;

    *f = (Field){.count = 1};
    if (json_object_is_type(o, json_type_object)) {
        f->name = get_string(o, "name");
        f->type = get_string(o, "type");
        f->is_array = json_object_object_get_ex(o, "array_len", NULL);
        f->has_index = json_object_object_get_ex(o, "index", NULL);
    }
    if (!f->name || !f->type) {
        return refuse(errp, "a field without name and type is in the description");
    }
    if (!get_number(o, "size", -1, &f->size) || f->size < 0 ||
        !get_number(o, "array_len", 1, &f->count) || !get_number(o, "index", 0, &f->index)) {
        return refuse(errp, "field '%s': the description's numbers are not valid", f->name);
    }
    if (json_object_object_get_ex(o, "struct", &structure)) {
        if (!json_object_is_type(structure, json_type_object)) {
            return refuse(errp, "field '%s': the description has no struct", f->name);
        }
        f->structure = structure;
    } else if (!type_fits(f->type, f->size)) {
        return refuse(errp, "field '%s': type '%s' of %" PRId64 " bytes", f->name, f->type,
                      f->size);
    }
    return true;
}

/* For vmstate_decoded_number(). */
static void note_field(Decoder *d, const Field *f)
{
    VMDecodedField v = {.offset = d->in.pos, .size = f->size, .count = f->count};

    if (!f->structure && !f->has_index && is_number(f->type, f->size)) {
        v.name = g_strdup(f->name);
        g_array_append_val(d->device->fields, v);
    }
}

/* A field with all its elements in one entry. */
static bool decode_array(Decoder *d, const Field *f, GError **errp)
{
    g_string_append_c(d->out, '[');
    for (int64_t i = 0; i < f->count; i++) {
        if (i) {
            g_string_append(d->out, ", ");
        }
        if (!decode_value(d, f, errp)) {
            return false;
        }
    }
    g_string_append_c(d->out, ']');
    return true;
}

/* The entries [*at, ...) of fields that are the elements of one array; *at is moved on. */
static bool decode_indexed(Decoder *d, json_object *fields, size_t *at, Field *f, GError **errp)
{
    g_autofree char *name = g_strdup(f->name);

    g_string_append_c(d->out, '[');
    for (int64_t i = 0;; i++) {
        if (f->index != i) {
            return refuse(errp, "field '%s': element %" PRId64 " of the description is number %"
                          PRId64, name, i, f->index);
        }
        if (i) {
            g_string_append(d->out, ", ");
        }
        if (!decode_value(d, f, errp)) {
            return false;
        }
        if (++*at == json_object_array_length(fields)) {
            break;
        }
        if (!read_field(json_object_array_get_idx(fields, *at), f, errp)) {
            return false;
        }
        if (!f->has_index || strcmp(f->name, name) != 0) {
            break;
        }
    }
    g_string_append_c(d->out, ']');
    return true;
}

static bool decode_fields(Decoder *d, json_object *fields, bool top, bool *first, GError **errp)
{
    size_t n = json_object_array_length(fields);

    for (size_t at = 0; at < n;) {
        Field f;
        bool ok;

        if (!read_field(json_object_array_get_idx(fields, at), &f, errp)) {
            return false;
        }
        put_key(d, f.name, *first);
        *first = false;
        if (top) {
            note_field(d, &f);
        }
        if (f.has_index) {
            ok = decode_indexed(d, fields, &at, &f, errp);
        } else {
            ok = f.is_array ? decode_array(d, &f, errp) : decode_value(d, &f, errp);
            at++;
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool decode_subsection(Decoder *d, json_object *description, bool first, GError **errp)
{
    const char *name = json_object_is_type(description, json_type_object)
                           ? get_string(description, "vmsd_name")
                           : NULL;
    char stored[256];
    uint8_t mark;
    uint32_t version;

    if (!name) {
        return refuse(errp, "a subsection without a name is in the description");
    }
    if (!vm_read_u8(&d->in, &mark) || mark != STREAM_SUBSECTION ||
        !vm_read_counted_string(&d->in, stored) || strcmp(stored, name) != 0 ||
        !vm_read_be32(&d->in, &version)) {
        return refuse(errp, "subsection '%s' is not where the description has it", name);
    }
    put_key(d, name, first);
    if (!decode_struct(d, description, false, errp)) {
        g_prefix_error(errp, "subsection '%s': ", name);
        return false;
    }
    return true;
}

/* Nesting is bounded by json_parse_text(). */
static bool decode_struct(Decoder *d, json_object *description, bool top, GError **errp)
{
    json_object *fields, *subsections;
    bool first = true;

    if (!get_array(description, "fields", &fields)) {
        return refuse(errp, "the description has no list of fields");
    }
    g_string_append_c(d->out, '{');
    d->depth++;
    if (!decode_fields(d, fields, top, &first, errp)) {
        return false;
    }
    if (json_object_object_get_ex(description, "subsections", &subsections)) {
        if (!json_object_is_type(subsections, json_type_array)) {
            return refuse(errp, "the description has no list of subsections");
        }
        for (size_t i = 0; i < json_object_array_length(subsections); i++) {
            if (!decode_subsection(d, json_object_array_get_idx(subsections, i), first, errp)) {
                return false;
            }
            first = false;
        }
    }
    d->depth--;
    if (!first) {
        new_line(d);
    }
    g_string_append_c(d->out, '}');
    return true;
}

/* --- Sections ----------------------------------------------------------------------------------- */

static void free_device(void *opaque)
{
    VMDecodedDevice *dev = opaque;

    for (guint i = 0; i < dev->fields->len; i++) {
        g_free(g_array_index(dev->fields, VMDecodedField, i).name);
    }
    g_array_unref(dev->fields);
    g_clear_pointer(&dev->text, g_bytes_unref);
    g_free(dev);
}

/* The description text ends the tail: an end mark, its own mark, its length, itself. */
static json_object *parse_description(const GByteArray *tail, size_t *sections_end, GError **errp)
{
    for (size_t at = tail->len; at-- > 1;) {
        g_autoptr(GError) err = NULL;
        json_object *o;

        if (tail->len - at < 5 || tail->data[at] != STREAM_DESCRIPTION ||
            tail->data[at - 1] != STREAM_EOF ||
            big_endian(tail->data + at + 1, 4) != tail->len - at - 5) {
            continue;
        }
        o = json_parse_text((const char *)tail->data + at + 5, tail->len - at - 5, &err);
        if (o && !json_object_is_type(o, json_type_object)) {
            json_object_put(o);
            o = NULL;
        }
        if (!o) {
            if (err) {
                g_strdelimit(err->message, "\r\n", ' '); /* it may quote what it found */
            }
            error_setg(errp, "The description at the end of the machine state is damaged%s%s",
                       err ? ": " : "", err ? err->message : "");
        }
        *sections_end = at - 1;
        return o;
    }
    error_setg(errp, "The machine state does not end with a description of its devices");
    return NULL;
}

GByteArray *vmstate_sequential_tail(const GByteArray *tail, GError **errp)
{
    size_t end;
    json_object *description = parse_description(tail, &end, errp), *configuration;
    GByteArray *out;

    if (!description) {
        return NULL;
    }
    if (json_object_object_get_ex(description, "configuration", &configuration) &&
        json_object_is_type(configuration, json_type_object)) {
        json_object_object_del(configuration, "subsections");
    }
    json_object_object_del(description, STREAM_SUM_MEMBER); /* of the state with its bitmaps */
    out = g_byte_array_new();
    g_byte_array_append(out, tail->data, end + 1); /* with the end mark */
    stream_put_description(out, description);
    json_object_put(description);
    return out;
}

/* Sections by name and instance, pointing into the description. */
static GHashTable *index_description(json_object *description, GError **errp)
{
    g_autoptr(GHashTable) index = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    json_object *devices;

    if (!get_array(description, "devices", &devices)) {
        error_setg(errp, "The description at the end of the machine state lists no devices");
        return NULL;
    }
    for (size_t i = 0; i < json_object_array_length(devices); i++) {
        json_object *o = json_object_array_get_idx(devices, i);
        const char *name = json_object_is_type(o, json_type_object) ? get_string(o, "name") : NULL;
        int64_t instance;

        if (!name || !get_number(o, "instance_id", 0, &instance)) {
            error_setg(errp, "The description of device %zu in the machine state is damaged", i);
            return NULL;
        }
        g_hash_table_replace(index, g_strdup_printf("%s\n%" PRId64, name, instance), o);
    }
    return g_steal_pointer(&index);
}

static bool skip_ram_end(VMReader *in, GError **errp)
{
    static const uint8_t end[] = {
        0, 0, 0, 0, 0, 0, 0, 0x10, STREAM_FOOTER, 0, 0, 0, 1, STREAM_SECTION_END, 0, 0, 0, 1,
        0, 0, 0, 0, 0, 0, 0, 0x10, STREAM_FOOTER, 0, 0, 0, 1,
    };
    uint8_t found[sizeof(end)];

    if (!vm_read_bytes(in, found, sizeof(end)) || memcmp(found, end, sizeof(end)) != 0) {
        error_setg(errp, "Section 'ram' does not end where it should");
        return false;
    }
    return true;
}

/* The mark is read already. */
static bool decode_section(Decoder *d, GHashTable *index, GPtrArray *devices, GError **errp)
{
    VMDecodedDevice *dev = g_new0(VMDecodedDevice, 1);
    g_autofree char *key = NULL;
    json_object *description;
    uint32_t footer;
    uint8_t mark;

    dev->fields = g_array_new(false, false, sizeof(VMDecodedField));
    g_ptr_array_add(devices, dev);
    if (!vm_read_be32(&d->in, &dev->section_id) ||
        !vm_read_counted_string(&d->in, dev->idstr) ||
        !vm_read_be32(&d->in, &dev->instance_id) || !vm_read_be32(&d->in, &dev->version)) {
        return refuse(errp, "Machine state ends in the middle of a section's header");
    }
    if (!g_utf8_validate(dev->idstr, -1, NULL)) {
        return refuse(errp, "A section's name is not text");
    }
    key = g_strdup_printf("%s\n%u", dev->idstr, dev->instance_id);
    description = g_hash_table_lookup(index, key);
    if (!description) {
        return refuse(errp, "Section '%s' instance %u is not in the description, or twice in the "
                      "machine state", dev->idstr, dev->instance_id);
    }
    dev->offset = d->in.pos;
    d->device = dev;
    d->out = g_string_new(NULL);
    if (decode_struct(d, description, true, errp)) {
        g_string_append_c(d->out, '\n');
        d->text += d->out->len;
        dev->text = g_string_free_to_bytes(g_steal_pointer(&d->out));
    } else {
        g_string_free(g_steal_pointer(&d->out), true);
        g_prefix_error(errp, "Section '%s' instance %u: ", dev->idstr, dev->instance_id);
        return false;
    }
    dev->size = d->in.pos - dev->offset;
    g_hash_table_remove(index, key);
    if (!vm_read_u8(&d->in, &mark) || !vm_read_be32(&d->in, &footer) || mark != STREAM_FOOTER ||
        footer != dev->section_id) {
        return refuse(errp, "Section '%s' instance %u does not end where its description says",
                      dev->idstr, dev->instance_id);
    }
    return true;
}

static bool decode_sections(Decoder *d, GHashTable *index, GPtrArray *devices, GError **errp)
{
    uint8_t mark;

    if (!skip_ram_end(&d->in, errp)) {
        return false;
    }
    while (d->in.pos < d->in.size) {
        if (!vm_read_u8(&d->in, &mark) || mark != STREAM_SECTION_FULL) {
            return refuse(errp, "Unknown section type 0x%02x among the devices", mark);
        }
        if (devices->len == MAX_SECTIONS) {
            return refuse(errp, "Machine state has more than %d sections", MAX_SECTIONS);
        }
        if (!decode_section(d, index, devices, errp)) {
            return false;
        }
    }
    return true;
}

GPtrArray *vmstate_decode(const GByteArray *tail, uint64_t offset, GError **errp)
{
    g_autoptr(GPtrArray) devices = g_ptr_array_new_with_free_func(free_device);
    g_autoptr(GHashTable) index = NULL;
    Decoder d = {.in = {.data = tail->data}, .base = offset};
    json_object *description = parse_description(tail, &d.in.size, errp);
    bool ok;

    if (!description) {
        return NULL;
    }
    index = index_description(description, errp);
    ok = index && decode_sections(&d, index, devices, errp);
    json_object_put(description);
    return ok ? g_steal_pointer(&devices) : NULL;
}

bool vmstate_decoded_number(const VMDecodedDevice *dev, const GByteArray *tail, const char *name,
                            size_t n, uint64_t *value)
{
    for (guint i = 0; i < dev->fields->len; i++) {
        const VMDecodedField *f = &g_array_index(dev->fields, VMDecodedField, i);

        if (!strcmp(f->name, name) && n < f->count) {
            *value = big_endian(tail->data + f->offset + n * f->size, f->size);
            return true;
        }
    }
    return false;
}
