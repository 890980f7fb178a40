/* Requests to the monitor: datagrams on a socket in the record directory, each with a socket to answer on.
 *
 * So the monitor has no clients that it would have to remember, wait for, or be kept waiting by. Who may ask is who may
 * enter the directory, which is its owner's alone.
 */
#include "control.h"
#include "message.h"
#include <linux/socket.h>

static const char name[] = "control";

/* sockaddr_un holds 108 bytes, and a directory's path may be longer: the name is bound in the working directory. */
int control_open(int directory)
{
    enum { AF_UNIX_ = 1, SOCK_DGRAM_ = 2, SOCK_NONBLOCK_ = O_NONBLOCK };
    struct {
        uint16_t family;
        char path[sizeof name];
    } address = {.family = AF_UNIX_};
    memcpy(address.path, name, sizeof name);
    fd_close int fd = (int)sys(socket, AF_UNIX_, SOCK_DGRAM_ | SOCK_NONBLOCK_ | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    sys(unlinkat, directory, name, 0); /* of a monitor that was killed */
    long r = sys(fchdir, directory);
    if (r >= 0)
        r = sys(bind, fd, &address, sizeof address);
    if (r >= 0)
        r = sys(fchmodat, AT_FDCWD, name, 0600);
    sys(chdir, "/");
    return r < 0 ? (int)r : steal_fd(&fd);
}

void control_close(int directory, int control)
{
    if (control < 0)
        return;
    sys(unlinkat, directory, name, 0);
    sys(close, control);
}

int control_receive(int control, struct pylxc_request *ret, int *ret_answer)
{
    long n = receive_message(control, ret, sizeof *ret, ret_answer);
    if (n == sizeof *ret && *ret_answer >= 0)
        return 1;
    if (*ret_answer >= 0)
        sys(close, steal_fd(ret_answer));
    return 0;
}

void control_answer(int answer, int errnum, int fd)
{
    struct pylxc_answer word = {errnum};
    sys(fcntl, answer, F_SETFL, O_NONBLOCK); /* who does not read his answer keeps nobody waiting */
    send_message(answer, &word, sizeof word, fd);
    sys(close, answer);
}
