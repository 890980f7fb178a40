/* What iptables-legacy says of forwarded packets: its tables are beside those of nftables, and each may drop.
 *
 * Source: the kernel's include/uapi/linux/netfilter_ipv4/ip_tables.h: an array of entries of various sizes, of which
 * that of the chain's policy is the "underflow" of its hook.
 */
#define _GNU_SOURCE
#include "lib.h"
#include <netinet/in.h> /* before the kernel's headers, which make way for it */

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { DROP_VERDICT = -NF_DROP - 1 };

/* Where the target of the entry at `at` says so, its verdict. */
static int verdict_of(const char *table, size_t size, size_t at, size_t target_at, int *ret)
{
    size_t end = at + target_at + sizeof(struct xt_standard_target);
    if (at > size || target_at > size || end > size)
        return -1;
    const struct xt_standard_target *target = (const void *)(table + at + target_at);
    if (target->target.u.user.name[0]) /* the standard one has no name */
        return -1;
    *ret = target->verdict;
    return 0;
}

static int read_entries(int fd, int family, const struct ipt_getinfo *info, int *ret_drops)
{
    /* Both versions of the head are the same. */
    socklen_t size = sizeof(struct ipt_get_entries) + info->size;
    struct ipt_get_entries *entries = calloc(1, size);
    if (!entries)
        return -1;
    memcpy(entries->name, "filter", sizeof "filter");
    entries->size = info->size;
    int level = family == 4 ? IPPROTO_IP : IPPROTO_IPV6,
        option = family == 4 ? IPT_SO_GET_ENTRIES : IP6T_SO_GET_ENTRIES;
    int r = getsockopt(fd, level, option, entries, &size), verdict = 0;
    if (r == 0) {
        const char *table = (const char *)entries->entrytable;
        size_t at = info->underflow[NF_INET_FORWARD];
        size_t head = family == 4 ? sizeof(struct ipt_entry) : sizeof(struct ip6t_entry);
        if (at + head <= info->size) {
            size_t target = family == 4 ? ((const struct ipt_entry *)(const void *)(table + at))->target_offset
                                        : ((const struct ip6t_entry *)(const void *)(table + at))->target_offset;
            *ret_drops = verdict_of(table, info->size, at, target, &verdict) == 0 && verdict == DROP_VERDICT;
        }
    }
    int errnum = errno;
    free(entries);
    errno = errnum;
    return r;
}

int pylxc_legacy_forward_drops(int family, int *ret_drops)
{
    struct ipt_getinfo info = {.name = "filter"};
    socklen_t size = sizeof info;
    *ret_drops = 0;
    int level = family == 4 ? IPPROTO_IP : IPPROTO_IPV6, option = family == 4 ? IPT_SO_GET_INFO : IP6T_SO_GET_INFO;
    lib_fd_close int fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    if (fd < 0)
        return errno == EAFNOSUPPORT ? 0 : -1;
    for (int i = 0; i < 8; i++) { /* EAGAIN: it grew between the two */
        if (getsockopt(fd, level, option, &info, &size) < 0)
            return errno == ENOPROTOOPT || errno == ENOENT ? 0
                                                           : -1; /* the kernel has no such tables, or none is in use */
        if (read_entries(fd, family, &info, ret_drops) == 0)
            return 0;
        if (errno != EAGAIN)
            return -1;
    }
    return -1;
}
