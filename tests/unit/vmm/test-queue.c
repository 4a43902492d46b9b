/* Virtqueues against drivers that are well-behaved, and hostile ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "vmm/virtio/queue.h"

#include <cmocka.h>

enum {
	SIZE = 8,
	TABLE = 0x1000,
	DRIVER = 0x2000,
	DEVICE = 0x3000,
	INDIRECT = 0x4000,
	BUFFERS = 0x10000,
	NEXT = 1,
	WRITE = 2,
	IS_INDIRECT = 4,
};

struct split_descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

struct packed_descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t id, flags;
};

struct fixture {
	struct memory *memory;
	struct queue queue;
	struct queue_chain chain;
};

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	assert_int_equal(memory_create(1 << 20, &f->memory, NULL), 0);
	f->queue.memory = f->memory;
	queue_reset(&f->queue, SIZE);
	f->queue.descriptors = TABLE;
	f->queue.driver = DRIVER;
	f->queue.device = DEVICE;
	f->queue.ready = true;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	memory_destroy(f->memory);
	own_mem_release(&f);
	return 0;
}

static void put_split(struct fixture *f, uint64_t table, unsigned int i, struct split_descriptor d)
{
	assert_int_equal(memory_write(f->memory, table + i * sizeof(d), &d, sizeof(d)), 0);
}

static void offer(struct fixture *f, uint16_t place, uint16_t head)
{
	uint16_t *ring = memory_at(f->memory, DRIVER, 4 + 2 * SIZE);

	ring[2 + place % SIZE] = head;
	ring[1] = (uint16_t)(place + 1);
}

static void split_chain_is_read_in_order(void **state)
{
	struct fixture *f = *state;
	char text[16] = "";

	memcpy(memory_at(f->memory, BUFFERS, 5), "hello", 5);
	memcpy(memory_at(f->memory, BUFFERS + 64, 6), " world", 6);
	put_split(f, TABLE, 3, (struct split_descriptor){BUFFERS, 5, NEXT, 1});
	put_split(f, TABLE, 1, (struct split_descriptor){BUFFERS + 64, 6, NEXT, 7});
	put_split(f, TABLE, 7, (struct split_descriptor){BUFFERS + 128, 100, WRITE, 0});
	assert_int_equal(queue_check(&f->queue), 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
	offer(f, 0, 3);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.out_bytes, 11);
	assert_int_equal(f->chain.in_bytes, 100);
	assert_int_equal(queue_copy_out(&f->chain, 0, text, sizeof(text)), 11);
	assert_string_equal(text, "hello world");
	assert_int_equal(queue_copy_out(&f->chain, 4, text, 3), 3);
	assert_memory_equal(text, "o w", 3);
	assert_int_equal(queue_push(&f->queue, &f->chain, 42), 0);
	assert_int_equal(*(uint16_t *)memory_at(f->memory, DEVICE + 2, 2), 1);
	assert_int_equal(*(uint32_t *)memory_at(f->memory, DEVICE + 4, 4), 3);
	assert_int_equal(*(uint32_t *)memory_at(f->memory, DEVICE + 8, 4), 42);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
}

static void split_indirect_chain_is_read(void **state)
{
	struct fixture *f = *state;

	put_split(f, TABLE, 0, (struct split_descriptor){INDIRECT, 32, IS_INDIRECT, 0});
	put_split(f, INDIRECT, 0, (struct split_descriptor){BUFFERS, 10, NEXT, 1});
	put_split(f, INDIRECT, 1, (struct split_descriptor){BUFFERS + 10, 20, WRITE, 0});
	offer(f, 0, 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.out_bytes, 10);
	assert_int_equal(f->chain.in_bytes, 20);
}

/* What a hostile driver writes into the first descriptors; every one of these breaks the queue. */
static void split_rejects_nonsense(void **state)
{
	static const struct {
		const char *name;
		struct split_descriptor d[2];
		struct split_descriptor indirect[2];
		uint16_t head;
	} cases[] = {
		{"loop", {{BUFFERS, 1, NEXT, 1}, {BUFFERS, 1, NEXT, 0}}, {{0}}, 0},
		{"head beyond the table", {{0}}, {{0}}, SIZE},
		{"next beyond the table", {{BUFFERS, 1, NEXT, SIZE}}, {{0}}, 0},
		{"address beyond memory", {{1 << 20, 1, 0, 0}}, {{0}}, 0},
		{"length beyond memory", {{(1 << 20) - 1, 2, 0, 0}}, {{0}}, 0},
		{"address that wraps", {{UINT64_MAX, 2, 0, 0}}, {{0}}, 0},
		{"out behind in", {{BUFFERS, 1, NEXT | WRITE, 1}, {BUFFERS, 1, 0, 0}}, {{0}}, 0},
		{"empty indirect table", {{INDIRECT, 0, IS_INDIRECT, 0}}, {{0}}, 0},
		{"odd indirect table", {{INDIRECT, 17, IS_INDIRECT, 0}}, {{0}}, 0},
		{"huge indirect table", {{0, 1 << 20, IS_INDIRECT, 0}}, {{0}}, 0},
		{"indirect outside", {{1 << 20, 16, IS_INDIRECT, 0}}, {{0}}, 0},
		{"indirect with next",
		 {{INDIRECT, 16, IS_INDIRECT | NEXT, 1}},
		 {{BUFFERS, 1, 0, 0}},
		 0},
		{"nested indirect",
		 {{INDIRECT, 16, IS_INDIRECT, 0}},
		 {{INDIRECT, 16, IS_INDIRECT, 0}},
		 0},
		{"loop in an indirect table",
		 {{INDIRECT, 32, IS_INDIRECT, 0}},
		 {{BUFFERS, 1, NEXT, 1}, {BUFFERS, 1, NEXT, 0}},
		 0},
	};
	struct fixture *f = *state;

	for (unsigned int i = 0; i < array_size(cases); i++) {
		struct queue queue = f->queue;

		for (unsigned int j = 0; j < 2; j++) {
			put_split(f, TABLE, j, cases[i].d[j]);
			put_split(f, INDIRECT, j, cases[i].indirect[j]);
		}
		offer(f, 0, cases[i].head);
		if (queue_pop(&queue, &f->chain) != -EINVAL)
			fail_msg("%s was accepted", cases[i].name);
		assert_int_equal(queue_pop(&queue, &f->chain), -EINVAL);
	}
}

