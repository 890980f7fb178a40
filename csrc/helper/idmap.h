/* Id maps of single mounts; see idmap.c. */
#ifndef PYLXC_IDMAP_H
#define PYLXC_IDMAP_H
#include "helper.h"

/* The user namespace whose map shows a tree to the container so that the owner of its root is the container's root;
 * `plain` where that is so without it. `map` is the plan's ID_MAP, NULL where the container has the host's ids. The
 * descriptor is not the caller's to close; -1: nothing need be mapped; another negative number is an errno. */
int idmap_for_owner(const struct pylxc_op *map, int tree, int plain);
#endif
