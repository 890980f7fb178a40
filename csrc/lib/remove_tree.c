/* The helper's remove_tree for Python: errors as libc has them. */
#include "../helper/remove_tree.h"
#include "lib.h"
#include <errno.h>

int pylxc_remove_tree(int dirfd, const char *name)
{
    int r = remove_tree(dirfd, name);
    if (r == 0)
        return 0;
    errno = -r;
    return -1;
}
