/* Writes a tar stream: hides in which form names, numbers and times are written, so that one entry has one form.
 *
 * Invariant: POSIX.1-2017 pax; a record is written only for what a ustar header cannot say, and records come in the
 * order of their keywords. Nothing of the machine is written: no user names, no inode numbers, no times of reading.
 */
#include "tar_write.h"

#define OCTAL7 07777777ULL
#define OCTAL11 077777777777ULL

int tar_writer_open(struct tar_writer *w, int fd, bool live)
{
    *w = (struct tar_writer){.out = fd, .live = live, .copy = -1, .chunk = memory_take(TAR_CHUNK)};
    /* Fewer, larger writes; that this fails on a file, or above an unprivileged limit, is well. */
    sys(fcntl, fd, F_SETPIPE_SZ, TAR_CHUNK);
    return w->chunk ? 0 : -ENOMEM;
}

void tar_writer_close(struct tar_writer *w)
{
    if (w->chunk)
        sys(munmap, w->chunk, TAR_CHUNK);
    w->chunk = NULL;
    pile_drop(&w->records);
}

static int flush(struct tar_writer *w)
{
    int r = write_all(w->out, w->chunk, w->used);
    w->used = 0;
    return r;
}

static int put(struct tar_writer *w, const void *data, size_t size)
{
    const char *from = data;
    while (size) {
        size_t n = MINIMUM(size, TAR_CHUNK - w->used);
        memcpy(w->chunk + w->used, from, n);
        w->used += n;
        from += n;
        size -= n;
        int r = w->used == TAR_CHUNK ? flush(w) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static int put_padding(struct tar_writer *w, uint64_t size)
{
    static const char zeros[TAR_BLOCK];
    return put(w, zeros, tar_padding(size));
}

static void write_octal(char *field, size_t n, uint64_t number)
{
    field[--n] = 0;
    for (; n; number >>= 3)
        field[--n] = (char)('0' + (number & 7));
}
#define OCTAL(field, number) write_octal(field, sizeof(field), number)

static void write_checksum(struct tar_header *h)
{
    uint32_t sum;
    int32_t unused;
    tar_checksum(h, &sum, &unused);
    write_octal(h->checksum, sizeof h->checksum - 1, sum);
    h->checksum[sizeof h->checksum - 1] = ' ';
}

static void write_magic(struct tar_header *h)
{
    memcpy(h->magic, "ustar", sizeof h->magic);
    memcpy(h->version, "00", sizeof h->version);
}

/* "length key=value\n"; the length counts its own digits. */
int add_record(struct tar_writer *w, const char *prefix, const char *key, const char *value, size_t size)
{
    size_t rest = 1 + strlen(prefix) + strlen(key) + 1 + size + 1, digits = 1;
    for (size_t most = 10; rest + digits >= most; most *= 10)
        digits++;
    TEXT(length, 24);
    text_number(&length, (int64_t)(rest + digits));
    text_add(&length, " ");
    if (w->records.used + rest + digits > TAR_EXTENSION_MOST)
        return -E2BIG;
    int r;
    if ((r = pile_add(&w->records, length.data, length.length)) < 0 ||
        (r = pile_add(&w->records, prefix, strlen(prefix))) < 0 || (r = pile_add(&w->records, key, strlen(key))) < 0 ||
        (r = pile_add(&w->records, "=", 1)) < 0 || (r = pile_add(&w->records, value, size)) < 0)
        return r;
    return pile_add(&w->records, "\n", 1);
}

static int add_number(struct tar_writer *w, const char *key, uint64_t number)
{
    TEXT(text, 24);
    text_number(&text, (int64_t)number);
    return add_record(w, "", key, text.data, text.length);
}

/* Always with nine digits, so that one time has one form. */
static int add_time(struct tar_writer *w, int64_t seconds, uint32_t nanoseconds)
{
    TEXT(text, 40);
    if (seconds < 0) {
        text_add(&text, "-");
        seconds = -(seconds + (nanoseconds != 0));
        nanoseconds = nanoseconds ? 1000000000 - nanoseconds : 0;
    }
    text_number(&text, seconds);
    if (nanoseconds) {
        text_add(&text, ".");
        text_padded(&text, nanoseconds, 9);
    }
    return add_record(w, "", "mtime", text.data, text.length);
}

/* Writes the records as an extended header for the entry that follows. */
static int put_records(struct tar_writer *w)
{
    if (!w->records.used)
        return 0;
    struct tar_header h = {.type = TAR_PAX};
    const char name[] = "PaxHeaders/entry"; /* only seen by programs that do not know pax */
    memcpy(h.name, name, sizeof name);
    OCTAL(h.mode, 0644);
    OCTAL(h.uid, 0);
    OCTAL(h.gid, 0);
    OCTAL(h.size, w->records.used);
    OCTAL(h.mtime, 0);
    write_magic(&h);
    write_checksum(&h);
    int r = put(w, &h, sizeof h);
    if (r < 0 || (r = put(w, w->records.data, w->records.used)) < 0)
        return r;
    r = put_padding(w, w->records.used);
    w->records.used = 0;
    return r;
}

/* The path into name and prefix; false when it needs a record. */
static bool write_path(struct tar_header *h, const char *path)
{
    size_t n = strlen(path);
    if (n <= sizeof h->name) {
        memcpy(h->name, path, n);
        return true;
    }
    /* The first "/" that leaves little enough for the name, and something: a directory's last "/" does not part. */
    for (size_t cut = n - sizeof h->name - 1; cut <= sizeof h->prefix && cut + 1 < n; cut++)
        if (path[cut] == '/' && cut) {
            memcpy(h->prefix, path, cut);
            memcpy(h->name, path + cut + 1, n - cut - 1);
            return true;
        }
    memcpy(h->name, path, sizeof h->name);
    return false;
}

int put_header(struct tar_writer *w, char type, const char *path, const char *link, uint64_t size,
               const struct statx *x)
{
    struct tar_header h = {.type = type};
    int64_t seconds = x->stx_mtime.tv_sec;
    bool short_path = write_path(&h, path), short_link = strlen(link) <= sizeof h.link;
    bool plain_time = seconds >= 0 && seconds <= (int64_t)OCTAL11;
    int r = 0;
    /* In the order of their keywords; attributes, in capitals, are there already. */
    if (x->stx_gid > OCTAL7)
        r = add_number(w, "gid", x->stx_gid);
    if (r == 0 && !short_link)
        r = add_record(w, "", "linkpath", link, strlen(link));
    if (r == 0 && (!plain_time || x->stx_mtime.tv_nsec))
        r = add_time(w, seconds, x->stx_mtime.tv_nsec);
    if (r == 0 && !short_path)
        r = add_record(w, "", "path", path, strlen(path));
    if (r == 0 && size > OCTAL11)
        r = add_number(w, "size", size);
    if (r == 0 && x->stx_uid > OCTAL7)
        r = add_number(w, "uid", x->stx_uid);
    if (r < 0 || (r = put_records(w)) < 0)
        return r;
    memcpy(h.link, link, MINIMUM(strlen(link), sizeof h.link));
    OCTAL(h.mode, x->stx_mode & 07777);
    OCTAL(h.uid, x->stx_uid > OCTAL7 ? 0 : x->stx_uid);
    OCTAL(h.gid, x->stx_gid > OCTAL7 ? 0 : x->stx_gid);
    OCTAL(h.size, size > OCTAL11 ? 0 : size);
    OCTAL(h.mtime, plain_time ? (uint64_t)seconds : 0);
    bool device = type == TAR_CHARACTER || type == TAR_BLOCK_DEVICE;
    OCTAL(h.major, device ? x->stx_rdev_major : 0);
    OCTAL(h.minor, device ? x->stx_rdev_minor : 0);
    write_magic(&h);
    write_checksum(&h);
    return put(w, &h, sizeof h);
}

/* Writes the last n bytes of the chunk, of a file's `size` bytes those at `at`, to the copy. A large one begins to be
 * written to the disk at once. */
static int put_copy(struct tar_writer *w, size_t n, uint64_t at, uint64_t size)
{
    enum { SYNC_FILE_RANGE_WRITE_ = 2 };
    int r = w->copy < 0 ? 0 : write_all(w->copy, w->chunk + w->used - n, n);
    w->copy_failed = r < 0;
    if (r == 0 && w->copy >= 0 && size >= TAR_CHUNK)
        sys(sync_file_range, w->copy, at, n, SYNC_FILE_RANGE_WRITE_);
    return r;
}

/* Copies `size` bytes of the open file into the stream; a file with fewer or more than that has changed. A live one may
 * have grown since its header was written: a log does. */
int put_content(struct tar_writer *w, int fd, uint64_t size)
{
    for (uint64_t left = size;;) {
        /* One more than is expected: a short answer then proves the end, without another read. */
        size_t room = MINIMUM(left + 1, TAR_CHUNK - w->used);
        if (w->live && (room = MINIMUM(left, room)) == 0)
            return put_padding(w, size);
        long n = sys(read, fd, w->chunk + w->used, room);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        if ((uint64_t)n > left || (n == 0 && left))
            return -EBUSY;
        left -= (uint64_t)n;
        w->used += (size_t)n;
        int r = put_copy(w, (size_t)n, size - left - (uint64_t)n, size);
        if (r < 0 || (r = w->used == TAR_CHUNK ? flush(w) : 0) < 0)
            return r;
        if (left == 0 && (size_t)n < room)
            return put_padding(w, size);
    }
}

int put_end(struct tar_writer *w)
{
    static const char end[2 * TAR_BLOCK];
    int r = put(w, end, sizeof end);
    return r < 0 ? r : flush(w);
}