static void split_rejects_an_index_too_far_ahead(void **state)
{
	struct fixture *f = *state;

	*(uint16_t *)memory_at(f->memory, DRIVER + 2, 2) = SIZE + 1;
	assert_int_equal(queue_pop(&f->queue, &f->chain), -EINVAL);
}

/* The last descriptor of a chain may be a table: both together are more than there is room for. */
static void split_rejects_a_chain_that_is_too_long(void **state)
{
	struct fixture *f = *state;

	put_split(f, TABLE, 0, (struct split_descriptor){BUFFERS, 1, NEXT, 1});
	put_split(f, TABLE, 1,
		  (struct split_descriptor){INDIRECT, 16 * QUEUE_SEGMENTS_MAX, IS_INDIRECT, 0});
	for (uint16_t i = 0; i < QUEUE_SEGMENTS_MAX; i++)
		put_split(f, INDIRECT, i,
			  (struct split_descriptor){BUFFERS, 1, NEXT, (uint16_t)(i + 1)});
	put_split(f, INDIRECT, QUEUE_SEGMENTS_MAX - 1, (struct split_descriptor){BUFFERS, 1, 0, 0});
	offer(f, 0, 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), -EINVAL);
}

/* One descriptor is offered over and over, and what was popped is not given back. */
static void split_rejects_more_chains_than_places(void **state)
{
	struct fixture *f = *state;

	put_split(f, TABLE, 0, (struct split_descriptor){BUFFERS, 1, 0, 0});
	for (uint16_t i = 0; i < SIZE; i++) {
		offer(f, i, 0);
		assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	}
	assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
	assert_int_equal(queue_push(&f->queue, &f->chain, 0), 0);
	offer(f, SIZE, 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	offer(f, SIZE + 1, 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), -EINVAL);
}

