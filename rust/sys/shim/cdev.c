// SPDX-License-Identifier: GPL-2.0
/* The character device: mapping and waiting. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/wait.h>

#include "../shim.h"

/*
 * Makes a new mapping one of page frames that the memory manager does not count, of a file of
 * `pages` pages. A private writable one would need copies of them, which it cannot have.
 */
int nms_vma_setup(struct vm_area_struct *vma, unsigned long pages,
		  const struct vm_operations_struct *ops)
{
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE)
		return -EINVAL;
	if (vma->vm_pgoff > pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = ops;
	return 0;
}

/*
 * Serves a fault, and maps the pages around it too: at most NMS_FAULT_PAGES, aligned. `pfn` tells
 * the frame of a page of the file, 0 if there is none.
 */
#define NMS_FAULT_PAGES 16

vm_fault_t nms_vma_fault(struct vm_fault *vmf, void *file,
			 unsigned long (*pfn)(void *file, unsigned long page))
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long span = NMS_FAULT_PAGES * PAGE_SIZE;
	unsigned long at = vmf->address & PAGE_MASK;
	unsigned long start = max(at & ~(span - 1), vma->vm_start);
	unsigned long end = min((at & ~(span - 1)) + span, vma->vm_end);
	unsigned long frame = pfn(file, vmf->pgoff);
	vm_fault_t ret;

	if (!frame)
		return VM_FAULT_SIGBUS;
	ret = vmf_insert_pfn(vma, at, frame);
	if (ret != VM_FAULT_NOPAGE)
		return ret;
	for (; start < end; start += PAGE_SIZE) {
		frame = pfn(file, vma->vm_pgoff + ((start - vma->vm_start) >> PAGE_SHIFT));
		if (!frame || vmf_insert_pfn(vma, start, frame) != VM_FAULT_NOPAGE)
			break;
	}
	return VM_FAULT_NOPAGE;
}

void *nms_vma_file(struct vm_fault *vmf)
{
	return vmf->vma->vm_file->private_data;
}

/*
 * A file that no process can reach. When a release operation puts it, its own is called once all
 * files that the process closes at the same time are closed, whatever their numbers.
 */
void *nms_file_behind(const void *fops, void *data)
{
	return anon_inode_getfile("[netmap]", fops, data, O_RDWR);
}

void nms_file_put(void *file)
{
	fput(file);
}

void nms_waitqueue_init(struct wait_queue_head *wq)
{
	init_waitqueue_head(wq);
}

bool nms_waitqueue_has_sleeper(struct wait_queue_head *wq)
{
	return wq_has_sleeper(wq);
}

void nms_waitqueue_wake(struct wait_queue_head *wq, u32 events)
{
	wake_up_interruptible_poll(wq, (__force __poll_t)events);
}
