/* What exec makes of each kind of file: ELF files, well formed and hostile, scripts, files that are written to, names by
 * descriptor; how many strings a program may be started with. What is wrong with a file's headers is an error of exec;
 * what is wrong with a segment ends the process.
 */
#include "check.h"
#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { PAGE = 4096, RIGHT = 42, WRONG = 43, FAILED = 100 };

static char directory[] = "/tmp/exec_files.XXXXXX";
static char self[64];

static char *in_directory(const char *name)
{
    static char paths[8][96];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static void write_file(const char *path, const void *bytes, size_t len, mode_t mode)
{
    unlink(path);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, mode);
    if (fd < 0 || write(fd, bytes, len) != (ssize_t)len || fchmod(fd, mode) || close(fd))
        _exit(80);
}

/* Starts a program in a child. The result: its exit status, minus the signal that killed it, or FAILED + errno. */
static int run_at(int fd, const char *path, char *const argv[], char *const envp[], int flags)
{
    pid_t child = fork();
    int status = -1;
    if (child == 0) {
        /* A failure must be visible as one. */
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        syscall(SYS_execveat, fd, path, argv, envp, flags);
        _exit(FAILED + errno);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int run(const char *path)
{
    char *argv[] = { "name", NULL }, *envp[] = { NULL };
    return run_at(AT_FDCWD, path, argv, envp, 0);
}

static void equal(const char *name, int got, int want)
{
    check(got == want, name, "%d, not %d", got, want);
}

/* An ELF file: headers, code, and up to four program headers that the tests change. */
struct image {
    Elf64_Ehdr header;
    Elf64_Phdr segments[4];
    unsigned char code[32];
    char path[64];
    unsigned char rest[2 * PAGE];
};

static const unsigned char exit_42[] = {
    0xbf, RIGHT, 0, 0, 0,    /* mov edi, 42 */
    0xb8, 231, 0, 0, 0,      /* mov eax, SYS_exit_group */
    0x0f, 0x05,              /* syscall */
};

static struct image image_at(uint64_t base, int type)
{
    struct image image = { 0 };
    Elf64_Ehdr *header = &image.header;
    memcpy(header->e_ident, ELFMAG, SELFMAG);
    header->e_ident[EI_CLASS] = ELFCLASS64;
    header->e_ident[EI_DATA] = ELFDATA2LSB;
    header->e_ident[EI_VERSION] = EV_CURRENT;
    header->e_type = type;
    header->e_machine = EM_X86_64;
    header->e_version = EV_CURRENT;
    header->e_entry = base + offsetof(struct image, code);
    header->e_phoff = offsetof(struct image, segments);
    header->e_ehsize = sizeof *header;
    header->e_phentsize = sizeof *image.segments;
    header->e_phnum = 1;
    image.segments[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = base,
                                      .p_filesz = sizeof image, .p_memsz = sizeof image, .p_align = PAGE };
    memcpy(image.code, exit_42, sizeof exit_42);
    return image;
}

static int run_image(const struct image *image, size_t len)
{
    write_file(in_directory("image"), image, len, 0755);
    return run(in_directory("image"));
}

static void whole(const char *name, const struct image *image, int want)
{
    equal(name, run_image(image, sizeof *image), want);
}

static const uint64_t BASE = 0x400000;

static void well_formed(void)
{
    struct image image = image_at(BASE, ET_EXEC);
    whole("ELF: plain", &image, RIGHT);
    image = image_at(0, ET_DYN);
    whole("ELF: position-independent", &image, RIGHT);
    image = image_at(0x200000, ET_DYN);
    image.segments[0].p_align = 0x200000;
    whole("ELF: position-independent, not from zero, aligned", &image, RIGHT);
    image.segments[0].p_align = 3;
    whole("ELF: an alignment that is none", &image, RIGHT);
    image = image_at(0x700000000000, ET_EXEC);
    whole("ELF: linked high", &image, RIGHT);
    image = image_at(0x10000, ET_EXEC);
    whole("ELF: linked low", &image, RIGHT);

    /* mov byte [address], 1; then as before. */
    image = image_at(BASE, ET_EXEC);
    image.header.e_phnum = 2;
    uint32_t zeros = BASE + 0x10060;
    unsigned char store[] = { 0xc6, 0x04, 0x25, zeros, zeros >> 8, zeros >> 16, zeros >> 24, 1 };
    memcpy(image.code, store, sizeof store);
    memcpy(image.code + sizeof store, exit_42, sizeof exit_42);
    image.segments[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_offset = 0x60, .p_vaddr = zeros,
                                      .p_memsz = 0x50, .p_align = PAGE };
    whole("ELF: a segment of zeros alone, not at a page", &image, RIGHT);
    image.segments[1].p_memsz = 3 * PAGE;
    whole("ELF: the same, larger", &image, RIGHT);
    image.segments[1].p_offset = PAGE, image.segments[1].p_vaddr = BASE + 0x10000;
    whole("ELF: a segment of zeros alone, at a page", &image, RIGHT);
    /* cmp byte [address], 0; jne to the end, which faults. */
    unsigned char compare[] = { 0x80, 0x3c, 0x25, zeros, zeros >> 8, zeros >> 16, zeros >> 24, 0, 0x75, 0x10 };
    memset(image.rest, 0xff, sizeof image.rest);
    memcpy(image.code, compare, sizeof compare);
    memcpy(image.code + sizeof compare, exit_42, sizeof exit_42);
    image.segments[1].p_offset = 0x50 + PAGE, image.segments[1].p_vaddr = BASE + 0x10050;
    image.segments[1].p_filesz = 0x10;
    whole("ELF: behind the file's part there are zeros", &image, RIGHT);

    image = image_at(BASE, ET_EXEC);
    image.header.e_phnum = 2;
    image.segments[1] = image.segments[0];
    whole("ELF: one segment over the other", &image, RIGHT);
    image.header.e_ident[EI_CLASS] = image.header.e_ident[EI_DATA] = image.header.e_ident[EI_VERSION] = 9;
    image.header.e_version = 7;
    whole("ELF: class and version are nobody's business", &image, RIGHT);
    image = image_at(BASE, ET_EXEC);
    image.header.e_phnum = 4;
    whole("ELF: empty program headers", &image, RIGHT);
}

static void bad_headers(void)
{
    struct image image = image_at(BASE, ET_EXEC);
    equal("ELF: no whole header", run_image(&image, 40), FAILED + ENOEXEC);
    equal("ELF: no whole program header", run_image(&image, 100), FAILED + ENOEXEC);
    equal("an empty file", run_image(&image, 0), FAILED + ENOEXEC);
    image.header.e_ident[0] = 0;
    whole("ELF: no magic number", &image, FAILED + ENOEXEC);
    image = image_at(BASE, ET_REL);
    whole("ELF: an object file", &image, FAILED + ENOEXEC);
    image = image_at(BASE, ET_CORE);
    whole("ELF: a core file", &image, FAILED + ENOEXEC);
    image = image_at(BASE, ET_EXEC);
    image.header.e_machine = EM_AARCH64;
    whole("ELF: another machine", &image, FAILED + ENOEXEC);
    image = image_at(BASE, ET_EXEC);
    image.header.e_phentsize = 32;
    whole("ELF: program headers of another size", &image, FAILED + ENOEXEC);
    image = image_at(BASE, ET_EXEC);
    image.header.e_phnum = 0;
    whole("ELF: no program headers", &image, FAILED + ENOEXEC);
    image.header.e_phnum = 0xffff;
    whole("ELF: too many program headers", &image, FAILED + ENOEXEC);
    image.header.e_phnum = 1;
    image.header.e_phoff = -8ull;
    whole("ELF: program headers nowhere", &image, FAILED + ENOEXEC);
}

static void bad_segments(void)
{
    struct image image = image_at(BASE, ET_EXEC);
    image.segments[0].p_type = PT_NOTE;
    whole("ELF: nothing to load", &image, -SIGSEGV);
    image.header.e_type = ET_DYN;
    whole("ELF: nothing to load, position-independent", &image, -SIGSEGV);
    image = image_at(BASE, ET_EXEC);
    image.segments[0].p_memsz = 1ull << 60;
    whole("ELF: p_memsz huge", &image, -SIGSEGV);
    image.segments[0].p_memsz = -1ull;
    whole("ELF: p_memsz wraps", &image, -SIGSEGV);
    image.segments[0].p_filesz = -1ull;
    whole("ELF: p_filesz wraps", &image, -SIGSEGV);
    image.segments[0].p_filesz = -PAGE + 1ull;
    whole("ELF: p_filesz almost wraps", &image, -SIGSEGV);
    image = image_at(BASE, ET_EXEC);
    image.segments[0].p_filesz = image.segments[0].p_memsz + 1;
    whole("ELF: p_filesz above p_memsz", &image, -SIGSEGV);
    image = image_at(BASE, ET_EXEC);
    image.segments[0].p_offset = 1;
    whole("ELF: p_offset and p_vaddr do not agree", &image, -SIGSEGV);
    image = image_at(BASE, ET_EXEC);
    image.segments[0].p_offset = -(uint64_t)PAGE;
    whole("ELF: p_offset wraps", &image, -SIGSEGV);
    image = image_at(0xffffffff80000000, ET_EXEC);
    whole("ELF: linked to the kernel", &image, -SIGSEGV);
    image = image_at(0x7ffffffff000, ET_EXEC);
    whole("ELF: linked to the end of user memory", &image, -SIGSEGV);
    image = image_at(-(uint64_t)PAGE, ET_EXEC);
    whole("ELF: linked to the end of all memory", &image, -SIGSEGV);
    image = image_at(BASE, ET_EXEC);
    image.header.e_entry = 0xffffffff80000000;
    whole("ELF: entry in the kernel", &image, -SIGSEGV);
    image.header.e_entry = 0x8000000000000000;
    whole("ELF: entry not canonical", &image, -SIGSEGV);
    image = image_at(BASE, ET_EXEC);
    image.segments[0].p_flags = 0;
    whole("ELF: no permissions", &image, -SIGSEGV);
    image = image_at(0, ET_DYN);
    image.header.e_phnum = 2;
    image.segments[1] = image.segments[0];
    image.segments[1].p_vaddr = 1ull << 47;
    whole("ELF: position-independent, too wide", &image, -SIGSEGV);
}

static void interpreters(void)
{
    struct image image = image_at(BASE, ET_EXEC);
    image.header.e_phnum = 2;
    image.segments[1] = image.segments[0];
    image.segments[0] = (Elf64_Phdr){ .p_type = PT_INTERP, .p_offset = offsetof(struct image, path),
                                      .p_filesz = sizeof image.path, .p_memsz = sizeof image.path };
    memset(image.code, 0xcc, sizeof image.code);
    struct image linker = image_at(0, ET_DYN);
    write_file(in_directory("linker"), &linker, sizeof linker, 0755);
    snprintf(image.path, sizeof image.path, "%s", in_directory("linker"));
    whole("linker: position-independent", &image, RIGHT);
    linker = image_at(0x50000000, ET_EXEC);
    write_file(in_directory("linker"), &linker, sizeof linker, 0755);
    whole("linker: at a fixed address", &image, RIGHT);
    linker.header.e_type = ET_REL;
    write_file(in_directory("linker"), &linker, sizeof linker, 0755);
    whole("linker: an object file", &image, -SIGSEGV);
    linker = image_at(BASE, ET_DYN);
    linker.header.e_machine = EM_386;
    write_file(in_directory("linker"), &linker, sizeof linker, 0755);
    whole("linker: of another machine", &image, FAILED + ELIBBAD);
    write_file(in_directory("linker"), "#!/bin/sh\n#                                                     \n", 65, 0755);
    whole("linker: a script", &image, FAILED + ELIBBAD);
    write_file(in_directory("linker"), &linker, 40, 0755);
    whole("linker: too short", &image, FAILED + EIO);
    write_file(in_directory("linker"), &linker, sizeof linker, 0644);
    whole("linker: not executable", &image, FAILED + EACCES);
    unlink(in_directory("linker"));
    whole("linker: missing", &image, FAILED + ENOENT);
    snprintf(image.path, sizeof image.path, "%s", directory);
    whole("linker: a directory", &image, FAILED + EACCES);
    image.path[0] = 0;
    whole("linker: no name", &image, FAILED + EACCES);
    memset(image.path, 'x', sizeof image.path);
    whole("linker: a name without an end", &image, FAILED + ENOEXEC);
    image.segments[0].p_filesz = 1;
    whole("linker: a name too short", &image, FAILED + ENOEXEC);
    image.segments[0].p_filesz = PAGE + 1;
    whole("linker: a name too long", &image, FAILED + ENOEXEC);
    image.segments[0].p_filesz = 10, image.segments[0].p_offset = sizeof image - 5;
    whole("linker: a name beyond the file", &image, FAILED + EIO);
}

/* Runs this program again, which compares its arguments with what the environment says. */
static int run_expecting(int fd, const char *path, int flags, const char *expected)
{
    char *argv[] = { "first", "a", "b c", NULL };
    char variable[1024];
    snprintf(variable, sizeof variable, "EXPECTED=%s", expected);
    char *envp[] = { variable, NULL };
    return run_at(fd, path, argv, envp, flags);
}

static int compare_arguments(int argc, char **argv)
{
    char joined[1024] = "";
    for (int i = 0; i < argc; i++)
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "[%s]", argv[i]);
    if (!strcmp(joined, getenv("EXPECTED")))
        return RIGHT;
    fprintf(stderr, "# %s, not %s\n", joined, getenv("EXPECTED"));
    return WRONG;
}

static void script(const char *name, const char *format, const char *expected)
{
    char text[512], want[1024];
    snprintf(text, sizeof text, format, self);
    char *path = in_directory("script");
    write_file(path, text, strlen(text), 0755);
    snprintf(want, sizeof want, expected, self, path);
    equal(name, run_expecting(AT_FDCWD, path, 0, want), RIGHT);
}

static void bad_script(const char *name, const char *text, size_t len, int error)
{
    write_file(in_directory("script"), text, len, 0755);
    equal(name, run(in_directory("script")), FAILED + error);
}

static void scripts(void)
{
    script("#!: plain", "#!%s\n", "[%s][%s][a][b c]");
    script("#!: one argument", "#!%s -x\n", "[%s][-x][%s][a][b c]");
    script("#!: more are one", "#! \t%s \t-x  y\t \nexit\n", "[%s][-x  y][%s][a][b c]");
    script("#!: without a newline", "#!%s", "[%s][%s][a][b c]");
    char long_line[300];
    int len = snprintf(long_line, sizeof long_line, "#!%s ", self);
    memset(long_line + len, 'y', sizeof long_line - len);
    write_file(in_directory("script"), long_line, sizeof long_line, 0755);
    char want[1024];
    snprintf(want, sizeof want, "[%s][%.*s][%s][a][b c]", self, 255 - len, long_line + len, in_directory("script"));
    equal("#!: a long argument is cut", run_expecting(AT_FDCWD, in_directory("script"), 0, want), RIGHT);
    memset(long_line + 2, '/', sizeof long_line - 2);
    bad_script("#!: a long name is not", long_line, sizeof long_line, ENOEXEC);
    bad_script("#!: no name", "#!\n", 3, ENOEXEC);
    bad_script("#!: blanks alone", "#!  \t \n", 7, ENOEXEC);
    bad_script("#!: nothing more", "#!", 2, EACCES);
    bad_script("#!: no such interpreter", "#!/none\n", 8, ENOENT);
    bad_script("#!: a carriage return", "#!/bin/sh\r\n", 11, ENOENT);
    bad_script("#!: the interpreter is a directory", "#!/tmp\n", 7, EACCES);
    bad_script("a text", "exit 0\n", 7, ENOEXEC);

    /* Each is the interpreter of the next. */
    for (int i = 1; i <= 6; i++) {
        char name[16], text[128];
        snprintf(name, sizeof name, "level%d", i - 1);
        snprintf(text, sizeof text, "#!%s\n", i == 1 ? self : in_directory(name));
        snprintf(name, sizeof name, "level%d", i);
        write_file(in_directory(name), text, strlen(text), 0755);
    }
    snprintf(want, sizeof want, "[%s][%s/level1][%s/level2][%s/level3][%s/level4][%s/level5][a][b c]", self, directory,
             directory, directory, directory, directory);
    equal("#!: five scripts", run_expecting(AT_FDCWD, in_directory("level5"), 0, want), RIGHT);
    equal("#!: six are too many", run(in_directory("level6")), FAILED + ELOOP);
    char text[128];
    snprintf(text, sizeof text, "#!%s\n", in_directory("level1"));
    write_file(in_directory("level1"), text, strlen(text), 0755);
    equal("#!: a circle", run(in_directory("level1")), FAILED + ELOOP);
}

static void names(void)
{
    struct image image = image_at(BASE, ET_EXEC);
    char *program = in_directory("program"), *link = in_directory("link");
    write_file(program, &image, sizeof image, 0755);
    symlink(program, link);
    char *argv[] = { "name", NULL }, *envp[] = { NULL };
    int at = open(directory, O_RDONLY | O_DIRECTORY), fd = open(program, O_RDONLY), path = open(program, O_PATH);
    equal("execveat: a bad descriptor and an absolute name", run_at(-1, program, argv, envp, 0), RIGHT);
    equal("execveat: a bad descriptor", run_at(-1, "program", argv, envp, 0), FAILED + EBADF);
    equal("execveat: in a directory", run_at(at, "program", argv, envp, 0), RIGHT);
    equal("execveat: in a file", run_at(fd, "program", argv, envp, 0), FAILED + ENOTDIR);
    equal("execveat: a descriptor", run_at(fd, "", argv, envp, AT_EMPTY_PATH), RIGHT);
    equal("execveat: an O_PATH descriptor", run_at(path, "", argv, envp, AT_EMPTY_PATH), RIGHT);
    equal("execveat: no name without AT_EMPTY_PATH", run_at(fd, "", argv, envp, 0), FAILED + ENOENT);
    equal("execveat: no name and no descriptor", run_at(-1, "", argv, envp, AT_EMPTY_PATH), FAILED + EBADF);
    equal("execveat: the working directory", run_at(AT_FDCWD, "", argv, envp, AT_EMPTY_PATH), FAILED + EACCES);
    equal("execveat: a directory", run_at(at, "", argv, envp, AT_EMPTY_PATH), FAILED + EACCES);
    equal("execveat: AT_EMPTY_PATH and a name", run_at(at, "program", argv, envp, AT_EMPTY_PATH), RIGHT);
    equal("execveat: a link", run_at(at, "link", argv, envp, 0), RIGHT);
    equal("execveat: a link not to be followed", run_at(at, "link", argv, envp, AT_SYMLINK_NOFOLLOW), FAILED + ELOOP);
    equal("execveat: a file not to be followed", run_at(at, "program", argv, envp, AT_SYMLINK_NOFOLLOW), RIGHT);
    equal("execveat: unknown flags", run_at(at, "program", argv, envp, 1), FAILED + EINVAL);
    equal("execveat: a missing file", run_at(at, "none", argv, envp, 0), FAILED + ENOENT);
    equal("exec: a bad pointer to the name", run_at(at, (char *)1, argv, envp, 0), FAILED + EFAULT);
    char *bad[] = { (char *)1, NULL }, **volatile nowhere = (char **)1;
    equal("exec: a bad pointer to the arguments", run_at(at, "program", nowhere, envp, 0), FAILED + EFAULT);
    equal("exec: a bad argument", run_at(at, "program", bad, envp, 0), FAILED + EFAULT);
    equal("exec: a bad environment", run_at(at, "program", argv, bad, 0), FAILED + EFAULT);

    chmod(program, 0644);
    equal("exec: not executable", run(program), FAILED + EACCES);
    chmod(program, 0755);
    char slash[128];
    snprintf(slash, sizeof slash, "%s/", program);
    equal("exec: a slash behind it", run(slash), FAILED + ENOTDIR);
    mkfifo(in_directory("fifo"), 0755);
    equal("exec: a fifo", run(in_directory("fifo")), FAILED + EACCES);
    equal("exec: a device", run("/dev/null"), FAILED + EACCES);
    char name[4200];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = 0;
    equal("exec: a name too long", run(name), FAILED + ENAMETOOLONG);
    close(fd), close(path);

    /* By descriptor a script is found again through /dev/fd, if the descriptor is still there. */
    char text[128], want[256];
    snprintf(text, sizeof text, "#!%s\n", self);
    write_file(in_directory("script"), text, strlen(text), 0755);
    fd = open(in_directory("script"), O_RDONLY);
    snprintf(want, sizeof want, "[%s][/dev/fd/%d][a][b c]", self, fd);
    equal("execveat: a script", run_expecting(fd, "", AT_EMPTY_PATH, want), RIGHT);
    snprintf(want, sizeof want, "[%s][/dev/fd/%d/script][a][b c]", self, at);
    equal("execveat: a script in a directory", run_expecting(at, "script", 0, want), RIGHT);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    equal("execveat: a script that will be closed", run_at(fd, "", argv, envp, AT_EMPTY_PATH), FAILED + ENOENT);
    fcntl(at, F_SETFD, FD_CLOEXEC);
    equal("execveat: a script in a directory that will be closed", run_at(at, "script", argv, envp, 0), FAILED + ENOENT);
    equal("execveat: a program in a directory that will be closed", run_at(at, "program", argv, envp, 0), RIGHT);
    close(fd), close(at);
}

/* Starts a program that waits, and says when it runs. */
static pid_t start_waiting(const char *path, int *say_end)
{
    int running[2], end[2];
    char *argv[] = { "waiting", NULL }, *envp[] = { NULL };
    char byte;
    if (pipe2(running, O_CLOEXEC) || pipe2(end, O_CLOEXEC))
        _exit(81);
    pid_t child = fork();
    if (child == 0) {
        dup2(running[1], 1), dup2(end[0], 0);
        syscall(SYS_execve, path, argv, envp);
        _exit(FAILED + errno);
    }
    close(running[1]), close(end[0]);
    if (read(running[0], &byte, 1) != 1)
        _exit(82);
    close(running[0]);
    *say_end = end[1];
    return child;
}

static int open_error(const char *path, int flags)
{
    int fd = open(path, flags);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static void busy_files(void)
{
    char *program = in_directory("busy");
    struct stat before, after;
    int end, status;
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "copy", program, NULL);
        _exit(1);
    }
    waitpid(child, &status, 0);
    equal("busy: a copy of this program", status, 0);
    int writer = open(program, O_WRONLY);
    equal("busy: a file that is open for writing", run(program), FAILED + ETXTBSY);
    int second = dup(writer);
    close(writer);
    equal("busy: still open by another descriptor", run(program), FAILED + ETXTBSY);
    close(second);
    child = start_waiting(program, &end);
    stat(program, &before);
    equal("busy: O_WRONLY", open_error(program, O_WRONLY), ETXTBSY);
    equal("busy: O_RDWR", open_error(program, O_RDWR), ETXTBSY);
    equal("busy: O_RDONLY", open_error(program, O_RDONLY), 0);
    equal("busy: O_RDONLY and O_TRUNC", open_error(program, O_RDONLY | O_TRUNC), ETXTBSY);
    equal("busy: O_WRONLY and O_TRUNC", open_error(program, O_WRONLY | O_TRUNC), ETXTBSY);
    equal("busy: truncate", truncate(program, 0) ? errno : 0, ETXTBSY);
    stat(program, &after);
    equal("busy: nothing was cut", before.st_size == after.st_size, 1);
    equal("busy: chmod", chmod(program, 0700), 0);
    int second_end;
    pid_t other = start_waiting(program, &second_end);
    close(end);
    waitpid(child, &status, 0);
    equal("busy: one of two has ended", open_error(program, O_WRONLY), ETXTBSY);
    close(second_end);
    waitpid(other, &status, 0);
    equal("busy: both have ended", open_error(program, O_WRONLY), 0);

    /* A script may be written while it runs, and so may its interpreter's linker; the interpreter may not. */
    char text[128];
    snprintf(text, sizeof text, "#!%s\n", program);
    char *script = in_directory("busy script");
    write_file(script, text, strlen(text), 0755);
    writer = open(script, O_WRONLY);
    equal("busy: a script that is open for writing", run(script), FAILED + ETXTBSY);
    close(writer);
    writer = open(program, O_WRONLY);
    equal("busy: its interpreter", run(script), FAILED + ETXTBSY);
    close(writer);
    child = start_waiting(script, &end);
    equal("busy: a script that runs", open_error(script, O_WRONLY), 0);
    equal("busy: its interpreter runs", open_error(program, O_WRONLY), ETXTBSY);
    close(end);
    waitpid(child, &status, 0);

    char *argv[] = { "name", NULL }, *envp[] = { NULL };
    struct image image = image_at(BASE, ET_EXEC);
    int memory = memfd_create("busy", 0);
    if (write(memory, &image, sizeof image) != sizeof image)
        _exit(83);
    equal("busy: memfd_create is no open", run_at(memory, "", argv, envp, AT_EMPTY_PATH), RIGHT);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    writer = open(path, O_WRONLY);
    equal("busy: a memfd that is open for writing", run_at(memory, "", argv, envp, AT_EMPTY_PATH), FAILED + ETXTBSY);
    close(memory);
    int reader = open(path, O_RDONLY);
    close(writer);
    equal("busy: nobody writes to a memfd", reader < 0 ? RIGHT : run_at(reader, "", argv, envp, AT_EMPTY_PATH), RIGHT);
    close(reader);
}

