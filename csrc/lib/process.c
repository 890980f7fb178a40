/* Processes by pidfd, and sockets made in another process's network namespace. */
#define _GNU_SOURCE
#include "lib.h"
#include <errno.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int pylxc_pidfd_open(int pid, int *ret_fd)
{
    long fd = syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return -1;
    *ret_fd = (int)fd;
    return 0;
}

int pylxc_pidfd_send_signal(int pid_fd, int signal)
{
    return (int)syscall(SYS_pidfd_send_signal, pid_fd, signal, NULL, 0);
}

int pylxc_reap(int pid_fd, int *ret_ended)
{
    siginfo_t info = {.si_pid = 0};
    if (waitid(P_PIDFD, (id_t)pid_fd, &info, WEXITED | WNOHANG) < 0) {
        /* ECHILD: a wait for any child elsewhere in this program was faster. Gone it is all the same. */
        if (errno != ECHILD)
            return -1;
        *ret_ended = 1;
        return 0;
    }
    *ret_ended = info.si_pid != 0;
    return 0;
}

int pylxc_syncfs(int fd)
{
    return syncfs(fd);
}

int pylxc_spread(int directory)
{
    unsigned int flags;
    /* FS_IOC_GETFLAGS is defined with a long, and the kernel writes an int (ioctl_iflags(2)). */
    if (ioctl(directory, FS_IOC_GETFLAGS, &flags) < 0)
        return -1;
    flags |= FS_TOPDIR_FL;
    return ioctl(directory, FS_IOC_SETFLAGS, &flags);
}

struct socket_request {
    int pid_fd, domain, type, protocol, fd, errnum;
};

/* Runs in a child that shares the descriptor table: the socket it makes is the caller's, its namespace is not. */
static void make_socket(void *operand)
{
    struct socket_request *request = operand;
    /* Who is no root on the host may enter it only with the user namespace that it belongs to. */
    if ((syscall(SYS_setns, request->pid_fd, CLONE_NEWNET) < 0 &&
         syscall(SYS_setns, request->pid_fd, CLONE_NEWUSER | CLONE_NEWNET) < 0) ||
        (request->fd = (int)syscall(SYS_socket, request->domain, request->type, request->protocol)) < 0)
        request->errnum = errno;
    for (;;)
        syscall(SYS_exit_group, 0);
}

int pylxc_socket_in(int pid_fd, int domain, int type, int protocol, int *ret_fd)
{
    struct socket_request request = {pid_fd, domain, type | 02000000 /* SOCK_CLOEXEC */, protocol, -1, 0};
    int32_t pid;
    lib_fd_close int child = -1;
    if (pylxc_clone_vfork(CLONE_FILES, make_socket, &request, &pid, &child) < 0)
        return -1;
    siginfo_t info;
    while (waitid(P_PIDFD, (id_t)child, &info, WEXITED) < 0 && errno == EINTR)
        ;
    if (request.fd < 0) {
        errno = request.errnum;
        return -1;
    }
    *ret_fd = request.fd;
    return 0;
}
