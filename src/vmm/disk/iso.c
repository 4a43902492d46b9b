/*
 * iso: see iso.h. The volume in sectors of 2048 bytes:
 *
 *     16      the volume's descriptor, which holds the root directory's record
 *     17      the end of the descriptors
 *     18, 19  the path table, which names the root directory, in both orders of bytes
 *     20      the root directory
 *     21 ...  the files
 *
 * A record of the directory has a short name of ISO's own, and behind it Rock Ridge's entries with the real
 * name and mode.
 */
#include "vmm/disk/iso.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

enum {
	SECTOR = 2048,
	AT_DESCRIPTOR = 16,
	AT_END = 17,
	AT_PATHS_LITTLE = 18,
	AT_PATHS_BIG = 19,
	AT_ROOT = 20,
	AT_FILES = 21,
	FILE_SIZE_MAX = 64 << 20,
	PATHS_SIZE = 10,
	IS_DIRECTORY = 2,
	MODE_FILE = 0100444,
	MODE_DIRECTORY = 0040555,
	RECORD_MAX = 255,
};

/* A number as ISO has it: in both orders of bytes. */
struct __attribute__((packed)) both16 {
	uint16_t little, big;
};
struct __attribute__((packed)) both32 {
	uint32_t little, big;
};

static struct both16 both16(unsigned int n)
{
	return (struct both16){htole16((uint16_t)n), htobe16((uint16_t)n)};
}

static struct both32 both32(size_t n)
{
	return (struct both32){htole32((uint32_t)n), htobe32((uint32_t)n)};
}

struct __attribute__((packed)) record {
	uint8_t length, attributes_length;
	struct both32 sector, size;
	uint8_t date[7]; /* years since 1900, month, day, hour, minute, second, zone */
	uint8_t flags, unit_size, gap_size;
	struct both16 volume;
	uint8_t name_length;
	uint8_t rest[RECORD_MAX - 33]; /* the name, a byte to make it even, Rock Ridge */
};

struct __attribute__((packed)) descriptor {
	uint8_t type;
	char id[5];
	uint8_t version, unused1;
	char system[32], label[32];
	uint8_t unused2[8];
	struct both32 sectors;
	uint8_t unused3[32];
	struct both16 volumes, volume, sector_size;
	struct both32 paths_size;
	uint32_t paths_little, paths_little_2, paths_big, paths_big_2;
	uint8_t root[34];
	char names[128 * 4], files[37 * 3];
	char dates[4][17]; /* sixteen digits and a zone */
	uint8_t structure_version, unused4[1166];
};

/* A Rock Ridge entry behind the record's name. */
static void add_entry(struct record *r, const char *signature, uint8_t version, const void *data,
		      size_t size)
{
	uint8_t *at = (uint8_t *)r + r->length;

	memcpy(at, signature, 2);
	at[2] = (uint8_t)(4 + size);
	at[3] = version;
	memcpy(at + 4, data, size);
	r->length = (uint8_t)(r->length + 4 + size);
}

static void begin_record(struct record *r, const char *name, size_t name_len, size_t sector,
			 size_t size, bool is_directory)
{
	*r = (struct record){
		.sector = both32(sector),
		.size = both32(size),
		.date = {80, 1, 1},
		.flags = is_directory ? IS_DIRECTORY : 0,
		.volume = both16(1),
		.name_length = (uint8_t)name_len,
	};
	memcpy(r->rest, name, name_len);
	r->length = (uint8_t)(offsetof(struct record, rest) + name_len + (name_len % 2 == 0));
}

/* Mode, links, user, group. */
static void add_mode(struct record *r, unsigned int mode, unsigned int links)
{
	const struct both32 numbers[] = {both32(mode), both32(links), both32(0), both32(0)};

	add_entry(r, "PX", 1, numbers, sizeof(numbers));
}

/* Records have an even length. */
static size_t end_record(struct record *r)
{
	r->length = (uint8_t)(r->length + r->length % 2);
	return r->length;
}

/* The first record says that Rock Ridge is there. */
static size_t add_self(uint8_t *at)
{
	static const uint8_t check[] = {0xbe, 0xef, 0};
	static const char extension[] = "\x0a\0\0\1RRIP_1991A"; /* lengths, version, name */
	struct record r;

	begin_record(&r, "", 1, AT_ROOT, SECTOR, true);
	add_entry(&r, "SP", 1, check, sizeof(check));
	add_mode(&r, MODE_DIRECTORY, 2);
	add_entry(&r, "ER", 1, extension, sizeof(extension) - 1);
	end_record(&r);
	memcpy(at, &r, r.length);
	return r.length;
}

static size_t add_parent(uint8_t *at)
{
	struct record r;

	begin_record(&r, "\1", 1, AT_ROOT, SECTOR, true);
	add_mode(&r, MODE_DIRECTORY, 2);
	end_record(&r);
	memcpy(at, &r, r.length);
	return r.length;
}

