/* A container's log; see log.c. */
#ifndef PYLXC_LOG_H
#define PYLXC_LOG_H
#include "helper.h"

struct log {
    int fd;        /* the file being written, -1 = no log */
    int directory; /* the record directory; the monitor's */
    uint64_t size; /* bytes in that file */
    uint64_t most; /* bytes that a file may have, 0 = no limit */
    int64_t number, files;
};

/* Opens the log in the record directory, where the plan wants one. 0 or a negative errno. */
int log_open(const struct plan *plan, int directory, struct log *ret);
/* Adds what a stream ("stdout", "stderr") brought, at a time in ns since 1970. */
void log_add(struct log *log, const char *stream, int64_t time_ns, const char *bytes, size_t n);
#endif
