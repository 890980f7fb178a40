/* Which chain of nftables drops what is forwarded: an accept in a table of ours does not undo that. */
#define _GNU_SOURCE
#include "../helper/netlink.h"
#include "lib.h"
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>

static int number_is(const struct rtattr *first, unsigned size, uint16_t type, uint32_t wanted)
{
    uint32_t found;
    const void *data = netlink_find(first, size, type, sizeof found);
    if (!data)
        return 0;
    memcpy(&found, data, sizeof found);
    return be32toh(found) == wanted;
}

/* An attribute that ends in NUL; cut where it is too long. */
static void copy_text(const struct rtattr *first, unsigned size, uint16_t type, char *to, size_t room)
{
    const char *text = netlink_find(first, size, type, 1);
    size_t length = text ? strnlen(text, room - 1) : 0;
    if (text)
        memcpy(to, text, length);
    to[length] = 0;
}

static int take_chain(struct netlink_dump *dump, const struct nlmsghdr *message)
{
    struct pylxc_chain *to = dump->operand;
    const struct nfgenmsg *head = NLMSG_DATA(message);
    const struct rtattr *first = (const void *)(head + 1);
    unsigned size = message->nlmsg_len - (unsigned)NLMSG_LENGTH(sizeof *head);
    int family = head->nfgen_family;
    if (dump->count++ == 0)
        *to = (struct pylxc_chain){0}; /* from the beginning again */
    if (to->table[0] || (family != NFPROTO_INET && family != NFPROTO_IPV4 && family != NFPROTO_IPV6))
        return 0;
    const struct rtattr *hook = netlink_find(first, size, NFTA_CHAIN_HOOK, sizeof *hook);
    /* What is nested may be no longer than what it is nested in: the kernel says so of its own messages. */
    if (!hook || !number_is(first, size, NFTA_CHAIN_POLICY, NF_DROP) ||
        !number_is(hook, (unsigned)RTA_ALIGN(hook->rta_len), NFTA_HOOK_HOOKNUM, NF_INET_FORWARD))
        return 0;
    to->family = family;
    copy_text(first, size, NFTA_CHAIN_TABLE, to->table, sizeof to->table);
    copy_text(first, size, NFTA_CHAIN_NAME, to->name, sizeof to->name);
    return 0;
}

int pylxc_nftables_forward_drops(struct pylxc_chain *ret_chain)
{
    struct nfgenmsg head = {.nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0};
    struct netlink_dump dump = {.take = take_chain, .operand = ret_chain};
    *ret_chain = (struct pylxc_chain){0};
    lib_fd_close int fd = netlink_open(NETLINK_NETFILTER_);
    int r = fd < 0 ? fd : netlink_dump(fd, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, &head, sizeof head, &dump);
    if (r >= 0 || r == -EPROTONOSUPPORT || r == -EOPNOTSUPP || r == -EINVAL)
        return 0; /* no nftables: nothing of it drops */
    errno = -r;
    return -1;
}
