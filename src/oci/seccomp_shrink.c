/*
 * seccomp_shrink: see seccomp_shrink.h.
 *
 * The program is walked through for each architecture that it compares with, and for any other, with an
 * interval of numbers in the place of a number; comparisons split the interval. A walk ends at a RET, or
 * where an argument is loaded: what follows there is copied as it is. The new program finds the
 * interval by bisection:
 *
 *     ld   architecture
 *     jeq  the first, else over the next
 *     ja   its part             (for each architecture)
 *     the end for any other architecture
 *     part: ld number; tree of jge; ends          (for each architecture)
 *     what was copied
 *
 * Ends of a part are shared and stand behind its tree, within the 255 instructions of a jump: a part that
 * does not fit leaves the program as it was.
 */
#include "oci/seccomp_shrink.h"

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
	ARCHITECTURES_MAX = 8,
	INTERVALS_MAX = 4096, /* of one architecture, before neighbours are joined */
	PARTS_MAX = 8,        /* of an interval, by a test of a bit */
	DEPTH_MAX = 4096,
	JUMP_MAX = 255,
};

#define AT_NUMBER ((uint32_t)offsetof(struct seccomp_data, nr))
#define AT_ARCHITECTURE ((uint32_t)offsetof(struct seccomp_data, arch))

/* How a walk ends: at this instruction, a RET or a load of an argument. Equal RETs are one. */
struct end {
	uint32_t first, last;
	size_t at;
};

struct walk {
	const struct sock_filter *code;
	size_t count;
	bool has_architecture; /* else: one that is none of `known` */
	uint32_t architecture;
	uint32_t known[ARCHITECTURES_MAX];
	size_t known_count;
	struct end *ends; /* sorted: walks go from low to high */
	size_t end_count;
};

enum loaded { LOADED_NOTHING, LOADED_ARCHITECTURE, LOADED_NUMBER };

/* --- walking ----------------------------------------------------------------------------------------- */

static bool is_same_end(const struct sock_filter *code, size_t a, size_t b)
{
	return a == b || (code[a].code == (BPF_RET | BPF_K) && code[b].code == (BPF_RET | BPF_K) &&
			  code[a].k == code[b].k);
}

static bool add_end(struct walk *w, uint32_t first, uint32_t last, size_t at)
{
	struct end *before = w->end_count ? &w->ends[w->end_count - 1] : NULL;

	if (before && (uint64_t)before->last + 1 != first)
		return false;
	if (before && is_same_end(w->code, before->at, at)) {
		before->last = last;
		return true;
	}
	if (w->end_count == INTERVALS_MAX)
		return false;
	w->ends[w->end_count++] = (struct end){first, last, at};
	return true;
}

static bool holds(uint16_t code, uint32_t a, uint32_t k)
{
	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return a == k;
	case BPF_JGT:
		return a > k;
	case BPF_JGE:
		return a >= k;
	default:
		return a & k;
	}
}

/* The last number from `first` on for which the comparison comes out as for `first`. */
static uint32_t same_until(uint16_t code, uint32_t first, uint32_t last, uint32_t k)
{
	uint64_t until = last;

	switch (BPF_OP(code)) {
	case BPF_JEQ:
		until = first == k ? k : first < k ? (uint64_t)k - 1 : last;
		break;
	case BPF_JGT:
		until = first <= k ? k : last;
		break;
	case BPF_JGE:
		until = first < k ? (uint64_t)k - 1 : last;
		break;
	default: /* one bit */
		until = first | (k - 1);
		break;
	}
	return until < last ? (uint32_t)until : last;
}

static bool walk(struct walk *w, size_t at, enum loaded loaded, uint32_t first, uint32_t last,
		 unsigned int depth);

/* One that was overlooked would be taken for "any other": it is added, for another walk. */
static bool is_known(struct walk *w, uint32_t architecture)
{
	for (size_t i = 0; i < w->known_count; i++)
		if (w->known[i] == architecture)
			return true;
	if (w->known_count < ARCHITECTURES_MAX)
		w->known[w->known_count++] = architecture;
	return false;
}

