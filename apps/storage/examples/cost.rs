// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! What storing costs: time and flushed lines per object; and how long recovery
//! takes. For instructions, run one kind of storing under a tool that counts.
//!
//!     cost [--only held|copied|map|recovery] [--objects N] [--file PATH] [--megabytes N]
//!
//! Objects have 1024 bytes at odd offsets of packet buffers of 2048, 50 to a
//! batch, as clients of a benchmark send them.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use netmap_storage::{
    Body, Error, Heap, Log, LogShape, Map, MapShape, Mapped, Memory, Pool, Segment, Slab, Sync,
    LINE,
};

const BUF: usize = 2048;
const LEN: usize = 1024;
const BATCH: u32 = 50;

/// Memory that counts the lines and waits that go through it.
struct Counted<M> {
    inner: M,
    payload: u64,
    own: u64,
    waits: u64,
}

fn lines(at: usize, len: usize) -> u64 {
    ((at + len).div_ceil(LINE) - at / LINE) as u64
}

impl<M: Memory> Memory for Counted<M> {
    fn bytes(&self) -> &[u8] {
        self.inner.bytes()
    }
    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.inner.write(at, bytes);
    }
    fn store(&mut self, at: usize, word: u64) {
        self.inner.store(at, word);
    }
    fn flush(&mut self, at: usize, len: usize) {
        self.own += lines(at, len);
        self.inner.flush(at, len);
    }
    fn flush_foreign(&mut self, bytes: &[u8]) {
        self.payload += lines(bytes.as_ptr() as usize, bytes.len());
        self.inner.flush_foreign(bytes);
    }
    fn wait(&mut self) -> io::Result<()> {
        self.waits += 1;
        self.inner.wait()
    }
}

fn counted<M: Memory>(inner: M) -> Counted<M> {
    Counted {
        inner,
        payload: 0,
        own: 0,
        waits: 0,
    }
}

fn report<M>(what: &str, objects: u64, time: std::time::Duration, memory: &Counted<M>) {
    let each = |n: u64| n as f64 / objects as f64;
    println!(
        "{what}: {:.0} ns, {:.2} payload lines, {:.2} other lines, {:.3} waits per object",
        time.as_nanos() as f64 / objects as f64,
        each(memory.payload),
        each(memory.own),
        each(memory.waits)
    );
}

/// Append `objects`, held or copied.
fn append<M: Memory>(log: &mut Log<M>, pool: &[u8], objects: u32, hold: bool) -> Result<(), Error> {
    let mut body = Body::new();
    let bufs = (pool.len() / BUF) as u32;
    for i in 0..objects {
        let at = (i % bufs) as usize * BUF + 248;
        let bytes = &pool[at..at + LEN];
        if hold {
            log.hold(&mut body, Segment::packet(i % bufs, 248, LEN as u16), bytes)?;
        } else {
            log.copy(&mut body, bytes)?;
        }
        log.append(&mut body)?;
        if (i + 1) % BATCH == 0 {
            log.make_room(u64::from(2 * BATCH));
            log.commit()?;
            log.freed();
        }
    }
    log.commit()?;
    Ok(())
}

/// Resident memory of this process in KiB, anonymous only.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok())
        .unwrap_or(0)
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn main() -> Done {
    let (mut only, mut objects) = (None, 200_000);
    let (mut path, mut megabytes) = (None, 64);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or("a value is missing")?;
        match arg.as_str() {
            "--only" => only = Some(value),
            "--objects" => objects = value.parse()?,
            "--file" => path = Some(PathBuf::from(value)),
            "--megabytes" => megabytes = value.parse()?,
            _ => return Err("see the head of the source for what can be said".into()),
        }
    }
    let wanted = |what: &str| only.as_ref().is_none_or(|only| only == what);
    if wanted("held") {
        log(objects, true)?;
    }
    if wanted("copied") {
        log(objects, false)?;
    }
    if wanted("map") {
        map(objects)?;
    }
    if !wanted("recovery") {
        return Ok(());
    }
    let shape = LogShape::for_bytes(megabytes << 20, LEN as u32);
    if let Some(path) = path {
        let memory = Mapped::create(&path, shape.bytes()?, Sync::Auto)?;
        println!("{}: {}", path.display(), memory.method());
        recovery(memory, shape, |memory| {
            drop(memory);
            Ok(Mapped::open(&path, Sync::Auto)?)
        })
    } else {
        recovery(Heap::new(shape.bytes()? as usize), shape, Ok)
    }
}

const POOL: Pool = Pool {
    buffers: 4000,
    buf_size: BUF as u32,
    id: 0,
};

/// Objects into a log.
fn log(objects: u32, hold: bool) -> Done {
    let pool = vec![0x5a; POOL.buffers as usize * BUF];
    let shape = LogShape {
        lines: 2048,
        blocks: if hold { 0 } else { 2048 },
        block_size: BUF as u32,
    };
    let memory = counted(Heap::new(shape.bytes()? as usize));
    let mut log = Log::format(memory, shape, POOL)?;
    let start = Instant::now();
    append(&mut log, &pool, objects, hold)?;
    let time = start.elapsed();
    let what = if hold { "log, held" } else { "log, copied" };
    report(what, objects.into(), time, &log.into_memory());
    Ok(())
}

/// Objects into a map of 3000 keys.
fn map(objects: u32) -> Done {
    let pool = vec![0x5a; POOL.buffers as usize * BUF];
    let shape = MapShape {
        objects: 4000,
        lines: 8000,
        blocks: 0,
        block_size: 0,
    };
    let keys: Vec<String> = (0..3000).map(|i| format!("/object/{i}")).collect();
    let mut map = Map::format(counted(Heap::new(shape.bytes()? as usize)), shape, POOL)?;
    let mut body = Body::new();
    let start = Instant::now();
    for (i, key) in (0..objects).zip(keys.iter().cycle()) {
        let at = (i % 4000) as usize * BUF + 248;
        let segment = Segment::packet(i % 4000, 248, LEN as u16);
        map.hold(&mut body, segment, &pool[at..at + LEN])?;
        map.put(key.as_bytes(), &mut body)?;
        if (i + 1) % BATCH == 0 {
            map.commit()?;
            map.freed();
        }
    }
    let time = start.elapsed();
    report("map, held", objects.into(), time, &map.into_memory());
    Ok(())
}

fn recovery<M: Memory>(
    memory: M,
    shape: LogShape,
    again: impl FnOnce(M) -> Result<M, Box<dyn std::error::Error>>,
) -> Done {
    let mut log = Log::format(memory, shape, Pool::NONE)?;
    let (mut body, bytes) = (Body::new(), [7u8; LEN]);
    // All of it, in large batches.
    for i in 0..shape.lines {
        log.copy(&mut body, &bytes)?;
        log.append(&mut body)?;
        if i % 1000 == 0 {
            log.commit()?;
        }
    }
    log.commit()?;
    let memory = again(log.into_memory())?;
    let before = anonymous();
    let start = Instant::now();
    let none = Slab::new(&[], 0, 1);
    let (log, found) = Log::open(memory, Pool::NONE, &none)?;
    let time = start.elapsed();
    println!(
        "recovery of {} MB: {found}; {} ms, {} KiB of memory for the log",
        shape.bytes()? >> 20,
        time.as_millis(),
        anonymous().saturating_sub(before),
    );
    drop(log);
    Ok(())
}
