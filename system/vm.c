/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual machine: puts RAM, CPUs, board and disks together, shows them to migration/ as
 * a Machine, and takes everything apart again.  Main thread; MachineOps as their contract
 * says.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include "accel/accel.h"
#include "block/active.h"
#include "block/export.h"
#include "hw/machine-lock.h"
#include "hw/vm-clock.h"
#include "migration/machine.h"
#include "migration/migrate.h"
#include "net/net.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-machine.h"
#include "util/errno-text.h"
#include "qom.h"
#include "system-int.h"
#include "system/cpus.h"
#include "system/run-state.h"
#include "util/co-lock.h"
#include "util/iothreads.h"

#define RAM_ALIGN (UINT64_C(2) << 20)

typedef struct Vm {
    const VmOptions *options;
    VirtMachine *board; /* NULL: machine 'none' */
    RAMBlock ram;
    uint8_t *ram_map; /* with room for the alignment */
    size_t ram_map_size;
    VMStateRegistry *vmstate;
    Machine machine;
    CoMutex devices;
    bool has_run; /* the guest, in this process */
    const char *first_guid; /* what -device vmgenid says, or NULL */
} Vm;

static Vm vm;

void vm_set_options(const VmOptions *o)
{
    vm.options = o;
}

const VmOptions *vm_options(void)
{
    return vm.options;
}

uint64_t vm_ram_size(void)
{
    return vm.options->machine == MACHINE_TYPE_VIRT ? vm.options->ram_size : 0;
}

const char *vm_ram_id(void)
{
    const MachineOptions *m = vm.options->given->machine;

    return m && m->memory_backend ? m->memory_backend : VM_RAM_ID;
}

bool vm_slot_is_taken(int slot)
{
    return virt_slot_device(vm.board, slot) != NULL;
}

VirtMachine *vm_board(void)
{
    return vm.board;
}

/* --- RAM ---------------------------------------------------------------------------------- */

