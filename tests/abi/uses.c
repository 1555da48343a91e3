/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything that programs take from the headers, used once. Compiled as C and
 * as C++ with many warnings; run to check the parts that need no device.
 */
#define NETMAP_WITH_LIBS
#include <net/netmap_user.h>
#include <net/netmap_paste.h>

#include <assert.h>
#include <errno.h>
#include <stddef.h>

#define SLOTS 4

/* A made-up memory: an interface, two rings of each direction, buffers. */
static union {
	char bytes[65536];
	uint64_t words[8192];
} memory __attribute__((__aligned__(4096)));

static struct netmap_ring *
make_ring(size_t at, uint32_t head, uint32_t tail)
{
	struct netmap_ring *r = (struct netmap_ring *)(void *)(memory.bytes + at);
	int64_t buf_ofs = 32768 - (int64_t)at;
	uint32_t sizes[2] = { SLOTS, 2048 };
	uint32_t i;

	memcpy((char *)r + offsetof(struct netmap_ring, buf_ofs), &buf_ofs, 8);
	memcpy((char *)r + offsetof(struct netmap_ring, num_slots), sizes, 8);
	r->head = r->cur = head;
	r->tail = tail;
	for (i = 0; i < SLOTS; i++)
		r->slot[i].buf_idx = i + 2;
	return r;
}

static void
check_rings(void)
{
	struct netmap_if *nifp = NETMAP_IF(memory.bytes, 64);
	uint32_t counts[2] = { 1, 1 }, host[2] = { 1, 1 };
	ssize_t ofs[4] = { 1024 - 64, 2048 - 64, 3072 - 64, 4096 - 64 };
	struct netmap_ring *tx, *rx;
	struct nm_desc d, *open = &d;
	struct nm_pkthdr h;

	memcpy((char *)nifp + offsetof(struct netmap_if, ni_tx_rings), counts, 8);
	memcpy((char *)nifp + offsetof(struct netmap_if, ni_host_tx_rings), host, 8);
	memcpy((char *)nifp + sizeof(*nifp), ofs, sizeof(ofs));
	tx = make_ring(1024, 0, 3);
	make_ring(2048, 0, 0);
	rx = make_ring(3072, 3, 1);
	make_ring(4096, 0, 0);
	assert(NETMAP_TXRING(nifp, 0) == tx && NETMAP_RXRING(nifp, 0) == rx);
	assert(NETMAP_RXRING(nifp, 1)->slot - rx->slot == 1024 / 16);
	assert(NETMAP_BUF(tx, 2) == memory.bytes + 32768 + 4096);
	assert(NETMAP_BUF_IDX(rx, NETMAP_BUF(tx, 3)) == 3);

	assert(nm_ring_next(tx, 3) == 0 && nm_ring_next(tx, 0) == 1);
	assert(nm_ring_space(tx) == 3 && nm_ring_space(rx) == 2);
	assert(!nm_ring_empty(tx) && nm_ring_empty(NETMAP_TXRING(nifp, 1)));
	assert(!nm_tx_pending(tx));

	memset(&d, 0, sizeof(d));
	d.self = &d;
	d.nifp = nifp;
	d.req.nr_flags = NR_REG_ALL_NIC;
	nm_desc_rings(&d);
	assert(IS_NETMAP_DESC(open) && d.last_tx_ring == 0 && d.last_rx_ring == 0);
	assert(nm_inject(&d, "abc", 3) == 3 && nm_inject(&d, "abc", 2049) == 0);
	assert(tx->head == 1 && tx->cur == 1 && tx->slot[0].len == 3);
	assert(nm_inject(&d, "d", 1) == 1 && nm_inject(&d, "e", 1) == 1);
	assert(nm_inject(&d, "full", 4) == 0 && nm_tx_pending(tx));
	assert(memcmp(NETMAP_BUF(tx, 2), "abc", 3) == 0);

	rx->slot[3].len = 60;
	assert(nm_nextpkt(&d, &h) == (u_char *)NETMAP_BUF(rx, 5) && h.len == 60);
	assert(rx->head == 0 && nm_nextpkt(&d, &h) != NULL);
	assert(nm_nextpkt(&d, &h) == NULL);
	d.req.nr_flags = NR_REG_NIC_SW;
	nm_desc_rings(&d);
	assert(d.first_tx_ring == 0 && d.last_tx_ring == 1);
	d.req.nr_flags = NR_REG_SW;
	nm_desc_rings(&d);
	assert(d.first_rx_ring == 1 && d.last_rx_ring == 1);
}

