/* Drives unpack_tar and pack_tar without a container, for the tests and the sanitizers:
 *
 *     tar_main unpack ROOT FLAGS LIMIT [DESTINATION] < stream
 *     tar_main pack ROOT FLAGS [LATEST] > stream
 *     tar_main mirror ROOT FLAGS DESTINATION > stream    (outside ROOT; FLAGS are both packing's and unpacking's)
 *
 * ROOT becomes the root of the process first, as it is in the helper. A failure is one line on standard error: the
 * errno, a tab and the subject; the exit status is then 1.
 */
#define _DEFAULT_SOURCE
#include "../../csrc/helper/tar.h"
#include <stdio.h>
#include <stdlib.h>

int chroot(const char *path);
int chdir(const char *path);

static int fail(int r, const char *subject)
{
    fprintf(stderr, "%d\t%s\n", -r, subject);
    return 1;
}

int main(int argc, char **argv)
{
    char subject[244] = "";
    int r = -EINVAL;
    bool mirrors = argc > 4 && strcmp(argv[1], "mirror") == 0;
    fd_close int copy = mirrors ? (int)sys(openat, AT_FDCWD, argv[4], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (argc < 4 || chroot(argv[2]) < 0 || chdir("/") < 0)
        return fail(-EINVAL, "usage: tar_main unpack|pack ROOT FLAGS [LIMIT [DESTINATION]]");
    uint64_t flags = strtoull(argv[3], NULL, 0);
    fd_close int top = (int)sys(openat, AT_FDCWD, argc > 5 ? argv[5] : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return fail(top, "destination");
    if (strcmp(argv[1], "unpack") == 0)
        r = unpack_tar(0, top, flags, argc > 4 ? strtoull(argv[4], NULL, 0) : 0, subject, sizeof subject);
    else if (strcmp(argv[1], "pack") == 0)
        r = pack_tar(1, top, flags, &(struct pack_extras){.latest = argc > 4 ? strtoll(argv[4], NULL, 0) : 0}, subject,
                     sizeof subject);
    else if (mirrors)
        r = pack_tar(1, top, flags, &(struct pack_extras){.mirror = &(struct pack_mirror){copy, flags, false}}, subject,
                     sizeof subject);
    return r < 0 ? fail(r, subject) : 0;
}
