/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vCPU threads: run the CPU engine, sleep while the guest waits for an interrupt, stand
 * still while somebody holds them.
 *
 * One mutex guards all fields; it is a leaf, below the machine lock and the PLIC's, and no
 * thread executes guest code or touches guest RAM under it.  Who waits for the threads to
 * stand is a coroutine and yields; the last thread to stop wakes it.
 */
#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#include "system/cpus.h"
#include "util/aio.h"
#include "util/errno-text.h"
#include "util/thread-role.h"

typedef struct VCpu {
    CPUState *cpu;
    pthread_t thread;
    pthread_cond_t cond;
    int tid; /* 0 until the thread runs */
    bool halted, stopped;
} VCpu;

typedef struct StopWaiter {
    Coroutine *co;
    struct StopWaiter *next;
} StopWaiter;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t started = PTHREAD_COND_INITIALIZER;
static const CpuAccelOps *accel;
static VCpu vcpus[CPUS_MAX];
static int nr_vcpus;
static int holds = 1; /* until the machine is started, whether it has CPUs or not */
static bool quitting, stuck;
static void (*debug_stop)(void);
static StopWaiter *waiters;

static void set_irq(void *opaque, int bit, bool level)
{
    VCpu *v = opaque;

    if (v->cpu) {
        accel->set_irq(v->cpu, bit, level);
    }
}

IrqLine cpus_irq(int hart, int bit)
{
    g_assert(hart >= 0 && hart < CPUS_MAX);
    return (IrqLine){.set = set_irq, .opaque = &vcpus[hart], .n = bit};
}

/* The engine: a halted CPU should look again. */
static void wake(void *opaque)
{
    VCpu *v = opaque;

    pthread_mutex_lock(&lock);
    pthread_cond_signal(&v->cond);
    pthread_mutex_unlock(&lock);
}

static bool all_stopped(void)
{
    for (int i = 0; i < nr_vcpus; i++) {
        if (!vcpus[i].stopped) {
            return false;
        }
    }
    return true;
}

static void wake_waiters(void)
{
    while (waiters) {
        StopWaiter *w = waiters;

        waiters = w->next;
        aio_co_wake(w->co); /* w is on that coroutine's stack: gone from here on */
    }
}

static void sleep_until(VCpu *v, int64_t deadline_ns)
{
    struct timespec ts = {deadline_ns / 1000000000, deadline_ns % 1000000000};

    if (deadline_ns == INT64_MAX) {
        pthread_cond_wait(&v->cond, &lock);
    } else if (pthread_cond_timedwait(&v->cond, &lock, &ts) == ETIMEDOUT) {
        v->halted = false; /* the engine raises its own timer's interrupt */
    }
}

static void *vcpu_thread(void *opaque)
{
    VCpu *v = opaque;

    thread_set_role(THREAD_ROLE_GUEST);
    pthread_mutex_lock(&lock);
    v->tid = gettid();
    pthread_cond_broadcast(&started);
    while (!quitting) {
        if (holds) {
            v->stopped = true;
            if (all_stopped()) {
                wake_waiters();
            }
            pthread_cond_wait(&v->cond, &lock);
        } else if (v->halted && !accel->has_work(v->cpu)) {
            v->stopped = false;
            sleep_until(v, accel->next_deadline(v->cpu));
        } else {
            CpuExit reason;

            v->stopped = false;
            pthread_mutex_unlock(&lock);
            reason = accel->run(v->cpu);
            pthread_mutex_lock(&lock);
            v->halted = reason == CPU_EXIT_HALTED;
            if (reason == CPU_EXIT_DEBUG) {
                pthread_mutex_unlock(&lock);
                debug_stop();
                pthread_mutex_lock(&lock);
            }
        }
    }
    v->stopped = true;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static bool start_thread(VCpu *v, int index, GError **errp)
{
    g_autofree char *name = g_strdup_printf("CPU %d/%s", index, accel->name);
    pthread_condattr_t attr;
    int err;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&v->cond, &attr);
    pthread_condattr_destroy(&attr);
    err = pthread_create(&v->thread, NULL, vcpu_thread, v);
    if (err) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(err),
                    "Could not start the thread of CPU %d: %s", index, errno_text(err));
        return false;
    }
    pthread_setname_np(v->thread, name);
    pthread_mutex_lock(&lock);
    while (!v->tid) {
        pthread_cond_wait(&started, &lock);
    }
    pthread_mutex_unlock(&lock);
    return true;
}

