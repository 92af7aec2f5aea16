/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree of files in a snapshot's machine state (migration/vmstate-fs.h).  Everything but
 * RAM, also that of the core file and the streams, is in memory after opening; RAM is read from
 * the image as it is asked for, by any number of coroutines at once.  A page of RAM is
 * what the bitmap says: zeros, or the bytes at its place.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/block-int.h"
#include "block/snapshot.h"
#include "config-host.h"
#include "qapi/error.h"
#include "vmstate-fs-int.h"

/* Bitmap bytes looked at in one go: 2 GiB of RAM. */
#define BITMAP_WINDOW 65536u

struct VmstateFs {
    BlockDriverState *bs;
    BdrvSnapshotReader *reader;
    BdrvSnapshotInfo info;
    StreamSource source;
    StreamLayout *layout;
    GByteArray *tail, *sequential_tail;
    GPtrArray *devices;  /* VMDecodedDevice */
    GArray **present;    /* pages in the image, for each RAM block: see VMSequential's before */
    VMCore *core;        /* or NULL, then: */
    const char *no_core; /* why not */
    VMSequential *sequential;
    GArray *files;       /* VmstateFile */
};

/* --- The stream ------------------------------------------------------------------------------- */

static int coroutine_fn read_stream(void *opaque, uint64_t offset, void *buf, size_t len)
{
    VmstateFs *fs = opaque;
    IOVector iov;

    if (len == 0) {
        return 0;
    }
    io_vector_init_buf(&iov, buf, len);
    return bdrv_co_snapshot_read(fs->reader, offset, &iov);
}

/* --- RAM -------------------------------------------------------------------------------------- */

static bool bit_at(const uint8_t *bitmap, uint64_t bit)
{
    return bitmap[bit / 8] >> (bit % 8) & 1;
}

/* Bitmap bytes [first, first + n) of a block. */
static int coroutine_fn read_bitmap(VmstateFs *fs, const StreamBlock *b, uint64_t first, size_t n,
                                    uint8_t *bitmap)
{
    return read_stream(fs, b->bitmap_offset + first, bitmap, n);
}

/* [offset, offset + len) lies in the block.  0 or -errno. */
static int coroutine_fn read_ram(VmstateFs *fs, int block, uint64_t offset, uint8_t *buf,
                                 size_t len)
{
    const StreamBlock *b = &fs->layout->blocks[block];
    uint64_t page = offset / STREAM_PAGE_SIZE, end = offset + len;
    uint64_t first = page / 8, last = (end - 1) / STREAM_PAGE_SIZE / 8;
    g_autofree uint8_t *bitmap = g_malloc(last - first + 1);
    int ret = read_bitmap(fs, b, first, last - first + 1, bitmap);

    while (ret == 0 && offset < end) {
        bool data = bit_at(bitmap, page - first * 8);
        uint64_t stop;

        do { /* pages of one kind */
            page++;
            stop = page * STREAM_PAGE_SIZE;
        } while (stop < end && bit_at(bitmap, page - first * 8) == data);
        stop = MIN(stop, end);
        if (data) {
            ret = read_stream(fs, b->pages_offset + offset, buf, stop - offset);
        } else {
            memset(buf, 0, stop - offset);
        }
        buf += stop - offset;
        offset = stop;
    }
    return ret;
}

static int coroutine_fn core_read_ram(void *opaque, int block, uint64_t offset, void *buf,
                                      size_t len)
{
    return read_ram(opaque, block, offset, buf, len);
}

/* The first page from page on that is in the image (or is not); the block's end if none. */
static int64_t coroutine_fn find_page(VmstateFs *fs, const StreamBlock *b, uint64_t page,
                                      bool present)
{
    uint64_t pages = b->length / STREAM_PAGE_SIZE;
    g_autofree uint8_t *window = g_malloc(BITMAP_WINDOW);

    while (page < pages) {
        uint64_t first = page / 8, n = MIN(BITMAP_WINDOW, b->bitmap_bytes - first);
        int ret = read_bitmap(fs, b, first, n, window);

        if (ret < 0) {
            return ret;
        }
        while (page < pages && page / 8 < first + n) {
            if (page % 8 == 0 && window[page / 8 - first] == (present ? 0 : 0xff)) {
                page += 8;
            } else if (bit_at(window, page - first * 8) == present) {
                return page;
            } else {
                page++;
            }
        }
        co_sleep_ns(0); /* others in this thread get their turn */
    }
    return pages;
}

