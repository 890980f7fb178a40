#ifndef PYLXC_REMOVE_TREE_H
#define PYLXC_REMOVE_TREE_H
/* Removes `name` below the directory `parent` with all it holds: 0 or a negative errno; -EBUSY when a mount lies in it
 * or somebody moves directories about meanwhile, -ENOENT when it was not there. Others may remove it as well. */
int remove_tree(int parent, const char *name);
/* Removes everything in a directory, which must be open for reading; its directory `kept` (NULL = none) is emptied. */
int empty_tree(int directory, const char *kept);
#endif
