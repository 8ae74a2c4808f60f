# In place of arch/x86/entry/Makefile when PORTCULLIS names the folder `linux/` of Portcullis. What common.o had is in
# kernel/entry/portcullis.o.

include $(srctree)/arch/x86/entry/Makefile.linux

obj-y := $(filter-out common.o, $(obj-y))
