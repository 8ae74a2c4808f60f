# In place of kernel/entry/Makefile when PORTCULLIS names the folder `linux/` of Portcullis: Linux's own makefile, without
# the objects that are replaced, and the replacement.

include $(srctree)/kernel/entry/Makefile.linux

obj-y := $(filter-out common.o syscall-common.o syscall_user_dispatch.o kvm.o virt.o, $(obj-y)) portcullis_glue.o portcullis.o

include $(PORTCULLIS)/kbuild/rust.mk

portcullis-header := -DPORTCULLIS_VERSION_H='"$(PORTCULLIS)/versions/$(portcullis-version).h"'

CFLAGS_REMOVE_portcullis_glue.o := -fstack-protector -fstack-protector-strong
CFLAGS_portcullis_glue.o := -fno-stack-protector $(portcullis-header)
CFLAGS_portcullis_offsets.o := $(portcullis-header)

# The glue stands by the crate, not in Linux's tree.
$(obj)/portcullis_glue.o: $(PORTCULLIS)/glue/glue.c FORCE
	$(call if_changed_rule,cc_o_c)

$(obj)/portcullis_offsets.s: $(PORTCULLIS)/glue/offsets.c FORCE
	$(call if_changed_dep,cc_s_c)