static int run_sized(size_t count, size_t len, size_t environment)
{
    char *string = malloc(len + 1), **argv = calloc(count + 1, sizeof *argv), *envp[2] = { NULL, NULL };
    memset(string, 'x', len);
    string[len] = 0;
    for (size_t i = 0; i < count; i++)
        argv[i] = string;
    if (environment) {
        envp[0] = malloc(environment + 1);
        memset(envp[0], 'y', environment);
        envp[0][environment] = 0;
    }
    struct image image = image_at(BASE, ET_EXEC);
    write_file(in_directory("p"), &image, sizeof image, 0755);
    int result = run_at(AT_FDCWD, in_directory("p"), argv, envp, 0);
    free(string), free(argv), free(envp[0]);
    return result;
}

static void sizes(void)
{
    equal("strings: the longest", run_sized(1, 131071, 0), RIGHT);
    equal("strings: one longer", run_sized(1, 131072, 0), FAILED + E2BIG);
    equal("strings: in the environment", run_sized(1, 10, 131072), FAILED + E2BIG);
    struct rlimit old, limit;
    getrlimit(RLIMIT_STACK, &old);
    limit = old;
    limit.rlim_cur = 1 << 20;
    setrlimit(RLIMIT_STACK, &limit);
    /* A quarter of it: the pointers to 63 arguments, these, and the file's name. */
    size_t room = (1 << 18) - 63 * 8 - (strlen(in_directory("p")) + 1);
    size_t each = room / 63 - 1;
    equal("strings: a quarter of the stack", run_sized(63, each, 0), RIGHT);
    equal("strings: more", run_sized(63, each + 1, 0), FAILED + E2BIG);
    limit.rlim_cur = 64 << 10;
    setrlimit(RLIMIT_STACK, &limit);
    equal("strings: with a small stack", run_sized(5, 10000, 0), RIGHT);
    equal("strings: more than the stack", run_sized(10, 10000, 0), FAILED + E2BIG);
    setrlimit(RLIMIT_STACK, &old);

    char *none[] = { NULL };
    char variable[] = "EXPECTED=[]", *envp[] = { variable, NULL };
    equal("strings: no arguments make an empty one", run_at(AT_FDCWD, self, none, envp, 0), RIGHT);
    equal("strings: a null array, too", run_at(AT_FDCWD, self, NULL, envp, 0), RIGHT);
}

