/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vmstate file system without FUSE: the decoder on what devices really write, on every
 * truncation, on thousands of mutations and on descriptions made to do harm; core files of
 * guests with honest and with hostile page tables; the files of a snapshot in a real image.
 */
#include <elf.h>
#include "block-test.h"
#include "migration/vmstate-fs-int.h"
#include "qapi/json.h"

/* --- Devices ------------------------------------------------------------------------------------ */

typedef struct Part {
    uint16_t n;
    bool more;
    uint32_t extra;
} Part;

typedef struct Dev {
    bool flag;
    uint8_t small[3];
    int32_t minus;
    uint64_t large;
    Part parts[2];
    uint8_t raw[5];
    uint8_t block[70000];
} Dev;

typedef struct Hart {
    uint64_t x[32], f[32], pc, satp;
    uint8_t priv, fflags, frm;
} Hart;

static bool part_has_more(void *opaque)
{
    return ((Part *)opaque)->more;
}

static const VMStateDescription vmsd_more = {
    .name = "part/more", .version = 1, .minimum_version = 1, .needed = part_has_more,
    .fields = (const VMStateField[]){VMSTATE_UINT32(extra, Part), VMSTATE_END},
};
static const VMStateDescription vmsd_part = {
    .name = "part", .version = 1, .minimum_version = 1,
    .fields = (const VMStateField[]){VMSTATE_UINT16(n, Part), VMSTATE_END},
    .subsections = (const VMStateDescription *const[]){&vmsd_more, NULL},
};
static const VMStateDescription vmsd_dev = {
    .name = "dev", .version = 2, .minimum_version = 2,
    .fields = (const VMStateField[]){
        VMSTATE_BOOL(flag, Dev), VMSTATE_UINT8_ARRAY(small, Dev, 3), VMSTATE_INT32(minus, Dev),
        VMSTATE_UINT64(large, Dev), VMSTATE_STRUCT_ARRAY(parts, Dev, 2, vmsd_part, Part),
        VMSTATE_BUFFER(raw, Dev), VMSTATE_BUFFER(block, Dev), VMSTATE_END},
};
static const VMStateDescription vmsd_hart = {
    .name = "cpu", .version = 1, .minimum_version = 1,
    .fields = (const VMStateField[]){
        VMSTATE_UINT64_ARRAY(x, Hart, 32), VMSTATE_UINT64_ARRAY(f, Hart, 32),
        VMSTATE_UINT64(pc, Hart), VMSTATE_UINT8(priv, Hart), VMSTATE_UINT8(fflags, Hart),
        VMSTATE_UINT8(frm, Hart), VMSTATE_UINT64(satp, Hart), VMSTATE_END},
};

static Dev dev = {.flag = true, .small = {1, 2, 255}, .minus = -7, .large = UINT64_MAX - 1,
                  .parts = {{.n = 3}, {.n = 4, .more = true, .extra = 99}},
                  .raw = {0xde, 0xad, 0, 0xbe, 0xef}};
static Hart hart;

static GByteArray *make_tail(const char *second)
{
    VMStateRegistry *r = vmstate_registry_new();
    GError *err = NULL;
    GByteArray *tail;

    vmstate_register(r, "dev", 0, &vmsd_dev, &dev);
    vmstate_register(r, second, 3, &vmsd_dev, &dev);
    vmstate_register(r, "cpu", 0, &vmsd_hart, &hart);
    tail = stream_save_tail("virt", r, &err);
    g_assert_no_error(err);
    vmstate_registry_free(r);
    return tail;
}

/* --- The decoder ---------------------------------------------------------------------------------- */

static json_object *member(json_object *o, const char *name)
{
    json_object *value = NULL;

    g_assert_true(json_object_object_get_ex(o, name, &value));
    return value;
}

static json_object *text_of(const VMDecodedDevice *d)
{
    gsize len;
    const char *text = g_bytes_get_data(d->text, &len);
    GError *err = NULL;
    json_object *o = json_parse_text(text, len, &err);

    g_assert_no_error(err);
    return o;
}

