/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the visitors share: access to slots by offset. */
#ifndef QAPI_VISIT_INT_H
#define QAPI_VISIT_INT_H

#include "qapi/visitor.h"

static inline void *slot_at(const void *base, int offset)
{
    return (char *)base + offset;
}

/* Whether a member is present in the struct at obj. */
static inline bool member_present(const QapiMember *m, const void *obj)
{
    if (!m->optional) {
        return true;
    }
    if (m->has_offset >= 0) {
        return *(bool *)slot_at(obj, m->has_offset);
    }
    return *(void **)slot_at(obj, m->offset) != NULL;
}

/* The branch of the union at obj; NULL for a value without one. */
static inline const QapiType *union_branch(const QapiType *type, const void *obj)
{
    return type->branches ? type->branches[*(int *)slot_at(obj, type->tag_offset)] : NULL;
}

/* The branch of the alternate at obj. */
static inline const QapiType *alternate_branch(const QapiType *type, const void *obj)
{
    QType qtype = *(const QType *)obj; /* its first member */

    g_assert(qtype > QTYPE_NONE && qtype < QTYPE__MAX);
    return type->branches[qtype];
}

#endif
