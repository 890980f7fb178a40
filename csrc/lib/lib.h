/* Shared by the files of csrc/lib: descriptors that close themselves, and the one way to run code in a new process. */
#ifndef PYLXC_LIB_H
#define PYLXC_LIB_H
#include "../defence.h"
#include "../pylxc.h"
#include <stddef.h>
#include <unistd.h>

static inline void lib_fd_close_at_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define lib_fd_close __attribute__((cleanup(lib_fd_close_at_end)))
static inline int lib_steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

/* The netlink socket to ask on: the one given, or where that is -1 a new one, of this process's network namespace, which
 * is the caller's to close as *ret_own. A descriptor or a negative errno. */
int lib_netlink(int given, int protocol, int *ret_own);

/* Runs run(operand), which never returns, in a child that shares the address space; comes back when the child has
 * executed something or exited. 0, or -1 with errno. */
int pylxc_clone_vfork(uint64_t flags, void (*run)(void *), void *operand, int32_t *ret_pid, int *ret_pid_fd);
#endif
