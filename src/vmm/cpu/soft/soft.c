/* soft: the table of the software CPU, and the making of its objects. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <x86intrin.h>

#include "base/mem.h"
#include "vmm/cpu/soft/cache.h"
#include "vmm/cpu/soft/kept.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/native.h"
#include "vmm/cpu/soft/native_fault.h"
#include "vmm/cpu/soft/run.h"
#include "vmm/cpu/soft/state.h"
#include "vmm/cpu/soft/zydis.h"

static struct soft_vm *vm_of(struct cpu_vm *vm)
{
	return container_of(vm, struct soft_vm, vm);
}

static struct soft *cpu_of(struct vcpu *vcpu)
{
	return container_of(vcpu, struct soft, vcpu);
}

/* Without the guest's help the rate can only be measured: 10 ms give it to a few parts in a million. */
static uint32_t measure_tsc_khz(void)
{
	struct timespec start, now;
	uint64_t first, last, ns;

	clock_gettime(CLOCK_MONOTONIC_RAW, &start);
	first = __rdtsc();
	do {
		clock_gettime(CLOCK_MONOTONIC_RAW, &now);
		last = __rdtsc();
		ns = (uint64_t)(now.tv_sec - start.tv_sec) * 1000000000u + (uint64_t)now.tv_nsec -
		     (uint64_t)start.tv_nsec;
	} while (ns < 10000000);
	return (uint32_t)((last - first) * 1000000 / ns);
}

