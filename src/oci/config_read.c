/* config_read: see config_priv.h. The memory of a configuration, and what its parts read their members with. */
#include "oci/config_priv.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct config_block {
	struct config_block *next;
	max_align_t data[];
};

void *config_alloc(struct config *c, size_t count, size_t size)
{
	struct config_block *block = mem_new(sizeof(*block) + count * size);

	block->next = c->blocks;
	c->blocks = block;
	return block->data;
}

void config_free(struct config *c)
{
	if (c == NULL)
		return;
	for (struct config_block *block = c->blocks, *next; block != NULL; block = next) {
		next = block->next;
		free(block);
	}
	json_decref(c->json);
	free(c);
}

int config_list(struct config *c, const struct json_at *object, const char *key, size_t element,
		struct json_at *ret_array, void *ret_items, size_t *ret_count, struct error *err)
{
	int rc = json_array_at(object, key, JSON_OPTIONAL, ret_array, err);
	size_t count;
	void *items;

	if (rc <= 0)
		return rc;
	count = json_array_size(ret_array->value);
	if (count > CONFIG_LIST_MAX)
		return json_refuse(err, ret_array, "has more than %d elements", CONFIG_LIST_MAX);
	items = config_alloc(c, count + 1, element);
	memcpy(ret_items, &items, sizeof(items));
	*ret_count = count;
	return 1;
}

static const char *number_text(struct config *c, json_int_t number)
{
	enum { LENGTH = 24 };
	char *text = config_alloc(c, LENGTH, 1);

	snprintf(text, LENGTH, "%" JSON_INTEGER_FORMAT, number);
	return text;
}

int config_strings(struct config *c, const struct json_at *object, const char *key, char ***ret,
		   struct error *err)
{
	struct json_at array, item;
	const char **items;
	size_t count;
	int rc = config_list(c, object, key, sizeof(*items), &array, &items, &count, err);

	if (rc <= 0)
		return rc;
	for (size_t i = 0; json_element(&array, i, &item); i++) {
		/* An argument that was written as a number is taken as its text, as crun does. */
		if (json_is_integer(item.value))
			items[i] = number_text(c, json_integer_value(item.value));
		else if ((rc = json_as_string(&item, &items[i], err)) < 0)
			return rc;
	}
	memcpy(ret, &items, sizeof(items));
	return 1;
}

int config_number(const struct json_at *object, const char *key, int64_t min, int64_t max,
		  struct config_number *ret, struct error *err)
{
	int rc = json_get_int(object, key, JSON_OPTIONAL, min, max, &ret->value, err);

	if (rc > 0)
		ret->given = true;
	return rc;
}

int config_absolute_path(const struct json_at *object, const char *key, enum json_need need,
			 const char **ret, struct error *err)
{
	struct json_at at;
	const char *path;
	int rc = json_member(object, key, need, &at, err);

	if (rc <= 0)
		return rc;
	rc = json_as_string(&at, &path, err);
	if (rc < 0)
		return rc;
	if (path[0] != '/')
		return json_refuse(err, &at, "\"%s\" is not an absolute path", path);
	if (strlen(path) >= PATH_MAX)
		return json_refuse(err, &at, "is longer than %d bytes", PATH_MAX - 1);
	*ret = path;
	return 1;
}

int config_find_word(const struct json_at *at, const char *text, const struct config_word *table,
		     uint64_t *ret, struct error *err)
{
	for (const struct config_word *w = table; w->name != NULL; w++)
		if (strcmp(w->name, text) == 0) {
			*ret = w->value;
			return 1;
		}
	return json_refuse(err, at, "\"%s\" is not a known value", text);
}

int config_word(const struct json_at *object, const char *key, enum json_need need,
		const struct config_word *table, uint64_t *ret, struct error *err)
{
	struct json_at at;
	const char *text;
	int rc = json_member(object, key, need, &at, err);

	if (rc <= 0)
		return rc;
	rc = json_as_string(&at, &text, err);
	if (rc < 0)
		return rc;
	return config_find_word(&at, text, table, ret, err);
}

int config_parse_id_maps(struct config *c, const struct json_at *object, const char *key,
			 struct config_id_maps *ret, struct error *err)
{
	struct json_at array, item;
	int rc = config_list(c, object, key, sizeof(*ret->items), &array, &ret->items, &ret->count,
			     err);

	if (rc <= 0)
		return rc;
	for (size_t i = 0; json_element(&array, i, &item); i++) {
		int64_t container, host, count;

		if ((rc = json_get_int(&item, "containerID", JSON_REQUIRED, 0, UINT32_MAX - 1,
				       &container, err)) < 0 ||
		    (rc = json_get_int(&item, "hostID", JSON_REQUIRED, 0, UINT32_MAX - 1, &host,
				       err)) < 0 ||
		    (rc = json_get_int(&item, "size", JSON_REQUIRED, 1, UINT32_MAX, &count, err)) <
			    0)
			return rc;
		if (container + count > UINT32_MAX || host + count > UINT32_MAX)
			return json_refuse(err, &item, "reaches beyond the last id");
		ret->items[i].container = (uint32_t)container;
		ret->items[i].host = (uint32_t)host;
		ret->items[i].count = (uint32_t)count;
	}
	return 1;
}
