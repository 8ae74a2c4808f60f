// SPDX-License-Identifier: MIT OR GPL-2.0
/* What the glue calls otherwise in Linux 6.12. */

#define PORTCULLIS_KSTACK_OFFSET_OF_TASK
#define PORTCULLIS_PCPU_HOT
#define PORTCULLIS_NI_SYSCALL

#define portcullis_check_address_limit() do { } while (0)

/* With the parameter `ia32_emulation=`. */
#define PORTCULLIS_IA32_ENABLED \
	bool __ia32_enabled __ro_after_init = !IS_ENABLED(CONFIG_IA32_EMULATION_DEFAULT_DISABLED); \
	static int __init portcullis_set_ia32_enabled(char *value) \
	{ \
		return kstrtobool(value, &__ia32_enabled); \
	} \
	early_param("ia32_emulation", portcullis_set_ia32_enabled);
