/* /dev/hooks, /dev/audit and /dev/trace, by which the reference kernel lets tests arm the gate's hooks and see what they did.
 * Linux has none of them.
 */
#ifndef HOOKS_H
#define HOOKS_H

#include "gate.h"

__attribute__((format(printf, 2, 3), unused))
static int control(const char *device, const char *format, ...)
{
    char command[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    return device_command(device, command);
}

__attribute__((unused)) static long hooks_status(const char *key)
{
    return device_status("/dev/hooks", key);
}

/* Whether the kernel has the devices; a skip says so otherwise. */
__attribute__((unused)) static int has_hooks(const char *name)
{
    if (access("/dev/hooks", F_OK) == 0)
        return 1;
    skip(name, "no /dev/hooks, which only the reference kernel has");
    return 0;
}

/* No hook was called in a state in which it must not be, or without its flag; `hook` is the one under test. Seen with debug
 * assertions only.
 */
__attribute__((unused)) static void check_violations(const char *hook)
{
    char key[64], name[64];
    if (access("/dev/hooks", F_OK) != 0)
        return;
    snprintf(key, sizeof key, "violations.%s", hook);
    snprintf(name, sizeof name, "the hook %s is called in its state", hook);
    check(hooks_status(key) == 0, name, "%ld times it was not", hooks_status(key));
    check(hooks_status("violations") == 0, "and so is every other", "%ld times one was not", hooks_status("violations"));
}

/* What a device shows, in memory that is used again by the next call. */
__attribute__((unused)) static char *device_text(const char *device)
{
    static char text[512 * 1024];
    size_t size = 0;
    ssize_t got;
    int fd = open(device, O_RDONLY);
    while (fd >= 0 && size < sizeof text - 1 && (got = read(fd, text + size, sizeof text - 1 - size)) > 0)
        size += got;
    if (fd >= 0)
        close(fd);
    text[size] = 0;
    return text;
}

/* How many lines contain all of the given words. */
__attribute__((unused)) static int count_lines(const char *text, const char *one, const char *two, const char *three)
{
    char line[512];
    int count = 0;
    while (*text) {
        size_t length = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s ", (int)(length < 500 ? length : 500), text);
        count += strstr(line, one) && strstr(line, two) && strstr(line, three);
        text += length + (text[length] == '\n');
    }
    return count;
}

#endif
