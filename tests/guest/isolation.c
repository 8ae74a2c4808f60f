/*
 * What the page tables of user mode map of the kernel (bug 12). With page-table isolation: the doors and what they and the CPU
 * need, and nothing else, not even for the kernel's own use. The kernel walks the tables as the CPU would, and tells
 * (/dev/user-table). Without isolation the same walk finds the kernel there, which shows that it can.
 */
#include "gate.h"
#include <sys/mman.h>

/* Parts of the kernel, as its own code, data and stack. */
static const char *const parts[] = { "code", "data", "direct_map", "heap", "stack", "cpu" };
enum { PARTS = sizeof parts / sizeof *parts };

/* What one entry of the top-level table maps. */
#define SLOT (1ul << 39)

static long table(const char *key)
{
    return device_status("/dev/user-table", key);
}

/* How many of the parts the tables map. */
static long mapped_parts(void)
{
    long mapped = 0;
    for (unsigned i = 0; i < PARTS; i++)
        mapped += table(parts[i]);
    return mapped;
}

static int child_maps_the_same(void)
{
    return mapped_parts() != (table("isolation") ? 0 : PARTS);
}

static char *map_page(unsigned long address)
{
    return mmap((void *)address, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

/* Touches what was mapped, alone under its top-level entry, and is no more: the entry must be gone for user mode, too. */
static int touch_unmapped(void)
{
    volatile char *page = map_page(9 * SLOT);
    *page = 1;
    munmap((void *)page, 4096);
    return *page;
}

int main(void)
{
    long isolation = table("isolation");
    if (isolation < 0) {
        skip("the user's page tables", "no /dev/user-table");
        return done();
    }
    for (unsigned i = 0; i < PARTS; i++)
        check(table(parts[i]) == !isolation, isolation ? "the kernel is not mapped" : "the walk finds the kernel", "%s: %ld",
              parts[i], table(parts[i]));
    long pages = table("pages"), strangers = table("strangers");
    if (isolation)
        check(pages > 0 && strangers == 0, "only what is listed is mapped", "%ld of %ld pages are not listed", strangers, pages);
    else
        check(strangers > 0, "the walk finds what is not listed", "all of %ld pages are", pages);
    check(in_child(child_maps_the_same) == 0, "in a child", "it has %ld parts, or its child has others", mapped_parts());

    /* User mode sees what appears under a new top-level entry, and what goes with one. */
    for (unsigned slot = 5; slot < 8; slot++) {
        volatile char *page = map_page(slot * SLOT);
        if (check(page == (char *)(slot * SLOT), "a new top-level entry", "mmap gives %p: %m", page)) {
            *page = slot;
            check(*page == (char)slot, "memory under it", "%d is not %u", *page, slot);
            munmap((void *)page, 4096);
        }
        check(table("differences") == 0, "the user half", "%ld top-level entries are not the kernel's", table("differences"));
    }
    int status = in_child(touch_unmapped);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a top-level entry that is gone", "status %#x", status);
    return done();
}
