/* Memory that grows, without a heap: for what is collected along the way. */
#ifndef PYLXC_PILE_H
#define PYLXC_PILE_H
#include "sys.h"

/* Growing moves it: keep offsets, not pointers. */
struct pile {
    char *data;
    size_t used, room;
};
#define PILE_MOST ((size_t)512 << 20)

static inline void pile_drop(struct pile *pile)
{
    if (pile->data)
        sys(munmap, pile->data, pile->room);
    *pile = (struct pile){0};
}
#define pile_auto __attribute__((cleanup(pile_drop))) struct pile

/* Makes room for `size` more bytes, which the caller may then write at data + used. */
static inline int pile_reserve(struct pile *pile, size_t size)
{
    size_t room = pile->room ? pile->room : 1 << 16;
    if (size > PILE_MOST || pile->used + size > PILE_MOST)
        return -E2BIG;
    while (room < pile->used + size)
        room *= 2;
    if (room == pile->room)
        return 0;
    if (!pile->data) {
        pile->data = memory_take(room);
        pile->room = pile->data ? room : 0;
        return pile->data ? 0 : -ENOMEM;
    }
    long moved = sys(mremap, pile->data, pile->room, room, 1 /* MREMAP_MAYMOVE */);
    if (moved < 0 && moved > -4096)
        return (int)moved;
    pile->data = (char *)moved;
    pile->room = room;
    return 0;
}

static inline int pile_add(struct pile *pile, const void *bytes, size_t size)
{
    int r = pile_reserve(pile, size);
    if (r < 0)
        return r;
    memcpy(pile->data + pile->used, bytes, size);
    pile->used += size;
    return 0;
}
#endif
