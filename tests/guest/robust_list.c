/* Robust lists: who may ask for whose, and what becomes of the locks of a thread that ends, whatever the list looks like.
 */
// build: -pthread
#include "futex.h"
#include <stddef.h>

static long set(const void *head, size_t length)
{
    return syscall(SYS_set_robust_list, head, length) ? -errno : 0;
}

static long get(int tid, void *head, void *length)
{
    return syscall(SYS_get_robust_list, tid, head, length) ? -errno : 0;
}

/* A lock and its entry in a list. */
struct lock {
    struct robust_list entry;
    volatile uint32_t word;
};

enum { LOCKS = 4, LIMIT = 2048, LONG = LIMIT + 2 };
static struct robust_list_head head;
static struct lock locks[LOCKS], many[LONG];
static volatile uint32_t tid;
static volatile int go;

/* Ends when `go` says so, owning the locks; the list was made by `prepare`. */
static void *owner(void *prepare)
{
    uint32_t me = own_tid();
    head.list.next = &head.list;
    head.futex_offset = offsetof(struct lock, word);
    head.list_op_pending = NULL;
    for (int i = 0; i < LOCKS; i++) {
        locks[i].entry.next = i + 1 < LOCKS ? &locks[i + 1].entry : &head.list;
        locks[i].word = me;
    }
    head.list.next = &locks[0].entry;
    ((void (*)(uint32_t))prepare)(me);
    set(&head, sizeof head);
    tid = me;
    while (!go)
        sched_yield();
    return NULL;
}

static pthread_t thread;

static void start(void (*prepare)(uint32_t), int waits)
{
    tid = go = 0;
    pthread_create(&thread, NULL, owner, prepare);
    while (!tid)
        sched_yield();
    go = !waits;
}

static void end(void)
{
    go = 1;
    pthread_join(thread, NULL);
}

/* Which of the locks were given up: one bit each. */
static int given_up(void)
{
    int mask = 0;
    for (int i = 0; i < LOCKS; i++)
        mask |= (locks[i].word == FUTEX_OWNER_DIED) << i;
    return mask;
}

static void run(void (*prepare)(uint32_t), int right, const char *name)
{
    start(prepare, 0);
    end();
    int mask = given_up();
    check(mask == right, name, "locks %#x instead of %#x were given up", mask, right);
}

static void whole(uint32_t me)
{
    (void)me;
}

static void foreign(uint32_t me)
{
    locks[1].word = me + 1;
    locks[2].word = 0;
}

static void circle(uint32_t me)
{
    (void)me;
    locks[2].entry.next = &locks[1].entry;
}

static void broken(uint32_t me)
{
    (void)me;
    locks[1].entry.next = (void *)8;
}

static void broken_head(uint32_t me)
{
    (void)me;
    head.list.next = (void *)8;
}

static void crooked(uint32_t me)
{
    (void)me;
    /* Its word would be at an odd address: there the walk ends, before what is pending. */
    locks[1].entry.next = (void *)((char *)&locks[2].entry + 2);
    memcpy((char *)&locks[2].entry + 2, &(struct robust_list *){ &locks[3].entry }, sizeof(void *));
    head.list_op_pending = &locks[3].entry;
}

static void pending(uint32_t me)
{
    (void)me;
    locks[0].entry.next = &head.list;
    head.list_op_pending = &locks[3].entry;
}

static void pending_listed(uint32_t me)
{
    (void)me;
    locks[1].entry.next = &head.list;
    head.list_op_pending = &locks[1].entry;
}

static void marked(uint32_t me)
{
    (void)me;
    locks[0].entry.next = (void *)((char *)&locks[1].entry + 1);
    head.list_op_pending = (void *)1;
}

static void moved_words(uint32_t me)
{
    (void)me;
    /* The words of the entries' successors. */
    head.futex_offset += sizeof(struct lock);
    locks[2].entry.next = &head.list;
}

static void too_long(uint32_t me)
{
    for (int i = 0; i < LONG; i++) {
        many[i].entry.next = i + 1 < LONG ? &many[i + 1].entry : &head.list;
        many[i].word = me;
    }
    head.list.next = &many[0].entry;
}