static void check_rejects_queues_outside_memory(void **state)
{
	struct fixture *f = *state;
	struct queue q = f->queue;

	q.descriptors = (1 << 20) - 16;
	assert_int_equal(queue_check(&q), -EINVAL);
	q = f->queue;
	q.driver = 1 << 20;
	assert_int_equal(queue_check(&q), -EINVAL);
	q = f->queue;
	q.device = UINT64_MAX - 3;
	assert_int_equal(queue_check(&q), -EINVAL);
	q = f->queue;
	q.size = 7;
	assert_int_equal(queue_check(&q), -EINVAL);
	q.packed = true;
	assert_int_equal(queue_check(&q), 0);
	q.size = QUEUE_SIZE_MAX + 1;
	assert_int_equal(queue_check(&q), -EINVAL);
}

static void split_signals_only_past_the_event(void **state)
{
	struct fixture *f = *state;
	uint16_t *used_event = memory_at(f->memory, DRIVER + 4 + 2 * SIZE, 2);

	f->queue.event_index = true;
	put_split(f, TABLE, 0, (struct split_descriptor){BUFFERS, 1, 0, 0});
	for (uint16_t i = 0; i < 40; i++) {
		bool wanted = i % 3 == 2;

		/* After every third one the driver wants to be told. */
		*used_event = (uint16_t)(i - i % 3 + 2);
		offer(f, i, 0);
		assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
		assert_int_equal(queue_push(&f->queue, &f->chain, 0), 0);
		if (i > 0)
			assert_int_equal(queue_wants_signal(&f->queue), wanted);
		else
			queue_wants_signal(&f->queue);
	}
}

/* Chains that the device leaves in the ring are no reason not to ring for those behind them. */
static void split_doorbell_rings_for_chains_behind_those_left(void **state)
{
	struct fixture *f = *state;
	const uint16_t *avail_event = memory_at(f->memory, DEVICE + 4 + 8 * SIZE, 2);
	struct queue before;

	f->queue.event_index = true;
	for (uint16_t i = 0; i < 4; i++) {
		put_split(f, TABLE, i, (struct split_descriptor){BUFFERS, 1, WRITE, 0});
		offer(f, i, i);
	}
	before = f->queue;
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	queue_rewind(&f->queue, &before);
	queue_set_doorbell(&f->queue, true);
	/* 2.7.10: the driver rings when it has written the entry of this number, which is its next. */
	assert_int_equal(*avail_event, 4);
	assert_true(queue_available(&f->queue));
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.id, 0);
}

static void put_packed(struct fixture *f, unsigned int i, struct packed_descriptor d, bool wrap)
{
	d.flags |= wrap ? 1 << 7 : 1 << 15;
	assert_int_equal(memory_write(f->memory, TABLE + i * sizeof(d), &d, sizeof(d)), 0);
}

