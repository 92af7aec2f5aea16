/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads firmware, kernel and initrd into guest RAM.  Files are hostile: everything an ELF
 * header says is checked against the file's size and the RAM's before it is used.
 *
 * Content is copied through a buffer, never read(2) into guest RAM: during a snapshot a
 * page may be one that only user space can make present.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "hw/riscv/boot.h"
#include "qapi/error.h"

enum { CHUNK = 256 * 1024, MAX_PROGRAM_HEADERS = 64 };

typedef struct Blob {
    char *name;        /* for messages */
    int fd;            /* -1: data */
    uint8_t *data;
    uint64_t offset;   /* in the file */
    uint64_t len;      /* bytes from there */
    uint64_t clear;    /* zero bytes behind them */
    uint64_t addr;
} Blob;

struct BootImages {
    AddressSpace *as;
    GPtrArray *blobs;
};

static void blob_free(void *opaque)
{
    Blob *b = opaque;

    if (b->fd >= 0) {
        close(b->fd);
    }
    g_free(b->name);
    g_free(b->data);
    g_free(b);
}

BootImages *boot_images_new(AddressSpace *as)
{
    BootImages *b = g_new0(BootImages, 1);

    b->as = as;
    b->blobs = g_ptr_array_new_with_free_func(blob_free);
    return b;
}

void boot_images_free(BootImages *b)
{
    g_ptr_array_unref(b->blobs);
    g_free(b);
}

static void add_blob(BootImages *b, const char *name, int fd, uint64_t offset, uint64_t len,
                     uint64_t clear, uint64_t addr)
{
    Blob *blob = g_new0(Blob, 1);

    *blob = (Blob){.name = g_strdup(name), .fd = dup(fd), .offset = offset, .len = len,
                   .clear = clear, .addr = addr};
    g_ptr_array_add(b->blobs, blob);
}

