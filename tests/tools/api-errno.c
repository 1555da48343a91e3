// SPDX-License-Identifier: GPL-2.0
/*
 * api-errno [NIC]: what /dev/netmap answers to right and wrong requests, as a
 * table of cases. Run as root in a guest with the module loaded and nobody
 * else using it; with a NIC that has a netmap driver its cases run, too.
 * Prints each case that fails; exit status 0 if none does, else 1.
 *
 * cc -Wall -Wextra -O2 -I include -o api-errno tests/tools/api-errno.c
 */
#include <net/netmap_user.h>
#include <net/netmap_paste.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT "pst:0"
#define BAD ((void *)8)		/* an address that is never mapped */
#define ANY (-1)		/* some error, no matter which */

static int cases, failures;

static void
result(const char *name, int got, int want)
{
	cases++;
	if (got == want || (want == ANY && got != 0))
		return;
	failures++;
	printf("FAIL %s: errno %d (%s)", name, got, strerror(got));
	if (want == ANY)
		printf(", wanted an error\n");
	else
		printf(", wanted %d (%s)\n", want, want ? strerror(want) : "none");
}

static void
truth(const char *name, int holds)
{
	cases++;
	if (!holds) {
		failures++;
		printf("FAIL %s\n", name);
	}
}

static int
dev(void)
{
	int fd = open("/dev/netmap", O_RDWR);

	if (fd < 0) {
		perror("/dev/netmap");
		exit(2);
	}
	return fd;
}

/* errno of an ioctl, 0 for success. */
static int
ctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? errno : 0;
}

static struct nmreq_header
header(int type, const char *name, const void *body)
{
	struct nmreq_header h;

	memset(&h, 0, sizeof(h));
	h.nr_version = NETMAP_API;
	h.nr_reqtype = (uint16_t)type;
	snprintf(h.nr_name, sizeof(h.nr_name), "%s", name);
	h.nr_body = (uintptr_t)body;
	return h;
}

static int
request(int fd, int type, const char *name, void *body)
{
	struct nmreq_header h = header(type, name, body);
	int got = ctl(fd, NIOCCTRL, &h);

	truth("pointers come back as they were",
	    h.nr_body == (uintptr_t)body && h.nr_options == 0);
	return got;
}

static struct nmreq_register
all(void)
{
	struct nmreq_register r;

	memset(&r, 0, sizeof(r));
	r.nr_mode = NR_REG_ALL_NIC;
	return r;
}

/* REGISTER with a mode, ring and flags. */
static int
reg(int fd, const char *name, uint32_t mode, uint16_t ring, uint64_t flags)
{
	struct nmreq_register r = all();

	r.nr_mode = mode;
	r.nr_ringid = ring;
	r.nr_flags = flags;
	return request(fd, NETMAP_REQ_REGISTER, name, &r);
}

static int
events(int fd, short want)
{
	struct pollfd p = { .fd = fd, .events = want };

	poll(&p, 1, 0);
	return p.revents;
}

