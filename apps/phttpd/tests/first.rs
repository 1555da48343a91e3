// SPDX-License-Identifier: GPL-2.0
//! How files of a store come to be: a start that is interrupted is made again,
//! one that is refused leaves nothing, and what somebody has stored stays.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{command, refused, Folder, Server};

/// A server that the system kills when it writes beyond so many blocks of 512
/// bytes of a file.
fn killed_in_start(path: &Path, args: &str, blocks: u32) {
    let server = command(path, args);
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        &format!("ulimit -c 0; ulimit -f {blocks}; exec \"$@\""),
    ]);
    shell.arg("sh").arg(server.get_program());
    let Output { status, stderr, .. } = shell.args(server.get_args()).output().unwrap();
    assert_eq!(status.code(), None, "{}", String::from_utf8_lossy(&stderr));
}

#[test]
fn what_is_killed_while_it_starts_for_the_first_time_starts_again() {
    for (i, way) in ["", "-m", "-m -B", "-p 3"].iter().enumerate() {
        for blocks in [0, 1, 1000] {
            let folder = Folder::new(&format!("first{i}-{blocks}"));
            killed_in_start(&folder.0, &format!("-L 4 {way}"), blocks);
            // With other options, too: nothing is lost.
            let server = Server::start(&folder.0, &format!("-L 2 {way}"));
            assert!(server.said.contains("interrupted"), "{}", server.said);
            let posted = server.connect().ask("PUT /key", b"kept");
            let posted = match posted.status {
                200 => "/key".to_string(),
                _ => server.connect().ask("POST /", b"kept").location.unwrap(),
            };
            drop(server);
            let server = Server::start(&folder.0, way);
            assert!(!server.said.contains("interrupted"), "{}", server.said);
            assert!(server.said.contains(" 1 object"), "{}", server.said);
            let answer = server.connect().ask(&format!("GET {posted}"), b"");
            assert_eq!((answer.status, &answer.body[..]), (200, &b"kept"[..]));
        }
    }
}

