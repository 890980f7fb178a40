/* System calls for pylxc.linux, by number: their operands are put together in Python, typed and checked there. */
#define _GNU_SOURCE
#include "lib.h"
#include <errno.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <stdint.h>
#include <sys/syscall.h>

/* The numbers are the same on every architecture from pidfd_send_signal (424) on; older headers lack the names. */
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

static const long numbers[] = {
    [PYLXC_CALL_UNSHARE] = SYS_unshare,
    [PYLXC_CALL_SETNS] = SYS_setns,
    [PYLXC_CALL_MOUNT] = SYS_mount,
    [PYLXC_CALL_UMOUNT2] = SYS_umount2,
    [PYLXC_CALL_PIVOT_ROOT] = SYS_pivot_root,
    [PYLXC_CALL_OPEN_TREE] = SYS_open_tree,
    [PYLXC_CALL_MOVE_MOUNT] = SYS_move_mount,
    [PYLXC_CALL_FSOPEN] = SYS_fsopen,
    [PYLXC_CALL_FSCONFIG] = SYS_fsconfig,
    [PYLXC_CALL_FSMOUNT] = SYS_fsmount,
    [PYLXC_CALL_FSPICK] = SYS_fspick,
    [PYLXC_CALL_MOUNT_SETATTR] = SYS_mount_setattr,
    [PYLXC_CALL_OPENAT2] = SYS_openat2,
    [PYLXC_CALL_PIDFD_GETFD] = SYS_pidfd_getfd,
    [PYLXC_CALL_CLONE3] = SYS_clone3,
    [PYLXC_CALL_INOTIFY_INIT1] = SYS_inotify_init1,
    [PYLXC_CALL_INOTIFY_ADD_WATCH] = SYS_inotify_add_watch,
};

long pylxc_syscall(enum pylxc_call call, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e)
{
    return syscall(numbers[call], a, b, c, d, e);
}

long pylxc_syscall_number(enum pylxc_call call)
{
    return numbers[call];
}
