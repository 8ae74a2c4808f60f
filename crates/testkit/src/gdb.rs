//! A client of QEMU's debugger interface (the GDB remote serial protocol), as far as the tests need it: run to an address,
//! step, read and write.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long the machine may run until it stops at a breakpoint, if nothing else is said.
pub const RUN_LIMIT: Duration = Duration::from_secs(120);

/// The numbers of registers in the protocol's order for x86-64: each has eight bytes.
pub const RSI: u32 = 4;
/// See [`RSI`].
pub const RCX: u32 = 2;
/// See [`RSI`].
pub const RDI: u32 = 5;
/// See [`RSI`].
pub const RSP: u32 = 7;
/// See [`RSI`].
pub const RIP: u32 = 16;
/// The numbers of others: QEMU's description of its x86-64 (gdb-xml/i386-64bit.xml).
pub const EFLAGS: u32 = 17;
/// See [`EFLAGS`].
pub const CS: u32 = 18;
/// See [`EFLAGS`].
pub const SS: u32 = 19;
/// See [`EFLAGS`].
pub const GS_BASE: u32 = 25;
/// See [`EFLAGS`].
pub const KERNEL_GS_BASE: u32 = 26;
/// See [`EFLAGS`].
pub const CR3: u32 = 29;

/// Connects to a socket that QEMU makes at `path` when it starts, waiting up to five seconds for it.
pub fn connect(path: &Path) -> Result<UnixStream> {
    const LIMIT: Duration = Duration::from_secs(5);
    let started = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(_) if started.elapsed() < LIMIT => thread::sleep(Duration::from_millis(5)),
            Err(error) => {
                return Err(error).with_context(|| format!("QEMU did not open {}", path.display()));
            }
        }
    }
}

/// A connection to the debugger interface of a machine with one CPU. Each method needs the machine stopped and leaves it
/// stopped.
pub struct Debugger {
    stream: UnixStream,
}

impl Debugger {
    /// Connects to the socket that QEMU makes at `path` when it starts. Stops the machine. `limit` is how long it may run until it
    /// stops at a breakpoint.
    ///
    /// # Errors
    ///
    /// Here and below: when QEMU does not answer as it should, or not within the limit.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self> {
        let stream = connect(path)?;
        stream.set_read_timeout(Some(limit))?;
        let mut debugger = Debugger { stream };
        debugger.ask("?")?;
        // QEMU gives single registers only to clients that have read its description of them.
        debugger.ask("qXfer:features:read:target.xml:0,1000")?;
        Ok(debugger)
    }

    /// Lets the machine run until it is about to execute the instruction at `address`.
    pub fn run_to(&mut self, address: u64) -> Result<()> {
        self.run_to_one_of(&[address]).map(drop)
    }

    /// Lets the machine run until it is about to execute the instruction at one of `addresses`: at which?
    pub fn run_to_one_of(&mut self, addresses: &[u64]) -> Result<u64> {
        if addresses.contains(&self.register(RIP)?) {
            // A breakpoint here would be hit at once.
            self.step()?;
        }
        for address in addresses {
            self.demand_ok(&format!("Z0,{address:x},1"))?;
        }
        let stopped = self.ask("c");
        if let Err(error) = stopped {
            return Err(error.context(format!("{} was not reached", list(addresses))));
        }
        for address in addresses {
            self.demand_ok(&format!("z0,{address:x},1"))?;
        }
        let at = self.register(RIP)?;
        if !addresses.contains(&at) {
            bail!("stopped at {at:#x} instead of {}", list(addresses));
        }
        Ok(at)
    }

    /// Executes one instruction, or delivers the exception that it raises. Interrupts are held off.
    pub fn step(&mut self) -> Result<()> {
        self.ask("s").map(drop)
    }

    /// The value of a register.
    pub fn register(&mut self, number: u32) -> Result<u64> {
        let value = self.ask(&format!("p{number:x}"))?;
        little_endian(&value)
    }

    /// Changes a register.
    pub fn set_register(&mut self, number: u32, value: u64) -> Result<()> {
        self.demand_ok(&format!("P{number:x}={:016x}", value.swap_bytes()))
    }

    /// The word at an address of the current address space.
    pub fn word(&mut self, address: u64) -> Result<u64> {
        let value = self.ask(&format!("m{address:x},8"))?;
        little_endian(&value).with_context(|| format!("cannot read {address:#x}"))
    }

    /// The byte at an address of the current address space.
    pub fn byte(&mut self, address: u64) -> Result<u8> {
        let value = self.ask(&format!("m{address:x},1"))?;
        u8::from_str_radix(&value, 16).with_context(|| format!("cannot read {address:#x}"))
    }

    /// Writes one byte to the current address space.
    pub fn write_byte(&mut self, address: u64, value: u8) -> Result<()> {
        self.demand_ok(&format!("M{address:x},1:{value:02x}"))
    }

    /// Lets the machine go for good.
    pub fn detach(mut self) -> Result<()> {
        self.demand_ok("D")
    }

    fn demand_ok(&mut self, command: &str) -> Result<()> {
        let reply = self.ask(command)?;
        if reply != "OK" {
            bail!("QEMU answered `{reply}` to `{command}`");
        }
        Ok(())
    }

    /// Sends `$command#checksum` and waits for the answer's payload.
    fn ask(&mut self, command: &str) -> Result<String> {
        let sum = command.bytes().fold(0u8, u8::wrapping_add);
        self.stream.write_all(format!("${command}#{sum:02x}").as_bytes())?;
        let mut answer = Vec::new();
        // An acknowledgement, `+`, comes first.
        while self.next()? != b'$' {}
        loop {
            match self.next()? {
                b'#' => break,
                byte => answer.push(byte),
            }
        }
        // The checksum.
        self.next()?;
        self.next()?;
        self.stream.write_all(b"+")?;
        Ok(String::from_utf8(answer)?)
    }

    fn next(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).context("the machine did not stop, or QEMU ended")?;
        Ok(byte[0])
    }
}

