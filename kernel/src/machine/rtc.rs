//! The battery-backed clock (MC146818), read once at boot.

use x86_64::instructions::port::Port;

const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATE_IN_PROGRESS: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const PM: u8 = 1 << 7;
/// Seconds, minutes, hours, day, month, year, century (where QEMU and the firmware keep it).
const REGISTERS: [u8; 7] = [0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x32];

fn read(register: u8) -> u8 {
    // SAFETY: CMOS index and data port; bit 7 of the index (NMI disable) stays clear. Only the boot processor, once.
    unsafe {
        Port::<u8>::new(0x70).write(register);
        Port::<u8>::new(0x71).read()
    }
}

fn snapshot() -> [u8; 7] {
    // A machine without the clock reads all ones; the limit keeps it from hanging here.
    for _ in 0..100_000 {
        if read(STATUS_A) & UPDATE_IN_PROGRESS == 0 {
            break;
        }
    }
    REGISTERS.map(read)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    // Years start in March here, so that the leap day is the last one.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_before_month = (153 * month + 2) / 5;
    365 * year + leap_days + days_before_month + day - 1 - 719_468
}

/// Seconds since 1970-01-01 00:00 UTC; 0 where there is no clock (which is where time starts then).
pub fn seconds() -> u64 {
    let mut raw = snapshot();
    loop {
        let again = snapshot();
        if again == raw {
            break;
        }
        raw = again;
    }
    let status = read(STATUS_B);
    let pm = status & HOURS_24 == 0 && raw[2] & PM != 0;
    if status & HOURS_24 == 0 {
        raw[2] &= !PM;
    }
    let decode = |v: u8| u64::from(if status & BINARY != 0 { v } else { (v >> 4) * 10 + (v & 0xf) });
    let [second, minute, mut hour, day, month, year, century] = raw.map(decode);
    if status & HOURS_24 == 0 {
        hour = hour % 12 + if pm { 12 } else { 0 };
    }
    let century = if (19..=21).contains(&century) { century } else { 20 };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return 0;
    }
    days_since_epoch(century * 100 + year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
}
