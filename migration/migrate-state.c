/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known about the migration under way or the last one, and the capabilities and
 * parameters that the next one goes by.  One per process; a leaf mutex guards all of it, and
 * events are sent under it, so that their order is that of the changes.  Any thread.
 */
#include <pthread.h>
#include <string.h>
#include "migrate-int.h"
#include "migration/trace.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migrate.h"
#include "qapi/qapi-events-migrate.h"
#include "qapi/util.h"
#include "qapi/qapi-visit-migrate.h"
#include "uffd-int.h"
#include "util/aio.h"
#include "vmstate-int.h"

#define PAGE_SIZE_BYTES 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    bool caps[MIGRATION_CAPABILITY__MAX];
    uint64_t max_bandwidth, downtime_limit;
    uint32_t max_passes;
    bool direct_io;

    MigrationStatus status;
    bool incoming;
    int64_t begun, active, ended; /* ns, 0: not yet */
    int64_t stopped, downtime;    /* ns */
    unsigned passes;
    MigrateFigures figures;
    char *error, *warning;
    MigrationSocketAddress *listening;
} st = {
    .max_bandwidth = 128 << 20,
    .downtime_limit = 300,
    .max_passes = 30,
};

#define LOCKED_GETTER(type, function, member) \
    type function(void) \
    { \
        type value; \
\
        pthread_mutex_lock(&lock); \
        value = st.member; \
        pthread_mutex_unlock(&lock); \
        return value; \
    }
LOCKED_GETTER(uint64_t, migrate_max_bandwidth, max_bandwidth)
LOCKED_GETTER(uint64_t, migrate_downtime_limit, downtime_limit)
LOCKED_GETTER(uint32_t, migrate_max_passes, max_passes)
LOCKED_GETTER(bool, migrate_direct_io, direct_io)
LOCKED_GETTER(MigrationStatus, migrate_status, status)

bool migrate_has(MigrationCapability cap)
{
    bool on;

    pthread_mutex_lock(&lock);
    on = st.caps[cap];
    pthread_mutex_unlock(&lock);
    return on;
}

static bool is_end(MigrationStatus status)
{
    return status == MIGRATION_STATUS_NONE || status == MIGRATION_STATUS_COMPLETED ||
           status == MIGRATION_STATUS_FAILED || status == MIGRATION_STATUS_CANCELLED;
}

bool migrate_under_way(void)
{
    return !is_end(migrate_status());
}

/* An incoming migration of which nothing has come yet.  lock held. */
static bool awaits_source(void)
{
    return st.incoming && st.status == MIGRATION_STATUS_SETUP;
}

/* --- The record ----------------------------------------------------------------------------- */

/* lock held. */
static void change_status(MigrationStatus status)
{
    st.status = status;
    trace_migrate_set_state(MigrationStatus_str(status));
    if (st.caps[MIGRATION_CAPABILITY_EVENTS]) {
        qapi_event_send_migration(status);
    }
    if (status == MIGRATION_STATUS_ACTIVE && !st.active) {
        st.active = clock_now_ns();
    }
    if (is_end(status)) {
        st.ended = clock_now_ns();
    }
}

bool migrate_begin(bool incoming, GError **errp)
{
    bool ok;

    pthread_mutex_lock(&lock);
    ok = is_end(st.status);
    if (ok) {
        st.incoming = incoming;
        st.begun = clock_now_ns();
        st.active = st.ended = st.stopped = st.downtime = 0;
        st.passes = 0;
        st.figures = (MigrateFigures){0};
        g_clear_pointer(&st.error, g_free);
        g_clear_pointer(&st.warning, g_free);
        change_status(MIGRATION_STATUS_SETUP);
    }
    pthread_mutex_unlock(&lock);
    if (!ok) {
        error_setg(errp, "There's a migration process in progress");
    }
    return ok;
}

void migrate_set_status(MigrationStatus status)
{
    pthread_mutex_lock(&lock);
    if (!is_end(st.status) && st.status != status &&
        (st.status != MIGRATION_STATUS_CANCELLING || is_end(status))) {
        change_status(status);
    }
    pthread_mutex_unlock(&lock);
}

void migrate_set_failed(const GError *err)
{
    pthread_mutex_lock(&lock);
    if (st.status == MIGRATION_STATUS_CANCELLING) {
        change_status(MIGRATION_STATUS_CANCELLED);
    } else if (!is_end(st.status)) {
        st.error = g_strdup(err->message);
        change_status(MIGRATION_STATUS_FAILED);
    }
    pthread_mutex_unlock(&lock);
}

void migrate_set_warning(const char *text)
{
    pthread_mutex_lock(&lock);
    g_free(st.warning);
    st.warning = g_strdup(text);
    pthread_mutex_unlock(&lock);
}

