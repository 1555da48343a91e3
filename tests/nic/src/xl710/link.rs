// SPDX-License-Identifier: GPL-2.0

//! The port and its SFP+ module: a 10GBASE-SR link that is up when the cable is in and the driver wants it.

use super::command::{Answer, Command};

/// Type of the link: 10GBASE-SR, and its bit among types.
const PHY_TYPE: u8 = 0x14;
const SPEED_10G: u8 = 0x08;

/// Bits of a link's status.
const LINK_UP: u8 = 0x01;
const MEDIA_AVAILABLE: u8 = 0x40;
const NEGOTIATED: u8 = 0x01;
const QUALIFIED: u8 = 0x80;
/// Events about the link: of the command's flags.
const EVENTS_MASK: u16 = 3;
const EVENTS_ON: u16 = 3;
/// Bit of the event mask that suppresses link changes.
const LINK_UPDOWN: u16 = 0x0002;
/// Bits of the port's configuration.
const ENABLE_LINK: u8 = 0x08;
const ENABLE_NEGOTIATION: u8 = 0x10;
const RESTART_ENABLE: u8 = 0x04;

/// Opcode of the command and of the event.
pub const STATUS: u16 = 0x0607;

/// The port.
#[derive(Debug)]
pub struct Link {
    cable: bool,
    enabled: bool,
    /// The driver wants to hear of the next change.
    events: bool,
    masked: u16,
    /// A change that has not become an event yet.
    changed: bool,
}

impl Link {
    /// A port with its cable in.
    pub fn new() -> Self {
        Self {
            cable: true,
            enabled: true,
            events: false,
            masked: 0,
            changed: false,
        }
    }

    /// After a reset; of the device, which brings the link back.
    pub fn reset(&mut self, device: bool) {
        self.events = false;
        self.masked = 0;
        self.changed = false;
        self.enabled |= device;
    }

    /// Whether frames pass.
    pub fn up(&self) -> bool {
        self.cable && self.enabled
    }

    fn change(&mut self, cable: bool, enabled: bool) {
        let before = self.up();
        (self.cable, self.enabled) = (cable, enabled);
        self.changed |= self.up() != before;
    }

    /// The cable is plugged or pulled.
    pub fn plug(&mut self, cable: bool) {
        self.change(cable, self.enabled);
    }

    /// The event that is due, if one is.
    pub fn event(&mut self, longest: usize) -> Option<Command> {
        if !self.changed || !self.events || self.masked & LINK_UPDOWN != 0 {
            return None;
        }
        self.changed = false;
        // The next one only after the driver has asked for the status.
        self.events = false;
        let mut event = Command {
            opcode: STATUS,
            ..Command::default()
        };
        self.fill(&mut event, longest);
        Some(event)
    }

    fn fill(&self, command: &mut Command, longest: usize) {
        let up = self.up();
        let present = if self.cable { MEDIA_AVAILABLE } else { 0 };
        let (speed, state, negotiated) = if up {
            (SPEED_10G, LINK_UP | present, NEGOTIATED)
        } else {
            (0, present, 0)
        };
        command.set(0, &u16::from(self.events).to_le_bytes());
        command.set(2, &[PHY_TYPE, speed, state, negotiated | QUALIFIED, 0, 0]);
        command.set(8, &(longest as u16).to_le_bytes());
        // CRC on; the types that the module has.
        command.set(10, &[0x04]);
        command.set(11, &(1u32 << PHY_TYPE).to_le_bytes());
        command.set(15, &[0]);
    }

    /// The command "get link status".
    pub fn status(&mut self, command: &mut Command, longest: usize) -> Answer {
        match command.word(0) & EVENTS_MASK {
            EVENTS_ON => self.events = true,
            2 => self.events = false,
            _ => {}
        }
        // What it is told now is no news later.
        self.changed = false;
        self.fill(command, longest);
        Answer::Ok
    }

    /// The command "set event mask".
    pub fn mask(&mut self, command: &Command) -> Answer {
        self.masked = command.word(8);
        Answer::Ok
    }

    /// The command "get PHY abilities".
    pub fn abilities(&self, command: &mut Command) -> Answer {
        const LENGTH: usize = 0x218;
        if command.data.len() < LENGTH {
            return Answer::Memory;
        }
        command.data.fill(0);
        let enabled = if self.enabled { ENABLE_LINK } else { 0 };
        command.put(0, &(1u32 << PHY_TYPE).to_le_bytes());
        command.put(4, &[SPEED_10G, enabled | ENABLE_NEGOTIATION]);
        // Module: SFP, 10GBASE-SR.
        command.put(20, &[0x03, 0x10, 0x00]);
        Answer::Ok
    }

    /// The command "set PHY configuration".
    pub fn configure(&mut self, command: &Command) -> Answer {
        self.change(self.cable, command.parameters[5] & ENABLE_LINK != 0);
        Answer::Ok
    }

    /// The command "restart negotiation".
    pub fn restart(&mut self, command: &Command) -> Answer {
        self.change(self.cable, command.parameters[0] & RESTART_ENABLE != 0);
        Answer::Ok
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(link: &mut Link) -> u8 {
        let mut command = Command::default();
        command.set(0, &EVENTS_ON.to_le_bytes());
        assert_eq!(link.status(&mut command, 1500), Answer::Ok);
        command.parameters[4] & LINK_UP
    }

    #[test]
    fn one_event_per_question() {
        let mut link = Link::new();
        assert_eq!(ask(&mut link), LINK_UP);
        link.plug(false);
        assert!(link.event(1500).is_some());
        assert!(link.event(1500).is_none());
        link.plug(true);
        assert!(link.event(1500).is_none());
        assert_eq!(ask(&mut link), LINK_UP);
        link.plug(false);
        link.plug(true);
        assert!(link.event(1500).is_some());
    }

    #[test]
    fn masked_changes_make_no_event() {
        let mut link = Link::new();
        ask(&mut link);
        let mut command = Command::default();
        command.set(8, &LINK_UPDOWN.to_le_bytes());
        link.mask(&command);
        link.plug(false);
        assert!(link.event(1500).is_none());
        assert!(!link.up());
    }
}
