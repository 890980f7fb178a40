/* The packet filter of a network, made through netlink in one transaction (nft(8) is not needed).
 *
 * One table per network, named as its bridge: it comes whole, goes with one message, and touches nothing of anybody
 * else's. In the notation of nft(8), for a network that may reach out:
 *
 *     table inet BRIDGE {
 *         chain forward { type filter hook forward priority filter; policy accept;
 *             iifname BRIDGE oifname BRIDGE accept
 *             iifname BRIDGE oifname "PREFIX*" drop        # other networks
 *             iifname BRIDGE accept
 *             oifname BRIDGE ct state established,related accept
 *             oifname BRIDGE drop                          # nobody reaches in by routing through this machine
 *         }
 *         chain postrouting { type nat hook postrouting priority srcnat; policy accept;
 *             ip saddr SUBNET oifname != BRIDGE masquerade
 *         }
 *     }
 *
 *
 * A stack of an ordinary user's has one more chain, for what would be delivered to the stack itself:
 *
 *         chain input { type filter hook input priority filter; policy accept; ct state invalid drop }
 *
 * pasta of 2023 sends segments without any flag, which are part of no connection: without this the stack would answer
 * them by a reset, to a connection that is a container's.
 *
 * "accept" ends this chain only: what other tables forbid stays forbidden. An internal network has in place of the
 * middle three that all is dropped which comes from it or goes to it, and no masquerade.
 */
#define _GNU_SOURCE
#include "../helper/endpoint.h"
#include "../helper/netfilter.h"
#include "lib.h"
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <string.h>

enum { NAME = 16, SRCNAT = 100 };

static size_t nest(struct netlink *n, uint16_t type)
{
    return netlink_nest(n, type | NLA_F_NESTED);
}

