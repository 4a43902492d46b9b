/* sparse: the maps of sparse files. The formats are described in GNU tar's manual, "Sparse". */
#include "tar/tar_priv.h"

#include <errno.h>

#include "base/mem.h"

void tar_map_begin(struct tar_map *map)
{
	map->count = 0;
	map->data_bytes = 0;
	map->expected = map->offset = map->number = -1;
}

int tar_map_add(struct tar_map *map, int64_t offset, int64_t len, struct error *err)
{
	uint64_t end = 0;

	if (map->count > 0)
		end = map->items[map->count - 1].offset + map->items[map->count - 1].len;
	if (offset < 0 || len < 0 || offset > TAR_SIZE_MAX || len > TAR_SIZE_MAX ||
	    (uint64_t)offset < end)
		return refuse(err, -EBADMSG, "the map of a sparse file is malformed");
	if (len == 0)
		return 0;
	if (map->count == TAR_EXTENTS_MAX)
		return refuse(err, -EFBIG, "a sparse file has more than %d pieces",
			      TAR_EXTENTS_MAX);
	map->items = mem_grow(map->items, map->count, &map->capacity, sizeof(*map->items));
	map->items[map->count++] =
		(struct tar_extent){.offset = (uint64_t)offset, .len = (uint64_t)len};
	map->data_bytes += (uint64_t)len;
	return 0;
}

/* Takes a number of the map. 1 if it was the last. */
static int take_number(struct tar_map *map, struct error *err)
{
	int64_t value = map->number;
	int rc;

	map->number = -1;
	if (map->expected < 0) {
		if (value > TAR_EXTENTS_MAX)
			return refuse(err, -EFBIG, "a sparse file has more than %d pieces",
				      TAR_EXTENTS_MAX);
		map->expected = value;
		return value == 0;
	}
	if (map->offset < 0) {
		map->offset = value;
		return 0;
	}
	rc = tar_map_add(map, map->offset, value, err);
	map->offset = -1;
	return rc < 0 ? rc : --map->expected == 0;
}

int tar_map_parse(struct tar_map *map, const char *text, size_t len, struct error *err)
{
	for (size_t i = 0; i < len; i++) {
		bool digit = text[i] >= '0' && text[i] <= '9';
		int rc;

		if (digit && map->number <= TAR_SIZE_MAX) {
			map->number = (map->number < 0 ? 0 : map->number * 10) + (text[i] - '0');
			continue;
		}
		if (text[i] != '\n' || map->number < 0)
			return refuse(err, -EBADMSG, "the map of a sparse file is malformed");
		rc = take_number(map, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}
