//! What tests ask of QEMU while it runs, by its machine protocol.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::gdb::connect;

/// A connection to QEMU's machine protocol.
pub struct Qmp {
    replies: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the socket that QEMU makes at `path` when it starts.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = connect(path)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut qmp = Self { replies: BufReader::new(stream) };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Sends an NMI to every CPU.
    pub fn inject_nmi(&mut self) -> Result<()> {
        self.execute("inject-nmi", json!({})).map(drop)
    }

    /// Ends QEMU.
    pub fn quit(&mut self) -> Result<()> {
        self.execute("quit", json!({})).map(drop)
    }

    /// Runs a command of the human monitor, for what the machine protocol has no request for, and gives what it prints.
    pub fn monitor(&mut self, command: &str) -> Result<String> {
        let printed = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        Ok(printed.as_str().unwrap_or_default().to_owned())
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.replies.get_mut(), "{request}")?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.replies.read_line(&mut line)? == 0 {
                bail!("QEMU ended before it answered {command}");
            }
            let reply: Value = serde_json::from_str(&line)?;
            // Greetings and events may come in between; only a reply has one of these two.
            if let Some(result) = reply.get("return") {
                return Ok(result.clone());
            }
            if let Some(error) = reply.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
        }
    }
}
