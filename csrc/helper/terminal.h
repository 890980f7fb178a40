/* The terminal of a payload, and how its ends reach the monitor; see terminal.c. */
#ifndef PYLXC_TERMINAL_H
#define PYLXC_TERMINAL_H
#include "helper.h"

/* Said to the monitor by the child (in place of a stage), with a descriptor: the end `errnum` of its terminal. */
enum { SENT_TERMINAL = -2 };
enum terminal_end { MASTER, SLAVE };

#endif
