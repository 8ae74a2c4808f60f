// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Claims every NMI in the stock kernel that the bench compares with.
 *
 * An NMI that no handler claims is, to Linux, a hardware error: it prints two lines from NMI context, and the row would
 * measure printing. With this handler the row measures the crossing, and Linux's own list of handlers.
 */
#include <linux/module.h>
#include <asm/nmi.h>

static int claim(unsigned int type, struct pt_regs *regs)
{
	return NMI_HANDLED;
}

static int __init nmi_claim_init(void)
{
	return register_nmi_handler(NMI_LOCAL, claim, 0, "portcullis_bench");
}

static void __exit nmi_claim_exit(void)
{
	unregister_nmi_handler(NMI_LOCAL, "portcullis_bench");
}

module_init(nmi_claim_init);
module_exit(nmi_claim_exit);
MODULE_DESCRIPTION("Claims NMIs, so that the bench measures the crossing and not the message");
MODULE_LICENSE("Dual MIT/GPL");
