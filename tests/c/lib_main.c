/* Drives csrc/lib without Python, so that it can run under the sanitizers, leaks included:
 *
 *     lib_main spawn HELPER PLAN...              starts each plan on the standard streams; one line says what came of
 * it lib_main fuzz HELPER PLAN SEED COUNT       starts COUNT plans that are PLAN with mistakes in it lib_main errors
 * HELPER PLAN                what pylxc_spawn_begin and pylxc_helper_load refuse, want of descriptors included lib_main
 * calls HELPER PLAN DIRECTORY       the other functions; PLAN makes a process that waits, with its own network
 *
 * After each plan no descriptor may be open that was not before, and no child be left. A line on standard error and
 * status 1 say what is not as it should be.
 */
#define _GNU_SOURCE
#include "../../csrc/lib/lib.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { PATIENCE = 10000 /* ms */, LONG_ENOUGH = 4000 /* ms */, ROOM = 4096 /* bytes that a plan may grow by */ };

#define EXPECT(condition)                                                                                              \
    do                                                                                                                 \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    while (0)

struct bytes {
    unsigned char *data;
    size_t size;
};

static struct bytes read_file(const char *path)
{
    struct stat st;
    lib_fd_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    EXPECT(fd >= 0 && fstat(fd, &st) == 0);
    struct bytes all = {calloc(1, (size_t)st.st_size + ROOM), (size_t)st.st_size};
    EXPECT(all.data && read(fd, all.data, all.size) == (ssize_t)all.size);
    return all;
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    EXPECT(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static int streams[] = {0, 1, 2}; /* of what is started; -1 = none */

/* Both halves of a start. A plan that waits for the caller between them is told that nothing will come. */
static int start(const struct pylxc_spec *spec, struct pylxc_child *ret_child, struct pylxc_error *reterr)
{
    int r = pylxc_spawn_begin(spec, ret_child, reterr);
    if (r < 0)
        return r;
    shutdown(ret_child->control_fd, SHUT_WR);
    return pylxc_spawn_end(ret_child, reterr);
}

static int spawn(int helper, struct bytes plan, struct pylxc_child *ret_child, struct pylxc_error *reterr)
{
    const int fds[] = {streams[0], streams[1], streams[2], -1, -1};
    struct pylxc_spec spec = {helper, plan.data, plan.size, fds, sizeof fds / sizeof *fds};
    memset(reterr, 0xee, sizeof *reterr);
    return start(&spec, ret_child, reterr);
}

static void close_child(const struct pylxc_child *child)
{
    int ended = 0;
    struct pollfd monitor = {.fd = child->monitor_fd, .events = POLLIN};
    EXPECT(poll(&monitor, 1, PATIENCE) == 1);
    EXPECT(pylxc_reap(child->monitor_fd, &ended) == 0 && ended);
    EXPECT(child->terminal_fd == -1 || close(child->terminal_fd) == 0);
    EXPECT(close(child->monitor_fd) == 0 && close(child->pid_fd) == 0 && close(child->control_fd) == 0);
}

/* What a process comes to. One that goes on (it reads from what nobody writes to) is ended. */
static struct pylxc_report await_end(const struct pylxc_child *child)
{
    struct pylxc_report report = {0};
    struct pollfd control = {.fd = child->control_fd, .events = POLLIN};
    if (poll(&control, 1, LONG_ENOUGH) == 0)
        EXPECT(pylxc_pidfd_send_signal(child->pid_fd, SIGKILL) == 0);
    ssize_t n = read(child->control_fd, &report, sizeof report);
    EXPECT(n == 0 || (n == sizeof report && report.kind == PYLXC_REPORT_ENDED));
    close_child(child);
    return report;
}

/* Starts one plan and sees it through; 1 if it ran. */
static int see_through(int helper, struct bytes plan, struct pylxc_error *reterr, struct pylxc_report *ret_end)
{
    struct pylxc_child child;
    int before = open_descriptors(), r = spawn(helper, plan, &child, reterr);
    if (r == 0)
        *ret_end = await_end(&child);
    else
        EXPECT(r == -1 && reterr->stage > PYLXC_STAGE_NONE && reterr->stage <= PYLXC_STAGE_EXEC && reterr->errnum > 0 &&
               memchr(reterr->subject, 0, sizeof reterr->subject));
    EXPECT(open_descriptors() == before);
    EXPECT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    return r == 0;
}

static void spawn_all(int helper, char **paths)
{
    for (; *paths; paths++) {
        struct pylxc_error error;
        struct pylxc_report end;
        struct bytes plan = read_file(*paths);
        if (see_through(helper, plan, &error, &end))
            printf("ended code=%d signal=%d stage=%d errno=%d subject=%s\n", end.code, end.signal, end.error.stage,
                   end.error.errnum, end.error.subject);
        else
            printf("failed stage=%d errno=%d index=%d\n", error.stage, error.errnum, error.index);
        fflush(stdout);
        free(plan.data);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* One mistake: a bit, a number of any width, a cut, something added, or a part twice. */
static void mutate(struct bytes *plan, uint64_t *random)
{
    static const uint64_t odd[] = {0, 1, 3, 5, 7, 8, 255, 4096, 1ULL << 31, ~0ULL, ~0ULL << 31, 1ULL << 63};
    uint64_t value =
        next_random(random) % 2 ? odd[next_random(random) % (sizeof odd / sizeof *odd)] : next_random(random);
    size_t width = (size_t)1 << next_random(random) % 4, at = next_random(random) % plan->size;
    switch (next_random(random) % 8) {
    case 0:
        plan->data[at] ^= (unsigned char)(1 << value % 8);
        return;
    case 1:
        plan->size = at + 1;
        return;
    case 2:
        plan->size += value % (ROOM / 8);
        return;
    case 3:
        memmove(plan->data + at, plan->data + next_random(random) % (at + 1), plan->size - at);
        return;
    default:
        at -= at % width;
        memcpy(plan->data + at, &value, width < plan->size - at ? width : plan->size - at);
    }
}

static void fuzz(int helper, const char *path, uint64_t seed, long count)
{
    long refused = 0, failed = 0, ran = 0;
    uint64_t random = seed * 0x9e3779b97f4a7c15ULL + 1;
    struct bytes sound = read_file(path);
    streams[0] = streams[1] = streams[2] = -1;
    for (long i = 0; i < count; i++) {
        struct pylxc_error error;
        struct pylxc_report end;
        struct bytes plan = {calloc(1, sound.size + ROOM), sound.size};
        EXPECT(plan.data);
        memcpy(plan.data, sound.data, sound.size);
        for (uint64_t mistakes = 1 + next_random(&random) % 3; mistakes--;)
            mutate(&plan, &random);
        if (see_through(helper, plan, &error, &end))
            ran++;
        else if (error.stage == PYLXC_STAGE_PLAN)
            refused++;
        else
            failed++;
        free(plan.data);
    }
    free(sound.data);
    printf("refused=%ld failed=%ld ran=%ld\n", refused, failed, ran);
}

static void expect_failure(const struct pylxc_spec *spec, int stage, int errnum)
{
    struct pylxc_child child;
    struct pylxc_error error = {0};
    int before = open_descriptors();
    EXPECT(start(spec, &child, &error) == -1);
    if (error.stage != stage || error.errnum != errnum)
        fprintf(stderr, "stage %d, errno %d\n", error.stage, error.errnum);
    EXPECT(error.stage == stage && error.errnum == errnum && error.index == -1);
    EXPECT(open_descriptors() == before);
    EXPECT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static int memfd_of(const char *text)
{
    int fd = memfd_create("program", MFD_CLOEXEC);
    EXPECT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    return fd;
}

/* With one descriptor more each time, until it works: every step of a start that takes one has been refused it. */
static int lack_descriptors(const struct pylxc_spec *spec)
{
    struct rlimit usual, few;
    int refusals = 0, before = open_descriptors();
    lib_fd_close int lowest_free = fcntl(0, F_DUPFD_CLOEXEC, 0);
    EXPECT(getrlimit(RLIMIT_NOFILE, &usual) == 0);
    for (few = usual, few.rlim_cur = (rlim_t)lowest_free + 1;; few.rlim_cur++) {
        struct pylxc_child child;
        struct pylxc_error error;
        EXPECT(setrlimit(RLIMIT_NOFILE, &few) == 0);
        int r = start(spec, &child, &error);
        EXPECT(setrlimit(RLIMIT_NOFILE, &usual) == 0);
        if (r == 0) {
            await_end(&child);
            break;
        }
        EXPECT(error.errnum == EMFILE || error.errnum == EINVAL || error.errnum == EPROTO || error.errnum == EBADF);
        EXPECT(open_descriptors() == before + 1);
        refusals++;
    }
    return refusals;
}

static void errors(int helper, const char *path)
{
    const int fds[PYLXC_MAX_FDS + 1] = {0, 1, 2, -1, -1}, closed[] = {0, 1, 2, -1, -1, 1000};
    int fd = -1;
    EXPECT(pylxc_helper_load("/no/such", &fd) == -1 && errno == ENOENT && fd == -1);
    EXPECT(pylxc_helper_load("/", &fd) == -1 && fd == -1);
    EXPECT(pylxc_helper_load("/dev/null", &fd) == 0 && close(fd) == 0); /* an empty program */
    EXPECT(ftruncate(helper, 0) == -1 && errno == EPERM && write(helper, "", 1) == -1 && errno == EPERM);

    struct bytes plan = read_file(path);
    struct pylxc_spec sound = {helper, plan.data, plan.size, fds, 5}, spec = sound;
    for (spec.fd_count = 0; spec.fd_count < 5; spec.fd_count++)
        expect_failure(&spec, PYLXC_STAGE_PLAN, EINVAL);
    spec.fd_count = PYLXC_MAX_FDS + 1;
    expect_failure(&spec, PYLXC_STAGE_PLAN, EINVAL);
    spec = sound, spec.fds = closed, spec.fd_count = 6;
    expect_failure(&spec, PYLXC_STAGE_HELPER, EBADF);
    spec = sound, spec.plan_size = 0;
    expect_failure(&spec, PYLXC_STAGE_PLAN, EINVAL);

    lib_fd_close int junk = memfd_of("neither a program nor a script"), empty = memfd_of("");
    lib_fd_close int other = open("/bin/true", O_RDONLY | O_CLOEXEC), directory = open("/", O_RDONLY | O_CLOEXEC);
    const int helpers[][2] = {{-1, EBADF}, {junk, ENOEXEC}, {empty, ENOEXEC}, {directory, EACCES}, {other, EPROTO}};
    for (size_t i = 0; i < sizeof helpers / sizeof *helpers; i++) {
        spec = sound, spec.helper_fd = helpers[i][0];
        expect_failure(&spec, PYLXC_STAGE_HELPER, helpers[i][1]);
    }
    EXPECT(lack_descriptors(&sound) >= 4);
    free(plan.data);
}

static void check_socket(const struct pylxc_child *child)
{
    struct stat of_socket, of_process;
    char path[64];
    int fd = -1;
    EXPECT(pylxc_socket_in(child->pid_fd, AF_INET, SOCK_STREAM, 0, &fd) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    lib_fd_close int made = fd, namespace = ioctl(made, 0x894c /* SIOCGSKNS */);
    snprintf(path, sizeof path, "/proc/%d/ns/net", child->pid);
    EXPECT(namespace >= 0 && fstat(namespace, &of_socket) == 0 && stat(path, &of_process) == 0);
    EXPECT(of_socket.st_ino == of_process.st_ino);
    EXPECT(pylxc_socket_in(child->pid_fd, -1, SOCK_STREAM, 0, &fd) == -1 && errno == EAFNOSUPPORT);
    EXPECT(pylxc_socket_in(-1, AF_INET, SOCK_STREAM, 0, &fd) == -1 && errno == EBADF);
}

/* In a network namespace of the driver's own. */
static void check_networks(const struct pylxc_child *child)
{
    enum { BRIDGE_MTU = 1400 };
    const struct pylxc_bridge bridge = {"pylxc-driver",
                                        {2, 0, 0, 0, 0, 1},
                                        {0},
                                        BRIDGE_MTU,
                                        {{4, 24, {0}, {10, 5, 0, 1}}, {6, 64, {0}, {0xfd, [15] = 1}}}};
    const struct pylxc_endpoint end = {"eth0",
                                       "pylxc-driver",
                                       {2, 0, 0, 0, 0, 2},
                                       {0},
                                       BRIDGE_MTU,
                                       0,
                                       {{4, 24, {0}, {10, 5, 0, 2}}},
                                       {{4, 0, {0}, {10, 5, 0, 1}}}};
    const struct pylxc_firewall firewall = {
        "pylxc-driver", "pylxc-", {{4, 24, {0}, {10, 5, 0, 0}}, {6, 64, {0}, {0xfd}}}, 0, 0};
    struct pylxc_route routes[64];
    struct pylxc_chain chain;
    char path[64];
    size_t count;
    uint32_t mtu;
    int ports = -1;
    snprintf(path, sizeof path, "/proc/%d/ns/net", child->pid);
    lib_fd_close int netns = open(path, O_RDONLY | O_CLOEXEC);
    EXPECT(pylxc_bridge_make(-1, &bridge) == 0 && pylxc_bridge_make(-1, &bridge) == -1 && errno == EEXIST);
    EXPECT(pylxc_endpoint_attach(-1, child->pid_fd, netns, &end) == 0);
    EXPECT(pylxc_endpoint_attach(-1, child->pid_fd, netns, &end) == -1 && errno == EEXIST);
    EXPECT(pylxc_bridge_ports(-1, bridge.name, &ports) == 0 && ports == 1);
    EXPECT(pylxc_endpoint_detach(child->pid_fd, "eth0") == 0 && pylxc_endpoint_detach(child->pid_fd, "eth0") == 0);
    EXPECT(pylxc_routes(-1, routes, 64, &count) == 0 && count >= 1);
    uint32_t index = 0;
    for (size_t i = 0; i < count && i < 64; i++)
        if (routes[i].to.family == 4 && routes[i].to.prefix == 24)
            index = routes[i].index;
    EXPECT(pylxc_link_mtu(-1, index, &mtu) == 0 && mtu == BRIDGE_MTU);
    EXPECT(pylxc_routes(-1, NULL, 0, &count) == 0 && count >= 1);
    EXPECT(pylxc_firewall_make(-1, &firewall) == 0 && pylxc_firewall_make(-1, &firewall) == 0);
    EXPECT(pylxc_nftables_forward_drops(&chain) == 0 && chain.table[0] == 0);
    EXPECT(pylxc_firewall_remove(-1, firewall.bridge) == 0 && pylxc_firewall_remove(-1, firewall.bridge) == 0);
    EXPECT(pylxc_legacy_forward_drops(4, &ports) == 0 && ports == 0 && pylxc_legacy_forward_drops(6, &ports) == 0);
    EXPECT(pylxc_link_remove(-1, bridge.name) == 0 && pylxc_link_remove(-1, bridge.name) == 0);
    EXPECT(pylxc_bridge_ports(-1, bridge.name, &ports) == -1 && errno == ENODEV);
}

static void check_processes(int helper, const char *path)
{
    struct pylxc_child child;
    struct pylxc_error error;
    struct bytes plan = read_file(path);
    int fd = -1, ended = -1;
    EXPECT(spawn(helper, plan, &child, &error) == 0);
    check_socket(&child);
    check_networks(&child);
    EXPECT(pylxc_pidfd_open(child.pid, &fd) == 0 && pylxc_pidfd_send_signal(fd, 0) == 0);
    EXPECT(pylxc_reap(child.monitor_fd, &ended) == 0 && ended == 0);
    EXPECT(pylxc_pidfd_send_signal(fd, SIGTERM) == 0 && await_end(&child).signal == SIGTERM);
    EXPECT(pylxc_pidfd_send_signal(fd, 0) == -1 && errno == ESRCH);
    EXPECT(pylxc_socket_in(fd, AF_INET, SOCK_STREAM, 0, &ended) == -1 && errno == ESRCH);
    close(fd);
    EXPECT(pylxc_pidfd_open(-1, &fd) == -1 && errno == EINVAL);
    EXPECT(pylxc_pidfd_open(1, &fd) == 0 && pylxc_reap(fd, &ended) == 0 && ended == 1); /* no child of this one */
    close(fd);
    EXPECT(pylxc_reap(-1, &ended) == -1 && pylxc_pidfd_send_signal(-1, 0) == -1);
    free(plan.data);
}

static void check_event_log(const char *directory)
{
    char line[8192] = "", path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/events", directory);
    EXPECT(pylxc_event_log_append(directory, "{}", 2) == 0 && pylxc_event_log_append(directory, "{}", 2) == 0);
    EXPECT(stat(path, &st) == 0 && st.st_size == 6 && unlink(path) == 0);
    EXPECT(pylxc_event_log_append(directory, line, sizeof line) == -1 && errno == ENAMETOOLONG);
    EXPECT(pylxc_event_log_append("/no/such/directory", "{}", 2) == -1 && errno == ENOENT);
}

static void calls(int helper, const char *plan, const char *path)
{
    int before = open_descriptors();
    check_processes(helper, plan);
    lib_fd_close int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(mkdirat(directory, "tree", 0700) == 0 && symlinkat("/", directory, "tree/link") == 0);
    for (int i = 0; i < 100; i++) {
        char name[64];
        snprintf(name, sizeof name, "tree/%d", i);
        EXPECT(mkdirat(directory, name, 0) == 0);
    }
    EXPECT(pylxc_remove_tree(directory, "tree") == 0 && faccessat(directory, "tree", F_OK, 0) == -1);
    EXPECT(pylxc_remove_tree(directory, "tree") == -1 && errno == ENOENT);
    EXPECT(pylxc_remove_tree(-1, "tree") == -1 && errno == EBADF);
    EXPECT(pylxc_remove_cgroup("/no/such/cgroup") == 0);
    check_event_log(path);
    EXPECT(pylxc_device_filter_attach("/no/such/cgroup", "", 0) == -1 && errno == ENOENT);
    EXPECT(pylxc_device_filter_attach(path, "", 0) == -1);
    EXPECT(pylxc_syncfs(directory) == 0 && pylxc_syncfs(-1) == -1 && errno == EBADF);
    EXPECT(pylxc_spread(-1) == -1 && errno == EBADF);
    EXPECT(pylxc_spread(directory) == 0 || errno == EOPNOTSUPP || errno == ENOTTY);
    EXPECT(pylxc_syscall(PYLXC_CALL_UNSHARE, 0, 0, 0, 0, 0) == 0 && pylxc_syscall_number(PYLXC_CALL_CLONE3) == 435);
    EXPECT(pylxc_syscall(PYLXC_CALL_SETNS, (uintptr_t)-1, 0, 0, 0, 0) == -1 && errno == EBADF);
    EXPECT(open_descriptors() == before + 1);
}

int main(int argc, char **argv)
{
    int loaded = -1;
    EXPECT(argc >= 4 && pylxc_helper_load(argv[2], &loaded) == 0);
    lib_fd_close int helper = loaded;
    if (strcmp(argv[1], "spawn") == 0)
        spawn_all(helper, argv + 3);
    else if (strcmp(argv[1], "errors") == 0)
        errors(helper, argv[3]);
    else if (strcmp(argv[1], "calls") == 0 && argc == 5)
        calls(helper, argv[3], argv[4]);
    else if (strcmp(argv[1], "fuzz") == 0 && argc == 6)
        fuzz(helper, argv[3], strtoull(argv[4], NULL, 10), strtol(argv[5], NULL, 10));
    else
        return 2;
    return 0;
}
