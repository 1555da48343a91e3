// SPDX-License-Identifier: GPL-2.0
//! The list of options of a control request: its limits and what becomes of each option.
//!
//! The caller walks the list of user addresses and hands each header to [`OptionSet::push`]. It
//! writes only `nro_status` back to the process, so all other fields come back unchanged. Of
//! options that nobody knows it keeps nothing: their status is final when they are seen.

use super::abi::{
    NmreqOptCsb, NmreqOptExtmem, NmreqOptOffsets, NmreqOptPstBufs, NmreqOptSyncKloopMode,
    NmreqOption, NETMAP_REQ_MAXSIZE, NETMAP_REQ_OPT_CSB, NETMAP_REQ_OPT_EXTMEM, NETMAP_REQ_OPT_MAX,
    NETMAP_REQ_OPT_OFFSETS, NETMAP_REQ_OPT_PST_BUFS, NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE,
};
use super::Errno;

/// Number of known options: netmap's, and one of our own.
const KNOWN: usize = NETMAP_REQ_OPT_MAX as usize;

/// One known option of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionEntry {
    /// Address of the option in the process.
    pub user: u64,
    /// Its header as read.
    pub header: NmreqOption,
    /// Bytes of the whole option, header included.
    pub size: u32,
    /// `nro_status` to write back: an errno, 0 when the option was used.
    pub status: i32,
}

/// What the caller has to do with a header just pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// A known option: its status is written at the end, see [`OptionSet::entries`].
    Known,
    /// Write this status (`EOPNOTSUPP`) to the option now.
    Unknown(Errno),
}

/// The options of one request.
#[derive(Clone, Debug)]
pub struct OptionSet {
    used: u32,
    unknown: bool,
    known: [Option<OptionEntry>; KNOWN],
}

/// Bytes of a known option, `None` for others. `nro_size` counts only where the size varies.
fn option_size(header: &NmreqOption) -> Option<u32> {
    let fixed = match header.nro_reqtype {
        NETMAP_REQ_OPT_EXTMEM => NmreqOptExtmem::SIZE,
        NETMAP_REQ_OPT_CSB => NmreqOptCsb::SIZE,
        NETMAP_REQ_OPT_SYNC_KLOOP_MODE => NmreqOptSyncKloopMode::SIZE,
        NETMAP_REQ_OPT_OFFSETS => NmreqOptOffsets::SIZE,
        NETMAP_REQ_OPT_PST_BUFS => NmreqOptPstBufs::SIZE,
        NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS => {
            let total = u32::try_from(header.nro_size).unwrap_or(u32::MAX);
            return Some(total.max(NmreqOption::SIZE as u32));
        }
        _ => return None,
    };
    Some(fixed as u32)
}

/// Place of a known option in the set.
fn index(reqtype: u32) -> Option<usize> {
    match reqtype {
        NETMAP_REQ_OPT_PST_BUFS => KNOWN.checked_sub(1),
        1..NETMAP_REQ_OPT_MAX => usize::try_from(reqtype).ok()?.checked_sub(1),
        _ => None,
    }
}

impl OptionSet {
    /// No options yet, for a request whose body has `body_size` bytes.
    pub const fn new(body_size: u32) -> OptionSet {
        OptionSet {
            used: body_size,
            unknown: false,
            known: [None; KNOWN],
        }
    }

    /// Adds the option at address `user`. The list goes on at `header.nro_next` unless that is 0.
    ///
    /// # Errors
    ///
    /// The walk ends, and the request fails with: `EINVAL` for type 0, and for a type that is there
    /// already (the status of both becomes `EINVAL`: [`Duplicate`](PushError::Duplicate));
    /// `EMSGSIZE` when body and options exceed 4096 bytes, which ends endless lists too.
    pub fn push(&mut self, user: u64, header: &NmreqOption) -> Result<Pushed, PushError> {
        if header.nro_reqtype == 0 {
            return Err(PushError::Fatal(Errno::EINVAL));
        }
        let size = option_size(header);
        if let (Some(size), Some(place)) = (size, self.place(header.nro_reqtype)) {
            if let Some(first) = place {
                first.status = Errno::EINVAL.0;
                return Err(PushError::Duplicate);
            }
            *place = Some(OptionEntry {
                user,
                header: *header,
                size,
                status: Errno::EOPNOTSUPP.0,
            });
        } else {
            self.unknown = true;
        }
        let bytes = size.unwrap_or(NmreqOption::SIZE as u32);
        self.used = self.used.saturating_add(bytes);
        if self.used > NETMAP_REQ_MAXSIZE {
            return Err(PushError::Fatal(Errno::EMSGSIZE));
        }
        Ok(match size {
            Some(_) => Pushed::Known,
            None => Pushed::Unknown(Errno::EOPNOTSUPP),
        })
    }

    fn place(&mut self, reqtype: u32) -> Option<&mut Option<OptionEntry>> {
        self.known.get_mut(index(reqtype)?)
    }

    /// The option of type `reqtype`, if the request has it.
    pub fn get(&self, reqtype: u32) -> Option<&OptionEntry> {
        self.known.get(index(reqtype)?)?.as_ref()
    }

    /// Notes what became of option `reqtype`: used, or refused with an errno.
    pub fn set_status(&mut self, reqtype: u32, result: Result<(), Errno>) {
        if let Some(Some(entry)) = self.place(reqtype) {
            entry.status = match result {
                Ok(()) => 0,
                Err(errno) => errno.0,
            };
        }
    }