static void
check_names(void)
{
	struct nm_desc d;
	char name[NETMAP_REQ_IFNAMSIZ];

	memset(&d, 0, sizeof(d));
	assert(nm_desc_parse("netmap:eth0", &d, name) == 0);
	assert(strcmp(name, "eth0") == 0 && d.req.nr_flags == NR_REG_ALL_NIC);
	assert(nm_desc_parse("pst:0-3/x@7", &d, name) == 0);
	assert(strcmp(name, "pst:0") == 0 && d.req.nr_ringid == 3 && d.req.nr_arg2 == 7);
	assert(d.req.nr_flags == (NR_REG_ONE_NIC | NR_EXCLUSIVE));
	assert(nm_desc_parse("vale1:a{b_1^", &d, name) == 0);
	assert(strcmp(name, "vale1:a{b_1") == 0 && d.req.nr_flags == NR_REG_SW);
	assert(nm_desc_parse("netmap:eth0*", &d, name) == 0);
	assert(d.req.nr_flags == NR_REG_NIC_SW);
	assert(nm_desc_parse("eth0", &d, name) == EINVAL);
	assert(nm_desc_parse("netmap:", &d, name) == EINVAL);
	assert(nm_desc_parse("netmap:eth0-", &d, name) == EINVAL);
	assert(nm_desc_parse("netmap:eth0/q", &d, name) == EINVAL);
	assert(nm_desc_parse("netmap:eth0@1z", &d, name) == EINVAL);
	errno = 0;
	assert(nm_open("nonsense", NULL, 0, NULL) == NULL && errno == EINVAL);
	assert(nm_close(NULL) == EINVAL);
}

static void
check_stack_slots(void)
{
	struct netmap_slot s;
	struct netmap_ring *r = make_ring(1024, 0, 3);
	uint64_t mask = 0xff;

	memset(&s, 0, sizeof(s));
	s.ptr = 0x420000000830ULL;
	s.len = 147;
	assert(nm_pst_getfd(&s) == 8 && nm_pst_getdoff(&s) == 66);
	assert(nm_pst_getuoff(&s) == 48 && nm_pst_paylen(&s) == 81);
	nm_pst_setfd(&s, -1);
	nm_pst_setdoff(&s, 1023);
	assert(nm_pst_getfd(&s) == -1 && nm_pst_getdoff(&s) == 1023);
	assert(nm_pst_getuoff(&s) == 48 && nm_pst_paylen(&s) == 0);
	assert(s.ptr >> 50 == 0);

	memcpy((char *)r + offsetof(struct netmap_ring, offset_mask), &mask, 8);
	assert(NETMAP_ROFFSET(r, &s) == 48);
	NETMAP_WOFFSET(r, &s, 0x103);
	assert(NETMAP_ROFFSET(r, &s) == 3 && nm_pst_getfd(&s) == -1);
	s.buf_idx = 2;
	assert(NETMAP_BUF_OFFSET(r, &s) == NETMAP_BUF(r, 2) + 3);
}

static void
count(u_char *arg, const struct nm_pkthdr *h, const u_char *packet)
{
	(void)h;
	(void)packet;
	++*arg;
}

int
main(void)
{
	struct nm_desc d;
	u_char n = 0;

	check_rings();
	check_names();
	check_stack_slots();
	memset(&d, 0, sizeof(d));
	d.nifp = NETMAP_IF(memory.bytes, 64);
	make_ring(3072, 0, 2);
	assert(nm_dispatch(&d, 1, count, &n) == 1 && n == 1);
	assert(nm_dispatch(&d, 0, count, &n) == 1 && n == 2);
	nm_pkt_copy("x", memory.bytes, 1);
	assert(NETMAP_FD(&d) == 0);
	D("all %d", 1);
	ND("silent");
	return 0;
}
