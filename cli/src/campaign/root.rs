//! What only root may do: namespaces, disks, rules for packets. All of it is done in a mount namespace, and where asked
//! for a network namespace, of this process' own: it ends with the process, and this machine's own are not touched.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::exit::Failure;

/// Set in the process that is inside.
const INSIDE: &str = "REBOUND_CAMPAIGN_INSIDE";

/// Makes sure that this process is root, in namespaces of its own, with these tools: starts itself again if need be.
/// Otherwise says why not.
pub fn enter(namespaces: &[&str], tools: &[&str]) -> Result<(), String> {
    // SAFETY: it only reads the process' own id.
    if unsafe { libc::geteuid() } != 0 {
        return Err("needs root".to_owned());
    }
    for tool in ["unshare"].iter().chain(tools) {
        if !is_there(tool) {
            return Err(format!("needs the program {tool}"));
        }
    }
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(namespaces)
        .arg("--")
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(format!("cannot enter namespaces of its own: {error}"))
}

fn is_there(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// Runs a tool; what it printed.
pub fn run(line: &[&str]) -> Result<String, Failure> {
    let (tool, args) = line.split_first().expect("a tool is named");
    let said = |error: String| Failure::failed(format!("{}: {error}", line.join(" ")));
    let done = Command::new(tool)
        .args(args)
        .output()
        .map_err(|error| said(error.to_string()))?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
        false => Err(said(String::from_utf8_lossy(&done.stderr).trim().to_owned())),
    }
}