static bool make_ram(const VmOptions *o, GError **errp)
{
    uint64_t size = o->ram_size;
    uintptr_t start;

    vm.ram_map_size = size + RAM_ALIGN;
    vm.ram_map = mmap(NULL, vm.ram_map_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (vm.ram_map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot set up guest memory '" VM_RAM_ID "'");
        return false;
    }
    start = ((uintptr_t)vm.ram_map + RAM_ALIGN - 1) & ~(RAM_ALIGN - 1);
    g_strlcpy(vm.ram.idstr, VM_RAM_ID, sizeof(vm.ram.idstr));
    vm.ram.host = (uint8_t *)start;
    vm.ram.size = size;
    vm.ram.guest_addr = VIRT_RAM_BASE;
    /* huge pages make write protection of all RAM a matter of microseconds */
    madvise(vm.ram.host, size, MADV_HUGEPAGE);
    madvise(vm.ram.host, size, MADV_DONTFORK);
    if (o->no_core) {
        madvise(vm.ram.host, size, MADV_DONTDUMP);
    }
    if (o->prealloc && madvise(vm.ram.host, size, MADV_POPULATE_WRITE)) {
        error_setg_errno(errp, errno, "cannot preallocate guest memory '" VM_RAM_ID "'");
        return false;
    }
    if (o->mem_merge && madvise(vm.ram.host, size, MADV_MERGEABLE)) {
        g_printerr("%s: warning: -machine mem-merge=on: %s\n", g_get_prgname(),
                   errno_text(errno));
    }
    return true;
}

void coroutine_fn vm_co_lock_devices(void)
{
    co_mutex_lock(&vm.devices);
}

void coroutine_fn vm_co_unlock_devices(void)
{
    co_mutex_unlock(&vm.devices);
}

/* --- Reset ---------------------------------------------------------------------------------- */

static void stopped(void *opaque)
{
    aio_co_wake(opaque);
}

/* Waits until no device works for the guest any more. */
static void coroutine_fn stop_virtio(void)
{
    for (int i = 0; i < VIRT_VIRTIO_SLOTS; i++) {
        VirtIODevice *vdev = virt_slot_device(vm.board, i);

        if (vdev) {
            vdev->ops->stop(vdev, stopped, coroutine_self());
            coroutine_yield();
        }
    }
}

static int load_images(void *opaque)
{
    return virt_load_images(vm.board, opaque) ? 0 : -EIO;
}

static void reset_devices(void *opaque)
{
    if (vm.board) {
        vm.has_run = vm.has_run || vm_clock_ns() > 0;
        virt_reset_devices(vm.board);
        cpus_reset();
    }
}

/* May wait for files, and for pages that a snapshot is still reading. */
static bool coroutine_fn co_load_images(GError **errp)
{
    GError *err = NULL;

    if (co_run_in_worker(load_images, &err) < 0) {
        g_propagate_error(errp, err);
        return false;
    }
    return true;
}

bool coroutine_fn vm_co_reset(GError **errp)
{
    bool ok;

    if (!vm.board) {
        return true;
    }
    vm_co_lock_devices();
    stop_virtio();
    ok = co_load_images(errp);
    if (ok) {
        machine_lock();
        reset_devices(NULL);
        cpus_flush();
        machine_unlock();
    }
    vm_co_unlock_devices();
    return ok;
}

/* --- The guest's finisher: vCPU thread, machine lock --------------------------------------- */

static void guest_shutdown(void *opaque, int code)
{
    run_state_request_shutdown(SHUTDOWN_CAUSE_GUEST_SHUTDOWN, code);
}

static void guest_reset(void *opaque)
{
    run_state_request_guest_reset();
}

static const SifiveTestOps finisher_ops = {
    .shutdown = guest_shutdown,
    .reset = guest_reset,
};

/* --- MachineOps ------------------------------------------------------------------------------ */

static bool coroutine_fn op_park(void *opaque, bool for_load)
{
    return run_state_co_park(for_load);
}

static void op_unpark(void *opaque, bool running)
{
    run_state_unpark(running);
}

static void op_lock(void *opaque)
{
    machine_lock();
}

static void op_unlock(void *opaque)
{
    machine_unlock();
}

static void op_state_loaded(void *opaque)
{
    cpus_flush();
}

/* The ID that -device vmgenid,guid= gives; a random one for "auto". */
static bool make_generation_id(const char *guid, uint8_t id[VMGENID_SIZE], GError **errp)
{
    if (!guid || !strcmp(guid, "auto")) {
        if (getrandom(id, VMGENID_SIZE, 0) != VMGENID_SIZE) {
            error_setg_errno(errp, errno, "no random number for the VM generation ID");
            return false;
        }
        id[6] = (id[6] & 0x0f) | 0x40; /* RFC 4122, 4.4: version 4 */
        id[8] = (id[8] & 0x3f) | 0x80;
        return true;
    }
    if (!g_uuid_string_is_valid(guid)) {
        error_setg(errp, "'%s' is not a UUID, nor \"auto\"", guid);
        return false;
    }
    for (int i = 0; i < VMGENID_SIZE; i++) {
        guid += *guid == '-';
        id[i] = g_ascii_xdigit_value(guid[0]) << 4 | g_ascii_xdigit_value(guid[1]);
        guid += 2;
    }
    return true;
}

/* The option that makes the device, NULL if there is none; false and errp if there are two. */
static bool find_vmgenid(const VmOptions *o, const DeviceOption **option, GError **errp)
{
    *option = NULL;
    for (guint i = 0; i < o->devices->len; i++) {
        const DeviceOption *d = o->devices->pdata[i];

        if (d->device->driver != DEVICE_DRIVER_VMGENID) {
            continue;
        }
        if (*option) {
            error_setg(errp, "%s: At most one vmgenid device is permitted", d->text);
            return false;
        }
        *option = d;
    }
    return true;
}

char *vm_generation_id(void)
{
    VmGenId *device = vm.board ? virt_vmgenid(vm.board) : NULL;
    GString *text = g_string_new(NULL);

    if (!device) {
        g_string_free(text, true);
        return NULL;
    }
    machine_lock();
    for (int i = 0; i < VMGENID_SIZE; i++) {
        g_string_append_printf(text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                               vmgenid_get(device)[i]);
    }
    machine_unlock();
    return g_string_free(text, false);
}

/*
 * Another past: what the guest has taken for unique may now be there twice.  Who starts a
 * machine from a snapshot says with guid= which ID it shall have.
 */
static void new_generation(void)
{
    VmGenId *device = virt_vmgenid(vm.board);
    uint8_t id[VMGENID_SIZE];
    g_autoptr(GError) err = NULL;

    if (!device) {
        return;
    }
    if (make_generation_id(vm.has_run ? NULL : vm.first_guid, id, &err)) {
        vmgenid_change(device, id);
    } else {
        g_printerr("%s: warning: %s; it stays as it was\n", g_get_prgname(), err->message);
    }
    vm.has_run = true;
}

static void op_load_ended(void *opaque, bool loaded, bool from_snapshot)
{
    if (vm.board) {
        virt_load_ended(vm.board, loaded);
    }
    net_load_ended(loaded);
    if (loaded) {
        run_state_loaded();
    }
    if (vm.board && loaded && from_snapshot) {
        new_generation();
    }
}

static bool coroutine_fn op_load_settle(void *opaque, GError **errp)
{
    return !vm.board || virt_co_settle_flash(vm.board, errp);
}

static void op_ram_read_error(void *opaque, const char *message)
{
    run_state_ram_error(message);
}

static int64_t op_clock_ns(void *opaque)
{
    return vm_clock_ns();
}

static RunState op_run_state(void *opaque)
{
    return run_state();
}

static bool coroutine_fn op_park_migrate(void *opaque)
{
    return run_state_co_park_migrate();
}

static void op_unpark_migrated(void *opaque)
{
    run_state_unpark_migrated();
}

static void op_incoming_loaded(void *opaque, bool may_run)
{
    run_state_incoming_loaded(may_run);
}

static void op_quit(void *opaque, int exit_code)
{
    run_state_request_shutdown(SHUTDOWN_CAUSE_HOST_ERROR, exit_code);
}

static int *op_vcpu_tids(void *opaque, int *n)
{
    return cpus_tids(n);
}

static size_t op_hot_pages(void *opaque, uint64_t *pages, size_t max)
{
    return cpus_recent_pages(pages, max);
}

static const MachineOps machine_ops = {
    .park = op_park,
    .unpark = op_unpark,
    .lock = op_lock,
    .unlock = op_unlock,
    .reset_devices = reset_devices,
    .state_loaded = op_state_loaded,
    .load_ended = op_load_ended,
    .load_settle = op_load_settle,
    .ram_read_error = op_ram_read_error,
    .clock_ns = op_clock_ns,
    .run_state = op_run_state,
    .park_migrate = op_park_migrate,
    .unpark_migrated = op_unpark_migrated,
    .incoming_loaded = op_incoming_loaded,
    .quit = op_quit,
    .vcpu_tids = op_vcpu_tids,
    .hot_pages = op_hot_pages,
};

/* --- Life -------------------------------------------------------------------------------------- */

static bool make_board(const VmOptions *o, Chardev *serial, GError **errp)
{
    const DeviceOption *genid;
    uint8_t id[VMGENID_SIZE];
    VirtConfig c = {
        .nr_cpus = 1,
        .isa = rv64_isa_string(),
        .ram = vm.ram.host,
        .ram_size = vm.ram.size,
        .bios = o->bios,
        .data_dirs = (const char *const *)o->data_dirs->pdata,
        .kernel = o->kernel,
        .initrd = o->initrd,
        .append = o->append,
        .dtb = o->dtb,
        .serial = serial,
        .flash_keep = o->pflash_in_state,
        .finisher = &finisher_ops,
    };
    CpuConfig cpu = {
        .reset_pc = VIRT_ROM_BASE,
        .timebase_hz = VIRT_TIMEBASE_HZ,
        .lock = op_lock,
        .unlock = op_unlock,
    };

    for (int i = 0; i < c.nr_cpus; i++) {
        c.cpu[i] = (VirtCpuWires){.msip = cpus_irq(i, 3), .mtip = cpus_irq(i, 7),
                                  .seip = cpus_irq(i, 9), .meip = cpus_irq(i, 11)};
    }
    if (!find_vmgenid(o, &genid, errp)) {
        return false;
    }
    if (genid) {
        vm.first_guid = genid->device->u.vmgenid.guid;
        if (!make_generation_id(vm.first_guid, id, errp)) {
            g_prefix_error(errp, "%s: ", genid->text);
            return false;
        }
        c.vmgenid = id;
    }
    if (!disks_flash(o, c.flash, errp)) {
        return false;
    }
    vm.board = virt_new(&c, errp);
    if (!vm.board) {
        return false;
    }
    if (genid) {
        qom_add_device("vmgenid", genid->device->id, NULL,
                       qapi_VmgenidDeviceOptions_to_json(&genid->device->u.vmgenid));
    }
    cpu.as = virt_address_space(vm.board);
    return cpus_init(&rv64_accel_ops, &cpu, c.nr_cpus, errp);
}

typedef struct CreateArgs {
    const VmOptions *o;
    GError *err;
    bool ok;
} CreateArgs;

static void coroutine_fn open_entry(void *opaque)
{
    CreateArgs *a = opaque;

    a->ok = disks_co_open(a->o, &a->err) && nics_co_open(a->o, &a->err);
}

static void coroutine_fn flash_entry(void *opaque)
{
    CreateArgs *a = opaque;

    a->ok = virt_co_open_flash(vm.board, &a->err);
}

static void coroutine_fn plug_entry(void *opaque)
{
    CreateArgs *a = opaque;

    a->ok = disks_co_plug(a->o, vm.board, vm.vmstate, &a->err) &&
            nics_co_plug_all(a->o, vm.board, vm.vmstate, &a->err);
}

static void coroutine_fn check_entry(void *opaque)
{
    nics_co_check();
}

static bool run_step(CoroutineEntry *entry, const VmOptions *o, GError **errp)
{
    CreateArgs a = {.o = o};

    aio_co_run_sync(main_aio_context(), entry, &a);
    if (!a.ok) {
        g_propagate_error(errp, a.err);
    }
    return a.ok;
}

/* The order of registration is the order of loading: clock, CPUs, controllers, devices. */
bool vm_create(Chardev *serial, GError **errp)
{
    const VmOptions *o = vm.options;
    bool shares_disks;

    co_mutex_init(&vm.devices);
    if (o->incoming) {
        if (!migrate_incoming_check(o->incoming, &shares_disks, errp)) {
            g_prefix_error(errp, "-incoming %s: ", o->incoming);
            return false;
        }
        bdrv_set_open_inactive(shares_disks);
    }
    vm.vmstate = vmstate_registry_new();
    vm_clock_register(vm.vmstate);
    if (o->accel_qtest) {
        cpus_hold(); /* for good: nothing is executed */
        machine_lock();
        vm_clock_set_by_hand();
        machine_unlock();
    }
    if (!run_step(open_entry, o, errp)) {
        return false;
    }
    if (o->machine == MACHINE_TYPE_VIRT) {
        if (!make_ram(o, errp) || !make_board(o, serial, errp)) {
            return false;
        }
        cpus_register(vm.vmstate);
        virt_register(vm.board, vm.vmstate);
        if (!run_step(flash_entry, o, errp) || !run_step(plug_entry, o, errp)) {
            return false;
        }
        virt_register_slots(vm.board, vm.vmstate);
    }
    aio_co_run_sync(main_aio_context(), check_entry, NULL);
    migrate_register(vm.vmstate);
    vm.machine = (Machine){
        .ops = &machine_ops,
        .machine_type = MachineType_str(o->machine),
        .vmstate = vm.vmstate,
        .ram = &vm.ram,
        .nr_ram = vm.board ? 1 : 0,
        .job_mutex = vm_job_mutex_new(),
        .track_ram = !o->no_snapshot_tracking,
        .snapshot_context = iothreads_snapshot_context,
    };
    if (vm.board) {
        ram_hot_register(&vm.machine);
    }
    machine_register(&vm.machine);
    return true;
}

static bool coroutine_fn co_first_images(GError **errp)
{
    return !vm.board || co_load_images(errp);
}

bool coroutine_fn vm_co_start(GError **errp)
{
    bool start = !vm.options->start_stopped;

    if (vm.options->incoming) {
        run_state_set_incoming(start, RUN_STATE_PAUSED);
        return run_state_co_prepare(co_first_images, false, errp) &&
               migrate_incoming_begin(vm.options->incoming, errp);
    }
    if (!vm.options->loadvm) {
        return run_state_co_prepare(co_first_images, start, errp);
    }
    run_state_set_incoming(start, RUN_STATE_PRELAUNCH);
    if (!run_state_co_prepare(co_first_images, false, errp)) {
        return false;
    }
    if (!machine_co_loadvm(vm.options->loadvm, errp)) {
        g_prefix_error(errp, "-loadvm %s: ", vm.options->loadvm);
        return false;
    }
    return true;
}

/*
 * The vCPUs and the disks may need pages that a load has not brought yet, so they come to
 * rest before it is given up.  A vCPU that waits for a page which cannot be read never will.
 */
static void coroutine_fn cancel_entry(void *opaque)
{
    bool rest;

    cpus_co_wait_stopped();
    rest = vm.board && !cpus_stuck();
    if (rest) {
        vm_co_lock_devices();
        stop_virtio();
    }
    __atomic_store_n(&vm.machine.ending, true, __ATOMIC_SEQ_CST);
    job_co_cancel_all();
    guest_read_co_end();
    if (rest) {
        vm_co_unlock_devices();
    }
}

static void coroutine_fn close_entry(void *opaque)
{
    if (vm.board) {
        virt_co_stop_flash(vm.board);
    }
    block_export_co_remove_all();
    disks_co_close();
    nics_co_close();
}

AddressSpace *vm_address_space(void)
{
    return vm.board ? virt_address_space(vm.board) : NULL;
}

const void *vm_fdt(size_t *size)
{
    return virt_fdt(vm.board, size);
}

void vm_destroy(void)
{
    aio_co_run_sync(main_aio_context(), cancel_entry, NULL); /* it may need the vCPUs */
    cpus_shutdown();
    aio_co_run_sync(main_aio_context(), close_entry, NULL);
    net_cleanup();
    iothreads_cleanup();
    qom_cleanup();
    if (vm.board) {
        virt_free(vm.board);
    }
    if (vm.ram_map && vm.ram_map != MAP_FAILED) {
        munmap(vm.ram_map, vm.ram_map_size);
    }
}
