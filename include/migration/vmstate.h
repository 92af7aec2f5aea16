/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a device's state is described.  A VMStateDescription lists the fields of a device's
 * state struct; the stream (migration/stream.c) saves, loads and describes them in the
 * documented VMState format.
 *
 * Integers are big endian on the wire.  A device adds fields at the end with a higher
 * version, or a subsection; it never changes the meaning of an existing one.
 */
#ifndef MIGRATION_VMSTATE_H
#define MIGRATION_VMSTATE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct VMStateDescription VMStateDescription;
typedef struct VMStateField VMStateField;

typedef enum VMStateKind {
    VMSTATE_KIND_BOOL,
    VMSTATE_KIND_UINT8,
    VMSTATE_KIND_UINT16,
    VMSTATE_KIND_UINT32,
    VMSTATE_KIND_UINT64,
    VMSTATE_KIND_INT32,
    VMSTATE_KIND_INT64,
    VMSTATE_KIND_BUFFER, /* size bytes as they are */
    VMSTATE_KIND_STRUCT,
    /*
     * A pointer to g_malloc()ed bytes, as many as the uint32 field just before it says.
     * Loading replaces them.
     */
    VMSTATE_KIND_VBUFFER,
} VMStateKind;

struct VMStateField {
    const char *name;
    size_t offset;      /* in the state struct */
    size_t size;        /* bytes of one element in memory */
    size_t num;         /* array length; 1 for a scalar */
    VMStateKind kind;
    int version;        /* present from this version of the description on */
    const VMStateDescription *vmsd; /* for structs */
};

struct VMStateDescription {
    const char *name;
    int version;         /* written */
    int minimum_version; /* accepted */
    /* Before saving (to pull state together) / before and after loading.  false = errp. */
    bool (*pre_save)(void *opaque, GError **errp);
    bool (*pre_load)(void *opaque, GError **errp);
    bool (*post_load)(void *opaque, int version, GError **errp);
    /* For a subsection: whether it must be written. */
    bool (*needed)(void *opaque);
    const VMStateField *fields;                   /* ends with a zeroed element */
    const VMStateDescription *const *subsections; /* NULL-terminated, or NULL */
};

/* A compile-time check that the member has the type. */
#define VMSTATE_OFFSET(member, state, type)                                                 \
    (offsetof(state, member) + 0 * sizeof((type *)0 == &((state *)0)->member))
#define VMSTATE_SCALAR(member, state, kind_, type)                                          \
    {.name = #member, .offset = VMSTATE_OFFSET(member, state, type), .size = sizeof(type),  \
     .num = 1, .kind = kind_}
#define VMSTATE_SCALAR_ARRAY(member, state, n, kind_, type)                                 \
    {.name = #member, .offset = offsetof(state, member) +                                   \
     0 * sizeof((type(*)[n])0 == &((state *)0)->member), .size = sizeof(type), .num = n,    \
     .kind = kind_}
#define VMSTATE_BOOL(m, s) VMSTATE_SCALAR(m, s, VMSTATE_KIND_BOOL, bool)
#define VMSTATE_UINT8(m, s) VMSTATE_SCALAR(m, s, VMSTATE_KIND_UINT8, uint8_t)
#define VMSTATE_UINT16(m, s) VMSTATE_SCALAR(m, s, VMSTATE_KIND_UINT16, uint16_t)
#define VMSTATE_UINT32(m, s) VMSTATE_SCALAR(m, s, VMSTATE_KIND_UINT32, uint32_t)
#define VMSTATE_UINT64(m, s) VMSTATE_SCALAR(m, s, VMSTATE_KIND_UINT64, uint64_t)
#define VMSTATE_INT32(m, s) VMSTATE_SCALAR(m, s, VMSTATE_KIND_INT32, int32_t)
#define VMSTATE_INT64(m, s) VMSTATE_SCALAR(m, s, VMSTATE_KIND_INT64, int64_t)
#define VMSTATE_UINT8_ARRAY(m, s, n)                                                        \
    VMSTATE_SCALAR_ARRAY(m, s, n, VMSTATE_KIND_UINT8, uint8_t)
#define VMSTATE_UINT16_ARRAY(m, s, n)                                                       \
    VMSTATE_SCALAR_ARRAY(m, s, n, VMSTATE_KIND_UINT16, uint16_t)
#define VMSTATE_UINT32_ARRAY(m, s, n)                                                       \
    VMSTATE_SCALAR_ARRAY(m, s, n, VMSTATE_KIND_UINT32, uint32_t)
#define VMSTATE_UINT64_ARRAY(m, s, n)                                                       \
    VMSTATE_SCALAR_ARRAY(m, s, n, VMSTATE_KIND_UINT64, uint64_t)
#define VMSTATE_BUFFER(m, s)                                                                \
    {.name = #m, .offset = offsetof(s, m), .size = sizeof(((s *)0)->m), .num = 1,           \
     .kind = VMSTATE_KIND_BUFFER}
/* Behind VMSTATE_UINT32() of its length. */
#define VMSTATE_VBUFFER(m, s)                                                               \
    {.name = #m, .offset = VMSTATE_OFFSET(m, s, uint8_t *), .num = 1,                       \
     .kind = VMSTATE_KIND_VBUFFER}
#define VMSTATE_STRUCT(m, s, desc, type)                                                    \
    {.name = #m, .offset = VMSTATE_OFFSET(m, s, type), .size = sizeof(type), .num = 1,      \
     .kind = VMSTATE_KIND_STRUCT, .vmsd = &(desc)}
#define VMSTATE_STRUCT_ARRAY(m, s, n, desc, type)                                           \
    {.name = #m, .offset = offsetof(s, m), .size = sizeof(type), .num = n,                  \
     .kind = VMSTATE_KIND_STRUCT, .vmsd = &(desc)}
#define VMSTATE_END {.name = NULL}

/* The devices of one machine whose state is saved, in order of registration. */
typedef struct VMStateRegistry VMStateRegistry;
VMStateRegistry *vmstate_registry_new(void);
void vmstate_registry_free(VMStateRegistry *r);
/* idstr ("serial", "cpu") and instance_id name the section in the stream. */
void vmstate_register(VMStateRegistry *r, const char *idstr, uint32_t instance_id,
                      const VMStateDescription *vmsd, void *opaque);
void vmstate_unregister(VMStateRegistry *r, void *opaque);
/* While a device is there that cannot be saved: reason is shown to the user. */
void vmstate_block(VMStateRegistry *r, const char *reason);
void vmstate_unblock(VMStateRegistry *r, const char *reason);

#endif
