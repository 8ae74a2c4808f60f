/* Where the areas of a program are: at random places, or not, as the system and the personality say.
 */
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>

enum { STACK, MAPPING, BRK, VDSO, PARTS };
static const char *const PART[PARTS] = {"the stack", "a mapping", "the area of brk", "the vDSO"};
static const char LEVEL[] = "/proc/sys/kernel/randomize_va_space";

struct places {
    uintptr_t at[PARTS];
    int is_upwards, is_executable;
};

/* Whether the area that begins there may be executed. */
static int is_executable(const void *area)
{
    char begins[32];
    snprintf(begins, sizeof begins, "%08lx-", (unsigned long)(uintptr_t)area);
    return strstr(proc_field("/proc/self/maps", begins), " r-x") != NULL;
}

/* What a program finds of itself. */
static struct places look(void)
{
    struct places places;
    int on_stack;
    char *mapping = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *next = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(&places, 0, sizeof places);
    places.at[STACK] = (uintptr_t)&on_stack & ~4095ul;
    places.at[MAPPING] = (uintptr_t)mapping;
    places.at[BRK] = (uintptr_t)sbrk(0) & ~4095ul;
    places.at[VDSO] = getauxval(AT_SYSINFO_EHDR);
    places.is_upwards = next > mapping;
    places.is_executable = is_executable(places.is_upwards ? mapping : next);
    return places;
}

/* Runs the program anew with a personality; says whether it got there. */
static int places_of(unsigned long persona, struct places *places)
{
    int ends[2], status;
    if (pipe(ends))
        return 0;
    pid_t child = fork();
    if (child == 0) {
        char fd[16];
        snprintf(fd, sizeof fd, "%d", ends[1]);
        personality(persona);
        execl("/proc/self/exe", "aslr", fd, NULL);
        _exit(99);
    }
    close(ends[1]);
    int is_whole = read(ends[0], places, sizeof *places) == sizeof *places;
    close(ends[0]);
    return waitpid(child, &status, 0) == child && status == 0 && is_whole;
}

/* How many different places each part has in a few programs. */
static int count(unsigned long persona, int different[PARTS])
{
    enum { PROGRAMS = 6 };
    static struct places seen[PROGRAMS];
    for (int program = 0; program < PROGRAMS; program++)
        if (!places_of(persona, &seen[program]))
            return 0;
    for (int part = 0; part < PARTS; part++) {
        different[part] = 0;
        for (int program = 0; program < PROGRAMS; program++) {
            int is_new = 1;
            for (int before = 0; before < program; before++)
                is_new &= seen[before].at[part] != seen[program].at[part];
            different[part] += is_new;
        }
    }
    return 1;
}

static int set_level(const char *level)
{
    int fd = open(LEVEL, O_WRONLY);
    int is_set = fd >= 0 && write(fd, level, strlen(level)) == (ssize_t)strlen(level);
    close(fd);
    return is_set;
}

/* At this level and with this personality the parts of the mask are at random places, and the others are not. */
static void random_parts(const char *level, unsigned long persona, int mask, const char *name)
{
    int different[PARTS] = {0};
    if (!set_level(level) || !count(persona, different)) {
        check(0, name, "%s", strerror(errno));
        return;
    }
    for (int part = 0; part < PARTS; part++) {
        char line[128];
        snprintf(line, sizeof line, "%s: %s", name, PART[part]);
        int is_random = mask & 1 << part;
        check(is_random ? different[part] > 1 : different[part] == 1, line, "%d places", different[part]);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        struct places places = look();
        return write(atoi(argv[1]), &places, sizeof places) != sizeof places;
    }
    char before[8] = "";
    int fd = open(LEVEL, O_RDWR);
    if (fd < 0 || read(fd, before, 1) != 1) {
        skip("randomization", "%s: %s", LEVEL, strerror(errno));
        return done();
    }
    close(fd);
    const int all = (1 << PARTS) - 1;
    random_parts("2", 0, all, "all is random");
    random_parts("1", 0, all & ~(1 << BRK), "all but brk");
    random_parts("0", 0, 0, "nothing is random");
    random_parts("2", ADDR_NO_RANDOMIZE, 0, "nothing for who wants that");
    struct places places;
    check(places_of(0, &places) && !places.is_upwards && !places.is_executable, "mappings are placed downwards", "%d %d",
          places.is_upwards, places.is_executable);
    check(places_of(ADDR_COMPAT_LAYOUT, &places) && places.is_upwards, "and upwards for who wants that", "%d", places.is_upwards);
    personality(READ_IMPLIES_EXEC);
    char *area = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(area, 4096, PROT_READ);
    mmap(area + 2 * 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    personality(0);
    check(is_executable(area) && is_executable(area + 2 * 4096), "what is read is executed for who wants that", "%d %d",
          is_executable(area), is_executable(area + 2 * 4096));
    const int is_kept = sizeof(long) == 4;
    check(places_of(READ_IMPLIES_EXEC, &places) && places.is_executable == is_kept, "programs of 32 bits begin so, too", "%d",
          places.is_executable);
    set_level(before);
    return done();
}
