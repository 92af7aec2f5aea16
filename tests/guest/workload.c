/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest program behind the tests, the demo and the benchmarks (riscv64, static).
 *
 *   workload [fill=MIB] [rate=MIB_PER_SECOND] [beat=MICROSECONDS] [disk=/dev/vda]
 *
 * It fills memory with incompressible pages that carry their number and a generation,
 * then rewrites them in order at the given rate, each time checking that the page holds
 * what the last pass left; prints one 'h' per beat; and stamps disk blocks with a counter
 * that it compares with the one it keeps in memory.  A snapshot that is not of one instant
 * therefore shows up as a line that starts with "BAD".
 *
 * Keys on standard input: 'v' checks every byte and prints "VERIFY OK" or "VERIFY BAD",
 * 'p' pauses or continues the beat's output, 'q' ends the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define WORDS (PAGE / 8)
#define DISK_BLOCKS 256
#define DISK_START (1 << 20) /* bytes */

static uint64_t *memory;
static uint64_t nr_pages, next_page;
static uint64_t generation = 1; /* of the pages before next_page; the others have one less */
static const char *disk;

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    return x * 0x94d049bb133111ebu;
}

static uint64_t seed(uint64_t page, uint64_t gen)
{
    return mix(page * 0x9e3779b97f4a7c15u + gen) | 1;
}

static uint64_t step(uint64_t x)
{
    x ^= x << 13;
    x ^= x >> 7;
    return x ^ x << 17;
}

static void write_page(uint64_t page, uint64_t gen)
{
    uint64_t *p = memory + page * WORDS, x = seed(page, gen);

    p[0] = gen;
    p[1] = page;
    for (int i = 2; i < WORDS; i++) {
        x = step(x);
        p[i] = x;
    }
}

static int page_is(uint64_t page, uint64_t gen)
{
    const uint64_t *p = memory + page * WORDS;
    uint64_t x = seed(page, gen);

    if (p[0] != gen || p[1] != page) {
        return 0;
    }
    for (int i = 2; i < WORDS; i++) {
        x = step(x);
        if (p[i] != x) {
            return 0;
        }
    }
    return 1;
}

static void report_bad_page(uint64_t page, uint64_t expected)
{
    const uint64_t *p = memory + page * WORDS;

    printf("\nBAD page %lu: generation %lu number %lu, expected generation %lu\n", page, p[0],
           p[1], expected);
    fflush(stdout);
}

/* Checks every byte of every page. */
static void verify(void)
{
    uint64_t bad = 0;

    for (uint64_t i = 0; i < nr_pages; i++) {
        uint64_t expected = i < next_page ? generation : generation - 1;

        if (!page_is(i, expected) && bad++ == 0) {
            report_bad_page(i, expected);
        }
    }
    printf("\nVERIFY %s pages=%lu bad=%lu generation=%lu next=%lu\n", bad ? "BAD" : "OK",
           nr_pages, bad, generation, next_page);
    fflush(stdout);
}

/* Rewrites the next n pages. */
static void dirty(uint64_t n)
{
    while (n--) {
        if (next_page == nr_pages) {
            next_page = 0;
            generation++;
        }
        const uint64_t *p = memory + next_page * WORDS;
        if (p[0] != generation - 1 || p[1] != next_page) {
            report_bad_page(next_page, generation - 1);
        }
        write_page(next_page, generation);
        next_page++;
    }
}

static void *disk_thread(void *arg)
{
    uint64_t *block;
    uint64_t counter = 0;
    int fd = open(disk, O_RDWR | O_DIRECT);

    (void)arg;
    if (fd < 0 || posix_memalign((void **)&block, PAGE, PAGE)) {
        printf("\nBAD disk %s: %s\n", disk, strerror(errno));
        fflush(stdout);
        return NULL;
    }
    for (;;) {
        off_t offset = DISK_START + counter % DISK_BLOCKS * PAGE;

        if (counter >= DISK_BLOCKS) {
            if (pread(fd, block, PAGE, offset) != PAGE) {
                printf("\nBAD disk read: %s\n", strerror(errno));
            } else if (block[0] != counter - DISK_BLOCKS || block[WORDS - 1] != ~block[0]) {
                printf("\nBAD disk block %lu: %lu, expected %lu\n", counter % DISK_BLOCKS,
                       block[0], counter - DISK_BLOCKS);
            }
            fflush(stdout);
        }
        block[0] = counter;
        block[WORDS - 1] = ~counter;
        if (pwrite(fd, block, PAGE, offset) != PAGE) {
            printf("\nBAD disk write: %s\n", strerror(errno));
            fflush(stdout);
        }
        counter++;
        usleep(10000);
    }
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);

    if (end == text || *end) {
        fprintf(stderr, "workload: '%s' is not a number\n", text);
        exit(2);
    }
    return value;
}

static int ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll(&p, 1, 0) == 1 && (p.revents & events);
}

static void raw_input(void)
{
    struct termios tio;

    if (tcgetattr(0, &tio) == 0) {
        tio.c_lflag &= ~(ICANON | ECHO);
        tio.c_cc[VMIN] = 1;
        tcsetattr(0, TCSANOW, &tio);
    }
}

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000l + ts.tv_nsec;
}

static void sleep_until(int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* One turn per beat, until 'q'. */
static void run(uint64_t rate, int64_t beat_ns)
{
    int64_t next = now_ns();
    uint64_t due = 0; /* pages to write, in billionths */
    int quiet = 0;
    char key = 0;

    while (key != 'q') {
        /* A full output buffer must not hold up the clock: the beat is dropped then. */
        if (!quiet && ready(1, POLLOUT) && write(1, "h", 1) != 1) {
            exit(1);
        }
        due += rate * 256 * (uint64_t)beat_ns;
        dirty(due / 1000000000u);
        due %= 1000000000u;
        if (ready(0, POLLIN) && read(0, &key, 1) == 1) {
            if (key == 'v') {
                verify();
            } else if (key == 'p') {
                quiet = !quiet;
            }
        }
        next += beat_ns;
        if (next < now_ns()) {
            next = now_ns(); /* late: do not try to catch up */
        }
        sleep_until(next);
    }
}

int main(int argc, char **argv)
{
    uint64_t fill = 64, rate = 20, beat_us = 1000;
    pthread_t thread;

    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "fill=", 5)) {
            fill = number(argv[i] + 5);
        } else if (!strncmp(argv[i], "rate=", 5)) {
            rate = number(argv[i] + 5);
        } else if (!strncmp(argv[i], "beat=", 5)) {
            beat_us = number(argv[i] + 5);
        } else if (!strncmp(argv[i], "disk=", 5)) {
            disk = argv[i] + 5;
        } else {
            fprintf(stderr, "workload: unknown argument '%s'\n", argv[i]);
            return 2;
        }
    }
    nr_pages = fill * 256;
    memory = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("workload: mmap");
        return 1;
    }
    for (uint64_t i = 0; i < nr_pages; i++) {
        write_page(i, 0);
    }
    raw_input();
    if (disk && pthread_create(&thread, NULL, disk_thread, NULL)) {
        perror("workload: pthread_create");
        return 1;
    }
    printf("WORKLOAD READY fill=%lu rate=%lu beat=%lu\n", fill, rate, beat_us);
    fflush(stdout);
    run(rate, beat_us * 1000);
    printf("\nWORKLOAD END\n");
    return 0;
}
