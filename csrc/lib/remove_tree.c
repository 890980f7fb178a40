/* The helper's removal of trees for Python: errors as libc has them. */
#include "../helper/remove_tree.h"
#include "lib.h"
#include <errno.h>

static int told(int r)
{
    if (r == 0)
        return 0;
    errno = -r;
    return -1;
}

int pylxc_remove_tree(int dirfd, const char *name)
{
    return told(remove_tree(dirfd, name));
}

int pylxc_empty_tree(int dirfd, const char *kept)
{
    return told(empty_tree(dirfd, kept));
}
