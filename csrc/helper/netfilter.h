/* Transactions of nftables; see netfilter.c. */
#ifndef PYLXC_NETFILTER_H
#define PYLXC_NETFILTER_H
#include "netlink.h"

/* Begins a transaction; what follows takes place as a whole or not at all. */
void netfilter_begin(struct netlink *n);
/* Begins a message of it: NFT_MSG_*, in the family inet. */
void netfilter_message(struct netlink *n, uint16_t type, uint16_t flags);
/* A message about a whole table. */
void netfilter_table(struct netlink *n, uint16_t type, uint16_t flags, const char *name);
/* Carries the transaction out on a NETLINK_NETFILTER socket: 0 or a negative errno. */
int netfilter_commit(int fd, struct netlink *n);
/* Removes a table; one that is not there is no error. */
int netfilter_remove(int fd, const char *name);
#endif
