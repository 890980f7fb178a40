/* What the helper has in place of a libc: raw system calls, a little memory and string handling, descriptors that
 * close themselves.
 *
 * The helper has no libc because executing a static glibc program costs 0.35 ms here and this one 0.07 ms, on the
 * path of every start, and because less code runs between clone and exec. Every sys_* call returns the kernel's own
 * answer: a value, or a negative errno. With PYLXC_HOSTED the same code is built against libc, for the sanitizers and
 * the fuzzer.
 */
#ifndef PYLXC_SYS_H
#define PYLXC_SYS_H
#include "../defence.h"
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <stddef.h>
#include <stdint.h>

#ifdef PYLXC_HOSTED
#include <string.h>
#else
void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int byte, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
#endif

#if defined __x86_64__
static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined __aarch64__
static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
    return x0;
}
#else
#error "pylxc's helper is written for x86_64 and aarch64"
#endif

/* sys(openat, dirfd, path, flags, mode): the system call by its name, missing operands as 0. */
#define SYS_PICK(n, a, b, c, d, e, f, ...) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define sys(name, ...) SYS_PICK(__NR_##name, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)

_Noreturn static inline void sys_exit(int status)
{
    for (;;)
        sys(exit_group, status);
}

/* Descriptors: `fd_close int fd = ...;` closes at the end of the scope; `steal_fd(&fd)` hands ownership on. */
static inline void fd_close_at_end(int *fd)
{
    if (*fd >= 0)
        sys(close, *fd);
}
#define fd_close __attribute__((cleanup(fd_close_at_end)))
static inline int steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define MINIMUM(a, b) ((a) < (b) ? (a) : (b))

/* Zeroed memory that lives until the process ends; NULL when there is none. Meant for few, mostly large pieces. */
void *memory_take(size_t size);

/* Writes all of data; 0 or a negative errno. */
int write_all(int fd, const void *data, size_t size);
/* Reads until size bytes or the end; the number read, or a negative errno. */
long read_full(int fd, void *data, size_t size);

/* One entry of what getdents64(2) fills a buffer with. */
struct directory_record {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* Text built piece by piece in a fixed buffer; always NUL-terminated; `overflow` says that something did not fit. */
struct text {
    char *data;
    size_t size, length;
    int overflow;
};
#define TEXT(name, capacity)                                                                                           \
    char name##_data[capacity];                                                                                        \
    struct text name = {name##_data, sizeof name##_data, 0, 0};                                                        \
    name##_data[0] = 0
void text_bytes(struct text *to, const char *bytes, size_t n);
void text_add(struct text *to, const char *s);
void text_number(struct text *to, int64_t number);
void text_padded(struct text *to, uint64_t number, int digits);

/* Decimal digits only, the whole of s[0..n), at most `most`: 0, or -EINVAL / -ERANGE. */
int parse_number(const char *s, size_t n, uint64_t most, uint64_t *ret);
#endif
