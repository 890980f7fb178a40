/* The log of a container: its lines, and the files that they lie in.
 *
 * The format is the CRI logging format (Kubernetes), "TIME STREAM P|F CONTENT\n": P says that the content did not end
 * in a newline, so the bytes come back exactly. The files are "log", "log.1", "log.2" and so on, the youngest last; no
 * file is ever renamed, so a reader that has read one to its end knows the next by its name. The number of the one
 * being written is an attribute of the directory, said before the file is made: whoever starts the container again goes
 * on there. A record never lies in two files.
 */
#include "log.h"

enum { GATHERED = 131072 };

/* Records, gathered so that a flood of short ones does not cost a write each. */
struct records {
    size_t length;
    char data[GATHERED];
};

static const char number_attribute[] = "user.pylxc.log";

/* Days since 1970 to a date of the Gregorian calendar, by eras of 400 years that begin on 1 March. */
static void add_date(struct text *to, int64_t days)
{
    int64_t z = days + 719468, era = z / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    int64_t day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
    text_padded(to, (uint64_t)(yoe + era * 400 + (month <= 2)), 4);
    text_add(to, "-");
    text_padded(to, (uint64_t)month, 2);
    text_add(to, "-");
    text_padded(to, (uint64_t)day, 2);
}

/* RFC 3339 with nanoseconds, UTC. */
static void add_time(struct text *to, int64_t ns)
{
    int64_t s = ns / 1000000000, of_day = s % 86400;
    add_date(to, s / 86400);
    text_add(to, "T");
    text_padded(to, (uint64_t)(of_day / 3600), 2);
    text_add(to, ":");
    text_padded(to, (uint64_t)(of_day / 60 % 60), 2);
    text_add(to, ":");
    text_padded(to, (uint64_t)(of_day % 60), 2);
    text_add(to, ".");
    text_padded(to, (uint64_t)(ns % 1000000000), 9);
    text_add(to, "Z");
}

static void add_name(struct text *to, int64_t number)
{
    text_add(to, "log");
    if (number) {
        text_add(to, ".");
        text_number(to, number);
    }
}

/* The number of the file that was written last: 0 for a container's first start. */
static int64_t last_number(int directory)
{
    char digits[24];
    long n = sys(fgetxattr, directory, number_attribute, digits, sizeof digits);
    int64_t number = 0;
    for (long i = 0; i < n && digits[i] >= '0' && digits[i] <= '9'; i++)
        number = number * 10 + digits[i] - '0';
    return number;
}

static int open_file(struct log *log)
{
    enum { END = 2 /* SEEK_END */ };
    TEXT(name, 32);
    add_name(&name, log->number);
    int fd = (int)sys(openat, log->directory, name.data, O_CREAT | O_APPEND | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fd;
    long size = sys(lseek, fd, 0, END);
    log->size = size > 0 ? (uint64_t)size : 0;
    log->fd = fd;
    return 0;
}

int log_open(const struct plan *plan, int directory, struct log *ret)
{
    const struct pylxc_plan *head = plan->head;
    *ret = (struct log){.fd = -1, .directory = directory, .most = head->log_size, .files = head->log_files};
    if (!(head->flags & PYLXC_PLAN_LOG))
        return 0;
    ret->number = last_number(directory);
    return open_file(ret);
}

/* Goes on in the next file, and removes the one that is now too old. Where there is no next one to be had, a log that
 * is too long is better than one with a hole. */
static void rotate(struct log *log)
{
    TEXT(digits, 24);
    int full = log->fd;
    log->number++;
    text_number(&digits, log->number);
    long r = sys(fsetxattr, log->directory, number_attribute, digits.data, digits.length, 0);
    if (r >= 0)
        r = open_file(log);
    if (r < 0) {
        log->number--;
        return;
    }
    sys(close, full);
    /* Two, because a monitor that was killed just here has left one. */
    for (int64_t old = log->number - log->files, last = old - 1; old >= 0 && old >= last; old--) {
        TEXT(name, 32);
        add_name(&name, old);
        sys(unlinkat, log->directory, name.data, 0);
    }
}

/* What a full disk does not take is lost whole: half a record would spoil the next one. */
static void flush(struct log *log, struct records *records)
{
    if (write_all(log->fd, records->data, records->length) < 0)
        sys(ftruncate, log->fd, log->size);
    else
        log->size += records->length;
    records->length = 0;
}

static void add_record(struct log *log, struct records *to, const struct text *prefix, const char *bytes, size_t n,
                       int whole)
{
    size_t size = prefix->length + n + 3;
    int is_full = log->most && log->size + to->length + size > log->most;
    if (is_full || to->length + size > sizeof to->data)
        flush(log, to);
    if (is_full && log->size)
        rotate(log);
    char *at = to->data + to->length;
    memcpy(at, prefix->data, prefix->length);
    at += prefix->length;
    memcpy(at, whole ? "F " : "P ", 2);
    memcpy(at + 2, bytes, n);
    at[2 + n] = '\n';
    to->length += size;
}

void log_add(struct log *log, const char *stream, int64_t time_ns, const char *bytes, size_t n)
{
    static struct records records;
    TEXT(prefix, 48);
    add_time(&prefix, time_ns);
    text_add(&prefix, " ");
    text_add(&prefix, stream);
    text_add(&prefix, " ");
    for (const char *at = bytes, *end = bytes + n; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        add_record(log, &records, &prefix, at, (size_t)(stop - at), newline != NULL);
        at = newline ? newline + 1 : end;
    }
    flush(log, &records);
}
