/* The functions of libcap that Linux's seccomp selftest calls, for the width in which Debian has no libcap
 * installed beside the host's own. A set is the kernel's own structure, version 3. */
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

struct _cap_struct {
    struct __user_cap_header_struct header;
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
};

cap_t cap_get_proc(void)
{
    cap_t set = calloc(1, sizeof *set);
    if (!set)
        return NULL;
    set->header.version = _LINUX_CAPABILITY_VERSION_3;
    if (syscall(SYS_capget, &set->header, set->data) == 0)
        return set;
    free(set);
    return NULL;
}

int cap_set_flag(cap_t set, cap_flag_t which, int count, const cap_value_t *values, cap_flag_value_t raise)
{
    for (int i = 0; i < count; i++) {
        struct __user_cap_data_struct *word = &set->data[values[i] / 32];
        __u32 *flags = which == CAP_EFFECTIVE  ? &word->effective
                       : which == CAP_PERMITTED ? &word->permitted
                                                : &word->inheritable;
        __u32 bit = 1u << (values[i] % 32);
        *flags = raise == CAP_SET ? *flags | bit : *flags & ~bit;
    }
    return 0;
}

int cap_get_flag(cap_t set, cap_value_t value, cap_flag_t which, cap_flag_value_t *raised)
{
    const struct __user_cap_data_struct *word = &set->data[value / 32];
    __u32 flags = which == CAP_EFFECTIVE   ? word->effective
                  : which == CAP_PERMITTED ? word->permitted
                                           : word->inheritable;
    *raised = flags & 1u << (value % 32) ? CAP_SET : CAP_CLEAR;
    return 0;
}

int cap_set_proc(cap_t set)
{
    return syscall(SYS_capset, &set->header, set->data);
}

int cap_free(void *set)
{
    free(set);
    return 0;
}
