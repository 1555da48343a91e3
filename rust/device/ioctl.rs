// SPDX-License-Identifier: GPL-2.0

//! Requests. The header and the body are copied from the process, worked on, and copied back: the
//! header always, the body if the request succeeded, of options their status.

#![deny(unsafe_code)]

use super::{
    legacy,
    registry::{self, Kind},
    session::Session,
    sync,
    user,
    wants::Request, //
};
use crate::{
    nmcore::{
        abi::*,
        name::{self, PortName},
        options::{OptionSet, PushError, Pushed},
        request::{self, RequestType, MAX_BODY},
        Errno, //
    },
    sys::{
        log::{complain, trimmed},
        netns::{Net, Rtnl}, //
    },
};
use kernel::{
    prelude::*,
    str::CStr, //
};

/// ioctl() on an open file.
///
/// # Errors
///
/// `EOPNOTSUPP` for commands that are not netmap's; else those of the requests.
pub(super) fn ioctl(file: &Session, cmd: u32, arg: u64) -> Result<isize> {
    match cmd {
        NIOCTXSYNC => sync::sync_all(file.bound().ok_or(ENXIO)?, true)?,
        NIOCRXSYNC => sync::sync_all(file.bound().ok_or(ENXIO)?, false)?,
        NIOCCTRL => control(file, arg)?,
        NIOCREGIF => legacy::register(file, arg)?,
        NIOCGINFO => legacy::info(file, arg)?,
        // Bridges are configured by it, and there are none.
        NIOCCONFIG => return Err(EINVAL),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    Ok(0)
}

/// NIOCCTRL.
fn control(file: &Session, arg: u64) -> Result {
    if arg == 0 {
        return Err(EINVAL);
    }
    let mut raw = [0; NmreqHeader::SIZE];
    user::read(arg, &mut raw)?;
    let header = NmreqHeader::from_bytes(&raw).ok_or(EINVAL)?;
    let kind = request::check_header(&header)?;
    let mut body = [0; MAX_BODY];
    let body = body.get_mut(..kind.body_size as usize).ok_or(EINVAL)?;
    user::read(header.nr_body, body)?;
    let mut options = OptionSet::new(kind.body_size);
    let mut result = read_options(&mut options, header.nr_options).and_then(|()| {
        if kind.number == NETMAP_REQ_REGISTER {
            return register(file, &header, &mut options, body);
        }
        // No other request uses any: one that has them fails before it changes something.
        options.finish()?;
        run(file, &header, kind, body)
    });
    // That a peer has left before its socket could be registered is nobody's mistake.
    if kind.number != NETMAP_REQ_PST_FD_REG {
        result = result.inspect_err(|error| refused(kind.name, &header.nr_name, error));
    }
    for option in options.entries() {
        write_status(option.user, option.status.unsigned_abs())?;
    }
    result?;
    user::write(header.nr_body, body)
}

/// Logs a request that failed.
pub(super) fn refused(request: &str, name: &[u8], error: &Error) {
    complain(fmt!("{request} of '{}': {error:?}", trimmed(name)));
}

/// Reads the headers of the options, and tells the status of those that nobody knows.
fn read_options(options: &mut OptionSet, first: u64) -> Result {
    let mut at = first;
    while at != 0 {
        let mut raw = [0; NmreqOption::SIZE];
        user::read(at, &mut raw)?;
        let option = NmreqOption::from_bytes(&raw).ok_or(EINVAL)?;
        match options.push(at, &option) {
            Ok(Pushed::Known) => {}
            Ok(Pushed::Unknown(status)) => write_status(at, status.0.unsigned_abs())?,
            Err(err) => {
                if err == PushError::Duplicate {
                    write_status(at, Errno::EINVAL.0.unsigned_abs())?;
                }
                return Err(err.errno().into());
            }
        }
        at = option.nro_next;
    }
    Ok(())
}

/// Writes `nro_status` of the option at `at`.
fn write_status(at: u64, status: u32) -> Result {
    let field = core::mem::offset_of!(NmreqOption, nro_status) as u64;
    user::write(at.wrapping_add(field), &status.to_ne_bytes())
}

/// REGISTER, with its options.
fn register(
    file: &Session,
    header: &NmreqHeader,
    options: &mut OptionSet,
    body: &mut [u8],
) -> Result {
    let mut req = NmreqRegister::from_bytes(body).ok_or(EINVAL)?;
    if file.bound().is_some() {
        return Err(EBUSY);
    }
    let mut request = Request::read(options, req.nr_extra_bufs)?;
    options.finish()?;
    let result = file.register(&header.nr_name, &mut req, &mut request.wants);
    let bound = result
        .map(|()| file.bound())
        .map(|b| b.map(|b| &*b.port.pool));
    let pool = bound.and_then(|pool| pool.ok_or(ENXIO));
    request.write(options, pool)?;
    pool?;
    store(body, &req.to_bytes());
    Ok(())
}

/// Runs one request that uses no options.
fn run(file: &Session, header: &NmreqHeader, kind: &RequestType, body: &mut [u8]) -> Result {
    if !kind.supported {
        return Err(unsupported(header, kind));
    }
    match kind.number {
        NETMAP_REQ_PORT_INFO_GET => {
            let mut req = NmreqPortInfoGet::from_bytes(body).ok_or(EINVAL)?;
            port_info(file, &header.nr_name, &mut req)?;
            store(body, &req.to_bytes());
        }
        NETMAP_REQ_PST_ATTACH => {
            let mut req = NmreqValeAttach::from_bytes(body).ok_or(EINVAL)?;
            req.port_index = nic(file, header, Some(&req.reg))?;
            store(body, &req.to_bytes());
        }
        NETMAP_REQ_PST_DETACH => {
            let mut req = NmreqValeDetach::from_bytes(body).ok_or(EINVAL)?;
            req.port_index = nic(file, header, None)?;
            store(body, &req.to_bytes());
        }
        NETMAP_REQ_PST_FD_REG => {
            let req = NmreqPstFdReg::from_bytes(body).ok_or(EINVAL)?;
            socket(file, header, req.nr_fd)?;
        }
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    Ok(())
}

/// Writes a body that has been worked on.
fn store(body: &mut [u8], bytes: &[u8]) {
    for (to, from) in body.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// What a request that is not there fails with.
fn unsupported(header: &NmreqHeader, kind: &RequestType) -> Error {
    match kind.number {
        // Needs an option that names the memory.
        NETMAP_REQ_CSB_ENABLE => EINVAL,
        NETMAP_REQ_POOLS_INFO_GET if header.nr_name.first() == Some(&0) => ENXIO,
        _ => Errno::EOPNOTSUPP.into(),
    }
}

/// PORT_INFO_GET: the shape of a port, open or not; only memory if there is no name.
pub(super) fn port_info(
    file: &Session,
    nr_name: &[u8; NETMAP_REQ_IFNAMSIZ],
    req: &mut NmreqPortInfoGet,
) -> Result {
    if nr_name.first() == Some(&0) {
        let (id, memsize) = file.shared.pools.lock().memsize(req.nr_mem_id)?;
        *req = NmreqPortInfoGet {
            nr_memsize: memsize,
            nr_mem_id: id,
            ..NmreqPortInfoGet::ZERO
        };
        return Ok(());
    }
    let any = NmreqRegister {
        nr_mode: NR_REG_ALL_NIC,
        ..NmreqRegister::ZERO
    };
    let kind = Kind::of(nr_name, &any)?;
    let (shape, id, memsize) = registry::look(&file.shared, &kind, req)?;
    req.nr_memsize = memsize;
    req.nr_mem_id = id;
    req.nr_tx_slots = shape.tx_slots;
    req.nr_rx_slots = shape.rx_slots;
    req.nr_tx_rings = shape.tx_rings;
    req.nr_rx_rings = shape.rx_rings;
    req.nr_host_tx_rings = shape.host_tx;
    req.nr_host_rx_rings = shape.host_rx;
    Ok(())
}

/// PST_ATTACH (with how the NIC is opened) and PST_DETACH.
fn nic(file: &Session, header: &NmreqHeader, attach: Option<&NmreqRegister>) -> Result<u32> {
    let PortName::Stack(member) = name::classify(&header.nr_name, 0, 0)? else {
        return Err(EINVAL);
    };
    if let Some(reg) = attach {
        request::check_attach(reg)?;
    }
    let nic = name::if_name(member.member)?;
    let nic = CStr::from_bytes_until_nul(&nic).map_err(|_| EINVAL)?;
    let net = Net::current()?;
    // Held over the call: the port cannot close meanwhile.
    let rtnl = Rtnl::lock();
    let own = file.bound().map(|bound| &bound.port);
    let port = file
        .shared
        .registry
        .lock()
        .stack_port(member.bridge, &net, own)
        .ok_or(ENXIO)?;
    match attach {
        Some(reg) => {
            if reg.nr_mem_id != 0 && reg.nr_mem_id != port.pool.id() {
                return Err(EINVAL);
            }
            port.backend.attach(&port, nic, reg, &rtnl)
        }
        None => port.backend.detach(&port, nic, &rtnl),
    }
}

/// PST_FD_REG: the socket goes to the ring of this file if it is the port's, else to ring 0.
fn socket(file: &Session, header: &NmreqHeader, fd: u32) -> Result {
    let PortName::Stack(member) = name::classify(&header.nr_name, 0, 0)? else {
        return Err(ENXIO);
    };
    let fd = i32::try_from(fd).map_err(|_| EINVAL)?;
    if let Some(bound) = file.bound() {
        if bound.port.name.as_bytes() == member.full {
            return bound
                .port
                .backend
                .fd_register(&bound.port, bound.socket_ring(), fd);
        }
    }
    let net = Net::current()?;
    let name = crate::adapter::Name::new(member.full).ok_or(EINVAL)?;
    let rtnl = Rtnl::lock();
    let port = file.shared.registry.lock().port(&name, &net).ok_or(ENXIO)?;
    let result = port.backend.fd_register(&port, 0, fd);
    drop(rtnl);
    result
}
