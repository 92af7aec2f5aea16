/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between libfuse's low-level session and coroutines (block/fuse-server.h).  The session's
 * descriptor is non-blocking and read by a handler in the server's context; each request
 * becomes a coroutine.  While MAX_REQUESTS are in flight nothing is read: the kernel keeps
 * the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/fuse-server.h"
#include "qapi/error.h"
#include "util/co-lock.h"
#include "util/errno-text.h"

#define MAX_REQUESTS 64
/* Requests that are read before other handlers get a turn. */
#define BATCH 16

struct FuseServer {
    FuseServerConfig config;
    char *id, *mountpoint; /* absolute */
    struct fuse_session *se;
    bool allows_other;
    char *error; /* of a worker */
    AioBH *unmounted; /* in the main thread */

    /* In the context. */
    struct fuse_buf buf;
    bool polling;
    bool stopping;
    unsigned in_flight;
    CoQueue idle;
    int ended; /* atomic: the kernel has let go of the mount */
};

static GQueue servers = G_QUEUE_INIT; /* main thread */
static __thread char last_message[256];

void *fuse_server_opaque(FuseServer *s)
{
    return s->config.opaque;
}

bool fuse_server_allows_other(FuseServer *s)
{
    return s->allows_other;
}

/* --- Requests ------------------------------------------------------------------------------- */

static void readable(void *opaque);

static void set_polling(FuseServer *s, bool on)
{
    if (s->polling != on) {
        s->polling = on;
        aio_set_fd_handler(s->config.ctx, fuse_session_fd(s->se), on ? readable : NULL, NULL, s);
    }
}

static void readable(void *opaque)
{
    FuseServer *s = opaque;

    for (int i = 0; i < BATCH && s->in_flight < MAX_REQUESTS; i++) {
        int ret = fuse_session_receive_buf(s->se, &s->buf);

        if (ret > 0) {
            fuse_session_process_buf(s->se, &s->buf);
        } else if (ret == -EAGAIN) {
            break;
        } else if (ret != -EINTR) {
            /* Unmounted, or the connection was aborted. */
            set_polling(s, false);
            __atomic_store_n(&s->ended, 1, __ATOMIC_SEQ_CST);
            aio_bh_schedule(s->unmounted);
            return;
        }
    }
    if (s->in_flight == MAX_REQUESTS) {
        set_polling(s, false);
    }
}

typedef struct RequestCall {
    FuseRequest *r;
    CoroutineEntry *entry;
} RequestCall;

static void coroutine_fn request_entry(void *opaque)
{
    RequestCall call = *(RequestCall *)opaque;
    FuseServer *s = call.r->server;

    call.entry(call.r);
    g_free(call.r);
    s->in_flight--;
    if (!s->stopping && !s->ended) {
        set_polling(s, true);
    }
    if (s->in_flight == 0) {
        co_queue_restart_all(&s->idle);
    }
}

void fuse_server_request(FuseRequest *r, fuse_req_t req, CoroutineEntry *entry)
{
    RequestCall call = {.r = r, .entry = entry}; /* read before the first yield */

    r->server = fuse_req_userdata(req);
    r->req = req;
    r->server->in_flight++;
    coroutine_enter(coroutine_create(request_entry, &call));
}

/* --- Mounting --------------------------------------------------------------------------------- */

/* libfuse says why a mount failed in its log only. */
static void G_GNUC_PRINTF(2, 0) keep_message(enum fuse_log_level level, const char *fmt,
                                             va_list ap)
{
    vsnprintf(last_message, sizeof(last_message), fmt, ap);
    g_strchomp(last_message);
}

/* As root by system call, else by the helper that comes with libfuse. */
static void unmount_stale(const char *mountpoint)
{
    char *argv[] = {(char *)"fusermount3", (char *)"-u", (char *)"-z", (char *)"--",
                    (char *)mountpoint, NULL};

    if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
        g_spawn_sync(NULL, argv, NULL,
                     G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL |
                         G_SPAWN_STDERR_TO_DEV_NULL,
                     NULL, NULL, NULL, NULL, NULL, NULL);
    }
}

static bool check_mountpoint(FuseServer *s)
{
    struct stat st;
    int ret = stat(s->mountpoint, &st);

    if (ret < 0 && errno == ENOTCONN) {
        /* Its server was killed and the kernel keeps what is left of the mount. */
        unmount_stale(s->mountpoint);
        ret = stat(s->mountpoint, &st);
    }
    if (ret < 0) {
        s->error = g_strdup_printf("Failed to stat '%s': %s", s->mountpoint, errno_text(errno));
    } else if (s->config.directory ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode)) {
        s->error = g_strdup_printf("'%s' is not a %s", s->mountpoint,
                                   s->config.directory ? "directory" : "regular file");
    }
    return !s->error;
}

