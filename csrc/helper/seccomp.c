/* The system call filter: installed last, for what comes after it is what it allows. */
#include "helper.h"
#include <linux/filter.h>
#include <linux/seccomp.h>

int op_seccomp(struct launch *l, const struct pylxc_op *op)
{
    (void)l;
    struct sock_fprog program = {(unsigned short)op->a, (struct sock_filter *)(uintptr_t)(op + 1)};
    return (int)sys(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