static int open_image(const char *what, const char *filename, uint64_t *size, GError **errp)
{
    int fd = open(filename, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        error_setg_errno(errp, errno, "could not load %s '%s'", what, filename);
    } else if (!S_ISREG(st.st_mode)) {
        error_setg(errp, "could not load %s '%s': not a regular file", what, filename);
    } else if (st.st_size == 0) {
        error_setg(errp, "could not load %s '%s': the file is empty", what, filename);
    } else {
        *size = st.st_size;
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

static bool fits(uint64_t addr, uint64_t len, uint64_t limit)
{
    return addr <= limit && len <= limit - addr;
}

static bool read_at(int fd, void *buf, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(fd, (char *)buf + done, len - done, offset + done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        done += n;
    }
    return true;
}

/* Where one loadable segment goes; false and errp if it cannot. */
static bool check_segment(const Elf64_Phdr *ph, uint64_t size, BootImages *b, GError **errp)
{
    if (ph->p_filesz > ph->p_memsz || !fits(ph->p_offset, ph->p_filesz, size)) {
        error_setg(errp, "segment lies outside of the file");
        return false;
    }
    if (!address_space_map(b->as, ph->p_paddr, ph->p_memsz, true)) {
        error_setg(errp, "segment at 0x%" PRIx64 ", %" PRIu64 " bytes, is outside of RAM",
                   (uint64_t)ph->p_paddr, (uint64_t)ph->p_memsz);
        return false;
    }
    return true;
}

static bool add_elf(BootImages *b, const char *filename, int fd, uint64_t size,
                    BootPlace *place, GError **errp)
{
    g_autofree Elf64_Phdr *ph = NULL;
    Elf64_Ehdr eh;

    if (size < sizeof(eh) || !read_at(fd, &eh, sizeof(eh), 0)) {
        error_setg(errp, "ELF header is cut short");
        return false;
    }
    if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_ident[EI_DATA] != ELFDATA2LSB ||
        GUINT16_FROM_LE(eh.e_machine) != EM_RISCV) {
        error_setg(errp, "not a 64-bit little endian RISC-V executable");
        return false;
    }
    /* from here on fields are used as they are: Keyframe's hosts are little endian */
    if (eh.e_phentsize != sizeof(*ph) || eh.e_phnum == 0 || eh.e_phnum > MAX_PROGRAM_HEADERS ||
        !fits(eh.e_phoff, (uint64_t)eh.e_phnum * sizeof(*ph), size)) {
        error_setg(errp, "ELF program headers are damaged");
        return false;
    }
    ph = g_new(Elf64_Phdr, eh.e_phnum);
    if (!read_at(fd, ph, eh.e_phnum * sizeof(*ph), eh.e_phoff)) {
        error_setg(errp, "ELF program headers cannot be read");
        return false;
    }
    *place = (BootPlace){.start = UINT64_MAX, .entry = eh.e_entry};
    for (int i = 0; i < eh.e_phnum; i++) {
        g_autofree char *name = NULL;

        if (ph[i].p_type != PT_LOAD || ph[i].p_memsz == 0) {
            continue;
        }
        if (!check_segment(&ph[i], size, b, errp)) {
            return false;
        }
        name = g_strdup_printf("%s ELF program header segment %d", filename, i);
        add_blob(b, name, fd, ph[i].p_offset, ph[i].p_filesz, ph[i].p_memsz - ph[i].p_filesz,
                 ph[i].p_paddr);
        place->start = MIN(place->start, ph[i].p_paddr);
        place->end = MAX(place->end, ph[i].p_paddr + ph[i].p_memsz);
        /* an entry point is virtual, the CPU starts without translation */
        if (eh.e_entry >= ph[i].p_vaddr && eh.e_entry - ph[i].p_vaddr < ph[i].p_memsz) {
            place->entry = eh.e_entry - ph[i].p_vaddr + ph[i].p_paddr;
        }
    }
    if (place->end == 0) {
        error_setg(errp, "ELF file has nothing to load");
        return false;
    }
    return true;
}

static bool add_raw(BootImages *b, const char *filename, int fd, uint64_t size, uint64_t addr,
                    uint64_t limit, BootPlace *place, GError **errp)
{
    if (!fits(addr, size, limit)) {
        error_setg(errp, "%" PRIu64 " bytes at 0x%" PRIx64 " do not fit into RAM", size, addr);
        return false;
    }
    add_blob(b, filename, fd, 0, size, 0, addr);
    *place = (BootPlace){addr, addr + size, addr};
    return true;
}

/* Formats that would be executed as they are, and would not do anything sensible. */
static bool refuse_packed(const uint8_t *magic, GError **errp)
{
    if (magic[0] == 0x1f && magic[1] == 0x8b) {
        error_setg(errp, "the file is compressed with gzip; unpack it first");
        return false;
    }
    if (!memcmp(magic, "\x27\x05\x19\x56", 4)) {
        error_setg(errp, "U-Boot's legacy images are not supported");
        return false;
    }
    return true;
}

bool boot_images_add_program(BootImages *b, const char *what, const char *filename,
                             uint64_t addr, uint64_t limit, BootPlace *place, GError **errp)
{
    guint blobs = b->blobs->len;
    uint8_t header[64] = {0};
    uint64_t size;
    int fd = open_image(what, filename, &size, errp);
    GError *err = NULL;
    bool ok;

    if (fd < 0) {
        return false;
    }
    if (!read_at(fd, header, MIN(size, sizeof(header)), 0)) {
        error_setg(&err, "the file cannot be read");
        ok = false;
    } else if (!memcmp(header, ELFMAG, SELFMAG)) {
        ok = add_elf(b, filename, fd, size, place, &err);
    } else {
        ok = refuse_packed(header, &err) &&
             add_raw(b, filename, fd, size, addr, limit, place, &err);
    }
    /* a Linux Image (Documentation/riscv/boot-image-header) tells how much it will use */
    if (ok && !memcmp(header + 0x38, "RSC\x05", 4)) {
        uint64_t image_size;

        memcpy(&image_size, header + 16, 8);
        image_size = GUINT64_FROM_LE(image_size);
        if (!fits(addr, image_size, limit)) {
            error_setg(&err, "it needs %" PRIu64 " bytes of RAM at 0x%" PRIx64, image_size,
                       addr);
            ok = false;
        } else {
            place->end = MAX(place->end, addr + image_size);
        }
    }
    close(fd);
    if (!ok) {
        error_setg(errp, "could not load %s '%s': %s", what, filename, err->message);
        g_error_free(err);
        g_ptr_array_set_size(b->blobs, blobs);
    }
    return ok;
}

bool boot_images_add_file(BootImages *b, const char *what, const char *filename, uint64_t addr,
                          uint64_t limit, BootPlace *place, GError **errp)
{
    uint64_t size;
    int fd = open_image(what, filename, &size, errp);
    GError *err = NULL;
    bool ok;

    if (fd < 0) {
        return false;
    }
    ok = add_raw(b, filename, fd, size, addr, limit, place, &err);
    close(fd);
    if (!ok) {
        error_setg(errp, "could not load %s '%s': %s", what, filename, err->message);
        g_error_free(err);
    }
    return ok;
}

void boot_images_add_data(BootImages *b, const void *data, size_t len, uint64_t addr)
{
    Blob *blob = g_new0(Blob, 1);

    *blob = (Blob){.fd = -1, .data = g_memdup2(data, len), .len = len, .addr = addr};
    g_ptr_array_add(b->blobs, blob);
}

bool boot_images_get(const BootImages *b, unsigned i, const char **name, uint64_t *addr,
                     uint64_t *size)
{
    const Blob *blob;

    if (i >= b->blobs->len) {
        return false;
    }
    blob = b->blobs->pdata[i];
    *name = blob->name;
    *addr = blob->addr;
    *size = blob->len + blob->clear;
    return true;
}

static bool load_blob(AddressSpace *as, const Blob *blob, uint8_t *buf, GError **errp)
{
    uint64_t done = 0;

    while (done < blob->len) {
        uint64_t n = MIN(CHUNK, blob->len - done);

        if (blob->fd < 0) {
            memcpy(buf, blob->data + done, n);
        } else if (!read_at(blob->fd, buf, n, blob->offset + done)) {
            error_setg(errp, "could not load '%s': the file has become shorter", blob->name);
            return false;
        }
        address_space_write(as, blob->addr + done, buf, n);
        done += n;
    }
    memset(buf, 0, CHUNK);
    for (done = 0; done < blob->clear; done += MIN(CHUNK, blob->clear - done)) {
        address_space_write(as, blob->addr + blob->len + done, buf,
                            MIN(CHUNK, blob->clear - done));
    }
    return true;
}

bool boot_images_load(BootImages *b, GError **errp)
{
    g_autofree uint8_t *buf = g_malloc(CHUNK);

    for (guint i = 0; i < b->blobs->len; i++) {
        if (!load_blob(b->as, b->blobs->pdata[i], buf, errp)) {
            return false;
        }
    }
    return true;
}

char *boot_find_firmware(const char *name, const char *const *dirs, GError **errp)
{
    static const char *const standard[] = {
        "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
        "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
        "/usr/share/opensbi/lp64/generic/firmware/fw_dynamic.bin",
    };

    if (name && g_file_test(name, G_FILE_TEST_EXISTS)) {
        return g_strdup(name);
    }
    for (; dirs && *dirs; dirs++) {
        g_autofree char *path =
            g_build_filename(*dirs, name ? name : "opensbi-riscv64-generic-fw_dynamic.bin", NULL);

        if (g_file_test(path, G_FILE_TEST_EXISTS)) {
            return g_steal_pointer(&path);
        }
    }
    for (size_t i = 0; !name && i < G_N_ELEMENTS(standard); i++) {
        if (g_file_test(standard[i], G_FILE_TEST_EXISTS)) {
            return g_strdup(standard[i]);
        }
    }
    if (name) {
        g_autofree char *path = g_build_filename("/usr/share/qemu", name, NULL);

        if (g_file_test(path, G_FILE_TEST_EXISTS)) {
            return g_steal_pointer(&path);
        }
        error_setg(errp, "Unable to load the RISC-V firmware \"%s\"", name);
    } else {
        error_setg(errp, "Unable to find OpenSBI (Debian package opensbi); "
                         "name a firmware with -bios");
    }
    return NULL;
}
