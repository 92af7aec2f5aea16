/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stamping guest as a Linux process: stamp [/dev/vda...]; O_DIRECT, a thread per disk.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>
#include "stamp.h"

enum { EMPTY, POSTED, DONE, FAILED };

typedef struct HostDisk {
    int fd;
    uint64_t size;
    DiskRequest request;
    int state; /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t posted;
} HostDisk;

static HostDisk disks[MAX_DISKS];
static int nr_disks;
static char output[256]; /* of a line, or of the beats of a turn */
static unsigned output_len;

static void *disk_thread(void *opaque)
{
    HostDisk *d = opaque;

    for (;;) {
        struct iovec iov[SEGMENTS];
        ssize_t n;

        pthread_mutex_lock(&d->lock);
        while (d->state != POSTED) {
            pthread_cond_wait(&d->posted, &d->lock);
        }
        pthread_mutex_unlock(&d->lock);
        for (int i = 0; i < SEGMENTS; i++) {
            iov[i] = (struct iovec){.iov_base = d->request.page[i], .iov_len = PAGE};
        }
        n = d->request.write ? pwritev(d->fd, iov, SEGMENTS, d->request.offset)
                             : preadv(d->fd, iov, SEGMENTS, d->request.offset);
        pthread_mutex_lock(&d->lock);
        d->state = n == BLOCK ? DONE : FAILED;
        pthread_mutex_unlock(&d->lock);
    }
    return NULL;
}

int plat_disks(void)
{
    return nr_disks;
}

uint64_t plat_disk_size(int disk)
{
    return disks[disk].size;
}

void plat_disk_start(int disk, const DiskRequest *r)
{
    HostDisk *d = &disks[disk];

    pthread_mutex_lock(&d->lock);
    d->request = *r;
    d->state = POSTED;
    pthread_cond_signal(&d->posted);
    pthread_mutex_unlock(&d->lock);
}

int plat_disk_poll(int disk)
{
    HostDisk *d = &disks[disk];
    int state;

    pthread_mutex_lock(&d->lock);
    state = d->state;
    if (state == DONE || state == FAILED) {
        d->state = EMPTY;
    }
    pthread_mutex_unlock(&d->lock);
    return state == DONE ? 1 : state == FAILED ? -1 : 0;
}

static void flush_output(void)
{
    unsigned at = 0;

    while (at < output_len) {
        ssize_t n = write(1, output + at, output_len - at);

        if (n < 0 && errno != EINTR) {
            exit(1);
        }
        at += n > 0 ? n : 0;
    }
    output_len = 0;
}

void plat_putc(char c)
{
    output[output_len++] = c;
    if (c == '\n' || output_len == sizeof(output)) {
        flush_output();
    }
}

int plat_getc(void)
{
    struct pollfd p = {.fd = 0, .events = POLLIN};
    char c;

    return poll(&p, 1, 0) == 1 && read(0, &c, 1) == 1 ? c : -1;
}

uint64_t plat_now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

void plat_fill(void)
{
    const size_t size = (size_t)768 << 20;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (p != MAP_FAILED) {
        munmap(p, size);
    }
}

/* The disks' threads want their turn, the beat wants to be seen. */
void plat_turn(void)
{
    flush_output();
    sched_yield();
}

static void open_disk(const char *path)
{
    HostDisk *d = &disks[nr_disks];
    pthread_t thread;

    d->fd = open(path, O_RDWR | O_DIRECT);
    if (d->fd < 0 || ioctl(d->fd, BLKGETSIZE64, &d->size) < 0) {
        perror(path);
        exit(1);
    }
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->posted, NULL);
    if (pthread_create(&thread, NULL, disk_thread, d)) {
        perror("stamp: pthread_create");
        exit(1);
    }
    nr_disks++;
}

int main(int argc, char **argv)
{
    uint64_t *memory = mmap(NULL, (size_t)MEMORY_PAGES * PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct termios tio;

    if (memory == MAP_FAILED) {
        perror("stamp: mmap");
        return 1;
    }
    for (int i = 1; i < argc && nr_disks < MAX_DISKS; i++) {
        open_disk(argv[i]);
    }
    if (tcgetattr(0, &tio) == 0) {
        tio.c_lflag &= ~(ICANON | ECHO);
        tio.c_cc[VMIN] = 1;
        tcsetattr(0, TCSANOW, &tio);
    }
    stamp_run(memory);
}
