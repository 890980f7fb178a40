#ifndef PYLXC_REMOVE_CGROUP_H
#define PYLXC_REMOVE_CGROUP_H
/* Removes a cgroup with all below it: 0 (also when it is not there), or a negative errno; -EBUSY when processes are
 * still in it after `patience` times 5 ms. */
int remove_cgroup(const char *directory, int patience);
/* Removes what is below it only. */
int remove_cgroups_below(const char *directory, int patience);
#endif