#[test]
fn what_an_interrupted_formatting_leaves_is_made_again_and_nothing_else() {
    let whole = Folder::new("whole");
    drop(Server::start(&whole.0, "-L 1 -p 2"));
    let made = std::fs::read(whole.0.join("log.0")).unwrap();
    // Each state in which the files may be, in the order in which they are made.
    let states: [&[&[u8]]; 6] = [
        &[],
        &[b""],
        &[&[0; 5000]],
        &[&made],
        &[&made, b""],
        &[&made, &made],
    ];
    for files in states {
        for marked in [true, false] {
            let folder = Folder::new("state");
            for (n, bytes) in files.iter().enumerate() {
                std::fs::write(folder.0.join(format!("log.{n}")), bytes).unwrap();
            }
            let mark = folder.0.join("formatting");
            if marked {
                std::fs::write(&mark, b"").unwrap();
            }
            if marked || files.is_empty() || files.len() == 2 && !files[1].is_empty() {
                let server = Server::start(&folder.0, "-L 1 -p 2");
                assert_eq!(server.said.contains("interrupted"), marked);
                assert_eq!(
                    server.said.matches(": new;").count() == 2,
                    marked || files.is_empty()
                );
                assert!(!mark.exists());
            } else {
                assert!(refused(&folder.0, "-p 2").contains("--format"));
                assert_eq!(std::fs::read(folder.0.join("log.0")).unwrap(), files[0]);
            }
        }
    }
    // A file of somebody else.
    let mark = whole.0.join("formatting");
    std::fs::write(&mark, b"theirs").unwrap();
    assert!(refused(&whole.0, "-p 2").contains("not ours"));
    assert_eq!(std::fs::read(whole.0.join("log.0")).unwrap(), made);
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_first_start_that_is_refused_leaves_nothing() {
    let (whole, folder) = (Folder::new("backup"), Folder::new("refused"));
    let server = Server::start(&whole.0, "-m -L 1");
    assert_eq!(server.connect().ask("POST /", b"kept").status, 200);
    drop(server);
    for (args, words) in [
        ("-L 900000", "No space left"),
        ("-m -L 900000", "No space left"),
        ("-m -B -L 900000", "No space left"),
        // The log is made when the port is open, the pool before that.
        ("-m -L 1 -i nope", "opening"),
        ("-m -x -L 20 -i nope", "opening"),
        ("-m -x -L 1 -i nope", "too small"),
    ] {
        for path in [&folder.0, &folder.0.join("named")] {
            assert!(refused(path, args).contains(words), "{args}");
            assert_eq!(names(&folder.0), [""; 0], "{args}");
        }
    }
    // So a store that is put there then is nothing unfinished.
    std::fs::copy(whole.0.join("log.0"), folder.0.join("log.0")).unwrap();
    let server = Server::start(&folder.0, "-m");
    assert!(server.said.contains(" 1 object"), "{}", server.said);
}

#[test]
fn a_store_that_was_put_beside_the_mark_stays() {
    for (name, args, line) in [("log.0", "-m", "POST /"), ("map", "-m -B", "PUT /a")] {
        let folder = Folder::new("put");
        let server = Server::start(&folder.0, &format!("-L 1 {args}"));
        assert_eq!(server.connect().ask(line, b"kept").status, 200);
        drop(server);
        let (mark, file) = (folder.0.join("formatting"), folder.0.join(name));
        let kept = std::fs::read(&file).unwrap();
        std::fs::write(&mark, b"").unwrap();
        std::fs::write(folder.0.join("log.7"), b"").unwrap();
        for args in ["", "-m", "-m -B", "-p 2 -L 900000"] {
            let said = refused(&folder.0, args);
            assert!(said.contains("holds a store"), "{args}: {said}");
            assert!(said.contains("remove"), "{args}: {said}");
        }
        assert_eq!(names(&folder.0).len(), 3);
        assert!(std::fs::read(&file).unwrap() == kept);
        // As it says.
        std::fs::remove_file(folder.0.join("log.7")).unwrap();
        std::fs::remove_file(&mark).unwrap();
        let server = Server::start(&folder.0, args);
        assert!(server.said.contains(" 1 object"), "{}", server.said);
        drop(server);
        // And who wants it gone says so; what comes then is not unfinished.
        std::fs::write(&mark, b"").unwrap();
        let server = Server::start(&folder.0, &format!("--format -L 1 {args}"));
        assert!(!mark.exists());
        assert_eq!(server.connect().ask(line, b"new").status, 200);
        drop(server);
        let server = Server::start(&folder.0, args);
        assert!(server.said.contains(" 1 object"), "{}", server.said);
    }
}

#[test]
fn what_is_wrong_is_said_in_the_users_words() {
    let said = refused(Path::new("/nonexistent/x/y"), "");
    assert!(said.contains("/nonexistent/x/y: its folder /nonexistent/x: No such"));
    assert!(!said.contains("formatting"), "{said}");
    let folder = Folder::new("words");
    for threads in [1, 4] {
        let start = |mb: u64| refused(&folder.0, &format!("-m -x -i nope -p {threads} -L {mb}"));
        let said = start(5);
        let (_, least) = said.split_once("needs -L ").expect(&said);
        let least = least.split(' ').next().unwrap().parse().unwrap();
        // No more, and no less.
        assert!(start(least - 1).contains("too small"));
        assert!(start(least).contains("opening"));
    }
}

#[test]
fn nothing_of_an_older_store_is_left_by_a_formatting() {
    for (old, new) in [
        ("-m -p 3", "-m"),
        ("-m -p 3", "-m -B"),
        ("-m -B", "-m -p 2"),
    ] {
        let folder = Folder::new("older");
        let server = Server::start(&folder.0, &format!("-L 1 {old}"));
        let line = |way: &str| {
            if way.contains("-B") {
                "PUT /a"
            } else {
                "POST /"
            }
        };
        assert_eq!(server.connect().ask(line(old), b"old").status, 200);
        drop(server);
        let server = Server::start(&folder.0, &format!("-L 1 --format {new}"));
        assert_eq!(server.connect().ask(line(new), b"precious").status, 200);
        let said = refused(&folder.0, &format!("--format {old}"));
        assert!(said.contains("in use"), "{said}");
        drop(server);
        let server = Server::start(&folder.0, new);
        assert!(server.said.contains(" 1 object"), "{}", server.said);
        drop(server);
        for args in ["-m -p 3", "-m -B", "-m"]
            .iter()
            .filter(|args| **args != new)
        {
            refused(&folder.0, args);
        }
    }
}
