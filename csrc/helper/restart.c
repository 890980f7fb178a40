/* Restart policies, by docker's rules: https://docs.docker.com/reference/cli/docker/container/run/#restart
 *
 * The pause begins at 0.1 s and doubles, up to a minute; it begins anew after a process that has lived for ten seconds.
 */
#include "restart.h"

static const int64_t millisecond = 1000000, first_pause = 100 * millisecond, longest_pause = 60000 * millisecond,
                     success = 10000 * millisecond;

int restart_is_wanted(const struct plan *plan, const struct restart *r, int code)
{
    const struct pylxc_op *life = plan_find(plan, PYLXC_OP_LIFE);
    if (!life || (life->a >= 0 && r->count >= life->a))
        return 0;
    return life->flags & PYLXC_RESTART_ALWAYS || (life->flags & PYLXC_RESTART_ON_FAILURE && code != 0);
}

int64_t restart_next(struct restart *r, int64_t lived)
{
    if (lived >= success || !r->pause)
        r->pause = first_pause;
    else
        r->pause = MINIMUM(2 * r->pause, longest_pause);
    r->count++;
    return r->pause;
}
