/* Sorts the names in a directory: without a libc, and whoever chose them. */
#include "pack.h"

/* Moves the element at `root` down to its place in a heap of n names. */
static void sift(size_t *order, const char *names, size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && strcmp(names + order[child], names + order[child + 1]) < 0)
            child++;
        if (strcmp(names + order[root], names + order[child]) >= 0)
            return;
        size_t swap = order[root];
        order[root] = order[child];
        order[child] = swap;
    }
}

/* Heapsort: in place, without recursion, and no order of names makes it slow. */
void sort_names(size_t *order, const char *names, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(order, names, i, n);
    while (n-- > 1) {
        size_t largest = order[0];
        order[0] = order[n];
        order[n] = largest;
        sift(order, names, 0, n);
    }
}