/* One word or bit per page; untouched pages of it cost nothing. */
static void *map_table(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static uint64_t pages_of(const struct soft_region *r)
{
	return r->region.size >> SOFT_PAGE_BITS;
}

static size_t dirty_size(const struct soft_region *r)
{
	return (pages_of(r) + 63) / 64 * 8;
}

static void drop_regions(struct soft_vm *vm)
{
	for (unsigned int i = 0; i < vm->region_count; i++) {
		struct soft_region *r = &vm->regions[i];

		if (r->coded)
			munmap((void *)(uintptr_t)r->coded, pages_of(r) * 8);
		if (r->dirty)
			munmap((void *)(uintptr_t)r->dirty, dirty_size(r));
	}
	vm->region_count = 0;
}

static int soft_set_memory(struct cpu_vm *cpu_vm, const struct cpu_region *regions,
			   unsigned int count)
{
	struct soft_vm *vm = vm_of(cpu_vm);

	if (count > CPU_REGIONS_MAX)
		return -EINVAL;
	drop_regions(vm);
	for (unsigned int i = 0; i < count; i++) {
		struct soft_region *r = &vm->regions[i];

		*r = (struct soft_region){.region = regions[i]};
		vm->region_count = i + 1;
		r->coded = map_table(pages_of(r) * 8);
		if (!r->coded)
			return -ENOMEM;
	}
	for (unsigned int i = 0; i < vm->vcpus; i++) {
		struct soft *c = vm->cpus[i];

		if (!c)
			continue;
		cache_flush(c);
		soft_flush_tlb(c);
	}
	return 0;
}

static void soft_close(struct cpu_vm *cpu_vm)
{
	struct soft_vm *vm = vm_of(cpu_vm);

	drop_regions(vm);
	kept_close(vm->kept);
	pthread_mutex_destroy(&vm->split_lock);
	free(vm);
}

static int soft_load_code(struct cpu_vm *cpu_vm, int fd, struct error *err)
{
	struct soft_vm *vm = vm_of(cpu_vm);

	return vm->kept ? -EALREADY : kept_open(fd, &vm->kept, err);
}

static int soft_save_code(struct cpu_vm *cpu_vm, int fd, struct error *err)
{
	return kept_save(vm_of(cpu_vm), fd, err);
}

static int soft_open(const struct cpu_vm_config *config, struct cpu_vm **ret_vm, struct error *err)
{
	struct soft_vm *vm;
	int rc = zydis_load(err);

	if (rc == 0)
		rc = native_fault_install(err);
	if (rc < 0)
		return fail(err, rc, "start the software CPU");
	if (config->vcpus == 0 || config->vcpus > CPU_VCPUS_MAX)
		return refuse(err, -EINVAL, "a machine has 1 to %d CPUs, not %u", CPU_VCPUS_MAX,
			      config->vcpus);
	vm = mem_new(sizeof(*vm));
	pthread_mutex_init(&vm->split_lock, NULL);
	vm->vm.accel = &cpu_accel_soft;
	vm->vm.client = config->client;
	vm->vm.tsc_khz = config->tsc_khz ? config->tsc_khz : measure_tsc_khz();
	vm->vcpus = config->vcpus;
	rc = soft_set_memory(&vm->vm, config->regions, config->region_count);
	if (rc < 0) {
		soft_close(&vm->vm);
		return fail(err, rc, "set up %u memory regions", config->region_count);
	}
	*ret_vm = &vm->vm;
	return 0;
}

static void soft_written(struct cpu_vm *vm, gpa_t gpa, uint64_t size)
{
	cache_written_by_device(vm_of(vm), gpa, size);
}

/* The write tags of a region leave all TLBs: the next write to a page is seen again. */
static void watch_writes(struct soft_vm *vm)
{
	for (unsigned int v = 0; v < vm->vcpus; v++) {
		struct soft *c = vm->cpus[v];

		for (unsigned int t = 0; c && t < TLBS; t++) {
			for (unsigned int i = 0; i < SOFT_TLB_SIZE; i++)
				c->tlbs[t][i].write = TAG_NONE;
		}
	}
}

static int soft_dirty(struct cpu_vm *cpu_vm, unsigned int region, uint64_t *ret_bitmap)
{
	struct soft_vm *vm = vm_of(cpu_vm);
	struct soft_region *r = &vm->regions[region];
	uint64_t words;

	if (region >= vm->region_count)
		return -EINVAL;
	words = dirty_size(r) / 8;
	if (!ret_bitmap) {
		if (r->dirty)
			munmap((void *)(uintptr_t)r->dirty, dirty_size(r));
		r->dirty = NULL;
		return 0;
	}
	if (!r->dirty) {
		r->dirty = map_table(dirty_size(r));
		if (!r->dirty)
			return -ENOMEM;
		memset(ret_bitmap, 0xff, words * 8);
	} else {
		for (uint64_t i = 0; i < words; i++)
			ret_bitmap[i] = atomic_exchange(&r->dirty[i], 0);
	}
	watch_writes(vm);
	return 0;
}

static void soft_destroy(struct vcpu *vcpu)
{
	struct soft *c = cpu_of(vcpu);

	c->vm->cpus[vcpu->index] = NULL;
	cache_destroy(c->cache);
	pthread_mutex_destroy(&c->drops_lock);
	munmap(c, sizeof(*c));
}

static int soft_create(struct cpu_vm *cpu_vm, unsigned int index, struct vcpu **ret_vcpu,
		       struct error *err)
{
	struct soft_vm *vm = vm_of(cpu_vm);
	struct soft *c;
	int rc;

	if (index >= vm->vcpus)
		return refuse(err, -EINVAL, "CPU %u of %u", index, vm->vcpus);
	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c == MAP_FAILED)
		return fail(err, -errno, "allocate CPU %u", index);
	rc = cache_create(&c->cache, err);
	if (rc < 0) {
		munmap(c, sizeof(*c));
		return fail(err, rc, "make CPU %u", index);
	}
	pthread_mutex_init(&c->drops_lock, NULL);
	native_bind(c);
	c->vm = vm;
	c->vcpu.vm = cpu_vm;
	c->vcpu.index = index;
	c->apic_base = 0xfee00800 | (index == 0 ? 0x100 : 0);
	c->tlbs_used = (uint8_t)((1u << TLBS) - 1); /* zero is a tag, too */
	soft_reset(c, false);
	c->activity = index == 0 ? CPU_RUNNABLE : CPU_WAITS_FOR_STARTUP;
	vm->cpus[index] = c;
	*ret_vcpu = &c->vcpu;
	return 0;
}

static void soft_request_vcpu(struct vcpu *vcpu, enum cpu_request request, unsigned int argument)
{
	static const uint32_t bits[] = {
		[CPU_REQUEST_KICK] = REQUEST_KICK,
		[CPU_REQUEST_INTERRUPT] = REQUEST_INTERRUPT,
		[CPU_REQUEST_NMI] = REQUEST_NMI,
		[CPU_REQUEST_INIT] = REQUEST_INIT,
		[CPU_REQUEST_STARTUP] = REQUEST_STARTUP,
		[CPU_REQUEST_FLUSH] = REQUEST_FLUSH,
	};
	struct soft *c = cpu_of(vcpu);

	if (request == CPU_REQUEST_NMI)
		atomic_fetch_add(&c->nmis, 1);
	if (request == CPU_REQUEST_STARTUP)
		c->startup_vector = (uint8_t)argument;
	soft_request(c, bits[request]);
}

const struct cpu_accel cpu_accel_soft = {
	.name = "soft",
	.open = soft_open,
	.close = soft_close,
	.set_memory = soft_set_memory,
	.written = soft_written,
	.dirty = soft_dirty,
	.create = soft_create,
	.destroy = soft_destroy,
	.run = soft_run,
	.request = soft_request_vcpu,
	.get_state = soft_get_state,
	.set_state = soft_set_state,
	.load_code = soft_load_code,
	.save_code = soft_save_code,
};
