// SPDX-License-Identifier: GPL-2.0
//! The server's stores over plain sockets on loopback, on files of the host:
//! what is acknowledged survives a kill, and what cannot be is refused.

mod common;
mod loops;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use common::{refused, Folder, Server};

/// Ways to make a file durable, and loops that do.
const WAYS: [&str; 6] = [
    "",
    "-m",
    "-m -D",
    "-m -F --each",
    "-m --uring",
    "--each --uring",
];

/// Those of the ways that this machine can go, numbered.
fn possible<'a>(case: &'a str, ways: &'a [&str]) -> impl Iterator<Item = (usize, &'a str)> {
    let can = move |way: &&str| {
        !way.contains("--uring") || loops::has_uring(&format!("{case} with {way}"))
    };
    ways.iter().copied().filter(can).enumerate()
}

#[test]
fn records_survive_a_kill() {
    for (i, way) in possible("records_survive_a_kill", &WAYS) {
        let folder = Folder::new(&format!("log{i}"));
        let bodies: Vec<Vec<u8>> = (0..50usize).map(|n| vec![n as u8; n * 97]).collect();
        let server = Server::start(&folder.0, &format!("-L 2 {way}"));
        let mut client = server.connect();
        // Pipelined: a batch is committed together.
        bodies.iter().for_each(|body| client.send("POST /", body));
        let paths: Vec<String> = bodies
            .iter()
            .map(|_| client.answer().location.unwrap())
            .collect();
        drop(server);
        let server = Server::start(&folder.0, way);
        assert!(server.said.contains("50 objects"), "{}", server.said);
        let mut client = server.connect();
        for (path, body) in paths.iter().zip(&bodies) {
            let answer = client.ask(&format!("GET {path}"), b"");
            assert_eq!((answer.status, &answer.body), (200, body), "{way} {path}");
        }
        assert_eq!(client.ask(&format!("DELETE {}", paths[9]), b"").status, 200);
        drop(server);
        let server = Server::start(&folder.0, way);
        let mut client = server.connect();
        assert_eq!(client.ask(&format!("GET {}", paths[9]), b"").status, 404);
        assert_eq!(
            client.ask(&format!("GET {}", paths[10]), b"").body,
            bodies[10]
        );
    }
}

#[test]
fn values_survive_a_kill() {
    for (i, way) in possible("values_survive_a_kill", &WAYS) {
        let folder = Folder::new(&format!("map{i}"));
        let server = Server::start(&folder.0, &format!("-B -L 4 {way}"));
        let mut client = server.connect();
        for (line, body) in [
            ("PUT /a", "one"),
            ("POST /b?query", "two"),
            ("PUT /c", "three"),
            ("PUT /a", "another"),
            ("DELETE /c", ""),
            ("PUT /empty", ""),
        ] {
            assert_eq!(client.ask(line, body.as_bytes()).status, 200, "{line}");
        }
        let large = vec![7; 300_000];
        assert_eq!(client.ask("PUT /large", &large).status, 200);
        drop(server);
        let server = Server::start(&folder.0, &format!("-B {way}"));
        let mut client = server.connect();
        for (path, body) in [
            ("/a", &b"another"[..]),
            ("/b", b"two"),
            ("/empty", b""),
            ("/large", &large),
        ] {
            let answer = client.ask(&format!("GET {path}"), b"");
            assert_eq!(
                (answer.status, &answer.body[..]),
                (200, body),
                "{way} {path}"
            );
        }
        assert_eq!(client.ask("GET /c", b"").status, 404);
        let long = format!("PUT /{}", "k".repeat(3000));
        assert_eq!(client.ask(&long, b"x").status, 414);
    }
}

#[test]
fn a_body_that_does_not_come_whole_leaves_nothing() {
    for (_, way) in possible("a_body_that_does_not_come_whole", &["-m", "-m --uring"]) {
        let folder = Folder::new("part");
        let server = Server::start(&folder.0, &format!("-L 1 {way}"));
        for _ in 0..20 {
            let mut client = server.connect();
            let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 400000\r\n\r\n";
            client.0.get_mut().write_all(head.as_bytes()).unwrap();
            client.0.get_mut().write_all(&[1; 300_000]).unwrap();
        }
        // The space of all of them is free again: this needs more than half of it.
        let mut client = server.connect();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(client.ask("POST /", &[2; 600_000]).status, 200);
        drop(server);
        let server = Server::start(&folder.0, way);
        assert!(server.said.contains(" 1 object"), "{}", server.said);
    }
}

#[test]
fn a_full_store_refuses_and_serves_on() {
    for (name, way, path) in [("full-log", "-m", "/"), ("full-map", "-m -B", "/key")] {
        let folder = Folder::new(name);
        let server = Server::start(&folder.0, &format!("-L 1 {way}"));
        let mut client = server.connect();
        let first = client.ask(&format!("POST {path}first"), &[1; 1000]);
        assert_eq!(first.status, 200);
        assert_eq!(
            client
                .ask(&format!("POST {path}large"), &vec![2; 3_000_000])
                .status,
            507
        );
        let mut stored = 0;
        let refused = (0..3000).filter(|n| {
            let status = client.ask(&format!("POST {path}{n}"), &[3; 1000]).status;
            stored += u32::from(status == 200);
            status == 507
        });
        assert!(
            refused.count() > 500 && stored > 500,
            "{name}: {stored} stored"
        );
        let kept = first.location.unwrap_or(format!("{path}first"));
        assert_eq!(client.ask(&format!("GET {kept}"), b"").body, [1; 1000]);
        assert_eq!(client.ask(&format!("DELETE {kept}"), b"").status, 200);
        assert_eq!(
            client.ask(&format!("POST {path}last"), &[4; 1000]).status,
            200
        );
    }
}

