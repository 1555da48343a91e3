// SPDX-License-Identifier: GPL-2.0
//! Whether this machine can serve by io_uring.

use std::io::Write;
use std::process::Command;

/// Whether it has io_uring and lets us use it; if not, says that `case` is left
/// out.
pub fn has_uring(case: &str) -> bool {
    // An address that it cannot listen on, for which it looks after io_uring.
    let out = Command::new(env!("CARGO_BIN_EXE_phttpd"))
        .args(["--uring", "-P", "0", "-A", "192.0.2.1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    let Some(why) = said.strip_prefix("phttpd: io_uring: ") else {
        return true;
    };
    // ENOSYS, EPERM. Anything else is our mistake.
    assert!(
        why.contains("(os error 38)") || why.contains("(os error 1)"),
        "{said}"
    );
    // Not by a macro, whose output is shown of failures only.
    let _ = writeln!(std::io::stderr(), "left out: {case}: {}", said.trim());
    false
}