static void test_decode(void)
{
    g_autoptr(GByteArray) tail = make_tail("other");
    GError *err = NULL;
    g_autoptr(GPtrArray) devices = vmstate_decode(tail, 1000000, &err);
    const VMDecodedDevice *d;
    json_object *o, *v;
    uint64_t n;

    g_assert_no_error(err);
    g_assert_cmpuint(devices->len, ==, 3);
    d = g_ptr_array_index(devices, 1);
    g_assert_cmpstr(d->idstr, ==, "other");
    g_assert_cmpuint(d->instance_id, ==, 3);
    g_assert_cmpuint(d->version, ==, 2);
    o = text_of(d);
    g_assert_true(json_object_get_boolean(member(o, "flag")));
    v = member(o, "small");
    g_assert_cmpuint(json_object_array_length(v), ==, 3);
    g_assert_cmpstr(json_object_get_string(json_object_array_get_idx(v, 2)), ==, "0xff");
    g_assert_cmpint(json_object_get_int64(member(o, "minus")), ==, -7);
    g_assert_cmpstr(json_object_get_string(member(o, "large")), ==, "0xfffffffffffffffe");
    v = member(o, "parts");
    g_assert_cmpuint(json_object_array_length(v), ==, 2);
    v = json_object_array_get_idx(v, 1);
    g_assert_cmpstr(json_object_get_string(member(v, "n")), ==, "0x0004");
    g_assert_cmpstr(json_object_get_string(member(member(v, "part/more"), "extra")), ==,
                    "0x00000063");
    g_assert_cmpstr(json_object_get_string(member(o, "raw")), ==, "dead00beef");
    /* Too long to show: where it is. */
    v = member(o, "block");
    g_assert_cmpint(json_object_get_int64(member(v, "bytes")), ==, sizeof(dev.block));
    g_assert_cmpint(json_object_get_int64(member(v, "offset-in-stream")), ==,
                    1000000 + d->offset + d->size - sizeof(dev.block));
    json_object_put(o);

    g_assert_true(vmstate_decoded_number(d, tail, "small", 2, &n));
    g_assert_cmpuint(n, ==, 255);
    g_assert_false(vmstate_decoded_number(d, tail, "small", 3, &n));
    g_assert_false(vmstate_decoded_number(d, tail, "raw", 0, &n));
    g_assert_false(vmstate_decoded_number(d, tail, "parts", 0, &n));
    g_assert_false(vmstate_decoded_number(d, tail, "none", 0, &n));
}

/* One error with a text, or a result. */
static bool try_decode(const GByteArray *tail)
{
    GError *err = NULL;
    g_autoptr(GPtrArray) devices = vmstate_decode(tail, 0, &err);

    g_assert_true(!devices == !!err);
    if (err) {
        g_assert_true(err->message[0] && !strchr(err->message, '\n'));
    }
    g_clear_error(&err);
    return devices != NULL;
}

static void test_truncated(void)
{
    g_autoptr(GByteArray) tail = make_tail("other");

    for (guint len = 0, step; len < tail->len; len += step) {
        GByteArray part = {.data = tail->data, .len = len};

        g_assert_false(try_decode(&part));
        step = len > 400 && len + 4000 < tail->len ? 997 : 1; /* the long buffers */
    }
    g_assert_true(try_decode(tail));
}

static void test_mutated(void)
{
    g_autoptr(GByteArray) tail = make_tail("other");
    g_autofree uint8_t *clean = NULL;
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    const char *rounds = g_getenv("KEYFRAME_TEST_ROUNDS");
    int n = 3000 * (rounds ? MAX(atoi(rounds), 1) : 1), good = 0;

    clean = g_memdup2(tail->data, tail->len);
    for (int i = 0; i < n; i++) {
        guint changes = g_rand_int_range(rand, 1, 6);
        guint text = tail->len - 4500; /* mutations shall hit what is looked at */

        memcpy(tail->data, clean, tail->len);
        while (changes--) {
            guint at = g_rand_int_range(rand, 0, 3) ? g_rand_int_range(rand, text, tail->len)
                                                    : g_rand_int_range(rand, 0, 200);
            static const uint8_t likely[] = {0, 1, 5, 6, 7, 0x7e, 0xff, '{', '}', '[', '9', '"'};

            tail->data[at] = g_rand_int_range(rand, 0, 2)
                                 ? likely[g_rand_int_range(rand, 0, G_N_ELEMENTS(likely))]
                                 : g_rand_int_range(rand, 0, 256);
        }
        good += try_decode(tail);
    }
    g_assert_cmpint(good, <, n / 2);
    g_assert_cmpint(good, >, 0);
}

