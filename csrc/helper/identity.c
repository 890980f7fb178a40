/* Operations that give up privileges: the user and its groups, the capabilities.
 *
 * The user database read is the container's own: untrusted bytes, parsed here and not by libc, which would load code
 * (libnss) from the container. Digits are always an id, never a name: an image with a user *named* 1000 that has uid 0
 * must not turn user="1000" into root.
 */
#include "helper.h"
#include <linux/capability.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/securebits.h>
#include <linux/stat.h>
#ifdef PYLXC_HOSTED
#include <sys/stat.h>
#endif

enum { DATABASE_LIMIT = DEFENCE(DATABASE_SIZE, 8 << 20, INT32_MAX), GROUPS_LIMIT = 1024 };
/* 2^31 - 1, as in the field; above it are ids that tools take for negative */
#define ID_LIMIT DEFENCE(ID_RANGE, 0x7fffffffull, UINT64_MAX)

struct identity {
    uint32_t uid, gid;
    size_t group_count;
    uint32_t groups[GROUPS_LIMIT];
    char name[256];
};

/* A whole file of the root in memory. Only a regular one of sane size: a FIFO would block, a device never end. */
static int read_database(struct launch *l, const char *path, char **ret_text, size_t *ret_size)
{
    struct statx st;
    *ret_size = 0;
    fd_close int probe = open_in_root(l, path, O_PATH);
    if (probe < 0)
        return probe;
    long r = sys(statx, probe, "", 0x1000 /* AT_EMPTY_PATH */, STATX_TYPE | STATX_SIZE, &st);
    if (r < 0)
        return (int)r;
    if (DEFENCE(DATABASE_KIND, (st.stx_mode & S_IFMT) != S_IFREG, 0))
        return -EINVAL;
    if (st.stx_size > DATABASE_LIMIT)
        return -EFBIG;
    fd_close int fd = open_in_root(l, path, O_RDONLY | DEFENCE(DATABASE_KIND, O_NONBLOCK, 0) | O_NOCTTY);
    if (fd < 0)
        return fd;
    r = sys(statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_TYPE, &st);
    if (r < 0 || DEFENCE(DATABASE_KIND, (st.stx_mode & S_IFMT) != S_IFREG, 0))
        return r < 0 ? (int)r : -EINVAL;
    char *text = memory_take(st.stx_size + 1);
    if (!text)
        return -ENOMEM;
    long n = read_full(fd, text, st.stx_size);
    if (n < 0)
        return (int)n;
    *ret_text = text;
    *ret_size = (size_t)n;
    return 0;
}

struct field {
    const char *at;
    size_t n;
};

/* Splits the next line at ':' into exactly `count` fields (missing ones empty); 0 at the end of the text. */
static int next_record(const char **cursor, const char *end, struct field *fields, size_t count)
{
    const char *s = *cursor;
    if (s >= end)
        return 0;
    const char *newline = memchr(s, '\n', (size_t)(end - s));
    const char *stop = newline ? newline : end;
    *cursor = newline ? newline + 1 : end;
    for (size_t i = 0; i < count; i++) {
        const char *colon = s < stop ? memchr(s, ':', (size_t)(stop - s)) : NULL;
        const char *field_end = colon ? colon : stop;
        fields[i] = (struct field){s, (size_t)(field_end - s)};
        s = colon ? colon + 1 : stop;
    }
    return 1;
}

static int field_is(struct field f, const char *s, size_t n)
{
    return f.n == n && memcmp(f.at, s, n) == 0;
}

static int field_id(struct field f, uint32_t *ret)
{
    uint64_t value;
    int r = parse_number(f.at, f.n, ID_LIMIT, &value);
    *ret = (uint32_t)value;
    return r;
}

static int is_number(const char *s, size_t n)
{
    if (n && *s == '-')
        s++, n--;
    for (size_t i = 0; i < n; i++)
        if (s[i] < '0' || s[i] > '9')
            return 0;
    return n > 0;
}

/* The user part: uid, primary group, home. A number needs no entry in the database, a name does. */
static int find_user(struct launch *l, const char *wanted, size_t n, struct identity *who)
{
    enum { NAME, PASSWORD, UID, GID, GECOS, HOME, FIELDS };
    int numeric = DEFENCE(DIGITS, is_number(wanted, n), 0);
    if (numeric) {
        int bad = field_id((struct field){wanted, n}, &who->uid);
        if (bad)
            return bad;
    }
    TEXT(home, sizeof l->home);
    text_add(&home, "HOME=/");
    char *text = NULL;
    size_t size;
    int r = read_database(l, "/etc/passwd", &text, &size);
    if (r < 0 && r != -ENOENT)
        return r;
    struct field f[FIELDS];
    int found = 0;
    for (const char *at = text; !found && next_record(&at, text + size, f, FIELDS);) {
        uint32_t uid, gid;
        if (!f[NAME].n || f[NAME].n >= sizeof who->name || field_id(f[UID], &uid) || field_id(f[GID], &gid))
            continue;
        if (!(numeric ? uid == who->uid : field_is(f[NAME], wanted, n)))
            continue;
        found = 1;
        who->uid = uid;
        who->gid = gid;
        memcpy(who->name, f[NAME].at, f[NAME].n);
        if (f[HOME].n) {
            home.length = 0;
            text_add(&home, "HOME=");
            text_bytes(&home, f[HOME].at, f[HOME].n);
        }
    }
    memcpy(l->home, home.data, home.length + 1);
    return found || numeric ? 0 : -ENOENT;
}

