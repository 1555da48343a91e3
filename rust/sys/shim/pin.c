// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of a process that stay where they are as long as a pool is built in them.
 *
 * Files on persistent memory (DAX) are pinned like a read() does it, since the kernel refuses a
 * long-term pin of them; everything else is pinned for long. In both cases a reference of each
 * mapped file is kept: so its file system is not unmounted, and its inode not evicted (which
 * would wait for the pins, perhaps in the very process that is to release them). The pages of
 * device DAX go with the device whoever has pinned them, unless its page map is referred to.
 */
#include <linux/dax.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/libnvdimm.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/vmalloc.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>

#include "../shim.h"

static struct workqueue_struct *queue;
/* Memory that waits in the queue to be unpinned. */
static atomic_t waiting = ATOMIC_INIT(0);
/* Memory that is unpinned, but perhaps not yet let go of by the network. */
static atomic_t watched = ATOMIC_INIT(0);
static bool stopping;

/*
 * Looks at the mappings of `len` bytes at `start`: they must cover them, be writable, and be of one
 * kind. Takes references of their files, and keeps huge pages from being faulted in. mmap_lock is
 * held for writing.
 */
static int survey(struct nms_pinned *p, unsigned long start, unsigned long len)
{
	unsigned long at = start, end = start + len;
	struct vm_area_struct *vma;
	bool first = true;

	for (; at < end; at = vma->vm_end, first = false) {
		bool dax, device;

		vma = find_vma(current->mm, at);
		p->at = at - start;
		if (!vma || vma->vm_start > at)
			return NMS_PIN_UNMAPPED;
		if (!(vma->vm_flags & VM_WRITE))
			return NMS_PIN_READ_ONLY;
		if (vma->vm_flags & (VM_IO | VM_PFNMAP))
			return NMS_PIN_DEVICE;
		/* Of hugetlbfs, or of a device that maps no smaller ones. */
		if (vma_kernel_pagesize(vma) != PAGE_SIZE)
			return NMS_PIN_HUGE;
		dax = vma_is_fsdax(vma);
		device = vma_is_dax(vma) && !dax;
		/* Its pages would be copies in ordinary memory. */
		if (dax && !(vma->vm_flags & VM_SHARED))
			return NMS_PIN_PRIVATE;
		if (!first && (dax != p->dax || device != p->device))
			return NMS_PIN_MIXED;
		p->dax = dax;
		p->device = device;
		p->cached = !dax && vma->vm_file && (vma->vm_flags & VM_SHARED) &&
			    S_ISREG(file_inode(vma->vm_file)->i_mode) &&
			    !shmem_mapping(vma->vm_file->f_mapping);
		if (vma->vm_file &&
		    (!p->nr_files || p->files[p->nr_files - 1] != vma->vm_file)) {
			if (p->nr_files == ARRAY_SIZE(p->files))
				return NMS_PIN_MIXED;
			p->files[p->nr_files++] = get_file(vma->vm_file);
		}
		vm_flags_set(vma, VM_NOHUGEPAGE);
	}
	return 0;
}

/*
 * Whether each page has a count of its own, and is of the kind that its mapping said. A device stays
 * there then.
 */
static int inspect(struct nms_pinned *p)
{
	enum memory_type type = p->dax ? MEMORY_DEVICE_FS_DAX : MEMORY_DEVICE_GENERIC;
	unsigned long i;

	for (i = 0; i < p->count; i++) {
		struct folio *folio = page_folio(p->pages[i]);

		p->at = i << PAGE_SHIFT;
		if (folio_test_large(folio))
			return NMS_PIN_HUGE;
		if ((p->dax || p->device) &&
		    !(folio_is_zone_device(folio) && folio->pgmap->type == type &&
		      folio->pgmap == page_folio(p->pages[0])->pgmap))
			return NMS_PIN_MIXED;
	}
	if (p->device) {
		p->pgmap = get_dev_pagemap(page_to_pfn(p->pages[0]));
		if (!p->pgmap) {
			p->error = -ENXIO;
			return NMS_PIN_FAILED;
		}
	}
	return 0;
}