/* A tail with one section "x" of the given bytes and a description of its fields. */
static GByteArray *crafted(const char *fields, const char *bytes, size_t len)
{
    static const uint8_t ram_end[] = {0, 0, 0, 0, 0, 0, 0, 16, 0x7e, 0, 0, 0, 1, 3, 0, 0, 0, 1,
                                      0, 0, 0, 0, 0, 0, 0, 16, 0x7e, 0, 0, 0, 1};
    g_autofree char *text =
        g_strdup_printf("{\"devices\": [{\"name\": \"x\", \"instance_id\": 0, %s}]}", fields);
    GByteArray *out = g_byte_array_new();

    g_byte_array_append(out, ram_end, sizeof(ram_end));
    vm_put_u8(out, STREAM_SECTION_FULL);
    vm_put_be32(out, 7);
    vm_put_counted_string(out, "x");
    vm_put_be32(out, 0);
    vm_put_be32(out, 1);
    g_byte_array_append(out, (const uint8_t *)bytes, len);
    vm_put_u8(out, STREAM_FOOTER);
    vm_put_be32(out, 7);
    vm_put_u8(out, STREAM_EOF);
    vm_put_u8(out, STREAM_DESCRIPTION);
    vm_put_be32(out, strlen(text));
    g_byte_array_append(out, (const uint8_t *)text, strlen(text));
    return out;
}

#define F(members) "\"fields\": [{\"name\": \"a\", " members "}]"

static void test_descriptions(void)
{
    static const struct {
        const char *fields, *error; /* error NULL: it is decoded */
    } cases[] = {
        {F("\"type\": \"uint32\", \"size\": 4"), NULL},
        {F("\"type\": \"strange thing\", \"size\": 4"), NULL},
        {F("\"type\": \"uint16\", \"size\": 2, \"array_len\": 2"), NULL},
        {F("\"type\": \"uint16\", \"size\": 2, \"array_len\": 2, \"index\": 0"), "does not end"},
        {F("\"type\": \"uint32\", \"size\": 8"), "type 'uint32' of 8 bytes"},
        {F("\"type\": \"uint32\", \"size\": -4"), "numbers are not valid"},
        {F("\"type\": \"uint32\", \"size\": 4.5"), "numbers are not valid"},
        {F("\"type\": \"uint32\""), "numbers are not valid"},
        {F("\"type\": \"buffer\", \"size\": 4294967296"), "numbers are not valid"},
        {F("\"type\": \"buffer\", \"size\": 4294967295"), "ends in the middle of field 'a'"},
        {F("\"type\": \"buffer\", \"size\": 3"), "does not end where its description says"},
        {F("\"type\": \"buffer\", \"size\": 5"), "does not end where its description says"},
        {F("\"type\": \"buffer\", \"size\": 0, \"array_len\": 4294967295"), "too much to show"},
        {F("\"type\": \"uint32\", \"size\": 4, \"index\": 1"), "element 0 of the description"},
        {F("\"type\": \"uint32\", \"size\": 4, \"index\": \"0\""), "numbers are not valid"},
        {F("\"size\": 4"), "without name and type"},
        {F("\"type\": \"struct\", \"size\": 4, \"struct\": []"), "has no struct"},
        {F("\"type\": \"struct\", \"size\": 4, \"struct\": {}"), "no list of fields"},
        {F("\"type\": \"struct\", \"size\": 4, \"struct\": {\"fields\": []}"),
         "says 4 bytes, its fields take 0"},
        {F("\"type\": \"struct\", \"size\": 0, \"array_len\": 4294967295, \"struct\": "
           "{\"fields\": []}"), "too much to show"},
        {"\"fields\": {}", "no list of fields"},
        {"\"fields\": [7]", "without name and type"},
        {"\"fields\": [null]", "without name and type"},
        {"\"fields\": [], \"subsections\": 1", "no list of subsections"},
        {"\"fields\": [], \"subsections\": [{}]", "subsection without a name"},
        {"\"fields\": [], \"subsections\": [{\"vmsd_name\": \"s\"}]", "not where"},
        {"\"fields\": 1, \"fields\": []", "duplicate key"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) tail = crafted(cases[i].fields, "\1\2\3\4", 4);
        GError *err = NULL;
        g_autoptr(GPtrArray) devices = vmstate_decode(tail, 0, &err);

        if (!cases[i].error) {
            g_assert_no_error(err);
            continue;
        }
        g_assert_null(devices);
        g_test_message("%s: %s", cases[i].fields, err->message);
        g_assert_nonnull(strstr(err->message, cases[i].error));
        g_error_free(err);
    }
}

/* --- Core files ------------------------------------------------------------------------------------- */

#define RAM_BASE UINT64_C(0x80000000)
#define RAM_SIZE (8u << 20)
#define ROOT 0x4000u /* offset of the root table in RAM */
#define MODE(n) ((uint64_t)(n) << 60)
#define PTE(pa, flags) ((uint64_t)(pa) >> 12 << 10 | (flags))

static uint8_t guest_ram[RAM_SIZE];
static int reads;

