// SPDX-License-Identifier: GPL-2.0
//! What threads see of what others store.

use std::sync::atomic::{AtomicBool, Ordering};

use netmap_storage::{LogShape, MapShape, Pool};

use super::written::Written;
use super::*;

fn medium(name: &str, n: usize) -> Medium {
    let name = format!("phttpd-{name}-{n}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let made = Written::create(&path, 1 << 20, true, std::time::Duration::ZERO).unwrap();
    std::fs::remove_file(&path).unwrap();
    Medium::Written(made)
}

/// A store of a log for each of two threads, or of one map for both.
fn shelves(name: &str, keys: bool) -> Shelves {
    let medium = |n| medium(name, n);
    let log = LogShape::for_bytes(1 << 20, 1024);
    let map = MapShape::for_bytes(1 << 20, 1024);
    let books = |n| match keys {
        true => Books::Map(Map::format(medium(n), map, Pool::NONE).unwrap()),
        false => Books::Log(Log::format(medium(n), log, Pool::NONE).unwrap()),
    };
    let count = if keys { 1 } else { 2 };
    Shelves::new((0..count).map(|n| Shelf::new(books(n))).collect(), keys)
}

fn store(shelves: &Shelves, own: usize) -> Store<'_> {
    let part = Part {
        own,
        held: None,
        recycle: None,
        each: false,
    };
    Store::new(shelves, part)
}

fn named(path: &str) -> Object {
    let mut object = Object::default();
    object.name(path.as_bytes());
    object
}

fn put(store: &mut Store<'_>, path: &str, body: &[u8]) -> Option<u64> {
    let mut object = Object::default();
    store.begin(&mut object, path.as_bytes()).unwrap();
    store.piece(&mut object, 0, body).unwrap();
    store.finish(&mut object).unwrap()
}

fn get(store: &mut Store<'_>, path: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    store.load(&named(path), |_| Some(&mut out)).then_some(out)
}

#[test]
fn another_thread_sees_what_a_crash_would_leave() {
    let shelves = shelves("logs", false);
    let (mut one, mut two) = (store(&shelves, 0), store(&shelves, 1));
    let path = format!("/{}", put(&mut one, "/", b"text").unwrap());
    assert_eq!(get(&mut one, &path).as_deref(), Some(&b"text"[..]));
    assert_eq!(get(&mut two, &path), None);
    one.commit().unwrap();
    assert_eq!(get(&mut two, &path).as_deref(), Some(&b"text"[..]));
    // Gone, but a crash would bring it back.
    assert_eq!(one.remove(&named(&path)), Ok(true));
    assert_eq!(get(&mut one, &path), None);
    assert_eq!(get(&mut two, &path).as_deref(), Some(&b"text"[..]));
    one.commit().unwrap();
    assert_eq!(get(&mut two, &path), None);
}

#[test]
fn a_shared_map_shows_only_what_is_durable() {
    let shelves = shelves("map", true);
    let mut one = store(&shelves, 0);
    let durable = AtomicBool::new(false);
    for (path, body) in [("/a", Some(b"text")), ("/a", None)] {
        durable.store(false, Ordering::SeqCst);
        match body {
            Some(body) => assert_eq!(put(&mut one, path, body), None),
            None => assert_eq!(one.remove(&named(path)), Ok(true)),
        }
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut two = store(&shelves, 0);
                let found = get(&mut two, path);
                assert!(durable.load(Ordering::SeqCst), "it saw it before");
                two.commit().unwrap();
                found
            });
            // Time to be wrong, not to be right.
            std::thread::sleep(std::time::Duration::from_millis(20));
            durable.store(true, Ordering::SeqCst);
            one.commit().unwrap();
            let found = reader.join().unwrap();
            assert_eq!(found.as_deref(), body.map(|body| &body[..]));
        });
    }
}

#[test]
fn after_a_failed_commit_nobody_answers() {
    let shelves = shelves("failed", true);
    let (mut one, mut two) = (store(&shelves, 0), store(&shelves, 0));
    put(&mut one, "/a", b"text");
    one.commit().unwrap();
    lock(&shelves.all[0]).failed = true;
    // It only reads, but what it reads may go.
    assert!(get(&mut two, "/a").is_some());
    assert!(two.commit().is_err());
}

#[test]
fn an_answer_that_lacks_a_buffer_is_never_sent() {
    let pool = Pool {
        buffers: 8,
        buf_size: 2048,
        id: 1,
    };
    let shape = LogShape::for_bytes(1 << 20, 1024);
    let mut log = Log::format(medium("lost", 0), shape, pool).unwrap();
    let mut body = Body::new();
    log.hold(&mut body, Segment::packet(3, 0, 4), b"text")
        .unwrap();
    let seq = log.append(&mut body).unwrap();
    log.commit().unwrap();
    let shelves = Shelves::new(vec![Shelf::new(Books::Log(log))], false);
    let mut one = store(&shelves, 0);
    one.held = Some(Held::new(
        netmap::Memory::anonymous(1 << 16).unwrap(),
        vec![],
    ));
    one.commit().unwrap();
    // Its head says otherwise.
    assert_eq!(get(&mut one, &format!("/{seq}")), Some(vec![]));
    assert!(one.commit().is_err());
}
