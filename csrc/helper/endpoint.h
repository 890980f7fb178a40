/* A container's end of a network; see endpoint.c. */
#ifndef PYLXC_ENDPOINT_H
#define PYLXC_ENDPOINT_H
#include "../pylxc.h"
#include "netlink.h"

/* Makes the pair of links, one end on the bridge, the other in the namespace `netns`, and gives that its addresses and
 * routes. `outer` and `inner` are NETLINK_ROUTE sockets of the host's namespace and of that one. 0 or a negative errno;
 * after an error there is no link. */
int endpoint_attach(int outer, int inner, int netns, const struct pylxc_endpoint *endpoint);
/* Takes the link of that name out of the namespace of `inner`, and with it its other end. One that is not there is no
 * error. */
int endpoint_detach(int inner, const char *name);
/* The number of links on a bridge, asked on a NETLINK_ROUTE socket of its namespace, or a negative errno. */
int endpoint_count(int fd, const char *bridge);
/* An address as netlink has it: its bytes and how many they are (0: none). */
size_t address_size(const struct pylxc_address *address);
/* Adds RTM_NEWADDR for a link. */
void endpoint_address(struct netlink *n, uint32_t index, const struct pylxc_address *address);
#endif