static int coroutine_fn ram_read(void *opaque, int block, uint64_t offset, void *buf, size_t len)
{
    g_assert_cmpint(block, ==, 0);
    g_assert_true(offset + len <= RAM_SIZE);
    memcpy(buf, guest_ram + offset, len);
    reads++;
    return opaque && reads == *(int *)opaque ? -EIO : 0;
}

static void set_pte(uint32_t table, int i, uint64_t value)
{
    for (int b = 0; b < 8; b++) {
        guest_ram[table + i * 8 + b] = value >> (8 * b);
    }
}

static VMCore *coroutine_fn make_core(const char **reason, int *fail_at, int *ret)
{
    StreamBlock block = {.idstr = "riscv_virt_board.ram", .length = RAM_SIZE};
    StreamLayout layout = {.machine_type = "virt", .nr_blocks = 1, .blocks = &block};
    g_autoptr(GByteArray) tail = make_tail("other");
    g_autoptr(GPtrArray) devices = vmstate_decode(tail, 0, NULL);

    reads = 0;
    return vmstate_core_new(&layout, tail, devices, ram_read, fail_at, reason, ret);
}

static const Elf64_Phdr *segments(const VMCore *c, int *n)
{
    const Elf64_Ehdr *e = (const Elf64_Ehdr *)c->head->data;

    g_assert_cmpmem(e->e_ident, 4, ELFMAG, 4);
    g_assert_cmpint(e->e_machine, ==, EM_RISCV);
    g_assert_cmpint(e->e_phnum, ==, c->nr_segments + 1);
    *n = c->nr_segments;
    return (const Elf64_Phdr *)(c->head->data + e->e_phoff) + 1;
}

/* The physical address that the core file has at va; 0 if none. */
static uint64_t at_va(const VMCore *c, uint64_t va)
{
    uint64_t found = 0;
    int n;
    const Elf64_Phdr *p = segments(c, &n);

    for (int i = 0; i < n; i++) {
        g_assert_cmpuint(p[i].p_filesz, ==, p[i].p_memsz);
        g_assert_cmpuint(p[i].p_offset + p[i].p_filesz, <=, c->size);
        g_assert_cmpuint(p[i].p_offset - c->block_offset[0], ==, p[i].p_paddr - RAM_BASE);
        if (i) {
            g_assert_cmpuint(p[i - 1].p_vaddr + (p[i - 1].p_memsz - 1), <, p[i].p_vaddr);
        }
        if (va >= p[i].p_vaddr && va - p[i].p_vaddr < p[i].p_memsz) {
            g_assert_cmpuint(found, ==, 0);
            found = p[i].p_paddr + (va - p[i].p_vaddr);
        }
    }
    return found;
}

static void reset_guest(uint64_t satp_mode, int priv)
{
    memset(guest_ram, 0, sizeof(guest_ram));
    memset(&hart, 0, sizeof(hart));
    hart.satp = MODE(satp_mode) | (RAM_BASE + ROOT) >> 12;
    hart.priv = priv;
    hart.pc = 0x123456789abcdef0;
    hart.x[2] = 0xfedcba9876543210;
    hart.f[31] = 77;
}

