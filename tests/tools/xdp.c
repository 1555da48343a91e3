// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * xdp DEVICE pass|drop native|generic: has the kernel let through, or drop, each frame that DEVICE receives, in its driver or just
 * behind it, until it is killed. Prints "attached" once it does so; if it is refused, why, and ends with 1.
 *
 * xdp DEVICE socket native: the same with an AF_XDP socket on queue 0, whose memory the driver is to use as it is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

static int refused(const char *what)
{
	printf("%s: %s\n", what, strerrorname_np(errno));
	return 1;
}

static int attached(void)
{
	puts("attached");
	fflush(stdout);
	pause();
	return 0;
}

static int take_socket(const char *device)
{
	static const int rings[] = { XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING };
	struct sockaddr_xdp address = {
		.sxdp_family = AF_XDP, .sxdp_flags = XDP_ZEROCOPY, .sxdp_ifindex = if_nametoindex(device),
	};
	struct xdp_umem_reg memory = { .len = 64 << 12, .chunk_size = 1 << 12 };
	int fd = socket(AF_XDP, SOCK_RAW, 0), slots = 64;
	void *area = mmap(NULL, memory.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memory.addr = (unsigned long)area;
	if (fd < 0 || area == MAP_FAILED || setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &memory, sizeof(memory)))
		return refused("socket");
	for (unsigned int i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
		if (setsockopt(fd, SOL_XDP, rings[i], &slots, sizeof(slots)))
			return refused("ring");
	}
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
		return refused("bind");
	return attached();
}

int main(int argc, char **argv)
{
	/* r0 = what to do; exit */
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load, link;
	int program;

	if (argc != 4)
		return 2;
	if (!strcmp(argv[2], "socket"))
		return take_socket(argv[1]);
	code[0].imm = strcmp(argv[2], "drop") ? XDP_PASS : XDP_DROP;
	memset(&load, 0, sizeof(load));
	load.prog_type = BPF_PROG_TYPE_XDP;
	load.insns = (unsigned long)code;
	load.insn_cnt = sizeof(code) / sizeof(code[0]);
	load.license = (unsigned long)"GPL";
	program = bpf(BPF_PROG_LOAD, &load);
	if (program < 0)
		return refused("program");

	memset(&link, 0, sizeof(link));
	link.link_create.prog_fd = program;
	link.link_create.target_ifindex = if_nametoindex(argv[1]);
	link.link_create.attach_type = BPF_XDP;
	link.link_create.flags = strcmp(argv[3], "generic") ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
	if (bpf(BPF_LINK_CREATE, &link) < 0)
		return refused("attach");
	return attached();
}
