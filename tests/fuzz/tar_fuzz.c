/* Fuzzes csrc/helper's tar code: whatever an archive says, nothing outside its root changes, and what was unpacked
 * packs into a stream that unpacks into the same.
 *
 * An input is one byte that chooses flags, then an archive. Built with -DREPLAY (gcc will do) it carries out the files
 * that it is given; with clang's -fsanitize=fuzzer it looks for new ones:
 *
 *     clang -g -O1 -std=gnu11 -DPYLXC_HOSTED -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
 *         -o tar_fuzz tests/fuzz/tar_fuzz.c csrc/helper/{sys,remove_tree,pax,sparse}.c csrc/helper/{tar,unpack,pack}*.c
 *     ASAN_OPTIONS=detect_leaks=0:symbolize=0 TAR_FUZZ_LAST=last ./tar_fuzz -timeout=10 -max_len=16384 CORPUS
 *
 * As root: it makes a mount namespace with a tmpfs for itself, and goes in and out of a root there. The input that it
 * died of is in the file that TAR_FUZZ_LAST names (libFuzzer's own would be written inside that root).
 */
#define _GNU_SOURCE
#include "../../csrc/helper/remove_tree.h"
#include "../../csrc/helper/tar.h"
#include "../../csrc/pylxc.h"
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LIMIT = 4 << 20, COPY = 1 << 6 };
static int outside, work, last = -1;
static struct statx canary_before, outside_before;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds, const char *what)
{
    if (holds)
        return;
    dprintf(2, "tar_fuzz: %s\n", what);
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    char place[] = "/tmp/tar-fuzz-XXXXXX";
    const char *keep = getenv("TAR_FUZZ_LAST");
    if (keep)
        last = (int)sys(openat, AT_FDCWD, keep, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(mkdtemp(place) && sys(unshare, 0x20000 /* CLONE_NEWNS */) == 0 &&
             sys(mount, "", "/", "", MS_REC | MS_PRIVATE, NULL) == 0 &&
             sys(mount, "tmpfs", place, "tmpfs", 0, "size=128M,nr_inodes=100000") == 0,
         "needs root, and user.* attributes on tmpfs (Linux 6.6)");
    outside = (int)sys(openat, AT_FDCWD, place, O_PATH | O_DIRECTORY | O_CLOEXEC);
    /* Nobody else sees it, and nothing of it stays. */
    must(outside >= 0 && sys(umount2, place, 2 /* MNT_DETACH */) == 0 && rmdir(place) == 0, "detaching");
    sys(mkdirat, outside, "work", 0755);
    work = (int)sys(openat, outside, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    sys(mknodat, outside, "canary", S_IFREG | 0666, 0);
    must(tar_statx(outside, "canary", &canary_before) == 0 && tar_statx(outside, "", &outside_before) == 0, "canary");
    return 0;
}

static int same(const struct statx *a, const struct statx *b)
{
    return a->stx_ino == b->stx_ino && a->stx_nlink == b->stx_nlink && a->stx_ctime.tv_sec == b->stx_ctime.tv_sec &&
           a->stx_ctime.tv_nsec == b->stx_ctime.tv_nsec;
}

/* Makes a directory and enters it as the root; returns it. */
static int enter(const char *name)
{
    must(sys(mkdirat, work, name, 0755) == 0, "mkdir");
    int top = (int)sys(openat, work, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(fchdir(top) == 0 && chroot(".") == 0, "chroot");
    return top;
}

static void leave(int host, int top)
{
    close(top);
    must(fchdir(host) == 0 && chroot(".") == 0, "back");
}

static int memory(const void *data, size_t size)
{
    int fd = memfd_create("stream", MFD_CLOEXEC);
    must(fd >= 0 && (size == 0 || write(fd, data, size) == (ssize_t)size) && lseek(fd, 0, SEEK_SET) == 0, "memfd");
    return fd;
}

static int packed(int top, uint64_t flags, int64_t latest, int *ret_fd)
{
    char subject[244];
    *ret_fd = memory(NULL, 0);
    int r = pack_tar(*ret_fd, top, flags, &(struct pack_extras){.latest = latest}, subject, sizeof subject);
    lseek(*ret_fd, 0, SEEK_SET);
    return r;
}

static void must_equal(int a, int b, const char *what)
{
    off_t size = lseek(a, 0, SEEK_END);
    must(size == lseek(b, 0, SEEK_END), what);
    void *x = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, a, 0);
    void *y = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, b, 0);
    must(x != MAP_FAILED && y != MAP_FAILED && memcmp(x, y, (size_t)size) == 0, what);
    munmap(x, (size_t)size);
    munmap(y, (size_t)size);
}

static int unpacked(int fd, int top, uint8_t choice, const char **ret_at)
{
    static const uint64_t bits[] = {PYLXC_UNPACK_LAYER,      PYLXC_UNPACK_OWNER_ROOT, PYLXC_UNPACK_KEEP_DIRECTORIES,
                                    PYLXC_UNPACK_NO_DEVICES, PYLXC_UNPACK_BENEATH,    PYLXC_UNPACK_PLAIN};
    static char subject[244];
    struct unpack_place place = {"copy", 0};
    uint64_t flags = 0;
    for (size_t i = 0; i < LENGTH(bits); i++)
        flags |= choice >> i & 1 ? bits[i] : 0;
    *ret_at = subject;
    return choice & COPY ? unpack_copy(fd, top, &place, flags, subject, sizeof subject)
                         : unpack_tar(fd, top, flags, LIMIT, subject, sizeof subject);
}

/* What was unpacked, unpacked again: one stream. Paths and attributes may have become too long for any. */
static void check_again(int host, int first, uint64_t flags)
{
    int stream, again, settled, once_more;
    const char *subject;
    int r = packed(first, flags, 0, &stream);
    leave(host, first);
    must(r == 0 || r == -ENAMETOOLONG || r == -E2BIG, "what was unpacked cannot be packed");
    if (r == 0) {
        int second = enter("second");
        must(unpacked(stream, second, flags & PYLXC_PACK_LAYER, &subject) == 0, "what was packed cannot be unpacked");
        must(packed(second, flags, 0, &again) == 0, "what was unpacked again cannot be packed");
        must_equal(stream, again, "two streams of one tree");
        must(packed(second, flags | PYLXC_PACK_SETTLE, 1000, &settled) == 0, "settling");
        must(packed(second, flags, 0, &once_more) == 0, "packing what was settled");
        must_equal(settled, once_more, "the tree is not what was settled");
        leave(host, second);
        close(again);
        close(settled);
        close(once_more);
    }
    close(stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct statx x;
    const char *subject;
    if (size < 1)
        return 0;
    if (last >= 0)
        must(pwrite(last, data, size, 0) == (ssize_t)size && ftruncate(last, (off_t)size) == 0, "TAR_FUZZ_LAST");
    int host = (int)sys(openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = memory(data + 1, size - 1);
    int first = enter("first");
    if (unpacked(fd, first, *data, &subject) == 0)
        check_again(host, first, *data & 1 ? PYLXC_PACK_LAYER : 0);
    else
        leave(host, first);
    close(fd);
    close(host);
    must(remove_tree(work, "first") == 0, "removing");
    int r = remove_tree(work, "second");
    must(r == 0 || r == -ENOENT, "removing");
    must(tar_statx(outside, "canary", &x) == 0 && same(&x, &canary_before), "the canary was touched");
    must(tar_statx(outside, "", &x) == 0 && same(&x, &outside_before), "something was made outside");
    return 0;
}

#ifdef REPLAY
int main(int argc, char **argv)
{
    static uint8_t data[1 << 20];
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        int fd = (int)sys(openat, AT_FDCWD, argv[i], O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof data);
        must(n >= 0 && (size_t)n < sizeof data, argv[i]);
        close(fd);
        LLVMFuzzerTestOneInput(data, (size_t)n);
        printf("%s\n", argv[i]);
    }
    return 0;
}
#else
/* Mutations that know what a tar is: blocks moved, headers and records made of likely words, checksums right. */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

static const char *const NAMES[] = {
    "a",  "b",      "a/b", "a/b/c", ".wh.a",     ".wh..wh..opq", "a/.wh.b",   "a/.wh..wh..opq", "../x", "/canary", "./",
    "a/", "a/../b", "b/c", "/",     "../canary", ".wh..",        ".wh..wh.x", "a/b/../../c",    "..",   "/tmp"};
static const char *const KEYS[] = {"path",
                                   "linkpath",
                                   "size",
                                   "uid",
                                   "gid",
                                   "mtime",
                                   "SCHILY.xattr.user.x",
                                   "SCHILY.xattr.trusted.overlay.opaque",
                                   "SCHILY.xattr.security.capability",
                                   "LIBARCHIVE.xattr.user.%41",
                                   "SCHILY.devmajor",
                                   "SCHILY.devminor",
                                   "GNU.sparse.major",
                                   "GNU.sparse.minor",
                                   "GNU.sparse.name",
                                   "GNU.sparse.realsize",
                                   "GNU.sparse.size",
                                   "GNU.sparse.map",
                                   "GNU.sparse.numblocks",
                                   "GNU.sparse.offset",
                                   "GNU.sparse.numbytes"};
static const char *const VALUES[] = {
    "0",           "1",   "",     "512",     "4096", "-1.5", "9223372036854775807", "0,512",
    "0,1,512,511", "a/b", "../x", "/canary", "\1",   "QUJD", "99999999999999999999"};
static const char TYPES[] = "0123456752022LKxgSV";
#define PICK(list) (list)[(unsigned)rand() % LENGTH(list)]

static void octal(char *field, int width, unsigned long number)
{
    char text[32];
    snprintf(text, sizeof text, "%0*lo", width - 1, number);
    memcpy(field, text, (size_t)width);
}

static void fix_checksums(uint8_t *data, size_t size)
{
    for (size_t at = 1; at + TAR_BLOCK <= size; at += TAR_BLOCK) {
        struct tar_header *h = (struct tar_header *)(void *)(data + at);
        uint32_t sum;
        int32_t unused;
        if (memcmp(h->magic, "ustar", 5) != 0)
            continue;
        tar_checksum(h, &sum, &unused);
        octal(h->checksum, 7, sum);
        h->checksum[7] = ' ';
    }
}

static void make_header(struct tar_header *h, char type, size_t size)
{
    memset(h, 0, sizeof *h);
    const char *name = PICK(NAMES), *link = PICK(NAMES);
    memcpy(h->name, name, strlen(name));
    memcpy(h->link, link, strlen(link));
    octal(h->mode, 8, (unsigned)rand() & 07777);
    octal(h->uid, 8, (unsigned)rand() % 3);
    octal(h->gid, 8, (unsigned)rand() % 3);
    octal(h->size, 12, size);
    octal(h->mtime, 12, (unsigned)rand());
    octal(h->major, 8, (unsigned)rand() % 2);
    octal(h->minor, 8, (unsigned)rand() % 4);
    h->type = type;
    memcpy(h->magic, rand() % 3 ? "ustar\00000" : "ustar  ", 8);
}

/* A header with records, or one of any kind with a block of content or none. */
static size_t make_blocks(uint8_t *to)
{
    struct tar_header *h = (struct tar_header *)(void *)to;
    char *content = (char *)to + TAR_BLOCK;
    memset(content, 0, TAR_BLOCK);
    if (rand() % 2) {
        char type = TYPES[(unsigned)rand() % (sizeof TYPES - 1)];
        size_t size = rand() % 2 ? (size_t)rand() % TAR_BLOCK : 0;
        make_header(h, type, size);
        memset(content, 'c', size);
        if (type == TAR_GNU_NAME || type == TAR_GNU_LINK)
            strcpy(content, PICK(NAMES));
        return TAR_BLOCK + (size ? TAR_BLOCK : 0);
    }
    size_t used = 0;
    for (int i = rand() % 4; i >= 0; i--) {
        const char *key = PICK(KEYS), *value = rand() % 3 ? PICK(VALUES) : PICK(NAMES);
        size_t rest = strlen(key) + strlen(value) + 3, n = rest + (rest + 2 > 99 ? 3 : rest + 1 > 9 ? 2 : 1);
        used += (size_t)snprintf(content + used, TAR_BLOCK - used, "%zu %s=%s\n", n, key, value);
    }
    make_header(h, TAR_PAX, used);
    return (size_t)2 * TAR_BLOCK;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    srand(seed);
    size_t blocks = size > TAR_BLOCK ? (size - 1) / TAR_BLOCK : 0, room = (size_t)2 * TAR_BLOCK;
    int kind = rand() % 8;
    if (blocks && kind < 2) { /* insert */
        size_t at = 1 + (size_t)rand() % (blocks + 1) * TAR_BLOCK;
        if (size + room <= most) {
            uint8_t made[2 * TAR_BLOCK];
            size_t n = make_blocks(made);
            memmove(data + at + n, data + at, size - at);
            memcpy(data + at, made, n);
            size += n;
        }
    } else if (blocks > 1 && kind == 2) { /* exchange */
        uint8_t *a = data + 1 + (size_t)rand() % blocks * TAR_BLOCK,
                *b = data + 1 + (size_t)rand() % blocks * TAR_BLOCK;
        for (int i = 0; i < TAR_BLOCK; i++) {
            uint8_t swap = a[i];
            a[i] = b[i];
            b[i] = swap;
        }
    } else if (blocks > 1 && kind == 3) { /* leave one out */
        size_t at = 1 + (size_t)rand() % blocks * TAR_BLOCK;
        memmove(data + at, data + at + TAR_BLOCK, size - at - TAR_BLOCK);
        size -= TAR_BLOCK;
    } else if (blocks && kind == 4) { /* another header in the place of one */
        uint8_t made[2 * TAR_BLOCK];
        make_blocks(made);
        memcpy(data + 1 + (size_t)rand() % blocks * TAR_BLOCK, made, TAR_BLOCK);
    } else {
        size = LLVMFuzzerMutate(data, size, most);
    }
    fix_checksums(data, size);
    return size;
}
#endif
