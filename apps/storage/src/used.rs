// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Whether a file has ever been used as a store.

use crate::header::{Header, Kind, LINES};
use crate::memory::LINE;
use crate::Error;

/// True if these bytes are those of a store, log or map, in which something was
/// stored since it was formatted, be it still there or not; or if they begin as
/// a finished store does, but cannot be read, so that nobody knows. False for
/// what is no store, what was not formatted to the end, and what holds nothing
/// but what formatting wrote.
pub fn used(bytes: &[u8]) -> bool {
    let header = match Header::read(bytes) {
        Ok(header) => header,
        Err(Error::NotOurs) => return false,
        // Longer once, if it has a head. Formatting ends with that.
        Err(_) => return bytes.len() >= LINE,
    };
    let fresh = match header.kind {
        Kind::Log => [1, 1],
        Kind::Map => [0, 0],
    };
    // They tell of batches before the last one. Of that its lines do.
    let state = [0, 1].map(|which| header.state(bytes, which).ok());
    let lines = bytes.get(LINES..header.blocks_at()).unwrap_or(&[]);
    state != fresh.map(Some) || lines.iter().any(|&byte| byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::STATE;
    use crate::{Body, Heap, Log, LogShape, Map, MapShape, Memory, Pool};

    const SIZE: usize = 1 << 16;

    fn log() -> Log<Heap> {
        let shape = LogShape::for_bytes(SIZE as u64, 1024);
        let pool = Pool {
            buffers: 5,
            buf_size: 2048,
            id: 9,
        };
        Log::format(Heap::new(SIZE), shape, pool).unwrap()
    }

    fn map() -> Map<Heap> {
        let shape = MapShape::for_bytes(SIZE as u64, 1024);
        Map::format(Heap::new(SIZE), shape, Pool::NONE).unwrap()
    }

    #[test]
    fn what_was_only_formatted_is_not_used() {
        assert!(!used(&[]));
        assert!(!used(&[0; SIZE]));
        for mut mem in [log().into_memory(), map().into_memory()] {
            assert!(!used(mem.bytes()));
            // Formatting had not come to its end, whatever there is besides.
            mem.store(LINES, 1);
            assert!(used(mem.bytes()));
            mem.store(0, 0);
            assert!(!used(mem.bytes()));
        }
    }

    #[test]
    fn a_store_is_used_from_its_first_object_on() {
        let mut body = Body::new();
        let mut log = log();
        log.copy(&mut body, b"text").unwrap();
        let seq = log.append(&mut body).unwrap();
        log.commit().unwrap();
        let mut map = map();
        map.copy(&mut body, b"text").unwrap();
        map.put(b"/a", &mut body).unwrap();
        map.commit().unwrap();
        log.truncate(seq + 1);
        log.commit().unwrap();
        for mut mem in [log.into_memory(), map.into_memory()] {
            assert!(used(mem.bytes()));
            mem.store(STATE, 5);
            assert!(used(mem.bytes()));
            assert!(used(&mem.bytes()[..LINE]), "cut");
            mem.store(8, 99);
            assert!(used(mem.bytes()), "damaged");
        }
    }
}
