/* The socket on which a container's monitor is asked for things; see control.c. */
#ifndef PYLXC_CONTROL_H
#define PYLXC_CONTROL_H
#include "helper.h"

/* Makes the socket in the record directory: a descriptor or a negative errno. */
int control_open(int directory);
void control_close(int directory, int control);
/* Takes one request: 1 with what to answer on, 0 when there is none. */
int control_receive(int control, struct pylxc_request *ret, int *ret_answer);
/* Answers it, with a descriptor unless `fd` is -1, and closes `answer`. */
void control_answer(int answer, int errnum, int fd);
#endif