bool cpus_init(const CpuAccelOps *ops, const CpuConfig *config, int n, GError **errp)
{
    g_assert(n <= CPUS_MAX && nr_vcpus == 0);
    accel = ops;
    for (int i = 0; i < n; i++) {
        CpuConfig c = *config;
        CPUState *cpu;

        c.index = i;
        cpu = accel->create(&c, errp);
        if (!cpu) {
            return false;
        }
        vcpus[i].cpu = cpu;
        accel->set_wake(cpu, wake, &vcpus[i]);
        if (!start_thread(&vcpus[i], i, errp)) {
            accel->destroy(cpu);
            vcpus[i].cpu = NULL;
            return false;
        }
        pthread_mutex_lock(&lock);
        nr_vcpus++;
        pthread_mutex_unlock(&lock);
    }
    return true;
}

void cpus_shutdown(void)
{
    pthread_mutex_lock(&lock);
    quitting = true;
    for (int i = 0; i < nr_vcpus; i++) {
        accel->kick(vcpus[i].cpu);
        pthread_cond_signal(&vcpus[i].cond);
    }
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < nr_vcpus; i++) {
        pthread_join(vcpus[i].thread, NULL);
    }
}

void cpus_register(VMStateRegistry *r)
{
    for (int i = 0; i < nr_vcpus; i++) {
        vmstate_register(r, "cpu", i, accel->vmsd, vcpus[i].cpu);
    }
}

void cpus_hold(void)
{
    pthread_mutex_lock(&lock);
    if (holds++ == 0) {
        for (int i = 0; i < nr_vcpus; i++) {
            accel->kick(vcpus[i].cpu);
            pthread_cond_signal(&vcpus[i].cond);
        }
    }
    pthread_mutex_unlock(&lock);
}

void cpus_release(void)
{
    pthread_mutex_lock(&lock);
    g_assert(holds > 0);
    if (--holds == 0) {
        for (int i = 0; i < nr_vcpus; i++) {
            vcpus[i].stopped = false;
            pthread_cond_signal(&vcpus[i].cond);
        }
    }
    pthread_mutex_unlock(&lock);
}

void coroutine_fn cpus_co_wait_stopped(void)
{
    StopWaiter w;

    pthread_mutex_lock(&lock);
    g_assert(holds > 0);
    if (all_stopped() || stuck) {
        pthread_mutex_unlock(&lock);
        return;
    }
    w.co = coroutine_self();
    w.next = waiters;
    waiters = &w;
    pthread_mutex_unlock(&lock);
    coroutine_yield();
}

void cpus_set_stuck(bool value)
{
    pthread_mutex_lock(&lock);
    stuck = value;
    if (stuck) {
        wake_waiters();
    }
    pthread_mutex_unlock(&lock);
}

bool cpus_stuck(void)
{
    bool value;

    pthread_mutex_lock(&lock);
    value = stuck;
    pthread_mutex_unlock(&lock);
    return value;
}

void cpus_reset(void)
{
    for (int i = 0; i < nr_vcpus; i++) {
        accel->reset(vcpus[i].cpu);
        vcpus[i].halted = false;
    }
}

void cpus_flush(void)
{
    for (int i = 0; i < nr_vcpus; i++) {
        accel->flush(vcpus[i].cpu);
        vcpus[i].halted = false;
    }
}

int cpus_count(void)
{
    return nr_vcpus;
}

int *cpus_tids(int *n)
{
    int *tids = g_new0(int, CPUS_MAX);

    pthread_mutex_lock(&lock);
    *n = nr_vcpus;
    for (int i = 0; i < nr_vcpus; i++) {
        tids[i] = vcpus[i].tid;
    }
    pthread_mutex_unlock(&lock);
    return tids;
}

bool coroutine_fn cpus_co_inspect(int index,
                                  void (*fn)(const CpuInspectOps *ops, CPUState *cpu,
                                             void *opaque),
                                  void *opaque)
{
    if (index < 0 || index >= nr_vcpus) {
        return false;
    }
    cpus_hold();
    cpus_co_wait_stopped();
    fn(accel->inspect, vcpus[index].cpu, opaque);
    cpus_release();
    return true;
}

const CpuInspectOps *cpus_inspect_ops(void)
{
    return nr_vcpus ? accel->inspect : NULL;
}

const CpuDebugOps *cpus_debug(CPUState **cpu, void (*stop)(void))
{
    if (nr_vcpus == 0 || !accel->debug) {
        return NULL;
    }
    debug_stop = stop;
    *cpu = vcpus[0].cpu;
    return accel->debug;
}

void cpus_unhalt(void)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < nr_vcpus; i++) {
        vcpus[i].halted = false;
    }
    pthread_mutex_unlock(&lock);
}

size_t cpus_recent_pages(uint64_t *pages, size_t max)
{
    size_t n = 0;

    for (int i = 0; i < nr_vcpus && accel->recent_pages; i++) {
        n += accel->recent_pages(vcpus[i].cpu, pages + n, (max - n) / (nr_vcpus - i));
    }
    return n;
}
