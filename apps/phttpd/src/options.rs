// SPDX-License-Identifier: GPL-2.0
//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser};

/// An HTTP/1.1 server. With -i it serves over a netmap stack port: one poll()
/// receives from the NIC, runs TCP and returns the requests of all connections.
/// Without -i it serves over plain sockets and epoll, or io_uring with --uring,
/// for comparison.
///
/// GET, HEAD and POST on / get a generated body; POST and PUT on /echo get
/// their own body back. With -d bodies are stored: durable before the answer.
#[derive(Clone, Debug, Parser)]
#[command(version)]
#[command(after_help = "Exit status: 0 after SIGINT or SIGTERM, 1 on failure, 2 on wrong usage.")]
pub struct Options {
    /// NIC to attach to the stack port; may be repeated
    #[arg(short = 'i', long = "nic", value_name = "NIC")]
    pub nics: Vec<String>,

    /// Serve over plain sockets by io_uring, not epoll
    #[arg(long, conflicts_with = "nics")]
    pub uring: bool,

    /// TCP port; 0 for any, which is then printed
    #[arg(short = 'P', long, default_value_t = 60000)]
    pub port: u16,

    /// Address to listen on; "::" is all of IPv6 and IPv4
    #[arg(short = 'A', long, value_name = "IP", default_value = "::")]
    pub address: IpAddr,

    /// Bytes of the generated body
    #[arg(
        short = 'l',
        long = "length",
        value_name = "BYTES",
        default_value_t = 64
    )]
    pub length: u64,

    /// Make the head of the answer once, not for each request
    #[arg(short = 'c', long)]
    pub fixed_head: bool,

    /// Longest wait of one poll, in milliseconds; 0 polls without sleeping
    #[arg(short = 'b', long = "poll-timeout", value_name = "MS", default_value_t = 2000,
        value_parser = clap::value_parser!(u32).range(0..=2000))]
    pub poll_ms: u32,

    /// Threads, each with a listening socket and, with -i, a ring of its own
    #[arg(short = 'p', long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,

    /// Pin the threads to this CPU and those after it
    #[arg(short = 'a', long, value_name = "CPU")]
    pub affinity: Option<usize>,

    /// Name of the stack port
    #[arg(long, value_name = "NAME", default_value = "pst:0")]
    pub stack_port: String,

    /// Largest request body in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub max_body: u64,

    #[command(flatten)]
    pub storage: Storage,
}

/// Where request bodies are kept, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Storage")]
pub struct Storage {
    /// Store request bodies in this file, or in files in this directory.
    /// POST appends to a log, GET /N returns its record N, DELETE /N drops the
    /// records up to N
    #[arg(short = 'd', long = "data", value_name = "PATH")]
    pub path: Option<PathBuf>,

    /// Size of each file in MB (of 1,000,000 bytes), with -x that of the pool;
    /// 64, or what there is
    #[arg(short = 'L', long = "size", value_name = "MB", requires = "path",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub megabytes: Option<u64>,

    /// Map the file and flush what was written; without, it is written with
    /// pwrite() and fdatasync()
    #[arg(short = 'm', long = "map", requires = "path")]
    pub map: bool,

    /// Zero copy: keep bodies in the packet buffers, which lie in the file
    #[arg(short = 'x', long = "zero-copy", requires_all = ["path", "nics", "map"],
        conflicts_with = "sync")]
    pub zero_copy: bool,

    /// Make the mapped file durable with msync(), also where flushing cache
    /// lines would do
    #[arg(short = 'D', long = "sync", requires_all = ["path", "map"])]
    pub sync: bool,

    /// Flush nothing: what a crash of the machine leaves is left to luck
    #[arg(
        short = 'F',
        long = "no-flush",
        requires = "path",
        conflicts_with = "sync"
    )]
    pub no_flush: bool,

    /// Wait this long with every flush, as for a slower medium
    #[arg(short = 'e', long = "latency", value_name = "NS", default_value_t = 0,
        requires = "path", conflicts_with = "no_flush",
        value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub latency_ns: u64,

    /// A key-value store instead of a log: PUT and POST set the value of the
    /// URL's path, GET returns it, DELETE removes it
    #[arg(short = 'B', long = "keys", requires = "path")]
    pub keys: bool,

    /// When the log is full, drop its oldest records
    #[arg(long, requires = "path", conflicts_with = "keys")]
    pub recycle: bool,

    /// Commit each request by itself, not all of a batch together
    #[arg(long, requires = "path")]
    pub each: bool,

    /// Start afresh; what the files hold is lost
    #[arg(long, requires = "path")]
    pub format: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn read(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_usual_line_is_read() {
        let o = read("phttpd -i eth0 -i eth1 -P 80 -l 64 -c -b 0 -p 2 -a 1").unwrap();
        assert_eq!(o.nics, ["eth0", "eth1"]);
        assert_eq!(
            (o.port, o.length, o.fixed_head, o.poll_ms),
            (80, 64, true, 0)
        );
        assert_eq!(
            (o.threads, o.affinity, o.stack_port.as_str()),
            (2, Some(1), "pst:0")
        );
        assert!(read("phttpd --uring -p 2 -d /pm").unwrap().uring);
        let o = read("phttpd").unwrap();
        assert!(!o.uring);
        assert_eq!(
            (o.port, o.length, o.poll_ms, o.threads),
            (60000, 64, 2000, 1)
        );
    }

    #[test]
    fn storage_is_read() {
        let o = read("phttpd -d /pm -L 100 -m -x -i eth0 -e 10000 --recycle").unwrap();
        let s = o.storage;
        assert_eq!((s.megabytes, s.latency_ns), (Some(100), 10_000));
        assert!(s.map && s.zero_copy && s.recycle && !s.keys && !s.format);
        assert!(read("phttpd -d /pm -B -F").unwrap().storage.keys);
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "-b 2001",
            "-p 0",
            "-p 65",
            "-P 65536",
            "-l -1",
            "-A name",
            "stray",
            "--uring -i eth0",
            // Storage without a place, or in ways that exclude each other.
            "-x",
            "-m",
            "-B",
            "-L 64",
            "--format",
            "-d /pm -x -m",
            "-d /pm -x -i eth0",
            "-d /pm -D",
            "-d /pm -m -D -F",
            "-d /pm -F -e 10",
            "-d /pm -B --recycle",
            "-d /pm -L 0",
        ] {
            let error = read(&format!("phttpd {line}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert_eq!(
            read("phttpd --help").unwrap_err().kind(),
            ErrorKind::DisplayHelp
        );
    }
}