TEST_CO(test_core_sv39)
{
    const char *reason;
    VMCore *c;
    int ret;

    reset_guest(8, 1);
    set_pte(ROOT, 256, PTE(RAM_BASE + 0x5000, 1));           /* a table */
    set_pte(ROOT, 510, PTE(0x80000000, 0xf));                /* 1 GiB: more than there is */
    set_pte(ROOT, 511, PTE(0x80001000, 0xf));                /* misaligned */
    set_pte(ROOT, 2, PTE(RAM_BASE + 0x6000, 1));
    set_pte(0x5000, 0, PTE(RAM_BASE + 0x200000, 0xf));       /* 2 MiB */
    set_pte(0x5000, 1, PTE(RAM_BASE + 0x7000, 1));
    set_pte(0x5000, 2, PTE(0x10000000, 0xf));                /* a device */
    set_pte(0x7000, 0, PTE(RAM_BASE + 0x400000, 0xf));       /* goes on where 2 MiB end */
    set_pte(0x7000, 3, PTE(RAM_BASE + 0x3000, 0x3));
    set_pte(0x7000, 4, PTE(RAM_BASE + 0x3000, 0xe));         /* not valid */
    for (int i = 16; i < 32; i++) {
        set_pte(0x7000, i, PTE(RAM_BASE + 0x108000, 0xf) | UINT64_C(1) << 63); /* 64 KiB */
    }
    set_pte(0x6000, 0, PTE(RAM_BASE + 0x600000, 0xf)); /* over the physical addresses */
    c = make_core(&reason, NULL, &ret);
    g_assert_nonnull(c);
    g_assert_cmpint(c->nr_cpus, ==, 1);
    g_assert_false(c->truncated);
    g_assert_cmpuint(at_va(c, 0xffffffc000000000), ==, RAM_BASE + 0x200000);
    g_assert_cmpuint(at_va(c, 0xffffffc000200fff), ==, RAM_BASE + 0x400fff);
    g_assert_cmpuint(at_va(c, 0xffffffc000203010), ==, RAM_BASE + 0x3010);
    g_assert_cmpuint(at_va(c, 0xffffffc000204000), ==, 0);
    g_assert_cmpuint(at_va(c, 0xffffffc000214123), ==, RAM_BASE + 0x104123);
    g_assert_cmpuint(at_va(c, 0xffffffc000400000), ==, 0);
    g_assert_cmpuint(at_va(c, 0xffffffff80000000), ==, RAM_BASE);
    g_assert_cmpuint(at_va(c, 0xffffffff80000000 + RAM_SIZE), ==, 0);
    g_assert_cmpuint(at_va(c, 0xffffffffc0001000), ==, 0);
    g_assert_cmpuint(at_va(c, RAM_BASE + 8), ==, RAM_BASE + 0x600008); /* the mapping counts */
    g_assert_cmpuint(at_va(c, RAM_BASE + 0x200000), ==, RAM_BASE + 0x200000); /* else itself */
    vmstate_core_free(c);

    hart.priv = 3; /* machine mode sees physical addresses */
    c = make_core(&reason, NULL, &ret);
    g_assert_cmpuint(at_va(c, RAM_BASE + 8), ==, RAM_BASE + 8);
    g_assert_cmpuint(at_va(c, 0xffffffc000203010), ==, RAM_BASE + 0x3010);
    vmstate_core_free(c);
}

TEST_CO(test_core_sv48_and_registers)
{
    const uint64_t va = 0xffff800000000000;
    const char *reason;
    const uint8_t *p;
    VMCore *c;
    int ret;

    reset_guest(9, 1);
    set_pte(ROOT, 256, PTE(RAM_BASE + 0x5000, 1));
    set_pte(0x5000, 0, PTE(RAM_BASE + 0x6000, 1));
    set_pte(0x6000, 5, PTE(RAM_BASE + 0x600000, 0xb));
    c = make_core(&reason, NULL, &ret);
    g_assert_cmpuint(at_va(c, va + 5 * (2 << 20) + 9), ==, RAM_BASE + 0x600009);
    /* Behind the segments: NT_PRSTATUS, its registers at 112. */
    p = c->head->data + sizeof(Elf64_Ehdr) + (c->nr_segments + 1) * sizeof(Elf64_Phdr);
    g_assert_cmpuint(((const Elf64_Nhdr *)p)->n_type, ==, NT_PRSTATUS);
    g_assert_cmpuint(((const Elf64_Nhdr *)p)->n_descsz, ==, 376);
    g_assert_cmpmem(p + 20 + 112, 8, &hart.pc, 8);
    g_assert_cmpmem(p + 20 + 112 + 16, 8, &hart.x[2], 8);
    p += 20 + 376;
    g_assert_cmpuint(((const Elf64_Nhdr *)p)->n_type, ==, NT_FPREGSET);
    g_assert_cmpmem(p + 20 + 31 * 8, 8, &hart.f[31], 8);
    vmstate_core_free(c);

    reset_guest(0, 1); /* no translation */
    c = make_core(&reason, NULL, &ret);
    g_assert_cmpuint(c->nr_segments, ==, 1);
    g_assert_cmpuint(at_va(c, RAM_BASE), ==, RAM_BASE);
    g_assert_cmpint(reads, ==, 0);
    vmstate_core_free(c);

    reset_guest(15, 1); /* a mode that is none */
    c = make_core(&reason, NULL, &ret);
    g_assert_cmpuint(c->nr_segments, ==, 1);
    vmstate_core_free(c);
}

