/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of a flash bank: Common Flash Interface (JEDEC JESD68) and Intel's basic and
 * extended command set, as the public data sheets of the StrataFlash J3 give them.  The two
 * chips of a bank work in step: a command is the low byte of what is written, status and
 * identification come from both.
 *
 * vCPU threads come here; the device's own leaf lock guards it all.  A program or erase
 * operation is handed to pflash-store.c, and the chips are busy until its block node has the
 * data: a driver that waits for the ready bit knows that it is there.
 */
#include <string.h>
#include "pflash-int.h"
#include "qapi/error.h"

typedef enum PFlashMode { MODE_ARRAY, MODE_STATUS, MODE_ID, MODE_CFI, MODE_COUNT } PFlashMode;

typedef enum PFlashSetup {
    SETUP_NONE,
    SETUP_PROGRAM, /* one word of data */
    SETUP_ERASE,   /* confirmation */
    SETUP_LOCK,    /* what to do with the block's lock */
    SETUP_COUNT,   /* words to buffer, less one */
    SETUP_DATA,    /* buffered data */
    SETUP_CONFIRM, /* confirmation of buffered data */
    SETUP_STATES,
} PFlashSetup;

enum {
    CMD_PROGRAM_ALT = 0x10,
    CMD_ERASE = 0x20,
    CMD_PROGRAM = 0x40,
    CMD_CLEAR_STATUS = 0x50,
    CMD_LOCK_SETUP = 0x60,
    CMD_READ_STATUS = 0x70,
    CMD_READ_ID = 0x90,
    CMD_READ_CFI = 0x98,
    CMD_SUSPEND = 0xb0,
    CMD_CONFIRM = 0xd0, /* and resume */
    CMD_BUFFER = 0xe8,
    LOCK_SET = 0x01,
    LOCK_DOWN = 0x2f,
    WORD = 4, /* bytes of the bus: both chips */
};

/* What each chip says of itself; word addresses (JESD68, "CFI query"). */
static const uint8_t cfi[0x60] = {
    [0x10] = 'Q', 'R', 'Y',
    [0x13] = 0x01, 0x00,       /* Intel's extended command set */
    [0x15] = 0x31, 0x00,       /* whose table is at 0x31 */
    [0x1b] = 0x45, 0x55,       /* 4.5 to 5.5 V */
    [0x1f] = 0x07, 0x07, 0x0a, /* typical times: 128 us a word, a buffer; 1 s a block */
    /* at most 2^16 times as long, 8 s; 2^4 times, 16 s: a disk may be slow */
    [0x23] = 0x10, 0x10, 0x04,
    [0x27] = 0x18,             /* 16 MiB */
    [0x28] = 0x02, 0x00,       /* 8 or 16 bits wide */
    [0x2a] = 0x0b, 0x00,       /* buffer of 2 KiB */
    [0x2c] = 0x01,             /* blocks of one size: */
    [0x2d] = 0x7f, 0x00,       /* 128 of */
    [0x2f] = 0x00, 0x02,       /* 512 * 256 bytes */
    [0x31] = 'P', 'R', 'I', '1', '0',
    [0x3f] = 0x01,             /* one protection register, not used */
};

enum { ID_INTEL = 0x89, ID_128_MBIT = 0x18 };

/* --- Reading ---------------------------------------------------------------------------- */

static uint16_t id_word(PFlash *s, uint32_t word)
{
    switch (word % (PFLASH_BLOCK / WORD)) {
    case 0:
        return word ? 0 : ID_INTEL;
    case 1:
        return word == 1 ? ID_128_MBIT : 0;
    case 2:
        return s->read_only; /* the block's lock */
    default:
        return 0;
    }
}

static uint8_t status(PFlash *s)
{
    return s->regs.status | (s->regs.op ? 0 : SR_READY);
}

/* One word of the bus.  Lock held. */
static uint32_t read_word(PFlash *s, uint32_t offset)
{
    uint32_t word = offset / WORD, value;
    uint16_t chip;

    if (s->regs.op || s->regs.mode == MODE_STATUS) {
        chip = status(s);
    } else if (s->regs.mode == MODE_ID) {
        chip = id_word(s, word);
    } else if (s->regs.mode == MODE_CFI) {
        chip = word < G_N_ELEMENTS(cfi) ? cfi[word] : 0;
    } else {
        memcpy(&value, s->content.mem + word * WORD, WORD);
        return GUINT32_FROM_LE(value);
    }
    return (uint32_t)chip << 16 | chip;
}

