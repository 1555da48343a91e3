// SPDX-License-Identifier: GPL-2.0
/* Pages of buffer pools: wrappers of inlines and macros of the memory manager. */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "../shim.h"

/*
 * `count` pages that follow each other in physical memory, each with a reference count of its
 * own, filled with zeros. `low`: below 4 GiB if there is any left.
 */
struct page *nms_pages_alloc(unsigned int count, bool low)
{
	gfp_t gfp = GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN | __GFP_NORETRY;
	unsigned int order = get_order((unsigned long)count << PAGE_SHIFT);
	struct page *page = NULL;
	unsigned int i;

	if (!count || order > MAX_PAGE_ORDER)
		return NULL;
	if (low)
		page = alloc_pages(gfp | GFP_DMA32, order);
	if (!page)
		page = alloc_pages(gfp, order);
	if (!page)
		return NULL;
	if (order)
		split_page(page, order);
	for (i = count; i < 1U << order; i++)
		__free_page(page + i);
	return page;
}

struct page *nms_page_nth(struct page *page, unsigned int n)
{
	return page + n;
}

void *nms_page_address(struct page *page)
{
	return page_address(page);
}

unsigned long nms_page_pfn(struct page *page)
{
	return page_to_pfn(page);
}

void nms_page_get(struct page *page)
{
	get_page(page);
}

void nms_page_put(struct page *page)
{
	put_page(page);
}

void nms_page_set_private(struct page *page, unsigned long value)
{
	set_page_private(page, value);
}

/*
 * Maps pages of the kernel's own as one range of addresses. The mapping has references of its own, so
 * that it can end with vfree(), which any context but NMI may call; vunmap() sleeps. Pages of a
 * process: nms_pin_map().
 */
void *nms_vmap(struct page **pages, unsigned int count)
{
	struct page **own = kvmalloc_array(count, sizeof(*own), GFP_KERNEL);
	unsigned int i;
	void *addr;

	if (!own)
		return NULL;
	for (i = 0; i < count; i++) {
		own[i] = pages[i];
		get_page(own[i]);
	}
	addr = vmap(own, count, VM_MAP | VM_MAP_PUT_PAGES, PAGE_KERNEL);
	if (!addr) {
		for (i = 0; i < count; i++)
			put_page(own[i]);
		kvfree(own);
	}
	return addr;
}

void nms_vunmap(void *addr)
{
	vfree(addr);
}

/* Bytes that can be allocated without swapping. */
u64 nms_mem_available(void)
{
	long pages = si_mem_available();

	return pages > 0 ? (u64)pages << PAGE_SHIFT : 0;
}
