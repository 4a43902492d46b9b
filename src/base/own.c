/* own: see own.h. */
#include "base/own.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

void own_fd_release(int *fd)
{
	fd_close(fd);
}

void own_mem_release(void *pointer_to_pointer)
{
	int saved = errno;

	free(*(void **)pointer_to_pointer);
	errno = saved;
}

void own_dir_release(DIR **dir)
{
	int saved = errno;

	if (*dir != NULL)
		closedir(*dir);
	errno = saved;
}

void own_file_release(FILE **file)
{
	int saved = errno;

	if (*file != NULL)
		fclose(*file);
	errno = saved;
}
