# What busybox's shell does with processes, pipes and signals. Run as `busybox sh shell.sh` on a host and in the kernel
# under test; the outputs must be equal byte for byte. Nothing printed depends on time, process ids or the machine.

export LC_ALL=C
exec 2>/dev/null # messages on ended jobs come when they come
cd "${TMPDIR:-/tmp}" || exit 1
rm -rf shell.work
mkdir shell.work && cd shell.work || exit 1

# The applets under test are busybox's, not the host's.
for applet in cat cut false grep head kill mkfifo printf rm seq sleep sort tail tee touch tr true uniq wc yes env id; do
    case $applet in
    kill | printf | true | false) ;; # builtins
    *) eval "$applet() { busybox $applet \"\$@\"; }" ;;
    esac
done

title() { echo "== $*"; }

title arithmetic
echo $((1 + 2 * 3)) $((7 / 2)) $((7 % 3)) $((1 << 40)) $((0x7fffffff + 1)) $((~5)) $((5 > 3 && 2 < 1))
i=0; sum=0
while [ $i -lt 100 ]; do i=$((i + 1)); sum=$((sum + i)); done
echo sum $sum
echo $((-9223372036854775807 - 1))

title variables and expansion
name=portcullis
echo "${name}" "${#name}" "${name#port}" "${name%lis}" "${unset:-default}" "${name:+set}" "${name:4:4}"
set -- one 'two words' three
echo $# "$2" "$*"
for word in "$@"; do echo "<$word>"; done
shift; echo "$1"
IFS=:; set -- a:b:c; IFS=' '; echo $#
echo *.none
touch b.txt a.txt c.txt; echo *.txt [ab].txt

title here-documents
cat <<END
name is $name, sum is $((sum * 2))
END
cat <<'END'
no $expansion here
END
cat <<-END
	tabs are gone
	END

title pipes
seq 1 1000 | sort -rn | head -3
seq 1 20 | grep 1 | tr '\n' ' '; echo
yes pipe | head -5 | uniq -c | tr -s ' '
printf '%s\n' c a b | sort | tee sorted | wc -l | tr -d ' '
cat sorted
seq 1 100000 | wc -c | tr -d ' '
seq 1 50000 | cat | cat | cat | cat | tail -1
true | false; echo "last of a pipe: $?"
false | true; echo "last of a pipe: $?"

title subshells and groups
value=outer
(value=inner; echo $value; exit 3); echo "$? $value"
{ echo in a group; echo still; } | cat
echo $(echo nested $(echo deeper $(echo deepest)))
(cd / && echo "$(pwd)"); [ "$(pwd)" != / ] && echo "directory kept"
echo `echo backquotes`

title redirections
echo first >file; echo second >>file; cat <file
{ echo to stdout; echo to stderr >&2; } 2>errors >output; cat errors output
exec 3>third; echo through three >&3; exec 3>&-; cat third
cat nonexistent 2>/dev/null || echo "status $?"
{ echo swapped >&2; } 2>&1

title functions and control flow
factorial() { if [ "$1" -le 1 ]; then echo 1; else echo $(($1 * $(factorial $(($1 - 1))))); fi; }
factorial 10
early() { local local_value=7; return $local_value; echo never; }
early; echo "returned $? ${local_value:-unset}"
for n in 1 2 3 4 5; do [ $n = 2 ] && continue; [ $n = 4 ] && break; echo n $n; done
case portcullis in p*s) echo matches ;; *) echo does not ;; esac
until false; do echo once; break; done
n=0; while :; do n=$((n + 1)); [ $n -ge 5 ] && break; done; echo $n

title background jobs
(exit 4) & wait $!; echo "waited $?"
sleep 0.05 & sleep 0.02 & wait; echo all done
{ for n in 3 1 2; do (sleep 0.$n; echo job $n) & done; wait; } | sort
(sleep 60; echo never) & victim=$!; kill $victim; wait $victim; echo "killed $?"
(sleep 60; echo never) & victim=$!; kill -9 $victim; wait $victim; echo "killed $?"
seq 1 2000 >stream & first=$!; seq 1 3000 >stream2 & second=$!
wait $first $second; cat stream stream2 | wc -l | tr -d ' '

title traps
(trap 'echo caught TERM' TERM; kill -TERM $(busybox sh -c 'echo $PPID'); echo after) 
(trap 'echo leaving' EXIT; echo working)
(trap '' TERM; busybox sh -c 'kill -TERM $PPID'; echo survived)
(trap 'echo USR1' USR1; busybox sh -c 'kill -USR1 $PPID'; busybox sh -c 'kill -USR1 $PPID'; echo two)
(busybox sh -c 'kill -TERM $$'; echo "child died with $?")
busybox sh -c 'trap "echo got INT; exit 9" INT; kill -INT $$; sleep 1'; echo "exit $?"
# Whatever the load: what is to be interrupted sleeps, and what is to be continued has stopped.
in_state() { until read -r _ _ state _ </proc/$1/stat && [ "$state" = $2 ]; do :; done; }
(trap "echo in time" ALRM; shell=$(busybox sh -c 'echo $PPID'); (in_state $shell S; kill -ALRM $shell) & wait; echo woken; wait)
busybox sh -c 'kill -STOP $$; echo continued' & stopped=$!
in_state $stopped T; kill -CONT $stopped; wait $stopped; echo "status $?"

title a broken pipe
(yes; echo "yes ended" >&2) 2>/dev/null | head -2
seq 1 1000000 | head -1

title fifos
mkfifo channel
(echo through a fifo >channel) & cat channel; wait
(seq 1 5 >channel) & while read line; do echo "got $line"; done <channel; wait

title exec and environment
(exec busybox echo replaced; echo never)
MARK=set busybox sh -c 'echo $MARK'
env -i ONLY=this busybox env
busybox sh -c 'exit 42'; echo "exit $?"
busybox sh -c 'busybox nonsense 2>/dev/null'; echo "exit $?"
/nonexistent/program 2>/dev/null; echo "exit $?"
./a.txt 2>/dev/null; echo "exit $?"
busybox sh -c 'echo "$0 $1 $#"' zero one two
echo 'echo a script with $# arguments; exit 5' >script; busybox sh script x y z; echo "exit $?"
busybox timeout 1 busybox sleep 10; echo "timeout $?"

title reading
printf 'one two three\nfour\n' | while read a b; do echo "$a|$b"; done
echo 'back\slash' | { read -r line; echo "$line"; }
printf 'no newline' | { read line; echo "$? $line"; }

title many processes
n=0; while [ $n -lt 60 ]; do busybox true & n=$((n + 1)); done; wait; echo $n
total=0; for n in 1 2 3 4 5 6 7 8 9 10; do total=$((total + $(busybox expr $n \* $n))); done; echo $total

cd .. && rm -rf shell.work
echo end
