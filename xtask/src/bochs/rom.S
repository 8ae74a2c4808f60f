# The machine's firmware on Bochs: 64 KiB that bring the processor from the reset vector to the kernel's PVH entry point.
#
# 1. Real mode, at 0xfffffff0: protected mode with flat segments, no paging.
# 2. The mark in CMOS RAM, which a reset leaves alone: the second time here the guest is done (the kernel ends by a triple
#    fault), and Bochs is told to end.
# 3. The first disk's sector 0 says what goes where (disk.rs writes it):
#
#        0x000  destination, number of sectors: 32 bits each, for each part in the order of the sectors that follow
#               …
#               0, 0
#        0x1f8  the kernel's entry point
#        0x1fc  hvm_start_info
#
# 4. The kernel's entry point, as PVH has it: 32 bits, EBX = hvm_start_info.
#
# Assembled by rom.rs: as --32, the bytes of .rom.

        .set ROM, 0xffff0000            # where the last 64 KiB below 4 GiB begin
        .set HEAD, 0x7000               # sector 0 goes here
        .set ENTRY, HEAD + 0x1f8
        .set START_INFO, HEAD + 0x1fc

        .set CODE, 0x08                 # the GDT's selectors
        .set DATA, 0x10

        .set CMOS_INDEX, 0x70
        .set CMOS_DATA, 0x71
        .set CMOS_MARK, 0x5f            # a byte of CMOS RAM that has no meaning
        .set MARK, 0xa5

        .set DEBUG_PORT, 0xe9           # the kernel's log
        .set SHUTDOWN_PORT, 0x8900      # ends Bochs when the word has been written to it

        .set ATA, 0x1f0
        .set ATA_COUNT, ATA + 2         # then the sector's number in three bytes, its upper 4 bits and LBA, the command
        .set ATA_LBA, 0xe0
        .set ATA_READ, 0x20
        .set ATA_BUSY, 0x80
        .set ATA_DATA, 0x08

        .section .rom, "ax"
        .code16
rom:    cli
        cld
        lgdtl   %cs:gdtr - rom
        movl    $0x11, %eax             # PE, ET
        movl    %eax, %cr0
        ljmpl   $CODE, $(ROM + flat - rom)

        .code32
flat:   movw    $DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $HEAD, %esp

# Here before?
        movb    $CMOS_MARK, %al
        outb    %al, $CMOS_INDEX
        inb     $CMOS_DATA, %al
        cmpb    $MARK, %al
        movl    $(ROM + shutdown - rom), %esi
        movl    $(shutdown_end - shutdown), %ecx
        movw    $SHUTDOWN_PORT, %dx
        je      say
        movb    $MARK, %al
        outb    %al, $CMOS_DATA

# The disk's parts. EBP: the next sector.
        xorl    %ebp, %ebp
        movl    $HEAD, %edi
        movl    $1, %esi
        call    read
        movl    $HEAD, %ebx
1:      movl    (%ebx), %edi
        movl    4(%ebx), %esi
        testl   %esi, %esi
        jz      2f
        call    read
        addl    $8, %ebx
        jmp     1b

# The log begins after this line.
2:      movl    $(ROM + booting - rom), %esi
        movl    $(booting_end - booting), %ecx
        movw    $DEBUG_PORT, %dx
        rep outsb
        movl    START_INFO, %ebx
        jmp     *ENTRY

say:    rep outsb
        hlt

# Reads ESI sectors, from sector EBP, to EDI. Each is a command: PIO, polled.
read:   movw    $ATA_COUNT, %dx
        movb    $1, %al
        outb    %al, %dx
        movl    %ebp, %eax
        .rept   3
        incw    %dx
        outb    %al, %dx
        shrl    $8, %eax
        .endr
        incw    %dx
        orb     $ATA_LBA, %al
        outb    %al, %dx
        incw    %dx
        movb    $ATA_READ, %al
        outb    %al, %dx
1:      inb     %dx, %al                # the command's port reads as the status
        andb    $(ATA_BUSY | ATA_DATA), %al
        cmpb    $ATA_DATA, %al
        jne     1b
        movw    $ATA, %dx
        movl    $128, %ecx
        rep insl
        incl    %ebp
        decl    %esi
        jnz     read
        ret

booting: .ascii "rom: the kernel follows\n"
booting_end:
shutdown: .ascii "Shutdown"
shutdown_end:

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      # CODE: 32 bits, 4 GiB, accessed
        .quad   0x00cf93000000ffff      # DATA
gdtr:   .word   . - gdt - 1
        .long   ROM + gdt - rom

        .org    0xfff0                  # the reset vector
        .code16
        jmp     rom
        .org    0x10000
