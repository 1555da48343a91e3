// SPDX-License-Identifier: GPL-2.0
//! What was sent, what was acknowledged, and what the bytes are.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use nmtools::random::Random;

/// Bytes of content that say which object it is.
const HEAD: usize = 24;

/// One version of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Which object.
    pub object: u64,
    /// Which of its values; they count up.
    pub version: u64,
}

impl Id {
    /// Its bytes: `most` of them at most, as many as its numbers say.
    pub fn content(self, seed: u64, most: usize) -> Vec<u8> {
        let mut random = Random::part(seed, (self.object << 16) | self.version);
        let mut bytes = vec![0; HEAD + random.size(most.saturating_sub(HEAD))];
        random.fill(&mut bytes);
        let words = [self.object, self.version, bytes.len() as u64];
        for (to, word) in bytes.chunks_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Which object bytes say they are. `None`: of none.
    pub fn of(bytes: &[u8]) -> Option<Id> {
        let word = |i: usize| {
            let word = bytes.get(8 * i..8 * i + 8)?.first_chunk()?;
            Some(u64::from_le_bytes(*word))
        };
        Some(Id {
            object: word(0)?,
            version: word(1)?,
        })
    }
}

/// What a request wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Store this version.
    Put,
    /// Remove the object; its version is where it stands among the values.
    Delete,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of what.
    pub id: Id,
    /// What it wanted.
    pub what: What,
    /// The server said yes.
    pub acknowledged: bool,
    /// The number that the server gave it, if it did.
    pub number: Option<u64>,
}

/// Requests of each object, in order.
#[derive(Default)]
pub struct Journal {
    /// By object.
    pub objects: BTreeMap<u64, Vec<Entry>>,
}

impl Journal {
    /// Add requests; those of one object in their order.
    pub fn add(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.objects.entry(entry.id.object).or_default().push(entry);
        }
    }

    /// Read a file that [`Journal::write`] made. No file: nothing happened yet.
    pub fn read(path: &Path) -> io::Result<Journal> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let mut journal = Journal::default();
        for line in text.lines() {
            let bad = || io::Error::other(format!("{}: bad line {line}", path.display()));
            let words: Vec<&str> = line.split(' ').collect();
            let [what, object, version, acknowledged, number] = words[..] else {
                return Err(bad());
            };
            let id = Id {
                object: object.parse().map_err(|_| bad())?,
                version: version.parse().map_err(|_| bad())?,
            };
            journal.add([Entry {
                id,
                what: if what == "put" {
                    What::Put
                } else {
                    What::Delete
                },
                acknowledged: acknowledged == "yes",
                number: number.parse().ok(),
            }]);
        }
        Ok(journal)
    }

    /// Write it to a file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = String::new();
        for entry in self.objects.values().flatten() {
            let what = match entry.what {
                What::Put => "put",
                What::Delete => "delete",
            };
            let yes = if entry.acknowledged { "yes" } else { "no" };
            let Id { object, version } = entry.id;
            let number = entry.number.map_or("-".to_string(), |n| n.to_string());
            // To a string: it cannot fail.
            let _ = writeln!(text, "{what} {object} {version} {yes} {number}");
        }
        std::fs::write(path, text)
    }
}

/// What may be found of an object: the last thing that was acknowledged, or
/// anything that was asked for after it. `None` stands for nothing.
pub fn allowed(entries: &[Entry]) -> Vec<Option<Id>> {
    let value = |entry: &Entry| (entry.what == What::Put).then_some(entry.id);
    let last = entries.iter().rposition(|entry| entry.acknowledged);
    let (mut all, rest) = match last {
        Some(last) => (vec![value(&entries[last])], &entries[last + 1..]),
        None => (vec![None], entries),
    };
    all.extend(rest.iter().map(value));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: u64, what: What, acknowledged: bool) -> Entry {
        Entry {
            id: Id { object: 3, version },
            what,
            acknowledged,
            number: acknowledged.then_some(version),
        }
    }

    #[test]
    fn contents_say_what_they_are() {
        let id = Id {
            object: 70_000,
            version: 3,
        };
        let bytes = id.content(5, 1000);
        assert_eq!(bytes, id.content(5, 1000));
        assert_eq!(Id::of(&bytes), Some(id));
        assert!((HEAD..=1000).contains(&bytes.len()));
        assert_eq!(Id::of(&bytes[..15]), None);
    }

    #[test]
    fn what_was_acknowledged_or_came_later_is_allowed() {
        let id = |version| Some(Id { object: 3, version });
        let all = [
            entry(0, What::Put, true),
            entry(1, What::Put, false),
            entry(2, What::Delete, true),
            entry(3, What::Put, false),
        ];
        assert_eq!(allowed(&all), [None, id(3)]);
        assert_eq!(allowed(&all[..2]), [id(0), id(1)]);
        assert_eq!(allowed(&all[1..2]), [None, id(1)]);
    }

    #[test]
    fn a_journal_survives_being_written() {
        let path = std::env::temp_dir().join(format!("journal-{}", std::process::id()));
        let mut journal = Journal::default();
        journal.add([entry(0, What::Put, true), entry(1, What::Delete, false)]);
        journal.write(&path).unwrap();
        let again = Journal::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(again.objects, journal.objects);
        assert!(Journal::read(&path).unwrap().objects.is_empty());
    }
}
