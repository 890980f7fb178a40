/* What the monitor tells of its container; see events.c. */
#ifndef PYLXC_EVENTS_H
#define PYLXC_EVENTS_H
#include "helper.h"

/* Adds an event to the log that the plan names (PYLXC_OP_LIFE), if it names one. `more`: further members of its JSON
 * object, as "\"pid\":1"; may be NULL. What cannot be written is lost. */
void event_add(const struct plan *plan, const char *kind, int64_t time_ns, const struct text *more);
/* "started", of a report of that kind. */
void event_started(const struct plan *plan, const struct pylxc_report *started);
/* "died", and before it "oom" where memory ran out. */
void event_died(const struct plan *plan, const struct pylxc_report *ended);
#endif
