# The Rust object: `core` and the library as metadata with all code in it, the crate as one object that holds what it uses
# of them. No cargo, no panic handler: a panic that could be reached is an undefined symbol when the kernel is linked.

PORTCULLIS_RUSTC ?= /usr/bin/rustc
ifndef PORTCULLIS_RUST_SRC
# Without make's flags: rustc would look for a job server in them.
PORTCULLIS_RUST_SRC := $(shell MAKEFLAGS= $(PORTCULLIS_RUSTC) --print sysroot)/lib/rustlib/src/rust/library
endif

# Which Linux this is: `cfg(linux_6_12)`, and the files of versions/.
portcullis-version := $(VERSION).$(PATCHLEVEL)
rust-cfg := --cfg=linux_$(VERSION)_$(PATCHLEVEL)
ifneq ($(CONFIG_KVM_XFER_TO_GUEST_WORK)$(CONFIG_VIRT_XFER_TO_GUEST_WORK),)
rust-cfg += --cfg=portcullis_guests
endif

rust-dir := $(obj)/portcullis-rust
rust-crate := $(PORTCULLIS)/src
rust-library := $(PORTCULLIS)/../portcullis/src

# The same code-generation flags for all crates: some of them change the ABI.
rust-flags := -Cpanic=abort -Copt-level=2 -Ccodegen-units=1 -Cdebuginfo=0 -Cdebug-assertions=n -Coverflow-checks=n \
	-Crelocation-model=static -Cno-redzone=y -Cforce-unwind-tables=n -Zfunction-sections=n -Cjump-tables=n
ifdef CONFIG_X86_64
rust-flags += --target=x86_64-unknown-none -Ccode-model=kernel
else
rust-flags += --target=$(PORTCULLIS)/kbuild/i686.json -Zunstable-options -Zregparm=3
ifdef CONFIG_X86_CMOV
rust-flags += -Ctarget-cpu=i686
endif
endif
ifneq ($(CONFIG_RETPOLINE)$(CONFIG_MITIGATION_RETPOLINE),)
rust-flags += -Zretpoline-external-thunk
endif
ifneq ($(CONFIG_RETHUNK)$(CONFIG_MITIGATION_RETHUNK),)
rust-flags += -Zfunction-return=thunk-extern
endif
ifneq ($(CONFIG_SLS)$(CONFIG_MITIGATION_SLS),)
rust-flags += -Ctarget-feature=+harden-sls-ret,+harden-sls-ijmp
endif
ifdef CONFIG_X86_KERNEL_IBT
rust-flags += -Zcf-protection=branch
endif
# Room before each function, for call thunks.
ifdef CONFIG_CALL_PADDING
rust-flags += -Zpatchable-function-entry=$(CONFIG_FUNCTION_PADDING_BYTES),$(CONFIG_FUNCTION_PADDING_BYTES)
endif
ifdef CONFIG_FRAME_POINTER
rust-flags += -Cforce-frame-pointers=y
endif

rust-cmd = MAKEFLAGS= RUSTC_BOOTSTRAP=1 $(PORTCULLIS_RUSTC) --sysroot=/dev/null --edition=2024 $(rust-flags) -L $(rust-dir)

quiet_cmd_portcullis_core = RUSTC M $@
      cmd_portcullis_core = mkdir -p $(rust-dir) && $(rust-cmd) --crate-name=core --crate-type=rlib --cap-lints=allow \
	-Zalways-encode-mir --cfg=no_fp_fmt_parse --emit=metadata=$@ $(PORTCULLIS_RUST_SRC)/core/src/lib.rs

$(rust-dir)/libcore.rmeta: FORCE
	$(call if_changed,portcullis_core)

quiet_cmd_portcullis_builtins = RUSTC M $@
      cmd_portcullis_builtins = $(rust-cmd) --crate-name=compiler_builtins --crate-type=rlib --emit=metadata=$@ $<

$(rust-dir)/libcompiler_builtins.rmeta: $(PORTCULLIS)/kbuild/compiler_builtins.rs $(rust-dir)/libcore.rmeta FORCE
	$(call if_changed,portcullis_builtins)

quiet_cmd_portcullis_library = RUSTC M $@
      cmd_portcullis_library = $(rust-cmd) --crate-name=portcullis --crate-type=rlib --cap-lints=allow \
	-Zalways-encode-mir --cfg=portcullis_policy_only --emit=metadata=$@ $(rust-library)/lib.rs

$(rust-dir)/libportcullis.rmeta: $(rust-dir)/libcore.rmeta $(rust-dir)/libcompiler_builtins.rmeta $(wildcard $(rust-library)/*.rs) FORCE
	$(call if_changed,portcullis_library)

rust-abi := $(PORTCULLIS)/../crates/linux-abi/src

quiet_cmd_portcullis_abi = RUSTC M $@
      cmd_portcullis_abi = $(rust-cmd) --crate-name=portcullis_linux_abi --crate-type=rlib --cap-lints=allow \
	-Zalways-encode-mir --emit=metadata=$@ $(rust-abi)/lib.rs

$(rust-dir)/libportcullis_linux_abi.rmeta: $(rust-dir)/libcore.rmeta $(rust-dir)/libcompiler_builtins.rmeta $(wildcard $(rust-abi)/*.rs) FORCE
	$(call if_changed,portcullis_abi)

# What only the C compiler knows, as constants.
quiet_cmd_portcullis_offsets = GEN     $@
      cmd_portcullis_offsets = sed -ne 's:^[[:space:]]*\.ascii[[:space:]]*"->\([A-Z0-9_]*\) [$$\#]*\(-\{0,1\}[0-9]*\) .*:pub const \1\: usize = \2_i64 as usize;:p' $< > $@

$(obj)/portcullis_offsets.rs: $(obj)/portcullis_offsets.s FORCE
	$(call if_changed,portcullis_offsets)

# objtool's marks in kernels that have no objtool, for a test to read.
ifdef PORTCULLIS_ANNOTATED
rust-annotated := --cfg=CONFIG_NOINSTR_VALIDATION
endif

quiet_cmd_portcullis_crate = RUSTC   $@
      cmd_portcullis_crate = PORTCULLIS_OFFSETS=$(abspath $(obj)/portcullis_offsets.rs) $(rust-cmd) \
	--crate-name=portcullis_linux --crate-type=rlib --extern=portcullis=$(rust-dir)/libportcullis.rmeta \
	--extern=portcullis_linux_abi=$(rust-dir)/libportcullis_linux_abi.rmeta @$(objtree)/include/generated/rustc_cfg \
	$(rust-cfg) $(rust-annotated) --emit=obj=$@ $(rust-crate)/lib.rs $(cmd_objtool)

$(obj)/portcullis.o: $(rust-dir)/libportcullis.rmeta $(rust-dir)/libportcullis_linux_abi.rmeta $(obj)/portcullis_offsets.rs $(wildcard $(rust-crate)/*.rs) \
		$(wildcard $(PORTCULLIS)/versions/*.rs) \
		$(objtree)/include/generated/rustc_cfg FORCE
	$(call if_changed,portcullis_crate)

targets += portcullis-rust/libcore.rmeta portcullis-rust/libcompiler_builtins.rmeta portcullis-rust/libportcullis.rmeta portcullis-rust/libportcullis_linux_abi.rmeta portcullis_offsets.s portcullis_offsets.rs
clean-files += portcullis-rust