static void
ioctl_cases(void)
{
	struct nmreq_header h;
	int fd = dev();

	result("NIOCCTRL without an argument", ctl(fd, NIOCCTRL, NULL), EINVAL);
	result("NIOCCTRL with a bad pointer", ctl(fd, NIOCCTRL, BAD), EFAULT);
	result("an unknown ioctl", ctl(fd, _IO('i', 99), NULL), EOPNOTSUPP);
	result("TXSYNC unregistered", ctl(fd, NIOCTXSYNC, NULL), ENXIO);
	result("RXSYNC unregistered", ctl(fd, NIOCRXSYNC, NULL), ENXIO);
	truth("poll unregistered has POLLERR", events(fd, POLLIN) & POLLERR);
	truth("mmap unregistered is refused",
	    mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED &&
	    errno == EINVAL);

	for (int version = 0; version <= 20; version++) {
		struct nmreq_port_info_get info = { .nr_mem_id = 1 };

		h = header(NETMAP_REQ_PORT_INFO_GET, "", &info);
		h.nr_version = (uint16_t)version;
		result("version", ctl(fd, NIOCCTRL, &h),
		    version == 14 || version == 15 ? 0 : EINVAL);
	}
	for (int type = 0; type < 24; type++) {
		int sized = type != NETMAP_REQ_VALE_DELIF &&
		    type != NETMAP_REQ_SYNC_KLOOP_STOP && type != NETMAP_REQ_CSB_ENABLE;
		char body[256] = { 0 };

		h = header(type, "nosuchport", sized ? NULL : body);
		result("a body where none belongs, or none", ctl(fd, NIOCCTRL, &h), EINVAL);
		if (type == 0 || type > NETMAP_REQ_PST_FD_REG) {
			h = header(type, "nosuchport", body);
			result("an unknown request", ctl(fd, NIOCCTRL, &h), EINVAL);
		} else if (sized) {
			h = header(type, "nosuchport", BAD);
			result("a bad body", ctl(fd, NIOCCTRL, &h), EFAULT);
		}
	}
	h = header(1000, "nosuchport", BAD);
	result("a large request number", ctl(fd, NIOCCTRL, &h), EINVAL);
	{
		struct nmreq_register r = all();

		h = header(NETMAP_REQ_REGISTER, PORT, &r);
		h.nr_reserved = 1;
		result("nr_reserved set", ctl(fd, NIOCCTRL, &h), EINVAL);
	}
	result("TXSYNC still unregistered", ctl(fd, NIOCTXSYNC, NULL), ENXIO);
	close(fd);
}

static void
option_cases(void)
{
	struct nmreq_register r = all();
	struct nmreq_header h = header(NETMAP_REQ_REGISTER, PORT, &r);
	struct nmreq_option o[2];
	struct nmreq_opt_csb csb[2];
	int fd = dev();

	memset(o, 0, sizeof(o));
	h.nr_options = (uintptr_t)&o[0];
	result("an option of type 0", ctl(fd, NIOCCTRL, &h), EINVAL);
	o[0].nro_reqtype = 77;
	result("an unknown option", ctl(fd, NIOCCTRL, &h), EOPNOTSUPP);
	truth("... has its status", o[0].nro_status == EOPNOTSUPP);
	truth("... and the list its pointers",
	    h.nr_options == (uintptr_t)&o[0] && o[0].nro_next == 0);
	o[0].nro_next = (uintptr_t)&o[0];
	result("an endless list of unknown options", ctl(fd, NIOCCTRL, &h), EMSGSIZE);
	o[0].nro_next = (uintptr_t)BAD;
	result("an option at a bad address", ctl(fd, NIOCCTRL, &h), EFAULT);
	h.nr_options = (uintptr_t)BAD;
	result("the first option at a bad address", ctl(fd, NIOCCTRL, &h), EFAULT);

	memset(csb, 0, sizeof(csb));
	csb[0].nro_opt.nro_reqtype = csb[1].nro_opt.nro_reqtype = NETMAP_REQ_OPT_CSB;
	csb[0].nro_opt.nro_next = (uintptr_t)&csb[1];
	h.nr_options = (uintptr_t)&csb[0];
	result("an option twice", ctl(fd, NIOCCTRL, &h), EINVAL);
	truth("... has the status in both",
	    csb[0].nro_opt.nro_status == EINVAL && csb[1].nro_opt.nro_status == EINVAL);
	csb[1].nro_opt.nro_next = (uintptr_t)&csb[0];
	result("an endless list of known options", ctl(fd, NIOCCTRL, &h), EINVAL);
	result("nothing was registered by all this", ctl(fd, NIOCTXSYNC, NULL), ENXIO);
	close(fd);
}

