/* What paths.c, root.c and fill.c share: targets in the root, and mounts on their way there. Descriptors or negative
 * errnos where nothing else is said. */
#ifndef PYLXC_ROOT_H
#define PYLXC_ROOT_H
#include "helper.h"

#define DETACHED_COPY (OPEN_TREE_CLONE | O_CLOEXEC)

/* paths.c */
int is_directory(int fd);
/* The parent of the last component of a path, made where it is missing; *ret_last is that component. */
int open_parent(struct launch *l, const char *path, const char **ret_last);
/* A directory to mount on; how: PYLXC_MAKE_*. */
int make_target_directory(struct launch *l, const char *path, int64_t how);
/* A file that exists or is made (0644, empty), with its parents. */
int make_file_in_root(struct launch *l, const char *path);

/* root.c */
/* Whether an opened target is the root itself. */
int is_root(struct launch *l, int target);
/* Attaches a detached mount to an opened target: 0 or a negative errno. */
int attach(struct launch *l, int mount, int target);
/* A new file system, detached, with options "key=value,flag". */
int new_filesystem(const char *type, const char *options, uint64_t attributes);
/* MOUNT_ATTR_* of a mount: 0 or a negative errno. */
int set_attributes(int mount, uint64_t attributes, int recursive);
/* A new directory on the MEMORY file system, whose path is added: 0 or a negative errno. */
int directory_in_memory(struct launch *l, struct text *to);
#endif