static void chain(struct netlink *n, const char *of, const char *name, const char *kind, uint32_t hook, int priority)
{
    netfilter_message(n, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    netlink_string(n, NFTA_CHAIN_TABLE, of);
    netlink_string(n, NFTA_CHAIN_NAME, name);
    size_t hooked = nest(n, NFTA_CHAIN_HOOK);
    netlink_be32(n, NFTA_HOOK_HOOKNUM, hook);
    netlink_be32(n, NFTA_HOOK_PRIORITY, (uint32_t)priority);
    netlink_end(n, hooked);
    netlink_be32(n, NFTA_CHAIN_POLICY, NF_ACCEPT);
    netlink_string(n, NFTA_CHAIN_TYPE, kind);
}

/* A rule is begun, gets its expressions, and is ended. */
static size_t rule(struct netlink *n, const char *of, const char *in)
{
    netfilter_message(n, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    netlink_string(n, NFTA_RULE_TABLE, of);
    netlink_string(n, NFTA_RULE_CHAIN, in);
    return nest(n, NFTA_RULE_EXPRESSIONS);
}

struct expression {
    size_t element, data;
};

static struct expression expression(struct netlink *n, const char *name)
{
    struct expression e = {.element = nest(n, NFTA_LIST_ELEM)};
    netlink_string(n, NFTA_EXPR_NAME, name);
    e.data = nest(n, NFTA_EXPR_DATA);
    return e;
}

static void end_expression(struct netlink *n, struct expression e)
{
    netlink_end(n, e.data);
    netlink_end(n, e.element);
}

static void value(struct netlink *n, uint16_t type, const void *bytes, size_t size)
{
    size_t data = nest(n, type);
    netlink_attribute(n, NFTA_DATA_VALUE, bytes, size);
    netlink_end(n, data);
}

static void compare(struct netlink *n, uint32_t how, const void *bytes, size_t size)
{
    struct expression e = expression(n, "cmp");
    netlink_be32(n, NFTA_CMP_SREG, NFT_REG_1);
    netlink_be32(n, NFTA_CMP_OP, how);
    value(n, NFTA_CMP_DATA, bytes, size);
    end_expression(n, e);
}

static void load_meta(struct netlink *n, uint32_t key)
{
    struct expression e = expression(n, "meta");
    netlink_be32(n, NFTA_META_DREG, NFT_REG_1);
    netlink_be32(n, NFTA_META_KEY, key);
    end_expression(n, e);
}

/* The name of the link that a packet came by or leaves by: the whole of it, for the kernel compares 16 bytes. */
static void match_link(struct netlink *n, uint32_t key, uint32_t how, const char *name)
{
    char whole[NAME] = "";
    memcpy(whole, name, strnlen(name, NAME - 1));
    load_meta(n, key);
    compare(n, how, whole, sizeof whole);
}

static void match_prefix(struct netlink *n, uint32_t key, const char *prefix)
{
    load_meta(n, key);
    compare(n, NFT_CMP_EQ, prefix, strlen(prefix));
}

static void match_state(struct netlink *n, uint32_t states)
{
    uint32_t zero = 0;
    struct expression ct = expression(n, "ct");
    netlink_be32(n, NFTA_CT_DREG, NFT_REG_1);
    netlink_be32(n, NFTA_CT_KEY, NFT_CT_STATE);
    end_expression(n, ct);
    struct expression mask = expression(n, "bitwise");
    netlink_be32(n, NFTA_BITWISE_SREG, NFT_REG_1);
    netlink_be32(n, NFTA_BITWISE_DREG, NFT_REG_1);
    netlink_be32(n, NFTA_BITWISE_LEN, sizeof states);
    value(n, NFTA_BITWISE_MASK, &states, sizeof states);
    value(n, NFTA_BITWISE_XOR, &zero, sizeof zero);
    end_expression(n, mask);
    compare(n, NFT_CMP_NEQ, &zero, sizeof zero);
}

static void match_source(struct netlink *n, const struct pylxc_address *subnet)
{
    enum { SOURCE_4 = 12, SOURCE_6 = 8 };
    uint8_t family = subnet->family == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6, mask[16] = {0}, none[16] = {0};
    size_t size = address_size(subnet);
    load_meta(n, NFT_META_NFPROTO);
    compare(n, NFT_CMP_EQ, &family, sizeof family);
    struct expression load = expression(n, "payload");
    netlink_be32(n, NFTA_PAYLOAD_DREG, NFT_REG_1);
    netlink_be32(n, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
    netlink_be32(n, NFTA_PAYLOAD_OFFSET, subnet->family == 4 ? SOURCE_4 : SOURCE_6);
    netlink_be32(n, NFTA_PAYLOAD_LEN, (uint32_t)size);
    end_expression(n, load);
    for (unsigned bit = 0; bit < subnet->prefix && bit < size * 8; bit++)
        mask[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
    struct expression masked = expression(n, "bitwise");
    netlink_be32(n, NFTA_BITWISE_SREG, NFT_REG_1);
    netlink_be32(n, NFTA_BITWISE_DREG, NFT_REG_1);
    netlink_be32(n, NFTA_BITWISE_LEN, (uint32_t)size);
    value(n, NFTA_BITWISE_MASK, mask, size);
    value(n, NFTA_BITWISE_XOR, none, size);
    end_expression(n, masked);
    compare(n, NFT_CMP_EQ, subnet->bytes, size);
}

static void verdict(struct netlink *n, uint32_t code, size_t rule_)
{
    struct expression e = expression(n, "immediate");
    netlink_be32(n, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    size_t data = nest(n, NFTA_IMMEDIATE_DATA), inner = nest(n, NFTA_DATA_VERDICT);
    netlink_be32(n, NFTA_VERDICT_CODE, code);
    netlink_end(n, inner);
    netlink_end(n, data);
    end_expression(n, e);
    netlink_end(n, rule_);
}

static void masquerade(struct netlink *n, const char *bridge, const struct pylxc_address *subnet)
{
    size_t r = rule(n, bridge, "postrouting");
    match_source(n, subnet);
    match_link(n, NFT_META_OIFNAME, NFT_CMP_NEQ, bridge);
    struct expression e = expression(n, "masq");
    end_expression(n, e);
    netlink_end(n, r);
}

static void drop_by_link(struct netlink *n, const char *bridge, uint32_t key)
{
    size_t r = rule(n, bridge, "forward");
    match_link(n, key, NFT_CMP_EQ, bridge);
    verdict(n, NF_DROP, r);
}

static void keep_inside(struct netlink *n, const char *bridge)
{
    drop_by_link(n, bridge, NFT_META_IIFNAME);
    drop_by_link(n, bridge, NFT_META_OIFNAME);
}

static void let_out(struct netlink *n, const struct pylxc_firewall *f)
{
    size_t r = rule(n, f->bridge, "forward");
    match_link(n, NFT_META_IIFNAME, NFT_CMP_EQ, f->bridge);
    match_prefix(n, NFT_META_OIFNAME, f->prefix);
    verdict(n, NF_DROP, r);
    r = rule(n, f->bridge, "forward");
    match_link(n, NFT_META_IIFNAME, NFT_CMP_EQ, f->bridge);
    verdict(n, NF_ACCEPT, r);
    r = rule(n, f->bridge, "forward");
    match_link(n, NFT_META_OIFNAME, NFT_CMP_EQ, f->bridge);
    match_state(n, 1u << IP_CT_ESTABLISHED << 1 | 1u << IP_CT_RELATED << 1);
    verdict(n, NF_ACCEPT, r);
    drop_by_link(n, f->bridge, NFT_META_OIFNAME);
    chain(n, f->bridge, "postrouting", "nat", NF_INET_POST_ROUTING, SRCNAT);
    for (size_t i = 0; i < 2; i++)
        if (address_size(&f->subnet[i]))
            masquerade(n, f->bridge, &f->subnet[i]);
}

static void drop_strays(struct netlink *n, const char *of)
{
    chain(n, of, "input", "filter", NF_INET_LOCAL_IN, 0);
    size_t r = rule(n, of, "input");
    match_state(n, NF_CT_STATE_INVALID_BIT);
    verdict(n, NF_DROP, r);
}

static int answer(int r)
{
    if (r >= 0)
        return 0;
    /* No such protocol, no such subsystem, no such kind of chain or expression. */
    int unknown = r == -EPROTONOSUPPORT || r == -EAFNOSUPPORT || r == -EOPNOTSUPP || r == -ENOENT;
    errno = unknown ? ENOTSUP : -r;
    return -1;
}

int pylxc_firewall_make(int netfilter, const struct pylxc_firewall *f)
{
    NETLINK(n, 16384);
    lib_fd_close int own = -1;
    int fd = lib_netlink(netfilter, NETLINK_NETFILTER_, &own);
    if (fd < 0)
        return answer(fd);
    netfilter_begin(&n);
    netfilter_table(&n, NFT_MSG_NEWTABLE, NLM_F_CREATE, f->bridge); /* so that there is one to be deleted */
    netfilter_table(&n, NFT_MSG_DELTABLE, 0, f->bridge);
    netfilter_table(&n, NFT_MSG_NEWTABLE, NLM_F_CREATE, f->bridge);
    chain(&n, f->bridge, "forward", "filter", NF_INET_FORWARD, 0);
    size_t r = rule(&n, f->bridge, "forward");
    match_link(&n, NFT_META_IIFNAME, NFT_CMP_EQ, f->bridge);
    match_link(&n, NFT_META_OIFNAME, NFT_CMP_EQ, f->bridge);
    verdict(&n, NF_ACCEPT, r);
    if (f->internal)
        keep_inside(&n, f->bridge);
    else
        let_out(&n, f);
    if (f->strays)
        drop_strays(&n, f->bridge);
    return answer(netfilter_commit(fd, &n));
}

int pylxc_firewall_remove(int netfilter, const char *name)
{
    lib_fd_close int own = -1;
    int fd = lib_netlink(netfilter, NETLINK_NETFILTER_, &own);
    return answer(fd < 0 ? fd : netfilter_remove(fd, name));
}