static bool walk_jump(struct walk *w, size_t at, enum loaded loaded, uint32_t first, uint32_t last,
		      unsigned int depth)
{
	const struct sock_filter *c = &w->code[at];
	const bool one_bit = c->k != 0 && (c->k & (c->k - 1)) == 0;
	unsigned int parts = 0;

	if (loaded == LOADED_ARCHITECTURE) {
		const bool yes = w->has_architecture && holds(c->code, w->architecture, c->k);

		if (BPF_OP(c->code) != BPF_JEQ || !is_known(w, c->k))
			return false;
		return walk(w, at + 1 + (yes ? c->jt : c->jf), loaded, first, last, depth + 1);
	}
	if (loaded != LOADED_NUMBER || (BPF_OP(c->code) == BPF_JSET && !one_bit))
		return false;
	for (;;) {
		const uint32_t until = same_until(c->code, first, last, c->k);

		if (++parts > PARTS_MAX ||
		    !walk(w, at + 1 + (holds(c->code, first, c->k) ? c->jt : c->jf), loaded, first,
			  until, depth + 1))
			return false;
		if (until == last)
			return true;
		first = until + 1;
	}
}

static bool walk(struct walk *w, size_t at, enum loaded loaded, uint32_t first, uint32_t last,
		 unsigned int depth)
{
	for (; at < w->count && depth < DEPTH_MAX; at++) {
		const struct sock_filter *c = &w->code[at];

		switch (c->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (c->k != AT_NUMBER && c->k != AT_ARCHITECTURE)
				return add_end(w, first, last, at);
			loaded = c->k == AT_NUMBER ? LOADED_NUMBER : LOADED_ARCHITECTURE;
			break;
		case BPF_JMP | BPF_JA:
			at += c->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
		case BPF_JMP | BPF_JGT | BPF_K:
		case BPF_JMP | BPF_JGE | BPF_K:
		case BPF_JMP | BPF_JSET | BPF_K:
			return walk_jump(w, at, loaded, first, last, depth);
		case BPF_RET | BPF_K:
			return add_end(w, first, last, at);
		default:
			return false;
		}
	}
	return false;
}

/* --- writing ----------------------------------------------------------------------------------------- */

struct output {
	struct sock_filter *code;
	size_t count, max;
	/* Where what is copied will be: for each old instruction, its place among the copied ones plus 1. */
	size_t *copied;
	/* Jumps to there, which are put right at the end. */
	size_t *open;
	size_t open_count;
};

static bool put(struct output *o, struct sock_filter c)
{
	if (o->count == o->max)
		return false;
	o->code[o->count++] = c;
	return true;
}

/* The places of the shared ends of a part, behind a tree of `nodes` comparisons. */
static size_t end_index(const struct walk *w, size_t *unique, size_t *unique_count, size_t at)
{
	for (size_t i = 0; i < *unique_count; i++)
		if (is_same_end(w->code, unique[i], at))
			return i;
	unique[*unique_count] = at;
	return (*unique_count)++;
}

/* A tree over ends [from, to), at least two of them: (to - from - 1) comparisons, the left half directly
 * behind its comparison. `base` is where the part's shared ends begin. */
static bool put_tree(struct output *o, const struct walk *w, const size_t *index, size_t from,
		     size_t to, size_t base)
{
	const size_t middle = from + (to - from) / 2, at = o->count;
	size_t left = at + 1, right = at + 1 + (middle - from - 1);

	if (middle - from == 1)
		left = base + index[from];
	if (to - middle == 1)
		right = base + index[middle];
	if (left - at - 1 > JUMP_MAX || right - at - 1 > JUMP_MAX)
		return false;
	if (!put(o,
		 (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, w->ends[middle].first,
					      (uint8_t)(right - at - 1), (uint8_t)(left - at - 1))))
		return false;
	return (middle - from == 1 || put_tree(o, w, index, from, middle, base)) &&
	       (to - middle == 1 || put_tree(o, w, index, middle, to, base));
}

static bool put_end(struct output *o, const struct walk *w, size_t at)
{
	if (w->code[at].code == (BPF_RET | BPF_K))
		return put(o, w->code[at]);
	o->copied[at] = 1;
	o->open[o->open_count++] = o->count;
	/* The old place, for now. */
	return put(o, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)at));
}

static bool put_part(struct output *o, const struct walk *w)
{
	own_mem size_t *index = mem_new_array(w->end_count, sizeof(*index));
	own_mem size_t *unique = mem_new_array(w->end_count, sizeof(*unique));
	size_t unique_count = 0;
	bool done = true;

	for (size_t i = 0; i < w->end_count; i++)
		index[i] = end_index(w, unique, &unique_count, w->ends[i].at);
	if (w->end_count > 1)
		done = put(o, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT_NUMBER)) &&
		       put_tree(o, w, index, 0, w->end_count, o->count + w->end_count - 1);
	for (size_t i = 0; done && i < unique_count; i++)
		done = put_end(o, w, unique[i]);
	return done;
}

