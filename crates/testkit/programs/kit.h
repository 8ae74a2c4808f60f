// What every program of tier (a) has: two system calls, lines that tell of checks, and crossings with chosen registers.
// No C library, no signals, no SSE.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

// The builder gives WRITE_NUMBER, EXIT_NUMBER, DOOR (the instruction), KERNEL_ADDRESS (an address of the kernel's) and, to each
// program's own file, PROGRAM (its name).
extern const char program_name[];
#ifdef PROGRAM
const char program_name[] = PROGRAM;
#endif

enum {
    CF = 1 << 0, PF = 1 << 2, AF = 1 << 4, ZF = 1 << 6, SF = 1 << 7, TF = 1 << 8, IF = 1 << 9, DF = 1 << 10, OF = 1 << 11,
    IOPL = 3 << 12, NT = 1 << 14, RF = 1 << 16, VM = 1 << 17, AC = 1 << 18, VIF = 1 << 19, VIP = 1 << 20, ID = 1 << 21,
};

// The order of `registers` in crossing.S.
struct registers {
    u64 rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rflags;
};
enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13, R14, R15, REGISTERS };
#define BIT(n) (1ul << (n))

// crossing.S: what a crossing starts with, and what it ends with.
extern struct registers given, found;
// The selectors that the kernel gave the program: CS, SS, DS, ES, FS, GS.
extern u16 first_selectors[6];
// Where by_syscall goes on.
extern const u8 after_syscall[];
void by_syscall(void);
void by_int80(void);
// Writes AL to RSI.
void by_touch(void);
// A long block of stores to one byte that begins with 3 in DS. An IRET to user mode makes a null selector 0.
void by_spin(void);
extern u16 spin_ds;

// The shim: what a kernel with other system calls has to replace (option --shim).
long kit_write(int fd, const void *text, u64 length);
void kit_exit(int code) __attribute__((noreturn));

// kit.c
// The check that begins. Its verdict is one of the three below.
void try(const char *name);
void ok(void);
void skip(const char *reason);
// Not ok. The value is left out where `what` ends the sentence.
void bad(const char *what);
void bad_value(const char *what, u64 is, u64 expected);
// ok, unless one of the last two was called since `try`.
void end(void);
// Whether something was bad since `try`.
int failed(void);

// A value of its own for each register, and the stack pointer in a piece of memory that is watched; flags as they are at the
// start of a program.
void patterns(u64 seed);
// The registers of `given` are in `found`, but for those of `but`.
void compare(u64 but);
// So are the flags.
void compare_flags(void);
// Nothing was written where the stack pointer was.
void compare_stack(void);
// Registers for write(1, "", 0): the call that costs nothing and does nothing.
void nothing_to_write(void);
// Spins until interrupts have come `hits` times; `look` is called after each spin. 0 if none came and nothing is bad.
int spin(int hits, void (*prepare)(void), void (*look)(void));
u16 selector(int which);

// Each program's own.
void kit_main(void);
