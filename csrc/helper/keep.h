#ifndef PYLXC_KEEP_H
#define PYLXC_KEEP_H
#include "helper.h"

/* The life of a helper with PYLXC_PLAN_KEEP; see keep.c. */
_Noreturn void network_keep(const struct plan *plan);
#endif
