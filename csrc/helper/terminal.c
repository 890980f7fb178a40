/* The terminal of a payload: a pseudo-terminal of the container's own devpts, made from inside.
 *
 * In `exec` the container's root has had time to put anything in the place of /dev/pts and what lies in it. So nothing
 * is opened by a path that a link could lead elsewhere, nothing at all is opened before its directory is known to be
 * devpts, and the slave is asked of the kernel (TIOCGPTPEER), never looked up by its name: what else were opened would
 * be a device or a FIFO that does something on being opened, or a file that /dev/console then shows (CVE-2025-52565,
 * CVE-2025-31133). A terminal of its own also keeps a payload from pushing input into the caller's (TIOCSTI).
 */
#include "terminal.h"
#include "message.h"
#include <asm/ioctls.h>
#include <asm/statfs.h>
#include <asm/termios.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#ifdef PYLXC_HOSTED
#include <sys/stat.h>
#endif

/* Documentation/admin-guide/devices.txt: /dev/ptmx, and the slaves' first number of eight. */
enum { PTMX_MAJOR = 5, PTMX_MINOR = 2, SLAVE_MAJOR = 136, SLAVE_MAJORS = 8 };

static int is_devpts(int fd)
{
    struct statfs st;
    return sys(fstatfs, fd, &st) == 0 && st.f_type == DEVPTS_SUPER_MAGIC;
}

static int is_terminal(int fd, uint32_t major, uint32_t majors, int minor)
{
    struct statx st;
    if (!is_devpts(fd) || sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0)
        return 0;
    return (st.stx_mode & S_IFMT) == S_IFCHR && st.stx_rdev_major - major < majors &&
           (minor < 0 || st.stx_rdev_minor == (uint32_t)minor);
}

/* Nobody can make, rename or remove a name in a devpts; what is mounted over one is refused (RESOLVE_NO_XDEV). */
static int open_master(struct launch *l)
{
    fd_close int directory = open_in_root_without_links(l, "/dev/pts", O_PATH | O_DIRECTORY);
    if (directory < 0)
        return directory;
    if (!is_devpts(directory))
        return -ENODEV;
    struct open_how how = {.flags = O_RDWR | O_NOCTTY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    fd_close int master = (int)sys(openat2, directory, "ptmx", &how, sizeof how);
    if (master < 0)
        return master;
    return is_terminal(master, PTMX_MAJOR, 1, PTMX_MINOR) ? steal_fd(&master) : -ENODEV;
}

static int open_slave(int master)
{
    int locked = 0;
    long r = sys(ioctl, master, TIOCSPTLCK, &locked);
    fd_close int slave = (int)(r < 0 ? r : sys(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (slave < 0)
        return slave;
    return is_terminal(slave, SLAVE_MAJOR, SLAVE_MAJORS, -1) ? steal_fd(&slave) : -ENODEV;
}

static int pass_on(const struct launch *l, enum terminal_end end, int fd)
{
    struct pylxc_error message = {.stage = SENT_TERMINAL, .errnum = (int32_t)end, .index = l->index};
    long n = send_message(l->error_fd, &message, sizeof message, fd);
    return (int)(n < 0 ? n : 0);
}

int op_terminal(struct launch *l, const struct pylxc_op *op)
{
    fd_close int master = open_master(l);
    fd_close int slave = master < 0 ? master : open_slave(master);
    if (slave < 0)
        return slave;
    struct winsize size = {.ws_row = (uint16_t)op->a, .ws_col = (uint16_t)op->b};
    long r = sys(ioctl, master, TIOCSWINSZ, &size);
    if (r >= 0)
        r = sys(ioctl, slave, TIOCSCTTY, 0); /* of a session without one: launch_run has begun it */
    for (int fd = 0; r >= 0 && fd <= 2; fd++)
        r = sys(dup3, slave, fd, 0);
    if (r >= 0 && op->flags & PYLXC_TERMINAL_CONSOLE)
        r = bind_over_file(l, slave, "/dev", "console");
    if (r >= 0)
        r = pass_on(l, MASTER, master);
    if (r >= 0)
        r = pass_on(l, SLAVE, slave);
    l->has_terminal = r >= 0;
    return (int)(r < 0 ? r : 0);
}
