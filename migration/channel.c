/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Channels (channel.h): sockets, programs, descriptors handed over, files as streams.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "channel.h"
#include "qapi/error.h"
#include "util/aio.h"
#include "util/guest-memory.h"
#include "util/named-fd.h"
#include "util/socket-address.h"

#define FOREVER_NS (3600 * 1000000000LL)
#define RW_MODE 0600

struct MigChannel {
    int fd;        /* -1: none yet */
    int listen_fd; /* -1: none */
    char *listen_path; /* removed when nobody is waited for any more */
    bool regular;  /* a file: position is ours */
    bool is_socket;
    off_t position;
    pid_t pid; /* the program, 0: none */
    int pid_fd;
    char *program;
    CoSleep sleep;
    int cancelled; /* atomic */
};

extern char **environ;

MigChannel *mig_channel_new(void)
{
    MigChannel *ch = g_new0(MigChannel, 1);

    ch->fd = ch->listen_fd = ch->pid_fd = -1;
    return ch;
}

static bool is_cancelled(MigChannel *ch)
{
    return __atomic_load_n(&ch->cancelled, __ATOMIC_SEQ_CST);
}

void mig_channel_cancel(MigChannel *ch)
{
    __atomic_store_n(&ch->cancelled, 1, __ATOMIC_SEQ_CST);
    co_sleep_wake(&ch->sleep);
}

static void stop_listening(MigChannel *ch)
{
    if (ch->listen_fd >= 0) {
        close(ch->listen_fd);
        ch->listen_fd = -1;
    }
    if (ch->listen_path) {
        unlink(ch->listen_path);
        g_clear_pointer(&ch->listen_path, g_free);
    }
}

static void ready(void *opaque)
{
    co_sleep_wake(&((MigChannel *)opaque)->sleep);
}

/* Returns when fd may be ready, or cancelled.  0 or -ECANCELED. */
static int coroutine_fn wait_fd(MigChannel *ch, int fd, bool writable)
{
    AioContext *ctx = aio_current();

    if (!is_cancelled(ch)) {
        aio_set_fd_handler(ctx, fd, writable ? NULL : ready, writable ? ready : NULL, ch);
        co_sleep_ns_wakeable(&ch->sleep, FOREVER_NS);
        aio_set_fd_handler(ctx, fd, NULL, NULL, ch);
    }
    return is_cancelled(ch) ? -ECANCELED : 0;
}

static void set_nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* --- Sockets ------------------------------------------------------------------------------- */

typedef struct Resolve {
    const InetSocketAddress *inet;
    bool passive;
    int family;
    struct addrinfo *list;
    int error;
} Resolve;

static int resolve_worker(void *opaque)
{
    Resolve *r = opaque;
    const InetSocketAddress *a = r->inet;
    struct addrinfo hints = {.ai_family = r->family, .ai_socktype = SOCK_STREAM,
                             .ai_flags = r->passive ? AI_PASSIVE : 0};

    r->error = getaddrinfo(*a->host ? a->host : NULL, a->port, &hints, &r->list);
    return 0;
}

static struct addrinfo *coroutine_fn resolve(const InetSocketAddress *inet, bool passive,
                                             GError **errp)
{
    Resolve r = {.inet = inet, .passive = passive};

    if (!socket_family(inet->has_ipv4 ? &inet->ipv4 : NULL, inet->has_ipv6 ? &inet->ipv6 : NULL,
                       &r.family, errp)) {
        return NULL;
    }
    co_run_in_worker(resolve_worker, &r);
    if (r.error) {
        error_setg(errp, "address resolution failed for %s:%s: %s", inet->host, inet->port,
                   gai_strerror(r.error));
        return NULL;
    }
    return r.list;
}

static void unix_sockaddr(struct sockaddr_un *un, const char *path)
{
    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    g_strlcpy(un->sun_path, path, sizeof(un->sun_path));
}

static int new_socket(int family)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* A connected socket, or -errno. */
static int coroutine_fn connect_to(MigChannel *ch, const struct sockaddr *addr, socklen_t len)
{
    int fd = new_socket(addr->sa_family), ret = 0, error = 0, one = 1;
    socklen_t error_len = sizeof(error);

    if (fd < 0) {
        return -errno;
    }
    while (connect(fd, addr, len) < 0) {
        if (errno == EINPROGRESS) {
            ret = wait_fd(ch, fd, true);
            if (ret == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len) == 0) {
                ret = -error;
            }
            break;
        }
        if (errno == EAGAIN) { /* a unix socket whose backlog is full */
            co_sleep_ns(1000000);
            ret = is_cancelled(ch) ? -ECANCELED : 0;
        } else if (errno != EINTR) {
            ret = -errno;
        }
        if (ret < 0) {
            break;
        }
    }
    if (ret < 0) {
        close(fd);
        return ret;
    }
    if (addr->sa_family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    return fd;
}