    /// Whether every option was used.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if one is unknown or was left alone.
    pub fn finish(&self) -> Result<(), Errno> {
        let used = self.entries().all(|entry| entry.status == 0);
        if self.unknown || !used {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }

    /// The known options, whose status is to be written back also when the request fails.
    pub fn entries(&self) -> impl Iterator<Item = &OptionEntry> {
        self.known.iter().flatten()
    }
}

/// Why a list of options is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// The request fails; the option itself keeps its status.
    Fatal(Errno),
    /// The request fails with `EINVAL`, and the status of the option just pushed is `EINVAL`.
    Duplicate,
}

impl PushError {
    /// What the request fails with.
    pub const fn errno(self) -> Errno {
        match self {
            PushError::Fatal(errno) => errno,
            PushError::Duplicate => Errno::EINVAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::cases;
    use super::*;
    use proptest::prelude::*;

    fn header(reqtype: u32) -> NmreqOption {
        NmreqOption {
            nro_reqtype: reqtype,
            ..NmreqOption::ZERO
        }
    }

    #[test]
    fn a_request_without_options_is_fine() {
        assert_eq!(OptionSet::new(56).finish(), Ok(()));
    }

    #[test]
    fn an_option_left_alone_fails_the_request() {
        let mut set = OptionSet::new(56);
        assert_eq!(
            set.push(8, &header(NETMAP_REQ_OPT_OFFSETS)),
            Ok(Pushed::Known)
        );
        assert_eq!(set.finish(), Err(Errno::EOPNOTSUPP));
        set.set_status(NETMAP_REQ_OPT_OFFSETS, Ok(()));
        assert_eq!(set.finish(), Ok(()));
        let statuses: Vec<_> = set.entries().map(|e| (e.user, e.status)).collect();
        assert_eq!(statuses, [(8, 0)]);
    }

    #[test]
    fn options_of_our_own_have_a_place() {
        let mut set = OptionSet::new(56);
        let got = set.push(8, &header(NETMAP_REQ_OPT_PST_BUFS));
        assert_eq!(got, Ok(Pushed::Known));
        assert_eq!(
            set.push(64, &header(NETMAP_REQ_OPT_OFFSETS)),
            Ok(Pushed::Known)
        );
        assert_eq!(set.get(NETMAP_REQ_OPT_PST_BUFS).unwrap().user, 8);
        let again = set.push(128, &header(NETMAP_REQ_OPT_PST_BUFS));
        assert_eq!(again, Err(PushError::Duplicate));
    }

    #[test]
    fn an_unknown_option_gets_its_status_at_once() {
        let mut set = OptionSet::new(56);
        for reqtype in [NETMAP_REQ_OPT_MAX, 0xff, 0x101, u32::MAX] {
            let got = set.push(8, &header(reqtype));
            assert_eq!(got, Ok(Pushed::Unknown(Errno::EOPNOTSUPP)));
        }
        assert_eq!(set.finish(), Err(Errno::EOPNOTSUPP));
        assert_eq!(set.entries().count(), 0);
    }

    #[test]
    fn type_0_is_refused() {
        let got = OptionSet::new(56).push(8, &header(0));
        assert_eq!(got, Err(PushError::Fatal(Errno::EINVAL)));
    }

    #[test]
    fn a_duplicate_spoils_both() {
        let mut set = OptionSet::new(56);
        set.push(8, &header(NETMAP_REQ_OPT_CSB)).unwrap();
        let again = set.push(96, &header(NETMAP_REQ_OPT_CSB));
        assert_eq!(again, Err(PushError::Duplicate));
        let first = set.get(NETMAP_REQ_OPT_CSB).unwrap();
        assert_eq!((first.user, first.status), (8, Errno::EINVAL.0));
    }

    #[test]
    fn an_endless_list_ends() {
        let endless = |reqtype| {
            let mut set = OptionSet::new(56);
            (0..1000).find_map(|_| set.push(8, &header(reqtype)).err())
        };
        assert_eq!(endless(99), Some(PushError::Fatal(Errno::EMSGSIZE)));
        assert_eq!(endless(NETMAP_REQ_OPT_CSB), Some(PushError::Duplicate));
    }

    #[test]
    fn body_and_options_fit_4096_bytes() {
        let event_fds = |nro_size| NmreqOption {
            nro_size,
            ..header(NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS)
        };
        let big = PushError::Fatal(Errno::EMSGSIZE);
        for (size, want) in [
            (0, Ok(Pushed::Known)),
            (4040, Ok(Pushed::Known)),
            (4041, Err(big)),
            (u64::MAX, Err(big)),
        ] {
            assert_eq!(OptionSet::new(56).push(8, &event_fds(size)), want, "{size}");
        }
        let mut set = OptionSet::new(56);
        set.push(8, &event_fds(0)).unwrap();
        let entry = set.get(NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS).unwrap();
        assert_eq!(entry.size, 24, "never less than its header");
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn any_list_ends_within_its_limits(
            list in proptest::collection::vec((0u32..8, any::<u64>()), 0..200),
        ) {
            let mut set = OptionSet::new(64);
            let mut seen = 0;
            for (nro_reqtype, nro_size) in list {
                let one = NmreqOption { nro_reqtype, nro_size, ..NmreqOption::ZERO };
                if set.push(u64::from(nro_reqtype), &one).is_err() {
                    break;
                }
                seen += 1;
            }
            prop_assert!(seen * 24 <= 4096);
            prop_assert!(set.entries().all(|e| e.user == u64::from(e.header.nro_reqtype)));
        }
    }
}