/// For messages.
fn list(addresses: &[u64]) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| format!("{address:#x}")).collect();
    addresses.join(" or ")
}

/// What a CPU holds between two instructions.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The general registers, in the protocol's order.
    pub general: [u64; 16],
    /// Where it is.
    pub rip: u64,
    /// RFLAGS.
    pub flags: u64,
    /// The selector of the code segment.
    pub cs: u64,
    /// The selector of the stack segment.
    pub ss: u64,
    /// The base of GS.
    pub gs: u64,
    /// What SWAPGS would make of it.
    pub kernel_gs: u64,
    /// The page table.
    pub cr3: u64,
}

impl Snapshot {
    /// Of a stopped machine.
    ///
    /// # Errors
    ///
    /// When QEMU does not answer.
    pub fn take(debugger: &mut Debugger) -> Result<Snapshot> {
        let mut general = [0; 16];
        for (number, value) in (0..).zip(&mut general) {
            *value = debugger.register(number)?;
        }
        let [rip, flags, cs, ss, gs, kernel_gs, cr3] =
            [RIP, EFLAGS, CS, SS, GS_BASE, KERNEL_GS_BASE, CR3].map(|number| debugger.register(number));
        Ok(Snapshot { general, rip: rip?, flags: flags?, cs: cs?, ss: ss?, gs: gs?, kernel_gs: kernel_gs?, cr3: cr3? })
    }

    /// The registers with their names, for messages. RF is left out: a debugger plays with it.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        const GENERAL: [&str; 16] = [
            "RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
            "R15",
        ];
        const RF: u64 = 1 << 16;
        let others = [
            ("RIP", self.rip),
            ("RFLAGS", self.flags & !RF),
            ("CS", self.cs),
            ("SS", self.ss),
            ("the GS base", self.gs),
            ("the other GS base", self.kernel_gs),
            ("CR3", self.cr3),
        ];
        GENERAL.into_iter().zip(self.general).chain(others).collect()
    }
}

/// A value as the protocol gives it: hexadecimal, lowest byte first.
fn little_endian(text: &str) -> Result<u64> {
    u64::from_str_radix(text, 16)
        .map(|value| value.swap_bytes() >> (64 - 4 * text.len().min(16)))
        .with_context(|| format!("QEMU answered `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_lowest_byte_first() {
        assert_eq!(little_endian("8877665544332211").unwrap(), 0x1122334455667788);
        assert_eq!(little_endian("34120000").unwrap(), 0x1234);
        assert!(little_endian("").is_err());
    }
}