static void contended(uint32_t me)
{
    locks[0].word = me | FUTEX_WAITERS;
}

static void pending_unlocked(uint32_t me)
{
    (void)me;
    head.list.next = &head.list;
    head.list_op_pending = &locks[0].entry;
    locks[0].word = 0;
}

static long wait_result;

static void *wait_for_word(void *value)
{
    wait_result = futex(&locks[0].word, FUTEX_WAIT, (uintptr_t)value, NULL, NULL, 0);
    return NULL;
}

/* Somebody waits while the owner ends. */
static void woken(void (*prepare)(uint32_t), uint32_t right, const char *name)
{
    pthread_t waiter;
    start(prepare, 1);
    pthread_create(&waiter, NULL, wait_for_word, (void *)(uintptr_t)locks[0].word);
    await_waiters(&locks[0].word, 0, 1);
    end();
    pthread_join(waiter, NULL);
    check(wait_result == 0 && locks[0].word == right, name, "%ld, %#x", wait_result, locks[0].word);
}

static pid_t target;

static int ask_as_another_user(void)
{
    void *found;
    size_t length;
    if (syscall(SYS_setgid, 1000) || syscall(SYS_setuid, 1000))
        return 1;
    if (get(0, &found, &length) || get(getpid(), &found, &length))
        return 2;
    return get(target, &found, &length) != -EPERM;
}

static int has_none(void)
{
    void *found = &found;
    size_t length;
    /* The C library registers its list anew in a child: at most that one is there. */
    return get(0, &found, &length) || found == &head || length != sizeof head;
}

static void asking(void)
{
    void *found, *before;
    size_t length;
    expect(get(0, &before, &length), 0, "one's own list");
    expect(length, sizeof head, "its length");
    expect(set(&head, sizeof head - 1), -EINVAL, "a shorter head");
    expect(set(&head, sizeof head + 1), -EINVAL, "a longer head");
    expect(set(&head, sizeof head), 0, "a list");
    expect(get(own_tid(), &found, &length), 0, "one's own list by TID");
    check(found == &head, "it is the one that was set", "%p", found);
    expect(in_child(has_none), 0, "a child does not have it");
    set(before, sizeof head);
    expect(get(0x3ffffffe, &found, &length), -ESRCH, "a task that there is not");
    expect(get(-1, &found, &length), -ESRCH, "a negative TID");
    expect(get(0, &found, (void *)8), -EFAULT, "a length that is nowhere");
    expect(get(0, (void *)8, &length), -EFAULT, "a head that is nowhere");
    start(whole, 1);
    expect(get(tid, &found, &length), 0, "another thread's list");
    check(found == &head, "another thread's list: the head", "%p", found);
    end();
    target = getpid();
    if (getuid())
        skip("another user's list", "needs root");
    else
        expect(in_child(ask_as_another_user), 0, "another user's list is refused");
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    siginfo_t info;
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    found = &head;
    expect(get(child, &found, &length), 0, "the list of one who has ended");
    check(!found, "it has none", "%p", found);
    waitpid(child, NULL, 0);
    expect(get(child, &found, &length), -ESRCH, "one who has been waited for");
}

int main(void)
{
    asking();
    run(whole, 15, "all locks of a list");
    run(foreign, 9, "not those of others");
    run(circle, 7, "a list that is a circle");
    run(broken, 3, "a list with a bad pointer");
    run(broken_head, 0, "a head with a bad pointer");
    run(crooked, 3, "a word that is not aligned");
    run(pending, 9, "one that is being put in");
    run(pending_listed, 3, "one that has been put in already");
    run(marked, 15, "one with an owner that the kernel knows");
    run(moved_words, 14, "another offset");
    start(too_long, 0);
    end();
    check(many[LIMIT - 1].word == FUTEX_OWNER_DIED && many[LIMIT].word == tid, "the longest list", "%#x, %#x",
          many[LIMIT - 1].word, many[LIMIT].word);
    woken(contended, FUTEX_WAITERS | FUTEX_OWNER_DIED, "a waiter is woken");
    woken(pending_unlocked, 0, "a waiter of a lock that was just given up is woken");
    return done();
}