static bool try_mount(FuseServer *s, bool allow_other)
{
    g_autofree char *options =
        g_strdup_printf("fsname=%s,subtype=keyframe,default_permissions%s%s", s->id,
                        s->config.read_only ? ",ro" : "", allow_other ? ",allow_other" : "");
    char *argv[] = {(char *)"", (char *)"-o", options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);

    last_message[0] = '\0';
    s->se = fuse_session_new(&args, s->config.ops, sizeof(*s->config.ops), s);
    fuse_opt_free_args(&args);
    if (s->se && fuse_session_mount(s->se, s->mountpoint) == 0) {
        s->allows_other = allow_other;
        return true;
    }
    g_free(s->error);
    s->error = g_strdup_printf("Failed to mount FUSE on '%s': %s", s->mountpoint,
                               last_message[0] ? last_message : "unknown error");
    if (s->se) {
        fuse_session_destroy(s->se);
        s->se = NULL;
    }
    return false;
}

/* Worker. */
static int mount_worker(void *opaque)
{
    FuseServer *s = opaque;
    FuseExportAllowOther other = s->config.allow_other;
    int fd;

    if (!check_mountpoint(s) ||
        (!(other != FUSE_EXPORT_ALLOW_OTHER_OFF && try_mount(s, true)) &&
         !(other != FUSE_EXPORT_ALLOW_OTHER_ON && try_mount(s, false)))) {
        return -1;
    }
    g_clear_pointer(&s->error, g_free); /* of a first try */
    fd = fuse_session_fd(s->se);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return 0;
}

/* Main thread. */
static void unmounted_bh(void *opaque)
{
    FuseServer *s = opaque;

    if (s->config.unmounted) {
        s->config.unmounted(s->config.opaque);
    }
}

static void server_free(FuseServer *s)
{
    g_queue_remove(&servers, s);
    aio_bh_delete(s->unmounted);
    co_queue_destroy(&s->idle);
    free(s->buf.mem); /* libfuse's */
    g_free(s->error);
    g_free(s->mountpoint);
    g_free(s->id);
    g_free(s);
}

static bool mountpoint_is_ours(const char *mountpoint)
{
    for (GList *l = servers.head; l; l = l->next) {
        if (!strcmp(((FuseServer *)l->data)->mountpoint, mountpoint)) {
            return true;
        }
    }
    return false;
}

FuseServer *coroutine_fn fuse_server_co_start(const FuseServerConfig *config, GError **errp)
{
    g_autofree char *mountpoint = g_canonicalize_filename(config->mountpoint, NULL);
    FuseServer *s;

    if (mountpoint_is_ours(mountpoint)) {
        error_setg(errp, "There already is a FUSE export on '%s'", config->mountpoint);
        return NULL;
    }
    fuse_set_log_func(keep_message);
    s = g_new0(FuseServer, 1);
    s->config = *config;
    s->id = g_strdup(config->id);
    s->mountpoint = g_steal_pointer(&mountpoint);
    s->unmounted = aio_bh_new(main_aio_context(), unmounted_bh, s);
    co_queue_init(&s->idle);
    g_queue_push_tail(&servers, s);
    if (co_run_in_worker(mount_worker, s) < 0) {
        error_setg(errp, "%s", s->error);
        server_free(s);
        return NULL;
    }
    aio_co_reschedule_self(config->ctx);
    set_polling(s, true);
    aio_co_reschedule_self(main_aio_context());
    return s;
}

/* --- Unmounting ------------------------------------------------------------------------------- */

/* Worker: what programs wrote through mappings must come back as requests. */
static int write_back_worker(void *opaque)
{
    FuseServer *s = opaque;
    int fd = open(s->mountpoint, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0) {
        syncfs(fd);
        close(fd);
    }
    return 0;
}

/* Worker. */
static int unmount_worker(void *opaque)
{
    FuseServer *s = opaque;

    fuse_session_unmount(s->se);
    fuse_session_destroy(s->se);
    return 0;
}

void coroutine_fn fuse_server_co_stop(FuseServer *s)
{
    if (!s->config.read_only && !__atomic_load_n(&s->ended, __ATOMIC_SEQ_CST)) {
        co_run_in_worker(write_back_worker, s);
    }
    aio_co_reschedule_self(s->config.ctx);
    s->stopping = true;
    set_polling(s, false);
    while (s->in_flight) {
        co_queue_wait(&s->idle, NULL);
    }
    aio_co_reschedule_self(main_aio_context());
    co_run_in_worker(unmount_worker, s);
    server_free(s);
}
