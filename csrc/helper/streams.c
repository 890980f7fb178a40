/* The standard streams of a monitor's process: what they are, and how what comes out of them gets to the log. */
#include "monitor.h"
#include "record.h"
#include "terminal.h"

enum { STREAM_BUFFER = 65536, TERMINAL_HOLDS = 4 * STREAM_BUFFER /* more than the kernel keeps for a reader */ };

/* Pipes in place of descriptors 1 and 2, which end in the log. */
static int pipe_to_log(struct monitor *m)
{
    for (int i = 0; i < 2; i++) {
        int ends[2];
        long r = sys(pipe2, ends, O_CLOEXEC);
        if (r < 0)
            return (int)r;
        m->streams[i] = (struct stream){ends[0], i ? "stderr" : "stdout"};
        r = sys(dup3, ends[1], i + 1, 0);
        sys(close, ends[1]);
        if (r < 0)
            return (int)r;
    }
    return 0;
}

long streams_pump(struct monitor *m, struct stream *s)
{
    static char buffer[STREAM_BUFFER];
    long n = sys(read, s->fd, buffer, sizeof buffer);
    if (n == -EINTR || n == -EAGAIN)
        return 0;
    if (n <= 0) { /* of a terminal whose slave nobody has open: EIO */
        sys(close, s->fd);
        s->fd = DEFENCE(STREAM_END, -1, s->fd);
        return 0;
    }
    log_add(&m->log, s->name, now_ns(), buffer, (size_t)n);
    return n;
}

void streams_fill(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (sys(fcntl, fd, F_GETFD) < 0)
            sys(openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
}

void streams_give_up(void)
{
    fd_close int null = (int)sys(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++)
        sys(dup3, null, fd, 0);
}

int streams_open(struct monitor *m)
{
    int r = m->input[0] >= 0 ? (int)sys(dup3, m->input[0], 0, 0) : 0;
    return r < 0 || !monitor_has(m, PYLXC_PLAN_LOG) ? r : pipe_to_log(m);
}

void streams_give_terminal(struct monitor *m)
{
    if (m->terminal[MASTER] < 0)
        return;
    if (monitor_has(m, PYLXC_PLAN_LOG)) {
        for (int i = 0; i < 2; i++)
            sys(close, m->streams[i].fd);
        m->streams[0].fd = steal_fd(&m->terminal[MASTER]);
        m->streams[1].fd = -1;
        return;
    }
    struct pylxc_report terminal = {.kind = PYLXC_REPORT_TERMINAL, .pid = m->pid};
    monitor_report(&terminal, m->terminal[MASTER]);
    sys(close, steal_fd(&m->terminal[MASTER]));
}

/* What the streams still hold when the process has ended, and no more: its namespace is empty then, but a pipe may have
 * been handed to a process elsewhere, which may write for ever. */
static void drain_log(struct monitor *m)
{
    for (int i = 0; i < 2; i++) {
        int left = 0;
        if (m->streams[i].fd >= 0)
            sys(ioctl, m->streams[i].fd, 0x541b /* FIONREAD */, &left);
        for (; DEFENCE(DRAIN_LIMIT, left > 0, 1) && m->streams[i].fd >= 0; left -= STREAM_BUFFER)
            streams_pump(m, &m->streams[i]);
    }
}

/* Likewise. A terminal's bytes reach its reader by way of a kernel thread: FIONREAD does not wait for it, a read does.
 */
static void drain_terminal(struct monitor *m)
{
    long n = 1;
    sys(fcntl, m->streams[0].fd, F_SETFL, O_RDWR | O_NONBLOCK);
    for (long left = TERMINAL_HOLDS; n > 0 && left > 0; left -= n)
        n = streams_pump(m, &m->streams[0]);
}

void streams_drain(struct monitor *m)
{
    if (m->terminal[SLAVE] < 0) {
        drain_log(m);
        return;
    }
    sys(close, steal_fd(&m->terminal[SLAVE]));
    if (m->streams[0].fd >= 0)
        drain_terminal(m);
}