static int add_group(struct identity *who, uint32_t gid)
{
    for (size_t i = 0; i < who->group_count; i++)
        if (who->groups[i] == gid)
            return 0;
    if (who->group_count == LENGTH(who->groups))
        return -E2BIG;
    who->groups[who->group_count++] = gid;
    return 0;
}

static int names_member(struct field members, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = members.at, *end = at + members.n; n && at < end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        if (field_is((struct field){at, (size_t)(stop - at)}, name, n))
            return 1;
        at = stop + 1;
    }
    return 0;
}

enum { GROUP_NAME, GROUP_PASSWORD, GROUP_GID, GROUP_MEMBERS, GROUP_FIELDS };

/* A group by name or number. */
static int find_group(const char *text, size_t size, const char *wanted, uint32_t *ret)
{
    size_t n = strlen(wanted);
    struct field f[GROUP_FIELDS];
    if (is_number(wanted, n))
        return field_id((struct field){wanted, n}, ret);
    for (const char *at = text; next_record(&at, text + size, f, GROUP_FIELDS);)
        if (n && field_is(f[GROUP_NAME], wanted, n))
            return field_id(f[GROUP_GID], ret);
    return -ENOENT;
}

static int find_groups(struct launch *l, const struct pylxc_op *op, const char *group, struct identity *who)
{
    char *text = NULL;
    size_t size;
    int r = read_database(l, "/etc/group", &text, &size);
    if (r < 0 && r != -ENOENT)
        return r;
    r = 0;
    if (group)
        r = find_group(text, size, group, &who->gid);
    struct field f[GROUP_FIELDS];
    for (const char *at = text; !group && r >= 0 && next_record(&at, text + size, f, GROUP_FIELDS);) {
        uint32_t gid;
        if (names_member(f[GROUP_MEMBERS], who->name) && field_id(f[GROUP_GID], &gid) == 0)
            r = add_group(who, gid);
    }
    for (unsigned i = 1; r >= 0 && i < op->strings; i++) {
        uint32_t gid;
        r = find_group(text, size, op_string(op, i), &gid);
        if (r >= 0)
            r = add_group(who, gid);
    }
    return r;
}

/* Pipes that are standard streams, and a terminal of the container's own, belong to the user, so that opening
 * /dev/stdout works. Files and other terminals stay their owner's: they are the caller's. A terminal's group is what
 * devpts gave it (tty, where the container has such an id). Where there is one id only, it is the user's already. */
static void give_streams(const struct launch *l, uint32_t uid)
{
    for (int fd = 0; fd <= 2; fd++) {
        struct statx st;
        if (l->has_terminal ||
            (sys(statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_TYPE, &st) == 0 && (st.stx_mode & S_IFMT) == S_IFIFO))
            sys(fchown, fd, uid, -1);
    }
}

int op_user(struct launch *l, const struct pylxc_op *op)
{
    const char *spec = op_string(op, 0), *colon = strchr(spec, ':');
    size_t n = colon ? (size_t)(colon - spec) : strlen(spec);
    static struct identity who;
    who = (struct identity){0};
    int r = find_user(l, n ? spec : "0", n ? n : 1, &who);
    if (r >= 0)
        r = find_groups(l, op, colon ? colon + 1 : NULL, &who);
    if (r < 0)
        return r;
    give_streams(l, who.uid);
    long k = DEFENCE(GROUPS, sys(setgroups, who.group_count, who.groups), 0);
    /* In a user namespace of a single id groups cannot be changed (user_namespaces(7)); no other group exists there. */
    if (k == -EPERM && l->plan->head->flags & PYLXC_PLAN_UNPRIVILEGED)
        k = 0;
    if (k >= 0)
        k = sys(setresgid, who.gid, who.gid, who.gid);
    if (k >= 0)
        k = sys(setresuid, who.uid, who.uid, who.uid);
    return (int)k;
}

static int drop_from_bounding_set(uint64_t kept)
{
    long r = sys(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned cap = 0; r >= 0; cap++) {
        if (cap < 64 && kept >> cap & 1)
            continue;
        r = sys(prctl, PR_CAPBSET_DROP, cap, 0, 0, 0);
        if (r == -EINVAL) /* past the last capability that this kernel knows */
            return 0;
    }
    return (int)r;
}

/* Twice in a plan: the bounding set needs CAP_SETPCAP and so comes before the change of user, which takes that away;
 * the change of user needs CAP_SETUID and so comes before the rest is dropped. The inheritable set ends up empty. */
int op_capabilities(struct launch *l, const struct pylxc_op *op)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct now[2], wanted[2] = {0};
    (void)l;
    if (op->a == 0)
        return drop_from_bounding_set(op->flags);
    long r = sys(capget, &header, now);
    for (int i = 0; r >= 0 && i < 2; i++)
        wanted[i].permitted = wanted[i].effective = now[i].permitted & (uint32_t)(op->flags >> (32 * i));
    return (int)(r < 0 ? r : sys(capset, &header, wanted));
}
