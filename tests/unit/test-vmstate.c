/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device state by description: what goes out comes back, versions and subsections, and
 * input that is truncated or wrong is one error that names the field.
 */
#include <string.h>
#include "migration/vmstate-int.h"

typedef struct Inner {
    uint16_t a;
    uint32_t b;
    bool extra_needed;
    uint8_t extra;
} Inner;

typedef struct Dev {
    bool flag;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    int32_t i32;
    int64_t i64;
    uint64_t regs[5];
    uint16_t halves[3];
    char buf[7];
    Inner one;
    Inner many[3];
    uint32_t newer;
    int pre_saved, pre_loaded, post_loaded;
    bool refuse;
} Dev;

static bool extra_needed(void *opaque)
{
    return ((Inner *)opaque)->extra_needed;
}

static const VMStateDescription vmsd_extra = {
    .name = "inner/extra",
    .version = 1,
    .minimum_version = 1,
    .needed = extra_needed,
    .fields = (const VMStateField[]){VMSTATE_UINT8(extra, Inner), VMSTATE_END},
};

static const VMStateDescription vmsd_inner = {
    .name = "inner",
    .version = 1,
    .minimum_version = 1,
    .fields = (const VMStateField[]){VMSTATE_UINT16(a, Inner), VMSTATE_UINT32(b, Inner),
                                     VMSTATE_END},
    .subsections = (const VMStateDescription *const[]){&vmsd_extra, NULL},
};

static bool dev_pre_save(void *opaque, GError **errp)
{
    ((Dev *)opaque)->pre_saved++;
    return true;
}

static bool dev_pre_load(void *opaque, GError **errp)
{
    ((Dev *)opaque)->pre_loaded++;
    return true;
}

static bool dev_post_load(void *opaque, int version, GError **errp)
{
    Dev *d = opaque;

    d->post_loaded = version;
    if (d->refuse) {
        g_set_error(errp, g_quark_from_static_string("test"), 0, "does not like it");
        return false;
    }
    return true;
}

static const VMStateField dev_fields[] = {
    VMSTATE_BOOL(flag, Dev),
    VMSTATE_UINT8(u8, Dev),
    VMSTATE_UINT16(u16, Dev),
    VMSTATE_UINT32(u32, Dev),
    VMSTATE_UINT64(u64, Dev),
    VMSTATE_INT32(i32, Dev),
    VMSTATE_INT64(i64, Dev),
    VMSTATE_UINT64_ARRAY(regs, Dev, 5),
    VMSTATE_UINT16_ARRAY(halves, Dev, 3),
    VMSTATE_BUFFER(buf, Dev),
    VMSTATE_STRUCT(one, Dev, vmsd_inner, Inner),
    VMSTATE_STRUCT_ARRAY(many, Dev, 3, vmsd_inner, Inner),
    {.name = "newer", .offset = offsetof(Dev, newer), .size = 4, .num = 1,
     .kind = VMSTATE_KIND_UINT32, .version = 2},
    VMSTATE_END,
};

static const VMStateDescription vmsd_dev = {
    .name = "dev",
    .version = 2,
    .minimum_version = 1,
    .pre_save = dev_pre_save,
    .pre_load = dev_pre_load,
    .post_load = dev_post_load,
    .fields = dev_fields,
};

static const VMStateDescription vmsd_dev_v1 = {
    .name = "dev",
    .version = 1,
    .minimum_version = 1,
    .fields = dev_fields,
};

static void fill(Dev *d)
{
    memset(d, 0, sizeof(*d));
    d->flag = true;
    d->u8 = 0x12;
    d->u16 = 0x1234;
    d->u32 = 0x12345678;
    d->u64 = 0x123456789abcdef0ULL;
    d->i32 = -5;
    d->i64 = -6;
    for (int i = 0; i < 5; i++) {
        d->regs[i] = 0x1111111111111111ULL * i;
    }
    d->halves[2] = 0xfedc;
    memcpy(d->buf, "seven b", 7);
    d->one = (Inner){.a = 1, .b = 2};
    d->many[1] = (Inner){.a = 3, .b = 4, .extra_needed = true, .extra = 0x77};
    d->newer = 99;
}

static GByteArray *save(Dev *d, const VMStateDescription *vmsd)
{
    GByteArray *out = g_byte_array_new();
    GError *err = NULL;

    g_assert_true(vmstate_save_state(out, vmsd, d, &err));
    g_assert_no_error(err);
    return out;
}