static void
register_cases(void)
{
	static const struct {
		const char *name, *port;
		uint32_t mode;
		uint16_t ring;
		uint64_t flags;
		int want;
	} table[] = {
		{ "no such NIC", "nosuchport", NR_REG_ALL_NIC, 0, 0, ENXIO },
		{ "no name", "", NR_REG_ALL_NIC, 0, 0, ENXIO },
		{ "a NIC without a netmap driver", "lo", NR_REG_ALL_NIC, 0, 0, ANY },
		{ "the default mode", PORT, NR_REG_DEFAULT, 0, 0, EINVAL },
		{ "pipe master mode", PORT, NR_REG_PIPE_MASTER, 0, 0, EINVAL },
		{ "pipe slave mode", PORT, NR_REG_PIPE_SLAVE, 0, 0, EINVAL },
		{ "an unknown mode", PORT, 9, 0, 0, EINVAL },
		{ "a huge mode", PORT, 0xffffffff, 0, 0, EINVAL },
		{ "a ring that is not there", PORT, NR_REG_ONE_NIC, 1, 0, EINVAL },
		{ "the last ring number", PORT, NR_REG_ONE_NIC, 0xffff, 0, EINVAL },
		{ "host rings of a stack port", PORT, NR_REG_SW, 0, 0, EINVAL },
		{ "both kinds of rings", PORT, NR_REG_NIC_SW, 0, 0, EINVAL },
		{ "a host ring", PORT, NR_REG_ONE_SW, 0, 0, EINVAL },
		{ "memory alone without a number", "x", NR_REG_NULL, 0, 0, ANY },
		{ "an empty member", "pst:", NR_REG_ALL_NIC, 0, 0, ANY },
	};
	struct nmreq_register r = all();
	struct nmreq_header h;
	int fd = dev(), other = dev();

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		result(table[i].name,
		    reg(fd, table[i].port, table[i].mode, table[i].ring, table[i].flags),
		    table[i].want);
		result("... leaves it unregistered", ctl(fd, NIOCTXSYNC, NULL), ENXIO);
	}
	h = header(NETMAP_REQ_REGISTER, PORT, &r);
	memset(h.nr_name, 'a', sizeof(h.nr_name));
	result("a name without an end", ctl(fd, NIOCCTRL, &h), ANY);
	r.nr_mem_id = 999;
	result("an unknown memory", request(fd, NETMAP_REQ_REGISTER, PORT, &r), EINVAL);

	r = all();
	r.nr_extra_bufs = 10;
	r.nr_flags = NR_NO_TX_POLL;
	result("REGISTER", request(fd, NETMAP_REQ_REGISTER, PORT, &r), 0);
	truth("memory was told", r.nr_memsize > 0 && r.nr_memsize % 4096 == 0 &&
	    r.nr_offset < r.nr_memsize && r.nr_mem_id >= 2);
	truth("slots and rings were told", r.nr_tx_slots == 1024 && r.nr_rx_slots == 1024 &&
	    r.nr_tx_rings == 1 && r.nr_rx_rings == 1 &&
	    r.nr_host_tx_rings == 0 && r.nr_host_rx_rings == 0);
	truth("mode, ring and flags came back", r.nr_mode == NR_REG_ALL_NIC &&
	    r.nr_ringid == 0 && r.nr_flags == NR_NO_TX_POLL && r.nr_extra_bufs == 10);
	result("REGISTER again", request(fd, NETMAP_REQ_REGISTER, PORT, &r), EBUSY);
	result("exclusively, of a bound ring", reg(other, PORT, NR_REG_ALL_NIC, 0, NR_EXCLUSIVE),
	    EBUSY);
	close(fd);
	result("exclusively, alone", reg(other, PORT, NR_REG_ALL_NIC, 0, NR_EXCLUSIVE), 0);
	fd = dev();
	result("an exclusive ring", reg(fd, PORT, NR_REG_ALL_NIC, 0, 0), EBUSY);
	close(fd);
	close(other);
}

