/* nftables through netlink: a transaction is a batch of messages between two marks. */
#include "netfilter.h"
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

static void mark(struct netlink *n, uint16_t type)
{
    struct nfgenmsg head = {.version = NFNETLINK_V0, .res_id = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8)};
    netlink_message(n, type, 0, &head, sizeof head);
}

void netfilter_begin(struct netlink *n)
{
    mark(n, NFNL_MSG_BATCH_BEGIN);
}

void netfilter_message(struct netlink *n, uint16_t type, uint16_t flags)
{
    struct nfgenmsg head = {.nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0};
    netlink_message(n, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, &head, sizeof head);
}

void netfilter_table(struct netlink *n, uint16_t type, uint16_t flags, const char *name)
{
    netfilter_message(n, type, flags);
    netlink_string(n, NFTA_TABLE_NAME, name);
}

/* The end of a batch is answered by nobody: the answer that is waited for is that of the last message before it. */
int netfilter_commit(int fd, struct netlink *n)
{
    netlink_want_answer(n);
    mark(n, NFNL_MSG_BATCH_END);
    return netlink_exchange(fd, n, NULL);
}

int netfilter_remove(int fd, const char *name)
{
    NETLINK(n, 512);
    netfilter_begin(&n);
    netfilter_table(&n, NFT_MSG_DELTABLE, 0, name);
    int r = netfilter_commit(fd, &n);
    return r == -ENOENT ? 0 : r;
}
