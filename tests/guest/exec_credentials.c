/* Whose rights a program has after exec: set-user-ID and set-group-ID files, capabilities and what limits them, and what a
 * program is told that has more rights than who started it. What needs root is skipped for others.
 */
#include "check.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { USER = 1000, OTHER = 2000, REPORT_FD = 100, NET_RAW = 13, CHOWN = 0 };

/* What a program says of itself. */
struct report {
    uid_t real, effective, saved;
    gid_t real_group, effective_group, saved_group;
    unsigned long secure, seen_real, seen_effective, seen_group;
    uint64_t inheritable, permitted, active, bounding, ambient;
    int dumpable, death_signal, secure_bits;
    rlim_t stack;
};

static char directory[] = "/tmp/exec_credentials.XXXXXX";
static char program[96], script[96];
static uint64_t bounding;

static uint64_t capabilities_of(const char *name)
{
    const char *shown = proc_field("/proc/self/status", name);
    return *shown ? strtoull(shown, NULL, 16) : (uint64_t)-1;
}

static int say(void)
{
    struct report report = { 0 };
    struct rlimit stack;
    report.dumpable = prctl(PR_GET_DUMPABLE);
    prctl(PR_GET_PDEATHSIG, &report.death_signal);
    report.secure_bits = prctl(PR_GET_SECUREBITS);
    getresuid(&report.real, &report.effective, &report.saved);
    getresgid(&report.real_group, &report.effective_group, &report.saved_group);
    report.secure = getauxval(AT_SECURE);
    report.seen_real = getauxval(AT_UID);
    report.seen_effective = getauxval(AT_EUID);
    report.seen_group = getauxval(AT_EGID);
    report.inheritable = capabilities_of("CapInh:");
    report.permitted = capabilities_of("CapPrm:");
    report.active = capabilities_of("CapEff:");
    report.bounding = capabilities_of("CapBnd:");
    report.ambient = capabilities_of("CapAmb:");
    getrlimit(RLIMIT_STACK, &stack);
    report.stack = stack.rlim_cur;
    return write(REPORT_FD, &report, sizeof report) != sizeof report;
}

static struct report run_file(const char *path, void (*before)(void), int traced)
{
    struct report report;
    int ends[2];
    memset(&report, 0xee, sizeof report);
    if (pipe(ends))
        _exit(80);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], REPORT_FD);
        close(ends[0]), close(ends[1]);
        /* The tracer has the rights that count with it from the one who asks for it. */
        if (traced && ptrace(PTRACE_TRACEME, 0, 0, 0))
            _exit(81);
        if (before)
            before();
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        char *argv[] = { "say", NULL }, *envp[] = { NULL };
        execve(path, argv, envp);
        _exit(82);
    }
    close(ends[1]);
    int status;
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status))
        ptrace(PTRACE_CONT, child, 0, 0);
    if (read(ends[0], &report, sizeof report) != sizeof report)
        report.dumpable = status;
    close(ends[0]);
    return report;
}

static struct report run(uid_t owner, gid_t group, mode_t mode, void (*before)(void))
{
    if (chown(program, owner, group) || chmod(program, mode))
        _exit(83);
    return run_file(program, before, 0);
}

static const char *kind;

static void equal(const char *name, unsigned long long got, unsigned long long want)
{
    char text[160];
    snprintf(text, sizeof text, "%s: %s", kind, name);
    check(got == want, text, "%#llx, not %#llx", got, want);
}

static void ids(const struct report *report, uid_t real, uid_t effective)
{
    equal("real user", report->real, real);
    equal("effective user", report->effective, effective);
    equal("saved user", report->saved, effective);
    equal("AT_UID", report->seen_real, real);
    equal("AT_EUID", report->seen_effective, effective);
}

static void sets(const struct report *report, uint64_t permitted, uint64_t active)
{
    equal("permitted", report->permitted, permitted);
    equal("effective", report->active, active);
}

static void trust(const struct report *report, int secure, int dumpable, int death_signal)
{
    equal("AT_SECURE", report->secure, secure);
    equal("dumpable", report->dumpable, dumpable);
    equal("PDEATHSIG", report->death_signal, death_signal);
}

static void set_ids(uid_t real, uid_t effective, uid_t saved)
{
    if (setresuid(real, effective, saved))
        _exit(84);
}

static void as_user(void) { set_ids(USER, USER, USER); }
static void as_user_no_new_privs(void) { as_user(); prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
static void no_new_privs(void) { prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
static void real_user(void) { set_ids(USER, 0, 0); }
static void effective_user(void) { set_ids(0, USER, 0); }
static void saved_root(void) { set_ids(USER, USER, 0); }
static void without_root(void) { prctl(PR_SET_SECUREBITS, 1); }
static void without_chown(void) { prctl(PR_CAPBSET_DROP, CHOWN); }
static void large_stack(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? 64 << 20 : limit.rlim_max;
    setrlimit(RLIMIT_STACK, &limit);
    as_user();
}

static int capset_to(uint64_t permitted, uint64_t active, uint64_t inheritable)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = {
        { active, permitted, inheritable }, { active >> 32, permitted >> 32, inheritable >> 32 },
    };
    return syscall(SYS_capset, &header, data);
}

static void with_inheritable(void)
{
    prctl(PR_SET_KEEPCAPS, 1);
    as_user();
    if (capset_to(1 << NET_RAW, 0, 1 << NET_RAW))
        _exit(85);
}

static void with_ambient(void)
{
    with_inheritable();
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, NET_RAW, 0, 0))
        _exit(86);
}

