/* The helper's event_log_append for Python: errors as libc has them. */
#include "../helper/event_log.h"
#include "lib.h"
#include <errno.h>

int pylxc_event_log_append(const char *directory, const char *line, size_t length)
{
    int r = event_log_append(directory, line, length);
    if (r == 0)
        return 0;
    errno = -r;
    return -1;
}
