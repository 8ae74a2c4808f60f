# busybox's applets over a tree of files that is built here. Run as `busybox sh applets.sh` on a host and in the kernel
# under test; the outputs must be equal byte for byte. Nothing printed depends on time, inodes, owners or the machine.

export LC_ALL=C TZ=UTC
exec 2>/dev/null
umask 022
cd "${TMPDIR:-/tmp}" || exit 1
rm -rf applets.work
mkdir applets.work && cd applets.work || exit 1

# busybox's own, whatever the host has.
for applet in awk basename bunzip2 bzip2 cat chmod cmp cp cpio crc32 cut date dd diff dirname expand expr find fold \
    grep gunzip gzip head hexdump ln ls md5sum mkdir mv nl od paste patch readlink rev rm rmdir sed seq sha1sum sha256sum sha512sum \
    sort stat strings tac tail tar tee touch tr uniq unexpand uudecode uuencode wc xargs xxd; do
    eval "$applet() { busybox $applet \"\$@\"; }"
done

title() { echo "== $*"; }

title building the tree
i=0
while [ $i -lt 40 ]; do
    directory=tree/d$((i % 7))/e$((i % 3))
    mkdir -p $directory
    seq $i $((i * 37 % 200 + i + 1)) >$directory/numbers$i.txt
    awk -v seed=$i 'BEGIN { x = seed + 1; for (n = 0; n < 60; n++) { x = (x * 1103 + 12345) % 65536;
        printf "%s%d %c%c%c\n", n % 5 ? "line " : "Entry ", x, 97 + x % 26, 97 + int(x / 26) % 26, 97 + int(x / 676) % 26 } }' >$directory/words$i.log
    i=$((i + 1))
done
awk 'BEGIN { x = 7; for (n = 0; n < 20000; n++) { x = (x * 16807) % 2147483647; printf "%c", x % 255 + 1 } }' >tree/binary.dat
: >tree/empty
ln -s d0/e0/words0.log tree/link
ln -s nowhere tree/dangling
ln tree/d1/e1/words1.log tree/hard
chmod 640 tree/d0/e0/words0.log
touch -d '2001-02-03 04:05:06' tree/empty

title find
find tree | sort | md5sum
find tree -type f -name '*.log' | sort | head -5
find tree -type l | sort
find tree -type d | wc -l
find tree -size +1 -name 'words3*' | sort
find tree -name 'numbers1?.txt' -exec busybox wc -l {} \; | sort
find tree -type f -print0 | sort -z | xargs -0 busybox cat | md5sum
find tree -maxdepth 1 | sort
find tree -perm 640 -type f
find tree -newer tree/empty -name 'words39.log'
find tree -empty -type f

title sort and uniq
find tree -name '*.log' | sort | xargs busybox cat >all
sort all | md5sum
sort -r all | md5sum
sort -k2,2n all | head -3
sort -u all | wc -l
sort -k3 -s all | md5sum
cut -d' ' -f1 all | sort | uniq -c
cut -c1-4 all | uniq -d | head -2

title grep
grep -c Entry all
grep -n 'Entry 1[0-9]*5 ' all | head -5
grep -rl 'zz' tree | sort
grep -v line all | wc -l
grep -E -o '[a-z]{3}$' all | sort | uniq -c | sort -k1,1nr -k2 | head -3
grep -q nothing-like-this all; echo "status $?"
grep -i -w 'ENTRY' all | head -1
grep -F '12345' all tree/d0/e0/numbers0.txt | head -2

title sed
sed -n '1,3p;$p' all
sed -e 's/line \([0-9]*\)/<\1>/' -e 's/Entry/&!/g' all | md5sum
sed '/^Entry/d' all | wc -l
sed -n '/^Entry/{s/.*\(...\)$/\1/;p}' all | head -3
sed '2q' all
printf 'a\nb\nc\n' | sed -n 'H;${x;s/\n/,/g;p}'
printf 'abc\n' | sed 'y/abc/xyz/'
cp all edited; sed -i 's/e/E/g' edited; md5sum <edited

title awk
awk '{ sum += $2 } END { print NR, sum }' all
awk '{ count[$1]++ } END { for (k in count) print k, count[k] }' all | sort
awk 'NR % 500 == 0 { printf "%05d:%-10s|%6.2f\n", NR, $1, $2 / 3 }' all
awk 'BEGIN { print length("hello"), toupper("abc"), substr("portcullis", 5, 3), index("gate", "te"), int(7 / 2), 2 * 512 }'
awk -F: '{ print $2 }' <<END
a:b:c
d:e:f
END
awk 'BEGIN { while (("busybox seq 1 3" | getline line) > 0) print "from a pipe", line }'
awk '{ print > ("split" (NR % 3)) }' all; wc -l split0 split1 split2
awk 'BEGIN { "busybox echo command" | getline x; print x; system("busybox echo system"); exit 3 }'; echo "status $?"

