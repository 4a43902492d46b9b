/* identity: which build of the program this is. */
#pragma once

/* The linker's name for what it has linked (the note "GNU build id") as hexadecimal digits, which no
 * other build has; NULL if there is none. The caller frees it. */
char *program_build_id(void);
