// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The first program of `./x linux run`: makes of a bare Linux what the reference kernel's guest is.
 *
 * The program that `/.portcullis/argv` names runs with the environment of `/.portcullis/env`. Its output goes to COM1. Its input
 * comes from there too (`/.portcullis/stdin` says `tty`), or from COM2, where 0xff introduces what is no plain byte: 0xff
 * 0xff is that byte, 0xff 0x00 the end. How it ended goes to the log port: `exit: N`, as the reference kernel has it.
 *
 * If there is a `/.portcullis/disk`, it names a disk with an ext4 file system, which takes this one's place.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { LOG_PORT = 0xe9, EXIT_PORT = 0xf4, ESCAPE = 0xff, INPUT_LIMIT = 64 << 20 };

static void log_line(const char *text)
{
	while (*text)
		outb(*text++, LOG_PORT);
	outb('\n', LOG_PORT);
}

static void __attribute__((noreturn)) end(int code)
{
	char line[32];

	snprintf(line, sizeof line, "exit: %d", code);
	log_line(line);
	sync();
	/* QEMU ends here; a machine without the port ends at the reboot. */
	outl(0, EXIT_PORT);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void __attribute__((noreturn)) fail(const char *what)
{
	char line[256];

	snprintf(line, sizeof line, "init: %s: %s", what, strerror(errno));
	log_line(line);
	end(125);
}

/* What a small file says; empty if it is not there. */
static void word(const char *path, char *text, size_t size)
{
	int file = open(path, O_RDONLY);
	ssize_t n = file < 0 ? 0 : read(file, text, size - 1);

	text[n < 0 ? 0 : n] = 0;
	text[strcspn(text, "\n")] = 0;
	if (file >= 0)
		close(file);
}

/* A file of NUL-terminated strings, as a vector. */
static char **strings(const char *path)
{
	static char none[1];
	struct stat status;
	int file = open(path, O_RDONLY);

	if (file < 0 || fstat(file, &status) < 0)
		fail(path);
	char *text = calloc(1, status.st_size + 1), **vector = calloc(status.st_size + 1, sizeof *vector);
	if (!text || !vector || read(file, text, status.st_size) != status.st_size)
		fail(path);
	close(file);
	unsigned n = 0;
	for (char *p = text; p < text + status.st_size; p += strlen(p) + 1)
		vector[n++] = p;
	if (!n)
		vector[0] = none;
	return vector;
}

static void make_raw(int terminal)
{
	struct termios modes;

	if (tcgetattr(terminal, &modes))
		return;
	cfmakeraw(&modes);
	cfsetspeed(&modes, B115200);
	tcsetattr(terminal, TCSANOW, &modes);
}

/*
 * Copies COM2's bytes into a pipe until either ends. A serial line has no way to say "wait": what the program has not
 * read yet is kept here.
 */
static void __attribute__((noreturn)) feed(int port, int pipe)
{
	unsigned char *kept = NULL, chunk[4096];
	size_t first = 0, length = 0, room = 0;
	int escaped = 0, ended = 0;

	signal(SIGPIPE, SIG_DFL);
	log_line("stdin: ready");
	while (!ended || first < length) {
		struct pollfd ends[2] = {
			{ .fd = ended || length - first > INPUT_LIMIT ? -1 : port, .events = POLLIN },
			{ .fd = pipe, .events = first < length ? POLLOUT : 0 },
		};
		if (poll(ends, 2, -1) < 0 || ends[1].revents & POLLERR)
			break;
		if (ends[1].revents & POLLOUT) {
			size_t most = length - first < sizeof chunk ? length - first : sizeof chunk;
			ssize_t n = write(pipe, kept + first, most);
			if (n > 0)
				first += n;
		}
		if (!(ends[0].revents & POLLIN))
			continue;
		ssize_t n = read(port, chunk, sizeof chunk);
		if (n <= 0)
			break;
		if (first == length)
			first = length = 0;
		if (length + n > room) {
			room = 2 * (length + n);
			kept = realloc(kept, room);
			if (!kept)
				break;
		}
		for (ssize_t i = 0; i < n && !ended; i++) {
			if (!escaped && chunk[i] == ESCAPE)
				escaped = 1;
			else if (escaped && chunk[i] == 0)
				ended = 1;
			else
				kept[length++] = chunk[i], escaped = 0;
		}
	}
	_exit(0);
}

/* The program's input: COM2 by way of a pipe. */
static int stream(void)
{
	int ends[2], port = open("/dev/ttyS1", O_RDWR | O_NOCTTY);

	if (port < 0 || pipe(ends))
		fail("/dev/ttyS1");
	make_raw(port);
	switch (fork()) {
	case -1:
		fail("fork");
	case 0:
		close(ends[0]);
		fcntl(ends[1], F_SETFL, O_NONBLOCK);
		feed(port, ends[1]);
	}
	close(port);
	close(ends[1]);
	return ends[0];
}

static void mount_at(const char *type, const char *at)
{
	mkdir(at, 0755);
	if (mount(type, at, type, 0, NULL) && errno != EBUSY && errno != ENODEV)
		fail(at);
}

/* The file system on `disk` takes the place of this one. */
static void change_root(const char *disk)
{
	mount_at("devtmpfs", "/dev");
	mkdir("/disk", 0755);
	if (mount(disk, "/disk", "ext4", 0, NULL))
		fail(disk);
	if (chdir("/disk") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		fail("changing the root");
}

int main(void)
{
	int status, tty;
	char mode[8], disk[64], name[64];

	if (iopl(3))
		return 125;
	char **argv = strings("/.portcullis/argv"), **env = strings("/.portcullis/env");
	word("/.portcullis/stdin", mode, sizeof mode);
	tty = !strcmp(mode, "tty");
	word("/.portcullis/disk", disk, sizeof disk);
	if (*disk)
		change_root(disk);
	word("/etc/hostname", name, sizeof name);
	sethostname(name, strlen(name));
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");
	mount_at("devpts", "/dev/pts");
	mount_at("tmpfs", "/dev/shm");
	mount_at("debugfs", "/sys/kernel/debug");
	mount_at("tracefs", "/sys/kernel/tracing");
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");

	int console = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
	if (console < 0)
		fail("/dev/ttyS0");
	/* This program is the session's leader: when one ends, Linux throws away what its terminal has not sent yet. */
	if (tty) {
		setsid();
		ioctl(console, TIOCSCTTY, 0);
	} else {
		make_raw(console);
	}
	int input = tty ? console : stream();
	pid_t program = fork();
	if (program < 0)
		fail("fork");
	if (!program) {
		/* No privilege of this program's is inherited but root's. */
		iopl(0);
		if (tty) {
			setpgid(0, 0);
			signal(SIGTTOU, SIG_IGN);
			tcsetpgrp(console, getpid());
			signal(SIGTTOU, SIG_DFL);
		}
		dup2(input, 0);
		dup2(console, 1);
		dup2(console, 2);
		for (int fd = 3; fd < 16; fd++)
			close(fd);
		chdir(access("/root", X_OK) ? "/" : "/root");
		environ = env;
		execvpe(argv[0], argv, env);
		dprintf(2, "%s: %s\n", argv[0], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	for (;;) {
		pid_t gone = wait(&status);
		if (gone == program)
			break;
		if (gone < 0 && errno == ECHILD)
			fail("wait");
	}
	tcdrain(console);
	end(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