static void programs(void)
{
    struct report report;
    kind = "root";
    report = run(0, 0, 0755, NULL);
    ids(&report, 0, 0), sets(&report, bounding, bounding), trust(&report, 0, 1, SIGTERM);
    kind = "user";
    report = run(0, 0, 0755, as_user);
    ids(&report, USER, USER), sets(&report, 0, 0), trust(&report, 0, 1, SIGTERM);
    kind = "user, saved root";
    report = run(0, 0, 0755, saved_root);
    ids(&report, USER, USER), sets(&report, 0, 0), trust(&report, 0, 1, SIGTERM);
    kind = "set-user-ID root";
    report = run(0, 0, 04755, as_user);
    ids(&report, USER, 0), sets(&report, bounding, bounding), trust(&report, 1, 0, 0);
    kind = "set-user-ID root, no new rights";
    report = run(0, 0, 04755, as_user_no_new_privs);
    ids(&report, USER, USER), sets(&report, 0, 0), trust(&report, 0, 1, SIGTERM);
    kind = "set-user-ID another";
    report = run(OTHER, 0, 04755, as_user);
    ids(&report, USER, OTHER), sets(&report, 0, 0), trust(&report, 1, 0, 0);
    kind = "set-user-ID oneself";
    report = run(USER, 0, 04755, as_user);
    ids(&report, USER, USER), sets(&report, 0, 0), trust(&report, 0, 1, SIGTERM);
    kind = "root runs set-user-ID user";
    report = run(USER, 0, 04755, NULL);
    ids(&report, 0, USER), sets(&report, bounding, 0), trust(&report, 1, 0, 0);
    kind = "root, no new rights";
    report = run(USER, 0, 04755, no_new_privs);
    ids(&report, 0, 0), sets(&report, bounding, bounding), trust(&report, 0, 1, SIGTERM);
    kind = "set-group-ID";
    report = run(0, OTHER, 02755, as_user);
    ids(&report, USER, USER), sets(&report, 0, 0), trust(&report, 1, 0, 0);
    equal("real group", report.real_group, 0), equal("effective group", report.effective_group, OTHER);
    equal("saved group", report.saved_group, OTHER), equal("AT_EGID", report.seen_group, OTHER);
    kind = "set-group-ID that its group may not run";
    report = run(0, OTHER, 02745, as_user);
    equal("effective group", report.effective_group, 0), trust(&report, 0, 1, SIGTERM);
    kind = "both";
    report = run(0, OTHER, 06755, as_user);
    ids(&report, USER, 0), equal("effective group", report.effective_group, OTHER);
    kind = "real user, effective root";
    report = run(0, 0, 0755, real_user);
    ids(&report, USER, 0), sets(&report, bounding, bounding), trust(&report, 1, 0, 0);
    kind = "real root, effective user";
    report = run(0, 0, 0755, effective_user);
    ids(&report, 0, USER), sets(&report, bounding, 0), trust(&report, 1, 0, 0);
    kind = "a large stack";
    report = run(0, 0, 0755, large_stack);
    check(report.stack > 8 << 20, "a large stack: kept", "%llu", (unsigned long long)report.stack);
    report = run(0, 0, 04755, large_stack);
    equal("not by set-user-ID", report.stack, 8 << 20);

    kind = "set-user-ID script";
    run(0, 0, 0755, as_user);
    chown(script, 0, 0), chmod(script, 04755);
    report = run_file(script, as_user, 0);
    ids(&report, USER, USER), trust(&report, 0, 1, SIGTERM);
    run(0, 0, 04755, NULL);
    chmod(script, 0755);
    kind = "a script of a set-user-ID interpreter";
    report = run_file(script, as_user, 0);
    ids(&report, USER, 0), trust(&report, 1, 0, 0);
}

static void sets_of_capabilities(void)
{
    struct report report;
    kind = "root means nothing";
    report = run(0, 0, 0755, without_root);
    ids(&report, 0, 0), sets(&report, 0, 0), equal("secure bits", report.secure_bits, 1);
    kind = "bounded";
    report = run(0, 0, 0755, without_chown);
    sets(&report, bounding & ~1ull, bounding & ~1ull), equal("bounding", report.bounding, bounding & ~1ull);
    kind = "inheritable";
    report = run(0, 0, 0755, with_inheritable);
    sets(&report, 0, 0), equal("inheritable", report.inheritable, 1 << NET_RAW);
    equal("PR_SET_KEEPCAPS is gone", report.secure_bits, 0), trust(&report, 0, report.dumpable, report.death_signal);
    kind = "ambient";
    report = run(0, 0, 0755, with_ambient);
    sets(&report, 1 << NET_RAW, 1 << NET_RAW), equal("ambient", report.ambient, 1 << NET_RAW);
    equal("AT_SECURE", report.secure, 0);
    kind = "ambient, set-user-ID";
    report = run(OTHER, 0, 04755, with_ambient);
    sets(&report, 0, 0), equal("ambient", report.ambient, 0);
}

