/*
 * What the measuring programs have in common: the counter, the output, the loops. For both widths.
 *
 * Under `qemu -accel tcg -icount shift=0,sleep=off` every executed instruction advances the time-stamp counter by one.
 * The including file says how to write: `write_out(text, length)`.
 */

typedef unsigned long long u64;

static long write_out(const char *text, unsigned long length);

static inline u64 rdtsc(void)
{
	unsigned lo, hi;
	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (u64)hi << 32 | lo;
}

/* ---- output: one write per line, so that the lines stay whole ---- */

static char line[512];
static unsigned len;
static int quiet;

static void put(const char *s)
{
	while (*s && len < sizeof line)
		line[len++] = *s++;
}

static void put_number(unsigned long n)
{
	char digits[21], *p = digits + sizeof digits - 1;
	*p = 0;
	do
		*--p = '0' + n % 10;
	while (n /= 10);
	put(p);
}

static void flush(void)
{
	put("\n");
	for (unsigned done = 0; !quiet && done < len;) {
		long n = write_out(line + done, len - done);
		if (n <= 0)
			break;
		done += n;
	}
	len = 0;
}

static void row(const char *name, unsigned long instructions)
{
	put("{\"row\":\"");
	put(name);
	put("\",\"instructions\":");
	put_number(instructions);
	put("}");
	flush();
}

static void missing(const char *name, const char *why)
{
	put("{\"row\":\"");
	put(name);
	put("\",\"missing\":\"");
	put(why);
	put("\"}");
	flush();
}

/* ---- batches: the loop is assembly, so that a compiler cannot make the two loops differ ---- */

enum { BATCHES = 64, ROUNDS = 128 };

/* Runs `body` ROUNDS times between two RDTSC. (E|R)BX counts; the body may use what is named as clobbered. */
#ifdef __x86_64__
#define COUNTER "%%rbx"
#define AX "%%rax"
#define SP "%%rsp"
#define BODY_USES "rax", "rcx", "rdx", "rdi", "rsi", "r8", "r9", "r10", "r11", "memory", "cc"
#else
#define COUNTER "%%ebx"
#define AX "%%eax"
#define SP "%%esp"
#define BODY_USES "eax", "ecx", "edx", "esi", "edi", "memory", "cc"
#endif
#define TIME_LOOP(body, ...)                                                              \
	({                                                                                \
		unsigned long rounds_ = ROUNDS;                                           \
		u64 start_ = rdtsc();                                                     \
		asm volatile("1:\n\t" body "\n\tdec " COUNTER "\n\tjnz 1b"                  \
			     : "+b"(rounds_) : __VA_ARGS__ : BODY_USES);                  \
		rdtsc() - start_;                                                         \
	})

#define MINIMUM(body, ...)                                                                \
	({                                                                                \
		u64 least_ = ~0ull;                                                       \
		for (unsigned batch_ = 0; batch_ < BATCHES; batch_++) {                   \
			u64 t_ = TIME_LOOP(body, __VA_ARGS__);                            \
			if (t_ < least_)                                                  \
				least_ = t_;                                              \
		}                                                                         \
		least_;                                                                   \
	})

/* Nearest whole number of instructions per round. */
static unsigned long per_round(u64 batch, u64 empty, unsigned long rounds)
{
	return ((unsigned long)(batch - empty) + rounds / 2) / rounds;
}

/* ---- memory ---- */

enum { PAGES = 128, PAGE = 4096, PROT_RW = 3, MAP_PRIVATE_ANONYMOUS = 0x22 };

/* One access to each of PAGES pages, in pages that follow each other. */
#define TOUCH_EACH_PAGE(access, start)                                                    \
	({                                                                                \
		char *p_ = (start);                                                       \
		unsigned long pages_ = PAGES;                                             \
		u64 start_ = rdtsc();                                                     \
		asm volatile("1:\n\t" access "\n\tadd %2, %0\n\tdec %1\n\tjnz 1b"         \
			     : "+r"(p_), "+r"(pages_) : "i"(PAGE) : "memory", "cc");      \
		rdtsc() - start_;                                                         \
	})

/* Mapping and unmapping stay outside of the measured part; page-table pages are part of what a fresh range costs. */
#define MEASURE_MINOR_FAULTS(name, access)                                                \
	do {                                                                              \
		u64 least_ = ~0ull, empty_ = ~0ull;                                         \
		for (unsigned batch_ = 0; batch_ < BATCHES; batch_++) {                   \
			char *range_ = map(PAGES * PAGE);                                 \
			u64 fresh_ = TOUCH_EACH_PAGE(access, range_);                     \
			u64 again_ = TOUCH_EACH_PAGE(access, range_);                     \
			least_ = fresh_ < least_ ? fresh_ : least_;                       \
			empty_ = again_ < empty_ ? again_ : empty_;                       \
			unmap(range_, PAGES * PAGE);                                      \
		}                                                                         \
		row(name, per_round(least_, empty_, PAGES));                              \
	} while (0)

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}
