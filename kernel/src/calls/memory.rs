//! The system calls about memory.

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::memory::access::Access;
use crate::memory::address_space::AddressSpace;
use crate::memory::address_space::current_mm;
use crate::memory::map::{MapFlags, Object};
use crate::memory::pkeys;
use crate::memory::remap::RemapFlags;
use crate::memory::vma::{AreaFlags, Prot, Source};
use crate::memory::{PAGE_SIZE, USER_END, page_up, user};
use crate::task;
use crate::task::personality::Personality;
use crate::vfs::mount::MountFlags;

/// The flags that MAP_SHARED_VALIDATE knows; it rejects all others.
const VALIDATED: u32 = abi::MAP_SHARED_VALIDATE
    | abi::MAP_FIXED
    | abi::MAP_FIXED_NOREPLACE
    | abi::MAP_ANONYMOUS
    | abi::MAP_32BIT
    | abi::MAP_GROWSDOWN
    | abi::MAP_LOCKED
    | abi::MAP_NORESERVE
    | abi::MAP_POPULATE
    | abi::MAP_NONBLOCK
    | abi::MAP_STACK;

/// `/dev/zero` (major 1, minor 5), of which each mapping is anonymous memory.
const ZERO_DEVICE: u64 = 1 << 8 | 5;

fn mm() -> &'static AddressSpace {
    current_mm()
}

/// mmap(2).
pub fn sys_mmap(addr: u64, len: u64, prot: u64, flags: u64, fd: u64, offset: u64) -> Result<usize> {
    let (mut prot, flags) = (prot as u32, flags as u32);
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let shared = match flags & abi::MAP_TYPE {
        abi::MAP_PRIVATE => false,
        abi::MAP_SHARED => true,
        abi::MAP_SHARED_VALIDATE if flags & !VALIDATED == 0 => true,
        abi::MAP_SHARED_VALIDATE => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    };
    if flags & abi::MAP_HUGETLB != 0 {
        return Err(Errno::ENOMEM);
    }
    // The ABI's flags beyond those may collide with the internal one.
    let mut map_flags = flags & !MapFlags::FILE_READ_ONLY.bits() & !abi::MAP_TYPE
        | if shared { abi::MAP_SHARED } else { abi::MAP_PRIVATE };
    let object = if flags & abi::MAP_ANONYMOUS != 0 {
        prot = with_implied(prot);
        Object::Anonymous
    } else {
        let file = task::current().files.get(fd)?;
        let inode = file.inode();
        if !file.is_readable() || shared && prot & abi::PROT_WRITE != 0 && !file.is_writable() {
            return Err(Errno::EACCES);
        }
        if file.location().has(MountFlags::NO_EXEC) {
            if prot & abi::PROT_EXEC != 0 {
                return Err(Errno::EPERM);
            }
        } else {
            prot = with_implied(prot);
        }
        if flags & abi::MAP_GROWSDOWN != 0 && inode.file_type() == abi::S_IFREG {
            return Err(Errno::EINVAL);
        }
        if !file.is_writable() {
            map_flags |= MapFlags::FILE_READ_ONLY.bits();
        }
        match inode.file_type() {
            abi::S_IFREG => Object::File { file: inode.clone(), offset, shared },
            abi::S_IFCHR if inode.metadata().rdev == ZERO_DEVICE => Object::Anonymous,
            _ => return Err(Errno::ENODEV),
        }
    };
    mm().map(addr, len, prot, map_flags, object).map(|start| start as usize)
}

/// munmap(2).
pub fn sys_munmap(addr: u64, len: u64) -> Result<usize> {
    mm().unmap(addr, len).map(|()| 0)
}

/// mprotect(2).
pub fn sys_mprotect(addr: u64, len: u64, prot: u64) -> Result<usize> {
    mprotect(addr, len, prot, None)
}

/// This protection, and what the task's personality makes of it.
fn with_implied(prot: u32) -> u32 {
    let implied = prot & abi::PROT_READ != 0 && task::current().process.has_personality(Personality::READ_IMPLIES_EXEC);
    if implied { prot | abi::PROT_EXEC } else { prot }
}

