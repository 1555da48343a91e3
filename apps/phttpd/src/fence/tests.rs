// SPDX-License-Identifier: GPL-2.0
//! A ring between the ends of a socket.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;

use super::{Event, Queues, Ring};

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

/// Queues, unless this machine has none for us, which is said.
fn queues() -> Option<Queues> {
    match Queues::new() {
        Ok(queues) => Some(queues),
        Err(error) if matches!(error.raw_os_error(), Some(1 | 38)) => {
            // Not by a macro, whose output is shown of failures only.
            let _ = writeln!(std::io::stderr(), "left out: io_uring: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_finds_no_buffer_is_received_when_there_are_some_again() {
    let Some(mut queues) = queues() else { return };
    let mut ring = Ring::new(&mut queues).unwrap();
    let (mut far, near) = UnixStream::pair().unwrap();
    let fd = near.as_raw_fd();
    let sent: Vec<u8> = (0..10 << 20).map(|n: u32| (n % 251) as u8).collect();
    let (mut got, mut held, mut ended, mut shortages) = (Vec::new(), Vec::new(), false, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            far.write_all(&sent).unwrap();
            far.shutdown(std::net::Shutdown::Write).unwrap();
        });
        ring.receive(fd).unwrap();
        let mut events = VecDeque::new();
        while !ended {
            ring.enter(&[], &[], SECOND).unwrap();
            ring.events(&mut Vec::new(), &mut events).unwrap();
            for event in events.drain(..) {
                let Event::Received { result, more, .. } = event else {
                    panic!("an event of something else");
                };
                match result {
                    Ok(Some(input)) => {
                        got.extend_from_slice(&input);
                        held.push(input);
                    }
                    Ok(None) => ended = true,
                    Err(error) => {
                        assert_eq!(error, Errno::NOBUFS);
                        shortages += 1;
                        held.drain(..).for_each(|input| ring.give_back(input));
                    }
                }
                if !more && !ended {
                    ring.receive(fd).unwrap();
                }
            }
        }
    });
    assert!(got == sent, "{} bytes", got.len());
    assert!(shortages > 0);
}

#[test]
fn what_a_socket_does_not_take_at_once_is_told_and_the_rest_can_wait() {
    let Some(mut queues) = queues() else { return };
    let mut ring = Ring::new(&mut queues).unwrap();
    let (mut far, near) = UnixStream::pair().unwrap();
    let fd = near.as_raw_fd();
    let answers: Vec<u8> = (0..4 << 20).map(|n: u32| (n % 251) as u8).collect();
    let (mut short, mut events) = (Vec::new(), VecDeque::new());
    // This one it takes, and nothing is said.
    ring.enter(&answers, &[(fd, 0..100)], Some(Duration::ZERO))
        .unwrap();
    ring.events(&mut short, &mut events).unwrap();
    assert!(short.is_empty() && events.is_empty());
    let range = 100..answers.len();
    ring.enter(&answers, &[(fd, range)], Some(Duration::ZERO))
        .unwrap();
    ring.events(&mut short, &mut events).unwrap();
    let [(of, Ok(taken))] = short[..] else {
        panic!("{short:?}");
    };
    assert!(of == fd && taken > 0 && taken < answers.len() - 100);
    ring.send(fd, answers[100 + taken..].to_vec()).unwrap();
    ring.enter(&[], &[], Some(Duration::ZERO)).unwrap();
    ring.events(&mut short, &mut events).unwrap();
    assert!(events.is_empty());
    let mut got = vec![0; answers.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| far.read_exact(&mut got).unwrap());
        ring.enter(&[], &[], SECOND).unwrap();
        ring.events(&mut short, &mut events).unwrap();
    });
    let Some(Event::Sent { result, bytes, .. }) = events.pop_front() else {
        panic!("nothing sent");
    };
    assert_eq!(result, Ok(bytes.len()));
    assert!(got == answers);
}

#[test]
fn a_cancelled_send_gives_its_bytes_back() {
    let Some(mut queues) = queues() else { return };
    let mut ring = Ring::new(&mut queues).unwrap();
    let (_far, near) = UnixStream::pair().unwrap();
    let fd = near.as_raw_fd();
    ring.send(fd, vec![0; 4 << 20]).unwrap();
    ring.enter(&[], &[], Some(Duration::ZERO)).unwrap();
    ring.cancel_send(fd).unwrap();
    ring.enter(&[], &[], SECOND).unwrap();
    let mut events = VecDeque::new();
    ring.events(&mut Vec::new(), &mut events).unwrap();
    let Some(Event::Sent { result, bytes, .. }) = events.pop_front() else {
        panic!("nothing");
    };
    // What was sent before counts more than that it was cancelled.
    assert!(result.is_ok_and(|sent| sent < bytes.len()));
    assert_eq!(bytes.len(), 4 << 20);
}
