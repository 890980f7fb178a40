"""The profile that containers get: what is not named here fails with EPERM.

It allows what programs need and no more: nothing that changes the kernel, its keys, its time or its namespaces, nothing
that a capability guards which the container does not keep. It is written in the format of docker's profiles, so that it
can be printed, changed and given back.

Why some are missing: ``clone3`` answers ENOSYS, because its flags lie in memory where a filter cannot look; libc then
falls back to ``clone``. ``socketcall`` (i386) likewise hides the socket's family. AF_ALG (38) and AF_VSOCK (40) reach
the kernel's crypto code and the hypervisor. ``io_uring`` does what other calls do behind the filter's back.
``userfaultfd`` and ``keyctl`` have been steps of most escapes; keys are not namespaced.
"""

from __future__ import annotations

from typing import Any

ENOSYS = 38
AF_ALG, AF_VSOCK, AF_MAX = 38, 40, 46
# CLONE_NEW* of clone(2): a namespace of its own gives a process all capabilities in it.
NAMESPACES = 0x7E020000
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

ALLOWED = """
_llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod
chown chown32 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32
fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr flistxattr flock fork fremovexattr
fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64
getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid
getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
io_submit ioctl ioprio_get ioprio_set ipc kcmp kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr listxattrat llistxattr
lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules lstat lstat64 madvise map_shadow_stack
membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2
modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
name_to_handle_at nanosleep newfstatat nice open openat openat2 pause pidfd_getfd pidfd_open pidfd_send_signal
pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
process_madvise process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64
pwritev pwritev2 read readahead readdir readlink readlinkat readv recvfrom recvmmsg recvmmsg_time64 recvmsg
remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32
setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32
setxattr setxattrat sgetmask shmat shmctl shmdt shmget shutdown sigaction sigaltstack signal signalfd signalfd4
sigpending sigprocmask sigreturn sigsuspend socketpair splice ssetmask stat stat64 statfs statfs64 statx symlink
symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime
utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
"""
# What comes with a capability that the container keeps.
WITH_CAPABILITY = {
    "SYS_ADMIN": """bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr
        move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
        umount umount2 unshare statmount listmount""",
    "SYS_BOOT": "reboot kexec_load kexec_file_load",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module init_module finit_module",
    "SYS_PACCT": "acct",
    "SYS_RAWIO": "iopl ioperm",
    "SYS_TIME": "settimeofday stime clock_settime clock_settime64 clock_adjtime clock_adjtime64",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages",
    "SYSLOG": "syslog",
    "DAC_READ_SEARCH": "open_by_handle_at",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}


def default_profile() -> dict[str, Any]:
    """Return the profile in docker's format, as JSON's types."""
    allow = "SCMP_ACT_ALLOW"
    rules: list[dict[str, Any]] = [{"names": ALLOWED.split(), "action": allow}]
    rules += [
        {"names": ["personality"], "action": allow, "args": [_argument(0, "EQ", value)]} for value in PERSONALITIES
    ]
    # Every family but the two. A filter sees 64 bits where the kernel reads 32: "all but 38" would let 2^32 + 38 pass.
    rules.append({"names": ["socket"], "action": allow, "args": [_argument(0, "LT", AF_ALG)]})
    rules += [
        {"names": ["socket"], "action": allow, "args": [_argument(0, "EQ", family)]}
        for family in range(AF_ALG + 1, AF_MAX)
        if family != AF_VSOCK
    ]
    without = {"excludes": {"caps": ["CAP_SYS_ADMIN"]}}
    no_namespace = {"index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    rules.append({"names": ["clone"], "action": allow, "args": [no_namespace], **without})
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS, **without})
    rules.append({"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    rules += [
        {"names": names.split(), "action": allow, "includes": {"caps": [f"CAP_{capability}"]}}
        for capability, names in WITH_CAPABILITY.items()
    ]
    architectures = {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "archMap": [architectures], "syscalls": rules}


def _argument(index: int, operator: str, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "op": f"SCMP_CMP_{operator}"}
