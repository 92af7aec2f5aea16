/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The migration stream in memory: what is built is read back, what belongs to another
 * machine is refused, and no truncation or flipped bit does worse than an error.
 */
#include <errno.h>
#include <string.h>
#include "migration/stream-int.h"

typedef struct Dev {
    uint32_t a;
    uint64_t b[4];
    int fail_loads; /* post_load fails this many times */
} Dev;

static bool dev_post_load(void *opaque, int version, GError **errp)
{
    Dev *d = opaque;

    if (d->fail_loads) {
        d->fail_loads--;
        g_set_error(errp, g_quark_from_static_string("test"), 0, "cannot be");
        return false;
    }
    return true;
}

static const VMStateDescription vmsd_dev = {
    .name = "dev",
    .version = 3,
    .minimum_version = 3,
    .post_load = dev_post_load,
    .fields = (const VMStateField[]){VMSTATE_UINT32(a, Dev), VMSTATE_UINT64_ARRAY(b, Dev, 4),
                                     VMSTATE_END},
};

static RAMBlock ram[] = {
    {.idstr = "board.ram", .size = 3 << 20},
    {.idstr = "board.flash", .size = 64 << 10},
};

typedef struct Image {
    uint8_t *data;
    size_t size;
    int fail_at; /* fails the n-th read */
} Image;

static int coroutine_fn image_read(void *opaque, uint64_t offset, void *buf, size_t len)
{
    Image *im = opaque;

    if (im->fail_at && --im->fail_at == 0) {
        return -EIO;
    }
    g_assert(offset <= im->size && len <= im->size - offset);
    memcpy(buf, im->data + offset, len);
    return 0;
}

static VMStateRegistry *new_registry(Dev *d0, Dev *d1)
{
    VMStateRegistry *r = vmstate_registry_new();

    vmstate_register(r, "dev", 0, &vmsd_dev, d0);
    vmstate_register(r, "other", 5, &vmsd_dev, d1);
    return r;
}

static Image build(VMStateRegistry *r, StreamLayout **layout)
{
    GError *err = NULL;
    StreamLayout *l = stream_layout_new("virt", ram, G_N_ELEMENTS(ram));
    g_autoptr(GByteArray) tail = stream_save_tail("virt", r, &err);
    Image im = {0};

    g_assert_no_error(err);
    im.size = l->tail_offset + tail->len;
    im.data = g_malloc0(im.size);
    for (guint i = 0; i < l->pieces->len; i++) {
        StreamPiece *p = g_ptr_array_index(l->pieces, i);

        memcpy(im.data + p->offset, p->data->data, p->data->len);
    }
    for (int i = 0; i < l->nr_blocks; i++) {
        stream_sum_bitmap(&l->blocks[i], im.data + l->blocks[i].bitmap_offset);
    }
    stream_sum_put(l, tail);
    memcpy(im.data + l->tail_offset, tail->data, tail->len);
    *layout = l;
    return im;
}

/* The whole of a load, up to the devices. */
static bool try_load(Image *im, VMStateRegistry *r, bool load, GError **errp)
{
    StreamSource src = {.read = image_read, .opaque = im, .size = im->size};
    g_autoptr(StreamLayout) l = stream_read_layout(&src, errp);
    g_autoptr(GByteArray) tail = NULL;

    if (!l || !stream_check_machine(l, "virt", ram, G_N_ELEMENTS(ram), errp)) {
        return false;
    }
    tail = stream_read_tail(&src, l, errp);
    if (!tail || !stream_check_tail(tail, r, errp)) {
        return false;
    }
    for (int i = 0; i < l->nr_blocks; i++) {
        stream_sum_bitmap(&l->blocks[i], im->data + l->blocks[i].bitmap_offset);
    }
    return stream_sum_check(l, tail, errp) && (!load || stream_load_tail(tail, r, errp));
}

static void test_roundtrip(void)
{
    Dev d0 = {.a = 1, .b = {1, 2, 3, 4}}, d1 = {.a = 7}, was = d0;
    VMStateRegistry *r = new_registry(&d0, &d1);
    g_autoptr(StreamLayout) l = NULL;
    g_autoptr(StreamLayout) again = NULL;
    Image im = build(r, &l);
    StreamSource src = {.read = image_read, .opaque = &im, .size = im.size};
    GError *err = NULL;

    g_assert_cmpmem(im.data, 9, "QEVM\0\0\0\3\7", 9);
    again = stream_read_layout(&src, &err);
    g_assert_no_error(err);
    g_assert_cmpint(again->nr_blocks, ==, 2);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpstr(again->blocks[i].idstr, ==, ram[i].idstr);
        g_assert_cmpuint(again->blocks[i].length, ==, ram[i].size);
        g_assert_cmpuint(again->blocks[i].bitmap_offset, ==, l->blocks[i].bitmap_offset);
        g_assert_cmpuint(again->blocks[i].pages_offset, ==, l->blocks[i].pages_offset);
        g_assert_cmpuint(again->blocks[i].pages_offset % (1 << 20), ==, 0);
    }
    g_assert_cmpuint(again->tail_offset, ==, l->tail_offset);
    memset(&d0, 0xee, sizeof(d0));
    d0.fail_loads = 0;
    g_assert_true(try_load(&im, r, true, &err));
    g_assert_no_error(err);
    g_assert_cmpuint(d0.a, ==, was.a);
    g_assert_cmpmem(d0.b, sizeof(d0.b), was.b, sizeof(was.b));
    vmstate_registry_free(r);
    g_free(im.data);
}