static void copy_self(const char *to)
{
    static char buffer[1 << 16];
    unlink(to);
    int in = open("/proc/self/exe", O_RDONLY), out = open(to, O_CREAT | O_EXCL | O_WRONLY, 0755);
    ssize_t len;
    while ((len = read(in, buffer, sizeof buffer)) > 0)
        if (write(out, buffer, len) != len)
            _exit(84);
    close(in);
    if (out < 0 || len < 0 || close(out))
        _exit(85);
}

int main(int argc, char **argv)
{
    if (getenv("EXPECTED"))
        return compare_arguments(argc, argv);
    if (argc > 1 && !strcmp(argv[0], "copy")) {
        copy_self(argv[1]);
        return 0;
    }
    if (!getenv("PATH") && !getenv("HOME") && argc >= 1 && (!strcmp(argv[0], "waiting") || strstr(argv[0], "busy"))) {
        char byte = 0;
        return write(1, &byte, 1) != 1 || read(0, &byte, 1) < 0;
    }
    if (!mkdtemp(directory))
        return 86;
    snprintf(self, sizeof self, "%s", in_directory("self"));
    copy_self(self);
    well_formed();
    bad_headers();
    bad_segments();
    interpreters();
    scripts();
    names();
    busy_files();
    sizes();
    return done();
}
