/* Loads a device filter and attaches it to a cgroup of version 2: bpf(2) by number, for libc has no name for it. */
#define _GNU_SOURCE
#include "lib.h"
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <sys/syscall.h>

static int load(const void *program, size_t size)
{
    /* Fields that are not named must be zero, and are: the kernel refuses bits that it does not know. */
    union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE};
    attr.insns = (uintptr_t)program;
    attr.insn_cnt = (uint32_t)(size / sizeof(struct bpf_insn));
    attr.license = (uintptr_t)"Apache-2.0";
    return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
}

int pylxc_device_filter_attach(const char *cgroup, const void *program, size_t size)
{
    lib_fd_close int directory = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    lib_fd_close int filter = directory < 0 ? -1 : load(program, size);
    if (filter < 0)
        return -1;
    /* MULTI: those of the cgroups above go on to count. The cgroup holds the program from here on. */
    union bpf_attr attr = {.target_fd = (uint32_t)directory};
    attr.attach_bpf_fd = (uint32_t)filter;
    attr.attach_type = BPF_CGROUP_DEVICE;
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    return (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr);
}
