#include "sys.h"
#include <linux/mman.h>
#ifndef MAP_PRIVATE
#include <asm/mman.h>
#endif

#ifndef PYLXC_HOSTED
void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    char *t = to;
    const char *f = from;
    while (n--)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    char *t = to;
    const char *f = from;
    if (t <= f)
        return memcpy(to, from, n);
    while (n--)
        t[n] = f[n];
    return to;
}

void *memset(void *to, int byte, size_t n)
{
    char *t = to;
    while (n--)
        *t++ = (char)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;
    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

void *memchr(const void *s, int byte, size_t n)
{
    const unsigned char *p = s;
    for (; n; n--, p++)
        if (*p == (unsigned char)byte)
            return (void *)(uintptr_t)p;
    return NULL;
}

size_t strlen(const char *s)
{
    const char *p = s;
    while (*p)
        p++;
    return (size_t)(p - s);
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || !*a)
            return (unsigned char)*a - (unsigned char)*b;
    return 0;
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)(uintptr_t)s;
        if (!*s)
            return NULL;
    }
}
#endif

void *memory_take(size_t size)
{
    long at = sys(mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at < 0 && at > -4096 ? NULL : (void *)at;
}

int write_all(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size) {
        long n = sys(write, fd, p, size);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

long read_full(int fd, void *data, size_t size)
{
    char *p = data;
    size_t got = 0;
    while (got < size) {
        long n = sys(read, fd, p + got, size - got);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return n;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (long)got;
}

void text_bytes(struct text *to, const char *bytes, size_t n)
{
    size_t room = to->size - to->length - 1;
    if (n > room) {
        to->overflow = 1;
        n = room;
    }
    memcpy(to->data + to->length, bytes, n);
    to->length += n;
    to->data[to->length] = 0;
}

void text_add(struct text *to, const char *s)
{
    text_bytes(to, s, strlen(s));
}

void text_padded(struct text *to, uint64_t number, int digits)
{
    char reversed[20], forward[20];
    int n = 0;
    for (; number || n < digits || n == 0; number /= 10)
        reversed[n++] = (char)('0' + number % 10);
    for (int i = 0; i < n; i++)
        forward[i] = reversed[n - 1 - i];
    text_bytes(to, forward, (size_t)n);
}

void text_number(struct text *to, int64_t number)
{
    if (number < 0)
        text_add(to, "-");
    text_padded(to, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 1);
}

int parse_number(const char *s, size_t n, uint64_t most, uint64_t *ret)
{
    uint64_t value = 0;
    if (n == 0)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -EINVAL;
        uint64_t digit = (uint64_t)(s[i] - '0');
        if (value > (most - digit) / 10)
            return -ERANGE;
        value = value * 10 + digit;
    }
    *ret = value;
    return 0;
}
