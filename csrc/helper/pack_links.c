/* Files with several names: hides how the first one is found again. */
#include "pack.h"

enum { SLOTS_FIRST = 1 << 10 };

/* The first name of a file that has several. */
struct first_name {
    uint64_t inode;
    uint32_t device_major, device_minor;
    uint32_t unseen; /* how many of its names were not seen yet */
    size_t path;     /* offset in first_names.paths, plus 1; 0 = the slot is free */
};

static struct first_name *find_slot(struct first_names *f, const struct statx *x)
{
    struct first_name *slots = (struct first_name *)(void *)f->slots.data;
    uint64_t mixed = (x->stx_ino ^ ((uint64_t)x->stx_dev_minor << 40)) * 0x9e3779b97f4a7c15ULL;
    for (size_t i = mixed >> 20;; i++) {
        struct first_name *slot = &slots[i & (f->slot_count - 1)];
        if (!slot->path || (slot->inode == x->stx_ino && slot->device_major == x->stx_dev_major &&
                            slot->device_minor == x->stx_dev_minor))
            return slot;
    }
}

/* Doubles the table of first names when it is half full. */
static int grow_slots(struct first_names *f)
{
    if (f->slot_count > 2 * f->slots_used)
        return 0;
    struct pile old = f->slots;
    size_t old_count = f->slot_count, count = old_count ? 2 * old_count : SLOTS_FIRST;
    f->slots = (struct pile){0};
    int r = pile_reserve(&f->slots, count * sizeof(struct first_name));
    if (r < 0) {
        f->slots = old;
        return r;
    }
    f->slot_count = count;
    for (size_t i = 0; i < old_count; i++) {
        const struct first_name *from = (const struct first_name *)(void *)old.data + i;
        struct statx x = {
            .stx_ino = from->inode, .stx_dev_major = from->device_major, .stx_dev_minor = from->device_minor};
        if (from->path)
            *find_slot(f, &x) = *from;
    }
    pile_drop(&old);
    return 0;
}

int first_name(struct first_names *f, const struct statx *x, const char *path, const char **ret)
{
    *ret = NULL;
    if (x->stx_nlink < 2)
        return 0;
    int r = grow_slots(f);
    if (r < 0)
        return r;
    struct first_name *slot = find_slot(f, x);
    if (slot->path) {
        slot->unseen--;
        *ret = f->paths.data + slot->path - 1;
        return 0;
    }
    struct first_name new = {x->stx_ino, x->stx_dev_major, x->stx_dev_minor, x->stx_nlink - 1, f->paths.used + 1};
    if ((r = pile_add(&f->paths, path, strlen(path) + 1)) < 0)
        return r;
    *slot = new;
    f->slots_used++;
    return 0;
}

int all_names_seen(const struct first_names *f)
{
    const struct first_name *slots = (const struct first_name *)(const void *)f->slots.data;
    for (size_t i = 0; i < f->slot_count; i++)
        if (slots[i].path && slots[i].unseen)
            return -EMLINK;
    return 0;
}

void first_names_drop(struct first_names *f)
{
    pile_drop(&f->paths);
    pile_drop(&f->slots);
}
