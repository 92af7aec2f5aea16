/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that stamps pages and disk sectors with generation numbers in a fixed order, so
 * that a snapshot which is not of one instant shows.
 *
 *   pages    a permutation of STAMPED pages is gone through over and over; a page must hold
 *            the generation before when its turn comes, then it gets the present one
 *   disks    blocks in turn: read into buffers that rotate through BUFFERS pages (so devices
 *            write much memory), compared with the counter that memory keeps, written with
 *            the next
 *   fresh    pages that nobody has touched before are touched one by one; what is behind
 *            the last one is zero
 *   epoch    a number that the tester raises, in memory and on every disk: it tells which
 *            snapshot this is
 *
 * What is wrong is printed in a line that starts with BAD.  Keys: 'e' raises the epoch and
 * prints "E n"; 'v' checks everything and prints "V OK epoch=n" or "V BAD"; 'f' begins with
 * the fresh pages; 'b' touches much memory and prints FILLED; 's' stops all writing but by key, 'c' continues it.  'h' is printed once
 * per millisecond.
 */
#include "stamp.h"

#define ORDER 1237     /* odd: i -> i * ORDER mod STAMPED is a permutation */
#define CHUNK_PAGES 512 /* 2 MiB: the fresh pages are taken from one after the other */
#define BLOCKS 64
#define TURN_PAGES 64
#define DISK_BUFFERS (BUFFERS / SEGMENTS / MAX_DISKS)
#define FRESH_US 200
#define MAX_BAD 20

enum { DISK_IDLE, DISK_READING, DISK_WRITING };

typedef struct Disk {
    int phase;
    uint64_t counter; /* of the write that is next or in flight */
    uint64_t step;    /* bytes between blocks */
    int buffer;       /* first of the request in flight */
    int next_buffer;  /* every disk has its own: one may be much slower than another */
} Disk;

static uint64_t *stamped, *buffers, *fresh_pages;
static uint64_t generation = 1, next_page;
static uint64_t fresh, fresh_time;
static int fresh_on, stopped;
static uint64_t epoch, beat;
static Disk disks[MAX_DISKS];
static uint64_t buffer_holds[BUFFERS]; /* counter + 1; 0: not used yet */
static int bad;

/* --- Text ------------------------------------------------------------------------------- */

static void put(const char *s)
{
    while (*s) {
        plat_putc(*s++);
    }
}

static void put_number(uint64_t n)
{
    char text[21];
    int at = sizeof(text) - 1;

    text[at] = 0;
    do {
        text[--at] = '0' + n % 10;
        n /= 10;
    } while (n);
    put(text + at);
}

static void report(const char *what, uint64_t number, uint64_t is, uint64_t expected)
{
    if (bad++ < MAX_BAD) {
        put("\nBAD ");
        put(what);
        plat_putc(' ');
        put_number(number);
        put(": ");
        put_number(is);
        put(", expected ");
        put_number(expected);
        plat_putc('\n');
    }
}

/* --- Pages ------------------------------------------------------------------------------- */

static void check_page(uint64_t page, uint64_t expected)
{
    const uint64_t *p = stamped + page * WORDS;

    if (p[0] != expected || p[WORDS / 2] != (expected ^ page << 32) || p[WORDS - 1] != ~expected) {
        report("page", page, p[0], expected);
    }
}

static void stamp_page(uint64_t page, uint64_t value)
{
    uint64_t *p = stamped + page * WORDS;

    p[0] = value;
    p[WORDS / 2] = value ^ page << 32;
    p[WORDS - 1] = ~value;
}

static uint64_t in_order(uint64_t i)
{
    return i * ORDER % STAMPED;
}

static void stamp_some(void)
{
    for (int n = 0; n < TURN_PAGES; n++) {
        uint64_t page = in_order(next_page);

        check_page(page, generation - 1);
        stamp_page(page, generation);
        if (++next_page == STAMPED) {
            next_page = 0;
            generation++;
        }
    }
}

static uint64_t *fresh_page(uint64_t i)
{
    const uint64_t chunks = FRESH / CHUNK_PAGES;

    return fresh_pages + (i % chunks * CHUNK_PAGES + i / chunks) * WORDS;
}

