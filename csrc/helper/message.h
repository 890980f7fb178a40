/* Messages between processes; see message.c. */
#ifndef PYLXC_MESSAGE_H
#define PYLXC_MESSAGE_H
#include "sys.h"

/* Sends size bytes, and with fd >= 0 a copy of that descriptor. The number of bytes or a negative errno. */
long send_message(int socket, const void *data, size_t size, int fd);
/* Receives one message; *ret_fd is the descriptor that came with it (close-on-exec), or -1. 0 = the other end is gone.
 */
long receive_message(int socket, void *data, size_t size, int *ret_fd);
#endif