/* Returns the number of bytes, or -E2BIG if the directory is full. */
static int add_file(uint8_t *at, size_t room, unsigned int number, const struct iso_file *file,
		    size_t sector)
{
	char own_name[16], name[1 + ISO_NAME_MAX];
	struct record r;

	/* ISO's own names are in order, as they have to be. */
	snprintf(own_name, sizeof(own_name), "FILE%02u.;1", number);
	begin_record(&r, own_name, strlen(own_name), sector, file->size_bytes, false);
	add_mode(&r, MODE_FILE, 1);
	name[0] = 0; /* it does not go on in another entry */
	memcpy(name + 1, file->name, strlen(file->name));
	add_entry(&r, "NM", 1, name, 1 + strlen(file->name));
	end_record(&r);
	if (r.length > room)
		return -E2BIG;
	memcpy(at, &r, r.length);
	return r.length;
}

static size_t sectors_of(size_t bytes)
{
	return (bytes + SECTOR - 1) / SECTOR;
}

static void describe(struct descriptor *d, const char *label, size_t sectors)
{
	struct record root;

	memset(d, 0, sizeof(*d));
	d->type = 1;
	memcpy(d->id, "CD001", 5);
	d->version = 1;
	memset(d->system, ' ', sizeof(d->system));
	memset(d->label, ' ', sizeof(d->label));
	memcpy(d->label, label, strlen(label));
	d->sectors = both32(sectors);
	d->volumes = d->volume = both16(1);
	d->sector_size = both16(SECTOR);
	d->paths_size = both32(PATHS_SIZE);
	d->paths_little = htole32(AT_PATHS_LITTLE);
	d->paths_big = htobe32(AT_PATHS_BIG);
	begin_record(&root, "", 1, AT_ROOT, SECTOR, true);
	memcpy(d->root, &root, sizeof(d->root));
	d->root[0] = sizeof(d->root);
	memset(d->names, ' ', sizeof(d->names));
	memset(d->files, ' ', sizeof(d->files));
	/* No date at all: sixteen zeroes and a zone of 0. */
	for (unsigned int i = 0; i < array_size(d->dates); i++)
		memset(d->dates[i], '0', sizeof(d->dates[i]) - 1);
	d->structure_version = 1;
}

/* One directory, the root, which is its own parent. */
static void list_paths(uint8_t *little, uint8_t *big)
{
	const uint32_t sector = AT_ROOT;
	const uint8_t head[] = {1, 0};

	memcpy(little, head, sizeof(head));
	memcpy(big, head, sizeof(head));
	memcpy(little + 2, &(uint32_t){htole32(sector)}, sizeof(sector));
	memcpy(big + 2, &(uint32_t){htobe32(sector)}, sizeof(sector));
	little[6] = 1;
	big[7] = 1;
}

static int check(const char *label, const struct iso_file *files, unsigned int count)
{
	if (count > ISO_FILES_MAX)
		return -E2BIG;
	if (strlen(label) > ISO_LABEL_MAX)
		return -ENAMETOOLONG;
	for (unsigned int i = 0; i < count; i++) {
		if (strlen(files[i].name) > ISO_NAME_MAX)
			return -ENAMETOOLONG;
		if (files[i].size_bytes > FILE_SIZE_MAX)
			return -E2BIG;
	}
	return 0;
}

int iso_write(int fd, const char *label, const struct iso_file *files, unsigned int count)
{
	static const char end[] = "\xff"
				  "CD001\1";
	own_mem uint8_t *head = mem_new((size_t)AT_FILES * SECTOR);
	uint8_t *root = head + (size_t)AT_ROOT * SECTOR;
	static const uint8_t zeroes[SECTOR];
	size_t sector = AT_FILES, at;
	int rc = check(label, files, count);

	_Static_assert(sizeof(struct descriptor) == SECTOR, "as the reader sees it");
	if (rc < 0)
		return rc;
	at = add_self(root);
	at += add_parent(root + at);
	for (unsigned int i = 0; i < count; i++) {
		rc = add_file(root + at, SECTOR - at, i, &files[i], sector);
		if (rc < 0)
			return rc;
		at += (size_t)rc;
		rc = fd_write_full_at(fd, files[i].data, files[i].size_bytes,
				      (off_t)(sector * SECTOR));
		if (rc < 0)
			return rc;
		sector += sectors_of(files[i].size_bytes);
	}
	describe((struct descriptor *)(head + (size_t)AT_DESCRIPTOR * SECTOR), label, sector);
	memcpy(head + (size_t)AT_END * SECTOR, end, sizeof(end) - 1);
	list_paths(head + (size_t)AT_PATHS_LITTLE * SECTOR, head + (size_t)AT_PATHS_BIG * SECTOR);
	rc = fd_write_full_at(fd, head, (size_t)AT_FILES * SECTOR, 0);
	/* The last sector is whole, too. */
	if (rc == 0 && count > 0 && files[count - 1].size_bytes % SECTOR != 0)
		rc = fd_write_full_at(
			fd, zeroes, SECTOR - files[count - 1].size_bytes % SECTOR,
			(off_t)((sector - 1) * SECTOR + files[count - 1].size_bytes % SECTOR));
	return rc;
}
