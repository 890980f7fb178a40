#ifndef PYLXC_STACK_H
#define PYLXC_STACK_H
#include "helper.h"

/* The life of a helper with PYLXC_PLAN_STACK; see stack.c. */
_Noreturn void stack_keep(const struct plan *plan);
#endif
