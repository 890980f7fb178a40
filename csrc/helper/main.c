/* The helper's entry: no arguments, no environment; everything comes in the plan, a memfd on descriptor 4. */
#include "helper.h"
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#ifndef MAP_PRIVATE
#include <asm/mman.h>
#endif

/* With other flags of clone(2) the process would be more, or less, than one of its own: with CLONE_VM it would run on
 * this one's stack. */
#define NAMESPACES                                                                                                     \
    ((uint64_t)CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |            \
     CLONE_NEWNET | CLONE_NEWTIME)

/* The operations must lie within the plan, and each one's strings within it: nothing later checks bounds. */
static int plan_is_sound(const struct pylxc_plan *head, size_t size)
{
    if (size < sizeof *head || head->magic != PYLXC_PLAN_MAGIC || head->size != size || head->clone_flags & ~NAMESPACES)
        return 0;
    size_t at = sizeof *head;
    for (uint32_t i = 0; i < head->op_count; i++) {
        const struct pylxc_op *op = (const void *)((const char *)head + at);
        if (size - at < sizeof *op || op->size < sizeof *op || op->size % 8 || op->size > size - at)
            return 0;
        const char *s = (const char *)(op + 1), *end = (const char *)op + op->size;
        for (unsigned k = 0; k < op->strings; k++) {
            s = memchr(s, 0, (size_t)(end - s));
            if (!s)
                return 0;
            s++;
        }
        if (op->code == PYLXC_OP_SECCOMP &&
            (op->a < 1 || op->a > UINT16_MAX || (uint64_t)op->a * 8 != op->size - sizeof *op))
            return 0;
        at += op->size;
    }
    return at == size;
}

static int read_plan(struct plan *ret)
{
    long size = sys(lseek, PYLXC_FD_PLAN, 0, 2 /* SEEK_END */);
    if (size < (long)sizeof *ret->head)
        return -EINVAL;
    long at = sys(mmap, 0, size, PROT_READ, MAP_PRIVATE, PYLXC_FD_PLAN, 0);
    if (at < 0 && at > -4096)
        return (int)at;
    sys(close, PYLXC_FD_PLAN);
    ret->head = (const void *)at;
    ret->first = (const void *)(ret->head + 1);
    return plan_is_sound(ret->head, (size_t)size) ? 0 : -EINVAL;
}

/* Called by _start, and by the hosted build's main. */
_Noreturn void helper_main(void);
_Noreturn void helper_main(void)
{
    struct plan plan;
    /* Nobody may trace the helper or look into its descriptors, even a process of the container with equal ids. */
    sys(prctl, PR_SET_DUMPABLE, DEFENCE(DUMPABLE, 0, 1), 0, 0, 0);
    if (read_plan(&plan) < 0) {
        struct pylxc_report report = {.kind = PYLXC_REPORT_FAILED,
                                      .error = {.stage = PYLXC_STAGE_PLAN, .errnum = EINVAL, .index = -1}};
        write_all(PYLXC_FD_CONTROL, &report, sizeof report);
        sys_exit(1);
    }
    monitor_run(&plan);
}

#ifdef PYLXC_HOSTED
int main(void)
{
    helper_main();
}
#else
#if defined __x86_64__
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall helper_main\n\thlt\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tbl helper_main\n\tbrk 0\n");
#endif
#endif