static uint64_t pflash_read(void *opaque, uint64_t offset, unsigned size)
{
    PFlash *s = opaque;
    uint64_t value;

    pthread_mutex_lock(&s->lock);
    value = read_word(s, offset);
    if (size == 8) {
        value |= (uint64_t)read_word(s, offset + WORD) << 32;
    }
    pthread_mutex_unlock(&s->lock);
    value >>= offset % WORD * 8;
    return size < 8 ? value & ((UINT64_C(1) << size * 8) - 1) : value;
}

/* --- Commands: lock held ---------------------------------------------------------------- */

static void set_mode(PFlash *s, PFlashMode mode)
{
    s->regs.mode = mode;
    __atomic_store_n(&s->direct, mode == MODE_ARRAY, __ATOMIC_RELEASE);
}

static void fail(PFlash *s, uint8_t bits)
{
    s->regs.status |= bits;
    s->regs.setup = SETUP_NONE;
}

static void begin_op(PFlash *s, PFlashOp op, uint32_t offset, uint32_t len)
{
    s->regs.setup = SETUP_NONE;
    s->regs.op = op;
    s->regs.op_offset = offset;
    s->regs.op_len = len;
    if (s->read_only) {
        pflash_op_done(s, SR_LOCKED | (op == PFLASH_OP_ERASE ? SR_ERASE_ERROR
                                                             : SR_PROGRAM_ERROR));
    } else {
        pflash_store_begin(s);
    }
}

void pflash_op_done(PFlash *s, uint8_t error_bits)
{
    s->regs.op = PFLASH_OP_NONE;
    s->regs.op_offset = s->regs.op_len = 0;
    s->op_taken = false;
    s->regs.status |= error_bits;
}

static void command(PFlash *s, uint32_t offset, uint8_t cmd)
{
    static const struct {
        uint8_t cmd, mode, setup;
    } commands[] = {
        {CMD_PROGRAM, MODE_STATUS, SETUP_PROGRAM}, {CMD_PROGRAM_ALT, MODE_STATUS, SETUP_PROGRAM},
        {CMD_ERASE, MODE_STATUS, SETUP_ERASE},     {CMD_LOCK_SETUP, MODE_STATUS, SETUP_LOCK},
        {CMD_BUFFER, MODE_STATUS, SETUP_COUNT},    {CMD_READ_STATUS, MODE_STATUS, SETUP_NONE},
        {CMD_SUSPEND, MODE_STATUS, SETUP_NONE},    {CMD_CONFIRM, MODE_STATUS, SETUP_NONE},
        {CMD_READ_ID, MODE_ID, SETUP_NONE},        {CMD_READ_CFI, MODE_CFI, SETUP_NONE},
    };

    if (cmd == CMD_CLEAR_STATUS) {
        s->regs.status = 0;
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (cmd == commands[i].cmd) {
            s->regs.setup_offset = offset;
            s->regs.setup = commands[i].setup;
            set_mode(s, commands[i].mode);
            return;
        }
    }
    set_mode(s, MODE_ARRAY); /* 0xff, and whatever the chips do not know */
}

static void buffer_count(PFlash *s, uint32_t count)
{
    if (count >= PFLASH_BUFFER / WORD) {
        fail(s, SR_SEQUENCE_ERROR);
        return;
    }
    s->regs.remaining = count + 1;
    s->regs.buf_len = 0;
    s->regs.bad = false;
    s->regs.setup = SETUP_DATA;
    memset(s->regs.buf, 0xff, sizeof(s->regs.buf));
}

/* Data must stay in the erase block of the command and within a buffer from its start. */
static void buffer_data(PFlash *s, uint32_t offset, uint32_t value, unsigned size)
{
    PFlashRegs *r = &s->regs;
    uint32_t at;

    if (r->buf_len == 0) {
        r->buf_offset = offset;
    }
    at = offset - r->buf_offset;
    if (offset / PFLASH_BLOCK != r->setup_offset / PFLASH_BLOCK || offset < r->buf_offset ||
        at > PFLASH_BUFFER - size) {
        r->bad = true;
    } else {
        value = GUINT32_TO_LE(value);
        memcpy(r->buf + at, &value, size);
        r->buf_len = MAX(r->buf_len, at + size);
    }
    if (--r->remaining == 0) {
        r->setup = SETUP_CONFIRM;
    }
}

