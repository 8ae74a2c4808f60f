/* /dev/gate, the reference kernel's test control: text commands in, `key value` lines out. Linux has none. */
#ifndef GATE_H
#define GATE_H

#include "check.h"
#include <fcntl.h>

/* Sends a device a command. False where there is no such device, or it refuses. */
__attribute__((unused)) static int device_command(const char *device, const char *command)
{
    int fd = open(device, O_WRONLY);
    if (fd < 0)
        return 0;
    ssize_t written = write(fd, command, strlen(command));
    close(fd);
    return written == (ssize_t)strlen(command);
}

__attribute__((unused)) static int gate_command(const char *command)
{
    return device_command("/dev/gate", command);
}

/* The value of a device's status line, or -1 if there is none. */
__attribute__((unused)) static long device_status(const char *device, const char *key)
{
    char text[4096], word[64];
    long value;
    int fd = open(device, O_RDONLY), consumed;
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (size <= 0)
        return -1;
    text[size] = 0;
    for (const char *rest = text; sscanf(rest, "%63s %ld%n", word, &value, &consumed) == 2; rest += consumed)
        if (!strcmp(word, key))
            return value;
    return -1;
}

__attribute__((unused)) static long gate_status(const char *key)
{
    return device_status("/dev/gate", key);
}

/* Whether the CPU delivers events by FRED. */
__attribute__((unused)) static int fred(void)
{
    static long is_on = -1;
    if (is_on < 0)
        is_on = gate_status("fred") > 0;
    return (int)is_on;
}

#endif
