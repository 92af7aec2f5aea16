/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device state: the registry, and saving and loading by description.  Works on memory
 * only; the caller has the machine lock and a parked machine.  Input is hostile: every
 * read is bounded, every value that has a form is checked, and an error names the field.
 */
#include <string.h>
#include "vmstate-int.h"
#include "qapi/error.h"

#define SUBSECTION_MARK 0x05
/* Deeper nesting than any device has; a bound for the recursion. */
#define MAX_DEPTH 16

/* --- Bytes --------------------------------------------------------------------------- */

bool vm_read_bytes(VMReader *r, void *buf, size_t len)
{
    if (len > r->size - r->pos) {
        r->ended = true;
        return false;
    }
    if (buf && len) {
        memcpy(buf, r->data + r->pos, len);
    }
    r->pos += len;
    return true;
}

bool vm_read_u8(VMReader *r, uint8_t *v)
{
    return vm_read_bytes(r, v, 1);
}

bool vm_read_be16(VMReader *r, uint16_t *v)
{
    if (!vm_read_bytes(r, v, sizeof(*v))) {
        return false;
    }
    *v = GUINT16_FROM_BE(*v);
    return true;
}

bool vm_read_be32(VMReader *r, uint32_t *v)
{
    if (!vm_read_bytes(r, v, sizeof(*v))) {
        return false;
    }
    *v = GUINT32_FROM_BE(*v);
    return true;
}

bool vm_read_be64(VMReader *r, uint64_t *v)
{
    if (!vm_read_bytes(r, v, sizeof(*v))) {
        return false;
    }
    *v = GUINT64_FROM_BE(*v);
    return true;
}

bool vm_read_counted_string(VMReader *r, char out[256])
{
    uint8_t len;

    if (!vm_read_u8(r, &len) || !vm_read_bytes(r, out, len) || memchr(out, 0, len)) {
        return false;
    }
    out[len] = 0;
    return true;
}

void vm_put_u8(GByteArray *out, uint8_t v)
{
    g_byte_array_append(out, &v, 1);
}

void vm_put_be16(GByteArray *out, uint16_t v)
{
    v = GUINT16_TO_BE(v);
    g_byte_array_append(out, (uint8_t *)&v, sizeof(v));
}

void vm_put_be32(GByteArray *out, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    g_byte_array_append(out, (uint8_t *)&v, sizeof(v));
}

void vm_put_be64(GByteArray *out, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    g_byte_array_append(out, (uint8_t *)&v, sizeof(v));
}

void vm_put_counted_string(GByteArray *out, const char *s)
{
    size_t len = strlen(s);

    g_assert(len <= 255);
    vm_put_u8(out, len);
    g_byte_array_append(out, (const uint8_t *)s, len);
}

/* --- Registry -------------------------------------------------------------------------- */

static void entry_free(void *opaque)
{
    VMStateEntry *e = opaque;

    g_free(e->idstr);
    g_free(e);
}

VMStateRegistry *vmstate_registry_new(void)
{
    VMStateRegistry *r = g_new0(VMStateRegistry, 1);

    r->entries = g_ptr_array_new_with_free_func(entry_free);
    r->blockers = g_ptr_array_new_with_free_func(g_free);
    return r;
}

void vmstate_registry_free(VMStateRegistry *r)
{
    if (r) {
        g_ptr_array_unref(r->entries);
        g_ptr_array_unref(r->blockers);
        g_free(r);
    }
}

VMStateEntry *vmstate_find(const VMStateRegistry *r, const char *idstr, uint32_t instance_id)
{
    for (guint i = 0; i < r->entries->len; i++) {
        VMStateEntry *e = g_ptr_array_index(r->entries, i);

        if (e->instance_id == instance_id && strcmp(e->idstr, idstr) == 0) {
            return e;
        }
    }
    return NULL;
}

void vmstate_register(VMStateRegistry *r, const char *idstr, uint32_t instance_id,
                      const VMStateDescription *vmsd, void *opaque)
{
    VMStateEntry *e = g_new0(VMStateEntry, 1);

    g_assert(strlen(idstr) <= 255 && !vmstate_find(r, idstr, instance_id));
    e->idstr = g_strdup(idstr);
    e->instance_id = instance_id;
    e->vmsd = vmsd;
    e->opaque = opaque;
    g_ptr_array_add(r->entries, e);
}

void vmstate_unregister(VMStateRegistry *r, void *opaque)
{
    for (guint i = r->entries->len; i > 0; i--) {
        VMStateEntry *e = g_ptr_array_index(r->entries, i - 1);

        if (e->opaque == opaque) {
            g_ptr_array_remove_index(r->entries, i - 1);
        }
    }
}

void vmstate_block(VMStateRegistry *r, const char *reason)
{
    g_ptr_array_add(r->blockers, g_strdup(reason));
}

void vmstate_unblock(VMStateRegistry *r, const char *reason)
{
    for (guint i = 0; i < r->blockers->len; i++) {
        if (strcmp(g_ptr_array_index(r->blockers, i), reason) == 0) {
            g_ptr_array_remove_index(r->blockers, i);
            return;
        }
    }
}

