// SPDX-License-Identifier: GPL-2.0
/*
 * api-legacy: a program as they were written before NIOCCTRL, compiled from
 * our headers: NIOCGINFO, NIOCREGIF, mmap, rings, extra buffers; and the same
 * with nm_open(). Run as root in a guest with the module loaded and a NIC.
 *
 *	api-legacy recv PORT COUNT	receives COUNT frames of EtherType 88b5
 *	api-legacy send PORT COUNT	sends COUNT broadcast frames of that type
 *	api-legacy check NIC		requests and their answers
 *
 * cc -Wall -Wextra -O2 -I include -o api-legacy tests/tools/api-legacy.c
 */
#define NETMAP_WITH_LIBS
#include <net/netmap_user.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void
truth(const char *name, int holds)
{
	if (!holds) {
		failures++;
		printf("FAIL %s (errno %d, %s)\n", name, errno, strerror(errno));
	}
}

static void
request(struct nmreq *req, const char *name)
{
	memset(req, 0, sizeof(*req));
	snprintf(req->nr_name, sizeof(req->nr_name), "%s", name);
	req->nr_version = NETMAP_API;
}

/* errno of an ioctl, 0 for success. */
static int
ctl(int fd, unsigned long what, struct nmreq *req)
{
	return ioctl(fd, what, req) < 0 ? errno : 0;
}

