/* The records of pax extended headers: hides in which forms they give times, numbers and extended attributes.
 *
 * A record counts for one entry; the last one with a keyword wins, and an empty one takes back what earlier ones said.
 * Attributes come as star and GNU tar write them (SCHILY.xattr, star(5)) or as libarchive does (LIBARCHIVE.xattr,
 * libarchive-formats(5)), which writes most archives of its own in both forms. Keywords that nobody here knows mean
 * nothing.
 */
#include "tar_read.h"

enum {
    XATTR_NAMES_MOST = 1 << 16, /* XATTR_LIST_MAX, <linux/limits.h>: no file can have more */
    XATTR_BYTES_MOST = 4 * TAR_EXTENSION_MOST,
};

struct xattr_head {
    uint32_t name_size, value_size; /* the name's with its NUL */
};

/* "[-]seconds[.fraction]", to the nanosecond below. */
static int read_time(const char *s, size_t n, int64_t *ret_seconds, uint32_t *ret_nanoseconds)
{
    bool negative = n && *s == '-';
    s += negative;
    n -= negative;
    const char *point = memchr(s, '.', n);
    uint64_t whole;
    int r = parse_number(s, point ? (size_t)(point - s) : n, INT64_MAX - 1, &whole);
    if (r < 0)
        return r == -ERANGE ? -EOVERFLOW : -EBADMSG;
    uint32_t fraction = 0;
    bool rest = false;
    const char *digit = point ? point + 1 : s + n;
    for (uint32_t unit = 100000000; digit < s + n; digit++, unit /= 10) {
        if (*digit < '0' || *digit > '9')
            return -EBADMSG;
        fraction += unit * (uint32_t)(*digit - '0');
        rest |= !unit && *digit != '0';
    }
    *ret_seconds = (int64_t)whole;
    *ret_nanoseconds = fraction;
    if (negative) {
        fraction += rest;
        *ret_seconds = -(int64_t)whole - (fraction != 0);
        *ret_nanoseconds = fraction ? 1000000000 - fraction : 0;
    }
    return 0;
}

/* GNU tar writes "=" and "%" in a keyword as %3D and %25, since a keyword ends at its first "=". */
static size_t decode_keyword(char *to, const char *from, size_t n)
{
    size_t length = 0;
    for (size_t i = 0; i < n; i++) {
        char c = from[i];
        if (n - i >= 3 && (memcmp(from + i, "%3D", 3) == 0 || memcmp(from + i, "%25", 3) == 0)) {
            c = from[i + 1] == '3' ? '=' : '%';
            i += 2;
        }
        to[length++] = c;
    }
    return length;
}