static void write_word(PFlash *s, uint32_t offset, uint32_t value, unsigned size)
{
    PFlashRegs *r = &s->regs;
    uint8_t cmd = value;

    if (r->op) {
        return; /* busy */
    }
    switch (r->setup) {
    case SETUP_NONE:
        command(s, offset, cmd);
        break;
    case SETUP_PROGRAM:
        value = GUINT32_TO_LE(value);
        memcpy(r->buf, &value, size);
        begin_op(s, PFLASH_OP_PROGRAM, offset, size);
        break;
    case SETUP_ERASE:
        if (cmd == CMD_CONFIRM && offset / PFLASH_BLOCK == r->setup_offset / PFLASH_BLOCK) {
            begin_op(s, PFLASH_OP_ERASE, offset & ~(PFLASH_BLOCK - 1), PFLASH_BLOCK);
        } else {
            fail(s, SR_SEQUENCE_ERROR);
        }
        break;
    case SETUP_LOCK: /* there are no locks: nothing to do */
        fail(s, cmd == CMD_CONFIRM || cmd == LOCK_SET || cmd == LOCK_DOWN ? 0
                                                                          : SR_SEQUENCE_ERROR);
        break;
    case SETUP_COUNT:
        buffer_count(s, value & 0xffff);
        break;
    case SETUP_DATA:
        buffer_data(s, offset, value, size);
        break;
    default:
        if (cmd == CMD_CONFIRM && !r->bad && r->buf_len) {
            begin_op(s, PFLASH_OP_PROGRAM, r->buf_offset, r->buf_len);
        } else {
            fail(s, SR_SEQUENCE_ERROR);
        }
    }
}

static void pflash_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    PFlash *s = opaque;
    bool data;

    pthread_mutex_lock(&s->lock);
    data = s->regs.setup == SETUP_DATA;
    write_word(s, offset, value, MIN(size, WORD));
    if (size == 8 && data && s->regs.setup == SETUP_DATA) {
        write_word(s, offset + WORD, value >> 32, WORD);
    }
    pthread_mutex_unlock(&s->lock);
}

static const MMIOOps pflash_ops = {
    .read = pflash_read,
    .write = pflash_write,
    .min_size = 1,
    .max_size = 8,
    .lockless = true,
};

/* --- Machine state ---------------------------------------------------------------------- */

static bool pflash_pre_save(void *opaque, GError **errp)
{
    PFlash *s = opaque;

    pthread_mutex_lock(&s->lock);
    s->saved = s->regs;
    pthread_mutex_unlock(&s->lock);
    return true;
}

static bool pflash_pre_load(void *opaque, GError **errp)
{
    PFlash *s = opaque;

    pthread_mutex_lock(&s->lock);
    pflash_content_undo(s); /* a load that has failed is followed by one of the old state */
    s->loading = true;
    s->generation++;
    s->content_loaded = false;
    pflash_op_done(s, 0);
    pthread_mutex_unlock(&s->lock);
    return true;
}

static bool regs_are_sane(const PFlashRegs *r)
{
    return r->mode < MODE_COUNT && r->setup < SETUP_STATES && r->op <= PFLASH_OP_ERASE &&
           r->setup_offset < PFLASH_SIZE && r->buf_offset < PFLASH_SIZE &&
           r->buf_len <= PFLASH_BUFFER && r->buf_len <= PFLASH_SIZE - r->buf_offset &&
           r->remaining <= PFLASH_BUFFER / WORD && (r->setup != SETUP_DATA || r->remaining) &&
           (!r->op || r->op_len) && r->op_offset < PFLASH_SIZE &&
           r->op_len <= PFLASH_SIZE - r->op_offset &&
           r->op_len <= (r->op == PFLASH_OP_ERASE ? PFLASH_BLOCK : PFLASH_BUFFER);
}

