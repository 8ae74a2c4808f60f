/* trace_sys_enter, trace_sys_exit: each system call is one event at its beginning and one at its end. */
#include "hooks.h"

static int tid;

static void one(const char *name, long number)
{
    char enter[48], leave[48], thread[16];
    static int calls;
    snprintf(thread, sizeof thread, " %d ", tid);
    snprintf(enter, sizeof enter, " sys_enter %ld ", number);
    const char *before = device_text("/dev/trace");
    int enters = count_lines(before, enter, thread, ""), exits = count_lines(before, " sys_exit ", thread, "");
    control("/dev/trace", "on %d", tid);
    long result = syscall(number, calls++);
    result = result < 0 ? -errno : result;
    /* The exit of the write that armed it, too, and the entries of open and write; their exits are of no interest. */
    control("/dev/trace", "off %d", tid);
    const char *after = device_text("/dev/trace");
    snprintf(leave, sizeof leave, " sys_exit %ld ", result);
    int now = count_lines(after, enter, thread, "") - enters;
    check(now == 1, name, "%d events at its beginning", now);
    now = count_lines(after, " sys_exit ", thread, "") - exits;
    /* The first write and close, the call, open; the last write ends with the trace point disarmed. */
    check(now == 4 && count_lines(after, leave, thread, "") > 0, name, "%d events at the end of 4 calls, none with %ld", now,
          result);
}

int main(void)
{
    tid = gettid();
    if (!has_hooks("trace points"))
        return done();
    one("getppid", SYS_getppid);
    one("a number that is none", 0x7ffffffe);
    check_violations("Tracepoint");
    return done();
}