/// mprotect(2), or pkey_mprotect(2) with this key.
pub fn mprotect(addr: u64, len: u64, prot: u64, key: Option<u32>) -> Result<usize> {
    const GROWS: u32 = abi::PROT_GROWSDOWN | abi::PROT_GROWSUP;
    const VALID: u32 = abi::PROT_READ | abi::PROT_WRITE | abi::PROT_EXEC | abi::PROT_SEM | GROWS;
    let wide = prot;
    let prot = with_implied(prot as u32);
    if prot & GROWS == GROWS || !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    page_up(len).and_then(|len| addr.checked_add(len)).ok_or(Errno::ENOMEM)?;
    if wide & !u64::from(VALID) != 0 {
        return Err(Errno::EINVAL);
    }
    let (mut start, mut len) = (addr, len);
    if prot & abi::PROT_GROWSDOWN != 0 {
        let area = mm().area(addr).ok_or(Errno::ENOMEM)?;
        if !area.flags.contains(AreaFlags::GROWS_DOWN) {
            return Err(Errno::EINVAL);
        }
        len = len.saturating_add(start - area.start);
        start = area.start;
    } else if prot & abi::PROT_GROWSUP != 0 {
        return Err(Errno::EINVAL);
    }
    mm().protect(start, len, Prot::from_abi(prot), key).map(|()| 0)
}

/// mremap(2).
pub fn sys_mremap(old: u64, old_len: u64, new_len: u64, flags: u64, target: u64) -> Result<usize> {
    let flags = u32::try_from(flags).ok().and_then(RemapFlags::from_bits).ok_or(Errno::EINVAL)?;
    mm().remap(old, old_len, new_len, flags, target).map(|start| start as usize)
}

/// brk(2).
pub fn sys_brk(end: u64) -> Result<usize> {
    Ok(mm().brk(end) as usize)
}

/// madvise(2).
pub fn sys_madvise(addr: u64, len: u64, advice: u64) -> Result<usize> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::EINVAL)?;
    let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
    // Beyond user memory there is a hole: what lies before it has the advice all the same.
    let has_hole = end > USER_END && len != 0;
    let len = if has_hole { USER_END.saturating_sub(addr) } else { len };
    let flags = |set, clear| mm().set_flags(addr, len, set, clear);
    let none = AreaFlags::empty();
    let advice = advice as u32;
    let check = |result: Result<()>| if len == 0 { Ok(()) } else { result };
    check(match advice {
        abi::MADV_DONTNEED | abi::MADV_DONTNEED_LOCKED | abi::MADV_FREE => {
            let may_be_locked = advice == abi::MADV_DONTNEED_LOCKED;
            let unlocked = mm().all(addr, len, |area| may_be_locked || !area.flags.contains(AreaFlags::LOCKED));
            let anonymous = mm().all(addr, len, |area| matches!(area.source, Source::Anonymous));
            let covered = mm().all(addr, len, |_| true)?;
            if covered && (!unlocked? || advice == abi::MADV_FREE && !anonymous?) {
                return Err(Errno::EINVAL);
            }
            mm().discard(addr, len)
        }
        abi::MADV_DONTFORK => flags(AreaFlags::DONT_FORK, none),
        abi::MADV_DOFORK => flags(none, AreaFlags::DONT_FORK),
        abi::MADV_WIPEONFORK => {
            if !mm().all(addr, len, |area| matches!(area.source, Source::Anonymous))? {
                return Err(Errno::EINVAL);
            }
            flags(AreaFlags::WIPE_ON_FORK, none)
        }
        abi::MADV_KEEPONFORK => flags(none, AreaFlags::WIPE_ON_FORK),
        abi::MADV_POPULATE_READ | abi::MADV_POPULATE_WRITE => {
            let access = if advice == abi::MADV_POPULATE_READ { Access::Read } else { Access::Write };
            if !mm().all(addr, len, |_| true)? {
                return Err(Errno::ENOMEM);
            }
            mm().populate(addr..addr + len, access)
        }
        // Hints that there is nothing to do about.
        abi::MADV_NORMAL
        | abi::MADV_RANDOM
        | abi::MADV_SEQUENTIAL
        | abi::MADV_WILLNEED
        | abi::MADV_MERGEABLE
        | abi::MADV_UNMERGEABLE
        | abi::MADV_HUGEPAGE
        | abi::MADV_NOHUGEPAGE
        | abi::MADV_DONTDUMP
        | abi::MADV_DODUMP
        | abi::MADV_COLD
        | abi::MADV_PAGEOUT => require_mapped(addr, len),
        _ => return Err(Errno::EINVAL),
    })?;
    if has_hole { Err(Errno::ENOMEM) } else { Ok(0) }
}

/// ENOMEM unless all of the range is mapped.
fn require_mapped(addr: u64, len: u64) -> Result<()> {
    match mm().all(addr, len, |_| true) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Errno::ENOMEM),
    }
}

