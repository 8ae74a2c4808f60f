//! `./x image`: the reference kernel on a disc that a PC boots, by GRUB and Multiboot2.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::carried::Carried;
use crate::initramfs::Initramfs;
use crate::program::Program;
use crate::setup::{self, Need};
use crate::{kernel, progress, repository, run};

/// What makes the disc: GRUB for BIOS and for UEFI.
const GRUB: Need = Need {
    what: "GRUB and what it makes discs with",
    packages: &["grub-common", "grub-pc-bin", "grub-efi-amd64-bin", "xorriso", "mtools"],
    found: || {
        ["grub-mkrescue", "xorriso", "mformat"].into_iter().all(setup::in_path)
            && ["i386-pc", "x86_64-efi"].iter().all(|platform| Path::new("/usr/lib/grub").join(platform).exists())
    },
};

/// UEFI for QEMU.
pub const OVMF: Need = Need { what: "UEFI for QEMU", packages: &["ovmf"], found: || Path::new(OVMF_IMAGE).exists() };

/// Its image, for `-bios`.
pub const OVMF_IMAGE: &str = "/usr/share/ovmf/OVMF.fd";

/// How long GRUB may take for the disc.
const LIMIT: Duration = Duration::from_secs(300);

/// Builds the reference kernel, and a disc with it and a busybox shell, or one program of this machine, that a PC boots from BIOS or
/// UEFI, and QEMU with `-cdrom`. The console is the first serial port.
#[derive(clap::Args)]
pub struct ImageArgs {
    /// Where the disc's image goes [default: target/portcullis.iso]
    #[arg(long, value_name = "FILE")]
    iso: Option<PathBuf>,
    /// With page-table isolation
    #[arg(long)]
    isolation: bool,
    #[command(flatten)]
    carried: Carried,
    /// A program of this machine, and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// Runs the command.
pub fn image(args: &ImageArgs) -> Result<()> {
    setup::ensure(&[GRUB, setup::BUSYBOX, setup::LINKER])?;
    let kernel = kernel::Build { isolation: args.isolation, ..kernel::Build::default() }.run()?;
    let find = |name: &String| Program::find(name)?.with_companions(&args.program[1..]);
    let program = args.program.first().map(find).transpose()?;
    let mut root = run::files(&args.carried, &args.program, program.as_ref(), &kernel)?;
    if let Some(program) = &program {
        root.companions(program)?;
    }
    let iso = args.iso.clone().unwrap_or_else(|| repository("target/portcullis.iso"));
    write(&kernel, &root, "stdin=tty", &iso)?;
    println!("{}", iso.display());
    eprintln!("x: boot it with: qemu-system-x86_64 -M q35 -m 512M -cpu max -nographic -cdrom {}", iso.display());
    eprintln!("x: and by UEFI: the same with -bios {OVMF_IMAGE} (Debian's package {})", OVMF.packages[0]);
    Ok(())
}

/// Makes the disc.
pub fn write(kernel: &Path, root: &Initramfs, command_line: &str, iso: &Path) -> Result<()> {
    setup::ensure(&[GRUB])?;
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let boot = scratch.path().join("boot");
    fs::create_dir_all(boot.join("grub"))?;
    fs::copy(kernel, boot.join("portcullis")).with_context(|| format!("copying {}", kernel.display()))?;
    root.write(&boot.join("initramfs.cpio"))?;
    let menu = format!(
        "set timeout=0\nmenuentry Portcullis {{\n  multiboot2 /boot/portcullis {command_line}\n  module2 /boot/initramfs.cpio\n}}\n"
    );
    fs::write(boot.join("grub/grub.cfg"), menu)?;
    if let Some(directory) = iso.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut grub = Command::new("grub-mkrescue");
    grub.arg("-o").arg(iso).arg(scratch.path());
    progress::step("making the disc (grub-mkrescue)", &mut grub, LIMIT)?;
    ensure!(iso.exists(), "grub-mkrescue made no {}", iso.display());
    Ok(())
}
