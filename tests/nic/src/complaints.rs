// SPDX-License-Identifier: GPL-2.0
//! The log of what the driver did wrong. An empty one is part of every test's success.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Lines that are written before the log says no more: a broken driver repeats itself.
const MOST: usize = 200;

/// Where complaints go.
#[derive(Debug, Default)]
pub struct Complaints {
    file: Option<File>,
    /// Number of complaints until now.
    pub count: usize,
}

impl Complaints {
    /// A log in a new file.
    pub fn to(path: &Path) -> io::Result<Self> {
        Ok(Complaints {
            file: Some(File::create(path)?),
            count: 0,
        })
    }

    /// One complaint, one line.
    pub fn report(&mut self, what: fmt::Arguments<'_>) {
        self.count += 1;
        if self.count > MOST {
            return;
        }
        let rest = if self.count == MOST {
            " (more is not written)"
        } else {
            ""
        };
        let line = format!("{what}{rest}\n");
        // A log that cannot be written must not look like an empty one.
        let written = match &mut self.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
        if written.is_err() {
            eprintln!("nicmodel: cannot write the log");
            std::process::abort();
        }
    }
}
