//! What instruction counts hide: memory accesses, and the instructions that take tens of cycles each because they lock a cache
//! line or wait for what is under way.

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use serde_json::{Value, json};

use super::log::Log;

/// The kernel's part of one crossing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Reads and writes of memory that the instructions name, those of the stack included.
    pub memory: u64,
    /// Instructions with a LOCK prefix, and XCHG with memory, which locks without one.
    pub locked: u64,
    /// See [`serializes`].
    pub serializing: u64,
}

impl Cost {
    /// The cost of what the kernel executes in a round of the program's loop over `row`.
    ///
    /// A round may cross several times (a signal's handler returns by a system call), each time from one place: of each place the
    /// median counts, since an interrupt may fall into a crossing. Other places are the program's start, the few calls between
    /// two loops, or where an interrupt hits.
    pub fn per_round(log: &Log, row: &str) -> Cost {
        let mut from = std::collections::BTreeMap::<u64, Vec<(Cost, u32)>>::new();
        for (crossing, times) in &log.crossings {
            // An NMI comes anywhere in the loop.
            let place = if row == "nmi-user" { 0 } else { crossing.from };
            from.entry(place).or_default().push((Cost::of(&crossing.addresses, log), *times));
        }
        let count = |costs: &[(Cost, u32)]| costs.iter().map(|(_, times)| times).sum::<u32>();
        let rounds = from.values().map(|costs| count(costs)).max().unwrap_or(0);
        let mut round = Cost::default();
        for costs in from.values_mut().filter(|costs| count(costs) >= rounds.div_ceil(2)) {
            let half = count(costs).div_ceil(2);
            costs.sort_by_key(|(cost, _)| (cost.memory, cost.locked, cost.serializing));
            let mut seen = 0;
            let median = costs.iter().find(|(_, times)| {
                seen += times;
                seen >= half
            });
            if let Some((median, _)) = median {
                round.memory += median.memory;
                round.locked += median.locked;
                round.serializing += median.serializing;
            }
        }
        round
    }

    /// The cost of these instructions.
    pub fn of(addresses: &[u64], log: &Log) -> Cost {
        let mut cost = Cost::default();
        let mut factory = InstructionInfoFactory::new();
        for address in addresses {
            let bytes = log.code.get(address).map_or(&[][..], Vec::as_slice);
            let instruction = Decoder::with_ip(64, bytes, *address, DecoderOptions::NONE).decode();
            let used = factory.info(&instruction).used_memory();
            cost.memory += used.iter().map(|used| accesses(used.access())).sum::<u64>();
            cost.locked += u64::from(locks(&instruction));
            cost.serializing += u64::from(serializes(&instruction));
        }
        cost
    }

    /// As an object of `results.json`.
    pub fn json(self) -> Value {
        json!({ "memory": self.memory, "locked": self.locked, "serializing": self.serializing })
    }
}

fn accesses(access: OpAccess) -> u64 {
    match access {
        OpAccess::None | OpAccess::NoMemAccess => 0,
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => 2,
        _ => 1,
    }
}

fn locks(instruction: &Instruction) -> bool {
    let names_memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    instruction.has_lock_prefix() || (instruction.mnemonic() == Mnemonic::Xchg && names_memory)
}

/// The serializing instructions of SDM volume 3, 9.3, and the fences, for which later instructions wait, too. SYSCALL, SYSRET and
/// SWAPGS are none.
fn serializes(instruction: &Instruction) -> bool {
    use Mnemonic::{
        Cpuid, Invd, Invlpg, Invpcid, Iret, Iretd, Iretq, Lfence, Lgdt, Lidt, Lldt, Ltr, Mfence, Mov, Rsm, Serialize,
        Wbinvd, Wrmsr,
    };
    match instruction.mnemonic() {
        Mov => {
            let to = instruction.op0_register();
            to.is_dr() || (to.is_cr() && to != Register::CR8)
        }
        Cpuid | Invd | Invlpg | Invpcid | Iret | Iretd | Iretq | Lfence | Lgdt | Lidt | Lldt | Ltr | Mfence | Rsm
        | Serialize | Wbinvd | Wrmsr => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::log::Crossing;
    use super::*;

    /// Instructions at the addresses 1, 2, …
    fn log(code: &[&[u8]]) -> Log {
        let code = (1..).zip(code.iter().map(|bytes| bytes.to_vec())).collect::<HashMap<u64, _>>();
        Log { crossings: Vec::new(), code }
    }

    fn cost(code: &[u8]) -> (u64, u64, u64) {
        let Cost { memory, locked, serializing } = Cost::of(&[1], &log(&[code]));
        (memory, locked, serializing)
    }

    #[test]
    fn instructions_cost_what_the_manual_says() {
        for (code, name, expected) in [
            (&[0x53][..], "push rbx", (1, 0, 0)),
            (&[0xff, 0x30], "push qword ptr [rax]", (2, 0, 0)),
            (&[0xe8, 0, 0, 0, 0], "call", (1, 0, 0)),
            (&[0x31, 0xc0], "xor eax, eax", (0, 0, 0)),
            (&[0x48, 0x8d, 0x00], "lea rax, [rax]", (0, 0, 0)),
            (&[0x0f, 0x1f, 0x00], "nop dword ptr [rax]", (0, 0, 0)),
            (&[0x83, 0x00, 0x01], "add dword ptr [rax], 1", (2, 0, 0)),
            (&[0xf0, 0x0f, 0xc1, 0x00], "lock xadd [rax], eax", (2, 1, 0)),
            (&[0x87, 0x00], "xchg [rax], eax", (2, 1, 0)),
            (&[0x87, 0xd8], "xchg eax, ebx", (0, 0, 0)),
            (&[0x0f, 0x22, 0xd8], "mov cr3, rax", (0, 0, 1)),
            (&[0x0f, 0x20, 0xd8], "mov rax, cr3", (0, 0, 0)),
            (&[0x0f, 0xae, 0xe8], "lfence", (0, 0, 1)),
            (&[0x48, 0x0f, 0x07], "sysretq", (0, 0, 0)),
        ] {
            assert_eq!(cost(code), expected, "{name}");
        }
        let (_, locked, serializing) = cost(&[0x48, 0xcf]);
        assert_eq!((locked, serializing), (0, 1), "iretq");
    }

    #[test]
    fn a_round_may_cross_twice() {
        let mut log = log(&[&[0x53], &[0xf0, 0x83, 0x00, 0x01]]);
        let crossing = |from, addresses: &[u64], times| (Crossing { from, addresses: addresses.to_vec() }, times);
        // An interrupt in one of them, and one of the start.
        let long = [2; 100];
        log.crossings = vec![
            crossing(0x1000, &[1, 1], 10),
            crossing(0x2000, &[2], 8),
            crossing(0x2000, &long, 1),
            crossing(0x3000, &long, 1),
        ];
        assert_eq!(Cost::per_round(&log, "ud-signal"), Cost { memory: 4, locked: 1, serializing: 0 });
        assert_eq!(Cost::per_round(&log, "nmi-user"), Cost { memory: 2, locked: 0, serializing: 0 });
    }
}