/* The memory of a registered descriptor. */
static struct netmap_if *
mapped(int fd, struct nmreq_register *r)
{
	void *mem;

	*r = all();
	r->nr_extra_bufs = 3;
	result("REGISTER", request(fd, NETMAP_REQ_REGISTER, PORT, r), 0);
	mem = mmap(NULL, r->nr_memsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return NETMAP_IF(mem, r->nr_offset);
}

static void
memory_cases(void)
{
	struct nmreq_register r;
	struct netmap_if *nifp;
	struct netmap_ring *tx, *rx;
	int fd = dev(), in_order = 1;
	uint32_t extra, i;

	nifp = mapped(fd, &r);
	truth("mmap beyond the end is refused",
	    mmap(NULL, r.nr_memsize + 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED &&
	    errno == EINVAL);
	truth("mmap from beyond the end is refused",
	    mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, (off_t)r.nr_memsize) == MAP_FAILED &&
	    errno == EINVAL);
	truth("the interface tells about itself", strcmp(nifp->ni_name, PORT) == 0 &&
	    nifp->ni_flags == NI_PRIV_MEM && nifp->ni_tx_rings == 1 &&
	    nifp->ni_rx_rings == 1 && nifp->ni_host_tx_rings >= 1 &&
	    nifp->ni_host_rx_rings >= 1);
	tx = NETMAP_TXRING(nifp, 0);
	rx = NETMAP_RXRING(nifp, 0);
	truth("rings that are not bound have no offset",
	    nifp->ring_ofs[1] == 0 && nifp->ring_ofs[3] == 0);
	truth("directions and numbers", tx->dir == 1 && rx->dir == 0 &&
	    tx->ringid == 0 && rx->ringid == 0);
	truth("a fresh tx ring is all ours",
	    tx->head == 0 && tx->cur == 0 && tx->tail == tx->num_slots - 1);
	truth("a fresh rx ring is empty", rx->head == 0 && rx->cur == 0 && rx->tail == 0);
	truth("slots may have offsets", tx->offset_mask == 0xff && rx->offset_mask == 0xff);
	for (i = 0; i < tx->num_slots; i++) {
		struct netmap_slot *s = &tx->slot[i];

		in_order &= s->buf_idx == tx->slot[0].buf_idx + i && s->buf_idx >= 2 &&
		    s->len == tx->nr_buf_size && s->flags == 0;
	}
	truth("fresh slots are in order", in_order);

	extra = nifp->ni_bufs_head;
	for (i = 0; extra >= 2 && i < 10; i++)
		extra = *(uint32_t *)(void *)NETMAP_BUF(tx, extra);
	truth("the list of extra buffers is as long as told",
	    i == r.nr_extra_bufs && extra == 0);

	truth("poll finds room to send, nothing received",
	    events(fd, POLLIN | POLLOUT) == POLLOUT);
	tx->tail = 5;
	result("TXSYNC", ctl(fd, NIOCTXSYNC, NULL), 0);
	truth("a changed tail is put right", tx->tail == tx->num_slots - 1);
	tx->head = tx->cur = tx->num_slots;
	result("TXSYNC with a wild head", ctl(fd, NIOCTXSYNC, NULL), 0);
	truth("... resets the ring", tx->head == 0 && tx->cur == 0);
	tx->head = tx->cur = tx->num_slots + 7;
	truth("poll with a wild head has POLLERR", events(fd, POLLOUT) & POLLERR);
	rx->head = rx->cur = 3;
	result("RXSYNC beyond tail", ctl(fd, NIOCRXSYNC, NULL), 0);
	truth("... resets the ring", rx->head == 0 && rx->cur == 0);
	tx->cur = 3;
	tx->head = 1;
	tx->slot[0].len = 0;
	result("TXSYNC with cur before head", ctl(fd, NIOCTXSYNC, NULL), 0);
	/* A mapping keeps the port open as its descriptor does. */
	munmap((char *)nifp - r.nr_offset, r.nr_memsize);
	close(fd);
}

static void
info_cases(const char *nic)
{
	struct nmreq_port_info_get info;
	int fd = dev();

	memset(&info, 0, sizeof(info));
	info.nr_mem_id = 1;
	result("PORT_INFO_GET of a memory",
	    request(fd, NETMAP_REQ_PORT_INFO_GET, "", &info), 0);
	truth("... tells its size", info.nr_memsize > 0);
	info.nr_mem_id = 999;
	result("PORT_INFO_GET of no memory",
	    request(fd, NETMAP_REQ_PORT_INFO_GET, "", &info), EINVAL);
	memset(&info, 0, sizeof(info));
	result("PORT_INFO_GET of no port",
	    request(fd, NETMAP_REQ_PORT_INFO_GET, "nosuchport", &info), ENXIO);
	result("PORT_INFO_GET", request(fd, NETMAP_REQ_PORT_INFO_GET, PORT, &info), 0);
	truth("... tells slots and rings", info.nr_tx_slots == 1024 &&
	    info.nr_rx_slots == 1024 && info.nr_tx_rings == 1 && info.nr_rx_rings == 1);
	result("... and binds nothing", ctl(fd, NIOCTXSYNC, NULL), ENXIO);
	if (nic) {
		memset(&info, 0, sizeof(info));
		result("PORT_INFO_GET of a NIC",
		    request(fd, NETMAP_REQ_PORT_INFO_GET, nic, &info), 0);
		truth("... tells its rings", info.nr_tx_rings > 0 && info.nr_rx_slots > 0);
	}
	close(fd);
}

static int
attach(int fd, const char *name, uint16_t mem_id)
{
	struct nmreq_vale_attach a;

	memset(&a, 0, sizeof(a));
	a.reg.nr_mode = NR_REG_NIC_SW;
	a.reg.nr_mem_id = mem_id;
	return request(fd, NETMAP_REQ_PST_ATTACH, name, &a);
}

static int
detach(int fd, const char *name)
{
	struct nmreq_vale_detach d;

	memset(&d, 0, sizeof(d));
	return request(fd, NETMAP_REQ_PST_DETACH, name, &d);
}

static void
attach_cases(const char *nic)
{
	struct nmreq_register r = all();
	char name[NETMAP_REQ_IFNAMSIZ];
	int fd = dev(), ctrl = dev();

	snprintf(name, sizeof(name), "pst:%s", nic ? nic : "lo");
	result("attach without a port", attach(ctrl, name, 0), ANY);
	result("detach without a port", detach(ctrl, name), ANY);
	result("attach of a bare name", attach(ctrl, nic ? nic : "lo", 0), EINVAL);
	result("detach of a bare name", detach(ctrl, nic ? nic : "lo"), EINVAL);

	result("REGISTER", request(fd, NETMAP_REQ_REGISTER, PORT, &r), 0);
	result("attach of no NIC", attach(ctrl, "pst:nosuchport", 0), EINVAL);
	result("attach of a long name", attach(ctrl, "pst:abcdefghijklmnopq", 0), ANY);
	result("attach of a NIC without a driver", attach(ctrl, "pst:lo", 0), ANY);
	result("attach with the global memory", attach(ctrl, name, 1), EINVAL);
	result("attach with an unknown memory", attach(ctrl, name, 999), EINVAL);
	result("detach of what is not attached", detach(ctrl, name), ENXIO);
	if (nic) {
		struct nmreq_register one = all();
		int raw = dev();

		result("attach", attach(ctrl, name, r.nr_mem_id), 0);
		result("attach again", attach(ctrl, name, r.nr_mem_id), EBUSY);
		result("REGISTER of an attached NIC",
		    request(raw, NETMAP_REQ_REGISTER, nic, &one), EBUSY);
		result("detach", detach(ctrl, name), 0);
		result("detach again", detach(ctrl, name), ENXIO);
		result("REGISTER of the NIC",
		    request(raw, NETMAP_REQ_REGISTER, nic, &one), 0);
		result("attach of an open NIC", attach(ctrl, name, 0), EBUSY);
		close(raw);
		result("attach when it is closed", attach(ctrl, name, 0), 0);
	}
	close(ctrl);
	/* The last user of the port leaves with the NIC on it. */
	close(fd);
}

#define POOL (32u << 20)

/*
 * REGISTER of a port with the options EXTMEM, if there is memory, and PST_BUFS. *mem_id is asked
 * for, and then what it got.
 */
static int
reg_bufs(int fd, const char *name, uint16_t *mem_id, void *memory, uint32_t flags, uint32_t claim)
{
	struct nmreq_register r = all();
	struct nmreq_header h = header(NETMAP_REQ_REGISTER, name, &r);
	struct nmreq_opt_extmem ext;
	struct nmreq_opt_pst_bufs bufs;
	uint32_t list[4] = { claim };
	int got;

	memset(&ext, 0, sizeof(ext));
	ext.nro_opt.nro_reqtype = NETMAP_REQ_OPT_EXTMEM;
	ext.nro_usrptr = (uintptr_t)memory;
	ext.nro_info.nr_memsize = POOL;
	/* For several files and two ports, and one interface less for the header. */
	ext.nro_info.nr_if_pool_objtotal = 4;
	ext.nro_info.nr_ring_pool_objtotal = 8;
	memset(&bufs, 0, sizeof(bufs));
	bufs.nro_opt.nro_reqtype = NETMAP_REQ_OPT_PST_BUFS;
	bufs.nro_opt.nro_next = memory ? (uintptr_t)&ext : 0;
	bufs.nro_bufs = (uintptr_t)list;
	bufs.nro_room = 4;
	bufs.nro_claim = claim != 0;
	bufs.nro_flags = flags;
	h.nr_options = (uintptr_t)&bufs;
	r.nr_mem_id = *mem_id;
	got = ctl(fd, NIOCCTRL, &h);
	if (got == 0)
		*mem_id = r.nr_mem_id;
	return got;
}

/* What a program may ask of memory that a port uses already. */
static void
used_memory_cases(void)
{
	char *memory = mmap(NULL, POOL, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_SHARED, -1, 0);
	char before[64];
	uint16_t none = 0, id = 0;
	int fd = dev(), second = dev(), other = dev();

	if (memory == MAP_FAILED || madvise(memory, POOL, MADV_NOHUGEPAGE)) {
		perror("memory of a port");
		exit(2);
	}
	result("memory, formatted", reg_bufs(fd, PORT, &id, memory, PST_BUFS_FORMAT, 0), 0);
	memcpy(before, memory, sizeof(before));
	truth("it has a header", memcmp(before, "NMPASTE1", 8) == 0);
	result("the same port, formatted", reg_bufs(second, PORT, &none, memory, PST_BUFS_FORMAT, 0),
	    EBUSY);
	result("another port there, formatted",
	    reg_bufs(other, "pst:1", &id, NULL, PST_BUFS_FORMAT, 0), EBUSY);
	truth("the header stays", memcmp(before, memory, sizeof(before)) == 0);
	result("another port there, a claim of what is used",
	    reg_bufs(other, "pst:1", &id, NULL, 0, 2), EBUSY);
	result("another port there", reg_bufs(other, "pst:1", &id, NULL, PST_BUFS_EXISTING, 0), 0);
	result("the same port", reg_bufs(second, PORT, &none, memory, PST_BUFS_EXISTING, 0), 0);
	truth("the header stays", memcmp(before, memory, sizeof(before)) == 0);
	close(other);
	close(second);
	close(fd);

	fd = dev();
	second = dev();
	none = 0;
	result("memory of the kernel's", reg_bufs(fd, PORT, &none, NULL, 0, 0), 0);
	result("a claim of it", reg_bufs(second, PORT, &none, NULL, 0, 3000), EINVAL);
	result("the wish that it exists", reg_bufs(second, PORT, &none, NULL, PST_BUFS_EXISTING, 0),
	    EINVAL);
	close(second);
	close(fd);
	munmap(memory, POOL);
}

static int
fd_reg(int fd, const char *name, int socket)
{
	struct nmreq_pst_fd_reg f = { .nr_fd = (uint32_t)socket };

	return request(fd, NETMAP_REQ_PST_FD_REG, name, &f);
}

/* A connected TCP socket over loopback and its peer. */
static int
connected(int family, int *peer)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a;
	socklen_t size = sizeof(a);
	int listener = socket(family, SOCK_STREAM, 0), s = socket(family, SOCK_STREAM, 0);

	memset(&a, 0, sizeof(a));
	a.any.sa_family = (sa_family_t)family;
	if (family == AF_INET)
		a.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a.v6.sin6_addr = in6addr_loopback;
	if (bind(listener, &a.any, family == AF_INET ? sizeof(a.v4) : sizeof(a.v6)) ||
	    listen(listener, 1) || getsockname(listener, &a.any, &size) ||
	    connect(s, &a.any, size) || (*peer = accept(listener, NULL, NULL)) < 0) {
		perror("a connection over loopback");
		exit(2);
	}
	close(listener);
	return s;
}