/* Pins the pages at `start`. mmap_lock is held for reading. */
static int pin(struct nms_pinned *p, unsigned long start)
{
	unsigned int flags = FOLL_WRITE | (p->dax ? 0 : FOLL_LONGTERM);

	while (p->count < p->room) {
		unsigned long want = min(p->room - p->count, 1024UL);
		long got = pin_user_pages(start + (p->count << PAGE_SHIFT), want, flags,
					  p->pages + p->count);

		p->at = p->count << PAGE_SHIFT;
		if (got <= 0) {
			p->error = got ? got : -EFAULT;
			return p->cached && got == -EFAULT ? NMS_PIN_FILE : NMS_PIN_FAILED;
		}
		p->count += got;
		cond_resched();
	}
	return inspect(p);
}

/*
 * Maps the first `count` pages as one range of addresses, until they are unpinned; once. The mapping
 * has no references of its own: vfree() would give the last one back as if the pages were the page
 * allocator's, when it comes to that after the unpin. NULL: no memory.
 */
void *nms_pin_map(struct nms_pinned *p, unsigned int count)
{
	if (p->map || count > p->count)
		return NULL;
	p->map = vmap(p->pages, count, VM_MAP, PAGE_KERNEL);
	return p->map;
}

/*
 * Packets that a CPU lets go of for another one, which made them, wait there with their pages until
 * that one receives something. Without traffic that is never, and who truncates or evicts a DAX
 * file would wait as long. So each CPU is made to look, by a poll of nothing.
 */
static struct net_device *nobody;
static DEFINE_PER_CPU(struct napi_struct, looks);

static int look(struct napi_struct *napi, int budget)
{
	napi_complete_done(napi, 0);
	return 0;
}

static void kick(void *unused)
{
	napi_schedule(this_cpu_ptr(&looks));
}

/* References of a DAX page that nobody uses. */
static int idle_refs(struct folio *folio)
{
	return folio->pgmap->type == MEMORY_DEVICE_GENERIC;
}

/* Whether somebody refers to a DAX page, other than by page tables and pins. */
static bool busy(struct page *page)
{
	struct folio *folio = page_folio(page);
	int explained = folio_mapcount(folio) + idle_refs(folio);

	return folio_ref_count(folio) % GUP_PIN_COUNTING_BIAS > explained;
}

/*
 * Makes the CPUs look as long as there are pages that the network has had since the unpin: those
 * of a killed server's sockets, for instance, whose peers are still to acknowledge them.
 */
static void watch(struct work_struct *work)
{
	struct nms_pinned *p = container_of(work, struct nms_pinned, watch.work);
	unsigned long i, n = 0;

	for (i = 0; i < p->room; i++)
		if (busy(p->pages[i]))
			p->pages[n++] = p->pages[i];
	p->room = n;
	if (n && !READ_ONCE(stopping)) {
		on_each_cpu(kick, NULL, 1);
		queue_delayed_work(queue, &p->watch, HZ / 5);
		return;
	}
	put_dev_pagemap(p->pgmap);
	kvfree(p->pages);
	kfree(p);
	if (atomic_dec_and_test(&watched))
		wake_up_var(&watched);
}

/* Sleeps. */
static void unpin(struct nms_pinned *p)
{
	if (p->map)
		vunmap(p->map);
	p->map = NULL;
	/* Of memory that was refused the network has had nothing. */
	if (p->dax && !p->why)
		p->pgmap = get_dev_pagemap(page_to_pfn(p->pages[0]));
	if (p->dax || p->device)
		unpin_user_pages(p->pages, p->count);
	else
		unpin_user_pages_dirty_lock(p->pages, p->count, true);
}

/* Lets go of the files, and of `p` itself as soon as nobody has its pages. */
static void release(struct nms_pinned *p, void (*put)(struct file *file))
{
	struct file *files[ARRAY_SIZE(p->files)];
	unsigned int n = p->nr_files;

	memcpy(files, p->files, n * sizeof(*files));
	if (p->pgmap) {
		p->room = p->count;
		atomic_inc(&watched);
		queue_delayed_work(queue, &p->watch, 0);
	} else {
		kvfree(p->pages);
		kfree(p);
	}
	/* The last reference of an unlinked file may wait for the network to let go of its pages. */
	while (n)
		put(files[--n]);
}

static void unpin_later(struct work_struct *work)
{
	struct nms_pinned *p = container_of(work, struct nms_pinned, work);

	unpin(p);
	if (atomic_dec_and_test(&waiting))
		wake_up_var(&waiting);
	release(p, __fput_sync);
}

/*
 * Pins `len` bytes (whole pages) of the calling process at `start`. NULL: no memory, or a signal.
 * Else the caller owns the result also if its `why` tells that it failed.
 */
