// SPDX-License-Identifier: GPL-2.0

//! What this XL710 is: a single port with a 10 Gb/s SFP+ module, one function, no SR-IOV, no flow
//! director, no DCB, no RDMA, no clock.

/// Queue pairs of the function.
pub const QUEUES: u32 = 16;
/// MSI-X vectors: 0 for events, the others for queues.
pub const VECTORS: u32 = 20;

/// Switch elements: the port, the function, and its main station interface (VSI).
pub const SEID_PORT: u16 = 2;
pub const SEID_PF: u16 = 16;
pub const SEID_VSI: u16 = 390;
/// Number of the main VSI, its statistics and its transmit scheduler.
pub const VSI_NUMBER: u16 = 5;
pub const STAT_INDEX: u16 = 1;
pub const QS_HANDLE: u16 = 20;

/// Firmware and its interface, as the driver prints them.
pub const FW_VERSION: (u16, u16, u32) = (9, 20, 71_847);
pub const API_VERSION: (u16, u16) = (1, 15);

/// Largest frame in bytes, without CRC, that the hardware carries.
pub const MAX_FRAME: u32 = 9728;

/// Largest number of MAC and VLAN filters.
pub const MAX_FILTERS: usize = 512;
