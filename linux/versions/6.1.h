// SPDX-License-Identifier: MIT OR GPL-2.0
/* What the glue calls otherwise in Linux 6.1. */

#define PORTCULLIS_KSTACK_OFFSET_OF_TASK
#define PORTCULLIS_NI_SYSCALL

#define portcullis_check_address_limit() addr_limit_user_check()

#define PORTCULLIS_IA32_ENABLED bool __ia32_enabled __ro_after_init = true;