struct nms_pinned *nms_pin(unsigned long start, unsigned long len)
{
	struct mm_struct *mm = current->mm;
	struct nms_pinned *p = kzalloc(sizeof(*p), GFP_KERNEL_ACCOUNT);

	if (!p)
		return NULL;
	INIT_WORK(&p->work, unpin_later);
	INIT_DELAYED_WORK(&p->watch, watch);
	p->room = len >> PAGE_SHIFT;
	if (!mm || mmap_write_lock_killable(mm)) {
		kfree(p);
		return NULL;
	}
	p->why = survey(p, start, len);
	mmap_write_downgrade(mm);
	if (!p->why) {
		p->pages = kvmalloc_array(p->room, sizeof(*p->pages),
					  GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (p->pages) {
			p->why = pin(p, start);
		} else {
			p->error = -ENOMEM;
			p->why = NMS_PIN_FAILED;
		}
	}
	mmap_read_unlock(mm);
	return p;
}

/* Ends what nms_pin() began. Any context. */
void nms_unpin(struct nms_pinned *p)
{
	if (!preemptible() || rcu_preempt_depth()) {
		atomic_inc(&waiting);
		queue_work(queue, &p->work);
		return;
	}
	unpin(p);
	release(p, fput);
}

/* Waits until all memory that has been let go of is unpinned, as far as that is ours. */
void nms_pin_settle(void)
{
	/* Sockets let go of their port in RCU callbacks. */
	rcu_barrier();
	wait_var_event(&waiting, !atomic_read(&waiting));
	on_each_cpu(kick, NULL, 1);
	/* The polls run with bottom halves off, which counts as reading. */
	synchronize_rcu();
}

struct page *nms_pinned_page(struct nms_pinned *p, unsigned long i)
{
	return p->pages[i];
}

/*
 * Whether nobody but page tables, the page cache and the one pin refers to a pinned page. If so,
 * what others did with it happened before.
 *
 * A page is mapped by reference first, then map count, and unmapped the other way round; it leaves
 * the page cache by its mapping first, then the reference. So in this order a use is never missed,
 * unless the process ends one mapping of the page and makes another just between the loads: it may
 * spoil its own traffic so.
 */
bool nms_pin_idle(struct page *page)
{
	struct folio *folio = page_folio(page);
	int mapped = folio_mapcount(folio), refs, cached;

	/* In the order above: map count, references, what explains them, map count. */
	smp_rmb();
	refs = folio_ref_count(folio);
	/* The same. */
	smp_rmb();
	if (folio_is_zone_device(folio))
		cached = idle_refs(folio);
	else if (folio_test_anon(folio))
		cached = folio_test_swapcache(folio);
	else
		cached = !!READ_ONCE(folio->mapping);
	if (folio_mapcount(folio) != mapped)
		return false;
	if (refs != GUP_PIN_COUNTING_BIAS + cached + mapped)
		return false;
	smp_acquire__after_ctrl_dep();
	return true;
}

/* Writes back the cache lines of `len` bytes, and waits. */
void nms_persist(void *addr, size_t len)
{
#ifdef CONFIG_ARCH_HAS_PMEM_API
	arch_wb_cache_pmem(addr, len);
#endif
	/* Persistent before anything that follows. */
	wmb();
}

int nms_pin_init(void)
{
	int cpu;

	nobody = alloc_netdev_dummy(0);
	if (!nobody)
		return -ENOMEM;
	queue = alloc_workqueue("netmap_unpin", WQ_UNBOUND, 0);
	if (!queue) {
		free_netdev(nobody);
		return -ENOMEM;
	}
	for_each_possible_cpu(cpu) {
		netif_napi_add(nobody, per_cpu_ptr(&looks, cpu), look);
		napi_enable(per_cpu_ptr(&looks, cpu));
	}
	return 0;
}

void nms_pin_exit(void)
{
	int cpu;

	rcu_barrier();
	flush_workqueue(queue);
	WRITE_ONCE(stopping, true);
	wait_var_event(&watched, !atomic_read(&watched));
	destroy_workqueue(queue);
	for_each_possible_cpu(cpu) {
		napi_disable(per_cpu_ptr(&looks, cpu));
		netif_napi_del(per_cpu_ptr(&looks, cpu));
	}
	free_netdev(nobody);
}