static void assert_equal(const Dev *a, const Dev *b)
{
    g_assert_cmpint(a->flag, ==, b->flag);
    g_assert_cmpuint(a->u8, ==, b->u8);
    g_assert_cmpuint(a->u16, ==, b->u16);
    g_assert_cmpuint(a->u32, ==, b->u32);
    g_assert_cmpuint(a->u64, ==, b->u64);
    g_assert_cmpint(a->i32, ==, b->i32);
    g_assert_cmpint(a->i64, ==, b->i64);
    g_assert_cmpmem(a->regs, sizeof(a->regs), b->regs, sizeof(b->regs));
    g_assert_cmpmem(a->halves, sizeof(a->halves), b->halves, sizeof(b->halves));
    g_assert_cmpmem(a->buf, sizeof(a->buf), b->buf, sizeof(b->buf));
    for (int i = 0; i < 3; i++) {
        g_assert_cmpuint(a->many[i].a, ==, b->many[i].a);
        g_assert_cmpuint(a->many[i].b, ==, b->many[i].b);
        g_assert_cmpuint(a->many[i].extra, ==, b->many[i].extra);
    }
}

static void test_roundtrip(void)
{
    Dev a, b = {0};
    GError *err = NULL;

    fill(&a);
    g_autoptr(GByteArray) out = save(&a, &vmsd_dev);
    VMReader in = {.data = out->data, .size = out->len};

    g_assert_true(vmstate_load_state(&in, &vmsd_dev, &b, 2, &err));
    g_assert_no_error(err);
    g_assert_cmpuint(in.pos, ==, out->len);
    assert_equal(&a, &b);
    g_assert_cmpuint(b.newer, ==, 99);
    g_assert_cmpint(a.pre_saved, ==, 1);
    g_assert_cmpint(b.pre_loaded, ==, 1);
    g_assert_cmpint(b.post_loaded, ==, 2);
    /* Big endian on the wire. */
    g_assert_cmpuint(out->data[2], ==, 0x12);
    g_assert_cmpuint(out->data[3], ==, 0x34);
}

static void test_old_version(void)
{
    Dev a, b = {.newer = 7};
    GError *err = NULL;

    fill(&a);
    g_autoptr(GByteArray) out = save(&a, &vmsd_dev_v1);
    VMReader in = {.data = out->data, .size = out->len};

    g_assert_true(vmstate_load_state(&in, &vmsd_dev, &b, 1, &err));
    g_assert_cmpuint(in.pos, ==, out->len);
    assert_equal(&a, &b);
    g_assert_cmpuint(b.newer, ==, 7);
}

static void test_versions_refused(void)
{
    Dev a, b = {0};

    fill(&a);
    g_autoptr(GByteArray) out = save(&a, &vmsd_dev);
    for (int version = 0; version < 5; version += 3) {
        VMReader in = {.data = out->data, .size = out->len};
        g_autoptr(GError) err = NULL;

        g_assert_false(vmstate_load_state(&in, &vmsd_dev, &b, version, &err));
        g_assert_nonnull(strstr(err->message, "is not supported (1 to 2 are)"));
    }
}

static void test_truncated(void)
{
    Dev a, b;

    fill(&a);
    /* Half a subsection may pass for the fields that follow it; the section's footer tells. */
    a.many[1].extra_needed = false;
    g_autoptr(GByteArray) out = save(&a, &vmsd_dev);
    for (size_t len = 0; len < out->len; len++) {
        /* An exact copy, so that ASan sees a read behind its end. */
        g_autofree uint8_t *copy = g_memdup2(out->data, len);
        VMReader in = {.data = copy, .size = len};
        g_autoptr(GError) err = NULL;

        memset(&b, 0, sizeof(b));
        g_assert_false(vmstate_load_state(&in, &vmsd_dev, &b, 2, &err));
        g_assert_nonnull(err);
        g_assert_nonnull(strstr(err->message, "field '"));
    }
}

static void test_mutated(void)
{
    Dev a, b;

    fill(&a);
    g_autoptr(GByteArray) out = save(&a, &vmsd_dev);
    for (size_t i = 0; i < out->len * 8; i++) {
        g_autofree uint8_t *copy = g_memdup2(out->data, out->len);
        VMReader in = {.data = copy, .size = out->len};
        g_autoptr(GError) err = NULL;
        bool ok;

        copy[i / 8] ^= 1 << i % 8;
        memset(&b, 0, sizeof(b));
        ok = vmstate_load_state(&in, &vmsd_dev, &b, 2, &err);
        g_assert_true(ok == !err);
    }
}

