/* Messages between processes: a few bytes and perhaps a descriptor, on a SOCK_SEQPACKET socket. */
#include "message.h"

struct ancillary {
    uint64_t length;
    int32_t level, type, fd, padding;
};
enum { ANCILLARY_LENGTH = sizeof(struct ancillary) - sizeof(int32_t), SOL_SOCKET_ = 1, SCM_RIGHTS_ = 1 };

long send_message(int socket, const void *data, size_t size, int fd)
{
    struct ancillary ancillary = {ANCILLARY_LENGTH, SOL_SOCKET_, SCM_RIGHTS_, fd, 0};
    struct part part = {(void *)(uintptr_t)data, size};
    struct message message = {.parts = &part, .part_count = 1};
    if (fd >= 0) {
        message.control = &ancillary;
        message.control_length = sizeof ancillary;
    }
    return sys(sendmsg, socket, &message, 0x4000 /* MSG_NOSIGNAL */);
}

long receive_message(int socket, void *data, size_t size, int *ret_fd)
{
    struct ancillary ancillary = {0};
    struct part part = {data, size};
    struct message message = {
        .parts = &part, .part_count = 1, .control = &ancillary, .control_length = sizeof ancillary};
    long n;
    do
        n = sys(recvmsg, socket, &message, 0x40000000 /* MSG_CMSG_CLOEXEC */);
    while (n == -EINTR);
    *ret_fd = n > 0 && ancillary.length == ANCILLARY_LENGTH && ancillary.type == SCM_RIGHTS_ ? ancillary.fd : -1;
    return n;
}
