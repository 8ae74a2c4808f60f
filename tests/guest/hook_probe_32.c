// build: -m32
/* Probes in 32-bit code: instructions that are shorter there, or others than the same bytes are in 64-bit code. */
#include "hooks.h"
#include <link.h>

long probed(long value);
extern const char probed_push[], probed_load[], probed_inc[], probed_pop[], probed_return[], probed_flags[];
asm(".pushsection .text\n"
    "probed:\n"
    "probed_push: push %ebp\n"
    "push %ebx\n"
    "probed_load: mov 12(%esp), %eax\n"
    "mov %eax, %ebp\n"
    "probed_inc: inc %eax\n"    /* 0x40: REX in 64-bit code, in front of */
    "probed_flags: pushf\n"     /* what cannot be stepped */
    "popf\n"
    "add %ebp, %eax\n"
    "probed_pop: pop %ebx\n"
    "pop %ebp\n"
    "probed_return: ret\n"
    ".popsection\n");

static long offset_of(const char *address)
{
    extern const ElfW(Ehdr) __ehdr_start;
    const ElfW(Phdr) *header = (const void *)((const char *)&__ehdr_start + __ehdr_start.e_phoff);
    for (int n = 0; n < __ehdr_start.e_phnum; n++, header++) {
        uintptr_t base = header->p_vaddr;
        if (header->p_type == PT_LOAD && (uintptr_t)address - base < header->p_filesz)
            return (uintptr_t)address - base + header->p_offset;
    }
    return -1;
}

static int in_a_child(void)
{
    int right = 0;
    for (int n = 0; n < 20; n++)
        right += probed(n) == 2 * n + 1;
    return right;
}

static void hit(const char *name, const char *at, const char *path)
{
    long before = hooks_status("probe_hits");
    if (!check(control("/dev/hooks", "probe %s %ld", path, offset_of(at)), name, "it is refused"))
        return;
    int status = in_child(in_a_child);
    long hits = hooks_status("probe_hits") - before;
    char text[96];
    snprintf(text, sizeof text, "%s: the program does not notice", name);
    check(status == 20 << 8 && hits == 20, text, "status %#x, %ld hits", status, hits);
    control("/dev/hooks", "unprobe");
}

int main(void)
{
    char path[256] = { 0 };
    if (!has_hooks("probes"))
        return done();
    if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        return 1;
    hit("push %ebp", probed_push, path);
    hit("mov from the stack", probed_load, path);
    hit("inc %eax", probed_inc, path);
    hit("pop %ebx", probed_pop, path);
    hit("ret", probed_return, path);
    check(!control("/dev/hooks", "probe %s %ld", path, offset_of(probed_flags)), "pushf", "it is taken");
    return done();
}
