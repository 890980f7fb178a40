/* The kernel's own share of a root of many layers: overlay SCRATCH COUNT mounts an overlay over the directories
 * SCRATCH/0 … SCRATCH/COUNT-1 for each letter that it reads, unmounts it, and answers with the milliseconds it took.
 * The mount is never attached, and read-only: nothing but the layers is in it. Needs Linux 6.5, headers of 5.12, root.
 */
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static long check(long result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static void mount_once(int count)
{
    int fs = check(syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC), "fsopen");
    char path[16];
    for (int i = count - 1; i >= 0; i--) {
        snprintf(path, sizeof path, "%d", i);
        check(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir+", path, 0), "fsconfig: lowerdir+");
    }
    if (count == 1) /* overlayfs refuses a single layer that nothing is above */
        check(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir+", "empty", 0), "fsconfig: lowerdir+");
    check(syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "userxattr", 0, 0), "fsconfig: userxattr");
    check(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0), "fsconfig: create");
    int mount = check(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY), "fsmount");
    close(fs);
    close(mount); /* the last reference: it is gone */
}

int main(int argc, char **argv)
{
    if (argc != 3 || chdir(argv[1]) < 0) {
        fprintf(stderr, "usage: overlay SCRATCH COUNT\n");
        return 2;
    }
    check(access("empty", F_OK) < 0 ? syscall(SYS_mkdirat, AT_FDCWD, "empty", 0755) : 0, "mkdir");
    char letter;
    while (read(0, &letter, 1) == 1) {
        double begin = now();
        mount_once(atoi(argv[2]));
        printf("%f\n", now() - begin);
        fflush(stdout);
    }
    return 0;
}
