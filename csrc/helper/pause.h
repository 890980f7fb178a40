/* Keeps a container paused while somebody works on what lies still then. */
#ifndef PYLXC_PAUSE_H
#define PYLXC_PAUSE_H
#include "helper.h"

/* PYLXC_PLAN_PAUSE: freezes a cgroup, and lets it go on when whoever asked for it says so or is no more. */
_Noreturn void pause_hold(const struct plan *plan);
#endif
