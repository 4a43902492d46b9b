/* completion: scripts for shells. */
#pragma once

/* The script for "bash", "zsh" or "fish"; NULL for another shell. */
const char *completion_script(const char *shell);