static int64_t coroutine_fn seek_ram(VmstateFs *fs, int block, uint64_t offset, bool hole)
{
    const StreamBlock *b = &fs->layout->blocks[block];
    int64_t page = find_page(fs, b, offset / STREAM_PAGE_SIZE, !hole);

    return page < 0 ? page : (int64_t)MAX(offset, (uint64_t)page * STREAM_PAGE_SIZE);
}

/* Pages of a piece of the bitmap, which begins at bitmap byte at; bits behind the end are none. */
static uint64_t count_bits(const uint8_t *bits, uint64_t at, uint64_t n, uint64_t pages)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t left = pages - MIN(pages, (at + i) * 8);

        count += __builtin_popcount(left >= 8 ? bits[i] : bits[i] & ((1u << left) - 1));
    }
    return count;
}

static int coroutine_fn count_present(VmstateFs *fs, int block)
{
    const StreamBlock *b = &fs->layout->blocks[block];
    g_autofree uint8_t *window = g_malloc(BITMAP_WINDOW);
    uint64_t sum = 0;

    fs->present[block] = g_array_new(false, false, sizeof(uint64_t));
    for (uint64_t at = 0; at < b->bitmap_bytes; at += BITMAP_WINDOW) {
        uint64_t n = MIN(BITMAP_WINDOW, b->bitmap_bytes - at);
        int ret = read_bitmap(fs, b, at, n, window);

        if (ret < 0) {
            return ret;
        }
        for (uint64_t i = 0; i < n; i += VMSTATE_SEQ_GROUP_BYTES) {
            g_array_append_val(fs->present[block], sum);
            sum += count_bits(window + i, at + i, MIN(VMSTATE_SEQ_GROUP_BYTES, n - i),
                              b->length / STREAM_PAGE_SIZE);
        }
        co_sleep_ns(0);
    }
    g_array_append_val(fs->present[block], sum);
    return 0;
}

static uint64_t present_bytes(VmstateFs *fs, int block)
{
    const GArray *present = fs->present[block];

    return g_array_index(present, uint64_t, present->len - 1) * STREAM_PAGE_SIZE;
}

/* --- The core file ------------------------------------------------------------------------------ */

/* Which RAM block the core file has at offset: its number and its end; -1 before the first. */
static int core_block(VmstateFs *fs, uint64_t offset, uint64_t *start, uint64_t *end)
{
    *start = 0;
    *end = fs->layout->nr_blocks ? fs->core->block_offset[0] : fs->core->size;
    for (int i = fs->layout->nr_blocks - 1; i >= 0; i--) {
        if (offset >= fs->core->block_offset[i]) {
            *start = fs->core->block_offset[i];
            *end = *start + fs->layout->blocks[i].length;
            return i;
        }
    }
    return -1;
}

static int coroutine_fn read_core(VmstateFs *fs, uint64_t offset, uint8_t *buf, size_t len)
{
    int ret = 0;

    while (len && ret == 0) {
        uint64_t start, end;
        int block = core_block(fs, offset, &start, &end);
        size_t n = MIN(len, end - offset);

        if (block < 0) {
            const GByteArray *head = fs->core->head;
            size_t have = offset < head->len ? MIN(n, head->len - offset) : 0;

            if (have) {
                memcpy(buf, head->data + offset, have);
            }
            memset(buf + have, 0, n - have);
        } else {
            ret = read_ram(fs, block, offset - start, buf, n);
        }
        offset += n;
        buf += n;
        len -= n;
    }
    return ret;
}