void migrate_downtime_begin(void)
{
    pthread_mutex_lock(&lock);
    st.stopped = clock_now_ns();
    pthread_mutex_unlock(&lock);
}

void migrate_downtime_end(void)
{
    pthread_mutex_lock(&lock);
    if (st.stopped) {
        st.downtime = clock_now_ns() - st.stopped;
        st.stopped = 0;
    }
    pthread_mutex_unlock(&lock);
}

void migrate_set_listening(const MigrationSocketAddress *a)
{
    pthread_mutex_lock(&lock);
    qapi_free_MigrationSocketAddress(st.listening);
    st.listening = a ? qapi_MigrationSocketAddress_clone(a) : NULL;
    pthread_mutex_unlock(&lock);
}

void migrate_pass_begins(void)
{
    pthread_mutex_lock(&lock);
    st.passes++;
    if (st.caps[MIGRATION_CAPABILITY_EVENTS]) {
        qapi_event_send_migration_pass(st.passes);
    }
    pthread_mutex_unlock(&lock);
}

void migrate_set_figures(const MigrateFigures *f)
{
    pthread_mutex_lock(&lock);
    st.figures = *f;
    pthread_mutex_unlock(&lock);
}

/* --- query-migrate -------------------------------------------------------------------------- */

/* lock held. */
static MigrationStats *stats(int64_t span_ns)
{
    const MigrateFigures *f = &st.figures;
    MigrationStats *s = g_new0(MigrationStats, 1);
    double seconds = span_ns / 1e9;

    s->transferred = f->transferred;
    s->remaining = st.status == MIGRATION_STATUS_COMPLETED ? 0 : f->remaining;
    s->total = f->total;
    s->duplicate = f->zero_pages;
    s->normal = f->normal_pages;
    s->normal_bytes = f->normal_pages * PAGE_SIZE_BYTES;
    s->dirty_pages_rate = f->dirty_pages_rate;
    s->dirty_sync_count = st.passes;
    s->page_size = PAGE_SIZE_BYTES;
    s->downtime_bytes = f->downtime_bytes;
    s->precopy_bytes = f->transferred - f->downtime_bytes;
    if (seconds > 0) {
        s->mbps = f->transferred * 8 / seconds / 1e6;
        s->pages_per_second = (f->zero_pages + f->normal_pages) / seconds;
    }
    return s;
}

/* lock held. */
static void tell_outgoing(MigrationInfo *info)
{
    int64_t end = st.ended ? st.ended : clock_now_ns();

    info->has_total_time = true;
    info->total_time = (end - st.begun) / 1000000;
    if (st.status == MIGRATION_STATUS_FAILED || st.status == MIGRATION_STATUS_CANCELLED ||
        st.status == MIGRATION_STATUS_SETUP || !st.active) {
        info->has_total_time = !is_end(st.status);
        return;
    }
    info->ram = stats(end - st.active);
    info->has_setup_time = true;
    info->setup_time = (st.active - st.begun) / 1000000;
    if (st.status == MIGRATION_STATUS_COMPLETED) {
        info->has_downtime = true;
        info->downtime = (st.downtime + 999999) / 1000000;
    } else {
        info->has_expected_downtime = true;
        info->expected_downtime =
            st.figures.bytes_per_second
                ? st.figures.remaining * 1000 / st.figures.bytes_per_second
                : 0;
    }
}

MigrationInfo *coroutine_fn qmp_query_migrate(GError **errp)
{
    MigrationInfo *info = g_new0(MigrationInfo, 1);
    Machine *m = machine_get();

    for (guint i = m ? m->vmstate->blockers->len : 0; i > 0; i--) {
        QAPI_LIST_PREPEND(info->blocked_reasons,
                          g_strdup(g_ptr_array_index(m->vmstate->blockers, i - 1)));
    }
    info->has_blocked_reasons = info->blocked_reasons != NULL;
    pthread_mutex_lock(&lock);
    if (st.status != MIGRATION_STATUS_NONE && !awaits_source()) {
        info->has_status = true;
        info->status = st.status;
        if (!st.incoming) {
            tell_outgoing(info);
        }
    }
    info->error_desc = g_strdup(st.error);
    info->warning = g_strdup(st.warning);
    if (st.listening) {
        MigrationSocketAddressList **tail = &info->socket_address;

        info->has_socket_address = true;
        QAPI_LIST_APPEND(tail, qapi_MigrationSocketAddress_clone(st.listening));
    }
    pthread_mutex_unlock(&lock);
    return info;
}

/* --- Capabilities ----------------------------------------------------------------------------- */

