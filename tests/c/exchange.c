/* Exchanges two names in a directory, over and over: exchange DIRECTORY A B. For attacks on whoever resolves a path
 * there. It prints a line when it has begun, and ends when it is killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 4 || chdir(argv[1]) < 0)
        return 2;
    for (unsigned long n = 0;; n++) {
        if (syscall(SYS_renameat2, AT_FDCWD, argv[2], AT_FDCWD, argv[3], RENAME_EXCHANGE) < 0) {
            perror("renameat2");
            return 1;
        }
        if (n == 1000) {
            puts("exchanging");
            fflush(stdout);
        }
    }
}
