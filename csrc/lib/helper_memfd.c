/* The helper as a sealed memfd.
 *
 * A container's root can open /proc/PID/exe of what runs in it; were that a file on disk, it could be overwritten
 * (CVE-2019-5736). A memfd sealed against writing, shrinking and growing cannot be, by anybody.
 */
#define _GNU_SOURCE
#include "lib.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux >= 6.3; without it vm.memfd_noexec may take the right to execute away */
#endif

int pylxc_helper_load(const char *path, int *ret_fd)
{
    struct stat st;
    lib_fd_close int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &st) < 0)
        return -1;
    lib_fd_close int memory = memfd_create("pylxc-helper", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (memory < 0 && errno == EINVAL)
        memory = memfd_create("pylxc-helper", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0)
        return -1;
    for (off_t left = st.st_size; left > 0;) {
        ssize_t n = sendfile(memory, file, NULL, (size_t)left);
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return -1;
        }
        left -= n;
    }
    int seals = DEFENCE(SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, 0);
    if (fcntl(memory, F_ADD_SEALS, seals) < 0)
        return -1;
    *ret_fd = lib_steal_fd(&memory);
    return 0;
}