const char *vmstate_blocker(const VMStateRegistry *r)
{
    return r->blockers->len ? g_ptr_array_index(r->blockers, 0) : NULL;
}

/* --- Saving ------------------------------------------------------------------------------ */

static void put_scalar(GByteArray *out, VMStateKind kind, const void *p)
{
    uint64_t v64;
    uint32_t v32;
    uint16_t v16;

    switch (kind) {
    case VMSTATE_KIND_BOOL:
        vm_put_u8(out, *(const bool *)p ? 1 : 0);
        break;
    case VMSTATE_KIND_UINT8:
        vm_put_u8(out, *(const uint8_t *)p);
        break;
    case VMSTATE_KIND_UINT16:
        memcpy(&v16, p, sizeof(v16));
        vm_put_be16(out, v16);
        break;
    case VMSTATE_KIND_UINT32:
    case VMSTATE_KIND_INT32:
        memcpy(&v32, p, sizeof(v32));
        vm_put_be32(out, v32);
        break;
    case VMSTATE_KIND_UINT64:
    case VMSTATE_KIND_INT64:
        memcpy(&v64, p, sizeof(v64));
        vm_put_be64(out, v64);
        break;
    default:
        g_assert_not_reached();
    }
}

uint32_t vmstate_vbuffer_len(const VMStateField *f, const void *opaque)
{
    uint32_t len;

    g_assert(f[-1].kind == VMSTATE_KIND_UINT32 && f[-1].num == 1);
    memcpy(&len, (const uint8_t *)opaque + f[-1].offset, sizeof(len));
    return len;
}

bool vmstate_save_state(GByteArray *out, const VMStateDescription *vmsd, void *opaque,
                        GError **errp)
{
    if (vmsd->pre_save && !vmsd->pre_save(opaque, errp)) {
        return false;
    }
    for (const VMStateField *f = vmsd->fields; f && f->name; f++) {
        for (size_t i = 0; i < f->num; i++) {
            uint8_t *p = (uint8_t *)opaque + f->offset + i * f->size;

            if (f->version > vmsd->version) {
                continue;
            }
            if (f->kind == VMSTATE_KIND_STRUCT) {
                if (!vmstate_save_state(out, f->vmsd, p, errp)) {
                    g_prefix_error(errp, "field '%s': ", f->name);
                    return false;
                }
            } else if (f->kind == VMSTATE_KIND_BUFFER) {
                g_byte_array_append(out, p, f->size);
            } else if (f->kind == VMSTATE_KIND_VBUFFER) {
                g_byte_array_append(out, *(uint8_t **)p, vmstate_vbuffer_len(f, opaque));
            } else {
                put_scalar(out, f->kind, p);
            }
        }
    }
    for (const VMStateDescription *const *s = vmsd->subsections; s && *s; s++) {
        if ((*s)->needed && !(*s)->needed(opaque)) {
            continue;
        }
        vm_put_u8(out, SUBSECTION_MARK);
        vm_put_counted_string(out, (*s)->name);
        vm_put_be32(out, (*s)->version);
        if (!vmstate_save_state(out, *s, opaque, errp)) {
            g_prefix_error(errp, "subsection '%s': ", (*s)->name);
            return false;
        }
    }
    return true;
}

/* --- Loading ------------------------------------------------------------------------------ */

static bool load_scalar(VMReader *in, VMStateKind kind, void *p, GError **errp)
{
    uint8_t v8 = 0;
    uint16_t v16 = 0;
    uint32_t v32 = 0;
    uint64_t v64 = 0;
    const void *from = NULL;
    size_t len = 0;
    bool ok = false;

    switch (kind) {
    case VMSTATE_KIND_BOOL:
    case VMSTATE_KIND_UINT8:
        ok = vm_read_u8(in, &v8);
        from = &v8;
        len = sizeof(v8);
        break;
    case VMSTATE_KIND_UINT16:
        ok = vm_read_be16(in, &v16);
        from = &v16;
        len = sizeof(v16);
        break;
    case VMSTATE_KIND_UINT32:
    case VMSTATE_KIND_INT32:
        ok = vm_read_be32(in, &v32);
        from = &v32;
        len = sizeof(v32);
        break;
    case VMSTATE_KIND_UINT64:
    case VMSTATE_KIND_INT64:
        ok = vm_read_be64(in, &v64);
        from = &v64;
        len = sizeof(v64);
        break;
    default:
        g_assert_not_reached();
    }
    if (!ok) {
        error_setg(errp, "the data ends in the middle of it");
        return false;
    }
    if (kind == VMSTATE_KIND_BOOL) {
        if (v8 > 1) {
            error_setg(errp, "%u is not a boolean", v8);
            return false;
        }
        if (p) {
            *(bool *)p = v8;
        }
        return true;
    }
    if (p) {
        memcpy(p, from, len);
    }
    return true;
}

static bool load_state(VMReader *in, const VMStateDescription *vmsd, void *opaque, int version,
                       int depth, GError **errp);