static void test_messages(void)
{
    Dev a, b = {0};
    g_autoptr(GError) err = NULL, err2 = NULL, err3 = NULL;

    fill(&a);
    g_autoptr(GByteArray) out = save(&a, &vmsd_dev);
    VMReader in = {.data = out->data, .size = out->len};

    out->data[0] = 2;
    g_assert_false(vmstate_load_state(&in, &vmsd_dev, &b, 2, &err));
    g_assert_cmpstr(err->message, ==, "field 'flag': 2 is not a boolean");

    out->data[0] = 1;
    in = (VMReader){.data = out->data, .size = 28 + 8 + 3};
    g_assert_false(vmstate_load_state(&in, &vmsd_dev, &b, 2, &err2));
    g_assert_cmpstr(err2->message, ==, "field 'regs[1]': the data ends in the middle of it");

    b.refuse = true;
    in = (VMReader){.data = out->data, .size = out->len};
    g_assert_false(vmstate_load_state(&in, &vmsd_dev, &b, 2, &err3));
    g_assert_cmpstr(err3->message, ==, "does not like it");
}

static void test_subsection_unknown(void)
{
    static const VMStateDescription bare = {
        .name = "inner", .version = 1, .minimum_version = 1, .fields = NULL,
    };
    static const uint8_t bytes[] = "\x05\x0binner/extra\0\0\0\x01\x42";
    VMReader in = {.data = bytes, .size = sizeof(bytes) - 1};
    Inner i = {0};
    g_autoptr(GError) err = NULL;

    g_assert_false(vmstate_load_state(&in, &bare, &i, 1, &err));
    g_assert_cmpstr(err->message, ==, "unknown subsection 'inner/extra'");
}

static void test_check_only(void)
{
    Dev a;

    fill(&a);
    g_autoptr(GByteArray) out = save(&a, &vmsd_dev);
    VMReader in = {.data = out->data, .size = out->len};
    g_autoptr(GError) err = NULL;

    g_assert_true(vmstate_load_state(&in, &vmsd_dev, NULL, 2, &err));
    g_assert_cmpuint(in.pos, ==, out->len);
    in = (VMReader){.data = out->data, .size = out->len - 1};
    g_assert_false(vmstate_load_state(&in, &vmsd_dev, NULL, 2, &err));
}

static int64_t wire_size(json_object *state)
{
    json_object *fields = json_object_object_get(state, "fields");
    json_object *subs = json_object_object_get(state, "subsections");
    int64_t sum = 0;

    for (size_t i = 0; i < json_object_array_length(fields); i++) {
        json_object *f = json_object_array_get_idx(fields, i);
        json_object *s = json_object_object_get(f, "struct");
        json_object *n = json_object_object_get(f, "array_len");

        sum += s ? wire_size(s)
                 : json_object_get_int64(json_object_object_get(f, "size")) *
                       (n ? json_object_get_int64(n) : 1);
    }
    for (size_t i = 0; subs && i < json_object_array_length(subs); i++) {
        json_object *s = json_object_array_get_idx(subs, i);
        const char *name = json_object_get_string(json_object_object_get(s, "vmsd_name"));

        sum += 1 + 1 + strlen(name) + 4 + wire_size(s);
    }
    return sum;
}

static void test_description(void)
{
    Dev a;

    fill(&a);
    g_autoptr(GByteArray) out = save(&a, &vmsd_dev);
    json_object *d = vmstate_describe(&vmsd_dev, &a);

    /* A reader that knows only the description finds every byte. */
    g_assert_cmpint(wire_size(d), ==, out->len);
    g_assert_cmpstr(json_object_get_string(json_object_object_get(d, "vmsd_name")), ==, "dev");
    json_object_put(d);
}

static void test_registry(void)
{
    VMStateRegistry *r = vmstate_registry_new();
    Dev a, b;

    vmstate_register(r, "dev", 0, &vmsd_dev, &a);
    vmstate_register(r, "dev", 1, &vmsd_dev, &b);
    g_assert_true(vmstate_find(r, "dev", 1)->opaque == &b);
    g_assert_null(vmstate_find(r, "dev", 2));
    vmstate_unregister(r, &a);
    g_assert_null(vmstate_find(r, "dev", 0));
    g_assert_null(vmstate_blocker(r));
    vmstate_block(r, "no");
    g_assert_cmpstr(vmstate_blocker(r), ==, "no");
    vmstate_unblock(r, "no");
    g_assert_null(vmstate_blocker(r));
    vmstate_registry_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vmstate/roundtrip", test_roundtrip);
    g_test_add_func("/vmstate/old-version", test_old_version);
    g_test_add_func("/vmstate/versions-refused", test_versions_refused);
    g_test_add_func("/vmstate/truncated", test_truncated);
    g_test_add_func("/vmstate/mutated", test_mutated);
    g_test_add_func("/vmstate/messages", test_messages);
    g_test_add_func("/vmstate/subsection-unknown", test_subsection_unknown);
    g_test_add_func("/vmstate/check-only", test_check_only);
    g_test_add_func("/vmstate/description", test_description);
    g_test_add_func("/vmstate/registry", test_registry);
    return g_test_run();
}