/* Chains of three in a ring of eight: they come to lie across the end in every way. */
static void packed_ring_wraps(void **state)
{
	struct fixture *f = *state;
	unsigned int place = 0;
	bool wrap = true;

	f->queue.packed = true;
	for (unsigned int turn = 0; turn < 50; turn++) {
		unsigned int first = place;
		bool first_wrap = wrap;
		const struct packed_descriptor *used;

		for (unsigned int i = 0; i < 3; i++) {
			put_packed(f, place,
				   (struct packed_descriptor){BUFFERS + 64 * i, 10 + i,
							      (uint16_t)(100 + turn),
							      i < 2 ? NEXT : WRITE},
				   wrap);
			if (++place == SIZE) {
				place = 0;
				wrap = !wrap;
			}
		}
		assert_true(queue_available(&f->queue));
		assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
		queue_unpop(&f->queue, &f->chain);
		assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
		assert_int_equal(f->chain.id, 100 + turn);
		assert_int_equal(f->chain.out_bytes, 21);
		assert_int_equal(f->chain.in_bytes, 12);
		assert_int_equal(queue_push(&f->queue, &f->chain, 7), 0);
		used = memory_at(f->memory, TABLE + first * sizeof(*used), sizeof(*used));
		assert_int_equal(used->id, 100 + turn);
		assert_int_equal(used->length, 7);
		assert_int_equal(used->flags & (1 << 7 | 1 << 15),
				 first_wrap ? 1 << 7 | 1 << 15 : 0);
		assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
	}
}

