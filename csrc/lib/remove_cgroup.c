/* The helper's remove_cgroup for Python: errors as libc has them. */
#include "../helper/remove_cgroup.h"
#include "lib.h"
#include <errno.h>

int pylxc_remove_cgroup(const char *directory)
{
    enum { PATIENCE = 400 /* times 5 ms */ };
    int r = remove_cgroup(directory, PATIENCE);
    if (r == 0)
        return 0;
    errno = -r;
    return -1;
}
