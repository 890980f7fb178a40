/* The physical floor of a container start, one start at a time, so that a benchmark can take turns with it.
 *
 *   cc -O2 -o floor floor.c && ./floor ROOTFS SCRATCH
 *
 * ROOTFS holds a static bin/true and empty proc, sys, dev; SCRATCH is an empty directory on a disk file system. Runs as
 * root. Reads letters from standard input and answers each with a line, the milliseconds that one start took from before
 * clone to after wait and clean-up:  v = vfork, exec, wait;  n = all namespaces, overlay root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(call) do { if ((call) < 0) { fprintf(stderr, "%s: %s\n", #call, strerror(errno)); _exit(99); } } while (0)

static char stack[1 << 16] __attribute__((aligned(16)));
static const char *rootfs, *scratch;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int contained(void *operand)
{
    (void)operand;
    static const struct { const char *path; int major, minor; } devices[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    char options[8192];
    char *argv[] = {"/bin/true", NULL}, *envp[] = {NULL};
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    CHECK(chdir(scratch));
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/start/upper,workdir=%s/start/work", rootfs, scratch, scratch);
    CHECK(mount("overlay", "merged", "overlay", 0, options));
    CHECK(chdir("merged"));
    CHECK(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    CHECK(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k"));
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        CHECK(mknod(devices[i].path, S_IFCHR | 0666, (dev_t)(devices[i].major << 8 | devices[i].minor)));
    CHECK(mkdir("dev/pts", 0755));
    CHECK(mkdir("dev/shm", 0755));
    CHECK(mkdir("dev/mqueue", 0755));
    CHECK(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
    CHECK(mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=65536k"));
    CHECK(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    CHECK(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL));
    CHECK(syscall(SYS_pivot_root, ".", "."));
    CHECK(umount2(".", MNT_DETACH));
    CHECK(chdir("/"));
    CHECK(sethostname("c", 1));
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    execve(argv[0], argv, envp);
    _exit(98);
}

static int plain(void *operand)
{
    (void)operand;
    char path[4096], *argv[] = {path, NULL}, *envp[] = {NULL};
    snprintf(path, sizeof path, "%s/bin/true", rootfs);
    execve(path, argv, envp);
    _exit(98);
}

/* The directories of one start: its own, and the two of the overlay, in which the kernel makes one more. */
static void overlay_directories(int make)
{
    static const char *const names[] = {"", "/upper", "/work", "/work/work"};
    char path[4096];
    for (int i = 0; i < (make ? 3 : 4); i++) {
        snprintf(path, sizeof path, "%s/start%s", scratch, names[make ? i : 3 - i]);
        if (make)
            CHECK(mkdir(path, 0755));
        else
            rmdir(path);
    }
}

int main(int argc, char **argv)
{
    const int all = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET;
    char path[4096];
    if (argc != 3) {
        fprintf(stderr, "usage: floor ROOTFS SCRATCH\n");
        return 2;
    }
    rootfs = argv[1];
    scratch = argv[2];
    snprintf(path, sizeof path, "%s/merged", scratch);
    mkdir(path, 0755);
    for (int letter; (letter = getchar()) != EOF;) {
        int isolated = letter == 'n', status;
        double begin = now_ms();
        if (isolated)
            overlay_directories(1);
        int pid = clone(isolated ? contained : plain, stack + sizeof stack,
                        CLONE_VM | CLONE_VFORK | (isolated ? all : 0) | SIGCHLD, NULL);
        CHECK(pid);
        CHECK(waitpid(pid, &status, 0));
        if (isolated)
            overlay_directories(0);
        if (status) {
            fprintf(stderr, "the started program ended with status %x\n", (unsigned)status);
            return 1;
        }
        printf("%.4f\n", now_ms() - begin);
        fflush(stdout);
    }
    return 0;
}