/* Offers one buffer at the running number `n`, has the device take it and give it back. */
static void turn_packed(struct fixture *f, unsigned int n)
{
	put_packed(f, n % SIZE, (struct packed_descriptor){BUFFERS, 1, 0, WRITE},
		   n / SIZE % 2 == 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(queue_push(&f->queue, &f->chain, 0), 0);
}

/* However many turns of the ring the device has done since it signalled last, and wherever it stands. */
static void packed_signals_past_the_event_after_any_number_of_turns(void **state)
{
	struct fixture *f = *state;
	uint16_t *offset_wrap = memory_at(f->memory, DRIVER, 4);
	unsigned int n = 0;

	f->queue.packed = f->queue.event_index = true;
	offset_wrap[1] = 2; /* tell me at a place */
	for (unsigned int count = 1; count < 5 * SIZE; count++) {
		for (unsigned int behind = 1; behind <= count && behind <= SIZE; behind++) {
			unsigned int event = n + count - behind;

			for (unsigned int i = 0; i < count; i++)
				turn_packed(f, n + i);
			n += count;
			*offset_wrap = (uint16_t)(event % SIZE | (event / SIZE % 2 == 0) << 15);
			assert_true(queue_wants_signal(&f->queue));
		}
	}
	/* A place that has not been reached is none; nor is having given back nothing a reason. */
	for (unsigned int i = 0; i < SIZE - 2; i++) {
		*offset_wrap = (uint16_t)((n + 1) % SIZE | ((n + 1) / SIZE % 2 == 0) << 15);
		turn_packed(f, n++);
		assert_false(queue_wants_signal(&f->queue));
	}
	offset_wrap[1] = 0;
	assert_false(queue_wants_signal(&f->queue));
}

static void put_indirect(struct fixture *f, uint16_t id, struct packed_descriptor d[3])
{
	for (unsigned int i = 0; i < 3; i++) {
		d[i].id = (uint16_t)(id + 1 + i);
		assert_int_equal(
			memory_write(f->memory, INDIRECT + i * sizeof(d[i]), &d[i], sizeof(d[i])),
			0);
	}
}

/* A table takes one place of the ring, however long it is; NEXT and ids in it mean nothing (2.8.7). */
static void packed_indirect_chain_takes_one_place(void **state)
{
	struct fixture *f = *state;

	f->queue.packed = true;
	for (unsigned int n = 0; n < 5 * SIZE; n++) {
		bool wrap = n / SIZE % 2 == 0;
		uint16_t id = (uint16_t)(1000 + n);
		const struct packed_descriptor *used;
		char text[16] = "";

		memcpy(memory_at(f->memory, BUFFERS, 3), "one", 3);
		memcpy(memory_at(f->memory, BUFFERS + 64, 4), " two", 4);
		put_indirect(f, id,
			     (struct packed_descriptor[]){{BUFFERS, 3, 0, n % 2 ? NEXT : 0},
							  {BUFFERS + 64, 4, 0, 0},
							  {BUFFERS + 128, 50, 0, WRITE | NEXT}});
		put_packed(f, n % SIZE,
			   (struct packed_descriptor){INDIRECT, 3 * sizeof(*used), id, IS_INDIRECT},
			   wrap);
		assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
		assert_int_equal(f->chain.id, id);
		assert_int_equal(f->chain.descriptors, 1);
		assert_int_equal(f->chain.in_bytes, 50);
		assert_int_equal(queue_copy_out(&f->chain, 0, text, sizeof(text)), 7);
		assert_string_equal(text, "one two");
		assert_int_equal(queue_copy_in(&f->chain, 0, "answer", 6), 6);
		assert_memory_equal(memory_at(f->memory, BUFFERS + 128, 6), "answer", 6);
		assert_int_equal(queue_push(&f->queue, &f->chain, 6), 0);
		used = memory_at(f->memory, TABLE + n % SIZE * sizeof(*used), sizeof(*used));
		assert_int_equal(used->id, id);
		assert_int_equal(used->length, 6);
		assert_int_equal(used->flags, wrap ? 1 << 7 | 1 << 15 : 0);
		assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
	}
}

static void packed_rejects_nonsense(void **state)
{
	enum { D = sizeof(struct packed_descriptor) };
	static const struct {
		const char *name;
		struct packed_descriptor ring[2], table[3];
	} cases[] = {
		{"an empty table", {{INDIRECT, 0, 0, IS_INDIRECT}}, {{0}}},
		{"a table that ends within a descriptor",
		 {{INDIRECT, D + 8, 0, IS_INDIRECT}},
		 {{0}}},
		{"a table outside of memory", {{(1 << 20) - D, 2 * D, 0, IS_INDIRECT}}, {{0}}},
		{"a table that is too long", {{INDIRECT, 4096 * D, 0, IS_INDIRECT}}, {{0}}},
		{"a table with more behind it",
		 {{INDIRECT, D, 0, IS_INDIRECT | NEXT}, {BUFFERS, 1, 0, 0}},
		 {{BUFFERS, 1, 0, 0}}},
		{"a table within a chain",
		 {{BUFFERS, 1, 0, NEXT}, {INDIRECT, D, 0, IS_INDIRECT}},
		 {{BUFFERS, 1, 0, 0}}},
		{"a buffer outside of memory",
		 {{INDIRECT, D, 0, IS_INDIRECT}},
		 {{1 << 20, 1, 0, WRITE}}},
		{"what is read behind what is written",
		 {{INDIRECT, 2 * D, 0, IS_INDIRECT}},
		 {{BUFFERS, 1, 0, WRITE}, {BUFFERS, 1, 0, 0}}},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < array_size(cases); i++) {
		struct packed_descriptor table[3];

		memcpy(table, cases[i].table, sizeof(table));
		queue_reset(&f->queue, SIZE);
		f->queue.descriptors = TABLE;
		f->queue.driver = DRIVER;
		f->queue.device = DEVICE;
		f->queue.ready = f->queue.packed = true;
		put_indirect(f, 0, table);
		put_packed(f, 0, cases[i].ring[0], true);
		put_packed(f, 1, cases[i].ring[1], true);
		if (queue_pop(&f->queue, &f->chain) != -EINVAL)
			fail_msg("it takes %s", cases[i].name);
		assert_int_equal(queue_pop(&f->queue, &f->chain), -EINVAL);
	}
}

static void packed_rejects_an_endless_chain(void **state)
{
	struct fixture *f = *state;

	f->queue.packed = true;
	for (unsigned int i = 0; i < SIZE; i++)
		put_packed(f, i, (struct packed_descriptor){BUFFERS, 1, 0, NEXT}, true);
	assert_int_equal(queue_pop(&f->queue, &f->chain), -EINVAL);
}

static void packed_rejects_a_chain_made_available_in_part(void **state)
{
	struct fixture *f = *state;

	f->queue.packed = true;
	put_packed(f, 0, (struct packed_descriptor){BUFFERS, 1, 0, NEXT}, true);
	assert_int_equal(queue_pop(&f->queue, &f->chain), -EINVAL);
}

static void packed_rejects_more_chains_than_places(void **state)
{
	struct fixture *f = *state;

	f->queue.packed = true;
	for (unsigned int i = 0; i < SIZE; i++) {
		put_packed(f, i, (struct packed_descriptor){BUFFERS, 1, 0, 0}, true);
		assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	}
	assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
	assert_int_equal(queue_push(&f->queue, &f->chain, 0), 0);
	put_packed(f, 0, (struct packed_descriptor){BUFFERS, 1, 0, 0}, false);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	put_packed(f, 1, (struct packed_descriptor){BUFFERS, 1, 0, 0}, false);
	assert_int_equal(queue_pop(&f->queue, &f->chain), -EINVAL);
}

static void state_survives_saving(void **state)
{
	struct fixture *f = *state;
	struct state_writer out = {0};
	struct state_reader in;
	struct queue copy = {.memory = f->memory};

	f->queue.next_avail = 5;
	f->queue.next_used = 4;
	f->queue.vector = 2;
	state_begin(&out, "queue", 0, 1);
	queue_save(&f->queue, &out);
	state_end(&out);
	assert_int_equal(state_find(out.data.data, out.data.len, "queue", 0, &in), 0);
	queue_load(&copy, &in);
	assert_int_equal(state_finish(&in), 0);
	assert_memory_equal(&copy, &f->queue, sizeof(copy));
	assert_int_equal(state_find(out.data.data, out.data.len, "queue", 1, &in), -ENOENT);
	assert_int_equal(state_find(out.data.data, out.data.len - 1, "queue", 0, &in), -EINVAL);
	buf_release(&out.data);
}

/* What a snapshot says is as little believed as what a driver says. */
static void impossible_state_is_refused(void **state)
{
	struct fixture *f = *state;
	const struct queue good = f->queue;
	struct queue bad[6];

	for (unsigned int i = 0; i < array_size(bad); i++) {
		struct state_writer out = {0};
		struct state_reader in;
		struct queue copy = {.memory = f->memory};

		bad[i] = good;
		bad[0].size = 0;
		bad[1].size = QUEUE_SIZE_MAX * 2;
		bad[2].descriptors = 1 << 20;
		bad[3].device = UINT64_MAX - 3;
		bad[4].next_avail = SIZE;
		bad[5].next_used = SIZE;
		state_begin(&out, "queue", 0, 1);
		queue_save(&bad[i], &out);
		state_end(&out);
		assert_int_equal(state_find(out.data.data, out.data.len, "queue", 0, &in), 0);
		copy.packed = i >= 4;
		queue_load(&copy, &in);
		if (state_finish(&in) != -EINVAL)
			fail_msg("state %u was accepted", i);
		buf_release(&out.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(split_chain_is_read_in_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(split_indirect_chain_is_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(split_rejects_nonsense, set_up, tear_down),
		cmocka_unit_test_setup_teardown(split_rejects_an_index_too_far_ahead, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(split_rejects_a_chain_that_is_too_long, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(split_rejects_more_chains_than_places, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(check_rejects_queues_outside_memory, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(split_signals_only_past_the_event, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(split_doorbell_rings_for_chains_behind_those_left,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(packed_ring_wraps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			packed_signals_past_the_event_after_any_number_of_turns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(packed_indirect_chain_takes_one_place, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(packed_rejects_nonsense, set_up, tear_down),
		cmocka_unit_test_setup_teardown(packed_rejects_an_endless_chain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(packed_rejects_a_chain_made_available_in_part,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(packed_rejects_more_chains_than_places, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(state_survives_saving, set_up, tear_down),
		cmocka_unit_test_setup_teardown(impossible_state_is_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
