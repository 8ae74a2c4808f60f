/* audit_syscall_entry, audit_syscall_exit: each system call has one record of its beginning and one of its end, whatever its
 * number is (bug 10), and other tasks have none.
 */
#include "hooks.h"

/* Makes a call and returns its result as the kernel gave it. */
static long call(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
    asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

static void one(const char *name, long number)
{
    char which[32], arguments[96], name_entry[96], name_exit[96], result_text[40];
    control("/dev/audit", "clear");
    control("/dev/audit", "on %d", gettid());
    long result = call(number, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6);
    control("/dev/audit", "off %d", gettid());
    const char *text = device_text("/dev/audit");
    snprintf(which, sizeof which, "syscall=%d ", (int)number);
    snprintf(arguments, sizeof arguments, "a0=a1 a1=b2 a2=c3 a3=d4 a4=e5 a5=f6 ");
    snprintf(result_text, sizeof result_text, "success=%s exit=%ld ", result < 0 ? "no" : "yes", result);
    snprintf(name_entry, sizeof name_entry, "%s: one beginning", name);
    snprintf(name_exit, sizeof name_exit, "%s: one end", name);
    int entries = count_lines(text, " entry ", which, arguments), all = count_lines(text, " entry ", which, "");
    check(entries == 1 && all == 1, name_entry, "%d of %d with its arguments", entries, all);
    int exits = count_lines(text, " exit ", which, result_text), all_exits = count_lines(text, " exit ", which, "");
    check(exits == 1 && all_exits == 1, name_exit, "%d of %d with its result %ld", exits, all_exits, result);
}

static int ends_in_a_call(void)
{
    syscall(SYS_exit, 0);
    return 1;
}

int main(void)
{
    if (!has_hooks("audit"))
        return done();
    one("getppid", SYS_getppid);
    one("a call that fails", SYS_dup);
    one("number -1", -1);
    one("a huge number", 0x7ffffffe);
    /* The record of a task that ends within a call, and of a child, which is audited as its parent is. */
    control("/dev/audit", "clear");
    control("/dev/audit", "on %d", gettid());
    in_child(ends_in_a_call);
    control("/dev/audit", "off %d", gettid());
    const char *text = device_text("/dev/audit");
    check(count_lines(text, " entry ", "syscall=60 ", "") == 1 && count_lines(text, " end ", "syscall=60 ", "") == 1,
          "a child's last call", "%d beginnings, %d ends", count_lines(text, " entry ", "syscall=60 ", ""),
          count_lines(text, " end ", "syscall=60 ", ""));
    control("/dev/audit", "clear");
    getppid();
    check(count_lines(device_text("/dev/audit"), "syscall=110 ", "", "") == 0, "nothing while it is off", "there are records");
    check_violations("Audit");
    return done();
}
