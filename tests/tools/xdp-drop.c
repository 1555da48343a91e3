// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * xdp-drop DEVICE [generic]: has the kernel drop each frame that DEVICE receives, in or (generic) just behind the driver, until it
 * is killed. Prints a line once it does so. For comparing what that costs with netmap.
 */
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

int main(int argc, char **argv)
{
	/* r0 = XDP_DROP; exit */
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_DROP },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load, link;
	int program;

	if (argc < 2)
		return 2;
	memset(&load, 0, sizeof(load));
	load.prog_type = BPF_PROG_TYPE_XDP;
	load.insns = (unsigned long)code;
	load.insn_cnt = sizeof(code) / sizeof(code[0]);
	load.license = (unsigned long)"GPL";
	program = bpf(BPF_PROG_LOAD, &load);
	if (program < 0) {
		perror("BPF_PROG_LOAD");
		return 1;
	}
	memset(&link, 0, sizeof(link));
	link.link_create.prog_fd = program;
	link.link_create.target_ifindex = if_nametoindex(argv[1]);
	link.link_create.attach_type = BPF_XDP;
	link.link_create.flags = argc > 2 ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
	if (bpf(BPF_LINK_CREATE, &link) < 0) {
		perror("BPF_LINK_CREATE");
		return 1;
	}
	puts("dropping");
	fflush(stdout);
	pause();
	return 0;
}