static void
socket_cases(void)
{
	struct nmreq_register r = all();
	struct rlimit many = { 80000, 80000 };
	int fd = dev(), ctrl = dev(), s[2], peer;
	int tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
	int listener = socket(AF_INET, SOCK_STREAM, 0), null = open("/dev/null", O_RDWR);

	listen(listener, 1);
	result("a socket without any port", fd_reg(fd, PORT, tcp), ENXIO);
	result("REGISTER", request(fd, NETMAP_REQ_REGISTER, PORT, &r), 0);
	result("no port of that name", fd_reg(ctrl, "pst:77", tcp), ENXIO);
	result("a name that is no stack port", fd_reg(ctrl, "lo", tcp), ENXIO);
	result("descriptor -1", fd_reg(fd, PORT, -1), EINVAL);
	for (int i = 0; i < 3; i++)
		result("a standard descriptor", fd_reg(fd, PORT, i), EINVAL);
	result("a closed descriptor", fd_reg(fd, PORT, 999), EINVAL);
	result("no socket", fd_reg(fd, PORT, null), EINVAL);
	result("the port itself", fd_reg(fd, PORT, fd), EINVAL);
	result("a listening socket", fd_reg(fd, PORT, listener), EINVAL);
	result("a UDP socket", fd_reg(fd, PORT, udp), EPROTONOSUPPORT);
	result("a socket without a connection", fd_reg(fd, PORT, tcp), ENOTCONN);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0) {
		result("a UNIX socket", fd_reg(fd, PORT, s[0]), EPROTONOSUPPORT);
		close(s[0]);
		close(s[1]);
	}
	s[0] = connected(AF_INET, &peer);
	result("a connected socket", fd_reg(fd, PORT, s[0]), 0);
	result("the same again", fd_reg(fd, PORT, s[0]), EBUSY);
	s[1] = dup(s[0]);
	result("the same by another number", fd_reg(fd, PORT, s[1]), EBUSY);
	close(s[1]);
	result("its peer, from a descriptor that is not bound", fd_reg(ctrl, PORT, peer), 0);
	close(s[0]);
	close(peer);
	s[0] = connected(AF_INET6, &peer);
	result("a connected IPv6 socket", fd_reg(fd, PORT, s[0]), 0);
	close(peer);
	close(s[0]);
	s[0] = connected(AF_INET, &peer);
	result("a number used before", fd_reg(fd, PORT, s[0]), 0);
	if (setrlimit(RLIMIT_NOFILE, &many) == 0 && dup2(peer, 70000) == 70000) {
		result("a number above 65535", fd_reg(fd, PORT, 70000), 0);
		close(70000);
	}
	close(s[0]);
	close(peer);
	close(tcp);
	close(udp);
	close(listener);
	close(null);
	close(ctrl);
	close(fd);
}

int
main(int argc, char **argv)
{
	const char *nic = argc > 1 ? argv[1] : NULL;

	setbuf(stdout, NULL);
	ioctl_cases();
	option_cases();
	register_cases();
	memory_cases();
	info_cases(nic);
	attach_cases(nic);
	used_memory_cases();
	socket_cases();
	printf("%d of %d cases fail\n", failures, cases);
	return failures != 0;
}