static int64_t coroutine_fn seek_core(VmstateFs *fs, uint64_t offset, bool hole)
{
    while (offset < fs->core->size) {
        uint64_t start, end;
        int block = core_block(fs, offset, &start, &end);
        int64_t ret;

        if (block < 0) {
            if (!hole) {
                return offset;
            }
        } else {
            ret = seek_ram(fs, block, offset - start, hole);
            if (ret < 0 || start + ret < end) {
                return ret < 0 ? ret : (int64_t)(start + ret);
            }
        }
        offset = end;
    }
    return fs->core->size;
}

/* --- The stream as a file ------------------------------------------------------------------------- */

static int64_t coroutine_fn seek_stream(VmstateFs *fs, uint64_t offset, bool hole)
{
    uint64_t n;

    for (int batch = 1; offset < fs->source.size; offset += n, batch++) {
        int64_t map;
        int ret = bdrv_co_snapshot_map(fs->reader, offset, fs->source.size - offset, &n, &map);

        if (ret == -ENOTSUP) { /* compressed, or who knows */
            map = 0;
            n = MIN(fs->source.size - offset, BITMAP_WINDOW);
        } else if (ret < 0 || n == 0) {
            return ret < 0 ? ret : -EIO;
        }
        if (hole == (map < 0)) {
            return offset;
        }
        if (batch % 1024 == 0) {
            co_sleep_ns(0);
        }
    }
    return fs->source.size;
}

/* --- Files ------------------------------------------------------------------------------------------ */

const VmstateFile *vmstate_fs_file(VmstateFs *fs, int file)
{
    return file >= 0 && (guint)file < fs->files->len
               ? &g_array_index(fs->files, VmstateFile, file)
               : NULL;
}

int64_t vmstate_fs_date(VmstateFs *fs)
{
    return fs->info.date_sec;
}

int vmstate_fs_lookup(VmstateFs *fs, int parent, const char *name)
{
    for (guint i = 1; i < fs->files->len; i++) {
        const VmstateFile *f = &g_array_index(fs->files, VmstateFile, i);

        if (f->parent == parent && !strcmp(f->name, name)) {
            return i;
        }
    }
    return -1;
}

int vmstate_fs_find(VmstateFs *fs, const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    int file = VMSTATE_FS_ROOT;

    for (char **p = parts; *p && file >= 0; p++) {
        if (**p && strcmp(*p, ".") != 0) {
            file = vmstate_fs_lookup(fs, file, *p);
        }
    }
    return file;
}

int64_t coroutine_fn vmstate_fs_read(VmstateFs *fs, int file, uint64_t offset, void *buf,
                                     size_t len)
{
    const VmstateFile *f = vmstate_fs_file(fs, file);
    int ret = 0;

    IO_CODE(fs->bs);
    if (!f || f->kind == VMSTATE_FILE_DIRECTORY) {
        return f ? -EISDIR : -ENOENT;
    }
    if (offset >= f->size || len == 0) {
        return 0;
    }
    len = MIN(len, f->size - offset);
    switch (f->kind) {
    case VMSTATE_FILE_TEXT:
        memcpy(buf, (const char *)g_bytes_get_data(f->text, NULL) + offset, len);
        break;
    case VMSTATE_FILE_RAM:
        ret = read_ram(fs, f->block, offset, buf, len);
        break;
    case VMSTATE_FILE_CORE:
        ret = read_core(fs, offset, buf, len);
        break;
    case VMSTATE_FILE_MIGRATION:
        ret = vmstate_sequential_read(fs->sequential, offset, buf, len);
        break;
    default:
        ret = read_stream(fs, offset, buf, len);
    }
    return ret < 0 ? ret : (int64_t)len;
}

int64_t coroutine_fn vmstate_fs_seek(VmstateFs *fs, int file, uint64_t offset, bool hole)
{
    const VmstateFile *f = vmstate_fs_file(fs, file);
    int64_t ret;

    IO_CODE(fs->bs);
    if (!f || offset >= f->size) {
        return -ENXIO;
    }
    switch (f->kind) {
    case VMSTATE_FILE_RAM:
        ret = seek_ram(fs, f->block, offset, hole);
        break;
    case VMSTATE_FILE_CORE:
        ret = seek_core(fs, offset, hole);
        break;
    case VMSTATE_FILE_STREAM:
        ret = seek_stream(fs, offset, hole);
        break;
    default:
        ret = hole ? f->size : offset;
    }
    return ret == (int64_t)f->size && !hole ? -ENXIO : ret;
}