static void test_description_is_json(void)
{
    Dev d0 = {0}, d1 = {0};
    VMStateRegistry *r = new_registry(&d0, &d1);
    g_autoptr(GByteArray) tail = stream_save_tail("virt", r, NULL);
    const char *text = memmem(tail->data, tail->len, "{\"checksum\"", 11);
    json_object *o, *devices;

    g_assert_nonnull(text);
    g_byte_array_append(tail, (const uint8_t *)"", 1);
    o = json_tokener_parse(memmem(tail->data, tail->len, "{\"checksum\"", 11));
    g_assert_nonnull(o);
    devices = json_object_object_get(o, "devices");
    g_assert_cmpuint(json_object_array_length(devices), ==, 2);
    g_assert_cmpstr(json_object_get_string(json_object_object_get(
                        json_object_array_get_idx(devices, 1), "name")), ==, "other");
    json_object_put(o);
    vmstate_registry_free(r);
}

static void expect(Image *im, VMStateRegistry *r, const char *message)
{
    g_autoptr(GError) err = NULL;

    g_assert_false(try_load(im, r, false, &err));
    g_assert_cmpstr(err->message, ==, message);
}

static void test_other_machine(void)
{
    Dev d0 = {0}, d1 = {0};
    VMStateRegistry *r = new_registry(&d0, &d1), *r2;
    g_autoptr(StreamLayout) l = NULL;
    Image im = build(r, &l);
    StreamSource src = {.read = image_read, .opaque = &im, .size = im.size};
    g_autoptr(StreamLayout) again = stream_read_layout(&src, NULL);
    g_autoptr(GError) e1 = NULL, e2 = NULL, e3 = NULL;
    RAMBlock bigger[2] = {ram[0], ram[1]};

    g_assert_false(stream_check_machine(again, "none", ram, 2, &e1));
    g_assert_cmpstr(e1->message, ==, "Machine type received is 'virt' and local is 'none'");
    bigger[1].size *= 2;
    g_assert_false(stream_check_machine(again, "virt", bigger, 2, &e2));
    g_assert_cmpstr(e2->message, ==,
                    "Size mismatch: board.flash: 0x10000 != 0x20000: Invalid argument");
    g_assert_false(stream_check_machine(again, "virt", ram, 1, &e3));
    g_assert_cmpstr(e3->message, ==,
                    "Machine state has RAM block 'board.flash', which this machine has not");

    r2 = vmstate_registry_new();
    vmstate_register(r2, "dev", 0, &vmsd_dev, &d0);
    expect(&im, r2, "Unknown section 'other' instance 5: this machine has no such device");
    vmstate_register(r2, "other", 5, &vmsd_dev, &d1);
    vmstate_register(r2, "third", 0, &vmsd_dev, &d1);
    expect(&im, r2, "Machine state has no section 'third' instance 0");
    vmstate_registry_free(r2);
    vmstate_registry_free(r);
    g_free(im.data);
}

static void test_failed_load_goes_back(void)
{
    Dev d0 = {.a = 1}, d1 = {.a = 2};
    VMStateRegistry *r = new_registry(&d0, &d1);
    g_autoptr(StreamLayout) l = NULL;
    g_autoptr(GByteArray) kept = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    Image im = build(r, &l);

    d0.a = 10;
    d1.a = 20;
    g_assert_true(devices_save(kept, NULL, r, &err));
    d1.fail_loads = 1;
    g_assert_false(try_load(&im, r, true, &err));
    g_assert_cmpstr(err->message, ==, "Section 'other' instance 5: cannot be");
    g_assert_true(devices_load(kept, r, NULL));
    g_assert_cmpuint(d0.a, ==, 10);
    g_assert_cmpuint(d1.a, ==, 20);
    vmstate_registry_free(r);
    g_free(im.data);
}

