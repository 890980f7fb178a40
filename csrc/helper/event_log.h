/* The event log of a store; see event_log.c. Shared with csrc/lib. */
#ifndef PYLXC_EVENT_LOG_H
#define PYLXC_EVENT_LOG_H
#include <stddef.h>

/* Appends one line (without its newline) to the log that lies in a directory. 0 or a negative errno: it is lost. */
int event_log_append(const char *directory, const char *line, size_t length);
#endif