static void touch_fresh(void)
{
    uint64_t now = plat_now_us();

    if (fresh_on && fresh < FRESH && now - fresh_time >= FRESH_US) {
        uint64_t *p = fresh_page(fresh);

        /* Every other one is read before it is written. */
        if (fresh % 2 && p[0]) {
            report("fresh page", fresh, p[0], 0);
        }
        p[WORDS - 1] = fresh + 1;
        p[0] = fresh + 1;
        fresh++;
        fresh_time = now;
    }
}

/* --- Disks ------------------------------------------------------------------------------- */

static uint64_t *buffer_page(int buffer, int segment)
{
    /* Segments lie apart, so that a request is not one piece of memory. */
    return buffers + (uint64_t)(buffer + segment * (BUFFERS / SEGMENTS)) % BUFFERS * WORDS;
}

static void start(int d, int write, uint64_t offset)
{
    DiskRequest r = {.write = write, .offset = offset};

    disks[d].buffer = disks[d].next_buffer;
    disks[d].next_buffer = d * DISK_BUFFERS + (disks[d].buffer + 1) % DISK_BUFFERS;
    for (int i = 0; i < SEGMENTS; i++) {
        r.page[i] = buffer_page(disks[d].buffer, i);
    }
    plat_disk_start(d, &r);
}

static void fill_buffer(int buffer, uint64_t value)
{
    for (int i = 0; i < SEGMENTS; i++) {
        uint64_t *p = buffer_page(buffer, i);

        for (int s = 0; s < WORDS; s += 64) {
            p[s] = value;
            p[s + 63] = ~(value + i * WORDS + s);
        }
        buffer_holds[(buffer + i * (BUFFERS / SEGMENTS)) % BUFFERS] = value + 1;
    }
}

/* Compares every sector of the request just read. */
static void check_buffer(const char *what, int buffer, uint64_t number, uint64_t expected)
{
    for (int i = 0; i < SEGMENTS; i++) {
        const uint64_t *p = buffer_page(buffer, i);

        for (int s = 0; s < WORDS; s += 64) {
            if (p[s] != expected || p[s + 63] != ~(expected + i * WORDS + s)) {
                report(what, number, p[s], expected);
                return;
            }
        }
        buffer_holds[(buffer + i * (BUFFERS / SEGMENTS)) % BUFFERS] = expected + 1;
    }
}

static int wait_disk(int d)
{
    int ret;

    while ((ret = plat_disk_poll(d)) == 0) {
        plat_turn();
    }
    return ret;
}

static void failed(int d, const char *what)
{
    put("\nBAD disk ");
    put_number(d);
    plat_putc(' ');
    put(what);
    put(" failed\n");
    bad++;
}

static void begin_write(int d)
{
    Disk *disk = &disks[d];

    disk->phase = DISK_WRITING;
    fill_buffer(disk->next_buffer, disk->counter);
    start(d, 1, disk->counter % BLOCKS * disk->step);
}

/* One step when the request in flight is done; waits for nothing. */
static void work_disk(int d, int begin_next)
{
    Disk *disk = &disks[d];
    int ret = disk->phase == DISK_IDLE ? 0 : plat_disk_poll(d);

    if (ret < 0) {
        failed(d, disk->phase == DISK_READING ? "read" : "write");
    }
    if (disk->phase == DISK_READING && ret) {
        if (ret > 0 && disk->counter >= BLOCKS) {
            check_buffer("disk block", disk->buffer, disk->counter % BLOCKS,
                         disk->counter - BLOCKS);
        }
        begin_write(d);
    } else if (disk->phase == DISK_WRITING && ret) {
        disk->counter++;
        disk->phase = DISK_IDLE;
    }
    if (disk->phase == DISK_IDLE && begin_next) {
        if (disk->counter < BLOCKS) {
            begin_write(d);
        } else {
            disk->phase = DISK_READING;
            start(d, 0, disk->counter % BLOCKS * disk->step);
        }
    }
}

static void settle_disk(int d)
{
    while (disks[d].phase != DISK_IDLE) {
        work_disk(d, 0);
        plat_turn();
    }
}