static bool coroutine_fn connect_inet(MigChannel *ch, const InetSocketAddress *inet, GError **errp)
{
    struct addrinfo *list = resolve(inet, false, errp);
    int fd = -1;

    if (!list) {
        return false;
    }
    for (struct addrinfo *e = list; e && fd < 0; e = e->ai_next) {
        fd = connect_to(ch, e->ai_addr, e->ai_addrlen);
    }
    freeaddrinfo(list);
    if (fd < 0) {
        error_setg_errno(errp, -fd, "Failed to connect to '%s:%s'", inet->host, inet->port);
        return false;
    }
    ch->fd = fd;
    return true;
}

static bool coroutine_fn connect_unix(MigChannel *ch, const char *path, GError **errp)
{
    struct sockaddr_un un;

    unix_sockaddr(&un, path);
    ch->fd = connect_to(ch, (struct sockaddr *)&un, sizeof(un));
    if (ch->fd < 0) {
        error_setg_errno(errp, -ch->fd, "Failed to connect to '%s'", path);
        ch->fd = -1;
        return false;
    }
    return true;
}

static bool listen_unix(MigChannel *ch, const char *path, GError **errp)
{
    struct sockaddr_un un;

    unix_sockaddr(&un, path);
    ch->listen_fd = new_socket(AF_UNIX);
    if (ch->listen_fd < 0) {
        error_setg_errno(errp, errno, "Failed to create Unix socket");
        return false;
    }
    if ((unlink(path) < 0 && errno != ENOENT) ||
        bind(ch->listen_fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
        error_setg_errno(errp, errno, "Failed to bind socket to %s", path);
        return false;
    }
    ch->listen_path = g_strdup(path);
    if (listen(ch->listen_fd, 1) < 0) {
        error_setg_errno(errp, errno, "Failed to listen on socket");
        return false;
    }
    return true;
}

static bool coroutine_fn listen_inet(MigChannel *ch, const InetSocketAddress *inet, GError **errp)
{
    struct addrinfo *list = resolve(inet, true, errp);
    int saved = 0, one = 1;

    if (!list) {
        return false;
    }
    for (struct addrinfo *e = list; e && ch->listen_fd < 0; e = e->ai_next) {
        int fd = new_socket(e->ai_family);

        if (fd < 0) {
            saved = errno;
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(fd, e->ai_addr, e->ai_addrlen) < 0 || listen(fd, 1) < 0) {
            saved = errno;
            close(fd);
        } else {
            ch->listen_fd = fd;
        }
    }
    freeaddrinfo(list);
    if (ch->listen_fd < 0) {
        error_setg_errno(errp, saved, "Failed to find an available port");
    }
    return ch->listen_fd >= 0;
}

/* Where a peer can come to: with the port that the kernel has chosen. */
static MigrationSocketAddress *own_address(MigChannel *ch, const MigrationSocketAddress *asked)
{
    MigrationSocketAddress *a = g_new0(MigrationSocketAddress, 1);
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";

    a->type = asked->type;
    if (a->type == MIGRATION_SOCKET_TYPE_UNIX) {
        a->u.q_unix.path = g_strdup(asked->u.q_unix.path);
        return a;
    }
    if (getsockname(ch->listen_fd, (struct sockaddr *)&addr, &len) == 0) {
        getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    }
    a->u.inet.host = g_strdup(host);
    a->u.inet.port = g_strdup(port);
    return a;
}

/* --- Descriptors and files -------------------------------------------------------------------- */

/* Takes fd over.  How it is used depends on what it is. */
static bool use_fd(MigChannel *ch, int fd, GError **errp)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        error_setg_errno(errp, errno, "File descriptor %d", fd);
        close(fd);
        return false;
    }
    ch->fd = fd;
    ch->regular = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
    if (ch->regular) {
        off_t here = lseek(fd, 0, SEEK_CUR);

        ch->position = MAX(here, 0);
    } else {
        set_nonblocking(fd);
    }
    return true;
}

static bool use_named_fd(MigChannel *ch, const char *name, GError **errp)
{
    int fd = named_fd_take(name, errp);

    return fd >= 0 && use_fd(ch, fd, errp);
}

typedef struct OpenFile {
    const FileMigrationArgs *file;
    bool out;
    int fd;
} OpenFile;

