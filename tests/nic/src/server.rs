// SPDX-License-Identifier: GPL-2.0
//! The PCI side: QEMU's requests over the vfio-user socket.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::path::Path;

use vfio_bindings::bindings::vfio::{
    vfio_region_info, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS,
    VFIO_PCI_REQ_IRQ_INDEX, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};

use crate::config::{self, Config};
use crate::device::Identity;
use crate::runner::Runner;

struct Backend {
    config: Config,
    runner: Runner,
}

/// Serves one connection, from QEMU's start to its end.
pub fn serve(path: &Path, identity: &Identity, runner: Runner) -> Result<(), vfio_user::Error> {
    let server = Server::new(path, true, interrupts(identity), regions(identity))?;
    server.run(&mut Backend {
        config: Config::new(identity),
        runner,
    })
}

fn regions(identity: &Identity) -> Vec<ServerRegion> {
    let mut made = Vec::new();
    for index in 0..VFIO_PCI_NUM_REGIONS {
        let size = if index == VFIO_PCI_CONFIG_REGION_INDEX {
            config::SIZE as u64
        } else {
            identity
                .bars
                .iter()
                .find(|bar| u32::from(bar.index) == index)
                .map_or(0, |bar| bar.size)
        };
        made.push(ServerRegion {
            region_info: vfio_region_info {
                argsz: size_of::<vfio_region_info>() as u32,
                index,
                size,
                flags: if size > 0 {
                    VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
                } else {
                    0
                },
                ..Default::default()
            },
            sparse_areas: Vec::new(),
            mmap_fd: None,
        });
    }
    made
}

fn interrupts(identity: &Identity) -> Vec<IrqInfo> {
    (0..VFIO_PCI_NUM_IRQS)
        .map(|index| {
            let count = match index {
                VFIO_PCI_MSIX_IRQ_INDEX => u32::from(identity.vectors),
                // QEMU wants to hear of errors and of requests to let the device go; there are none.
                VFIO_PCI_ERR_IRQ_INDEX | VFIO_PCI_REQ_IRQ_INDEX => 1,
                _ => 0,
            };
            let flags = if count > 0 {
                VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE
            } else {
                0
            };
            IrqInfo {
                index,
                count,
                flags,
            }
        })
        .collect()
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let mut core = self.runner.lock();
        let core = &mut *core;
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            // Of a card that was pulled out, too: QEMU needs it to take the device away.
            self.config.read(offset as usize, data);
        } else if core.bus.faults.removed {
            data.fill(0xff);
        } else {
            let mut at = offset as u32;
            for part in data.chunks_mut(4) {
                let value = core
                    .device
                    .read(&mut core.bus, region as u8, at & !3)
                    .to_le_bytes();
                let skip = (at & 3) as usize;
                for (to, from) in part.iter_mut().zip(value.iter().skip(skip)) {
                    *to = *from;
                }
                at += 4;
            }
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut guard = self.runner.lock();
        let core = &mut *guard;
        if core.bus.faults.removed {
            return Ok(());
        }
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            if self.config.write(offset as usize, data) {
                core.device.reset(&mut core.bus);
            }
            core.bus.master = self.config.master();
            return Ok(());
        }
        let mut at = offset as u32;
        for part in data.chunks(4) {
            match <[u8; 4]>::try_from(part) {
                Ok(bytes) if at % 4 == 0 => {
                    core.device
                        .write(&mut core.bus, region as u8, at, u32::from_le_bytes(bytes));
                }
                _ => core.bus.complain(format_args!(
                    "write of {} bytes to register {at:#x}",
                    part.len()
                )),
            }
            at += 4;
        }
        self.runner.after_write(core);
        Ok(())
    }

    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        // What comes without a file is ROM or another device: no target for a NIC.
        if let Some(file) = file {
            if !self
                .runner
                .lock()
                .bus
                .memory
                .insert(address, size, file, offset)
            {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
        }
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        self.runner.lock().bus.memory.remove(address, size);
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        let mut guard = self.runner.lock();
        let core = &mut *guard;
        core.device.reset(&mut core.bus);
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        _: u32,
        start: u32,
        count: u32,
        files: Vec<File>,
    ) -> io::Result<()> {
        if index == VFIO_PCI_MSIX_IRQ_INDEX {
            let interrupts = &mut self.runner.lock().bus.interrupts;
            if count == 0 {
                interrupts.clear();
            } else {
                interrupts.connect(start as usize, count as usize, files);
            }
        }
        Ok(())
    }
}