TEST_CO(test_core_hostile)
{
    const char *reason = NULL;
    int ret, fail_at = 1;
    VMCore *c;

    /* Every entry of the root is the root: five levels of 512. */
    reset_guest(10, 1);
    for (int i = 0; i < 512; i++) {
        set_pte(ROOT, i, PTE(RAM_BASE + ROOT, 1));
    }
    c = make_core(&reason, NULL, &ret);
    g_assert_true(c->truncated);
    g_assert_cmpint(reads, <=, 65536);
    vmstate_core_free(c);

    /* A leaf in each place, none beside its neighbour. */
    for (int i = 0; i < 512; i++) {
        set_pte(ROOT, i, PTE(RAM_BASE + (i & 1 ? 0x5000 : ROOT), 1));
        set_pte(0x5000, i, PTE(RAM_BASE + (i & 3) * 0x1000, 0xf));
    }
    c = make_core(&reason, NULL, &ret);
    g_assert_cmpuint(c->nr_segments, <=, 60000);
    at_va(c, 0);
    vmstate_core_free(c);

    /* Tables outside of RAM, at its very end and beyond 56 bits. */
    reset_guest(8, 1);
    set_pte(ROOT, 0, PTE(0x1000, 1));
    set_pte(ROOT, 1, PTE(RAM_BASE + RAM_SIZE, 1));
    set_pte(ROOT, 3, ~UINT64_C(0) & ~UINT64_C(0xe));
    set_pte(ROOT, 4, ~UINT64_C(0));
    c = make_core(&reason, NULL, &ret);
    g_assert_cmpuint(c->nr_segments, ==, 1);
    vmstate_core_free(c);

    g_assert_null(make_core(&reason, &fail_at, &ret));
    g_assert_cmpint(ret, ==, -EIO);
}

/* --- Files of a snapshot ------------------------------------------------------------------------------ */

static RAMBlock blocks[] = {
    {.idstr = "board/../ram", .size = 3 << 20},
    {.idstr = "board_.._ram", .size = 1 << 20},
};

/* The page has data in about half of the cases, runs of several. */
static bool page_is_there(uint64_t n)
{
    return n % 7 < 3 || (n >= 100 && n < 140);
}

/* The whole stream in memory. */
static GByteArray *make_stream(StreamLayout *l)
{
    g_autoptr(GByteArray) tail = make_tail("../x\n");
    GByteArray *out = g_byte_array_new();

    g_byte_array_set_size(out, l->tail_offset);
    memset(out->data, 0, out->len);
    g_byte_array_append(out, tail->data, tail->len);
    for (guint i = 0; i < l->pieces->len; i++) {
        StreamPiece *p = g_ptr_array_index(l->pieces, i);

        memcpy(out->data + p->offset, p->data->data, p->data->len);
    }
    for (int i = 0; i < l->nr_blocks; i++) {
        for (uint64_t n = 0; n < l->blocks[i].length / 4096; n++) {
            uint8_t *page = out->data + l->blocks[i].pages_offset + n * 4096;

            /* What lies at the place of a page that is not there does not matter. */
            memset(page, page_is_there(n) ? (int)(n % 255) + 1 : 0xee, 4096);
            if (page_is_there(n)) {
                out->data[l->blocks[i].bitmap_offset + n / 8] |= 1 << (n % 8);
            }
        }
    }
    return out;
}

static BlockDriverState *coroutine_fn make_snapshot(const char *name, GByteArray *state)
{
    g_autofree char *path = test_path("image.qcow2");
    BdrvCreateParams params = {.filename = path, .size = 4 << 20};
    BdrvSnapshotInfo info = {.disk_size = 4 << 20, .icount = UINT64_MAX};
    BdrvSnapshotSave *save;
    BlockDriverState *bs;
    GError *err = NULL;
    IOVector iov;

    params.options = g_hash_table_new(g_str_hash, g_str_equal);
    bdrv_driver_by_name("qcow2")->co_create(&params, test_ctx, &err);
    g_assert_no_error(err);
    g_hash_table_unref(params.options);
    bs = test_open("{'driver': 'qcow2', 'node-name': 'd',"
                   " 'file': {'driver': 'file', 'filename': '%s'}}", path);
    g_strlcpy(info.name, name, sizeof(info.name));
    to_io();
    save = bdrv_co_snapshot_prepare(bs, &info, state->len, &err);
    g_assert_no_error(err);
    bdrv_co_drained_begin(bs);
    g_assert_true(bdrv_co_snapshot_freeze(save, &err));
    bdrv_drained_end(bs);
    io_vector_init_buf(&iov, state->data, state->len);
    g_assert_cmpint(bdrv_co_snapshot_write(save, 0, &iov), ==, 0);
    info.vm_state_size = state->len;
    g_assert_true(bdrv_co_snapshot_publish(save, &info, &err));
    bdrv_co_snapshot_done(save);
    to_main();
    return bs;
}

static void coroutine_fn close_image(BlockDriverState *bs)
{
    g_autofree char *path = test_path("image.qcow2");

    to_main();
    bdrv_co_unref(bs);
    g_unlink(path);
}