static int open_worker(void *opaque)
{
    OpenFile *o = opaque;

    o->fd = open(o->file->filename, (o->out ? O_WRONLY | O_CREAT : O_RDONLY) | O_CLOEXEC, RW_MODE);
    if (o->fd < 0) {
        return -errno;
    }
    /* What somebody keeps in front of the offset stays, the rest is ours. */
    if (o->out && ftruncate(o->fd, o->file->offset) < 0 && errno != EINVAL) {
        int ret = -errno;

        close(o->fd);
        return ret;
    }
    return 0;
}

static bool coroutine_fn open_file(MigChannel *ch, const FileMigrationArgs *file, bool out,
                                   GError **errp)
{
    OpenFile o = {.file = file, .out = out};
    int ret = co_run_in_worker(open_worker, &o);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not open '%s'", file->filename);
        return false;
    }
    if (!use_fd(ch, o.fd, errp)) {
        return false;
    }
    ch->position = file->offset;
    return true;
}

/* --- Programs ------------------------------------------------------------------------------- */

static int spawn(MigChannel *ch, char **argv, int child_fd, int as)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, defaults;
    int ret;

    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, child_fd, as);
    posix_spawnattr_init(&attr);
    /* A group of its own, so that all of a pipeline can be ended. */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    ret = posix_spawnp(&ch->pid, argv[0], &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    if (ret) {
        ch->pid = 0;
        return -ret;
    }
    ch->pid_fd = syscall(SYS_pidfd_open, ch->pid, 0);
    return ch->pid_fd < 0 ? -errno : 0;
}

static bool start_program(MigChannel *ch, const strList *args, bool out, GError **errp)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    int pipe_fds[2], ret;

    for (const strList *a = args; a; a = a->next) {
        g_ptr_array_add(argv, a->value);
        ch->program = a->value;
    }
    g_ptr_array_add(argv, NULL);
    ch->program = g_strdup(ch->program);
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        error_setg_errno(errp, errno, "Could not make a pipe for '%s'", ch->program);
        return false;
    }
    ret = spawn(ch, (char **)argv->pdata, pipe_fds[!out], out ? STDIN_FILENO : STDOUT_FILENO);
    close(pipe_fds[!out]);
    if (ret < 0) {
        close(pipe_fds[out]);
        error_setg_errno(errp, -ret, "Could not start '%s'", (char *)argv->pdata[0]);
        return false;
    }
    return use_fd(ch, pipe_fds[out], errp);
}

/* Waits for the end of the program; killed: it is told to end at once. */
static int coroutine_fn wait_program(MigChannel *ch, int *status)
{
    int ret = 0;

    while (waitpid(ch->pid, status, WNOHANG) == 0) {
        ret = wait_fd(ch, ch->pid_fd, false);
        if (ret < 0) {
            return ret;
        }
    }
    ch->pid = 0;
    return ret;
}

static bool coroutine_fn finish_program(MigChannel *ch, GError **errp)
{
    int status = 0, ret = wait_program(ch, &status);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not wait for '%s'", ch->program);
        return false;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        error_setg(errp, WIFEXITED(status) ? "Command '%s' failed with exit status %d"
                                           : "Command '%s' was ended by signal %d",
                   ch->program, WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        return false;
    }
    return true;
}

/* --- Opening ------------------------------------------------------------------------------------ */