/// msync(2): a file's pages are the memory that is mapped, so there is nothing to write.
pub fn sys_msync(addr: u64, len: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    let (both, known) = (abi::MS_ASYNC | abi::MS_SYNC, abi::MS_ASYNC | abi::MS_SYNC | abi::MS_INVALIDATE);
    if flags & !known != 0 || flags & both == both || !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    require_mapped(addr, len).map(|()| 0)
}

/// mincore(2).
pub fn sys_mincore(addr: u64, len: u64, vector: u64) -> Result<usize> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if !user::is_user_range(addr, len) {
        return Err(Errno::ENOMEM);
    }
    if !user::is_user_range(vector, len.div_ceil(PAGE_SIZE)) {
        return Err(Errno::EFAULT);
    }
    require_mapped(addr, len)?;
    for (index, page) in (addr..addr + len).step_by(PAGE_SIZE as usize).enumerate() {
        user::write(vector + index as u64, &u8::from(mm().is_resident(page)))?;
    }
    Ok(0)
}

/// mlock(2).
pub fn sys_mlock(addr: u64, len: u64) -> Result<usize> {
    sys_mlock2(addr, len, 0)
}

/// mlock2(2). Nothing is ever paged out: what is left to do is to make the pages present.
pub fn sys_mlock2(addr: u64, len: u64, flags: u64) -> Result<usize> {
    if flags & !u64::from(abi::MLOCK_ONFAULT) != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, len) = page_range(addr, len)?;
    mm().set_flags(start, len, AreaFlags::LOCKED, AreaFlags::empty()).map_err(|_| Errno::ENOMEM)?;
    if flags == 0 {
        populate_areas(start, start + len).map_err(|_| Errno::ENOMEM)?;
    }
    Ok(0)
}

/// munlock(2).
pub fn sys_munlock(addr: u64, len: u64) -> Result<usize> {
    let (start, len) = page_range(addr, len)?;
    mm().set_flags(start, len, AreaFlags::empty(), AreaFlags::LOCKED).map_err(|_| Errno::ENOMEM)?;
    Ok(0)
}

/// mlockall(2): what is mapped now; what will be mapped is not made present before it is touched.
pub fn sys_mlockall(flags: u64) -> Result<usize> {
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    if flags == 0 || flags & !(abi::MCL_CURRENT | abi::MCL_FUTURE | abi::MCL_ONFAULT) != 0 || flags == abi::MCL_ONFAULT
    {
        return Err(Errno::EINVAL);
    }
    if flags & (abi::MCL_CURRENT | abi::MCL_ONFAULT) == abi::MCL_CURRENT {
        let _ = populate_areas(0, USER_END);
    }
    Ok(0)
}

/// munlockall(2).
pub fn sys_munlockall() -> Result<usize> {
    let _ = mm().set_flags(0, USER_END, AreaFlags::empty(), AreaFlags::LOCKED);
    Ok(0)
}

/// The whole pages that the range touches.
fn page_range(addr: u64, len: u64) -> Result<(u64, u64)> {
    let offset = addr % PAGE_SIZE;
    let len = len.checked_add(offset).and_then(page_up).ok_or(Errno::EINVAL)?;
    Ok((addr - offset, len))
}

fn populate_areas(start: u64, end: u64) -> Result<()> {
    for area in mm().areas() {
        let range = area.start.max(start)..area.end.min(end);
        if !range.is_empty() && !area.prot.rights().is_empty() {
            mm().populate(range, Access::for_prot(area.prot))?;
        }
    }
    Ok(())
}

/// pkey_alloc(2): a key, and what this task may do with it.
pub fn sys_pkey_alloc(flags: u64, disabled: u64) -> Result<usize> {
    if flags != 0 || disabled & !u64::from(pkeys::DISABLE_ACCESS | pkeys::DISABLE_WRITE) != 0 {
        return Err(Errno::EINVAL);
    }
    if !pkeys::available() {
        return Err(Errno::ENOSPC);
    }
    let key = current_mm().keys().allocate().ok_or(Errno::ENOSPC)?;
    pkeys::set_rights_of(key, disabled as u32);
    Ok(key as usize)
}

/// pkey_free(2). Pages that have the key keep it.
pub fn sys_pkey_free(key: u64) -> Result<usize> {
    let key = key as u32;
    let keys = current_mm().keys();
    keys.free(key)?;
    Ok(0)
}

/// pkey_mprotect(2): mprotect with a key; -1 for none.
pub fn sys_pkey_mprotect(addr: u64, len: u64, prot: u64, key: u64) -> Result<usize> {
    let key = match key as i32 {
        -1 => None,
        key => Some(key as u32),
    };
    mprotect(addr, len, prot, key)
}