/* A name from the stream as a file's: one harmless component. */
static char *file_name(VmstateFs *fs, int parent, const char *name, const char *suffix)
{
    g_autofree char *base = g_strdup(name);
    char *result;

    for (char *p = base; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '/' || (p == base && *p == '.')) {
            *p = '_';
        }
    }
    result = g_strconcat(base, suffix, NULL);
    for (int n = 2; vmstate_fs_lookup(fs, parent, result) >= 0; n++) {
        g_free(result);
        result = g_strdup_printf("%s~%d%s", base, n, suffix);
    }
    return result;
}

static int add_file(VmstateFs *fs, int parent, VmstateFileKind kind, char *name, uint64_t size)
{
    VmstateFile f = {.name = name, .parent = parent, .kind = kind, .size = size,
                     .data_bytes = size};

    g_array_append_val(fs->files, f);
    return fs->files->len - 1;
}

static VmstateFile *file_at(VmstateFs *fs, int file)
{
    return &g_array_index(fs->files, VmstateFile, file);
}

/* --- info.json ---------------------------------------------------------------------------------------- */

static void put_text(json_object *o, const char *name, const char *value)
{
    json_object_object_add(o, name, json_object_new_string(value));
}

static void put_number(json_object *o, const char *name, uint64_t value)
{
    json_object_object_add(o, name, json_object_new_uint64(value));
}

static json_object *describe_snapshot(VmstateFs *fs)
{
    json_object *o = json_object_new_object();
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_utc(fs->info.date_sec);
    g_autofree char *text = g_date_time_format(date, "%Y-%m-%dT%H:%M:%SZ");
    g_autofree char *tag = g_utf8_make_valid(fs->info.name, -1);
    g_autofree char *id = g_utf8_make_valid(fs->info.id, -1);

    put_text(o, "id", id);
    put_text(o, "tag", tag);
    put_text(o, "date", text);
    put_number(o, "vm-clock-ns", fs->info.vm_clock_nsec);
    put_number(o, "vm-state-size", fs->info.vm_state_size);
    put_number(o, "disk-size", fs->info.disk_size);
    return o;
}

static json_object *describe_ram(VmstateFs *fs, const VmstateFile *f)
{
    const StreamBlock *b = &fs->layout->blocks[f->block];
    json_object *o = json_object_new_object();
    uint64_t address;

    put_text(o, "name", b->idstr);
    put_text(o, "file", f->name);
    put_number(o, "size", b->length);
    put_number(o, "present-bytes", present_bytes(fs, f->block));
    if (vmstate_block_address(fs->layout->machine_type, b->idstr, &address)) {
        put_number(o, "guest-address", address);
    }
    put_number(o, "offset-in-stream", b->pages_offset);
    return o;
}

static json_object *describe_device(VmstateFs *fs, const VMDecodedDevice *d, const char *file)
{
    json_object *o = json_object_new_object();

    put_text(o, "name", d->idstr);
    put_number(o, "instance", d->instance_id);
    put_text(o, "file", file);
    put_number(o, "version", d->version);
    put_number(o, "size", d->size);
    put_number(o, "offset-in-stream", fs->layout->tail_offset + d->offset);
    return o;
}

static json_object *describe_core(VmstateFs *fs)
{
    json_object *o = json_object_new_object();

    if (!fs->core) {
        put_text(o, "missing", fs->no_core);
        return o;
    }
    put_number(o, "cpus", fs->core->nr_cpus);
    put_number(o, "segments", fs->core->nr_segments);
    json_object_object_add(o, "complete", json_object_new_boolean(!fs->core->truncated));
    return o;
}

