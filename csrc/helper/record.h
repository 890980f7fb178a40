/* What the monitor writes down of a container, in its record directory; see record.c. */
#ifndef PYLXC_RECORD_H
#define PYLXC_RECORD_H
#include "helper.h"

/* CLOCK_REALTIME and CLOCK_MONOTONIC, in ns. */
int64_t now_ns(void);
int64_t monotonic_ns(void);

/* Makes `name` in the record directory appear whole or not at all. 0 or a negative errno. */
int record_write(int directory, const char *name, const struct text *content);
/* Says which process the container is now, that it was started `restarts` times by the policy, and that this process
 * watches it. 0 or a negative errno. */
int record_state(const struct plan *plan, int directory, int32_t pid, int64_t restarts);
/* Says how it ended; `restarting`: it will be started again. */
void record_end(int directory, const struct pylxc_report *end, int restarting);
/* Takes that back: it runs again. */
void record_no_end(int directory);
#endif
