# In place of arch/x86/entry/Makefile when PORTCULLIS names the folder `linux/` of Portcullis: Linux's own makefile, without
# what is in kernel/entry/portcullis.o.

include $(srctree)/arch/x86/entry/Makefile.linux

ifneq ($(filter 6.1 6.12, $(VERSION).$(PATCHLEVEL)),)
obj-y := $(filter-out common.o, $(obj-y))
else
# Since Linux 6.15 the tables of system calls and the functions that the assembly calls are in one file each. The functions are
# declared to be elsewhere: their bodies are read and none is emitted. `-w`: the compiler finds that odd, and has no name for it.
portcullis-elsewhere := -DPORTCULLIS_ELSEWHERE -w
CFLAGS_syscall_64.o += $(portcullis-elsewhere)
CFLAGS_syscall_32.o += $(portcullis-elsewhere) -Dfred_int80_emulation=portcullis_unused_int80
endif