static void add_info(VmstateFs *fs, json_object *ram, json_object *devices)
{
    json_object *o = json_object_new_object();
    g_autofree char *text = NULL;
    int file;

    put_text(o, "machine", fs->layout->machine_type);
    json_object_object_add(o, "snapshot", describe_snapshot(fs));
    put_number(o, "page-size", STREAM_PAGE_SIZE);
    json_object_object_add(o, "ram", ram);
    json_object_object_add(o, "devices", devices);
    json_object_object_add(o, "core", describe_core(fs));
    text = g_strconcat(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
                                                             JSON_C_TO_STRING_SPACED |
                                                             JSON_C_TO_STRING_NOSLASHESCAPE),
                       "\n", NULL);
    json_object_put(o);
    file = add_file(fs, VMSTATE_FS_ROOT, VMSTATE_FILE_TEXT, g_strdup("info.json"), strlen(text));
    file_at(fs, file)->text = g_bytes_new(text, strlen(text));
}

static void add_files(VmstateFs *fs)
{
    json_object *ram = json_object_new_array(), *devices = json_object_new_array();
    int directory, file;

    add_file(fs, VMSTATE_FS_ROOT, VMSTATE_FILE_DIRECTORY, g_strdup(""), 0);
    directory = add_file(fs, VMSTATE_FS_ROOT, VMSTATE_FILE_DIRECTORY, g_strdup("devices"), 0);
    for (guint i = 0; i < fs->devices->len; i++) {
        VMDecodedDevice *d = g_ptr_array_index(fs->devices, i);
        g_autofree char *suffix = d->instance_id ? g_strdup_printf("-%u.json", d->instance_id)
                                                 : g_strdup(".json");

        file = add_file(fs, directory, VMSTATE_FILE_TEXT,
                        file_name(fs, directory, d->idstr, suffix), g_bytes_get_size(d->text));
        file_at(fs, file)->text = g_bytes_ref(d->text);
        json_object_array_add(devices, describe_device(fs, d, file_at(fs, file)->name));
    }
    directory = add_file(fs, VMSTATE_FS_ROOT, VMSTATE_FILE_DIRECTORY, g_strdup("ram"), 0);
    for (int i = 0; i < fs->layout->nr_blocks; i++) {
        const StreamBlock *b = &fs->layout->blocks[i];

        file = add_file(fs, directory, VMSTATE_FILE_RAM, file_name(fs, directory, b->idstr, ""),
                        b->length);
        file_at(fs, file)->block = i;
        file_at(fs, file)->data_bytes = present_bytes(fs, i);
        json_object_array_add(ram, describe_ram(fs, file_at(fs, file)));
    }
    add_info(fs, ram, devices);
    file = add_file(fs, VMSTATE_FS_ROOT, VMSTATE_FILE_STREAM, g_strdup("stream"),
                    fs->source.size);
    for (int i = 0; i < fs->layout->nr_blocks; i++) {
        file_at(fs, file)->data_bytes -=
            fs->layout->blocks[i].length - present_bytes(fs, i);
    }
    add_file(fs, VMSTATE_FS_ROOT, VMSTATE_FILE_MIGRATION, g_strdup("migration"),
             vmstate_sequential_size(fs->sequential));
    if (fs->core) {
        file = add_file(fs, VMSTATE_FS_ROOT, VMSTATE_FILE_CORE, g_strdup("core.elf"),
                        fs->core->size);
        file_at(fs, file)->data_bytes = fs->core->head->len;
        for (int i = 0; i < fs->layout->nr_blocks; i++) {
            file_at(fs, file)->data_bytes += present_bytes(fs, i);
        }
    }
}

/* --- Opening ---------------------------------------------------------------------------------------------- */

typedef struct DecodeWork {
    VmstateFs *fs;
    GError *err;
} DecodeWork;

static int decode_worker(void *opaque)
{
    DecodeWork *w = opaque;

    w->fs->devices = vmstate_decode(w->fs->tail, w->fs->layout->tail_offset, &w->err);
    if (w->fs->devices) {
        w->fs->sequential_tail = vmstate_sequential_tail(w->fs->tail, &w->err);
    }
    return 0;
}