#[test]
fn a_log_that_recycles_takes_any_number() {
    let folder = Folder::new("recycle");
    let server = Server::start(&folder.0, "-m -L 1 --recycle");
    let mut client = server.connect();
    let mut paths = Vec::new();
    for n in 0..5000u32 {
        let answer = client.ask("POST /", &n.to_le_bytes().repeat(200));
        assert_eq!(answer.status, 200, "{n}");
        paths.push(answer.location.unwrap());
    }
    let last = client.ask(&format!("GET {}", paths[4999]), b"");
    assert_eq!(last.body, 4999u32.to_le_bytes().repeat(200));
    assert_eq!(client.ask(&format!("GET {}", paths[0]), b"").status, 404);
}

#[test]
fn files_that_cannot_be_used_are_told_and_left_alone() {
    let folder = Folder::new("wrong");
    let log = folder.0.join("log.0");
    let server = Server::start(&folder.0, "-m -L 1");
    assert_eq!(server.connect().ask("POST /", b"kept").status, 200);
    assert!(refused(&folder.0, "-m").contains("in use"));
    assert!(refused(&folder.0, "").contains("in use"));
    drop(server);
    let kept = std::fs::read(&log).unwrap();
    for (args, words) in [
        ("-m -L 2", "-L"),
        ("-m -p 2", "2 thread"),
        ("-B", "another store"),
        ("-m -p 2 -B", "another store"),
    ] {
        assert!(refused(&folder.0, args).contains(words), "{args}");
    }
    assert!(refused(&log, "-m -B").contains("other kind"));
    assert_eq!(std::fs::read(&log).unwrap(), kept);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    for (damage, words) in [
        (kept[..kept.len() / 2].to_vec(), "bytes of"),
        (vec![0; kept.len()], "not a store"),
        (b"short".to_vec(), "--format"),
    ] {
        std::fs::write(&log, &damage).unwrap();
        assert!(refused(&folder.0, "-m").contains(words), "{words}");
        assert!(refused(&folder.0, "").contains(words), "{words}");
        assert_eq!(std::fs::read(&log).unwrap(), damage);
    }
    let server = Server::start(&folder.0, "-m --format -L 1");
    assert!(server.said.contains("new"), "{}", server.said);
    assert!(refused(Path::new("/nonexistent/log"), "-m").contains("No such file"));
    assert!(refused(Path::new("/dev/null"), "-m --format").contains("neither"));
}

#[test]
fn what_is_posted_and_deleted_at_once_is_gone() {
    let ways = ["", "-m", "-m --each", "-m --uring", "-m --each --uring"];
    for (_, way) in possible("what_is_posted_and_deleted", &ways) {
        let folder = Folder::new("at-once");
        let server = Server::start(&folder.0, &format!("-L 1 {way}"));
        let mut client = server.connect();
        let both = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody\
                    DELETE /1 HTTP/1.1\r\nHost: h\r\n\r\n\
                    GET /1 HTTP/1.1\r\nHost: h\r\n\r\n";
        client.0.get_mut().write_all(both.as_bytes()).unwrap();
        let posted = client.answer();
        assert_eq!(posted.location.as_deref(), Some("/1"));
        assert_eq!((client.answer().status, client.answer().status), (200, 404));
        drop(server);
        let server = Server::start(&folder.0, way);
        assert!(server.said.contains(" 0 objects"), "{}", server.said);
        assert_eq!(server.connect().ask("GET /1", b"").status, 404);
    }
}

#[test]
fn threads_share_a_map() {
    const CLIENTS: usize = 8;
    let ways = ["", "-m", "-m --each", "-m --uring", "--each --uring"];
    for (i, way) in possible("threads_share_a_map", &ways) {
        let folder = Folder::new(&format!("shared{i}"));
        let server = Server::start(&folder.0, &format!("-B -L 4 -p 3 {way}"));
        std::thread::scope(|scope| {
            for n in 0..CLIENTS {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.connect();
                    for round in 0..40u8 {
                        let (own, body) = (format!("/own/{n}/{}", round % 5), [round; 700]);
                        assert_eq!(client.ask(&format!("PUT {own}"), &body).status, 200);
                        assert_eq!(client.ask(&format!("GET {own}"), b"").body, body);
                        // One that all of them change: any value, but a whole one.
                        let body = [n as u8; 3000];
                        assert_eq!(client.ask("PUT /all", &body).status, 200);
                        let found = client.ask("GET /all", b"");
                        if found.status == 200 {
                            assert_eq!(found.body, vec![found.body[0]; 3000]);
                        }
                        client.ask("DELETE /all", b"");
                        // Where it connects next, another thread may answer.
                        if round % 4 == 0 {
                            client = server.connect();
                            assert_eq!(client.ask(&format!("GET {own}"), b"").body[0], round);
                        }
                    }
                });
            }
        });
        drop(server);
        let server = Server::start(&folder.0, &format!("-B -p 2 {way}"));
        let mut client = server.connect();
        for n in 0..CLIENTS {
            for slot in 0..5u8 {
                let answer = client.ask(&format!("GET /own/{n}/{slot}"), b"");
                assert_eq!((answer.status, answer.body), (200, vec![35 + slot; 700]));
            }
        }
    }
}
