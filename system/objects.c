/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What -object and object-add make: IOThreads (util/iothreads.c has them), secrets, and the
 * RAM that the command line describes.  Main thread.
 */
#include <inttypes.h>
#include <string.h>
#include "block/block.h"
#include "objects.h"
#include "options-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-qom.h"
#include "qapi/qapi-visit-machine.h"
#include "system-int.h"
#include "util/iothreads.h"

static GHashTable *secrets; /* name -> GBytes */

/* --- Secrets ------------------------------------------------------------------------------------- */

static bool is_base64(const char *text)
{
    while (g_ascii_isalnum(*text) || (*text && strchr("+/=\r\n", *text))) {
        text++;
    }
    return !*text;
}

typedef struct SecretArgs {
    const SecretProperties *p;
    GBytes *bytes;
    GError *err;
} SecretArgs;

static GBytes *decode(const SecretProperties *p, char *text, size_t len, GError **errp)
{
    guchar *data;

    if (!p->has_format || p->format == SECRET_FORMAT_RAW) {
        return g_bytes_new_take(text, len);
    }
    if (strlen(text) != len || !is_base64(text)) {
        error_setg(errp, "Base64 data contains invalid characters");
        g_free(text);
        return NULL;
    }
    data = g_base64_decode(text, &len);
    g_free(text);
    return g_bytes_new_take(data, len);
}

static GBytes *read_secret(const SecretProperties *p, GError **errp)
{
    g_autoptr(GError) err = NULL;
    char *text;
    gsize len;

    if (p->file && p->data) {
        error_setg(errp, "'file' and 'data' are mutually exclusive");
        return NULL;
    }
    if (!p->file && !p->data) {
        error_setg(errp, "Either 'file' or 'data' must be provided");
        return NULL;
    }
    if (!p->file) {
        return decode(p, g_strdup(p->data), strlen(p->data), errp);
    }
    if (!g_file_get_contents(p->file, &text, &len, &err)) {
        error_setg(errp, "Unable to read %s: %s", p->file, err->message);
        return NULL;
    }
    return decode(p, text, len, errp);
}

/* bytes is taken over. */
static bool add_secret(const char *id, GBytes *bytes)
{
    if (!secrets) {
        secrets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                        (GDestroyNotify)g_bytes_unref);
    }
    g_hash_table_insert(secrets, g_strdup(id), bytes);
    return true;
}

static int read_in_worker(void *opaque)
{
    SecretArgs *a = opaque;

    a->bytes = read_secret(a->p, &a->err);
    return 0;
}

/* --- IOThreads ----------------------------------------------------------------------------------- */

static bool is_count(const char *name, int64_t value, GError **errp)
{
    if (value < 0) {
        error_setg(errp, "%s value must be in range [0, %" PRId64 "]", name, INT64_MAX);
    }
    return value >= 0;
}

static bool check_polling(const IothreadProperties *p, GError **errp)
{
    return is_count("poll-max-ns", p->poll_max_ns, errp) &&
           is_count("poll-grow", p->poll_grow, errp) &&
           is_count("poll-shrink", p->poll_shrink, errp) &&
           is_count("aio-max-batch", p->aio_max_batch, errp);
}

/* p is checked. */
static void set_polling(IOThread *thread, const IothreadProperties *p)
{
    AioPolling polling = {p->poll_max_ns, p->poll_grow, p->poll_shrink, p->aio_max_batch};

    aio_set_polling(iothread_context(thread), &polling);
}

IothreadProperties objects_iothread_properties(IOThread *thread)
{
    AioPolling polling = aio_polling(iothread_context(thread));

    return (IothreadProperties){
        .has_poll_max_ns = true, .poll_max_ns = polling.max_ns,
        .has_poll_grow = true, .poll_grow = polling.grow,
        .has_poll_shrink = true, .poll_shrink = polling.shrink,
        .has_aio_max_batch = true, .aio_max_batch = polling.max_batch,
    };
}

bool objects_set_iothread(const char *id, const char *property, json_object *value, GError **errp)
{
    IOThread *thread = iothreads_find(id, errp);
    IothreadProperties now, *p = NULL;
    json_object *tree;
    bool ok;

    if (!thread) {
        return false;
    }
    now = objects_iothread_properties(thread);
    tree = qapi_IothreadProperties_to_json(&now);
    json_object_object_add(tree, property, json_object_get(value));
    ok = qapi_input(&qapi_type_IothreadProperties, tree, NULL, &p, errp) && check_polling(p, errp);
    if (ok) {
        set_polling(thread, p);
    }
    qapi_free_IothreadProperties(p);
    json_object_put(tree);
    return ok;
}

