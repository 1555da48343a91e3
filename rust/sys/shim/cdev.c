// SPDX-License-Identifier: GPL-2.0
/* The character device: mapping and waiting. */
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/wait.h>

#include "../shim.h"

/*
 * Makes a new mapping one of page frames that the memory manager does not count. A private
 * writable one would need copies of them, which it cannot have.
 */
int nms_vma_setup(struct vm_area_struct *vma, const struct vm_operations_struct *ops)
{
	if (vma_is_cow_mapping(vma))
		return -EINVAL;
	vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = ops;
	return 0;
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