/* Opens PORT by hand; the mapping goes to *mem. */
static int
regif(const char *name, struct nmreq *req, char **mem)
{
	int fd = open("/dev/netmap", O_RDWR);

	if (fd < 0 || ctl(fd, NIOCREGIF, req)) {
		perror(name);
		exit(1);
	}
	*mem = mmap(NULL, req->nr_memsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*mem == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return fd;
}

static void
check(const char *nic)
{
	struct netmap_if *nifp;
	struct netmap_ring *ring;
	struct nmreq req, info;
	uint32_t next, n;
	char *mem;
	int fd = open("/dev/netmap", O_RDWR);

	request(&info, nic);
	truth("info", ctl(fd, NIOCGINFO, &info) == 0);
	truth("info: rings", info.nr_tx_rings >= 1 && info.nr_rx_rings >= 1);
	truth("info: slots", info.nr_tx_slots >= 2 && info.nr_rx_slots >= 2);
	truth("info: memory", info.nr_memsize > 0 && info.nr_arg2 == 1);
	request(&req, "nosuch0");
	truth("info: no such port", ctl(fd, NIOCGINFO, &req) == ENXIO);
	request(&req, nic);
	req.nr_version = 13;
	truth("info: old version", ctl(fd, NIOCGINFO, &req) == EINVAL);
	request(&req, nic);
	req.nr_version = 13;
	truth("regif: old version", ctl(fd, NIOCREGIF, &req) == EINVAL);
	request(&req, "nosuch0");
	truth("regif: no such port", ctl(fd, NIOCREGIF, &req) == ENXIO);
	request(&req, nic);
	req.nr_cmd = NETMAP_BDG_ATTACH;
	truth("regif: bridges", ctl(fd, NIOCREGIF, &req) == EOPNOTSUPP);
	request(&req, nic);
	req.nr_ringid = NETMAP_HW_RING | 60;
	truth("regif: no such ring", ctl(fd, NIOCREGIF, &req) == EINVAL);
	truth("no ring: txsync", ioctl(fd, NIOCTXSYNC, NULL) < 0 && errno == ENXIO);
	close(fd);

	/* All rings, with extra buffers. */
	request(&req, nic);
	req.nr_arg3 = 5;
	fd = regif(nic, &req, &mem);
	truth("regif: as info said", req.nr_tx_rings == info.nr_tx_rings &&
	    req.nr_rx_slots == info.nr_rx_slots && req.nr_memsize == info.nr_memsize);
	truth("regif: extra buffers", req.nr_arg3 == 5);
	nifp = NETMAP_IF(mem, req.nr_offset);
	truth("interface: name", strcmp(nifp->ni_name, nic) == 0);
	truth("interface: rings", nifp->ni_tx_rings == req.nr_tx_rings &&
	    nifp->ni_rx_rings == req.nr_rx_rings);
	ring = NETMAP_TXRING(nifp, 0);
	truth("tx ring: slots", ring->num_slots == req.nr_tx_slots && nm_ring_space(ring) == ring->num_slots - 1);
	for (n = 0, next = nifp->ni_bufs_head; next != 0 && n < 100; n++)
		next = *(uint32_t *)(void *)NETMAP_BUF(ring, next);
	truth("extra buffers: list", n == 5);
	truth("twice", ctl(fd, NIOCREGIF, &req) == EBUSY);
	truth("txsync", ioctl(fd, NIOCTXSYNC, NULL) == 0);
	truth("rxsync", ioctl(fd, NIOCRXSYNC, NULL) == 0);
	munmap(mem, req.nr_memsize);
	close(fd);

	/* The ways to say which rings, in bits of the ring number. */
	request(&req, nic);
	req.nr_ringid = NETMAP_SW_RING | NETMAP_NO_TX_POLL;
	fd = regif(nic, &req, &mem);
	nifp = NETMAP_IF(mem, req.nr_offset);
	truth("host rings: only these", nifp->ring_ofs[0] == 0 && nifp->ring_ofs[nifp->ni_tx_rings] != 0);
	munmap(mem, req.nr_memsize);
	close(fd);
	request(&req, nic);
	req.nr_ringid = NETMAP_HW_RING;
	fd = regif(nic, &req, &mem);
	nifp = NETMAP_IF(mem, req.nr_offset);
	truth("one ring: only this", nifp->ring_ofs[0] != 0 && nifp->ring_ofs[nifp->ni_tx_rings] == 0);
	munmap(mem, req.nr_memsize);
	close(fd);
	request(&req, nic);
	req.nr_flags = NR_REG_NIC_SW;
	fd = regif(nic, &req, &mem);
	nifp = NETMAP_IF(mem, req.nr_offset);
	truth("all and host", nifp->ring_ofs[0] != 0 && nifp->ring_ofs[nifp->ni_tx_rings] != 0);
	munmap(mem, req.nr_memsize);
	close(fd);
}

static struct nm_desc *
opened(const char *name)
{
	struct nm_desc *d = nm_open(name, NULL, 0, NULL);

	if (d == NULL) {
		perror(name);
		exit(1);
	}
	printf("open\n");
	fflush(stdout);
	return d;
}

static int
waits(struct nm_desc *d, short events)
{
	struct pollfd p = { .fd = NETMAP_FD(d), .events = events };

	return poll(&p, 1, 10000) == 1 && !(p.revents & POLLERR);
}

static void
receive(const char *name, int count)
{
	struct nm_desc *d = opened(name);
	struct nm_pkthdr h;
	const u_char *frame;
	int got = 0;

	while (got < count && waits(d, POLLIN))
		while ((frame = nm_nextpkt(d, &h)) != NULL)
			got += h.len >= 14 && frame[12] == 0x88 && frame[13] == 0xb5;
	printf("received %d\n", got);
	truth("received", got == count);
	nm_close(d);
}

static void
transmit(const char *name, int count)
{
	struct nm_desc *d = opened(name);
	struct netmap_ring *ring;
	u_char frame[200];
	int sent = 0;

	/* The link restarts with the mode. */
	sleep(4);
	memset(frame, 0xff, 6);
	memset(frame + 6, 2, 6);
	frame[12] = 0x88;
	frame[13] = 0xb5;
	while (sent < count && waits(d, POLLOUT)) {
		memset(frame + 14, sent, sizeof(frame) - 14);
		while (sent < count && nm_inject(d, frame, sizeof(frame)))
			memset(frame + 14, ++sent, sizeof(frame) - 14);
	}
	ring = NETMAP_TXRING(d->nifp, 0);
	while (nm_tx_pending(ring)) {
		ioctl(NETMAP_FD(d), NIOCTXSYNC, NULL);
		usleep(1000);
	}
	printf("sent %d\n", sent);
	truth("sent", sent == count);
	nm_close(d);
}

int
main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "check") == 0) {
		check(argv[2]);
	} else if (argc == 4 && strcmp(argv[1], "recv") == 0) {
		receive(argv[2], atoi(argv[3]));
	} else if (argc == 4 && strcmp(argv[1], "send") == 0) {
		transmit(argv[2], atoi(argv[3]));
	} else {
		fprintf(stderr, "usage: api-legacy check NIC | recv PORT COUNT | send PORT COUNT\n");
		return 2;
	}
	printf("%d failures\n", failures);
	return failures != 0;
}