static bool add_iothread(const char *id, const IothreadProperties *p, GError **errp)
{
    if (!check_polling(p, errp) || !iothreads_add(id, errp)) {
        return false;
    }
    set_polling(iothreads_find(id, NULL), p);
    return true;
}

static void coroutine_fn co_add_iothread(const char *id, const IothreadProperties *p, GError **errp)
{
    if (check_polling(p, errp) && iothreads_co_add(id, errp)) {
        set_polling(iothreads_find(id, NULL), p);
    }
}

/* --- All kinds ------------------------------------------------------------------------------------ */

static bool is_ram(const char *id)
{
    return vm_ram_size() && !strcmp(id, vm_ram_id());
}

static bool is_taken(const char *id, GError **errp)
{
    if (iothreads_find(id, NULL) || (secrets && g_hash_table_contains(secrets, id)) ||
        is_ram(id)) {
        error_setg(errp, "attempt to add duplicate property '%s' to object (type 'container')",
                   id);
        return true;
    }
    return false;
}

bool objects_create(const ObjectOptions *object, GError **errp)
{
    GBytes *bytes;

    switch (object->qom_type) {
    case OBJECT_TYPE_IOTHREAD:
        return !is_taken(object->id, errp) &&
               add_iothread(object->id, &object->u.iothread, errp);
    case OBJECT_TYPE_SECRET:
        bytes = is_taken(object->id, errp) ? NULL : read_secret(&object->u.secret, errp);
        return bytes && add_secret(object->id, bytes);
    case OBJECT_TYPE_MEMORY_BACKEND_RAM:
        return true; /* the machine makes it */
    case OBJECT_TYPE__MAX:
        break;
    }
    g_assert_not_reached();
}

void objects_for_each_secret(void (*fn)(const char *id, void *opaque), void *opaque)
{
    GHashTableIter iter;
    gpointer id;

    if (secrets) {
        g_hash_table_iter_init(&iter, secrets);
        while (g_hash_table_iter_next(&iter, &id, NULL)) {
            fn(id, opaque);
        }
    }
}

void objects_cleanup(void)
{
    g_clear_pointer(&secrets, g_hash_table_unref);
}

void coroutine_fn qmp_object_add(ObjectOptions *object, GError **errp)
{
    SecretArgs a = {.p = &object->u.secret};

    if (!option_check_id(object->id, errp) || is_taken(object->id, errp)) {
        return;
    }
    switch (object->qom_type) {
    case OBJECT_TYPE_IOTHREAD:
        co_add_iothread(object->id, &object->u.iothread, errp);
        break;
    case OBJECT_TYPE_SECRET:
        co_run_in_worker(read_in_worker, &a);
        if (!a.bytes) {
            g_propagate_error(errp, a.err);
        } else if (is_taken(object->id, errp)) { /* another session was quicker */
            g_bytes_unref(a.bytes);
        } else {
            add_secret(object->id, a.bytes);
        }
        break;
    case OBJECT_TYPE_MEMORY_BACKEND_RAM:
        error_setg(errp, "a machine that exists has its RAM: use -object");
        break;
    case OBJECT_TYPE__MAX:
        g_assert_not_reached();
    }
}

static bool runs_nodes(IOThread *thread)
{
    if (bdrv_default_context() == iothread_context(thread)) {
        return true;
    }
    for (BlockDriverState *bs = NULL; (bs = bdrv_next_node(bs));) {
        if (bdrv_context(bs) == iothread_context(thread)) {
            return true;
        }
    }
    return false;
}

void coroutine_fn qmp_object_del(const char *id, GError **errp)
{
    IOThread *thread = iothreads_find(id, NULL);

    if (secrets && g_hash_table_remove(secrets, id)) {
        return;
    }
    if (!thread && !is_ram(id)) {
        error_setg(errp, "object '%s' not found", id);
    } else if (!thread || runs_nodes(thread)) {
        error_setg(errp, "object '%s' is in use, can not be deleted", id);
    } else {
        iothreads_co_remove(thread);
    }
}
