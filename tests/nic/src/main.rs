// SPDX-License-Identifier: GPL-2.0
//! One NIC for one virtual machine. Standard input is its wire: a tap or a packet socket.

#![forbid(unsafe_code)]

use std::error::Error;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::exit;
use std::thread;

use clap::{Parser, ValueEnum};

use nicmodel::complaints::Complaints;
use nicmodel::device::{Bus, Device};
use nicmodel::ixgbe::{Ixgbe, Kind};
use nicmodel::runner::Runner;
use nicmodel::server;
use nicmodel::wire::Wire;
use nicmodel::xl710::Xl710;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Model {
    /// 82599 with an SFP+ cage (8086:10fb).
    #[value(name = "82599")]
    Sfp,
    /// X540-AT2 (8086:1528).
    X540,
    /// XL710 with one SFP+ port (8086:1572).
    #[value(name = "xl710")]
    Xl710,
}

/// A NIC for QEMU: -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"PATH"}}'
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Which NIC to be.
    #[arg(long)]
    model: Model,
    /// Where QEMU connects.
    #[arg(long)]
    socket: PathBuf,
    /// Where control commands come from.
    #[arg(long)]
    control: Option<PathBuf>,
    /// File for complaints about the driver.
    #[arg(long)]
    log: Option<PathBuf>,
    /// The card's own address.
    #[arg(long, default_value = "02:00:00:00:00:01")]
    mac: String,
}

fn address(text: &str) -> Result<[u8; 6], Box<dyn Error>> {
    let bytes: Result<Vec<u8>, _> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect();
    <[u8; 6]>::try_from(bytes?).map_err(|_| format!("{text}: not an Ethernet address").into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let mac = address(&options.mac)?;
    let device: Box<dyn Device> = match options.model {
        Model::Sfp => Box::new(Ixgbe::new(Kind::Sfp, mac)),
        Model::X540 => Box::new(Ixgbe::new(Kind::X540, mac)),
        Model::Xl710 => Box::new(Xl710::new(mac)),
    };
    let identity = device.identity();
    let wire = Wire::new(Some(std::io::stdin().as_fd().try_clone_to_owned()?))?;
    let complaints = options
        .log
        .as_deref()
        .map(Complaints::to)
        .transpose()?
        .unwrap_or_default();
    let runner = Runner::new(device, Bus::new(wire, complaints))?;
    let control = options.control.map(UnixListener::bind).transpose()?;
    let wire_side = runner.clone();
    thread::spawn(move || {
        if let Err(error) = wire_side.run(control) {
            eprintln!("nicmodel: {error}");
        }
        exit(1);
    });
    server::serve(&options.socket, &identity, runner)?;
    Ok(())
}
