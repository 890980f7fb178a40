/* Netlink messages: built in a buffer, sent together, answered once; see netlink.c. */
#ifndef PYLXC_NETLINK_H
#define PYLXC_NETLINK_H
#include "sys.h"

/* Messages to be sent. What does not fit sets `overflow`, which the exchange refuses. */
struct netlink {
    char *data;
    size_t size, used, message; /* `message`: where the last one begins */
    uint32_t count;             /* of messages */
    int overflow;
};
#define NETLINK(name, capacity)                                                                                        \
    _Alignas(8) char name##_data[capacity];                                                                            \
    struct netlink name = {name##_data, sizeof name##_data, 0, 0, 0, 0}

/* A socket of a netlink protocol in the namespace of this process: a descriptor or a negative errno. */
int netlink_open(int protocol);
/* Begins a message; `head` is what comes before its attributes. NLM_F_REQUEST is added. */
void netlink_message(struct netlink *n, uint16_t type, uint16_t flags, const void *head, size_t size);
void netlink_attribute(struct netlink *n, uint16_t type, const void *data, size_t size);
void netlink_string(struct netlink *n, uint16_t type, const char *text); /* with its NUL */
void netlink_u32(struct netlink *n, uint16_t type, uint32_t value);      /* in the order of this machine */
void netlink_be32(struct netlink *n, uint16_t type, uint32_t value);     /* in the order of networks */
/* Attributes up to netlink_end are part of this one. */
size_t netlink_nest(struct netlink *n, uint16_t type);
void netlink_end(struct netlink *n, size_t nest);
/* Sends all messages, and waits until the last is carried out. 0, or the negative errno of the first that failed;
 * which one (from 1) is in *ret_failed, which may be NULL. */
int netlink_exchange(int fd, struct netlink *n, uint32_t *ret_failed);
/* Lets the last message so far be answered: where what follows it never is. */
void netlink_want_answer(struct netlink *n);

/* What takes messages of a dump. `count` is its own to count in. */
struct nlmsghdr;
struct rtattr;
struct netlink_dump {
    int (*take)(struct netlink_dump *dump, const struct nlmsghdr *message); /* 0, or a negative errno that ends it */
    void *operand;
    size_t count, most;
};
/* Asks for all of a kind, and hands each message on; from the beginning again when something changed meanwhile. 0 or a
 * negative errno. */
int netlink_dump(int fd, uint16_t type, const void *head, size_t size, struct netlink_dump *dump);
/* The content of an attribute that has at least so many bytes; NULL. */
const void *netlink_find(const struct rtattr *first, unsigned left, uint16_t type, size_t least);
/* The index of a link by its name, asked on any netlink socket: of that socket's namespace. Or a negative errno. */
int netlink_index(int fd, const char *name);
/* Likewise its MTU. */
int netlink_mtu(int fd, const char *name);

enum { NETLINK_ROUTE_ = 0, NETLINK_NETFILTER_ = 12 };
#endif