static int hexadecimal(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* libarchive writes any byte as "%XX". */
static size_t decode_percent(char *to, const char *from, size_t n)
{
    size_t length = 0;
    for (size_t i = 0; i < n; i++) {
        int high = from[i] == '%' && n - i >= 3 ? hexadecimal(from[i + 1]) : -1;
        int low = high < 0 ? -1 : hexadecimal(from[i + 2]);
        to[length++] = low < 0 ? from[i] : (char)(high << 4 | low);
        i += low < 0 ? 0 : 2;
    }
    return length;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Appends what base64 says, filled up with "=" or not. */
static int add_base64(struct pile *to, const char *from, size_t n)
{
    uint32_t bits = 0;
    size_t digits = 0;
    while (n && from[n - 1] == '=')
        n--;
    int r = pile_reserve(to, n);
    if (r < 0)
        return r;
    for (; digits < n; digits++) {
        int digit = base64_digit(from[digits]);
        if (digit < 0)
            return -EBADMSG;
        bits = bits << 6 | (uint32_t)digit;
        if (digits % 4)
            to->data[to->used++] = (char)(bits >> (6 - 2 * (digits % 4)));
    }
    return n % 4 == 1 ? -EBADMSG : 0;
}

static int check_xattr(struct tar_entry *e, size_t name_size, size_t value_size)
{
    e->xattr_names += name_size;
    if (DEFENCE(XATTR_SIZE, e->xattr_names > XATTR_NAMES_MOST, 0))
        return -E2BIG;
    return e->xattrs.used + sizeof(struct xattr_head) + name_size + value_size > XATTR_BYTES_MOST ? -E2BIG : 0;
}

/* Adds an attribute to the entry's. */
static int add_xattr(struct tar_entry *e, const char *name, size_t n, const char *value, size_t size, bool libarchive)
{
    char decoded[3 * TAR_NAME_SIZE];
    struct pile *to = &e->xattrs;
    if (n == 0 || memchr(name, 0, n))
        return -EBADMSG;
    if (n > sizeof decoded)
        return -ENAMETOOLONG;
    n = libarchive ? decode_percent(decoded, name, n) : decode_keyword(decoded, name, n);
    if (memchr(decoded, 0, n))
        return -EBADMSG;
    size_t at = to->used;
    struct xattr_head head = {(uint32_t)n + 1, 0};
    int r = check_xattr(e, n + 1, size);
    if (r < 0 || (r = pile_add(to, &head, sizeof head)) < 0 || (r = pile_add(to, decoded, n)) < 0 ||
        (r = pile_add(to, "", 1)) < 0)
        return r;
    size_t begin = to->used;
    r = libarchive ? add_base64(to, value, size) : pile_add(to, value, size);
    head.value_size = (uint32_t)(to->used - begin);
    memcpy(to->data + at, &head, sizeof head);
    return r;
}

bool tar_next_xattr(const struct tar_entry *entry, size_t *at, const char **ret_name, const char **ret_value,
                    size_t *ret_size)
{
    struct xattr_head head;
    if (*at == entry->xattrs.used)
        return false;
    memcpy(&head, entry->xattrs.data + *at, sizeof head);
    *ret_name = entry->xattrs.data + *at + sizeof head;
    *ret_value = *ret_name + head.name_size;
    *ret_size = head.value_size;
    *at += sizeof head + head.name_size + head.value_size;
    return true;
}

/* What follows a prefix of a keyword, with *n its length; NULL when it has another one, or nothing follows. */
static const char *after(const char *key, size_t *n, const char *prefix)
{
    size_t length = strlen(prefix);
    if (*n <= length || memcmp(key, prefix, length) != 0)
        return NULL;
    *n -= length;
    return key + length;
}

int pax_number(const char *value, size_t size, uint64_t *ret)
{
    int r = parse_number(value, size, INT64_MAX, ret);
    return r == -ERANGE ? -EOVERFLOW : r < 0 ? -EBADMSG : 0;
}

static int apply_path(struct tar_extension *x, unsigned bit, char *to, const char *value, size_t size)
{
    /* The header of a sparse file names something else than the file, lest old programs take its data for it. */
    if (bit == HAS_PATH && x->has & HAS_SPARSE_NAME)
        return 0;
    x->gnu &= ~bit;
    x->has = size ? x->has | bit : x->has & ~bit;
    return tar_set_string(to, value, size);
}

static int apply_number(struct tar_extension *x, unsigned bit, uint64_t *to, const char *value, size_t size)
{
    x->has = size ? x->has | bit : x->has & ~bit;
    return size ? pax_number(value, size, to) : 0;
}

/* One record. */
static int apply_record(struct tar_reader *t, const char *key, size_t n, const char *value, size_t size)
{
    struct tar_extension *x = t->extension;
    const char *rest;
    size_t left = n;
    if ((rest = after(key, &left, TAR_XATTR)))
        return add_xattr(&t->entry, rest, left, value, size, false);
    if ((rest = after(key, &left, "LIBARCHIVE.xattr.")))
        return add_xattr(&t->entry, rest, left, value, size, true);
    if ((rest = after(key, &left, "GNU.sparse.")))
        return sparse_record(t, rest, left, value, size);
    if (is_keyword(key, n, "path"))
        return apply_path(x, HAS_PATH, x->path, value, size);
    if (is_keyword(key, n, "linkpath"))
        return apply_path(x, HAS_LINK, x->link, value, size);
    if (is_keyword(key, n, "mtime")) {
        x->has = size ? x->has | HAS_TIME : x->has & ~(unsigned)HAS_TIME;
        return size ? read_time(value, size, &x->seconds, &x->nanoseconds) : 0;
    }
    const struct {
        const char *name;
        unsigned bit;
        uint64_t *number;
    } numbers[] = {{"size", HAS_SIZE, &x->size},
                   {"uid", HAS_UID, &x->uid},
                   {"gid", HAS_GID, &x->gid},
                   {"SCHILY.devmajor", HAS_MAJOR, &x->major},
                   {"SCHILY.devminor", HAS_MINOR, &x->minor}};
    for (size_t i = 0; i < LENGTH(numbers); i++)
        if (is_keyword(key, n, numbers[i].name))
            return apply_number(x, numbers[i].bit, numbers[i].number, value, size);
    return 0;
}

/* Records of the form "length keyword=value\n", the length counting all of the record. */
int pax_apply(struct tar_reader *t)
{
    const char *at = t->extension->raw.data, *end = at + t->extension->raw.used;
    while (at < end) {
        const char *space = memchr(at, ' ', MINIMUM((size_t)(end - at), (size_t)8));
        uint64_t length;
        if (!space || parse_number(at, (size_t)(space - at), (uint64_t)(end - at), &length) < 0)
            return -EBADMSG;
        const char *next = at + length, *key = space + 1;
        if (key >= next || next[-1] != '\n')
            return -EBADMSG;
        const char *equals = memchr(key, '=', (size_t)(next - 1 - key));
        if (!equals)
            return -EBADMSG;
        int r = apply_record(t, key, (size_t)(equals - key), equals + 1, (size_t)(next - 1 - (equals + 1)));
        if (r < 0)
            return r;
        at = next;
    }
    return 0;
}