/* The epoch's place is behind the blocks. */
static uint64_t epoch_offset(int d)
{
    return BLOCKS * disks[d].step;
}

static void raise_epoch(void)
{
    epoch++;
    for (int d = 0; d < plat_disks(); d++) {
        settle_disk(d);
        fill_buffer(disks[d].next_buffer, epoch);
        start(d, 1, epoch_offset(d));
        if (wait_disk(d) < 0) {
            failed(d, "write");
        }
    }
    put("\nE ");
    put_number(epoch);
    plat_putc('\n');
}

static void read_and_check(int d, const char *what, uint64_t offset, uint64_t number,
                           uint64_t expected)
{
    start(d, 0, offset);
    if (wait_disk(d) < 0) {
        failed(d, "read");
    } else {
        check_buffer(what, disks[d].buffer, number, expected);
    }
}

/* --- All of it ----------------------------------------------------------------------------- */

static void verify_memory(void)
{
    for (uint64_t i = 0; i < STAMPED; i++) {
        check_page(in_order(i), i < next_page ? generation : generation - 1);
    }
    for (uint64_t i = 0; i < fresh; i++) {
        if (fresh_page(i)[0] != i + 1 || fresh_page(i)[WORDS - 1] != i + 1) {
            report("fresh page", i, fresh_page(i)[0], i + 1);
        }
    }
    /* Not all: to read a page is to touch it. */
    for (uint64_t i = fresh; i < FRESH && i < fresh + 16; i++) {
        if (fresh_page(i)[0] || fresh_page(i)[WORDS - 1]) {
            report("untouched page", i, fresh_page(i)[0], 0);
        }
    }
    for (uint64_t i = 0; i < BUFFERS; i++) {
        if (buffer_holds[i] && buffers[i * WORDS] != buffer_holds[i] - 1) {
            report("buffer", i, buffers[i * WORDS], buffer_holds[i] - 1);
        }
    }
}

static void verify(void)
{
    for (int d = 0; d < plat_disks(); d++) {
        settle_disk(d);
    }
    verify_memory();
    for (int d = 0; d < plat_disks(); d++) {
        uint64_t c = disks[d].counter, n = c < BLOCKS ? c : BLOCKS;

        for (uint64_t i = c - n; i < c; i++) {
            read_and_check(d, "disk block", i % BLOCKS * disks[d].step, i % BLOCKS, i);
        }
        if (epoch) {
            read_and_check(d, "epoch on disk", epoch_offset(d), d, epoch);
        }
    }
    put(bad ? "\nV BAD epoch=" : "\nV OK epoch=");
    put_number(epoch);
    put(" generation=");
    put_number(generation);
    put(" fresh=");
    put_number(fresh);
    plat_putc('\n');
}

static void key(int c)
{
    switch (c) {
    case 'e':
        raise_epoch();
        break;
    case 'v':
        verify();
        break;
    case 'f':
        fresh_on = 1;
        break;
    case 'b':
        plat_fill();
        put("\nFILLED\n");
        break;
    case 's':
        stopped = 1;
        break;
    case 'c':
        stopped = 0;
        break;
    }
}

void stamp_run(uint64_t *memory)
{
    stamped = memory;
    buffers = stamped + STAMPED * WORDS;
    fresh_pages = buffers + BUFFERS * WORDS;
    put("R");
    for (int d = 0; d < plat_disks(); d++) {
        disks[d].next_buffer = d * DISK_BUFFERS;
        disks[d].step = plat_disk_size(d) / (BLOCKS + 1) / BLOCK * BLOCK;
    }
    for (uint64_t i = 0; i < STAMPED; i++) {
        stamp_page(i, 0);
    }
    put("\nSTAMPING\n");
    for (;;) {
        if (!stopped) {
            stamp_some();
            touch_fresh();
        }
        for (int d = 0; d < plat_disks(); d++) {
            work_disk(d, !stopped);
        }
        if (plat_now_us() - beat >= 1000) {
            beat = plat_now_us();
            plat_putc('h');
        }
        key(plat_getc());
        plat_turn();
    }
}
