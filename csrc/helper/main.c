/* The helper's entry: no arguments, no environment; everything comes in the plan, a memfd on descriptor 4. */
#include "helper.h"
#include "ports.h"
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

enum { OUTER, INNER /* the check of a PYLXC_OP_HEALTH */ };
static int plan_is_sound(const struct pylxc_plan *head, size_t size, int depth);

static int is_time(int64_t ns, int64_t least)
{
    return ns >= least && ns <= PYLXC_HEALTH_LONGEST;
}

static int health_is_sound(const struct pylxc_op *op)
{
    const struct pylxc_health *times = (const void *)(op + 1);
    size_t size = op->size - sizeof *op;
    if (op->strings || size < sizeof *times)
        return 0;
    return is_time(times->interval, 1) && is_time(times->timeout, 1) && is_time(times->start_period, 0) &&
           is_time(times->start_interval, 1) && is_time(times->retries, 1) &&
           plan_is_sound((const void *)(times + 1), size - sizeof *times, INNER);
}

/* The monitor carries such a plan out on its own, again and again, with no descriptors but those that it fills in: it
 * enters the container, and there is nothing that it makes or leaves. */
static int is_check(const struct pylxc_plan *head)
{
    return head->flags & PYLXC_PLAN_JOIN && !(head->flags & ~(uint32_t)(PYLXC_PLAN_JOIN | PYLXC_PLAN_UNPRIVILEGED)) &&
           head->owner_fd < 0 && head->target_fd < 0 && head->directory_fd < 0 && head->userns_fd < 0;
}

static int endpoint_is_sound(const struct pylxc_op *op)
{
    const struct pylxc_endpoint *endpoint = (const void *)(op + 1);
    return op->strings == 0 && op->size - sizeof *op == sizeof *endpoint &&
           memchr(endpoint->name, 0, sizeof endpoint->name) && memchr(endpoint->bridge, 0, sizeof endpoint->bridge);
}

static int op_is_sound(const struct pylxc_op *op, int depth)
{
    const char *s = (const char *)(op + 1), *end = (const char *)op + op->size;
    for (unsigned k = 0; k < op->strings; k++) {
        s = memchr(s, 0, (size_t)(end - s));
        if (!s)
            return 0;
        s++;
    }
    if (op->code == PYLXC_OP_SECCOMP)
        return op->a >= 1 && op->a <= UINT16_MAX && (uint64_t)op->a * 8 == op->size - sizeof *op;
    if (op->code == PYLXC_OP_ENDPOINT)
        return depth == OUTER && endpoint_is_sound(op);
    if (op->code == PYLXC_OP_PUBLISH)
        return depth == OUTER && ports_operand_is_sound(op);
    if (depth == OUTER)
        return op->code != PYLXC_OP_HEALTH || health_is_sound(op);
    if (op->code == PYLXC_OP_CGROUP)
        return (op->flags & PYLXC_CGROUP_KEEP) != 0;
    return op->code != PYLXC_OP_HEALTH && op->code != PYLXC_OP_LIFE && op->code != PYLXC_OP_JOIN;
}

/* The operations must lie within the plan, and each one's strings within it: nothing later checks bounds. */
static int plan_is_sound(const struct pylxc_plan *head, size_t size, int depth)
{
    if (size < sizeof *head || head->magic != PYLXC_PLAN_MAGIC || head->size != size || head->clone_flags & ~NAMESPACES)
        return 0;
    if (depth == INNER && !is_check(head))
        return 0;
    size_t at = sizeof *head;
    for (uint32_t i = 0; i < head->op_count; i++) {
        const struct pylxc_op *op = (const void *)((const char *)head + at);
        if (size - at < sizeof *op || op->size < sizeof *op || op->size % 8 || op->size > size - at)
            return 0;
        if (!op_is_sound(op, depth))
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
    /* To be written to, too: what is told late is filled in (netns.c). */
    long at = sys(mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, PYLXC_FD_PLAN, 0);
    if (at < 0 && at > -4096)
        return (int)at;
    sys(close, PYLXC_FD_PLAN);
    ret->head = (const void *)at;
    ret->first = (const void *)(ret->head + 1);
    return plan_is_sound(ret->head, (size_t)size, OUTER) ? 0 : -EINVAL;
}

/* Called by _start, and by the hosted build's main. */
_Noreturn void helper_main(void);
_Noreturn void helper_main(void)
{
    struct plan plan = {0};
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
