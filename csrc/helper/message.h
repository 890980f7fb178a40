/* Messages on sockets, as the kernel takes them (sendmsg(2)), and between processes; see message.c. */
#ifndef PYLXC_MESSAGE_H
#define PYLXC_MESSAGE_H
#include "sys.h"

struct part {
    void *base;
    uint64_t length;
};

struct message {
    void *name;
    uint32_t name_length;
    struct part *parts;
    uint64_t part_count;
    void *control;
    uint64_t control_length;
    int32_t flags;
};

/* Sends size bytes, and with fd >= 0 a copy of that descriptor. The number of bytes or a negative errno. */
long send_message(int socket, const void *data, size_t size, int fd);
/* Receives one message; *ret_fd is the descriptor that came with it (close-on-exec), or -1. 0 = the other end is gone.
 */
long receive_message(int socket, void *data, size_t size, int *ret_fd);
#endif