/* p, if not NULL: the pointer to the bytes that are there now. */
static bool load_vbuffer(VMReader *in, uint8_t **p, uint32_t len, GError **errp)
{
    if (len > in->size - in->pos) {
        error_setg(errp, "the data ends in the middle of it");
        return false;
    }
    if (p) {
        g_free(*p);
        *p = g_malloc(len);
    }
    return vm_read_bytes(in, p ? *p : NULL, len);
}

/* before: where the field starts whose length says how long a VBUFFER is. */
static bool load_element(VMReader *in, const VMStateField *f, void *p, size_t before, int depth,
                         GError **errp)
{
    VMReader length = {.data = in->data, .size = in->size, .pos = before};
    uint32_t len;

    if (f->kind == VMSTATE_KIND_STRUCT) {
        return load_state(in, f->vmsd, p, f->vmsd->version, depth + 1, errp);
    }
    if (f->kind == VMSTATE_KIND_BUFFER) {
        if (!vm_read_bytes(in, p, f->size)) {
            error_setg(errp, "the data ends in the middle of it");
            return false;
        }
        return true;
    }
    if (f->kind == VMSTATE_KIND_VBUFFER) {
        return vm_read_be32(&length, &len) && load_vbuffer(in, p, len, errp);
    }
    return load_scalar(in, f->kind, p, errp);
}

static const VMStateDescription *find_subsection(const VMStateDescription *vmsd,
                                                 const char *name)
{
    for (const VMStateDescription *const *s = vmsd->subsections; s && *s; s++) {
        if (strcmp((*s)->name, name) == 0) {
            return *s;
        }
    }
    return NULL;
}

/*
 * Subsections are told from whatever follows the fields by their mark and by a name that
 * starts with the owner's: "serial/thr_ipending" belongs to "serial".
 */
static bool at_subsection(const VMReader *in, const VMStateDescription *vmsd, char name[256])
{
    VMReader look = *in;
    uint8_t mark;
    size_t len = strlen(vmsd->name);

    return vm_read_u8(&look, &mark) && mark == SUBSECTION_MARK &&
           vm_read_counted_string(&look, name) && strncmp(name, vmsd->name, len) == 0 &&
           name[len] == '/';
}

static bool load_subsections(VMReader *in, const VMStateDescription *vmsd, void *opaque,
                             int depth, GError **errp)
{
    g_autoptr(GPtrArray) seen = g_ptr_array_new();
    char name[256];

    while (at_subsection(in, vmsd, name)) {
        const VMStateDescription *sub = find_subsection(vmsd, name);
        uint8_t mark;
        uint32_t version;

        if (!sub) {
            error_setg(errp, "unknown subsection '%s'", name);
            return false;
        }
        if (g_ptr_array_find(seen, sub, NULL)) {
            error_setg(errp, "subsection '%s' is there twice", name);
            return false;
        }
        g_ptr_array_add(seen, (void *)sub);
        vm_read_u8(in, &mark);
        vm_read_counted_string(in, name);
        if (!vm_read_be32(in, &version)) {
            error_setg(errp, "subsection '%s': the data ends in its header", sub->name);
            return false;
        }
        if (version > G_MAXINT) {
            error_setg(errp, "subsection '%s': version %u is not supported", sub->name, version);
            return false;
        }
        if (!load_state(in, sub, opaque, version, depth + 1, errp)) {
            g_prefix_error(errp, "subsection '%s': ", sub->name);
            return false;
        }
    }
    return true;
}

static bool load_state(VMReader *in, const VMStateDescription *vmsd, void *opaque, int version,
                       int depth, GError **errp)
{
    if (version > vmsd->version || version < vmsd->minimum_version) {
        error_setg(errp, "version %d is not supported (%d to %d are)", version,
                   vmsd->minimum_version, vmsd->version);
        return false;
    }
    if (depth > MAX_DEPTH) {
        error_setg(errp, "nested too deeply");
        return false;
    }
    if (opaque && vmsd->pre_load && !vmsd->pre_load(opaque, errp)) {
        return false;
    }
    for (const VMStateField *f = vmsd->fields; f && f->name; f++) {
        size_t before = in->pos - MIN(in->pos, sizeof(uint32_t));

        if (f->version > version) {
            continue;
        }
        for (size_t i = 0; i < f->num; i++) {
            void *p = opaque ? (uint8_t *)opaque + f->offset + i * f->size : NULL;

            if (!load_element(in, f, p, before, depth, errp)) {
                if (f->num > 1) {
                    g_prefix_error(errp, "field '%s[%zu]': ", f->name, i);
                } else {
                    g_prefix_error(errp, "field '%s': ", f->name);
                }
                return false;
            }
        }
    }
    if (!load_subsections(in, vmsd, opaque, depth, errp)) {
        return false;
    }
    return !opaque || !vmsd->post_load || vmsd->post_load(opaque, version, errp);
}

bool vmstate_load_state(VMReader *in, const VMStateDescription *vmsd, void *opaque,
                        int version, GError **errp)
{
    return load_state(in, vmsd, opaque, version, 0, errp);
}
