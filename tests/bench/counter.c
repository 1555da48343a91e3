// SPDX-License-Identifier: GPL-2.0
/*
 * A QEMU plugin that counts the guest's instructions, user and kernel apart, for as long as it runs.
 *
 * Arguments: socket=PATH, where it answers, blocks=on to count every translated block as well, and moves=on to be able
 * to note which memory vCPUs share.
 * A client connects and writes one letter: 't' gets a line "USER KERNEL", 'b' a line "ADDRESS INSTRUCTIONS COUNT"
 * per block. The counters only grow: whoever measures takes the difference of two answers.
 * 's' starts noting each time that a cache line would move to another vCPU's cache, if those were large enough, or be
 * taken from one that has read it. 'w' ends that and gets a line "LINE ADDRESS INSTRUCTION OTHER COUNT" for each place
 * in physical and virtual memory, the instruction that needed it, and the one by which the other vCPU had got it.
 */
#include <inttypes.h>
#include <pthread.h>
#include <search.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugin.h"

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_API;

/* Per vCPU, so that counting needs no atomics. */
struct totals {
	uint64_t user;
	uint64_t kernel;
};

/* A block is known by where it begins and how long it is: QEMU may translate the same one again. */
struct block {
	uint64_t address;
	uint64_t instructions;
	struct qemu_plugin_scoreboard *score;
};

static qemu_plugin_u64 user, kernel;
static bool want_blocks, want_moves;
static void *blocks; /* a tree of tsearch() */
static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *blocks_out;
static int listener = -1;

static int compare(const void *left, const void *right)
{
	const struct block *a = left, *b = right;

	if (a->address != b->address)
		return a->address < b->address ? -1 : 1;
	if (a->instructions != b->instructions)
		return a->instructions < b->instructions ? -1 : 1;
	return 0;
}

static qemu_plugin_u64 block_counter(uint64_t address, uint64_t instructions)
{
	struct block *block = calloc(1, sizeof(*block)), **found;

	if (!block)
		abort();
	block->address = address;
	block->instructions = instructions;
	pthread_mutex_lock(&blocks_lock);
	found = tsearch(block, &blocks, compare);
	if (!found)
		abort();
	if (*found == block)
		block->score = qemu_plugin_scoreboard_new(sizeof(uint64_t));
	else
		free(block);
	block = *found;
	pthread_mutex_unlock(&blocks_lock);
	return (qemu_plugin_u64){ .score = block->score };
}

static void count(struct qemu_plugin_tb *tb)
{
	uint64_t address = qemu_plugin_tb_vaddr(tb);
	size_t instructions = qemu_plugin_tb_n_insns(tb);

	/* Linux has itself in the upper half of the address space. */
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64,
							  address >> 63 ? kernel : user, instructions);
	if (want_blocks)
		qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64,
								  block_counter(address, instructions), 1);
	if (want_moves)
		watch_block(tb);
}

#if PLUGIN_API >= 7
static void translated(struct qemu_plugin_tb *tb, void *userdata)
{
	(void)userdata;
	count(tb);
}
#else
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	count(tb);
}
#endif

static void print_block(const void *node, VISIT visit, int depth)
{
	const struct block *block = *(struct block *const *)node;

	(void)depth;
	if (visit == postorder || visit == leaf)
		fprintf(blocks_out, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", block->address, block->instructions,
			qemu_plugin_u64_sum((qemu_plugin_u64){ .score = block->score }));
}

static void answer_blocks(FILE *out)
{
	pthread_mutex_lock(&blocks_lock);
	blocks_out = out;
	twalk(blocks, print_block);
	pthread_mutex_unlock(&blocks_lock);
}

static void *serve(void *unused)
{
	(void)unused;
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		char what = 0;
		FILE *out;

		if (fd < 0)
			continue;
		out = fdopen(fd, "r+");
		if (!out) {
			close(fd);
			continue;
		}
		if (read(fd, &what, 1) == 1 && what == 't')
			fprintf(out, "%" PRIu64 " %" PRIu64 "\n", qemu_plugin_u64_sum(user),
				qemu_plugin_u64_sum(kernel));
		else if (what == 'b' && want_blocks)
			answer_blocks(out);
		else if (what == 's' && want_moves)
			start_moves();
		else if (what == 'w' && want_moves)
			answer_moves(out);
		fclose(out);
	}
	return NULL;
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
								char **argv)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct qemu_plugin_scoreboard *score;
	pthread_t thread;

	(void)info;
	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], "socket=", strlen("socket=")) == 0)
			snprintf(name.sun_path, sizeof(name.sun_path), "%s", argv[i] + strlen("socket="));
		else if (strcmp(argv[i], "blocks=on") == 0)
			want_blocks = true;
		else if (strcmp(argv[i], "moves=on") == 0)
			want_moves = true;
	}
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&name, sizeof(name)) || listen(listener, 4)) {
		perror(name.sun_path);
		return -1;
	}
	score = qemu_plugin_scoreboard_new(sizeof(struct totals));
	user = (qemu_plugin_u64){ score, offsetof(struct totals, user) };
	kernel = (qemu_plugin_u64){ score, offsetof(struct totals, kernel) };
	if (pthread_create(&thread, NULL, serve, NULL))
		return -1;
	pthread_detach(thread);
#if PLUGIN_API >= 7
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
#else
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
#endif
	return 0;
}