static void test_read_errors(void)
{
    Dev d0 = {0}, d1 = {0};
    VMStateRegistry *r = new_registry(&d0, &d1);
    g_autoptr(StreamLayout) l = NULL;
    Image im = build(r, &l);

    for (int n = 1; n <= 3; n++) {
        g_autoptr(GError) err = NULL;

        im.fail_at = n;
        g_assert_false(try_load(&im, r, false, &err));
        g_assert_nonnull(strstr(err->message, "Could not read the machine state at offset"));
    }
    vmstate_registry_free(r);
    g_free(im.data);
}

static void test_truncated(void)
{
    Dev d0 = {0}, d1 = {0};
    VMStateRegistry *r = new_registry(&d0, &d1);
    g_autoptr(StreamLayout) l = NULL;
    Image im = build(r, &l);
    const char *json = memmem(im.data, im.size, "{\"checksum\"", 11);
    size_t description = (const uint8_t *)json - im.data - 5;

    for (size_t len = 0; len < im.size; len++) {
        /* Inside the pages one length is like another. */
        if (len > 1000 && len + 1000 < l->tail_offset && len % 65521) {
            continue;
        }
        Image cut = {.data = g_memdup2(im.data, len), .size = len};
        g_autoptr(GError) err = NULL;
        bool ok = try_load(&cut, r, true, &err);

        g_assert_true(ok == !err);
        g_assert_true(ok == (len == description));
        g_free(cut.data);
    }
    vmstate_registry_free(r);
    g_free(im.data);
}

/* Whatever is damaged in headers, bitmaps and devices: refused, or the same as ever. */
static void test_mutated(void)
{
    Dev d0 = {.a = 5, .b = {1, 2, 3, 4}}, d1 = {.a = 6}, was0 = d0, was1 = d1;
    VMStateRegistry *r = new_registry(&d0, &d1);
    g_autoptr(StreamLayout) l = NULL;
    Image im = build(r, &l);
    StreamPiece *second = g_ptr_array_index(l->pieces, 1);

    for (size_t i = 0; i < im.size; i++) {
        bool header = i < 300 || (i >= second->offset && i < second->offset + 300) ||
                      i >= l->tail_offset;
        if (!header) {
            continue;
        }
        for (int v = 0; v < 11; v++) {
            static const uint8_t values[] = {0, 0x7f, 0xff};
            uint8_t was = im.data[i];
            g_autoptr(GError) err = NULL;
            bool ok;

            im.data[i] = v < 8 ? was ^ (1 << v) : values[v - 8];
            ok = try_load(&im, r, true, &err);
            g_assert_true(ok == !err);
            if (err) {
                g_assert_true(g_utf8_validate(err->message, -1, NULL));
            } else {
                g_assert_cmpuint(d0.a, ==, was0.a);
                g_assert_cmpmem(d0.b, sizeof(d0.b), was0.b, sizeof(was0.b));
                g_assert_cmpuint(d1.a, ==, was1.a);
            }
            im.data[i] = was;
        }
    }
    vmstate_registry_free(r);
    g_free(im.data);
}

static void test_checksum(void)
{
    static const char *const message =
        "Machine state is damaged: the checksum over devices and page bitmaps is not the one "
        "that was saved with them";
    Dev d0 = {.a = 5}, d1 = {.a = 6};
    VMStateRegistry *r = new_registry(&d0, &d1);
    g_autoptr(StreamLayout) l = NULL;
    Image im = build(r, &l);
    char *member = memmem(im.data, im.size, "checksum", 8);
    uint8_t *device = memmem(im.data + l->tail_offset, im.size - l->tail_offset, "\3dev", 4);

    for (int i = 0; i < l->nr_blocks; i++) {
        for (uint64_t at = 0; at < l->blocks[i].bitmap_bytes; at++) {
            im.data[l->blocks[i].bitmap_offset + at] ^= 1 << at % 8;
            expect(&im, r, message);
            im.data[l->blocks[i].bitmap_offset + at] ^= 1 << at % 8;
        }
    }
    device[12 + 3] ^= 2; /* a: behind name, instance and version */
    expect(&im, r, message);
    /* A state of older make is loaded as it is: nobody can tell. */
    memcpy(member, "whatever", 8);
    g_assert_true(try_load(&im, r, true, NULL));
    g_assert_cmpuint(d0.a, ==, 7);
    device[12 + 3] ^= 2;
    memcpy(member, "check\0um", 8);
    expect(&im, r, "The description at the end of the machine state is damaged");
    vmstate_registry_free(r);
    g_free(im.data);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/roundtrip", test_roundtrip);
    g_test_add_func("/stream/description", test_description_is_json);
    g_test_add_func("/stream/other-machine", test_other_machine);
    g_test_add_func("/stream/failed-load-goes-back", test_failed_load_goes_back);
    g_test_add_func("/stream/read-errors", test_read_errors);
    g_test_add_func("/stream/truncated", test_truncated);
    g_test_add_func("/stream/mutated", test_mutated);
    g_test_add_func("/stream/checksum", test_checksum);
    return g_test_run();
}
