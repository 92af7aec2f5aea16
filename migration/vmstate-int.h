/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of migration/ share about device state: the registry's entries, saving to
 * and loading from memory, and the JSON description.  No locks, no coroutines: the caller
 * holds the machine lock while devices are read or changed.
 */
#ifndef MIGRATION_VMSTATE_INT_H
#define MIGRATION_VMSTATE_INT_H

#include <json-c/json.h>
#include "migration/vmstate.h"

/* A cursor over bytes that nobody vouches for. */
typedef struct VMReader {
    const uint8_t *data;
    size_t size;
    size_t pos;
    bool ended; /* more was wanted than there is: it may be good as far as it goes */
} VMReader;

/* Each takes bytes off the cursor; false when there are not enough left. */
bool vm_read_u8(VMReader *r, uint8_t *v);
bool vm_read_be16(VMReader *r, uint16_t *v);
bool vm_read_be32(VMReader *r, uint32_t *v);
bool vm_read_be64(VMReader *r, uint64_t *v);
bool vm_read_bytes(VMReader *r, void *buf, size_t len); /* buf NULL: skips */
/* A string preceded by one byte with its length; without NUL inside. */
bool vm_read_counted_string(VMReader *r, char out[256]);

void vm_put_u8(GByteArray *out, uint8_t v);
void vm_put_be16(GByteArray *out, uint16_t v);
void vm_put_be32(GByteArray *out, uint32_t v);
void vm_put_be64(GByteArray *out, uint64_t v);
void vm_put_counted_string(GByteArray *out, const char *s); /* at most 255 bytes */

typedef struct VMStateEntry {
    char *idstr;
    uint32_t instance_id;
    const VMStateDescription *vmsd;
    void *opaque;
} VMStateEntry;

struct VMStateRegistry {
    GPtrArray *entries;  /* VMStateEntry */
    GPtrArray *blockers; /* char * */
};

VMStateEntry *vmstate_find(const VMStateRegistry *r, const char *idstr, uint32_t instance_id);
/* NULL, or why this machine cannot be saved. */
const char *vmstate_blocker(const VMStateRegistry *r);

/* The length of a VBUFFER field: what the field before it holds. */
uint32_t vmstate_vbuffer_len(const VMStateField *f, const void *opaque);

/* Appends the fields and needed subsections of opaque to out. */
bool vmstate_save_state(GByteArray *out, const VMStateDescription *vmsd, void *opaque,
                        GError **errp);
/*
 * Loads what vmstate_save_state() wrote at the given version.  opaque NULL: only checks
 * that the bytes have the right form, calls nothing, changes nothing.  Errors name the
 * field.  After a failure opaque may be half loaded.
 */
bool vmstate_load_state(VMReader *in, const VMStateDescription *vmsd, void *opaque,
                        int version, GError **errp);
/* The description of what vmstate_save_state() just wrote; a new object. */
json_object *vmstate_describe(const VMStateDescription *vmsd, void *opaque);

#endif
