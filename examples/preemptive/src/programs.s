# The user programs. The number of a call is in RAX, its arguments in RDI, RSI, RDX, R10; -1 is returned by one that fails.
.set EXIT, 0                # (status)
.set SAY, 1                 # (text, length, number)
.set SPAWN, 2               # (entry, argument, quota, whether it is traced) -> task
.set WAIT, 3                # (task) -> status
.set YIELD, 4               # ()
.set ON_NOTIFICATION, 5     # (handler)
.set NOTIFY, 6              # (task, number)
.set END_UPCALL, 7          # (), RSP as in the beginning of the handler
.set WAIT_STOP, 8           # (task) -> 0: ended, 1: over its quota, 2: at a call, 3: after it
.set RESUME, 9              # (task, quota)
.set PEEK, 10               # (task, register) -> value
.set POKE, 11               # (task, register, value)

# Places in UserRegs.
.set RAX, 10
.set RDX, 12
.set RDI, 14
.set NUMBER, 15             # of the call

.set DATA, 0x500000         # the page that all share
.set TURN, DATA             # whose turn it is
.set READY, DATA + 8        # whether a handler is set
.set COUNT, DATA + 16       # how far the spinner has counted

.macro call_ number, rdi, rsi=$0, rdx=$0, r10=$0
    movq \rdi, %rdi
    movq \rsi, %rsi
    movq \rdx, %rdx
    movq \r10, %r10
    movl $\number, %eax
    syscall
.endm

.macro say text, number=$0
    movq \number, %rdx
    leaq 8f(%rip), %rdi
    movl $(9f - 8f), %esi
    movl $SAY, %eax
    syscall
    jmp 9f
8:  .ascii "\text"
9:
.endm

.macro spawn entry, argument=$0, quota=$0, traced=$0
    leaq \entry(%rip), %rax
    call_ SPAWN, %rax, \argument, \quota, \traced
    movq %rax, %rbx
.endm

.section .user, "a", @progbits
# The first task, at the start of the section.
first:
    say "begins"

    # Two that wait for each other without a call: on one CPU only the timer lets the other run.
    spawn player, $0
    movq %rbx, %rbp
    spawn player, $1
    call_ WAIT, %rbp
    say "the first player had turns:", %rax
    call_ WAIT, %rbx
    say "the second player had turns:", %rax

    # One without a handler, and a handler for one that computes.
    spawn faulter
    call_ WAIT, %rbx
    say "the faulter ended with", %rax
    spawn listener
1:  call_ YIELD, $0
    cmpq $1, READY
    jne 1b
    call_ NOTIFY, %rbx, $7
    call_ WAIT, %rbx
    say "the listener ended with", %rax

    # One that is stopped when its ticks are used up, and stands still until it gets more.
    spawn spinner, $0, $3
    call_ WAIT_STOP, %rbx
    say "the spinner has stopped, for the reason", %rax
    movq COUNT, %rbp
    call_ YIELD, $0
    call_ YIELD, $0
    subq COUNT, %rbp
    say "and counts on by", %rbp
    movq COUNT, %rbp
    call_ RESUME, %rbx, $3
    call_ WAIT_STOP, %rbx
    cmpq COUNT, %rbp
    setb %al
    movzbl %al, %eax
    say "with more ticks it has counted on:", %rax
    call_ NOTIFY, %rbx, $9
    call_ RESUME, %rbx, $0
    call_ WAIT, %rbx
    say "the spinner ended with", %rax

    # One that is traced: its calls are seen, an argument and a result are changed.
    spawn tracee, $0, $0, $1
2:  call_ WAIT_STOP, %rbx
    testq %rax, %rax
    jz 5f
    cmpq $2, %rax
    jne 4f
    call_ PEEK, %rbx, $NUMBER
    movq %rax, %rbp
    say "the tracee makes the call", %rbp
    cmpq $SAY, %rbp
    jne 3f
    call_ POKE, %rbx, $RDX, $2222
3:  call_ RESUME, %rbx, $0
    jmp 2b
4:  call_ PEEK, %rbx, $NUMBER
    cmpq $SAY, %rax
    jne 3b
    call_ POKE, %rbx, $RAX, $42
    jmp 3b
5:  call_ WAIT, %rbx
    say "the tracee ended with", %rax
    call_ EXIT, $0

# Plays 50 times, whenever it is its turn; it is the other's after that.
player:
    movq %rdi, %rbx
    movl $50, %ebp
1:  cmpq %rbx, TURN
    jne 1b
    xorq $1, TURN
    decl %ebp
    jnz 1b
    call_ EXIT, $50

faulter:
    ud2

# Computes until its handler has set R15. What the handler does to other registers is undone.
listener:
    leaq handler(%rip), %rax
    call_ ON_NOTIFICATION, %rax
    movl $5, %ebx
    movq $1, READY
1:  cmpq $0, READY
    jne 1b
    call_ EXIT, %rbx
handler:
    movq %rdi, %rbx
    movq %rsp, %rbp
    say "the listener is notified of", %rbx
    movq $0, READY
    movq %rbp, %rsp
    call_ END_UPCALL, $0

spinner:
    incq COUNT
    jmp spinner

# Says 1111, or so it believes; ends with what that returned.
tracee:
    say "the tracee says", $1111
    call_ EXIT, %rax
.text