/* All of a file, in pieces of odd sizes. */
static uint8_t *coroutine_fn read_file(VmstateFs *fs, int file)
{
    uint64_t size = vmstate_fs_file(fs, file)->size;
    uint8_t *buf = g_malloc(size + 1);

    for (uint64_t at = 0; at < size;) {
        int64_t n = vmstate_fs_read(fs, file, at, buf + at, 1 + at % 100003);

        g_assert_cmpint(n, >, 0);
        at += n;
    }
    g_assert_cmpint(vmstate_fs_read(fs, file, size, buf, 1), ==, 0);
    g_assert_cmpint(vmstate_fs_read(fs, file, UINT64_MAX, buf, 1), ==, 0);
    return buf;
}

static uint64_t big_endian_64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return GUINT64_FROM_BE(v);
}

/* Data and holes take turns up to the end; what is in a hole is zero. */
static void coroutine_fn check_holes(VmstateFs *fs, int file, const uint8_t *content)
{
    uint64_t size = vmstate_fs_file(fs, file)->size, at = 0;
    int holes = 0;

    while (at < size) {
        int64_t hole = vmstate_fs_seek(fs, file, at, true), data;

        g_assert_cmpint(hole, >=, at);
        if ((uint64_t)hole == size) {
            break;
        }
        data = vmstate_fs_seek(fs, file, hole, false);
        data = data == -ENXIO ? (int64_t)size : data;
        g_assert_cmpint(data, >, hole);
        g_assert_true(all_bytes(content + hole, 0, data - hole));
        at = data;
        holes++;
    }
    g_assert_cmpint(holes, >, 0);
    g_assert_cmpint(vmstate_fs_seek(fs, file, size, true), ==, -ENXIO);
}

TEST_CO(test_files)
{
    g_autoptr(StreamLayout) l = stream_layout_new("virt", blocks, G_N_ELEMENTS(blocks));
    g_autoptr(GByteArray) stream = make_stream(l);
    BlockDriverState *bs = make_snapshot("tag", stream);
    static const char *const names[] = {"devices/dev.json", "devices/_._x_-3.json",
                                        "devices/cpu.json", "ram/board_.._ram",
                                        "ram/board_.._ram~2", "info.json", "stream", "core.elf"};
    GError *err = NULL;
    VmstateFs *fs;
    uint8_t *content;

    reset_guest(0, 1);
    to_io();
    fs = vmstate_fs_open(bs, "tag", "the test", &err);
    g_assert_no_error(err);
    for (int i = 0; vmstate_fs_file(fs, i); i++) {
        g_assert_null(strchr(vmstate_fs_file(fs, i)->name, '/'));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_cmpint(vmstate_fs_find(fs, names[i]), >, 0);
    }
    g_assert_cmpint(vmstate_fs_find(fs, "/devices//./dev.json"), >, 0);
    g_assert_cmpint(vmstate_fs_find(fs, ""), ==, VMSTATE_FS_ROOT);
    g_assert_cmpint(vmstate_fs_find(fs, "stream/x"), <, 0);
    g_assert_cmpint(vmstate_fs_read(fs, VMSTATE_FS_ROOT, 0, NULL, 1), ==, -EISDIR);
    g_assert_cmpint(vmstate_fs_read(fs, 1000, 0, NULL, 1), ==, -ENOENT);

    content = read_file(fs, vmstate_fs_find(fs, "stream"));
    g_assert_cmpmem(content, stream->len, stream->data, stream->len);
    g_free(content);
    for (int i = 0; i < 2; i++) {
        int file = vmstate_fs_find(fs, i ? "ram/board_.._ram~2" : "ram/board_.._ram");

        content = read_file(fs, file);
        for (uint64_t n = 0; n < blocks[i].size / 4096; n++) {
            g_assert_true(all_bytes(content + n * 4096,
                                    page_is_there(n) ? (int)(n % 255) + 1 : 0, 4096));
        }
        check_holes(fs, file, content);
        g_free(content);
    }
    content = read_file(fs, vmstate_fs_find(fs, "core.elf"));
    check_holes(fs, vmstate_fs_find(fs, "core.elf"), content);
    g_assert_cmpmem(content, 4, ELFMAG, 4);
    g_free(content);

    /* It stays while it is looked at; the other way to read it waits in vain for nothing. */
    g_assert_false(bdrv_co_snapshot_delete(bs, "tag", &err));
    g_assert_cmpstr(err->message, ==,
                    "Node 'd': deleting a snapshot: Snapshot 'tag' is in use by the test");
    g_clear_error(&err);
    vmstate_fs_close(fs);
    g_assert_true(bdrv_co_snapshot_delete(bs, "tag", &err));
    g_assert_null(vmstate_fs_open(bs, "tag", "the test", &err));
    g_assert_nonnull(strstr(err->message, "Snapshot 'tag' does not exist"));
    g_clear_error(&err);
    close_image(bs);
}