static void note_kind(MigChannel *ch)
{
    int type;
    socklen_t len = sizeof(type);

    ch->is_socket = ch->fd >= 0 && getsockopt(ch->fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0;
}

bool coroutine_fn mig_channel_connect(MigChannel *ch, const MigrationAddress *addr, GError **errp)
{
    const MigrationSocketAddress *s = &addr->u.socket;
    bool ok;

    if (addr->transport == MIGRATION_ADDRESS_TYPE_EXEC) {
        ok = start_program(ch, addr->u.exec.args, true, errp);
    } else if (addr->transport == MIGRATION_ADDRESS_TYPE_FILE) {
        ok = open_file(ch, &addr->u.file, true, errp);
    } else if (s->type == MIGRATION_SOCKET_TYPE_INET) {
        ok = connect_inet(ch, &s->u.inet, errp);
    } else if (s->type == MIGRATION_SOCKET_TYPE_UNIX) {
        ok = connect_unix(ch, s->u.q_unix.path, errp);
    } else {
        ok = use_named_fd(ch, s->u.fd.str, errp);
    }
    note_kind(ch);
    return ok;
}

bool coroutine_fn mig_channel_listen(MigChannel *ch, const MigrationAddress *addr,
                                     MigrationSocketAddress **listening, GError **errp)
{
    const MigrationSocketAddress *s = &addr->u.socket;
    bool ok;

    *listening = NULL;
    if (addr->transport == MIGRATION_ADDRESS_TYPE_EXEC) {
        return start_program(ch, addr->u.exec.args, false, errp);
    }
    if (addr->transport == MIGRATION_ADDRESS_TYPE_FILE) {
        return open_file(ch, &addr->u.file, false, errp);
    }
    if (s->type == MIGRATION_SOCKET_TYPE_FD) {
        ok = use_named_fd(ch, s->u.fd.str, errp);
        note_kind(ch);
        return ok;
    }
    ok = s->type == MIGRATION_SOCKET_TYPE_INET ? listen_inet(ch, &s->u.inet, errp)
                                               : listen_unix(ch, s->u.q_unix.path, errp);
    if (ok) {
        *listening = own_address(ch, s);
    }
    return ok;
}

bool coroutine_fn mig_channel_accept(MigChannel *ch, GError **errp)
{
    while (ch->listen_fd >= 0 && ch->fd < 0) {
        int fd = accept4(ch->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        int ret = 0;

        if (fd >= 0) {
            ch->fd = fd;
        } else if (errno == EAGAIN) {
            ret = wait_fd(ch, ch->listen_fd, false);
        } else if (errno != EINTR && errno != ECONNABORTED) {
            ret = -errno;
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not accept a connection");
            return false;
        }
    }
    stop_listening(ch);
    note_kind(ch);
    return true;
}

/* --- Bytes ---------------------------------------------------------------------------------------- */

static void consume(struct iovec **iov, int *niov, size_t n)
{
    while (*niov && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        (*iov)++;
        (*niov)--;
    }
    if (*niov) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

int coroutine_fn mig_channel_writev(MigChannel *ch, struct iovec *iov, int niov)
{
    while (niov) {
        ssize_t n;

        if (is_cancelled(ch)) {
            return -ECANCELED;
        }
        if (ch->regular) {
            n = co_pwritev(ch->fd, iov, niov, ch->position);
            if (n < 0) {
                return n;
            }
            ch->position += n;
        } else if (ch->is_socket) {
            struct msghdr msg = {.msg_iov = iov, .msg_iovlen = niov};

            guest_memory_begin(); /* pages may change while they are sent: they are sent again */
            n = sendmsg(ch->fd, &msg, MSG_NOSIGNAL);
            guest_memory_end();
        } else {
            guest_memory_begin();
            n = writev(ch->fd, iov, niov);
            guest_memory_end();
        }
        if (n < 0 && errno == EAGAIN) {
            int ret = wait_fd(ch, ch->fd, true);

            if (ret < 0) {
                return ret;
            }
        } else if (n < 0 && errno != EINTR) {
            return -errno;
        }
        consume(&iov, &niov, MAX(n, 0));
    }
    return 0;
}

ssize_t coroutine_fn mig_channel_read(MigChannel *ch, void *buf, size_t len)
{
    for (;;) {
        ssize_t n;

        if (is_cancelled(ch)) {
            return -ECANCELED;
        }
        if (ch->regular) {
            struct iovec iov = {.iov_base = buf, .iov_len = len};

            n = co_preadv(ch->fd, &iov, 1, ch->position);
            ch->position += MAX(n, 0);
            return n;
        }
        n = read(ch->fd, buf, len);
        if (n >= 0) {
            return n;
        }
        if (errno == EAGAIN) {
            int ret = wait_fd(ch, ch->fd, false);

            if (ret < 0) {
                return ret;
            }
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

bool mig_channel_is_duplex(MigChannel *ch)
{
    return ch->is_socket;
}

bool coroutine_fn mig_channel_finish(MigChannel *ch, GError **errp)
{
    if (ch->regular) {
        int ret = co_fdatasync(ch->fd);

        if (ret < 0 && ret != -EINVAL) {
            error_setg_errno(errp, -ret, "Could not flush the file");
            return false;
        }
    } else if (ch->is_socket) {
        shutdown(ch->fd, SHUT_WR);
    } else {
        close(ch->fd);
        ch->fd = -1;
    }
    return !ch->pid || finish_program(ch, errp);
}

static int reap_worker(void *opaque)
{
    while (waitpid(*(pid_t *)opaque, NULL, 0) < 0 && errno == EINTR) {
    }
    return 0;
}

void coroutine_fn mig_channel_free(MigChannel *ch)
{
    stop_listening(ch);
    if (ch->fd >= 0) {
        close(ch->fd);
    }
    if (ch->pid) {
        kill(-ch->pid, SIGKILL);
        co_run_in_worker(reap_worker, &ch->pid);
    }
    if (ch->pid_fd >= 0) {
        close(ch->pid_fd);
    }
    g_free(ch->program);
    g_free(ch);
}