static bool pflash_post_load(void *opaque, int version, GError **errp)
{
    PFlash *s = opaque;

    if (!regs_are_sane(&s->saved)) {
        error_setg(errp, "a register holds a value that it cannot have");
        return false;
    }
    pthread_mutex_lock(&s->lock);
    s->regs = s->saved;
    set_mode(s, s->regs.mode);
    if (s->regs.op) {
        begin_op(s, s->regs.op, s->regs.op_offset, s->regs.op_len);
    }
    pthread_mutex_unlock(&s->lock);
    return true;
}

void pflash_load_ended(PFlash *s, bool loaded)
{
    pthread_mutex_lock(&s->lock);
    s->loading = false;
    if (loaded) {
        pflash_content_keep(s);
    } else {
        pflash_content_undo(s);
    }
    pthread_mutex_unlock(&s->lock);
}

static const VMStateField regs_fields[] = {
    VMSTATE_UINT8(mode, PFlashRegs),
    VMSTATE_UINT8(setup, PFlashRegs),
    VMSTATE_UINT8(status, PFlashRegs),
    VMSTATE_UINT8(op, PFlashRegs),
    VMSTATE_BOOL(bad, PFlashRegs),
    VMSTATE_UINT32(setup_offset, PFlashRegs),
    VMSTATE_UINT32(remaining, PFlashRegs),
    VMSTATE_UINT32(buf_offset, PFlashRegs),
    VMSTATE_UINT32(buf_len, PFlashRegs),
    VMSTATE_UINT32(op_offset, PFlashRegs),
    VMSTATE_UINT32(op_len, PFlashRegs),
    VMSTATE_BUFFER(buf, PFlashRegs),
    VMSTATE_END,
};

static const VMStateDescription vmstate_regs = {
    .name = "pflash_regs",
    .version = 1,
    .minimum_version = 1,
    .fields = regs_fields,
};

static const VMStateField content_fields[] = {
    VMSTATE_UINT32(blob_len, PFlash),
    VMSTATE_VBUFFER(blob, PFlash),
    VMSTATE_END,
};

static const VMStateDescription vmstate_content = {
    .name = "pflash/content",
    .version = 1,
    .minimum_version = 1,
    .needed = pflash_content_needed,
    .pre_save = pflash_content_pre_save,
    .post_load = pflash_content_post_load,
    .fields = content_fields,
};

static const VMStateField pflash_fields[] = {
    VMSTATE_STRUCT(saved, PFlash, vmstate_regs, PFlashRegs),
    VMSTATE_END,
};

static const VMStateDescription vmstate_pflash = {
    .name = "pflash",
    .version = 1,
    .minimum_version = 1,
    .pre_save = pflash_pre_save,
    .pre_load = pflash_pre_load,
    .post_load = pflash_post_load,
    .fields = pflash_fields,
    .subsections = (const VMStateDescription *const[]){&vmstate_content, NULL},
};

void pflash_register(PFlash *s, VMStateRegistry *r, int instance)
{
    vmstate_register(r, "pflash", instance, &vmstate_pflash, s);
}

/* --- Life --------------------------------------------------------------------------------- */

PFlash *pflash_new(AddressSpace *as, const PFlashConfig *config, GError **errp)
{
    PFlash *s = g_new0(PFlash, 1);

    s->name = config->name;
    s->as = as;
    s->base = config->base;
    s->blk = config->blk;
    s->read_only = s->blk && bdrv_is_read_only(blk_bs(s->blk));
    s->write_through = config->write_through;
    if (s->blk) {
        blk_set_write_through(s->blk, s->write_through);
    }
    s->keep = config->keep;
    s->direct = true;
    pthread_mutex_init(&s->lock, NULL);
    if (!pflash_store_init(s, errp)) {
        pflash_free(s);
        return NULL;
    }
    address_space_add_romd(as, s->name, s->base, PFLASH_SIZE, s->content.mem, &s->direct,
                           &pflash_ops, s);
    return s;
}

void pflash_free(PFlash *s)
{
    if (s) {
        pflash_store_free(s);
        pthread_mutex_destroy(&s->lock);
        g_free(s);
    }
}

void pflash_reset(PFlash *s)
{
    pthread_mutex_lock(&s->lock);
    s->generation++;
    pflash_op_done(s, 0);
    s->regs.setup = SETUP_NONE;
    s->regs.status = 0;
    set_mode(s, MODE_ARRAY);
    pthread_mutex_unlock(&s->lock);
}
