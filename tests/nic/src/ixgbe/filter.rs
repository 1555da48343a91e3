// SPDX-License-Identifier: GPL-2.0
//! Which frames are taken, and on which queue.

use super::regs;
use super::Ixgbe;
use crate::device::Bus;
use crate::net::packet::{Network, Packet, Transport};
use crate::net::rss::{self, Fields};

/// Where a frame goes, with its hash for the descriptor (0 and kind 0: it was not hashed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) queue: usize,
    pub(super) hash: u32,
    pub(super) kind: u32,
}

impl Ixgbe {
    /// Whether the frame passes the filters of addresses and VLANs.
    pub(super) fn accepts(&self, frame: &[u8], packet: &Packet) -> bool {
        let control = self.regs.get(regs::FCTRL);
        let Some(to) = frame
            .get(..6)
            .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
        else {
            return false;
        };
        let right = if to == [0xff; 6] {
            control & regs::FCTRL_BROADCAST != 0 || self.own(to)
        } else if to[0] & 1 == 1 {
            control & regs::FCTRL_MULTICAST != 0 || self.own(to) || self.hashed(to)
        } else {
            control & regs::FCTRL_UNICAST != 0 || self.own(to)
        };
        if !right {
            return false;
        }
        match packet.vlan {
            Some(tag) if self.regs.get(regs::VLNCTRL) & regs::VLNCTRL_FILTER != 0 => {
                let id = u32::from(tag & 0xfff);
                (self.regs.get(regs::VFTA + (id >> 5) * 4) >> (id & 31)) & 1 == 1
            }
            _ => true,
        }
    }

    /// One of the receive addresses.
    fn own(&self, to: [u8; 6]) -> bool {
        let low = u32::from_le_bytes([to[0], to[1], to[2], to[3]]);
        let high = (1 << 31) | u32::from(u16::from_le_bytes([to[4], to[5]]));
        (0..regs::RECEIVE_ADDRESSES).any(|index| {
            let at = regs::RAL_ALL + index * 8;
            self.regs.get(at) == low && self.regs.get(at + 4) & 0x8000_ffff == high
        })
    }

    /// The table of 4096 bits for groups.
    fn hashed(&self, to: [u8; 6]) -> bool {
        let control = self.regs.get(regs::MCSTCTRL);
        let word = u32::from(to[4]) | (u32::from(to[5]) << 8);
        let shift = match control & 3 {
            0 => 4,
            1 => 3,
            2 => 2,
            _ => 0,
        };
        let bit = (word >> shift) & 0xfff;
        control & regs::MCSTCTRL_ENABLE != 0
            && (self.regs.get(regs::MTA + (bit >> 5) * 4) >> (bit & 31)) & 1 == 1
    }

    /// The queue of a frame.
    pub(super) fn place(&mut self, bus: &mut Bus, frame: &[u8], packet: &Packet) -> Place {
        let control = self.regs.get(regs::MRQC);
        match control & 15 {
            0 => return Place::default(),
            1 => {}
            mode => {
                if !self.told_of_mode {
                    bus.complain(format_args!(
                        "MRQC mode {mode} is not modelled: neither DCB nor VMDq is"
                    ));
                    self.told_of_mode = true;
                }
                return Place::default();
            }
        }
        // Bits of MRQC, the descriptor's kind and what is hashed, the most special one first.
        let table: &[(u32, u32, Fields)] = match (packet.network, packet.transport) {
            (Some(Network::V4), Some(Transport::Tcp)) => {
                &[(16, 1, Fields::Ports), (17, 2, Fields::Addresses)]
            }
            (Some(Network::V4), Some(Transport::Udp)) => {
                &[(22, 7, Fields::Ports), (17, 2, Fields::Addresses)]
            }
            (Some(Network::V4), _) => &[(17, 2, Fields::Addresses)],
            (Some(Network::V6), Some(Transport::Tcp)) => {
                &[(21, 3, Fields::Ports), (20, 5, Fields::Addresses)]
            }
            (Some(Network::V6), Some(Transport::Udp)) => {
                &[(23, 8, Fields::Ports), (20, 5, Fields::Addresses)]
            }
            (Some(Network::V6), _) => &[(20, 5, Fields::Addresses)],
            (None, _) => &[],
        };
        let mut buffer = [0; 36];
        for (bit, kind, fields) in table {
            if (control >> bit) & 1 == 0 {
                continue;
            }
            let Some(input) = rss::input(frame, packet, *fields, &mut buffer) else {
                continue;
            };
            let hash = rss::toeplitz(&self.key(), input);
            let entry = hash & 127;
            let queue = (self.regs.get(regs::RETA + (entry & !3)) >> (8 * (entry & 3))) & 15;
            return Place {
                queue: queue as usize,
                hash,
                kind: *kind,
            };
        }
        Place::default()
    }

    /// The key of the hash.
    fn key(&self) -> [u8; 40] {
        let mut key = [0; 40];
        for (at, place) in key.chunks_mut(4).enumerate() {
            place.copy_from_slice(&self.regs.get(regs::RSSRK + at as u32 * 4).to_le_bytes());
        }
        key
    }
}
