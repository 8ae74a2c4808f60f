# Runs in Linux with `preempt=MODE` on its command line: prints what Linux says the mode is, and whether interrupts preempted
# two programs that are in the kernel nearly all of the time, on one CPU.
mode=$1
cd /sys/kernel/tracing || exit
echo 'p:preempted preempt_schedule_irq' >kprobe_events || exit
echo 1 >events/kprobes/preempted/enable || exit
dd if=/dev/zero of=/dev/null bs=1M count=10000000 2>/dev/null &
first=$!
dd if=/dev/zero of=/dev/null bs=1M count=10000000 2>/dev/null &
second=$!
# How often the first had to make room, and how often it did so at the end of an interrupt.
look() {
	switches=$(sed -n 's/^nonvoluntary_ctxt_switches:[^0-9]*//p' /proc/$first/status)
	read -r _ hits _ <kprobe_profile
}
look
while [ "$switches" -lt 50 ] || { [ "$mode" = full ] && [ "$hits" = 0 ]; }; do
	sleep 0.1
	look
done
kill $first $second
dmesg | sed -n 's/.*Dynamic Preempt: \([a-z]*\).*/mode \1/p'
if [ "$hits" = 0 ]; then echo 'interrupts preempt: no'; else echo 'interrupts preempt: yes'; fi
