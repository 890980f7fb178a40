/* The host's side of networks: bridges, and what is asked about links and routes (rtnetlink(7)). */
#define _GNU_SOURCE
#include "../helper/endpoint.h"
#include "lib.h"
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int answer(int r)
{
    if (r >= 0)
        return 0;
    errno = -r;
    return -1;
}

int lib_netlink(int given, int protocol, int *ret_own)
{
    *ret_own = given < 0 ? netlink_open(protocol) : -1;
    return given < 0 ? *ret_own : given;
}

/* Only the kernel's name for it, its hardware address, so that it does not change with the links on it, and that a link
 * on it may be used at once. */
static int make_bridge(int fd, const struct pylxc_bridge *bridge)
{
    NETLINK(n, 512);
    struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
    netlink_message(&n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &head, sizeof head);
    netlink_string(&n, IFLA_IFNAME, bridge->name);
    netlink_attribute(&n, IFLA_ADDRESS, bridge->mac, sizeof bridge->mac);
    size_t info = netlink_nest(&n, IFLA_LINKINFO);
    netlink_string(&n, IFLA_INFO_KIND, "bridge");
    size_t data = netlink_nest(&n, IFLA_INFO_DATA);
    netlink_u32(&n, IFLA_BR_FORWARD_DELAY, 0);
    netlink_end(&n, data);
    netlink_end(&n, info);
    return netlink_exchange(fd, &n, NULL);
}

static int configure_bridge(int fd, const struct pylxc_bridge *bridge)
{
    NETLINK(n, 512);
    int index = netlink_index(fd, bridge->name);
    if (index < 0)
        return index;
    for (size_t i = 0; i < 2; i++)
        if (address_size(&bridge->own[i]))
            endpoint_address(&n, (uint32_t)index, &bridge->own[i]);
    struct ifinfomsg up = {.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    netlink_message(&n, RTM_NEWLINK, 0, &up, sizeof up);
    /* Of a bridge that is there: only so the kernel remembers that it was asked for. Else it is 1500 again as soon as
     * no link is on it any more (br_mtu_auto_adjust). */
    if (bridge->mtu)
        netlink_u32(&n, IFLA_MTU, bridge->mtu);
    return netlink_exchange(fd, &n, NULL);
}

int pylxc_bridge_make(int route, const struct pylxc_bridge *bridge)
{
    lib_fd_close int own = -1;
    int fd = lib_netlink(route, NETLINK_ROUTE_, &own);
    if (fd < 0)
        return answer(fd);
    int r = make_bridge(fd, bridge);
    if (r < 0)
        return answer(r);
    r = configure_bridge(fd, bridge);
    if (r < 0)
        endpoint_detach(fd, bridge->name);
    return answer(r);
}

int pylxc_link_remove(int route, const char *name)
{
    lib_fd_close int own = -1;
    int fd = lib_netlink(route, NETLINK_ROUTE_, &own);
    return answer(fd < 0 ? fd : endpoint_detach(fd, name));
}

int pylxc_link_index(int route, const char *name, uint32_t *ret_index)
{
    lib_fd_close int own = -1;
    int fd = lib_netlink(route, NETLINK_ROUTE_, &own), index = fd < 0 ? fd : netlink_index(fd, name);
    *ret_index = index < 0 ? 0 : (uint32_t)index;
    return answer(index);
}

int pylxc_link_mtu(int route, uint32_t index, uint32_t *ret_mtu)
{
    struct ifreq request = {.ifr_ifindex = (int)index};
    lib_fd_close int own = -1;
    int fd = lib_netlink(route, NETLINK_ROUTE_, &own);
    if (fd < 0)
        return answer(fd);
    if (ioctl(fd, SIOCGIFNAME, &request) < 0 || ioctl(fd, SIOCGIFMTU, &request) < 0)
        return -1;
    *ret_mtu = (uint32_t)request.ifr_mtu;
    return 0;
}

int pylxc_endpoint_attach(int route, int pid_fd, int netns_fd, const struct pylxc_endpoint *endpoint)
{
    int socket;
    lib_fd_close int own = -1;
    int outer = lib_netlink(route, NETLINK_ROUTE_, &own);
    if (outer < 0)
        return answer(outer);
    if (pylxc_socket_in(pid_fd, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE_, &socket) < 0)
        return -1;
    lib_fd_close int inner = socket;
    return answer(endpoint_attach(outer, inner, netns_fd, endpoint));
}

int pylxc_endpoint_detach(int pid_fd, const char *name)
{
    int socket;
    if (pylxc_socket_in(pid_fd, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE_, &socket) < 0)
        return -1;
    lib_fd_close int inner = socket;
    return answer(endpoint_detach(inner, name));
}

static void copy_number(const struct rtattr *first, unsigned size, uint16_t type, uint32_t *to)
{
    const void *found = netlink_find(first, size, type, sizeof *to);
    if (found)
        memcpy(to, found, sizeof *to);
}

static int take_route(struct netlink_dump *dump, const struct nlmsghdr *message)
{
    const struct rtmsg *route = NLMSG_DATA(message);
    if (message->nlmsg_type != RTM_NEWROUTE || (route->rtm_family != AF_INET && route->rtm_family != AF_INET6) ||
        route->rtm_flags & RTM_F_CLONED)
        return 0;
    if (dump->count++ >= dump->most)
        return 0;
    const struct rtattr *first = RTM_RTA(route);
    unsigned size = (unsigned)RTM_PAYLOAD(message);
    struct pylxc_route *to = (struct pylxc_route *)dump->operand + dump->count - 1;
    *to = (struct pylxc_route){.to = {.family = route->rtm_family == AF_INET ? 4 : 6, .prefix = route->rtm_dst_len},
                               .table = route->rtm_table,
                               .type = route->rtm_type};
    size_t width = address_size(&to->to);
    const void *destination = netlink_find(first, size, RTA_DST, width);
    if (destination)
        memcpy(to->to.bytes, destination, width);
    copy_number(first, size, RTA_OIF, &to->index);
    copy_number(first, size, RTA_TABLE, &to->table);
    copy_number(first, size, RTA_PRIORITY, &to->metric);
    return 0;
}

int pylxc_routes(int route, struct pylxc_route *ret, size_t most, size_t *ret_count)
{
    struct rtmsg head = {.rtm_family = AF_UNSPEC};
    struct netlink_dump dump = {.take = take_route, .operand = ret, .most = most};
    lib_fd_close int own = -1;
    int fd = lib_netlink(route, NETLINK_ROUTE_, &own);
    int r = fd < 0 ? fd : netlink_dump(fd, RTM_GETROUTE, &head, sizeof head, &dump);
    *ret_count = dump.count;
    return answer(r);
}

int pylxc_bridge_ports(int route, const char *name, int *ret_count)
{
    lib_fd_close int own = -1;
    int fd = lib_netlink(route, NETLINK_ROUTE_, &own), count = fd < 0 ? fd : endpoint_count(fd, name);
    *ret_count = count;
    return answer(count);
}