/* Who traces the program has no rights that it would get. */
static int traced_by_user(void)
{
    as_user();
    prctl(PR_SET_DUMPABLE, 1);
    struct report report = run_file(program, NULL, 1);
    return report.real == USER && report.effective == USER && report.permitted == 0 && report.secure == 1 ? 0 : 1;
}

static int traced_by_root(void)
{
    struct report report = run_file(program, as_user, 1);
    return report.real == USER && report.effective == 0 && report.permitted == bounding && report.secure == 1 ? 0 : 1;
}

static int change_sets(void)
{
    int failed = 0;
#define EXPECT(call, want) do { long got = (call); got = got < 0 ? -errno : got; \
        if (got != (want)) { fprintf(stderr, "# %s: %ld, not %ld\n", #call, got, (long)(want)); failed = 1; } } while (0)
    EXPECT(prctl(PR_CAPBSET_READ, 64), -EINVAL);
    EXPECT(prctl(PR_CAPBSET_READ, CHOWN), 1);
    EXPECT(prctl(PR_CAPBSET_DROP, 64), -EINVAL);
    EXPECT(prctl(PR_CAPBSET_DROP, CHOWN), 0);
    EXPECT(prctl(PR_CAPBSET_READ, CHOWN), 0);
    EXPECT(capset_to(bounding, bounding, 1 << CHOWN), -EPERM);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, NET_RAW, 0, 0), -EPERM);
    EXPECT(capset_to(bounding, bounding, 1 << NET_RAW), 0);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, NET_RAW, 0, 0), 0);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, NET_RAW, 0, 0), 0);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, NET_RAW, 0, 0), 1);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 64, 0, 0), -EINVAL);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, NET_RAW, 1, 0), -EINVAL);
    EXPECT(prctl(PR_CAP_AMBIENT, 9, NET_RAW, 0, 0), -EINVAL);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, NET_RAW, 0, 0), -EINVAL);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, NET_RAW, 0, 0), 0);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, NET_RAW, 0, 0), 0);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, NET_RAW, 0, 0), 0);
    EXPECT(capset_to(bounding, bounding, 0), 0);
    EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, NET_RAW, 0, 0), 0);
    EXPECT(prctl(PR_GET_SECUREBITS), 0);
    EXPECT(prctl(PR_SET_SECUREBITS, 1 << 20), -EPERM);
    EXPECT(prctl(PR_SET_SECUREBITS, 1 << 5), 0);
    EXPECT(prctl(PR_SET_KEEPCAPS, 1), -EPERM);
    EXPECT(prctl(PR_SET_SECUREBITS, 0), -EPERM);
    EXPECT(prctl(PR_SET_SECUREBITS, 1 << 5 | 1 << 6), 0);
    EXPECT(prctl(PR_SET_SECUREBITS, 1 << 5 | 1 << 2), 0);
    EXPECT(setresuid(USER, USER, USER), 0);
    EXPECT(capabilities_of("CapPrm:") == bounding, 1);
    EXPECT(capset_to(0, 0, 0), 0);
    EXPECT(prctl(PR_CAPBSET_DROP, NET_RAW), -EPERM);
    EXPECT(prctl(PR_SET_SECUREBITS, 1 << 5), -EPERM);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc && !strcmp(argv[0], "say"))
        return say();
    if (argc > 1 && strstr(argv[argc - 1], "script"))
        return say();
    struct statvfs file_system;
    if (geteuid() || !mkdtemp(directory) || chmod(directory, 0755) || statvfs(directory, &file_system)
        || file_system.f_flag & ST_NOSUID) {
        skip("credentials of programs", "not root, or no set-user-ID files in /tmp");
        return done();
    }
    snprintf(program, sizeof program, "%s/program", directory);
    snprintf(script, sizeof script, "%s/script", directory);
    char command[256];
    int in = open("/proc/self/exe", O_RDONLY), out = open(program, O_CREAT | O_WRONLY, 0755);
    static char buffer[1 << 16];
    ssize_t len;
    while ((len = read(in, buffer, sizeof buffer)) > 0)
        if (write(out, buffer, len) != len)
            return 90;
    close(in), close(out);
    len = snprintf(command, sizeof command, "#!%s\n", program);
    out = open(script, O_CREAT | O_WRONLY, 0755);
    if (write(out, command, len) != len || close(out))
        return 91;
    bounding = capabilities_of("CapBnd:");
    programs();
    sets_of_capabilities();
    run(0, 0, 04755, NULL);
    int status = in_child(traced_by_user);
    check(status == 0, "traced by a user: no rights", "status %#x", status);
    status = in_child(traced_by_root);
    check(status == 0, "traced by root: all rights", "status %#x", status);
    status = in_child(change_sets);
    check(status == 0, "changes of the sets", "status %#x", status);
    return done();
}
