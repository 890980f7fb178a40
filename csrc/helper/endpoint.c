/* A container's end of a network: a pair of links (veth(4)), one end on the network's bridge, the other inside.
 *
 * Invariant: the pair is made with its inner end in the container's namespace from the first moment on. So it goes with
 * that namespace, whoever is killed whenever: nobody has to remember that it exists. The host's end has a name of
 * chance: the namespace of a process that has just ended may take its pair along a moment later than the next one
 * comes.
 */
#include "endpoint.h"
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

enum { AF_UNSPEC_ = 0, AF_INET_ = 2, AF_INET6_ = 10, ATTEMPTS = 8 };

size_t address_size(const struct pylxc_address *address)
{
    return address->family == 4 ? 4 : address->family == 6 ? 16 : 0;
}

static uint8_t family_of(const struct pylxc_address *address)
{
    return address->family == 4 ? AF_INET_ : AF_INET6_;
}

/* "px" and eleven hexadecimal digits. */
static int choose_name(char *ret)
{
    uint8_t bytes[11];
    long r = sys(getrandom, bytes, sizeof bytes, 0);
    if (r != sizeof bytes)
        return r < 0 ? (int)r : -EIO;
    memcpy(ret, "px", 2);
    for (size_t i = 0; i < sizeof bytes; i++)
        ret[2 + i] = "0123456789abcdef"[bytes[i] & 15];
    ret[2 + sizeof bytes] = 0;
    return 0;
}

struct bridge {
    int index, mtu; /* mtu: what links on it are to have */
};

static int find_bridge(int fd, const struct pylxc_endpoint *e, struct bridge *ret)
{
    ret->index = netlink_index(fd, e->bridge);
    ret->mtu = ret->index < 0 ? ret->index : e->mtu ? (int)e->mtu : netlink_mtu(fd, e->bridge);
    return ret->mtu < 0 ? ret->mtu : 0;
}

/* One queue: the kernel makes as many as there are processors, with entries in sysfs for each, and a pair that lets the
 * packets through where they are sent has no use for them. */
static void what_both_have(struct netlink *n, int mtu)
{
    netlink_u32(n, IFLA_MTU, (uint32_t)mtu);
    netlink_u32(n, IFLA_NUM_TX_QUEUES, 1);
    netlink_u32(n, IFLA_NUM_RX_QUEUES, 1);
}

static int make_pair(int outer, int netns, struct bridge bridge, const char *name, const struct pylxc_endpoint *e)
{
    NETLINK(n, 512);
    struct ifinfomsg host = {.ifi_family = AF_UNSPEC_, .ifi_flags = IFF_UP, .ifi_change = IFF_UP}, peer = {0};
    netlink_message(&n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &host, sizeof host);
    netlink_string(&n, IFLA_IFNAME, name);
    netlink_u32(&n, IFLA_MASTER, (uint32_t)bridge.index);
    what_both_have(&n, bridge.mtu);
    size_t info = netlink_nest(&n, IFLA_LINKINFO);
    netlink_string(&n, IFLA_INFO_KIND, "veth");
    size_t data = netlink_nest(&n, IFLA_INFO_DATA), other = netlink_nest(&n, VETH_INFO_PEER);
    char *head = n.data + n.used; /* before the peer's attributes comes a head of its own */
    if (n.size - n.used >= sizeof peer) {
        memcpy(head, &peer, sizeof peer);
        n.used += sizeof peer;
    }
    netlink_string(&n, IFLA_IFNAME, e->name);
    netlink_attribute(&n, IFLA_ADDRESS, e->mac, sizeof e->mac);
    what_both_have(&n, bridge.mtu);
    netlink_u32(&n, IFLA_NET_NS_FD, (uint32_t)netns);
    netlink_end(&n, other);
    netlink_end(&n, data);
    netlink_end(&n, info);
    return netlink_exchange(outer, &n, NULL);
}