/* Marks all that can be reached from what is marked: jumps only lead forwards. */
static void mark_reachable(const struct sock_filter *code, size_t count, size_t *copied)
{
	for (size_t i = 0; i < count; i++) {
		const struct sock_filter *c = &code[i];
		size_t next[2] = {i + 1, i + 1};

		if (!copied[i] || BPF_CLASS(c->code) == BPF_RET)
			continue;
		if (c->code == (BPF_JMP | BPF_JA)) {
			next[0] = next[1] = i + 1 + c->k;
		} else if (BPF_CLASS(c->code) == BPF_JMP) {
			next[0] += c->jt;
			next[1] += c->jf;
		}
		for (int k = 0; k < 2; k++)
			if (next[k] < count)
				copied[next[k]] = 1;
	}
}

/* Copies what is marked, in its order: whatever lay between two instructions, there is less of it now. */
static bool put_copied(struct output *o, const struct sock_filter *code, size_t count)
{
	const size_t base = o->count;
	size_t place = 0;

	mark_reachable(code, count, o->copied);
	for (size_t i = 0; i < count; i++)
		if (o->copied[i])
			o->copied[i] = ++place;
	for (size_t i = 0; i < o->open_count; i++) {
		struct sock_filter *jump = &o->code[o->open[i]];

		jump->k = (uint32_t)(base + o->copied[jump->k] - 1 - (o->open[i] + 1));
	}
	for (size_t i = 0; i < count; i++) {
		struct sock_filter c = code[i];

		if (!o->copied[i])
			continue;
		if (c.code == (BPF_JMP | BPF_JA)) {
			c.k = (uint32_t)(o->copied[i + 1 + c.k] - o->copied[i] - 1);
		} else if (BPF_CLASS(c.code) == BPF_JMP) {
			c.jt = (uint8_t)(o->copied[i + 1 + c.jt] - o->copied[i] - 1);
			c.jf = (uint8_t)(o->copied[i + 1 + c.jf] - o->copied[i] - 1);
		}
		if (!put(o, c))
			return false;
	}
	return true;
}

/* --- together ---------------------------------------------------------------------------------------- */

/* The architectures that the program compares with: all are on the way of one that is none of them. */
static bool find_architectures(struct walk *w)
{
	size_t before;

	do {
		before = w->known_count;
		w->end_count = 0;
		if (walk(w, 0, LOADED_NOTHING, 0, UINT32_MAX, 0))
			return true;
	} while (w->known_count > before);
	return false;
}

/* Where this part begins is where the jump for its architecture leads. */
static bool put_architecture(struct output *o, struct walk *w, const uint32_t *architecture,
			     size_t jump)
{
	w->has_architecture = architecture != NULL;
	w->architecture = architecture ? *architecture : 0;
	w->end_count = 0;
	if (!walk(w, 0, LOADED_NOTHING, 0, UINT32_MAX, 0))
		return false;
	if (architecture)
		o->code[jump].k = (uint32_t)(o->count - jump - 1);
	return put_part(o, w);
}

static bool write(struct output *o, struct walk *w)
{
	const uint32_t *architectures = w->known;
	const size_t count = w->known_count;
	bool done = put(o, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT_ARCHITECTURE));

	for (size_t i = 0; done && i < count; i++)
		done = put(o, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							   architectures[i], 0, 1)) &&
		       put(o, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
	done = done && put_architecture(o, w, NULL, 0);
	for (size_t i = 0; done && i < count; i++)
		done = put_architecture(o, w, &architectures[i], 2 + 2 * i);
	return done && put_copied(o, w->code, w->count);
}

void seccomp_shrink(struct seccomp_program *p)
{
	own_mem size_t *copied = mem_new_array(p->count + 1, sizeof(*copied));
	own_mem size_t *open = mem_new_array(p->count + 1, sizeof(*open));
	own_mem struct end *ends = mem_new_array(INTERVALS_MAX, sizeof(*ends));
	own_mem struct sock_filter *code = mem_new_array(p->count + 1, sizeof(*code));
	struct walk w = {.code = p->code, .count = p->count, .ends = ends};
	struct output o = {.code = code, .max = p->count, .copied = copied, .open = open};

	/* A program that would be longer has no room. */
	if (!find_architectures(&w) || !write(&o, &w) || o.count >= p->count)
		return;
	free(p->code);
	p->code = take(code);
	p->count = o.count;
}
