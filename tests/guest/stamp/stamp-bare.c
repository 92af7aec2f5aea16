/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stamping guest on the bare `virt` machine: 16550 UART, CLINT clock, virtio-blk over
 * MMIO (register layout version 2, VIRTIO 1.2 sections 4.2 and 5.2), polled.  M-mode, no
 * translation, no interrupts.
 */
#include "stamp.h"

#define UART ((volatile uint8_t *)0x10000000)
#define MTIME (*(volatile uint64_t *)0x200bff8) /* 10 MHz */
#define VIRTIO_BASE 0x10001000
#define VIRTIO_SLOTS 8
#define MEMORY 0x80200000

enum {
    MAGIC = 0x00, VERSION = 0x04, DEVICE_ID = 0x08, DRIVER_FEATURES = 0x20,
    DRIVER_FEATURES_SEL = 0x24, QUEUE_SEL = 0x30, QUEUE_NUM = 0x38, QUEUE_READY = 0x44,
    QUEUE_NOTIFY = 0x50, STATUS = 0x70, QUEUE_DESC = 0x80, QUEUE_DRIVER = 0x90,
    QUEUE_DEVICE = 0xa0, CONFIG = 0x100,
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { NEXT = 1, DEVICE_WRITES = 2 };
enum { FLUSH_BIT = 9, VERSION_1_BIT = 32 - 32, QUEUE_SIZE = 8, SECTOR = 512 };

typedef struct Desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
} Desc;

typedef struct Queue {
    Desc desc[QUEUE_SIZE];
    struct {
        uint16_t flags, idx, ring[QUEUE_SIZE], used_event;
    } avail;
    struct {
        uint16_t flags, idx;
        struct {
            uint32_t id, len;
        } ring[QUEUE_SIZE];
        uint16_t avail_event;
    } used __attribute__((aligned(4)));
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header __attribute__((aligned(8)));
    uint8_t status;
    uint16_t seen; /* used.idx when the last request was done */
} __attribute__((aligned(4096))) Queue;

static Queue queues[MAX_DISKS];
static volatile uint8_t *regs[MAX_DISKS];
static int nr_disks;

static uint32_t reg_read(volatile uint8_t *base, int reg)
{
    return *(volatile uint32_t *)(base + reg);
}

static void reg_write(volatile uint8_t *base, int reg, uint32_t value)
{
    *(volatile uint32_t *)(base + reg) = value;
}

static void reg_write64(volatile uint8_t *base, int reg, const void *p)
{
    reg_write(base, reg, (uint64_t)p);
    reg_write(base, reg + 4, (uint64_t)p >> 32);
}

static void find_disks(void)
{
    for (int slot = 0; slot < VIRTIO_SLOTS && nr_disks < MAX_DISKS; slot++) {
        volatile uint8_t *base = (volatile uint8_t *)(uint64_t)(VIRTIO_BASE + slot * 0x1000);
        Queue *q = &queues[nr_disks];

        if (reg_read(base, MAGIC) != 0x74726976 || reg_read(base, VERSION) != 2 ||
            reg_read(base, DEVICE_ID) != 2) {
            continue;
        }
        reg_write(base, STATUS, 0);
        reg_write(base, STATUS, ACKNOWLEDGE | DRIVER);
        reg_write(base, DRIVER_FEATURES_SEL, 0);
        reg_write(base, DRIVER_FEATURES, 1u << FLUSH_BIT);
        reg_write(base, DRIVER_FEATURES_SEL, 1);
        reg_write(base, DRIVER_FEATURES, 1u << VERSION_1_BIT);
        reg_write(base, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        reg_write(base, QUEUE_SEL, 0);
        reg_write(base, QUEUE_NUM, QUEUE_SIZE);
        reg_write64(base, QUEUE_DESC, q->desc);
        reg_write64(base, QUEUE_DRIVER, &q->avail);
        reg_write64(base, QUEUE_DEVICE, &q->used);
        reg_write(base, QUEUE_READY, 1);
        reg_write(base, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        regs[nr_disks++] = base;
    }
}

int plat_disks(void)
{
    return nr_disks;
}

uint64_t plat_disk_size(int disk)
{
    return (reg_read(regs[disk], CONFIG) | (uint64_t)reg_read(regs[disk], CONFIG + 4) << 32) *
           SECTOR;
}

static void describe(Queue *q, int i, const volatile void *p, uint32_t len, int flags)
{
    q->desc[i] = (Desc){.addr = (uint64_t)p, .len = len, .flags = flags, .next = i + 1};
}

void plat_disk_start(int disk, const DiskRequest *r)
{
    Queue *q = &queues[disk];

    q->header.type = r->write;
    q->header.sector = r->offset / SECTOR;
    q->status = 255;
    describe(q, 0, &q->header, 16, NEXT);
    for (int i = 0; i < SEGMENTS; i++) {
        describe(q, 1 + i, r->page[i], PAGE, NEXT | (r->write ? 0 : DEVICE_WRITES));
    }
    describe(q, 1 + SEGMENTS, &q->status, 1, DEVICE_WRITES);
    q->avail.ring[q->avail.idx % QUEUE_SIZE] = 0;
    __asm__ volatile("fence" ::: "memory");
    q->avail.idx++;
    __asm__ volatile("fence" ::: "memory");
    reg_write(regs[disk], QUEUE_NOTIFY, 0);
}

int plat_disk_poll(int disk)
{
    Queue *q = &queues[disk];

    if (*(volatile uint16_t *)&q->used.idx == q->seen) {
        return 0;
    }
    __asm__ volatile("fence" ::: "memory");
    q->seen++;
    return q->status ? -1 : 1;
}

void plat_putc(char c)
{
    while (!(UART[5] & 0x20)) {
    }
    UART[0] = c;
}

int plat_getc(void)
{
    return UART[5] & 1 ? UART[0] : -1;
}

uint64_t plat_now_us(void)
{
    return MTIME / 10;
}

/* The machine must have 1 GiB. */
void plat_fill(void)
{
    volatile uint64_t *p = (uint64_t *)MEMORY + (uint64_t)MEMORY_PAGES * WORDS;

    for (int i = 0; i < 768 * 256; i++, p += WORDS) {
        *p = 0;
    }
}

void plat_turn(void)
{
}

void bare_main(void);
void bare_main(void)
{
    find_disks();
    stamp_run((uint64_t *)MEMORY);
}
