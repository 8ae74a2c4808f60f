/* What gdb debugs: see xtask/src/test/sessions.rs. Compiled with -g -O0, dynamically linked. */
#include <stdio.h>

int counter;

static void add(int n)
{
    counter += n;
}

int main(void)
{
    puts("begin");
    add(1);
    add(2);
    printf("counter %d\n", counter);
    return 3;
}
