/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The JSON description of device state that ends a migration stream: for every device the
 * fields in the order in which they lie in the stream, so that a reader needs nothing else
 * to decode it.  Member names are those of QEMU's documented format.
 */
#include <string.h>
#include "vmstate-int.h"

static const char *kind_name(VMStateKind kind)
{
    static const char *const names[] = {
        [VMSTATE_KIND_BOOL] = "bool",     [VMSTATE_KIND_UINT8] = "uint8",
        [VMSTATE_KIND_UINT16] = "uint16", [VMSTATE_KIND_UINT32] = "uint32",
        [VMSTATE_KIND_UINT64] = "uint64", [VMSTATE_KIND_INT32] = "int32",
        [VMSTATE_KIND_INT64] = "int64",   [VMSTATE_KIND_BUFFER] = "buffer",
        [VMSTATE_KIND_STRUCT] = "struct", [VMSTATE_KIND_VBUFFER] = "buffer",
    };

    return names[kind];
}

static json_object *describe(const VMStateDescription *vmsd, void *opaque, size_t *bytes);

static void add_string(json_object *o, const char *name, const char *value)
{
    json_object_object_add(o, name, json_object_new_string(value));
}

static void add_int(json_object *o, const char *name, int64_t value)
{
    json_object_object_add(o, name, json_object_new_int64(value));
}

/* One entry of "fields"; size is that of one element on the wire.  p: in opaque. */
static json_object *describe_field(const VMStateField *f, void *opaque, void *p, size_t *bytes)
{
    json_object *o = json_object_new_object();

    add_string(o, "name", f->name);
    *bytes = f->size;
    if (f->kind == VMSTATE_KIND_STRUCT) {
        json_object_object_add(o, "struct", describe(f->vmsd, p, bytes));
    } else if (f->kind == VMSTATE_KIND_BOOL) {
        *bytes = 1;
    } else if (f->kind == VMSTATE_KIND_VBUFFER) {
        *bytes = vmstate_vbuffer_len(f, opaque);
    }
    add_string(o, "type", kind_name(f->kind));
    add_int(o, "size", *bytes);
    return o;
}

static json_object *describe(const VMStateDescription *vmsd, void *opaque, size_t *bytes)
{
    json_object *o = json_object_new_object();
    json_object *fields = json_object_new_array();
    json_object *subsections = NULL;
    size_t one;

    *bytes = 0;
    add_string(o, "vmsd_name", vmsd->name);
    add_int(o, "version", vmsd->version);
    for (const VMStateField *f = vmsd->fields; f && f->name; f++) {
        if (f->version > vmsd->version) {
            continue;
        }
        if (f->kind != VMSTATE_KIND_STRUCT || f->num == 1) {
            json_object *d = describe_field(f, opaque, (uint8_t *)opaque + f->offset,
                                            &one);

            if (f->num != 1) {
                add_int(d, "array_len", f->num);
            }
            json_object_array_add(fields, d);
            *bytes += one * f->num;
            continue;
        }
        /* Elements may differ in their subsections: each has its own description. */
        for (size_t i = 0; i < f->num; i++) {
            json_object *d = describe_field(
                f, opaque, (uint8_t *)opaque + f->offset + i * f->size, &one);

            add_int(d, "index", i);
            json_object_array_add(fields, d);
            *bytes += one;
        }
    }
    json_object_object_add(o, "fields", fields);
    for (const VMStateDescription *const *s = vmsd->subsections; s && *s; s++) {
        if ((*s)->needed && !(*s)->needed(opaque)) {
            continue;
        }
        if (!subsections) {
            subsections = json_object_new_array();
        }
        json_object_array_add(subsections, describe(*s, opaque, &one));
        *bytes += one + 2 + strlen((*s)->name) + sizeof(uint32_t);
    }
    if (subsections) {
        json_object_object_add(o, "subsections", subsections);
    }
    return o;
}

json_object *vmstate_describe(const VMStateDescription *vmsd, void *opaque)
{
    size_t bytes;

    return describe(vmsd, opaque, &bytes);
}