static bool is_supported(MigrationCapability cap)
{
    switch (cap) {
    case MIGRATION_CAPABILITY_EVENTS:
    case MIGRATION_CAPABILITY_RETURN_PATH:
    case MIGRATION_CAPABILITY_PAUSE_BEFORE_SWITCHOVER:
    case MIGRATION_CAPABILITY_BACKGROUND_SNAPSHOT:
    case MIGRATION_CAPABILITY_MAPPED_RAM:
        return true;
    default:
        return false;
    }
}

static bool check_capabilities(const bool caps[], GError **errp)
{
    static const MigrationCapability not_with_snapshot[] = {
        MIGRATION_CAPABILITY_RETURN_PATH, MIGRATION_CAPABILITY_PAUSE_BEFORE_SWITCHOVER};
    g_autoptr(GError) why = NULL;
    Uffd u;

    for (int c = 0; c < MIGRATION_CAPABILITY__MAX; c++) {
        if (caps[c] && !is_supported(c)) {
            error_setg(errp, "Capability '%s' is not supported", MigrationCapability_str(c));
            return false;
        }
    }
    if (!caps[MIGRATION_CAPABILITY_BACKGROUND_SNAPSHOT]) {
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(not_with_snapshot); i++) {
        if (caps[not_with_snapshot[i]]) {
            error_setg(errp, "Background-snapshot is not compatible with %s",
                       MigrationCapability_str(not_with_snapshot[i]));
            return false;
        }
    }
    if (!uffd_open(&u, UFFD_FEATURE_PAGEFAULT_FLAG_WP, 0, &why)) {
        error_setg(errp, "Background-snapshot is not supported by host kernel: %s", why->message);
        return false;
    }
    uffd_close(&u);
    return true;
}

void coroutine_fn qmp_migrate_set_capabilities(MigrationCapabilityStatusList *capabilities,
                                               GError **errp)
{
    bool caps[MIGRATION_CAPABILITY__MAX], fixed;

    pthread_mutex_lock(&lock);
    fixed = !is_end(st.status) && !awaits_source();
    pthread_mutex_unlock(&lock);
    if (fixed) {
        error_setg(errp, "There's a migration process in progress");
        return;
    }
    for (int c = 0; c < MIGRATION_CAPABILITY__MAX; c++) {
        caps[c] = migrate_has(c);
    }
    for (MigrationCapabilityStatusList *e = capabilities; e; e = e->next) {
        caps[e->value->capability] = e->value->state;
    }
    if (!check_capabilities(caps, errp)) {
        return;
    }
    pthread_mutex_lock(&lock);
    memcpy(st.caps, caps, sizeof(caps));
    pthread_mutex_unlock(&lock);
}

MigrationCapabilityStatusList *coroutine_fn qmp_query_migrate_capabilities(GError **errp)
{
    MigrationCapabilityStatusList *list = NULL, **tail = &list;

    for (int c = 0; c < MIGRATION_CAPABILITY__MAX; c++) {
        MigrationCapabilityStatus *s = g_new0(MigrationCapabilityStatus, 1);

        s->capability = c;
        s->state = migrate_has(c);
        QAPI_LIST_APPEND(tail, s);
    }
    return list;
}

/* --- Parameters --------------------------------------------------------------------------------- */

void coroutine_fn qmp_migrate_set_parameters(MigrationParameters *p, GError **errp)
{
    if (p->has_downtime_limit && p->downtime_limit > 2000 * 1000) {
        error_setg(errp, "Parameter 'downtime_limit' expects an integer in the range of 0 to "
                         "(2000 * 1000) ms");
        return;
    }
    if (p->has_max_passes && p->max_passes == 0) {
        error_setg(errp, "Parameter 'max-passes' expects a number of at least 1");
        return;
    }
    pthread_mutex_lock(&lock);
    if (p->has_max_bandwidth) {
        st.max_bandwidth = p->max_bandwidth;
    }
    if (p->has_downtime_limit) {
        st.downtime_limit = p->downtime_limit;
    }
    if (p->has_direct_io) {
        st.direct_io = p->direct_io;
    }
    if (p->has_max_passes) {
        st.max_passes = p->max_passes;
    }
    pthread_mutex_unlock(&lock);
}

MigrationParameters *coroutine_fn qmp_query_migrate_parameters(GError **errp)
{
    MigrationParameters *p = g_new0(MigrationParameters, 1);

    p->has_max_bandwidth = p->has_downtime_limit = p->has_direct_io = p->has_max_passes = true;
    pthread_mutex_lock(&lock);
    p->max_bandwidth = st.max_bandwidth;
    p->downtime_limit = st.downtime_limit;
    p->direct_io = st.direct_io;
    p->max_passes = st.max_passes;
    pthread_mutex_unlock(&lock);
    return p;
}
