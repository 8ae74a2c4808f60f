/* Restartable sequences: the call, the area, and a sequence that spins. */
#ifndef RSEQ_H
#define RSEQ_H

#include "check.h"
#include <linux/rseq.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/ucontext.h>

enum { SIGNATURE = 0x2b3c4d5e };

__attribute__((unused)) static int rseq(void *area, unsigned size, int flags, unsigned signature)
{
    return syscall(SYS_rseq, area, size, flags, signature);
}

/* The C library has registered an area of its own, of a length that depends on the kernel. */
__attribute__((unused)) static void unregister_the_librarys(void)
{
    char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
    for (unsigned length = 32; __rseq_size && length <= 256; length++)
        if (rseq(area, length, 1, RSEQ_SIG) == 0)
            return;
}

/* A sequence that spins until *flag is set. 0: it has seen that; 1: it was aborted. */
extern const char sequence_abort[];
struct sequence {
    uint32_t version, flags;
    uint64_t start, length, abort;
} __attribute__((aligned(32)));
int run_sequence(struct rseq *area, volatile int *until, const void *sequence);
extern const char sequence_start[], sequence_end[];
asm(".pushsection .text\n"
    "run_sequence:\n"
    "mov %rdx, 8(%rdi)\n"
    "sequence_start:\n"
    "1: cmpl $0, (%rsi)\n"
    "je 1b\n"
    "sequence_end:\n"
    "xor %eax, %eax\n"
    "ret\n"
    ".long 0x2b3c4d5e\n"
    "sequence_abort:\n"
    "mov $1, %eax\n"
    "ret\n"
    ".popsection\n");

/* A sequence of this code, run by run_NAME. 0: it came to its end; 1: it was aborted. */
#define SEQUENCE(name, code) \
    int run_##name(struct rseq *area, const void *sequence); \
    extern const char name##_start[], name##_end[], name##_abort[]; \
    asm(".pushsection .text\n" \
        "run_" #name ": mov %rsi, 8(%rdi)\n" \
        #name "_start: " code "\n" \
        #name "_end: xor %eax, %eax; ret\n" \
        ".long 0x2b3c4d5e\n" \
        #name "_abort: mov $1, %eax; ret\n" \
        ".popsection\n")

__attribute__((unused)) static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

#endif