static bool coroutine_fn decode_devices(VmstateFs *fs, GError **errp)
{
    DecodeWork w = {.fs = fs};

    co_run_in_worker(decode_worker, &w);
    if (w.err) {
        g_propagate_error(errp, w.err);
    }
    return fs->sequential_tail != NULL;
}

static bool coroutine_fn look_at_ram(VmstateFs *fs, GError **errp)
{
    int ret = 0;

    fs->present = g_new0(GArray *, MAX(fs->layout->nr_blocks, 1));
    for (int i = 0; i < fs->layout->nr_blocks && ret == 0; i++) {
        ret = count_present(fs, i);
    }
    if (ret == 0) {
        fs->core = vmstate_core_new(fs->layout, fs->tail, fs->devices, core_read_ram, fs,
                                    &fs->no_core, &ret);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read RAM");
    }
    return ret == 0;
}

static bool coroutine_fn read_state(VmstateFs *fs, GError **errp)
{
    if (fs->info.vm_state_size > INT64_MAX) {
        error_setg(errp, "its machine state has %" PRIu64 " bytes", fs->info.vm_state_size);
        return false;
    }
    if (fs->info.vm_state_size == 0) {
        error_setg(errp, "it has no machine state, only the disk's content");
        return false;
    }
    fs->source = (StreamSource){.read = read_stream, .opaque = fs,
                                .size = fs->info.vm_state_size};
    fs->layout = stream_read_layout(&fs->source, errp);
    fs->tail = fs->layout ? stream_read_tail(&fs->source, fs->layout, errp) : NULL;
    if (!fs->tail || !decode_devices(fs, errp) || !look_at_ram(fs, errp)) {
        return false;
    }
    fs->sequential =
        vmstate_sequential_new(&fs->source, fs->layout, fs->sequential_tail, fs->present);
    add_files(fs);
    return true;
}

VmstateFs *coroutine_fn vmstate_fs_open(BlockDriverState *bs, const char *id_or_name,
                                        const char *holder, GError **errp)
{
    VmstateFs *fs = g_new0(VmstateFs, 1);

    IO_CODE(bs);
    fs->bs = bs;
    fs->files = g_array_new(false, false, sizeof(VmstateFile));
    fs->reader = bdrv_co_snapshot_open(bs, id_or_name, errp);
    if (!fs->reader) {
        vmstate_fs_close(fs);
        return NULL;
    }
    bdrv_snapshot_hold(fs->reader, holder);
    fs->info = *bdrv_snapshot_reader_info(fs->reader);
    if (!read_state(fs, errp)) {
        g_prefix_error(errp, "Could not look into snapshot '%s' of node '%s': ", id_or_name,
                       bdrv_node_name(bs));
        vmstate_fs_close(fs);
        return NULL;
    }
    return fs;
}

void coroutine_fn vmstate_fs_close(VmstateFs *fs)
{
    for (guint i = 0; i < fs->files->len; i++) {
        g_free(file_at(fs, i)->name);
        g_clear_pointer(&file_at(fs, i)->text, g_bytes_unref);
    }
    g_array_unref(fs->files);
    vmstate_core_free(fs->core);
    vmstate_sequential_free(fs->sequential);
    for (int i = 0; fs->present && i < fs->layout->nr_blocks; i++) {
        g_clear_pointer(&fs->present[i], g_array_unref);
    }
    g_free(fs->present);
    g_clear_pointer(&fs->devices, g_ptr_array_unref);
    g_clear_pointer(&fs->tail, g_byte_array_unref);
    g_clear_pointer(&fs->sequential_tail, g_byte_array_unref);
    stream_layout_free(fs->layout);
    if (fs->reader) {
        bdrv_co_snapshot_close(fs->reader);
    }
    g_free(fs);
}

void vmstate_fuse_register(void)
{
#if CONFIG_FUSE
    block_export_register(&vmstate_fuse_driver);
#endif
}
