// SPDX-License-Identifier: GPL-2.0
//! Which page of a pool a page frame is, where the frames are somebody else's: an index of runs
//! that follow each other, searched by halving. A file on persistent memory has a few runs, a
//! process's ordinary memory in the worst case one per page.

/// A frame and the page of the pool that it is.
pub type Frame = (u64, u32);

/// Frames that follow each other, as do the pages that they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first frame.
    pub frame: u64,
    /// The page that it is.
    pub page: u32,
    /// Number of frames, at least 1.
    pub len: u32,
}

/// A frame that is there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twice {
    /// The two pages that it is.
    pub pages: (u32, u32),
}

/// Joins `frames` to runs, which come in the order of their frames; sorts `frames` for that.
///
/// # Errors
///
/// `Err(Ok(twice))` if a frame is there twice, `Err(Err(e))` if `push` fails with `e`.
pub fn join<E>(
    frames: &mut [Frame],
    mut push: impl FnMut(Run) -> Result<(), E>,
) -> Result<(), Result<Twice, E>> {
    sort(frames);
    let mut run: Option<Run> = None;
    for &(frame, page) in frames.iter() {
        if let Some(run) = &mut run {
            let len = u64::from(run.len);
            let before = run.page.wrapping_add(run.len.wrapping_sub(1));
            if run.frame.checked_add(len.wrapping_sub(1)) == Some(frame) {
                let pages = (before, page);
                return Err(Ok(Twice { pages }));
            }
            if run.frame.checked_add(len) == Some(frame) && before.checked_add(1) == Some(page) {
                run.len = run.len.wrapping_add(1);
                continue;
            }
        }
        if let Some(done) = run.replace(Run {
            frame,
            page,
            len: 1,
        }) {
            push(done).map_err(Err)?;
        }
    }
    run.map_or(Ok(()), push).map_err(Err)
}

/// Sorts by means of a heap, in place and with a bound on the steps whatever the order. (The sorts
/// of `core` have a branch that panics, which the kernel's tools do not understand.)
fn sort(frames: &mut [Frame]) {
    if frames.is_sorted() {
        return;
    }
    let len = frames.len();
    for root in (0..len / 2).rev() {
        sift(frames, root, len);
    }
    for end in (1..len).rev() {
        frames.swap(0, end);
        sift(frames, 0, end);
    }
}

/// Lets the element at `root` sink until no child of it, before `end`, is larger.
fn sift(frames: &mut [Frame], mut root: usize, end: usize) {
    loop {
        let left = root.saturating_mul(2).saturating_add(1);
        let right = left.saturating_add(1);
        let at = |i: usize| frames.get(i).filter(|_| i < end);
        // Nothing is less than anything.
        let larger = if at(right) > at(left) { right } else { left };
        if at(larger) <= at(root) {
            return;
        }
        frames.swap(root, larger);
        root = larger;
    }
}

/// The page that `frame` is; `None` if it is none of `runs`, which [`join`] made.
#[inline]
pub fn find(runs: &[Run], frame: u64) -> Option<u32> {
    let after = runs.partition_point(|run| run.frame <= frame);
    let run = runs.get(after.checked_sub(1)?)?;
    let within = u32::try_from(frame.checked_sub(run.frame)?).ok()?;
    (within < run.len).then(|| run.page.wrapping_add(within))
}

#[cfg(test)]
mod tests {
    use super::super::cases::cases;
    use super::*;
    use proptest::prelude::*;

    fn joined(frames: &[u64]) -> Result<Vec<Run>, Twice> {
        let mut list: Vec<_> = frames.iter().copied().zip(0..).collect();
        let mut runs = Vec::new();
        let push = |run| {
            runs.push(run);
            Ok::<(), ()>(())
        };
        join(&mut list, push).map_err(|e| e.unwrap())?;
        Ok(runs)
    }

    #[test]
    fn neighbours_become_one_run() {
        let run = |frame, page, len| Run { frame, page, len };
        assert_eq!(joined(&[]), Ok(vec![]));
        assert_eq!(joined(&[7, 8, 9]), Ok(vec![run(7, 0, 3)]));
        let two = vec![run(7, 2, 1), run(8, 1, 1), run(9, 0, 1)];
        assert_eq!(joined(&[9, 8, 7]), Ok(two), "pages go the other way");
        let gap = vec![run(2, 2, 2), run(7, 0, 2)];
        assert_eq!(joined(&[7, 8, 2, 3]), Ok(gap));
    }

    #[test]
    fn the_ends_of_the_range_are_frames_too() {
        let runs = joined(&[u64::MAX, 0, u64::MAX - 1]).unwrap();
        assert_eq!(find(&runs, u64::MAX), Some(0));
        assert_eq!(find(&runs, 0), Some(1));
        assert_eq!(find(&runs, 1), None);
        assert_eq!(find(&[], 0), None);
    }

    #[test]
    fn a_frame_that_is_there_twice_is_refused() {
        let twice = |a, b| Err(Twice { pages: (a, b) });
        assert_eq!(joined(&[5, 6, 5]), twice(0, 2));
        assert_eq!(joined(&[5, 6, 6]), twice(1, 2));
        assert_eq!(joined(&[u64::MAX, u64::MAX]), twice(0, 1));
    }

    #[test]
    fn the_error_of_push_comes_through() {
        let mut list = [(1, 0), (9, 1)];
        assert_eq!(join(&mut list, |_| Err("full")), Err(Err("full")));
    }

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn each_frame_is_found_and_no_other(
            set in proptest::collection::btree_set(0u64..400, 0..300),
            turn in any::<usize>(),
        ) {
            let mut frames: Vec<u64> = set.iter().copied().collect();
            let len = frames.len();
            if len != 0 {
                frames.rotate_left(turn % len);
            }
            let runs = joined(&frames).unwrap();
            for frame in 0..401 {
                let want = frames.iter().position(|&f| f == frame).map(|i| i as u32);
                prop_assert_eq!(find(&runs, frame), want);
            }
        }
    }
}
