/* packages_list: the list of packages itself, and what the readers of all databases begin with. */
#include "image/packages_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

void package_release(struct package *p)
{
	free(p->name);
	free(p->version);
	free(p->architecture);
	free(p->source_name);
	free(p->source_version);
	free(p->license);
	free(p->path);
}

void packages_release(struct packages *list)
{
	for (size_t i = 0; i < list->count; i++)
		package_release(&list->items[i]);
	free(list->items);
	strv_free(list->notes);
	free(list->distribution);
	free(list->release);
	free(list->pretty_name);
	*list = (struct packages){0};
}

int packages_add(struct packages *list, const char *type, const char *path, struct package **ret,
		 struct error *err)
{
	struct package *p;

	if (list->count == PACKAGES_MAX)
		return refuse(err, -EFBIG, "more than %d packages", PACKAGES_MAX);
	list->items = mem_grow(list->items, list->count, &list->capacity, sizeof(*p));
	p = &list->items[list->count++];
	*p = (struct package){.type = type, .path = str_format("/%s", path)};
	*ret = p;
	return 0;
}

void packages_drop_last(struct packages *list)
{
	package_release(&list->items[--list->count]);
}

void packages_note(struct packages *list, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strv_push_take(&list->notes, str_format_va(fmt, ap));
	va_end(ap);
}

int packages_read(int root_fd, const char *path, size_t max, char **ret_text, size_t *ret_len,
		  struct error *err)
{
	own_fd int fd = beneath_open(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;
	int rc;

	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return 0;
	if (fd < 0)
		return fail(err, fd, "open %s in the image", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	rc = fd_read_all(fd, max, ret_text, ret_len);
	if (rc < 0)
		return fail(err, rc, "read %s in the image", path);
	return 1;
}

int packages_parse_paragraphs(char *text, const struct paragraph_ops *ops, void *data,
			      struct error *err)
{
	own_buf struct buf value = {0};
	const char *key = NULL;
	bool any = false;
	char *line = text;
	int rc = 0;

	for (;;) {
		char *end = line ? strchrnul(line, '\n') : NULL;
		char *next = end && *end ? end + 1 : NULL;
		char *colon;

		if (end != NULL)
			*end = '\0';
		if (line != NULL && (*line == ' ' || *line == '\t') && key != NULL) {
			buf_format(&value, "\n%s", line + 1);
			line = next;
			continue;
		}
		if (key != NULL) {
			rc = ops->field(data, key, value.data, err);
			if (rc < 0)
				return rc;
			key = NULL;
		}
		if (line == NULL || *line == '\0') {
			rc = any ? ops->end(data, err) : 0;
			if (rc < 0 || line == NULL)
				return rc;
			any = false;
		} else if ((colon = strchr(line, ':')) != NULL) {
			*colon = '\0';
			key = line;
			any = true;
			buf_clear(&value);
			buf_add_str(&value, colon + 1 + strspn(colon + 1, " \t"));
		}
		line = next;
	}
}