/* The state as it is sent: the same bytes wherever reading begins, a record for each page. */
TEST_CO(test_migration)
{
    g_autoptr(StreamLayout) l = stream_layout_new("virt", blocks, G_N_ELEMENTS(blocks));
    g_autoptr(GByteArray) stream = make_stream(l);
    BlockDriverState *bs = make_snapshot("tag", stream);
    g_autoptr(GByteArray) head = stream_sequential_header("virt");
    g_autoptr(GByteArray) start = stream_sequential_ram(blocks, G_N_ELEMENTS(blocks));
    GError *err = NULL;
    VmstateFs *fs;
    uint8_t *content, *p, part[65536];
    uint64_t size;
    int file;

    reset_guest(0, 1);
    to_io();
    fs = vmstate_fs_open(bs, "tag", "the test", &err);
    g_assert_no_error(err);
    file = vmstate_fs_find(fs, "migration");
    size = vmstate_fs_file(fs, file)->size;
    content = read_file(fs, file);
    for (int i = 0; i < 500; i++) {
        uint64_t at = g_random_int_range(0, size);
        uint64_t len = g_random_int_range(1, i % 2 ? 20 : sizeof(part));
        int64_t want = MIN(len, size - at);

        g_assert_cmpint(vmstate_fs_read(fs, file, at, part, want), ==, want);
        g_assert_cmpmem(part, want, content + at, want);
    }
    g_assert_cmpint(vmstate_fs_seek(fs, file, 1, true), ==, size);

    p = content;
    g_assert_cmpmem(p, head->len, head->data, head->len);
    p += head->len;
    g_assert_cmpmem(p, start->len, start->data, start->len);
    p += start->len;
    g_assert_cmpmem(p, 5, "\2\0\0\0\1", 5);
    p += 5;
    for (int i = 0; i < 2; i++) {
        bool first = true;

        for (uint64_t n = 0; n < blocks[i].size / 4096; n++) {
            if (!page_is_there(n)) {
                continue;
            }
            g_assert_cmphex(big_endian_64(p), ==, n * 4096 | 0x08 | (first ? 0 : 0x20));
            p += 8;
            if (first) {
                g_assert_cmpuint(*p, ==, strlen(blocks[i].idstr));
                g_assert_cmpmem(p + 1, *p, blocks[i].idstr, *p);
                p += 1 + *p;
            }
            g_assert_true(all_bytes(p, (int)(n % 255) + 1, 4096));
            p += 4096;
            first = false;
        }
    }
    g_assert_cmphex(big_endian_64(p), ==, 0x10);
    g_assert_null(memmem(p, size - (p - content), "mapped-ram", 10));
    g_free(content);
    vmstate_fs_close(fs);
    close_image(bs);
}

TEST_CO(test_bad_states)
{
    g_autoptr(StreamLayout) l = stream_layout_new("virt", blocks, G_N_ELEMENTS(blocks));
    g_autoptr(GByteArray) stream = make_stream(l);
    guint lengths[] = {1, 20, 100, 2 << 20, l->tail_offset, l->tail_offset + 100,
                       stream->len - 1};

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        GByteArray part = {.data = stream->data, .len = lengths[i]};
        BlockDriverState *bs = make_snapshot("tag", &part);
        GError *err = NULL;

        to_io();
        g_assert_null(vmstate_fs_open(bs, "tag", "the test", &err));
        g_assert_true(g_str_has_prefix(
            err->message, "Could not look into snapshot 'tag' of node 'd': "));
        g_clear_error(&err);
        g_assert_true(bdrv_co_snapshot_delete(bs, "tag", &err)); /* nobody holds it */
        close_image(bs);
    }
}

static void add_tests(void)
{
    g_test_add_func("/vmstate-fs/decode", test_decode);
    g_test_add_func("/vmstate-fs/decode/truncated", test_truncated);
    g_test_add_func("/vmstate-fs/decode/mutated", test_mutated);
    g_test_add_func("/vmstate-fs/decode/descriptions", test_descriptions);
    g_test_add_func("/vmstate-fs/core/sv39", test_core_sv39);
    g_test_add_func("/vmstate-fs/core/sv48", test_core_sv48_and_registers);
    g_test_add_func("/vmstate-fs/core/hostile", test_core_hostile);
    g_test_add_func("/vmstate-fs/files", test_files);
    g_test_add_func("/vmstate-fs/migration", test_migration);
    g_test_add_func("/vmstate-fs/bad-states", test_bad_states);
}

int main(int argc, char **argv)
{
    return test_run(argc, argv, add_tests);
}