void endpoint_address(struct netlink *n, uint32_t index, const struct pylxc_address *address)
{
    /* nodad: nobody else can have it, and until the kernel believes that nobody could use it (seconds). */
    struct ifaddrmsg head = {.ifa_family = family_of(address),
                             .ifa_prefixlen = address->prefix,
                             .ifa_flags = address->family == 6 ? IFA_F_NODAD : 0,
                             .ifa_index = index};
    netlink_message(n, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof head);
    netlink_attribute(n, IFA_LOCAL, address->bytes, address_size(address));
    if (address->family == 4)
        netlink_attribute(n, IFA_ADDRESS, address->bytes, address_size(address));
}

static void add_default_route(struct netlink *n, uint32_t index, const struct pylxc_address *gateway)
{
    struct rtmsg head = {.rtm_family = family_of(gateway),
                         .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_BOOT,
                         .rtm_scope = RT_SCOPE_UNIVERSE,
                         .rtm_type = RTN_UNICAST};
    netlink_message(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof head);
    netlink_attribute(n, RTA_GATEWAY, gateway->bytes, address_size(gateway));
    netlink_u32(n, RTA_OIF, index);
}

/* All that makes the inner end useful, in one exchange. */
static int configure(int inner, const struct pylxc_endpoint *e)
{
    NETLINK(n, 1024);
    int index = netlink_index(inner, e->name);
    if (index < 0)
        return index;
    struct ifinfomsg up = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    netlink_message(&n, RTM_NEWLINK, 0, &up, sizeof up);
    for (size_t i = 0; i < LENGTH(e->own); i++)
        if (address_size(&e->own[i]))
            endpoint_address(&n, (uint32_t)index, &e->own[i]);
    for (size_t i = 0; i < LENGTH(e->gateway); i++)
        if (address_size(&e->gateway[i]))
            add_default_route(&n, (uint32_t)index, &e->gateway[i]);
    return netlink_exchange(inner, &n, NULL);
}

int endpoint_attach(int outer, int inner, int netns, const struct pylxc_endpoint *endpoint)
{
    char name[16];
    struct bridge bridge;
    int r = find_bridge(outer, endpoint, &bridge);
    if (r < 0)
        return r;
    /* EEXIST may be the inner name's, too: then it is so again and again. */
    r = -EEXIST;
    for (int i = 0; i < ATTEMPTS && r == -EEXIST; i++) {
        r = choose_name(name);
        if (r >= 0)
            r = make_pair(outer, netns, bridge, name, endpoint);
    }
    if (r < 0)
        return r;
    r = configure(inner, endpoint);
    if (r < 0)
        endpoint_detach(inner, endpoint->name);
    return r;
}

int endpoint_detach(int inner, const char *name)
{
    NETLINK(n, 256);
    int index = netlink_index(inner, name);
    if (index < 0)
        return index == -ENODEV ? 0 : index;
    struct ifinfomsg head = {.ifi_index = index};
    netlink_message(&n, RTM_DELLINK, 0, &head, sizeof head);
    int r = netlink_exchange(inner, &n, NULL);
    return r == -ENODEV ? 0 : r;
}

struct ports {
    uint32_t bridge;
    int count;
};

static int take_port(struct netlink_dump *dump, const struct nlmsghdr *message)
{
    struct ports *ports = dump->operand;
    const struct ifinfomsg *link = NLMSG_DATA(message);
    const void *master =
        message->nlmsg_type == RTM_NEWLINK
            ? netlink_find(IFLA_RTA(link), (unsigned)IFLA_PAYLOAD(message), IFLA_MASTER, sizeof(uint32_t))
            : NULL;
    if (dump->count++ == 0)
        ports->count = 0; /* from the beginning again */
    ports->count += master && memcmp(master, &ports->bridge, sizeof ports->bridge) == 0;
    return 0;
}

int endpoint_count(int fd, const char *bridge)
{
    struct ifinfomsg head = {.ifi_family = AF_UNSPEC_};
    int index = netlink_index(fd, bridge);
    if (index < 0)
        return index;
    struct ports ports = {.bridge = (uint32_t)index};
    struct netlink_dump dump = {.take = take_port, .operand = &ports};
    int r = netlink_dump(fd, RTM_GETLINK, &head, sizeof head, &dump);
    return r < 0 ? r : ports.count;
}
