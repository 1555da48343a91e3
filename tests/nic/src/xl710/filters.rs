// SPDX-License-Identifier: GPL-2.0

//! Which frames from the wire the main station interface takes: MAC and VLAN filters, promiscuous modes.

use super::config::MAX_FILTERS;
use crate::net::vlan;

/// Bits of the command "set promiscuous modes".
pub const UNICAST: u16 = 0x01;
pub const MULTICAST: u16 = 0x02;
pub const BROADCAST: u16 = 0x04;
pub const DEFAULT: u16 = 0x08;

/// An address, with the VLAN that it is for; None: any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Destination address.
    pub address: [u8; 6],
    /// VLAN, 0 for untagged frames.
    pub vlan: Option<u16>,
}

/// Why a filter was not added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is one already.
    Exists,
    /// No room.
    Full,
    /// There is none.
    Missing,
}

/// The filters.
#[derive(Debug, Default)]
pub struct Filters {
    list: Vec<Filter>,
    /// Promiscuous modes: bits as above.
    modes: u16,
    /// VLANs with modes of their own.
    vlan_modes: Vec<(u16, u16)>,
}

impl Filters {
    /// Adds a filter.
    pub fn add(&mut self, filter: Filter) -> Result<(), Refused> {
        if self.list.contains(&filter) {
            return Err(Refused::Exists);
        }
        if self.list.len() >= MAX_FILTERS {
            return Err(Refused::Full);
        }
        self.list.push(filter);
        Ok(())
    }

    /// Removes a filter.
    pub fn remove(&mut self, filter: Filter) -> Result<(), Refused> {
        let at = self.list.iter().position(|other| *other == filter);
        self.list.swap_remove(at.ok_or(Refused::Missing)?);
        Ok(())
    }

    /// Sets the modes among `valid` bits, for one VLAN or in general.
    pub fn set_modes(&mut self, vlan: Option<u16>, modes: u16, valid: u16) {
        let change = |old: u16| old & !valid | modes & valid;
        match vlan {
            None => self.modes = change(self.modes),
            Some(vlan) => {
                let old = self.vlan_modes.iter().find(|(id, _)| *id == vlan);
                let new = change(old.map_or(0, |(_, modes)| *modes));
                self.vlan_modes.retain(|(id, _)| *id != vlan);
                if new != 0 {
                    self.vlan_modes.push((vlan, new));
                }
            }
        }
    }

    /// How many filters there are and how many more may be added.
    pub fn room(&self) -> (usize, usize) {
        (self.list.len(), MAX_FILTERS - self.list.len())
    }

    /// Whether a frame is taken.
    pub fn accept(&self, frame: &[u8]) -> bool {
        let Some(address) = frame.first_chunk::<6>() else {
            return false;
        };
        let vlan = vlan::tag(frame).map_or(0, |tag| tag & 0xfff);
        let mode = kind(address);
        if (self.modes & (mode | DEFAULT)) != 0 {
            return true;
        }
        if self
            .vlan_modes
            .iter()
            .any(|(id, modes)| *id == vlan && modes & mode != 0)
        {
            return true;
        }
        self.list
            .iter()
            .any(|filter| filter.address == *address && filter.vlan.is_none_or(|id| id == vlan))
    }
}

/// What kind of destination an address is.
pub fn kind(address: &[u8; 6]) -> u16 {
    if *address == [0xff; 6] {
        BROADCAST
    } else if address.first().is_some_and(|byte| byte & 1 == 1) {
        MULTICAST
    } else {
        UNICAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn frame(address: [u8; 6], tag: Option<u16>) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&address);
        if let Some(tag) = tag {
            vlan::insert(&mut frame, tag);
        }
        frame
    }

    #[test]
    fn filter_without_vlan_takes_all_vlans() {
        let mut filters = Filters::default();
        let any = Filter {
            address: ME,
            vlan: None,
        };
        assert!(!filters.accept(&frame(ME, None)));
        assert_eq!(filters.add(any), Ok(()));
        assert_eq!(filters.add(any), Err(Refused::Exists));
        assert!(filters.accept(&frame(ME, None)));
        assert!(filters.accept(&frame(ME, Some(7))));
        assert!(!filters.accept(&frame([2, 0, 0, 0, 0, 2], None)));
        assert_eq!(filters.remove(any), Ok(()));
        assert_eq!(filters.remove(any), Err(Refused::Missing));
    }

    #[test]
    fn filter_with_vlan_takes_that_one() {
        let mut filters = Filters::default();
        filters
            .add(Filter {
                address: ME,
                vlan: Some(0),
            })
            .unwrap();
        filters
            .add(Filter {
                address: ME,
                vlan: Some(7),
            })
            .unwrap();
        assert!(filters.accept(&frame(ME, None)));
        // The priority does not count.
        assert!(filters.accept(&frame(ME, Some(0xe007))));
        assert!(!filters.accept(&frame(ME, Some(8))));
    }

    #[test]
    fn modes_take_their_kind() {
        let mut filters = Filters::default();
        let all = frame([0xff; 6], None);
        filters.set_modes(None, BROADCAST, BROADCAST);
        assert!(filters.accept(&all));
        assert!(!filters.accept(&frame([1, 0, 0x5e, 0, 0, 1], None)));
        filters.set_modes(None, 0, BROADCAST);
        filters.set_modes(Some(7), BROADCAST, BROADCAST);
        assert!(!filters.accept(&all));
        assert!(filters.accept(&frame([0xff; 6], Some(7))));
        filters.set_modes(Some(7), 0, BROADCAST);
        assert!(!filters.accept(&frame([0xff; 6], Some(7))));
        filters.set_modes(None, UNICAST | MULTICAST, UNICAST | MULTICAST);
        assert!(filters.accept(&frame(ME, None)));
    }
}
