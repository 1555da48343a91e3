// SPDX-License-Identifier: GPL-2.0
/*
 * The part of the plugin that notes which cache lines go from vCPU to vCPU.
 *
 * Caches are taken to be of unlimited size: a line moves when a vCPU reads what another one has written since it had the
 * line, or writes what another one has. Only guest memory counts, and only what instructions do, not devices.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "plugin.h"

#define LINE 64
#define VCPUS 8
#define TABLE (1 << 20) /* entries; a power of two */

/* A cache line of the guest's memory, and what the vCPUs' caches would have of it. */
struct line {
	uint64_t address; /* physical */
	uint8_t holders; /* a bit per vCPU that has what is in it now */
	bool written;
	uint64_t by[VCPUS]; /* the instruction by which each one got it, or has last written it */
};

struct move {
	uint64_t line; /* physical address */
	uint64_t address; /* virtual */
	uint64_t instruction;
	uint64_t other;
	uint64_t count;
};

static struct line *lines; /* hashed; holders is 0 where there is none */
static struct move *moves; /* hashed; count is 0 where there is none */
static size_t used_lines, used_moves;
static bool noting;
static pthread_mutex_t moves_lock = PTHREAD_MUTEX_INITIALIZER;

static size_t hash(uint64_t number)
{
	return number * 0x9e3779b97f4a7c15 >> 40;
}

/* Whoever measures must do so for a shorter time. */
static void one_more(size_t *used)
{
	if (++*used == TABLE)
		abort();
}

static struct line *find_line(uint64_t address)
{
	size_t place = hash(address / LINE);

	while (lines[place % TABLE].holders && lines[place % TABLE].address != address)
		place++;
	if (!lines[place % TABLE].holders) {
		one_more(&used_lines);
		lines[place % TABLE].address = address;
	}
	return &lines[place % TABLE];
}

static void note_move(const struct line *line, uint64_t address, uint64_t instruction, uint64_t other)
{
	size_t place = hash(line->address / LINE * 31 + instruction * 7 + other);

	for (;; place++) {
		struct move *it = &moves[place % TABLE];

		if (!it->count) {
			one_more(&used_moves);
			*it = (struct move){ line->address, address, instruction, other, 1 };
			return;
		}
		if (it->line == line->address && it->instruction == instruction && it->other == other) {
			it->count++;
			return;
		}
	}
}

static void note_access(unsigned int vcpu, struct line *line, uint64_t address, uint64_t instruction, bool store)
{
	uint8_t own = 1 << vcpu, others = line->holders & ~own;

	/* What nobody has written since the start may be in everyone's cache. */
	if (others && (store || (line->written && !(line->holders & own))))
		note_move(line, address, instruction, line->by[__builtin_ctz(others)]);
	if (store || !(line->holders & own))
		line->by[vcpu] = instruction;
	line->holders = store ? own : line->holders | own;
	line->written |= store;
}

static void accessed(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *instruction)
{
	struct qemu_plugin_hwaddr *where;

	if (!__atomic_load_n(&noting, __ATOMIC_RELAXED) || vcpu >= VCPUS)
		return;
	where = qemu_plugin_get_hwaddr(info, address);
	if (!where || qemu_plugin_hwaddr_is_io(where))
		return;
	pthread_mutex_lock(&moves_lock);
	if (noting)
		note_access(vcpu, find_line(qemu_plugin_hwaddr_phys_addr(where) / LINE * LINE), address,
			    (uintptr_t)instruction, qemu_plugin_mem_is_store(info));
	pthread_mutex_unlock(&moves_lock);
}

void start_moves(void)
{
	pthread_mutex_lock(&moves_lock);
	free(lines);
	free(moves);
	lines = calloc(TABLE, sizeof(*lines));
	moves = calloc(TABLE, sizeof(*moves));
	if (!lines || !moves)
		abort();
	used_lines = used_moves = 0;
	__atomic_store_n(&noting, true, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&moves_lock);
}

void answer_moves(FILE *out)
{
	pthread_mutex_lock(&moves_lock);
	__atomic_store_n(&noting, false, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&moves_lock);
	for (size_t i = 0; moves && i < TABLE; i++) {
		const struct move *it = &moves[i];

		if (it->count)
			fprintf(out, "%" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIu64 "\n", it->line,
				it->address, it->instruction, it->other, it->count);
	}
}

void watch_block(struct qemu_plugin_tb *tb)
{
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct qemu_plugin_insn *each = qemu_plugin_tb_get_insn(tb, i);

		qemu_plugin_register_vcpu_mem_cb(each, accessed, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
						 (void *)(uintptr_t)qemu_plugin_insn_vaddr(each));
	}
}
