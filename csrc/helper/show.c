/* Shows a root to processes outside, which look at it through /proc/PID/cwd: hides what it takes that it is the root
 * they find there, and all that they find.
 *
 * Invariant: nobody can write to it, nor to what is around it; a link in it that leads up finds empty directories, not
 * the store. The mounts are this process's own, so they are gone with it, however it ends. A path that somebody
 * resolves leads to a name below "/" that the host does not have, and never to its files.
 */
#include "root.h"
#include <linux/mount.h>
#include <linux/prctl.h>

enum { MNT_DETACH_ = 2 };

int op_show(struct launch *l, const struct pylxc_op *op)
{
    const char *name = op_string(op, 0);
    char byte;
    long r = set_attributes(l->root_fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 1);
    if (r >= 0)
        r = sys(mkdirat, l->memory_fd, name, 0755);
    if (r >= 0)
        r = sys(move_mount, l->root_fd, "", l->memory_fd, name, MOVE_MOUNT_F_EMPTY_PATH);
    if (r >= 0)
        r = sys(umount2, "store", MNT_DETACH_); /* overlays have mounts of their layers of their own */
    if (r >= 0)
        r = set_attributes(l->memory_fd, MOUNT_ATTR_RDONLY, 0);
    if (r < 0)
        return (int)r;
    /* An ordinary user may look into its own processes, if they do not forbid it (ptrace(2)). */
    if (l->plan->head->flags & PYLXC_PLAN_UNPRIVILEGED)
        sys(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    transfer_begins(l);
    do
        r = sys(read, (int)op->a, &byte, sizeof byte);
    while (r == -EINTR);
    return (int)(r < 0 ? r : 0);
}