title checksums
md5sum tree/binary.dat tree/empty
sha1sum tree/binary.dat
sha256sum tree/binary.dat
sha512sum tree/binary.dat | cut -c1-32
crc32 tree/binary.dat
md5sum tree/d0/e0/* >sums; md5sum -c sums | sort | head -3

title archives
tar cf tree.tar -C tree d0 d1 d2
tar tf tree.tar | sort | md5sum
mkdir unpacked && tar xf tree.tar -C unpacked && diff -r tree/d1 unpacked/d1 && echo same
gzip -c all >all.gz && gunzip -c all.gz | cmp - all && echo gzip same
gzip -9 <tree/binary.dat | gunzip | md5sum
bzip2 -c all >all.bz2 && bunzip2 -c all.bz2 | md5sum
tar cf - -C tree d3 | gzip -c >tree.tgz && gunzip -c tree.tgz | tar tf - | wc -l
(cd tree && find d4 | sort | cpio -o -H newc 2>/dev/null) >tree.cpio
mkdir fromcpio && (cd fromcpio && cpio -i -d 2>/dev/null) <tree.cpio && diff -r tree/d4 fromcpio/d4 && echo cpio same
uuencode binary <tree/binary.dat | uudecode -o decoded && cmp decoded tree/binary.dat && echo uu same

title dd and bytes
dd if=tree/binary.dat of=piece bs=100 skip=3 count=7 2>/dev/null; md5sum <piece; wc -c <piece
dd if=/dev/zero bs=4096 count=50 2>/dev/null | md5sum
dd if=all of=all2 bs=1 count=500 2>/dev/null; dd if=piece of=all2 bs=1 seek=100 conv=notrunc 2>/dev/null; md5sum <all2
head -c 40 tree/binary.dat | od -An -tx1
head -c 32 tree/binary.dat | hexdump -C
head -c 20 tree/binary.dat | xxd -p
strings tree/binary.dat | md5sum

title text
tr a-z A-Z <all | head -2
tr -d aeiou <all | md5sum
tr -cs a-z '\n' <all | sort | uniq -c | sort -rn | head -2
cut -d' ' -f2- all | tail -2
paste -d, split0 split1 | head -2
rev all | head -2
tac all | head -2
nl all | sed -n 3p
fold -w 5 <all | head -3
printf 'a\tb\n' | expand | od -c | head -1
head -3 all | tail -1
tail -n +2395 all
tail -c 12 all
seq -w 8 11 | paste -s -d' ' -
wc all
expr 17 % 5 + 2; expr portcullis : 'port\(.*\)'
basename /a/b/c.txt .txt; dirname /a/b/c.txt

title diff and patch
sed 's/^Entry \(.*\)0 /Entry \10X /' all >changed
diff all changed | md5sum
diff -u all changed | sed 1,2d >changes; wc -l <changes | tr -d ' '
{ echo '--- all'; echo '+++ all'; cat changes; } >patchfile; cp all patched; patch patched <patchfile >/dev/null && cmp patched changed && echo patched
cmp all changed >/dev/null; echo "status $?"
diff all all && echo no difference

title files
cp -r tree copy && diff -r tree copy >/dev/null 2>&1; echo "status $?"
mv copy moved && [ ! -e copy ] && ls moved | head -3
readlink tree/link; readlink tree/dangling
cat tree/link | md5sum
stat -c '%F %s %a' tree/binary.dat tree/empty; stat -c '%F %a' tree/d0
[ tree/hard -ef tree/d1/e1/words1.log ] && echo hard link
stat -c %h tree/hard
date -u -r tree/empty '+%Y-%m-%d %H:%M:%S'
rm -r moved/d*; ls -1 moved # a terminal would get columns
rmdir tree/d0 2>/dev/null; echo "status $?"
chmod 0 piece; ls -l piece | cut -c1-10; chmod u+rw,g+r piece; ls -l piece | cut -c1-10
ls -a tree | head -4
test -s tree/empty; echo "status $?"
xargs -n 3 busybox echo <<END
1 2 3 4 5 6 7
END
seq 1 2000 | xargs busybox echo | wc -w
echo one >tee1; echo two | tee -a tee1 >tee2; cat tee1 tee2

cd .. && rm -rf applets.work
echo end
